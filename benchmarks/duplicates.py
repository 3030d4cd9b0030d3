"""How the thresholds of `clean` were chosen: run in the project's folder after stage `collect`.

    python benchmarks/duplicates.py

Prints what separates copies from variants (section 'copies'), and what each rule for groups makes of the
images (section 'groups').  Families: for the embedded emoji, the skin tones of one emoji share a base codepoint.
"""

from __future__ import annotations

import csv
import functools
import hashlib
import io
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

from components import duplicates, fingerprints, images, shards
from components.grouping import Groups
from components.split import decide

RAW = Path("data/raw")
SOURCE = Path("data/samples/noto-emoji-64.zip")
SHARES = {"train": 0.8, "val": 0.1, "test": 0.1}
EDITS = {
    "JPEG 95": ("JPEG", {"quality": 95}), "JPEG 85": ("JPEG", {"quality": 85}), "WEBP 80": ("WEBP", {"quality": 80}),
    "GIF": ("GIF", {}), "half size": 0.5, "double size": 2.0,
}  # fmt: skip


def main() -> None:
    """Print both tables."""
    keys, pictures = _read()
    hashes = np.array([fingerprints.perceptual_hash(picture) for picture in pictures], np.uint64)
    thumbs = np.stack([fingerprints.thumbnail(picture) for picture in pictures])
    print(f"{len(pictures)} pictures with different pixels\n\ncopies: bits and colour difference from the original")
    for name, edit in EDITS.items():
        _print_edit(name, edit, pictures[::10], hashes[::10], thumbs[::10])
    rule = duplicates.Rule(64, 1.0, 64, 1.0)
    near = [pair for pair in duplicates.find_pairs(hashes, thumbs, rule) if pair.distance <= 8]
    closest = sorted(pair.difference for pair in near)[:5]
    print(f"different pictures within 8 bits: {len(near)} pairs, smallest differences {closest}")
    print("\ngroups: bits, correlation, groups, largest, families held together, quarantined")
    for bits in (8, 10, 12, 14):
        for correlation in (-1.0, 0.8, 0.9, 0.95):
            _print_groups(keys, hashes, thumbs, bits, correlation)


def _read() -> tuple[list[str], list[np.ndarray]]:
    rows = shards.read_index(RAW).to_pylist()
    found = dict(shards.read_bytes(RAW, [(row["shard"], row["row"]) for row in rows]))
    keys, pictures, seen = [], [], set()
    for at, row in enumerate(rows):
        pixels = images.decode(found[at], row["matte"], max_pixels=10**8).pixels
        name = fingerprints.pixel_sha256(pixels)
        if name not in seen:
            seen.add(name)
            keys.append(row["source_key"])
            pictures.append(pixels)
    return keys, pictures


def _edited(pixels: np.ndarray, edit: float | tuple[str, dict]) -> np.ndarray:
    image = Image.fromarray(pixels)
    if isinstance(edit, float):
        size = (round(image.width * edit), round(image.height * edit))
        return np.asarray(image.resize(size, Image.Resampling.BICUBIC))
    stream = io.BytesIO()
    image.save(stream, edit[0], **edit[1])
    return np.asarray(Image.open(stream).convert("RGB"))


def _print_edit(name: str, edit: float | tuple, pictures: list, hashes: np.ndarray, thumbs: np.ndarray) -> None:
    bits, differences, grouped = [], [], []
    for picture, own_hash, thumb in zip(pictures, hashes, thumbs, strict=True):
        copy = _edited(picture, edit)
        bits.append(int(np.bitwise_count(np.uint64(fingerprints.perceptual_hash(copy)) ^ own_hash)))
        differences.append(np.abs(fingerprints.thumbnail(copy).astype(int) - thumb).max() / 255)
        two = (
            np.array([own_hash, fingerprints.perceptual_hash(copy)], np.uint64),
            np.stack([thumb, fingerprints.thumbnail(copy)]),
        )
        grouped.append(bool(duplicates.find_pairs(*two, duplicates.Rule(8, 0.06, 12, 0.9))))
    both = np.mean((np.array(bits) <= 8) & (np.array(differences) <= 0.06))
    middle, high = np.percentile(differences, [50, 99])
    print(
        f"  {name:12} bits: median {np.median(bits):.0f}, 99 % {np.percentile(bits, 99):.0f}; "
        f"difference: median {middle:.3f}, 99 % {high:.3f}; "
        f"taken for a copy: {both:.0%}, in one group: {np.mean(grouped):.0%}"
    )


def _print_groups(keys: list, hashes: np.ndarray, thumbs: np.ndarray, bits: int, correlation: float) -> None:
    pairs = duplicates.find_pairs(hashes, thumbs, duplicates.Rule(8, 0.06, bits, correlation))
    ends = [(pair.a, pair.b) for pair in pairs]
    groups = Groups(len(keys))
    groups.join_all(ends)
    founders = [groups.founder(at) for at in range(len(keys))]
    sizes = Counter(founders)
    names = [hashlib.sha256(key.encode()).hexdigest() for key in keys]
    places = decide(names, ends, salt="stillroom", shares=SHARES)
    quarantined = sum(place.split == "quarantine" for place in places)
    families: dict[str, set[int]] = {}
    for key, founder in zip(keys, founders, strict=True):
        families.setdefault(_bases().get(key, key), set()).add(founder)
    several = Counter(_bases().get(key, key) for key in keys)
    together = [len(families[base]) == 1 for base, count in several.items() if count > 1]
    print(f"  {bits:3} {correlation:5.2f} {len(sizes):6} {max(sizes.values()):6} "
          f"{np.mean(together) if together else 1:8.1%} {quarantined:6}")  # fmt: skip


@functools.cache
def _bases() -> dict[str, str]:
    text = zipfile.ZipFile(SOURCE).read("metadata.csv").decode()
    return {row["file_name"]: row["base_codepoint"] for row in csv.DictReader(io.StringIO(text))}


if __name__ == "__main__":
    main()
