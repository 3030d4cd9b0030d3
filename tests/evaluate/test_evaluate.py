"""Evaluation: what it writes is whole, repeatable, and finds what it is meant to find."""

import dataclasses
import json
import re
import shutil
import struct

import pytest
import torch
from evaluate_fixtures import PARAMS, run
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save_file
from train_fixtures import AUGMENT, contents, make_pack, shaped_pack, tiny

from components.base import files, processes
from components.base.errors import UserError
from components.dataset import tensors
from components.embed import dinov2, features
from components.evaluate import measure, neighbours, shapes, stage, tabulate
from components.evaluate.params import JudgeParams
from components.model import grid, sampling
from components.register import evidence
from components.register.gate import decide
from components.register.params import RegisterParams
from components.report.params import ReportParams
from components.report.stage import report
from components.samples import drawn, pack, tallies
from components.train.stage import train

pytestmark = pytest.mark.numeric

MANIFOLD = ("precision", "recall", "density", "coverage")


@pytest.fixture(scope="module")
def evaluated(made, tmp_path_factory):
    """What stage evaluate returns, and the folder that it writes; not to be changed."""
    folder = tmp_path_factory.mktemp("evaluated")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(processes, "cores", lambda: 1)
        return run(made, folder), folder / "evaluation"


def test_images_that_are_not_square_are_measured_and_reported(tmp_path, alone):
    pixels, splits = shaped_pack(tmp_path, (3, 8, 12))
    params = tiny(images=16, augment=AUGMENT | {"rotate": 20.0})
    train(params, pixels=pixels, splits=splits, model=tmp_path / "model", scratch=tmp_path / "scratch")
    run((pixels, splits, tmp_path / "model"), tmp_path)
    found = tmp_path / "evaluation"
    for name in ("samples", "film", "gallery", "augmented"):
        info = json.loads((found / f"{name}.json").read_text())
        assert (info["height"], info["width"], info["channels"]) == (8, 12, 3) and "side" not in info
        many = info["rows"] * info.get("frames", 1) * info.get("draws", 1)
        assert (found / f"{name}.u8").stat().st_size == many * 8 * 12 * 3 > 0
    with Image.open(found / "film.png") as sheet:
        frames = json.loads((found / "film.json").read_text())["frames"]
        assert sheet.width == frames * (2 * 12 + grid.LINE) + grid.LINE
    page = tmp_path / "model.html"
    report(ReportParams(samples_per_class=2, films=2, neighbours=2, magnify=3, characters=60), pixels=pixels,
           model=tmp_path / "model", evaluation=found, page=page)  # fmt: skip
    assert "12 × 8 pixels, enlarged 3 times" in page.read_text("utf-8")


def test_a_training_that_augments_gets_a_sheet_of_it(made, tmp_path):
    pixels, splits, model = made
    assert "augment" not in json.loads((model / "stillroom.json").read_text())
    how = tiny(augment=AUGMENT | {"rotate": 20.0, "horizontal_flip": 0.5}).augment
    noted = {"augment": {"seed": 3, "how": how.model_dump(mode="json")}}
    (tmp_path / "stillroom.json").write_text(json.dumps(noted))
    stage._augmented(tmp_path, tmp_path, tensors.Pixels(pixels), list(pack.read_split(splits, "train")))
    info = json.loads((tmp_path / "augmented.json").read_text())
    assert info["of"] == [0, 5, 10, 16, 21, 26] and (info["rows"], info["draws"]) == (6, 6)
    assert len((tmp_path / "augmented.u8").read_bytes()) == 36 * 8 * 8 * 3
    assert any("mirrored, turned" in words for row in info["done"] for words in row)
    noted["augment"]["how"]["rotate"] = 1e9
    (tmp_path / "stillroom.json").write_text(json.dumps(noted))
    with pytest.raises(UserError, match=r"stillroom\.json: augment cannot be read"):
        stage._augmented(tmp_path, tmp_path, tensors.Pixels(pixels), [0])


