"""Edited copies: how many of each kind are found, and how many pairs of different pictures are taken for one.

    PYTHONPATH=. python benchmarks/copies.py TAR_OF_SMALL_IMAGES [HOW_MANY]

Here the stages `collect` and `clean` run with section `clean` of params.yaml, which is what `stillroom run` runs by
default; only `min_side` is 8, so that small copies are looked at and not dropped.  Two sets of originals: tiles of
photographs (benchmarks/photographs.py; every third, the others were there to choose thresholds on) and HOW_MANY of the
small images.  For each kind of edit one run on the originals and their copies; found is a copy that is paired with its
original, false is a pair of different originals, or of their copies.
Peers: imagededup's PHash at 10 of 64 bits, and cleanvision's rule (equal 8 x 8 hashes of imagehash).
"""

from __future__ import annotations

import io
import json
import shutil
import sys
import tarfile
import tempfile
from pathlib import Path

import numpy as np
import peers
import photographs
import pyarrow.parquet as pq
import stages
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter

from components.clean import search

THEIRS = """
import json, sys
from pathlib import Path
from PIL import Image
import imagehash
from imagededup.methods import PHash
hasher = PHash(verbose=False)
files = sorted(Path(sys.argv[1]).glob("*.png"))
codes = {"imagededup": [hasher.encode_image(image_file=path) for path in files],
         "cleanvision": [str(imagehash.phash(Image.open(path), hash_size=8)) for path in files]}
json.dump(codes, open(sys.argv[2], "w"))
print(len(files))
"""


