"""Downloading lists of URLs: how many a minute and in how much memory, ours and img2dataset, on the same local server.

    python benchmarks/urls.py [--images 10000] [--lines 1000000]

The server is a process of its own and answers on eight addresses of loopback with JPEG files of 256 px; each side gets
the same list and 32 requests at once, img2dataset in one process and in two, neither decoding nor packing anew (its
fastest way). On two cores the server takes its part of them. Then a list of a million lines that are known but for a
few: what the look at it costs, and in what memory.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import resource
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import fetch
import numpy as np
import peers
from PIL import Image

DISTINCT = 2000  # images on the server; the lists name each several times
THEIRS = fetch.THEIRS.replace("processes_count=1", "processes_count=int(sys.argv[3])").replace(
    'print("\\n" + json.dumps({"seconds": seconds, "came": came}))',
    'print("\\n" + json.dumps({"seconds": seconds, "taken": list(came.values()).count("taken")}))',
)
OURS = """
import json, resource, sys, time
from pathlib import Path
from types import SimpleNamespace
from components.collect.sources.folders import locate
from components.collect.web import gather
source = SimpleNamespace(name="web", location="list.txt", url_column=None, text_column=None, label_column=None,
                         group_column=None, seconds=3.0, attempts=3, private=True, obey=True)
file, store = locate(sys.argv[1], Path("/"), where="list"), Path(sys.argv[2])
began, start = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
found = gather.look(source, file, store, max_bytes=2**24)
taken = found.fingerprint(None).files
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({"seconds": time.monotonic() - began, "taken": taken, "peak": peak - start}))
"""


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--lines", type=int, default=1_000_000)
    options = parser.parse_args()
    theirs, ours = peers.python("img2dataset", "img2dataset"), Path(sys.executable)
    with tempfile.TemporaryDirectory() as folder:
        options.tar, count = pictures(Path(folder)), options.images
        options.images, found = DISTINCT, {}
        for side, interpreter, script, more in (
            ("img2dataset, one process", theirs, THEIRS, ["1"]), ("img2dataset, two", theirs, THEIRS, ["2"]),
            ("ours, one process", ours, OURS, []),
        ):  # fmt: skip
            found[side] = measure(interpreter, script, options, count, more)
            print(side, found[side], file=sys.stderr)
        best = max(each["taken"] / each["seconds"] for side, each in found.items() if side != "ours, one process")
        print(f"{count:,} URLs, {options.tar.stat().st_size / DISTINCT / 1024:.0f} KiB each\n")
        print("| | URLs a minute | taken | CPU s, start included | to img2dataset's best |\n|---|---|---|---|---|")
        for side, each in found.items():
            speed = each["taken"] / each["seconds"]
            print(f"| {side} | {60 * speed:,.0f} | {each['taken']:,} | {each['cpu']:.1f} | {speed / best:.1f} |")
        print("\n| ours: a look at | lines | s | memory, MB | bytes a line |\n|---|---|---|---|---|")
        for what, lines, known in (
            ("a new list", options.lines // 10, 0), ("a list known but for 1,000", options.lines, options.lines - 1000)
        ):  # fmt: skip
            each = measure(ours, OURS, options, lines, [], known)
            assert each["taken"] == lines
            memory = f"{each['peak'] / 1000:.0f} | {each['peak'] * 1024 / lines:,.0f}"
            print(f"| {what} | {lines:,} | {each['seconds']:.0f} | {memory} |")
    print(
        "\n`s` and memory are those of the look, with the fingerprint after it, and without Python and its libraries."
    )
    print(f"\n{peers.machine()}")


def pictures(folder: Path) -> Path:
    """A tar of photograph-like JPEG files: smooth noise."""
    generator = np.random.default_rng(0)
    with tarfile.open(folder / "images.tar", "w") as archive:
        for number in range(DISTINCT):
            rough = Image.fromarray(generator.integers(0, 256, (24, 24, 3), dtype=np.uint8))
            stream = io.BytesIO()
            rough.resize((256, 256), Image.Resampling.BICUBIC).save(stream, "JPEG", quality=85)
            member = tarfile.TarInfo(f"{number}.jpg")
            member.size = len(stream.getvalue())
            archive.addfile(member, io.BytesIO(stream.getvalue()))
    return folder / "images.tar"


def measure(
    interpreter: Path, script: str, options: argparse.Namespace, count: int, more: list[str], known: int = 0
) -> dict[str, Any]:
    """What ``script`` says of a list of ``count`` URLs of which a store holds ``known``, and its CPU seconds."""
    with fetch.server(options) as (port, _), tempfile.TemporaryDirectory() as folder:
        urls = [f"http://127.0.0.{1 + at % 8}:{port}/image/{at % DISTINCT}.jpg/{at}" for at in range(count)]
        (Path(folder) / "list.txt").write_text("\n".join(urls))
        if known:
            remember(Path(folder) / "store", urls[:known])
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        answer = peers.run(interpreter, script, f"{folder}/list.txt", f"{folder}/store", *more)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {**answer, "cpu": cpu}


def remember(store: Path, urls: list[str]) -> None:
    """Write a journal that says of ``urls`` that they came, as the look writes it."""
    store.mkdir()
    with (store / "journal.jsonl").open("w") as journal:
        journal.write('{"format":1}\n')
        for at, url in enumerate(urls):
            sha256 = hashlib.sha256(url.encode()).hexdigest()
            entry = {"key": url, "sha256": sha256, "size": 15_000, "offset": 15_000 * at, "kind": "image/jpeg"}
            journal.write(json.dumps(entry, separators=(",", ":")) + "\n")
        journal.write('{"synced":true}\n')


if __name__ == "__main__":
    main()
