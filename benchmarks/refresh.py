"""What a refresh costs when one image in a hundred is new: python benchmarks/refresh.py cifar10.tar [--keep FOLDER]

A full build of 99 % of the archive, then a refresh with the last 1 % as a second source, each stage a fork of one
process as a run starts it (flows/dvc/forks.py); what that process itself takes is a row.  CPU seconds are those of a
stage and all its descendants; DVC's own time is not in them (it hashes what changed).  Prints a Markdown table, and
checks that no old image moved and that no pair leaks.
With --keep the folder stays, with ``rates.json``, for benchmarks/splits.py and benchmarks/scale.py.
With --known FILE, a JSON list of [name, name] of pairs that are known to show the same (the end of each name in the
archive, as ciFAIR's list for CIFAR-10), it prints how many of them are in one group, and how many cross splits.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import os
import re
import resource
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import peers
import psutil
import pyarrow.parquet as pq

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from components.base import config  # noqa: E402
from components.pipeline import STATE, stage  # noqa: E402
from flows.dvc import forks  # noqa: E402

BUILD = ("look", "collect", "clean", "resize", "split")
MORE = ("profile", "describe")
SHARED = "what the stages share"
PEAKS: dict[str, int] = {}
"""Most bytes that a stage's own process had in memory, the last time it ran."""
LOOK = """
from pathlib import Path
from components.collect import look
from components.base import config
from components.collect.params import CollectParams
root = Path.cwd()
params = config.section(config.read(root / config.FILE), "collect", CollectParams)
look.look(params, root=root, page=root / "data/source.json", cache=root / ".stillroom/looked.json")
"""


