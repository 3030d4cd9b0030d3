"""What is worth a look: each flag by a picture made for it, and none for sharp ones at any size."""

import numpy as np
import pytest
from data_fixtures import pixels
from PIL import Image, ImageFilter

from components.samples import looks, pack
from components.samples.spec import image

SIDE = 48


def sharp(seed: int, side: int = SIDE) -> np.ndarray:
    """Soft shapes with hard edges."""
    picture = pixels(seed, side)
    picture[side // 4 : side // 2, side // 4 : side // 2] = 255 - picture[side // 4 : side // 2, side // 4 : side // 2]
    picture[::7] = picture[::7] // 3
    return picture


def blurred(picture: np.ndarray, share: float) -> np.ndarray:
    return np.asarray(Image.fromarray(picture).filter(ImageFilter.GaussianBlur(share * len(picture))))


@pytest.mark.parametrize("side", [32, 48, 128])
def test_a_sharp_picture_has_no_flag_and_a_blurred_one_has(side):
    pictures = [sharp(seed, side) for seed in range(8)]
    assert looks.seen(np.stack(pictures)) == [""] * 8
    assert looks.seen(np.stack([blurred(each, 0.1) for each in pictures])) == ["blurred"] * 8


def test_dark_bright_and_flat_are_told_apart_and_one_light_spot_is_not_dark():
    picture = sharp(1)
    dark, bright = picture // 5, 255 - picture // 12
    flat = np.full_like(picture, 130) + picture // 60
    spot = dark.copy()
    spot[:12, :12] = 250
    assert looks.seen(np.stack([dark, bright, flat, spot, np.zeros_like(picture)])) == [
        "dark", "bright", "flat", "", "dark",
    ]  # fmt: skip


def test_flags_of_a_pack_are_by_row_also_of_the_size_that_a_picture_had(tmp_path, monkeypatch):
    (tmp_path / "pixels").mkdir()
    rows = [sharp(1), sharp(2) // 5, sharp(3), sharp(4), sharp(5)]
    pack.write(tmp_path / "pixels", [row.tobytes() for row in rows], spec=image((3, SIDE, SIDE)),
               keys=[f"{at:064x}" for at in range(5)], classes=[], class_ids=[-1] * 5)  # fmt: skip
    sizes = [(0, 100, 100), (1, 10, 10), (2, 400, 100), (3, 23, 60), (4, 24, 60)]
    expected = {1: "dark", 2: "long", 3: "small"}
    assert looks.flags(tmp_path / "pixels", sizes, tmp_path / "facts") == expected
    monkeypatch.setattr(looks, "_CHUNK", 1)
    assert looks.flags(tmp_path / "pixels", sizes, tmp_path / "others") == expected, (
        "not a matter of how many at a time"
    )
    monkeypatch.setattr(looks, "seen", None)
    assert looks.flags(tmp_path / "pixels", sizes, tmp_path / "facts") == expected, "each picture is looked at once"
    assert set(expected.values()) <= set(looks.FLAGS)
