"""Where a stage runs, as the environment has it: here, or on the workers of a pool of a Prefect server."""

from __future__ import annotations

import os

from flows.worker.task import APART

POOL = "STILLROOM_TRAIN_ON"
"""Environment: the pool whose workers train; nothing: train here.  A matter of the machine, not of params.yaml."""
API, AUTH = "STILLROOM_WORKERS_API_URL", "STILLROOM_WORKERS_API_AUTH_STRING"
"""Environment: the Prefect server that workers ask, and its password, where the run has one of its own (flows/run)."""


def choose(pool: str) -> None:
    """Have the runs that this process starts train in ``pool``, of the server that PREFECT_API_URL names now.

    A run has its pages on a server of its own where no other one runs in the checkout; that one no worker knows.
    """
    os.environ[POOL] = pool
    url, auth = (os.environ.get(name, "") for name in ("PREFECT_API_URL", "PREFECT_API_AUTH_STRING"))
    if pool and url:
        os.environ |= {API: url, AUTH: auth}


def of(stage: str) -> str:
    """The pool that ``stage`` runs in; "" for here."""
    return os.environ.get(POOL, "") if stage in APART else ""
