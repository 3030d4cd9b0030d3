"""What `publish.published` says of the run in the working tree, where it can be had without importing MLflow.

MLflow's imports take a second and more, and `Nothing to do` is the most frequent answer of all.  Here the local
database is read as SQLite, and the bytes of both versions are compared with their manifests as ever.  Whatever is not
plainly as it should be, or in another form than expected, is None: then MLflow is asked.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from components.base.errors import UserError
from flows.dvc import engine
from flows.dvc.freshness import Freshness
from flows.history import decisions, store
from flows.history.decisions import Decided
from flows.history.known import History
from flows.registry import aliases, bundle
from flows.registry.mlflow import EXPERIMENT, MANIFEST_TAG, RUN_KEY
from flows.workspace.paths import State

_CHAMPION = "champion"


def published(state: State, fresh: Freshness, stages: Mapping[str, Any], name: str) -> dict[str, Any] | None:
    """What `publish.published` returns for the run of the ``stages`` of dvc.lock; None where MLflow has to be asked."""
    database = os.environ["MLFLOW_TRACKING_URI"].removeprefix("sqlite:///")
    if not Path(database).is_file():
        return None
    key = engine.key(stages)
    told = fresh.known(f"decided {name} {key} {store.tip(state.root)}", lambda: _told(state.root, name, key))
    if told["open"] or told["mine"] is None or told["leader"] is None:
        return None
    with (
        contextlib.suppress(sqlite3.Error, UserError, OSError, LookupError, TypeError, ValueError),
        contextlib.closing(sqlite3.connect(f"file:{quote(database)}?mode=ro", uri=True, timeout=5)) as held,
    ):
        return _found(state, held, told, name)
    return None


def _told(root: Path, name: str, key: str) -> dict[str, Any]:
    """What the ledger says of the run ``key`` and of the champion, as plain data."""
    every = History(root).decided(name)
    waits = aliases.waiting(aliases.wanted(every))
    return {
        "open": any(one.outcome is None for one in every),
        "mine": _plain(decisions.of_key(every, key)),
        "leader": _plain(decisions.champion(every)),
        "waits": waits.version if waits else None,
    }


def _plain(one: Decided | None) -> dict[str, Any] | None:
    if one is None or one.version is None or one.intent.body["manifest"] is None:
        return None
    return {"key": one.intent.key, "version": one.version, "manifest": one.intent.body["manifest"],
            "reason": one.intent.body["decision"]["reason"]}  # fmt: skip


def _found(state: State, held: sqlite3.Connection, told: Mapping[str, Any], name: str) -> dict[str, Any] | None:
    """What the database has, when it is what was ``told`` and the bytes are those of the manifests."""
    mine, leader = told["mine"], told["leader"]
    (experiment,) = _one(held, "SELECT experiment_id FROM experiments WHERE name = ? AND lifecycle_stage = 'active'",
                         EXPERIMENT)  # fmt: skip
    (number,) = _one(held, "SELECT version FROM registered_model_aliases WHERE name = ? AND alias = ?", name, _CHAMPION)
    if int(number) != leader["version"]:
        return None
    runs = {}
    for each in (mine, leader):
        run, source = _one(held, "SELECT run_id, source FROM model_versions WHERE name = ? AND version = ? "
                           "AND status = 'READY' AND current_stage != 'Deleted_Internal'",
                           name, each["version"])  # fmt: skip
        tags = dict(held.execute("SELECT key, value FROM model_version_tags WHERE name = ? AND version = ?",
                                 (name, each["version"])))  # fmt: skip
        if tags.get(RUN_KEY) != each["key"] or tags.get(MANIFEST_TAG) != each["manifest"]:
            return None
        bundle.verify(_folder(state, source), each["manifest"])
        runs[each["key"]] = run
    first = _one(held, "SELECT min(version) FROM model_version_tags WHERE name = ? AND key = ? AND value = ?",
                 name, RUN_KEY, mine["key"])  # fmt: skip
    if first != (mine["version"],):
        return None
    return {"run": runs[mine["key"]], "experiment": str(experiment), "name": name, "version": mine["version"],
            "champion": leader["version"], "waits": told["waits"], "reason": mine["reason"]}  # fmt: skip


def _one(held: sqlite3.Connection, query: str, *values: object) -> tuple[Any, ...]:
    """The one row that ``query`` finds; LookupError when it finds none or several."""
    rows = held.execute(query, values).fetchall()
    if len(rows) != 1:
        raise LookupError(query)
    return tuple(rows[0])


def _folder(state: State, uri: str) -> Path:
    prefix = "mlflow-artifacts:/"
    if not uri.startswith(prefix):
        raise LookupError(uri)
    return state.artifacts / uri.removeprefix(prefix).lstrip("/")
