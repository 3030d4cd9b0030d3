"""Pictures of several shapes in an evaluation: like is compared with like, and each shape drawn as often as it is."""

import json
from collections import Counter

import pytest
import torch
from evaluate_fixtures import PARAMS
from evaluate_fixtures import run as evaluated
from hypothesis import given, settings
from hypothesis import strategies as st
from train_fixtures import BUCKETS, COMPACT, bucket_pack, make_pack, tiny

from components.base.errors import UserError
from components.dataset import tensors
from components.evaluate import measure, neighbours, paired, shapes, stage
from components.evaluate.shapes import Asked
from components.model import grid, sampling
from components.report.params import ReportParams
from components.report.stage import report
from components.samples import drawn, pack
from components.train.stage import train


@pytest.fixture(scope="module")
def shaped(tmp_path_factory):
    """(pixels, splits, model) of a tiny training on three shapes."""
    folder = tmp_path_factory.mktemp("shaped")
    pixels, splits = bucket_pack(folder)
    params = tiny(network=COMPACT, onnx=True, images=32, steps=2)
    train(params, pixels=pixels, splits=splits, model=folder / "model", scratch=folder / "scratch")
    return pixels, splits, folder / "model"


@pytest.fixture
def done(shaped, tmp_path, alone):
    evaluated(shaped, tmp_path, PARAMS.model_copy(update={"samples": 16}))
    return tmp_path / "evaluation"


def info(folder, name):
    return json.loads((folder / name).read_text())


def test_samples_have_the_shapes_and_labels_of_the_training_images(shaped, done):
    found = info(done, "samples.json")
    assert found["sizes"] == [[12, 8, 4], [8, 8, 8], [8, 12, 4]] == info(done, "scores.json")["sizes"]
    assert (found["side"], found["rows"]) == (12, 16), "the frame into which all fit"
    rows = drawn.samples(done)
    assert Counter(row["label"] for row in rows[:4]) == {"dark": 2, "light": 2}
    header, start = pack.read_header(shaped[0]), 0
    for height, width, count in found["sizes"]:
        for row in rows[start : start + count]:
            for near in (row["train_row"], row["held_out_row"]):
                assert header.shape(near) == (3, height, width), "copies are looked for among pictures of that shape"
        start += count
    pictures = torch.frombuffer(bytearray((done / "samples.u8").read_bytes()), dtype=torch.uint8).view(16, 12, 12, 3)
    model = sampling.load(shaped[2])
    wide = sampling.sample(model, [row["class_id"] for row in rows[12:]], seed=0, start=12, shape=(3, 8, 12))
    assert torch.equal(pictures[12:], grid.framed([wide, pictures[:1]])[:4])
    assert (pictures[12:, :2] == 255).all()


def test_the_report_shows_each_sample_in_its_shape(shaped, done, tmp_path):
    pixels, _, model = shaped
    params = ReportParams(samples_per_class=8, films=2, neighbours=4, magnify=2, characters=60)
    report(params, pixels=pixels, model=model, evaluation=done, page=tmp_path / "model.html")
    from components.report import outcome

    data = outcome.read(pixels=pixels, model=model, evaluation=done)
    assert [data.sample(at).size for at in (0, 4, 12)] == [(8, 12), (8, 8), (12, 8)]
    assert {data.training(row).size for row in range(4)} == {(8, 8), (8, 12), (12, 8)}
    assert data.frame(0, 0).size == (8, 8)
    text = (tmp_path / "model.html").read_text()
    assert "8 × 8 and 2 other shapes of about as many" in text
    found = info(done, "samples.json")
    for wrong in ([[12, 8, 4]], [[12, 8]], "x", [[12, 8, -1], [8, 8, 17]], [[9, 9, 16]]):
        (done / "samples.json").write_text(json.dumps(found | {"sizes": wrong}))
        with pytest.raises(UserError, match="run stage 'evaluate' again"):
            outcome.read(pixels=pixels, model=model, evaluation=done)


def test_each_x0_error_and_feature_is_that_of_its_row_whatever_is_beside_it(shaped, alone):
    pixels, _, model = shaped
    rows = [5, 4, 3, 0, 1, 2]
    whole = stage.x0_errors(model, pixels, rows, seed=0, quiet=True)
    for at, row in enumerate(rows):
        torch.testing.assert_close(stage.x0_errors(model, pixels, [row], seed=0, quiet=True)[0], whole[at])
    with measure.workers(model, quiet=True) as run:
        described = measure.described_rows(run, pixels, rows, "features")
        for at, row in enumerate(rows):
            torch.testing.assert_close(measure.described_rows(run, pixels, [row], "features")[0], described[at],
                                       rtol=1e-3, atol=1e-3)  # fmt: skip