def main() -> None:
    """Build, refresh, check, print."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("archive", type=Path, help="a tar of images")
    options.add_argument("--keep", type=Path, help="work in this new folder and leave it")
    options.add_argument("--known", type=Path, help="a JSON list of pairs of names that show the same")
    given = options.parse_args()
    known = json.loads(given.known.read_text("utf-8")) if given.known else []
    # Workers come from a fork server that nobody waits for: as their reaper this process gets their times.
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER
    if given.keep:
        given.keep.mkdir(parents=True)
        _measure(given.archive.resolve(), given.keep.resolve(), known)
        return
    with tempfile.TemporaryDirectory() as folder:
        _measure(given.archive.resolve(), Path(folder), known)


def _measure(archive: Path, root: Path, known: list[list[str]]) -> None:
    old, new = _cut(archive, root)
    (root / STATE).mkdir()
    (root / "data").mkdir()
    for name in ("withdrawn", "decisions"):
        (root / f"data/{name}.jsonl").touch()
    _write_params(root, ["old"])
    full = _run(root)
    before = _splits(root)
    rates = {
        "images": old,
        "seconds": {name: full[name] for name in (*BUILD, *MORE)},
        "bytes": _sizes(root),
        "memory": dict(PEAKS),
    }
    (root / "rates.json").write_text(json.dumps(rates, indent=1) + "\n")
    _write_params(root, ["old", "new"])
    again = _run(root)
    after = _splits(root)
    moved = sum(after[name] != split for name, split in before.items())
    leaking, pairs = _leaks(root)
    _print(full, again, old, new)
    quarantined = sum(split == "quarantine" for split in after.values())
    print(f"\nold images moved: {moved} of {len(before):,}; leaking pairs: {leaking} of {pairs:,}; "
          f"quarantined: {quarantined} of {len(after):,} ({quarantined / len(after):.3%})\n")  # fmt: skip
    if known:
        _print_known(root, known)
    print(peers.machine())
    assert not moved and not leaking, "an old image moved, or a pair leaks"


def _cut(archive: Path, root: Path) -> tuple[int, int]:
    """Write old.tar and new.tar, the last hundredth of the images by name; how many each holds."""
    with tarfile.open(archive) as whole:
        members = [member for member in whole if member.isfile()]
        images = sorted(m.name for m in members if m.name.endswith((".jpg", ".png")))
        # Spread over the classes: the sorted names, every hundredth.
        new = set(images[:: max(2, 100)])
        with tarfile.open(root / "old.tar", "w") as first, tarfile.open(root / "new.tar", "w") as second:
            for member in members:
                if member.name in new:
                    second.addfile(member, whole.extractfile(member))
                else:
                    first.addfile(member, whole.extractfile(member))
    return len(images) - len(new), len(new)


def _write_params(root: Path, names: list[str]) -> None:
    sections = config.read(ROOT / config.FILE)
    known = {"kind": "files", "licence": "unknown", "matte": "#ffffff", "text_column": None, "label_column": None,
             "group_column": None}  # fmt: skip
    sections["collect"]["sources"] = [{**known, "name": name, "location": f"{name}.tar"} for name in names]
    (root / config.FILE).write_text(json.dumps(sections))


def _run(root: Path) -> dict[str, float]:
    """Bring all stages up to date in ``root``; the CPU seconds of each and its descendants, and of what they share."""
    env = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    env["PATH"] = os.pathsep.join((str(Path(sys.executable).parent), env["PATH"]))
    start = _spent()
    subprocess.run([sys.executable, "-c", LOOK], cwd=root, env=env, check=True, stderr=subprocess.DEVNULL)
    found = {"look": _spent() - start}
    start = _spent()
    shared = forks.Forks(str(root), env)
    for name in (*BUILD[1:], *MORE):
        before, began = _spent(shared.process.pid), time.monotonic()
        with _peak(shared.process.pid, name):
            code = shared.run(name, env)
        if code:
            raise SystemExit(f"{name} ended with {code}; run it by hand in {root}")
        found[name] = _spent(shared.process.pid) - before
        print(f"{name}: {found[name]:.2f} CPU s, {time.monotonic() - began:.1f} s", file=sys.stderr)
    shared.close()
    return {**found, SHARED: _spent() - start - sum(found[name] for name in (*BUILD[1:], *MORE))}


def _spent(forking: int | None = None) -> float:
    """CPU seconds of all that has ended below this process, and below the process ``forking``."""
    with contextlib.suppress(ChildProcessError):  # what a stage has left to us
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    ended = psutil.Process(forking).cpu_times() if forking else None
    return used.ru_utime + used.ru_stime + (ended.children_user + ended.children_system if ended else 0)


@contextlib.contextmanager
def _peak(forking: int, name: str) -> Iterator[None]:
    """Put the most bytes that the fork of ``forking`` had in memory into PEAKS, as it was 20 ms before its end."""
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.02):
            with contextlib.suppress(OSError, psutil.Error):
                for child in psutil.Process(forking).children():
                    found = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{child.pid}/status").read_text())
                    PEAKS[name] = int(found[1]) * 1024 if found else PEAKS.get(name, 0)

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        yield
    finally:
        ended.set()
        watching.join()


def _sizes(root: Path) -> dict[str, int]:
    folders = [path for name in (*BUILD[1:], *MORE) for path in stage(name).writes.values()] + [f"{STATE}/facts"]
    return {
        path: sum(each.stat().st_size for each in [root / path, *(root / path).rglob("*")] if each.is_file())
        for path in folders
    }


def _splits(root: Path) -> dict[tuple[int, str], str]:
    table = pq.read_table(root / "data/splits/splits.parquet", columns=["arrival", "sha256", "split"]).to_pydict()
    return {(table["arrival"][at], table["sha256"][at]): table["split"][at] for at in range(len(table["split"]))}


def _leaks(root: Path) -> tuple[int, int]:
    """Pairs whose ends lie in two of train, val and test; and how many pairs there are."""
    split_of = {arrival: split for (arrival, _), split in _splits(root).items()}
    pairs = pq.read_table(root / "data/clean/pairs.parquet", columns=["a", "b"]).to_pydict()
    ends = [(split_of.get(a), split_of.get(b)) for a, b in zip(pairs["a"], pairs["b"], strict=True)]
    used = ("train", "val", "test")
    return sum(one in used and other in used and one != other for one, other in ends), len(ends)


def _print_known(root: Path, known: list[list[str]]) -> None:
    """How many of the ``known`` pairs are in one group, and how many have ends in two of train, val and test."""
    table = pq.read_table(root / "data/clean/verdicts.parquet", columns=["arrival", "source_key", "group"]).to_pydict()
    ends = {name for pair in known for name in pair[:2]}
    at = {name: row for row, key in enumerate(table["source_key"]) for name in [key, *_ends(key)] if name in ends}
    rows = [(at[one], at[other]) for one, other, *_ in known]
    grouped = sum(table["group"][one] == table["group"][other] for one, other in rows)
    split_of = {arrival: split for (arrival, _), split in _splits(root).items()}
    splits = [{split_of.get(table["arrival"][row]) for row in pair} & {"train", "val", "test"} for pair in rows]
    crossing = sum(len(each) > 1 for each in splits)
    print(f"known pairs: {len(rows)}; in one group: {grouped} ({grouped / len(rows):.3f}); across splits: {crossing}\n")


def _ends(key: str) -> list[str]:
    parts = key.split("/")
    return ["/".join(parts[at:]) for at in range(1, len(parts))]


def _print(full: dict[str, float], again: dict[str, float], old: int, new: int) -> None:
    print(f"| stage | full build, {old:,} images, CPU s | refresh, {new:,} new, CPU s | ratio |\n|---|---|---|---|")
    for name in (SHARED, *BUILD):
        print(f"| {name} | {full[name]:.2f} | {again[name]:.2f} | {again[name] / full[name]:.1%} |")
    one, other = (sum(spent[name] for name in (SHARED, *BUILD)) for spent in (full, again))
    print(f"| **together** | **{one:.2f}** | **{other:.2f}** | **{other / one:.1%}** |")
    for name in MORE:
        print(f"| {name} (beside it) | {full[name]:.2f} | {again[name]:.2f} | {again[name] / full[name]:.1%} |")


if __name__ == "__main__":
    main()