def test_it_writes_what_the_reports_read(made, evaluated):
    numbers, found = evaluated[0], contents(evaluated[1])
    assert set(found) == {"scores.json", "samples.u8", "samples.json", "film.u8", "film.json", "errors.f32",
                          "samples.png", "film.png", "samples.parquet", "held_out.parquet",
                          "gallery.json", "gallery.u8"}  # fmt: skip
    table = json.loads(found["scores.json"])
    assert table["counts"] == {"train": 32, "test": 8, "held_out": 16, "samples": 10}
    kinds = ("kid", "fd", *MANIFOLD, "accuracy")
    assert set(table["scores"]) == {"x0_error", "kid_colours", *(f"{kind}_efficientnet_lite0" for kind in kinds)}
    assert all(table["scores"][f"{kind}_efficientnet_lite0"]["features"] == "efficientnet_lite0" for kind in kinds)
    assert table["scores"]["x0_error"]["precision"] == "fp32"
    assert numbers["x0_error"] == table["scores"]["x0_error"]["value"]
    for name, part in table["scores"].items():
        assert part["low"] <= part["value"] <= part["high"], name
    assert len(found["samples.u8"]) == 10 * 8 * 8 * 3
    film = json.loads(found["film.json"])
    assert len(found["film.u8"]) == film["rows"] * film["frames"] * 8 * 8 * 3
    assert len(film["sigmas"]) == film["frames"]
    assert len(film["class_ids"]) == film["rows"]
    errors = torch.tensor(struct.unpack("<64f", found["errors.f32"])).view(8, 8)
    means = [part["value"] for part in table["x0_error_by_sigma"]]
    torch.testing.assert_close(errors.mean(0), torch.tensor(means))
    assert table["scores"]["x0_error"]["value"] == pytest.approx(float(errors.mean(0).log().mean().exp()))


def test_a_row_a_sample_names_its_nearest_images(made, evaluated):
    (pixels, splits, _), keys = made, pack.read_keys(made[0])
    rows = drawn.samples(evaluated[1], features=True)
    pictures = torch.frombuffer(bytearray((evaluated[1] / "samples.u8").read_bytes()), dtype=torch.uint8)
    pictures = pictures.view(10, 8, 8, 3)
    images = tensors.Pixels(pixels)
    splitted = {name: list(pack.read_split(splits, name)) for name in ("train", "val", "test")}
    others = {"train": splitted["train"], "held_out": splitted["val"] + splitted["test"]}
    described = features.of(features.network(), pictures)
    for at, row in enumerate(rows):
        assert (row["sample"], row["seed"]) == (at, PARAMS.seed)
        assert row["label"] == (("left", "right", "both")[row["class_id"]] if row["class_id"] >= 0 else None)
        torch.testing.assert_close(torch.tensor(row["features"]), described[at], rtol=1e-3, atol=1e-3)
        for what, among in others.items():
            gaps = (images.gather(among).double() / 255 - pictures[at].double() / 255).flatten(1).square().mean(1)
            assert row[f"{what}_row"] == among[int(gaps.argmin())]
            assert row[f"{what}_rmse"] == pytest.approx(float(gaps.min().sqrt()), rel=1e-4)
            assert row[f"{what}_sha256"] == keys[row[f"{what}_row"]]
        assert row["copy"] == (row["train_rmse"] <= row["copy_limit"])
    held_out = drawn.held_out(evaluated[1])
    assert [row["row"] for row in held_out] == others["held_out"]
    assert all(row["sha256"] == keys[row["row"]] and row["train_row"] in others["train"] for row in held_out)


def test_the_loss_of_a_level_is_the_error_of_the_image_over_beta_squared(evaluated):
    table = json.loads((evaluated[1] / "scores.json").read_text())
    for level, part in zip(table["loss_by_level"], table["x0_error_by_sigma"], strict=True):
        sigma = part["sigma"]
        assert level["sigma_low"] < sigma < level["sigma_high"]
        assert level["value"] == pytest.approx(part["value"] * (1 + sigma**2) / sigma**2, rel=0.06)


@pytest.mark.slow
def test_one_process_and_two_give_the_same_bytes(made, tmp_path, monkeypatch):
    monkeypatch.setattr(measure, "CHUNK", 4)
    for cores in (1, 2):
        monkeypatch.setattr(processes, "cores", lambda cores=cores: cores)
        run(made, tmp_path / str(cores))
    assert contents(tmp_path / "1") == contents(tmp_path / "2")


