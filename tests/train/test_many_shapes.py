"""Training on pictures of several shapes: batches of one shape, the same on any ranks, resumed to the same bytes."""

import json
import logging
import os
import signal

import pytest
import torch
from train_fixtures import AUGMENT, BUCKETS, COMPACT, DIT, bucket_pack, make_pack, run, tiny

from components.base.errors import UserError
from components.dataset import tensors
from components.diffusion import conditions
from components.networks import registry
from components.samples import pack
from components.train import compiling, feed, history, loop, stage, state, throughput
from components.train import start as beginning
from components.train.distributed.ranks import Group
from components.train.step import Step, operations

ALONE = Group(0, 1, torch.device("cpu"))
COMPACTLY = {"network": COMPACT, "onnx": True}


@pytest.fixture(scope="module")
def shaped(tmp_path_factory):
    return bucket_pack(tmp_path_factory.mktemp("shaped"))


def feeds(shaped, *, group=ALONE, **changes):
    rows = torch.tensor(list(pack.read_split(shaped[1], "train")))
    return feed.Feed(tiny(**changes), tensors.Pixels(shaped[0]), rows, group)


def test_a_batch_has_one_shape_and_holds_what_its_rows_are(shaped):
    fed, pixels = feeds(shaped), tensors.Pixels(shaped[0])
    seen = set()
    for place in range(0, 160, 8):
        batch, rows = fed.batch(place), fed.rows_at(place, place + 8)
        assert torch.equal(batch.image, tensors.to_network(pixels.gather(rows)))
        assert batch.noise.shape == batch.image.shape
        seen.add(tuple(batch.image.shape[1:]))
    assert seen == set(BUCKETS)


def test_the_ranks_share_a_batch_of_one_shape(shaped):
    whole = feeds(shaped, ranks=2)
    parts = [feeds(shaped, ranks=2, group=Group(rank, 2, ALONE.device)) for rank in (0, 1)]
    for place in range(0, 80, 8):
        wanted, found = whole.batch(place), [part.batch(place) for part in parts]
        for name in ("image", "noise", "sigma"):
            assert torch.equal(torch.cat([getattr(part, name) for part in found]), getattr(wanted, name)), name
        assert torch.equal(conditions.joined([part.condition for part in found])["label"], wanted.condition["label"])


def test_loaders_and_images_that_the_device_holds_give_the_same_batches(shaped, monkeypatch):
    plain, ahead = feeds(shaped), feeds(shaped, loaders=2)
    monkeypatch.setattr(feed.Feed, "_fits", lambda self: True)
    held = feeds(shaped)
    try:
        for place in (0, 8, 16, 24, 96, 104, 8, 0):
            wanted = plain.batch(place).image
            assert torch.equal(ahead.batch(place).image, wanted) and torch.equal(held.batch(place).image, wanted)
    finally:
        ahead.close()


def test_augmentation_changes_each_shape_within_its_own_limits(shaped):
    fed = feeds(shaped, augment=AUGMENT | {"horizontal_flip": 1.0, "rotate": 20.0, "crop": 0.3})
    plain = feeds(shaped)
    for place in range(0, 80, 8):
        changed, still = fed.batch(place).image, plain.batch(place).image
        assert changed.shape == still.shape and not torch.equal(changed, still)
    flipped = feeds(shaped, augment=AUGMENT | {"horizontal_flip": 1.0})
    assert torch.equal(flipped.batch(8).image, plain.batch(8).image.flip(3))


def test_how_many_steps_each_shape_gets_is_said_and_who_gets_none(shaped, caplog):
    with caplog.at_level(logging.INFO):
        feeds(shaped, images=64).tell_shapes()
        assert "8 × 8 px: 16 training images, 4 of 8 steps" in caplog.text
        assert caplog.text.count("8 training images, 2 of 8 steps") == 2
        caplog.clear()
        feeds(shaped, batch=32, images=32).tell_shapes()
        assert "8 training images are too few for a step of train.batch 32: they are never shown" in caplog.text


def test_what_one_image_takes_is_the_mean_over_the_shapes_and_memory_that_of_the_largest(shaped):
    begun = state.start(tiny(**COMPACTLY), tensors.Pixels(shaped[0]), ALONE)
    each = [throughput.flops(begun.network, shape, labels=True) for shape in BUCKETS]
    assert operations(begun) == pytest.approx(each[1] / 2 + each[0] / 4 + each[2] / 4)
    assert begun.largest in (BUCKETS[0], BUCKETS[2])
    step, sizes = Step(tiny(**COMPACTLY), begun, ALONE), []
    step.aim.losses = lambda model, batch, gap: sizes.append(batch.image.shape) or batch.image.sum() * 0 + next(
        model.parameters()).sum()  # fmt: skip
    step._attempt(4)
    assert sizes == [(4, *begun.largest)]


@pytest.mark.parametrize(("network", "line"), [
    (COMPACT | {"widths": [32] * 3}, r"that 8 divides, not those of the bucket 8 x 12: .*fit\.step a multiple of 8"),
    ({"kind": "unet", "widths": [32] * 4, "layers_per_block": 1}, "that 8 divides, not those of the bucket 8 x 12"),
    (DIT, r"kind dit: takes squares of one size, not the bucket 8 x 12 of resize\.fit: take unet or compact"),
])  # fmt: skip
def test_a_network_that_does_not_take_every_shape_is_one_line_at_the_start(shaped, tmp_path, network, line):
    with pytest.raises(UserError, match=line):
        run(tmp_path, tiny(network=network, onnx=True), shaped)