def crop(image: Image.Image, share: float) -> Image.Image:
    """Without ``share`` of each side, most of it taken from the top left."""
    across, down = round(image.width * share), round(image.height * share)
    return image.crop((across * 3 // 4, down * 3 // 4, image.width - across // 4, image.height - down // 4))


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    """Once through a JPEG."""
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=quality)
    return Image.open(stream).convert("RGB")


def resized(image: Image.Image, times: float) -> Image.Image:
    """Scaled by ``times``."""
    return image.resize((round(image.width * times), round(image.height * times)), Image.Resampling.BICUBIC)


def text(image: Image.Image) -> Image.Image:
    """With a line of white text over it."""
    out = image.copy()
    size = max(6, image.height // 9)
    ImageDraw.Draw(out).text(
        (image.width // 12, image.height * 2 // 3), "(c) somebody", (255, 255, 255), font_size=size
    )
    return out


def border(image: Image.Image) -> Image.Image:
    """In a black frame of a sixteenth."""
    out = Image.new("RGB", (image.width * 9 // 8, image.height * 9 // 8))
    out.paste(image, (image.width // 16, image.height // 16))
    return out


EDITS = {
    "JPEG 80": lambda x: jpeg(x, 80), "JPEG 50": lambda x: jpeg(x, 50), "JPEG 30": lambda x: jpeg(x, 30),
    "half size": lambda x: resized(x, 0.5), "quarter size": lambda x: resized(x, 0.25),
    "double size": lambda x: resized(x, 2), "crop 5 %": lambda x: crop(x, 0.05), "crop 10 %": lambda x: crop(x, 0.1),
    "crop 20 %": lambda x: crop(x, 0.2), "mirrored": lambda x: x.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "upside down": lambda x: x.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
    "turn 90": lambda x: x.transpose(Image.Transpose.ROTATE_270),
    "turn 180": lambda x: x.transpose(Image.Transpose.ROTATE_180),
    "turn 270": lambda x: x.transpose(Image.Transpose.ROTATE_90),
    "5 degrees": lambda x: x.rotate(5, Image.Resampling.BICUBIC), "border": border, "text": text,
    "grey": lambda x: x.convert("L").convert("RGB"),
    "brighter": lambda x: ImageEnhance.Contrast(ImageEnhance.Brightness(x).enhance(1.2)).enhance(1.2),
    "blur": lambda x: x.filter(ImageFilter.GaussianBlur(max(1.0, x.height / 200))),
    "crop, grey, JPEG": lambda x: jpeg(crop(x, 0.1).convert("L").convert("RGB"), 60),
    "mirrored, crop, text": lambda x: text(crop(x, 0.1).transpose(Image.Transpose.FLIP_LEFT_RIGHT)),
}  # fmt: skip


def main() -> None:
    """Print a table for each set."""
    tiles, owners = photographs.tiles(per_photograph=16)
    _table(
        f"{len(tiles[1::3])} tiles of {len(set(owners[1::3]))} photographs",
        [Image.fromarray(each) for each in tiles[1::3]],
    )
    if len(sys.argv) > 2:
        _table(f"{sys.argv[2]} images of 32 px", _small(Path(sys.argv[1]), int(sys.argv[2])))
    print(peers.machine())


def _small(path: Path, count: int) -> list[Image.Image]:
    with tarfile.open(path) as tar:
        members = sorted((each for each in tar if each.isfile()), key=lambda each: each.name)[:: 60_000 // count][
            -count:
        ]
        return [Image.open(io.BytesIO(tar.extractfile(each).read())).convert("RGB") for each in members]


def _table(title: str, originals: list[Image.Image]) -> None:
    count = len(originals)
    ours, theirs = {}, {"imagededup": {}, "cleanvision": {}}
    copies = {name: [edit(picture) for picture in originals] for name, edit in EDITS.items()}
    codes = _codes([*originals, *(copy for each in copies.values() for copy in each)])
    false: set[tuple[int, int]] = set()
    with tempfile.TemporaryDirectory() as root:
        for number, name in enumerate(EDITS, start=1):
            pairs = _pairs([*originals, *copies[name]], Path(root))
            ours[name] = len({b for a, b in pairs if b == a + count}) / count
            false |= {(a % count, b % count) for a, b in pairs if a % count != b % count}
            for peer, all_codes in codes.items():
                distance = search.hamming(all_codes[:count], all_codes[number * count : (number + 1) * count])
                theirs[peer][name] = float((distance <= (10 if peer == "imagededup" else 0)).mean())
    print(f"\n{title}, {count * (count - 1) // 2:,} pairs\n")
    print("| edit | imagededup | cleanvision's rule | here |\n|---|---|---|---|")
    for name in EDITS:
        print(f"| {name} | {theirs['imagededup'][name]:.3f} | {theirs['cleanvision'][name]:.3f} | {ours[name]:.3f} |")
    means = [float(np.mean(list(each.values()))) for each in (*theirs.values(), ours)]
    print("| **mean** | " + " | ".join(f"{mean:.3f}" for mean in means) + " |")
    print("| here / peer | " + " | ".join(f"{means[2] / mean:.2f}" for mean in means) + " |")
    wrong = []
    for peer, radius in (("imagededup", 10), ("cleanvision", 0)):
        found = search.within(codes[peer][:count], codes[peer][:count], radius)
        wrong.append(int((found.a < found.b).sum()))
    print(f"| false pairs | {wrong[0]} | {wrong[1]} | {len(false)} {sorted(false)[:6] or ''} |", flush=True)


def _pairs(pictures: list[Image.Image], root: Path) -> set[tuple[int, int]]:
    """The pairs of positions that the default rule finds among ``pictures``; ``root`` keeps what is known of each."""
    for name in ("source", "data"):
        shutil.rmtree(root / name, ignore_errors=True)
        (root / name).mkdir()
    for at, picture in enumerate(pictures):
        (root / f"source/{at:05d}.png").write_bytes(_png(picture))
    stages.run(root, ("collect", "clean"))
    table = pq.read_table(root / "data/clean/pairs.parquet")
    return set(zip(table["a"].to_pylist(), table["b"].to_pylist(), strict=True))


def _codes(pictures: list[Image.Image]) -> dict[str, np.ndarray]:
    with tempfile.TemporaryDirectory() as folder:
        for at, picture in enumerate(pictures):
            picture.save(Path(folder) / f"{at:05d}.png", compress_level=1)
        out = Path(folder) / "codes.json"
        peers.run(peers.python("imagededup", "imagededup==0.3.3.post2", "imagehash"), THEIRS, folder, str(out))
        found = json.loads(out.read_text("utf-8"))
    return {
        name: np.frombuffer(bytes.fromhex("".join(codes)), np.uint8).reshape(-1, 8) for name, codes in found.items()
    }


def _png(picture: Image.Image) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, "PNG", compress_level=1)
    return stream.getvalue()


if __name__ == "__main__":
    main()
