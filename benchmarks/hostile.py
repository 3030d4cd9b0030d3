"""Every image of a folder or tar.gz through the pixel rule, counted by outcome.

    pip download pillow --no-binary :all: --no-deps
    python benchmarks/hostile.py pillow-*.tar.gz

Pillow's source holds over a thousand images that broke some decoder once.  Each is decoded in a worker process, as in
stage `clean`; an outcome other than pixels or a reason would be an error here.
"""

from __future__ import annotations

import argparse
import tarfile
import time
from collections import Counter
from functools import partial
from pathlib import Path

from peers import machine

from components.base import parallel
from components.base.workers import Loss
from components.decode import images

MAX_PIXELS = 50_000_000


def main() -> None:
    """Print the table of outcomes; with --list, the outcome of each file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path, help="a folder, or a tar.gz with a folder Tests/images")
    parser.add_argument("--list", action="store_true", help="also print each file's outcome")
    options = parser.parse_args()
    names, items = zip(*_read(options.source), strict=True)
    started = time.monotonic()
    outcomes: list[tuple[str, str]] = []
    for results in parallel.ordered(partial(outcome, max_pixels=MAX_PIXELS), parallel.batched(items), lost=_lost):
        outcomes.extend(results)
    seconds = time.monotonic() - started
    if options.list:
        for name, (reason, detail) in zip(names, outcomes, strict=True):
            print(f"{reason:14} {name}: {detail}")
    print("| outcome | files |\n|---|---|")
    for reason, count in sorted(Counter(reason for reason, _ in outcomes).items()):
        print(f"| {reason} | {count} |")
    print(f"| all, in {seconds:.1f} s | {len(outcomes)} |\n\n{machine()}")


def outcome(batch: list[tuple[bytes, str]], *, max_pixels: int) -> list[tuple[str, str]]:
    """(reason, detail) of each image: 'pixels' and their kind, or why there are none."""
    return [_outcome(data, matte, max_pixels) for data, matte in batch]


def _outcome(data: bytes, matte: str, max_pixels: int) -> tuple[str, str]:
    try:
        picture = images.decode(data, matte, max_pixels=max_pixels)
    except images.Damaged as damaged:
        return damaged.reason, damaged.detail
    height, width = picture.pixels.shape[:2]
    return "pixels", f"{picture.format} {picture.mode} {width} x {height} {picture.note}"


def _lost(item: tuple[bytes, str], loss: Loss) -> tuple[str, str]:
    return "worker lost", images.lost(item, loss)[1]


def _read(source: Path) -> list[tuple[str, tuple[bytes, str]]]:
    if source.is_dir():
        paths = sorted(path for path in source.rglob("*") if path.is_file())
        return [(str(path.relative_to(source)), (path.read_bytes(), "#ffffff")) for path in paths]
    with tarfile.open(source) as archive:
        members = sorted((each for each in archive if each.isfile()), key=lambda each: each.name)
        wanted = [each for each in members if "/Tests/images/" in each.name]
        return [(each.name, (archive.extractfile(each).read(), "#ffffff")) for each in wanted]


if __name__ == "__main__":
    main()
