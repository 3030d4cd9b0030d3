"""Run benchmarks and keep what they print in benchmarks/RESULTS.md.

    python benchmarks/results.py                      # all of them
    python benchmarks/results.py search loader        # these; the sections of the others stay
    python benchmarks/results.py --images FOLDER-OR-TAR ...  # what benchmarks that need many images get

Each section holds the command, the day, the commit and the output as it was printed.
"""

from __future__ import annotations

import argparse
import datetime
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "benchmarks" / "RESULTS.md"
HEAD = """# What was measured last

Written by `python benchmarks/results.py`; every section is the output of the command in it. CPU seconds and ratios
come from one run of both sides on one machine, which the last line of each section describes. `CIFAR` stands for a
tar of CIFAR-10's 60,000 training and test images as JPEG files.
"""
PACK = ["--pixels", "data/pixels", "--splits", "data/splits"]
ONE_CORE = {"train": ["taskset", "-c", "0"]}
KEPT = ".stillroom/benchmarks/refresh"
# The arguments of each benchmark; CIFAR is what --images names. `refresh` leaves behind what the next two read, and
# `make demo` what `sampling`, `page` and `schedule` do.
SCRIPTS = {
    "search": ["CIFAR"], "hashing": [], "copies": ["CIFAR", "200"], "looks": ["CIFAR"], "decode": [],
    "loader": ["CIFAR"],
    "recall": ["CIFAR", "12000"], "refresh": ["CIFAR", "--keep", KEPT], "rows": [], "splits": [KEPT], "scale": [KEPT],
    "status": ["CIFAR"], "fetch": ["CIFAR"], "urls": [],
    "train": ["--rounds", "3", "--quality", "60", "--seeds", "0", "1", "2", *PACK], "step": [],
    "ranks": ["--rounds", "3"], "sampling": ["models/candidate", *PACK[1::2]], "footprint": [],
    "page": ["reports/data.html", "reports/model.html"], "schedule": ["."],
}  # fmt: skip


def main() -> int:
    """Run what was asked for and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", choices=[*SCRIPTS, []], help="benchmarks to run; all when none is named")
    parser.add_argument("--images", type=Path, help="a tar of many images, for the benchmarks that need one")
    options = parser.parse_args()
    failed = []
    for name in options.names or SCRIPTS:
        if "CIFAR" in SCRIPTS[name] and options.images is None:
            print(f"{name}: needs --images; left as it was", file=sys.stderr)
            continue
        if KEPT in SCRIPTS[name] and "--keep" in SCRIPTS[name]:
            shutil.rmtree(ROOT / KEPT, ignore_errors=True)
        words = [str(options.images.resolve()) if word == "CIFAR" else word for word in SCRIPTS[name]]
        print(f"{name} ...", file=sys.stderr, flush=True)
        command = [*ONE_CORE.get(name, []), sys.executable, "-W", "ignore", f"benchmarks/{name}.py", *words]
        own = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False, env=os.environ | own)
        if done.returncode:
            failed.append(name)
            continue
        sections = read(PAGE.read_text("utf-8")) if PAGE.is_file() else {}
        sections[name] = section(name, done.stdout)
        PAGE.write_text(render(sections), "utf-8")
    if failed:
        print(f"error: failed: {', '.join(failed)}; their sections are as they were", file=sys.stderr)
    return 1 if failed else 0


def section(name: str, output: str) -> str:
    """What the page says of one benchmark."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.strip()
    command = " ".join(["PYTHONPATH=.", *ONE_CORE.get(name, []), "python", f"benchmarks/{name}.py", *SCRIPTS[name]])
    day = datetime.datetime.now(datetime.UTC).date()
    return f"`{command}`, {day}, commit {commit}\n\n{output.strip()}\n"


def read(page: str) -> dict[str, str]:
    """The sections of ``page`` by name."""
    parts = re.split(r"^## (\w+)\n\n", page, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def render(sections: dict[str, str]) -> str:
    """The page of ``sections``, in the order of the table."""
    return HEAD + "".join(f"\n## {name}\n\n{sections[name].rstrip()}\n" for name in SCRIPTS if name in sections)


if __name__ == "__main__":
    sys.exit(main())
