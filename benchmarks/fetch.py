"""Downloading a list of URLs: img2dataset and ours, on the same 2,000 images and the same hostile servers.

    python benchmarks/fetch.py cifar10-jpg.tar [--images 2000]

A server of its own process answers on eight addresses of loopback. Both sides get 32 threads, one process, two
retries and 3 seconds; img2dataset neither decodes nor packs anew, its fastest way. The hostile cases are run by
themselves, for what becomes of each, and mixed into the images, for what they cost the others.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import peers

SERVER = Path(__file__).with_name("webserver.py")
CASES = {
    "wrong-type": "an image called text/html", "cut": "cut off once, then whole", "down": "503, then an image",
    "busy": "429 with Retry-After, then an image", "cut-always": "always cut off", "html": "HTML called image/jpeg",
    "empty": "nothing, with 200", "gone": "404", "noai": "X-Robots-Tag: noai", "forbidden": "robots.txt says no",
    "moved-round": "a redirect to itself", "moved-file": "a redirect to file://", "moved-ftp": "a redirect to ftp://",
    "bomb": "1 GiB of zeros in gzip", "length-lie": "a length of 1 PB", "endless": "a body without end (300 MiB)",
    "endless-chunks": "chunks without end (300 MiB)", "drip": "a byte each 0.1 s, 12 s",
    "drip-header": "a header byte each 0.1 s, 12 s",
}  # fmt: skip
THEIRS = """
import json, sys, time
from pathlib import Path
import pandas
from img2dataset import download
def main():
    began = time.monotonic()
    download(url_list=sys.argv[1], input_format="txt", output_folder=sys.argv[2], output_format="webdataset",
             processes_count=1, thread_count=32, timeout=3, retries=2, disable_all_reencoding=True, extract_exif=False,
             number_sample_per_shard=1000, user_agent_token="img2dataset",
             disallowed_header_directives=["noai", "noimageai"])
    seconds = time.monotonic() - began
    table = pandas.concat(pandas.read_parquet(path) for path in Path(sys.argv[2]).glob("*.parquet"))
    came = {url: "taken" if status == "success" else str(error)[:60]
            for url, status, error in zip(table.url, table.status, table.error_message)}
    print("\\n" + json.dumps({"seconds": seconds, "came": came}))
if __name__ == "__main__":
    main()
"""
OURS = """
import json, sys, time
from pathlib import Path
from types import SimpleNamespace
from components.collect.web.gather import fetch_all
from components.collect.web.urllist import UrlList, read_list
source = SimpleNamespace(name="web", location="list.txt", url_column=None, text_column=None, label_column=None,
                         group_column=None, seconds=3.0, attempts=3, private=sys.argv[3] == "private", obey=True)
