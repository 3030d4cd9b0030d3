"""`stillroom sample --init`: pictures that drawing begins from, and bad ones in one line."""

import hashlib
import re

import numpy as np
import pytest
from PIL import Image
from test_drawing import draw, metadata, model  # noqa: F401
from typer.testing import CliRunner

from components.base.errors import UserError
from flows.cli import app
from flows.model.begin import Start

pytestmark = pytest.mark.numeric


@pytest.fixture
def picture(tmp_path):
    """24 x 24 pixels of colour, in squares of 3, which come to 8 x 8 without a change of their middle."""
    path = tmp_path / "init.png"
    small = np.arange(8 * 8 * 3, dtype=np.uint8).reshape(8, 8, 3)
    Image.fromarray(small).resize((24, 24), Image.Resampling.NEAREST).save(path)
    return path


@pytest.fixture
def mask(tmp_path):
    path = tmp_path / "mask.png"
    half = np.zeros((24, 24), np.uint8)
    half[:, :12] = 255
    Image.fromarray(half).save(path)
    return path


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def test_what_the_mask_keeps_is_the_picture_scaled_as_the_packs_are(model, tmp_path, picture, mask):  # noqa: F811
    draw(model, tmp_path, each=True, num=2, scale=1, start=Start((picture,), mask))
    with Image.open(picture) as image:
        wanted = np.asarray(image.resize((8, 8), Image.Resampling.BICUBIC)).astype(int)
    first, second = (pixels(path) for path in sorted((tmp_path / "each").iterdir()))
    for found in (first, second):
        assert np.array_equal(found[:, 4:], wanted[:, 4:])
    assert not np.array_equal(first[:, :4], second[:, :4])


def test_the_sheet_says_what_it_began_from(model, tmp_path, picture, mask):  # noqa: F811
    draw(model, tmp_path, film=True, start=Start((picture,), mask, 0.8))
    found = metadata(tmp_path / "sheet.png")
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in (picture, mask)]
    assert found["init"] == digests[:1]
    assert found["mask"] == digests[1]
    assert (found["strength"], found["repeats"]) == (0.8, 5)
    assert metadata(tmp_path / "film.png")["init"] == digests[:1]


def test_several_pictures_come_in_turn_and_little_strength_changes_little(model, tmp_path, picture):  # noqa: F811
    grey = tmp_path / "grey.png"
    Image.new("RGB", (30, 8), (128, 128, 128)).save(grey)
    draw(model, tmp_path, each=True, num=3, scale=1, start=Start((picture, grey), strength=0.01))
    first, second, third = (pixels(path) for path in sorted((tmp_path / "each").iterdir()))
    assert abs(second - 128).max() <= 24
    assert abs(first - third).max() <= 24
    assert abs(first - second).max() > 60


def test_a_dry_run_tells_of_the_steps_that_are_taken(model, tmp_path, picture, capsys):  # noqa: F811
    draw(model, tmp_path, sampler="heun", steps=10, dry_run=True, start=Start((picture,), strength=0.5))
    out = capsys.readouterr().out
    assert f"from {picture}\n" in out
    assert "heun, 5 steps from sigma" in out


def test_with_a_mask_each_step_is_taken_again_so_that_the_parts_fit(model, tmp_path, picture, mask, capsys):  # noqa: F811
    draw(model, tmp_path, steps=10, dry_run=True, start=Start((picture,), mask))
    out = capsys.readouterr().out
    assert f"from {picture}, where {mask} is white\n" in out
    assert "by euler, 5 times each, 10 steps" in out
    assert "46 calls of the denoiser each" in out
    for repeats in (1, 5):
        (tmp_path / str(repeats)).mkdir()
        draw(model, tmp_path / str(repeats), each=True, num=1, scale=1, start=Start((picture,), mask, None, repeats))
    once, often = (pixels(tmp_path / name / "each/seed5-00000.png") for name in ("1", "5"))
    assert np.array_equal(once[:, 4:], often[:, 4:])
    assert not np.array_equal(once[:, :4], often[:, :4])


@pytest.mark.parametrize(
    ("init", "masked", "line"),
    [
        ("none.png", None, "none.png: cannot be read (No such file or directory): give the file of a picture"),
        ("bad.png", None, "bad.png: no picture to begin from (damaged: "),
        ("init.png", "small.png", "small.png: a mask of 5 × 4; wanted the size of --init, 24 × 24"),
        ("init.png", "black.png", "black.png: black, so nothing would be drawn"),
    ],
)
def test_a_bad_picture_is_one_line_and_nothing_is_written(model, tmp_path, picture, init, masked, line):  # noqa: F811
    (tmp_path / "bad.png").write_bytes(picture.read_bytes()[:60])
    Image.new("L", (5, 4)).save(tmp_path / "small.png")
    Image.new("L", (24, 24)).save(tmp_path / "black.png")
    with pytest.raises(UserError, match=re.escape(line)) as caught:
        draw(model, tmp_path, start=Start((tmp_path / init,), masked and tmp_path / masked))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "sheet.png").exists()


def test_repeats_without_a_mask(picture):
    with pytest.raises(UserError, match="--repeats: without --mask each step is taken once"):
        Start((picture,), repeats=3)


@pytest.mark.parametrize("option", ["--mask", "--strength"])
def test_an_option_without_a_picture(option):
    done = CliRunner().invoke(app.app, ["sample", option, "0.5"])
    assert isinstance(done.exception, UserError)
    assert str(done.exception) == f"{option}: of which picture? Give --init PICTURE too"
