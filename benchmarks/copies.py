"""Edited copies: how many of each kind are found, and how many pairs of different pictures are taken for one.

    PYTHONPATH=. python benchmarks/copies.py TAR_OF_SMALL_IMAGES [HOW_MANY]

Two sets of originals: tiles of photographs (benchmarks/photographs.py; every third, the others were there to choose
thresholds on) and 1,000 of the small images, the last of the tar.  For each kind of edit a set of originals and their
copies; found is a copy that is paired with its original.  False pairs are counted among all originals.
Peers: imagededup's PHash at 10 of 64 bits, and cleanvision's rule (equal 8 x 8 hashes of imagehash).
"""

from __future__ import annotations

import io
import json
import sys
import tarfile
import tempfile
from pathlib import Path

import numpy as np
import peers
import photographs
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter

from components.clean import embedding, fingerprints, keypoints, search, verify
from components.clean.verify import Look, Rule

RULE = Rule(max_distance=72, max_difference=0.06, min_correlation=0.8, min_inliers=12)
COSINE = 0.4
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


class Prints:
    """What `clean` knows of each picture, made here from pixels."""

    def __init__(self, pictures: list[Image.Image]) -> None:
        arrays = [np.asarray(picture) for picture in pictures]
        self.thumbs = np.stack([fingerprints.thumbnail(array) for array in arrays])
        self.hashes = fingerprints.hashes(self.thumbs)
        vectors = embedding.embed([(_png(picture), "#ffffff") for picture in pictures], name="efficientnet_lite0")
        self.units = embedding.whole(vectors["vector"])
        large = min(arrays[0].shape[:2]) >= verify.LARGE
        self.looks = [
            Look(thumb, array.shape[1], array.shape[0], keypoints.corners(array) if large else None)
            for thumb, array in zip(self.thumbs, arrays, strict=True)
        ]


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
    mine = Prints(originals)
    ours, theirs = {}, {"imagededup": {}, "cleanvision": {}}
    copies = {name: [edit(picture) for picture in originals] for name, edit in EDITS.items()}
    codes = _codes([*originals, *(copy for each in copies.values() for copy in each)])
    for number, name in enumerate(EDITS, start=1):
        found = _among(mine, Prints(copies[name]))
        ours[name] = len({a for a, b in found if a == b}) / count
        for peer, all_codes in codes.items():
            distance = search.hamming(all_codes[:count], all_codes[number * count : (number + 1) * count])
            theirs[peer][name] = float((distance <= (10 if peer == "imagededup" else 0)).mean())
    print(f"\n{title}, {count * (count - 1) // 2:,} pairs\n")
    print("| edit | imagededup | cleanvision's rule | here |\n|---|---|---|---|")
    for name in EDITS:
        print(f"| {name} | {theirs['imagededup'][name]:.3f} | {theirs['cleanvision'][name]:.3f} | {ours[name]:.3f} |")
    means = [np.mean(list(each.values())) for each in (*theirs.values(), ours)]
    print("| **mean** | " + " | ".join(f"{mean:.3f}" for mean in means) + " |")
    false = sorted({(a, b) for a, b in _among(mine, mine) if a < b})
    wrong = []
    for peer, radius in (("imagededup", 10), ("cleanvision", 0)):
        found = search.within(codes[peer][:count], codes[peer][:count], radius)
        wrong.append(int((found.a < found.b).sum()))
    print(f"| false pairs | {wrong[0]} | {wrong[1]} | {len(false)} {false[:6] or ''} |", flush=True)


def _among(one: Prints, other: Prints) -> set[tuple[int, int]]:
    """Pairs (position in ``one``, position in ``other``) that are verified."""
    queries = fingerprints.all_hashes(other.thumbs)
    near = search.within(queries.reshape(-1, 32), one.hashes, RULE.max_distance)
    number = len(other.thumbs)
    rows = {(a, b % number, b // number) for a, b in zip(near.a.tolist(), near.b.tolist(), strict=True)}
    likeness = other.units @ one.units.T
    if one is other:
        np.fill_diagonal(likeness, 0)
    for b, a in zip(*np.nonzero(likeness >= COSINE * 512**2), strict=True):
        if likeness[b, a] >= np.partition(likeness[b], -embedding.NEAREST)[-embedding.NEAREST]:
            bits = search.hamming(queries[:, b], one.hashes[a][None])
            rows |= {(int(a), int(b), 0), (int(a), int(b), 1), (int(a), int(b), int(bits.argmin()))}
    rows = sorted(row for row in rows if one is not other or row[0] < row[1])
    batch = [(one.looks[a], other.looks[b], turn, 256) for a, b, turn in rows]
    verdicts = [verify.verify(batch[at : at + 256], rule=RULE) for at in range(0, len(batch), 256)]
    kept = np.concatenate(verdicts)["found"] if verdicts else []
    return {row[:2] for row, found in zip(rows, kept, strict=True) if found}


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