def test_shapes_that_the_others_have_not_are_left_out_and_said(shaped, caplog):
    images = tensors.Pixels(shaped[0])  # rows 0 and 2 are squares, 1 is upright, 3 is wide
    found = shapes.compared(images, [0, 1, 2], [4, 6, 7], shaped[1])
    assert (found.train, found.held_out) == ([0, 2], [4, 6])
    assert "1 of 3 training images have a shape that none of the others has" in caplog.text
    assert "1 of 3 held-out images have a shape" in caplog.text
    with pytest.raises(UserError, match=r"share no shape, so nothing can be compared: .* a larger step"):
        shapes.compared(images, [1], [3, 4], shaped[1])


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(-1, 2)), min_size=1, max_size=60), st.integers(1, 40))
def test_a_mix_is_in_proportion_and_ascends(kinds, count):
    found = shapes.mix(kinds, count)
    assert found == sorted(found) and len(found) == count
    for kind, many in Counter(kinds).items():
        assert abs(found.count(kind) - count * many / len(kinds)) < 1


@settings(max_examples=40)
@given(st.lists(st.sampled_from(BUCKETS), min_size=1, max_size=40))
def test_the_first_of_the_samples_have_every_shape_as_often_as_it_is(chosen):
    chosen = sorted(chosen, key=BUCKETS.index)
    order = Asked([0] * len(chosen), chosen).mixed
    assert sorted(order) == list(range(len(chosen)))
    first = order[: len(order) // 2]
    for shape in BUCKETS:
        mine = [at for at in order if chosen[at] == shape]
        assert mine == sorted(mine)
        assert abs(sum(chosen[at] == shape for at in first) - len(mine) / 2) <= 2
    if len(set(chosen)) == 1:
        assert order == list(range(len(chosen)))


def test_extra_samples_have_the_shape_of_most_of_their_label():
    beside = Asked([0, 0, 1, 0, 1, 1], [BUCKETS[0]] * 3 + [BUCKETS[2]] * 3)
    found = shapes.of_labels([2, 0, 1, 0], beside)
    assert list(zip(found.class_ids, found.shapes, strict=True)) == [
        (2, BUCKETS[0]), (0, BUCKETS[0]), (0, BUCKETS[0]), (1, BUCKETS[2])
    ]  # fmt: skip
    assert shapes.of_labels([], beside) == Asked([], [])


def test_the_nearest_picture_is_one_of_the_same_shape():
    square, wide = torch.zeros(2, 4, 4, 3, dtype=torch.uint8), torch.zeros(1, 2, 8, 3, dtype=torch.uint8)
    found = neighbours.Among([square, wide, square + 9], 2)
    found.see(square[:1] + 9, torch.ones(1, 2), 0)
    assert found.places.tolist() == [0, 0, -1, 0, 0] and found.rmse[2] == torch.inf
    found.see(wide + 255, torch.ones(1, 2), 7)
    assert found.places.tolist() == [0, 0, 7, 0, 0] and found.rmse[2] == 1
    assert found.similarity(torch.ones(5, 2)).tolist() == pytest.approx([1.0] * 5)


@pytest.mark.slow(3)
def test_a_champion_of_squares_is_drawn_in_the_shapes_of_the_candidate(shaped, done, tmp_path, alone, monkeypatch):
    pixels, splits = make_pack(tmp_path / "old")
    square = tmp_path / "champion"
    train(tiny(network=COMPACT, onnx=True, images=16, steps=2), pixels=pixels, splits=splits, model=square,
          scratch=tmp_path / "scratch")  # fmt: skip
    (square / "scores.json").write_text("{}")
    lots, true = [], measure.samples
    monkeypatch.setattr(measure, "samples", lambda *a, **k: lots.append(Counter(k["shapes"])) or true(*a, **k))
    assert paired.kid_change(done, square, shaped[0], confidence=0.9)["low"] < 1e9
    assert lots == [{BUCKETS[0]: 4, BUCKETS[1]: 8, BUCKETS[2]: 4}]


@pytest.mark.parametrize(("side", "network", "fits"), [
    (8, COMPACT, True), (12, COMPACT, False), (8, COMPACT | {"widths": [32, 32, 32]}, False)
])  # fmt: skip
def test_a_model_is_compared_on_shapes_that_it_takes_if_it_was_trained_on_one_of_them(
    shaped, tmp_path, side, network, fits
):
    pixels, splits = make_pack(tmp_path, side=side if len(network["widths"]) == 1 else 8)
    train(tiny(network=network, onnx=True, images=16), pixels=pixels, splits=splits, model=tmp_path / "model",
          scratch=tmp_path / "scratch")  # fmt: skip
    model, header = sampling.load(tmp_path / "model"), pack.read_header(shaped[0])
    if fits:
        measure.check(model, header, tmp_path)
        measure.check(sampling.load(shaped[2]), pack.read_header(pixels), tmp_path)
    else:
        with pytest.raises(UserError, match=r"its samples are 3 x \d+ x \d+ .*, those of the pack 3 x"):
            measure.check(model, header, tmp_path)