began = time.monotonic()
rows, refusals = read_list("list.txt", Path(sys.argv[1]).read_bytes(), source)
fetch_all(source, rows, Path(sys.argv[2]), max_bytes=2**24)
seconds = time.monotonic() - began
items, refusals = UrlList(rows, refusals, Path(sys.argv[2]), name="web").listing()
came = {item.key: "taken" for item in items} | {each.key: f"{each.reason}: {each.detail}"[:60] for each in refusals}
print(json.dumps({"seconds": seconds, "came": came}))
"""


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tar", type=Path, help="a tar with JPEG files")
    parser.add_argument("--images", type=int, default=2000)
    options = parser.parse_args()
    theirs, ours = peers.python("img2dataset", "img2dataset"), Path(sys.executable)
    sides = {"img2dataset": (theirs, THEIRS), "ours": (ours, OURS)}
    found: dict[str, dict[str, Any]] = {side: {} for side in sides}
    for side, (interpreter, script) in sides.items():
        for kind in ("start", "images", "cases", "mixed"):
            found[side][kind] = measure(interpreter, script, kind, options)
            print(
                side,
                kind,
                {k: v for k, v in found[side][kind].items() if k in ("wall", "cpu", "seconds")},
                file=sys.stderr,
            )
    print_speed(found, options.images)
    print("\nA drip ends after 12 s here; on the web it does not.")
    print_cases(found)
    inner = {side: measure(*sides[side], "inner", options)["came"] for side in sides}
    print_inner(inner)
    print(f"\n{peers.machine()}")


def measure(interpreter: Path, script: str, kind: str, options: argparse.Namespace) -> dict[str, Any]:
    """What came of the list ``kind``, the seconds inside, the CPU seconds of the whole process tree."""
    with server(options) as (port, stats), tempfile.TemporaryDirectory() as folder:
        urls = {
            "start": [f"http://127.0.0.1:{port}/image/0.jpg"],
            "images": pictures(port, options.images),
            "cases": [case(port, name) for name in CASES],
            "mixed": mixed(pictures(port, options.images), [case(port, name) for name in CASES]),
            "inner": [
                f"http://{host}:{port}/image/0.jpg" for host in ("127.0.0.1", "localhost", "0x7f.1", "2130706433")
            ],
        }[kind]
        (Path(folder) / "list.txt").write_text("\n".join(urls))
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        arguments = (f"{folder}/list.txt", f"{folder}/out", "public" if kind == "inner" else "private")
        answer = peers.run(interpreter, script, *arguments)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {**answer, "cpu": cpu, "port": port, "stats": stats}


@contextlib.contextmanager
def server(options: argparse.Namespace) -> Iterator[tuple[int, dict]]:
    """A fresh server's port, and a dict that holds its statistics in the end."""
    command = [sys.executable, str(SERVER), str(options.tar), str(options.images)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        stats: dict = {}
        port = int(child.stdout.readline())
        time.sleep(0.2)
        try:
            yield port, stats
        finally:
            time.sleep(0.5)  # the server sees who hung up
            stats.update(json.loads(child.communicate("", timeout=60)[0].splitlines()[-1]))


def pictures(port: int, count: int) -> list[str]:
    """The URLs of ``count`` images, in turn on each address."""
    return [f"http://127.0.0.{1 + at % 8}:{port}/image/{at}.jpg" for at in range(count)]


def case(port: int, name: str) -> str:
    """The URL of a hostile case, on an address of its own among four."""
    return f"http://127.0.0.{1 + list(CASES).index(name) % 4}:{port}/case/{name}"


def mixed(urls: list[str], hostile: list[str]) -> list[str]:
    """``hostile`` spread evenly over ``urls``."""
    step = len(urls) // len(hostile)
    for at, url in enumerate(hostile):
        urls.insert(at * (step + 1), url)
    return urls


def print_speed(found: dict, count: int) -> None:
    """Images a second and CPU seconds."""
    print(f"\n| {count:,} images | img2dataset | ours | ratio |\n|---|---|---|---|")
    theirs, ours = found["img2dataset"], found["ours"]
    for kind, name in (("images", "alone"), ("mixed", "with the hostile cases among them")):
        rates = [side[kind]["came"] for side in (theirs, ours)]
        taken = [sum(came == "taken" and "/image/" in url for url, came in each.items()) for each in rates]
        speed = [n / side[kind]["seconds"] for n, side in zip(taken, (theirs, ours), strict=True)]
        print(f"| {name}: images/s | {speed[0]:.0f} | {speed[1]:.0f} | {speed[1] / speed[0]:.1f} |")
        print(f"| {name}: images taken | {taken[0]} | {taken[1]} | |")
        cpu = [side[kind]["cpu"] for side in (theirs, ours)]
        print(f"| {name}: CPU s, start included | {cpu[0]:.2f} | {cpu[1]:.2f} | {cpu[0] / cpu[1]:.1f} |")
    start = [side["start"]["cpu"] for side in (theirs, ours)]
    print(f"| one image: CPU s of starting | {start[0]:.2f} | {start[1]:.2f} | {start[0] / start[1]:.1f} |")


def print_cases(found: dict) -> None:
    """What each side makes of each hostile case."""
    print("\n| case | img2dataset | ours |\n|---|---|---|")
    for name, what in CASES.items():
        cells = []
        for side in ("img2dataset", "ours"):
            run = found[side]["cases"]
            asked, sent, held = run["stats"].get(f"/case/{name}", (0, 0, 0.0))
            came = run["came"].get(case(run["port"], name), "not in its tables")
            cells.append(f"{came} ({asked:.0f} asked, {sent / 2**20:.1f} MiB, held {held:.1f} s)")
        print(f"| {what} | {' | '.join(cell.replace('|', '/') for cell in cells)} |")


def print_inner(inner: dict) -> None:
    """Addresses of this machine in a list that must not lead there."""
    for side, came in inner.items():
        print(f"\nAddresses of this machine in a public list, {side}:")
        for url, what in sorted(came.items()):
            print(f"- {url.split('/')[2].rsplit(':', 1)[0]}: {what}")


if __name__ == "__main__":
    main()