def test_a_start_that_does_not_take_every_shape_is_one_line(shaped, tmp_path):
    pixels, splits = make_pack(tmp_path, classes=("dark", "light"))
    deep = tiny(network=COMPACT | {"widths": [32] * 3}, onnx=True, images=16)
    stage.train(deep, pixels=pixels, splits=splits, model=tmp_path / "deep", scratch=tmp_path / "scratch")
    beginning.take("deep", tmp_path / "deep", tmp_path / "start.json")
    with pytest.raises(UserError, match=r"8 divides, not those of the bucket 8 x 12: .* start from another model"):
        state.build(tiny(**COMPACTLY), tensors.Pixels(shaped[0]), tmp_path / "start.json")


def test_compiling_pays_for_each_shape_anew():
    seconds = 10 * compiling.CPU_COST / compiling.CPU_GAIN
    network = torch.nn.Linear(1, 1)
    network.compile = lambda **_: None
    for shapes, on in ((1, True), (9, True), (11, False)):
        decided = compiling.Compiling("auto", network, ALONE.device, on=False, shapes=shapes,
                                      operations=lambda: seconds * compiling.CPU_RATE)  # fmt: skip
        assert decided.on == (on and compiling.possible(ALONE.device))
        assert not decided.on or torch._dynamo.config.recompile_limit >= shapes


def test_which_image_has_which_shape_is_part_of_what_a_training_is_kept_by(shaped, tmp_path):
    pixels, splits = bucket_pack(tmp_path)
    assert stage.key(tiny(), pixels, splits) == stage.key(tiny(), *shaped)
    of_rows = list(pack.read_int32(pixels / pack.BUCKETS))
    of_rows[0], of_rows[1] = of_rows[1], of_rows[0]
    pack.write_int32(pixels / pack.BUCKETS, of_rows)
    assert stage.key(tiny(), pixels, splits) != stage.key(tiny(), *shaped)


def test_the_x0_error_is_that_of_all_shapes_and_each_rank_asks_as_often_whether_to_stop(shaped, monkeypatch):
    params, pixels = tiny(validate_images=7, **COMPACTLY), tensors.Pixels(shaped[0])
    begun, checked = state.start(params, pixels, ALONE), history.checked(*shaped, params.validate_images)
    sums, asked = [], []
    monkeypatch.setattr(Group, "sum", lambda self, numbers: sums.append(numbers) or numbers)
    for rank, size in ((0, 1), (0, 2), (1, 2), (0, 5), (4, 5)):
        parts = []
        history.validate(
            begun, params, checked, pixels, Group(rank, size, ALONE.device), lambda parts=parts: parts.append(1) or 0
        )
        asked.append(len(parts))
    assert asked[1] == asked[2] and asked[3] == asked[4]
    whole, first, second = sums[0], sums[2], sums[4]  # of each check the errors by level, then their spread
    torch.testing.assert_close(first + second, whole, rtol=1e-6, atol=0)


@pytest.mark.slow(6)
def test_a_training_that_is_stopped_and_goes_on_ends_in_the_same_bytes(shaped, tmp_path, monkeypatch):
    params = tiny(images=96, checkpoint_images=32, sheet=6, **COMPACTLY)
    numbers, made = run(tmp_path / "whole", params, shaped)
    assert numbers["images_seen"] == 96
    notes = json.loads(made["stillroom.json"])
    assert notes["shapes"] == [list(shape) for shape in BUCKETS] and notes["spec"]["shape"] == [3, 8, 8]
    assert b"3 shapes (width x height: 8 x 12, 8 x 8, 12 x 8)" in made["README.md"]
    true = loop.Training._one

    def one(self):
        true(self)
        if self.state.images_seen == 48:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(loop.Training, "_one", one)
    with pytest.raises(SystemExit):
        run(tmp_path / "stopped", params, shaped)
    monkeypatch.setattr(loop.Training, "_one", true)
    assert run(tmp_path / "stopped", params, shaped)[1] == made


def test_images_that_a_guard_left_out_are_those_that_were_to_be_shown(shaped):
    params, fed = tiny(), feeds(shaped)
    begun = state.start(params, tensors.Pixels(shaped[0]), ALONE)
    begun.guard.skips = [[16, 32]]
    found = stage._skipped(params, begun, *shaped)
    assert [each["row"] for each in found] == fed.rows_at(16, 32).tolist()


def built(values):
    params = tiny(network=values, onnx=True)
    return registry.build(params.network, schedule_name="cosine", shape=(3, 8, 8), classes=0)


def test_what_a_network_takes_is_known_by_its_halvings():
    for values, wanted in ((COMPACT, 2), (COMPACT | {"widths": [32, 32, 32]}, 8)):
        network = built(values)
        assert registry.multiple(network) == wanted
        network(torch.zeros(1, 3, 2 * wanted, 3 * wanted), torch.ones(1))
    assert registry.multiple(built({"kind": "unet", "widths": [32, 32], "layers_per_block": 1})) == 2
    assert registry.multiple(built(DIT)) is None
