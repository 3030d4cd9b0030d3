"""What a schedule costs when nothing changed, from the trigger to the end, against servers that run.

    python benchmarks/schedule.py CHECKOUT    # one in which `stillroom run` has nothing to do; it is copied

Starts `stillroom serve` in the copy and triggers its deployments; then runs a flow that does nothing, in a process of
its own, against the same Prefect server.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

import peers

sys.path.insert(0, str(peers.ROOT / "tests"))
from serving import Api, served

ROUNDS = 5
EMPTY = """
from prefect import flow
@flow
def nothing(): pass
nothing()
"""
WANTED = {"retrain/nightly, trigger to done": 5.0, "a flow that does nothing, its process": 1.5,
          "retrain/nightly, trigger to running": 5.0}  # fmt: skip


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkout", type=Path)
    given = parser.parse_args().checkout.resolve()
    rows: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place, "checkout")
        shutil.copytree(given, folder, symlinks=True)
        began = time.monotonic()
        with served(folder) as (api, _):
            print(f"`stillroom serve` is ready after {time.monotonic() - began:.1f} s\n", flush=True)
            api.ended(api.trigger("retrain/nightly"), 600)  # a checkout that moved publishes its run where it is now
            for name in ("retrain/nightly", "refresh/hourly"):
                for _ in range(ROUNDS):
                    running, done = triggered(api, name)
                    rows.setdefault(f"{name}, trigger to running", []).append(running)
                    rows.setdefault(f"{name}, trigger to done", []).append(done)
            environment = {**os.environ, "PREFECT_API_URL": api.url, "PREFECT_API_AUTH_STRING": api.secret}
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            for _ in range(ROUNDS):
                start = time.monotonic()
                subprocess.run([sys.executable, "-c", EMPTY], env=environment, check=True, capture_output=True)
                rows.setdefault("a flow that does nothing, its process", []).append(time.monotonic() - start)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / ROUNDS
    print("| nothing to do | s, median | from | to | wanted |\n|---|---|---|---|---|")
    for name, seconds in rows.items():
        print(f"| {name} | {statistics.median(seconds):.1f} | {min(seconds):.1f} | {max(seconds):.1f} "
              f"| {WANTED.get(name, '')} |")  # fmt: skip
    print(f"\n{ROUNDS} of each; the last took {cpu:.1f} CPU s each. Load {os.getloadavg()[0]:.1f}. {peers.machine()}")


def triggered(api: Api, name: str) -> tuple[float, float]:
    """Trigger the deployment; seconds until its flow ran, and until it was done, by the server's clock."""
    run = api.trigger(name)
    assert api.ended(run)[1] == "NoOp", api.run(run)
    now = api.run(run)
    created, started, ended = (datetime.fromisoformat(now[key]) for key in ("created", "start_time", "end_time"))
    return (started - created).total_seconds(), (ended - created).total_seconds()


if __name__ == "__main__":
    main()
