"""Sampling: the same picture whatever is drawn beside it; bad folders and bad wishes in one line."""

import io
import json
import os
import shutil
import struct
import zlib
from pathlib import Path

import pytest
import torch
from train_fixtures import CLASSES, by_a_stranger, make_pack, tiny

from components.base.errors import UserError
from components.model import grid, sampling
from components.train.stage import train

pytestmark = pytest.mark.numeric


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    pixels, splits = make_pack(folder)
    train(tiny(images=160), pixels=pixels, splits=splits, model=folder / "model", scratch=folder / "scratch")
    return folder / "model"


@pytest.fixture
def copy(model, tmp_path):
    return Path(shutil.copytree(model, tmp_path / "copy"))


def close(a, b):
    """Equal but for the rounding of other batch sizes."""
    assert a.shape == b.shape
    assert (a.int() - b.int()).abs().max() <= 1


def test_a_picture_is_the_same_in_any_batch_and_at_any_start(model, monkeypatch):
    ids = [0, 1, 2, -1, 0, 1, 2]
    whole = sampling.sample(model, ids, seed=5)
    assert whole.shape == (7, 8, 8, 3)
    assert whole.dtype == torch.uint8
    close(sampling.sample(model, ids[3:5], seed=5, start=3), whole[3:5])
    monkeypatch.setattr(sampling, "BATCH", 2)
    close(sampling.sample(model, ids, seed=5), whole)


