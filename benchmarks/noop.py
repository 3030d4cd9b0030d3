"""What the machinery costs when there is nothing to do, and for each stage that is executed, beside `dvc repro`.

    PYTHONPATH=.:tests python benchmarks/noop.py [CHECKOUT]

CHECKOUT: one in which `stillroom run` has ended well; else a small one is made and run, below .stillroom/benchmarks.
"""

from __future__ import annotations

import argparse
import functools
import sys
import time
from pathlib import Path

import commands
import peers
from commands import ROUNDS

from components.pipeline import stage
from flows.dvc import engine
from flows.workspace.paths import State

WORK = peers.ROOT / ".stillroom" / "benchmarks" / "noop"
STAGE = "split"
measure = functools.partial(commands.measure, code=peers.ROOT)


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkout", type=Path, nargs="?", default=WORK)
    checkout = parser.parse_args().checkout.resolve()
    if not (checkout / "dvc.lock").is_file():
        from checkouts import make  # of the tests

        make(checkout)
        commands.call(checkout, *ours("run"), code=peers.ROOT)
    dvc = [sys.executable, "-m", "dvc"]
    rows = {
        "`dvc repro`": measure(checkout, *dvc, "repro", "--quiet"),
        "`stillroom run`": measure(checkout, *ours("run")),
        "`stillroom data status`": measure(checkout, *ours("data", "status")),
        "`stillroom plan`": measure(checkout, *ours("plan")),
        "`python -c pass`": measure(checkout, sys.executable, "-c", "pass"),
    }
    base = rows["`dvc repro`"]
    print("| nothing to do | wall s | CPU s | times faster (wall) | (CPU) |\n|---|---|---|---|---|")
    for name, (wall, cpu) in rows.items():
        print(f"| {name} | {wall:.2f} | {cpu:.2f} | {base[0] / wall:.1f} | {base[1] / cpu:.1f} |")
    alone, theirs, mine = stages(checkout)
    print(f"\n| stage `{STAGE}`, executed | wall s | above the command |\n|---|---|---|")
    for name, wall in (("its command alone", alone), ("`dvc repro --force --single-item`", theirs),
                       ("in a run (`engine.reproduce`)", mine)):  # fmt: skip
        print(f"| {name} | {wall:.2f} | {wall - alone:.2f} |")
    print(f"\nMedian of {ROUNDS}, interpreter start included, warm. {peers.machine()}")


def ours(*words: str) -> list[str]:
    """The command line of `stillroom words`, from this repository's code."""
    return [sys.executable, "-P", "-m", "flows.cli.app", *words]


def stages(checkout: Path) -> tuple[float, float, float]:
    """Median wall seconds of a stage's command alone, of `dvc repro` of it, and of what a run does with it."""
    alone = measure(checkout, sys.executable, "-m", "components", STAGE)[0]
    theirs = measure(checkout, sys.executable, "-m", "dvc", "repro", "--quiet", "--force", "--single-item", STAGE)[0]
    state = State(checkout)
    state.enter()
    mine = []
    for _ in range(ROUNDS + 1):
        began = time.perf_counter()
        engine.reproduce(checkout, stage(STAGE), watched=state.events, force=True)
        mine.append(time.perf_counter() - began)
    return alone, theirs, sorted(mine[1:])[ROUNDS // 2]


if __name__ == "__main__":
    main()
