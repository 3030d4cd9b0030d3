"""What every test stands on: one thread, no network but loopback, and checkouts of its own."""

from __future__ import annotations

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
GUARD = ROOT / "tests" / "guard"

# Subprocesses take it from the environment: sitecustomize is imported by every Python that starts.
os.environ["PYTHONPATH"] = os.pathsep.join([str(GUARD), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(GUARD))

import loopback_only  # noqa: E402

from flows.state import QUIET  # noqa: E402

loopback_only.install()
os.environ.update(QUIET)
for name in ("MLFLOW_TRACKING_URI", "PREFECT_API_URL", "STILLROOM_EVENTS"):
    os.environ.pop(name, None)