def test_the_same_call_gives_the_same_bytes_and_another_seed_does_not(model):
    first, again, other = (sampling.sample(model, [0, 1], seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_guidance_pulls_towards_the_label_and_without_a_label_it_does_nothing(model):
    assert not torch.equal(*(sampling.sample(model, [0], seed=0, guidance=pull) for pull in (1.0, 6.0)))
    assert torch.equal(*(sampling.sample(model, [-1], seed=0, guidance=pull) for pull in (1.0, 6.0)))


def test_guidance_of_nothing_is_the_picture_without_a_label(model):
    close(sampling.sample(model, [1], seed=0, guidance=0.0), sampling.sample(model, [-1], seed=0))


def test_progress_counts_every_picture(model):
    advances = []
    sampling.sample(model, [0] * 40, seed=0, steps=1, progress=advances.append)
    assert advances == [32, 8]


def test_no_pictures_is_an_empty_answer(model):
    assert sampling.sample(model, [], seed=0).shape == (0, 8, 8, 3)


def test_the_film_ends_in_the_sample(model):
    loaded = sampling.load(model)
    frames, sigmas = sampling.film(loaded, [0, 1], seed=4, frames=3)
    assert frames.shape == (2, 3, 8, 8, 3)
    assert sigmas == sorted(sigmas, reverse=True)
    close(frames[:, -1], sampling.sample(loaded, [0, 1], seed=4))


# --- what can be wrong -----------------------------------------------------------------------------------------


def test_a_missing_folder(tmp_path):
    with pytest.raises(UserError, match="no model there"):
        sampling.load(tmp_path / "none")


@pytest.mark.parametrize(
    "name",
    ["stillroom.json", "unet/config.json", "unet/diffusion_pytorch_model.safetensors"],
)  # fmt: skip
@pytest.mark.parametrize("how", ["missing", "cut", "garbage", "empty object"])
def test_a_damaged_file_is_named_or_its_folder(copy, name, how):
    path = copy / name
    if how == "missing":
        path.unlink()
    else:
        path.write_bytes({"cut": path.read_bytes()[:-40], "garbage": b"\xff\x00\x80", "empty object": b"{}"}[how])
    with pytest.raises(UserError, match="copy"):
        sampling.load(copy)


def test_weights_of_another_network(copy):
    config = json.loads((copy / "unet/config.json").read_text())
    config["block_out_channels"] = [64]
    (copy / "unet/config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="not a whole denoiser"):
        sampling.load(copy)


def test_a_pickle_in_place_of_the_weights_is_not_opened(copy, tmp_path):
    class Bomb:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    torch.save(Bomb(), copy / "unet/diffusion_pytorch_model.safetensors")
    with pytest.raises(UserError):
        sampling.load(copy)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["DDPMPipeline", "os", "__doc__", "UNet3DConditionModel"])
def test_a_network_that_is_none(copy, name):
    config = json.loads((copy / "unet/config.json").read_text())
    (copy / "unet/config.json").write_text(json.dumps(config | {"_class_name": name}))
    with pytest.raises(UserError, match="no network"):
        sampling.load(copy)


def test_labels_are_numbers_or_a_clear_line(model, tmp_path):
    loaded = sampling.load(model)
    assert [loaded.class_id(name) for name in CLASSES] == [0, 1, 2]
    with pytest.raises(UserError, match="did you mean 'left'"):
        loaded.class_id("lefft")
    for wrong in ([3], [-2]):
        with pytest.raises(UserError, match="class"):
            sampling.sample(loaded, wrong, seed=0)
    for steps in (0, 1001):
        with pytest.raises(UserError, match="steps must be"):
            sampling.sample(loaded, [0], seed=0, steps=steps)


def test_a_model_without_labels(tmp_path):
    pixels, splits = make_pack(tmp_path, classes=())
    train(tiny(images=16), pixels=pixels, splits=splits, model=tmp_path / "m", scratch=tmp_path / "s")
    loaded = sampling.load(tmp_path / "m")
    assert sampling.sample(loaded, [-1, -1], seed=0).shape == (2, 8, 8, 3)
    with pytest.raises(UserError, match="without labels"):
        loaded.class_id("left")
    with pytest.raises(UserError, match="class 0"):
        sampling.sample(loaded, [0], seed=0)


# --- by strangers ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def strangers(model):
    """What the card's lines and then diffusers' pipeline print where nothing of this project can be imported.

    One process for both: importing diffusers takes longer than what it does here.
    """
    card = (model / "README.md").read_text()
    lines = card.split("```python\n")[1].split("```")[0].replace("FOLDER", str(model))
    code = f"""
print(tuple(images.shape), images.dtype, int(images.float().std() > 0))
from diffusers import DDIMScheduler, DiffusionPipeline
pipe = DiffusionPipeline.from_pretrained({str(model)!r}, local_files_only=True)
pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
print(type(pipe).__name__, type(pipe.unet).__name__, pipe.scheduler.config.prediction_type)
"""
    return by_a_stranger(lines + code, Path("/"))[-2:]


@pytest.mark.slow(8)
def test_the_lines_of_the_model_card_work_with_diffusers_alone(strangers):
    assert strangers[0] == "(4, 3, 8, 8) torch.uint8 1"


@pytest.mark.slow
def test_diffusers_loads_the_folder_as_a_pipeline_and_swaps_its_scheduler(strangers):
    assert strangers[1].split() == ["ConsistencyModelPipeline", "UNet2DModel", "v_prediction"]


# --- sheets ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB"), (4, "RGBA"), (5, "RGB")])
def test_wide_pictures_of_any_number_of_channels_lie_where_they_should(channels, mode):
    from PIL import Image

    images = torch.arange(3 * 8 * 12 * channels).remainder(251).to(torch.uint8).view(3, 8, 12, channels)
    alone = Image.open(io.BytesIO(grid.encode(images[:1], columns=2)))
    sheet = Image.open(io.BytesIO(grid.encode(images, columns=2)))
    assert (alone.mode, alone.size) == (sheet.mode, (12, 8)) == (mode, (12, 8))
    assert sheet.size == (2 * 14 + 2, 2 * 10 + 2)
    for at, (left, top) in enumerate([(2, 2), (16, 2), (2, 12)]):
        part = sheet.crop((left, top, left + 12, top + 8))
        assert part.tobytes() == images[at, :, :, : len(mode)].contiguous().numpy().tobytes()
    assert alone.tobytes() == sheet.crop((2, 2, 14, 10)).tobytes()


def test_a_sheet_holds_the_pictures_and_the_words(tmp_path):
    from PIL import Image

    images = torch.randint(0, 256, (5, 4, 4, 3), dtype=torch.uint8)
    grid.write(tmp_path / "sheet.png", images, columns=3, scale=2, text={"Stillroom": "grüße"})
    with Image.open(tmp_path / "sheet.png") as sheet:
        sheet.load()
        assert sheet.size == (3 * 10 + 2, 2 * 10 + 2)
        assert sheet.text["Stillroom"] == "grüße"
        assert sheet.getpixel((2 + 10 + 3, 2 + 10 + 5)) == tuple(images[4, 2, 1].tolist())


@pytest.mark.parametrize(("count", "columns", "scale"), [(1, 3, 1), (5, 3, 2), (4, 8, 1)])
def test_a_sheet_is_laid_out_as_torchvision_does_it(count, columns, scale):
    import numpy as np
    from PIL import Image
    from torchvision.utils import make_grid

    images = torch.randint(0, 256, (count, 6, 9, 3), dtype=torch.uint8)
    large = images.permute(0, 3, 1, 2).repeat_interleave(scale, 2).repeat_interleave(scale, 3)
    wanted = make_grid(large, nrow=columns, padding=grid.LINE, pad_value=255).permute(1, 2, 0)
    found = Image.open(io.BytesIO(grid.encode(images, columns=columns, scale=scale)))
    assert np.array_equal(np.asarray(found), wanted.numpy())


def test_every_chunk_of_a_sheet_has_a_right_checksum():
    blob, at, names = grid.encode(torch.zeros(1, 4, 4, 3, dtype=torch.uint8), columns=1, text={"a": "b"}), 8, []
    while at < len(blob):
        (length,) = struct.unpack(">I", blob[at : at + 4])
        body = blob[at + 4 : at + 8 + length]
        assert struct.unpack(">I", blob[at + 8 + length : at + 12 + length]) == (zlib.crc32(body),)
        names.append(body[:4])
        at += 12 + length
    assert names[-2:] == [b"iTXt", b"IEND"]


def test_a_failed_sheet_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "sheet.png"
    path.write_bytes(b"old")
    monkeypatch.setattr(os, "fsync", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space"):
        grid.write(path, torch.zeros(1, 4, 4, 3, dtype=torch.uint8), columns=1)
    assert path.read_bytes() == b"old"
    assert [each.name for each in tmp_path.iterdir()] == ["sheet.png"]
