"""Peers to measure against, each in a virtual environment of its own below .stillroom/peers.

A benchmark hands its peer a script as text; the script prints one JSON value as its last line. Times are CPU
seconds of the whole process tree unless a table says otherwise, so that a busy machine changes them little.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PEERS = ROOT / ".stillroom" / "peers"


def python(name: str, *requirements: str) -> Path:
    """The interpreter of peer ``name`` with ``requirements`` installed (once)."""
    folder = PEERS / name
    wanted, listed = "\n".join(requirements), folder / "requirements.txt"
    if not listed.is_file() or listed.read_text("utf-8") != wanted:
        print(f"installing {name} into {folder.relative_to(ROOT)}: {', '.join(requirements)}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, *requirements], check=True)
        listed.write_text(wanted, "utf-8")
    return folder / "bin" / "python"


def run(interpreter: Path, script: str, *arguments: str, threads: int = 1) -> Any:
    """The JSON value that ``script`` prints as its last line, run by ``interpreter``."""
    few = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
    done = subprocess.run(
        [str(interpreter), "-c", script, *arguments], capture_output=True, text=True, check=False, env=os.environ | few
    )
    if done.returncode:
        raise RuntimeError(f"the peer ended with {done.returncode}:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def machine() -> str:
    """The machine in one line, for RESULTS.md."""
    lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown CPU")
    flags = next((line for line in lines if line.startswith("flags")), "")
    widest = next((name for name in ("avx512f", "avx2", "sse4_2") if f" {name}" in flags), "?")
    half = "bf16" if "bf16" in flags else "no bf16"
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    gpu = "with a GPU" if Path("/proc/driver/nvidia/version").exists() else "no GPU"
    return f"{model}, {len(os.sched_getaffinity(0))} cores for us, {widest}, {half}, {memory:.0f} GiB, {gpu}"