@pytest.mark.slow(4)
def test_training_images_in_small_blocks_give_the_same_tables(made, evaluated, tmp_path, alone, monkeypatch):
    """Memory is bounded: no more than a block of training images is ever gathered."""
    gathered, gather = [], tensors.Pixels.gather
    monkeypatch.setattr(neighbours, "BLOCK", 7 * 8 * 8 * 3)
    monkeypatch.setattr(tensors.Pixels, "gather", lambda self, rows: gathered.append(len(rows)) or gather(self, rows))
    run(made, tmp_path)
    assert max(gathered) == 16, "the held-out images; of the 32 training images at most 7 at once"
    for name, rows in (("samples", drawn.samples), ("held_out", drawn.held_out)):
        small, whole = rows(tmp_path / "evaluation"), rows(evaluated[1])
        assert [row["train_row"] for row in small] == [row["train_row"] for row in whole], name
    ours, theirs = (json.loads((folder / "scores.json").read_text())["scores"]["kid_efficientnet_lite0"]["floor"]
                    for folder in (tmp_path / "evaluation", evaluated[1]))  # fmt: skip
    assert ours == pytest.approx(theirs, rel=1e-3)


def test_samples_that_are_training_images_are_found(made, tmp_path, alone, monkeypatch):
    """Half of what is 'drawn' are training images, nearly as they are; the other half is noise."""
    images = tensors.Pixels(made[0])
    rows = list(pack.read_split(made[1], "train"))[:5]
    copies = (images.gather(rows).int() + 1).clamp(max=255).to(torch.uint8)
    noise = torch.randint(0, 256, copies.shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(measure, "samples", lambda *_, **__: [torch.cat([copies, noise])])
    numbers = run(made, tmp_path)
    table = drawn.samples(tmp_path / "evaluation")
    assert numbers["memorised_share"] == 0.5
    assert numbers["memorised_real_share"] == 0
    assert [near["train_row"] for near in table[:5]] == rows
    assert all(near["train_rmse"] < 0.01 and near["train_similarity"] > 0.95 for near in table[:5])
    assert all(near["train_rmse"] > 0.1 for near in table[5:])


def test_a_planted_copier_of_one_class_is_caught_by_the_gate(made, tmp_path, alone, monkeypatch):
    """Of one class it draws training images under noise that memorised_rmse takes for no copy; of others, noise."""
    images, source = tensors.Pixels(made[0]), torch.Generator().manual_seed(0)
    params = PARAMS.model_copy(update={"samples": 60, "memorised_rmse": 0.0})
    rows = [row for row in pack.read_split(made[1], "train") if images.class_ids[row] == 1]

    def copier(_run, class_ids, **_):
        real = images.gather([rows[at % len(rows)] for at in range(len(class_ids))]).int()
        near = real + torch.randint(-9, 10, real.shape, generator=source)
        far = torch.randint(0, 256, real.shape, generator=source)
        ours = torch.tensor([number == 1 for number in class_ids]).view(-1, 1, 1, 1)
        return [torch.where(ours, near, far).clamp(0, 255).to(torch.uint8)]

    monkeypatch.setattr(measure, "samples", copier)
    monkeypatch.setattr(tabulate, "FEW", 5)  # of the 16 held-out images
    numbers = run(made, tmp_path, params)
    assert numbers["memorised_class_excess"] == 1
    for name in ("MANIFEST.json", "stillroom.json"):
        (tmp_path / "evaluation" / name).write_text("{}")
    candidate = evidence.candidate(tmp_path / "evaluation")
    assert {row["label"] for row in candidate["samples"] if row["copy"]} == {"right"}
    lenient = RegisterParams.model_construct(
        confidence=0.95, margin=0.0, max_memorised=0.5, min_class_accuracy=0.0, max_slowdown=None, licences=None
    )
    count = sum(row["label"] == "right" for row in candidate["samples"])
    assert count < 30, "in all it passes"
    assert re.match(rf"Not promoted: {count} of its {count} samples of class 'right' are copies of training images, "
                    r"against 0 of \d+ held-out images\.", decide(candidate, None, lenient).reason)  # fmt: skip
    none = run(made, tmp_path / "off", params.model_copy(update={"memorised_ratio": 0.0}))
    assert none["memorised_share"] == 0


def test_samples_that_are_real_score_like_the_floor(made, tmp_path, alone, monkeypatch):
    images, rows = tensors.Pixels(made[0]), list(pack.read_split(made[1], "train"))
    monkeypatch.setattr(measure, "samples", lambda *_, **__: [images.gather(rows)])
    numbers = run(made, tmp_path, PARAMS.model_copy(update={"samples": len(rows)}))
    for kind, end in (("kid", "floor"), ("fd", "floor"), *((each, "ceiling") for each in MANIFOLD)):
        name = f"{kind}_efficientnet_lite0"
        assert numbers[name] == pytest.approx(numbers[f"{name}_{end}"], rel=1e-6)
    assert numbers["kid_colours"] == pytest.approx(numbers["kid_colours_floor"], rel=1e-6)
    assert numbers["accuracy_efficientnet_lite0_ceiling"] > 0.8, "left, right and both are told apart"


@pytest.mark.slow(3)
def test_a_judge_by_weights_of_the_user_s_scores_the_same_three_sets(made, tmp_path, alone):
    path = tmp_path / "weights.safetensors"
    save_file(dinov2.DinoV2(64, 1, 4).state_dict(), path)
    asked = JudgeParams(network="dinov2", weights=str(path), sha256=files.sha256(path))
    numbers = run(made, tmp_path, PARAMS.model_copy(update={"judges": (asked,)}))
    scores = json.loads((tmp_path / "evaluation/scores.json").read_text())["scores"]
    for name in ("kid_dinov2", "fd_dinov2"):
        assert (scores[name]["features"], scores[name]["weights"]) == ("dinov2", asked.sha256)
        assert (scores[name]["images"], scores[name]["against"]) == (10, 16)
        assert numbers[name] != numbers[f"{name}_floor"] and numbers[f"{name}_low"] < numbers[f"{name}_high"]
    assert not any("inception" in name or name.startswith("fid") for name in numbers)
    wrong = asked.model_copy(update={"sha256": "0" * 64})
    with pytest.raises(UserError, match=r"as in evaluate\.judges"):
        run(made, tmp_path / "other", PARAMS.model_copy(update={"judges": (wrong,)}))


def test_samples_of_the_wrong_class_are_noticed(made, tmp_path, alone, monkeypatch):
    """Whatever label is asked for, it draws training images of class left."""
    images = tensors.Pixels(made[0])
    left = [row for row in pack.read_split(made[1], "train") if images.class_ids[row] == 0]
    picked = images.gather([left[at % len(left)] for at in range(40)])
    monkeypatch.setattr(measure, "samples", lambda *_, **__: [picked])
    numbers = run(made, tmp_path, PARAMS.model_copy(update={"samples": 40}))
    rows, real = drawn.samples(tmp_path / "evaluation"), drawn.held_out(tmp_path / "evaluation")
    found = tallies.by_class(rows, real, tallies.recognised)
    assert found["left"].share > 0.8 > 0.2 > max(found["right"].share, found["both"].share)
    labelled = [row for row in rows if row["label"]]
    share = sum(row["label"] == row["predicted"] for row in labelled) / len(labelled)
    assert numbers["accuracy_efficientnet_lite0"] == pytest.approx(share)


def test_errors_belong_to_an_image_and_not_to_its_place(made, alone):
    """A champion and a candidate are compared on the same noise, whatever else is in the split."""
    pixels, splits, model = made
    rows = list(pack.read_split(splits, "test"))
    whole = stage.x0_errors(model, pixels, rows, seed=0, quiet=True)
    torch.testing.assert_close(stage.x0_errors(model, pixels, rows[3:5], seed=0, quiet=True), whole[3:5])
    assert not torch.allclose(stage.x0_errors(model, pixels, rows[3:5], seed=1, quiet=True), whole[3:5])


def test_errors_are_measured_in_fp32_whatever_holds_around_them(made, alone):
    pixels, splits, model = made
    rows = list(pack.read_split(splits, "test"))
    whole = stage.x0_errors(model, pixels, rows, seed=0, quiet=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(stage.x0_errors(model, pixels, rows, seed=0, quiet=True), whole)


@pytest.mark.parametrize(("changes", "words"), [
    ({"kind": "latent"}, "of kind image, .* of kind latent, .*: they cannot be compared"),
    ({"scale": 1 / 255, "shift": 0.0}, r"0\.00784314 \+ -1, .*0\.00392157 \+ 0: they cannot be compared"),
])  # fmt: skip
def test_samples_of_other_values_are_not_compared(made, changes, words):
    header, denoiser = pack.read_header(made[0]), sampling.load(made[2])
    measure.check(denoiser, header, made[2])
    measure.check(denoiser, dataclasses.replace(header, spec=dataclasses.replace(header.spec, dtype="f32")), made[2])
    with pytest.raises(UserError, match=words):
        measure.check(denoiser, dataclasses.replace(header, spec=dataclasses.replace(header.spec, **changes)), made[2])


def test_a_champion_that_knows_fewer_classes_is_scored_by_name(made, tmp_path, alone):
    pixels, splits, model = made
    renamed = json.loads((pixels / "header.json").read_text())
    other = tmp_path / "pixels"
    shutil.copytree(pixels, other)
    renamed["classes"] = ["new", "left", "right", "both"]
    (other / "header.json").write_text(json.dumps(renamed))
    ids = [number + 1 if number >= 0 else -1 for number in pack.read_classes(pixels)]
    pack.write_int32(other / "classes.i32", ids)
    rows = list(pack.read_split(splits, "test"))
    torch.testing.assert_close(
        stage.x0_errors(model, other, rows, seed=0, quiet=True),
        stage.x0_errors(model, pixels, rows, seed=0, quiet=True),
    )


def test_a_model_of_another_size_cannot_be_compared(made, tmp_path, alone):
    pixels, _ = make_pack(tmp_path, side=16)
    with pytest.raises(UserError, match=r"3 x 8 x 8 .*, those of the pack 3 x 16 x 16: they cannot be compared"):
        stage.x0_errors(made[2], pixels, [0], seed=0)


def test_a_split_without_test_images(made, tmp_path, alone):
    pixels, splits, model = made
    shutil.copytree(splits, tmp_path / "splits")
    pack.write_int32(tmp_path / "splits/test.i32", [])
    with pytest.raises(UserError, match="0 images in split test"):
        run((pixels, tmp_path / "splits", model), tmp_path)
    assert not (tmp_path / "evaluation").exists()


@given(ids=st.lists(st.integers(-1, 5), min_size=1, max_size=60), count=st.integers(1, 80))
def test_the_mix_of_classes_is_kept_to_within_one(ids, count):
    mix = shapes.mix(ids, count)
    assert len(mix) == count
    assert mix == sorted(mix)
    for kind in set(ids):
        assert abs(mix.count(kind) - ids.count(kind) * count / len(ids)) < 1


def test_a_sheet_has_a_row_for_each_class():
    images = torch.arange(5, dtype=torch.uint8).view(5, 1, 1, 1).expand(5, 2, 2, 3)
    sheet = stage.by_class(images, [0, 0, 0, 2, 2], 2)
    assert sheet[:, 0, 0, 0].tolist() == [0, 1, 3, 4]


def test_features_are_those_of_the_pretrained_network():
    """Two crops of one picture are closer than two pictures: with random weights they are hardly so."""
    net = features.network()
    big = torch.nn.functional.interpolate(
        torch.rand(2, 3, 6, 6, generator=torch.Generator().manual_seed(0)) * 255, 40, mode="bilinear"
    ).to(torch.uint8).permute(0, 2, 3, 1)  # fmt: skip
    found = features.of(net, torch.cat([big[:, :32, :32], big[:, 4:36, 4:36]]))
    assert found.shape == (4, 1280)
    similar = torch.nn.functional.cosine_similarity(found[:, None], found[None], dim=2)
    assert similar[0, 2] > similar[0, 1]
    assert similar[1, 3] > similar[0, 1]
