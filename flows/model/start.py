"""`stillroom start`: set the model that training starts from (a warm start); stage `train` reads data/start.json."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from components.train import start
from flows.dvc import engine
from flows.model.sample import model_folder
from flows.workspace import exits, lock
from flows.workspace.paths import State
from flows.workspace.processes import stoppable

PAGE = "data/start.json"
NOTHING = "none"


def set_start(state: State, model: str) -> str:
    """Have training start from ``model``, a registered version or a folder, or from a new network; what to print."""
    page = state.root / PAGE
    with lock.held(state.lock, what="stillroom start", wait=True, say=exits.note), stoppable():
        if model == NOTHING:
            start.clear(page)
            engine.untrack(state.root, str(page.with_suffix("").relative_to(state.root)))
            return f"{PAGE}: training starts from a new network"
        with _named(state, model) as (name, folder):
            taken = start.take(name, folder, page)
        engine.track(state.root, str(page.with_suffix("").relative_to(state.root)))
    millions = sum(weight.numel() for weight in taken.network.parameters()) / 1e6
    objective = f"{taken.objective.kind} on {taken.objective.schedule.name}"
    return (
        f"{PAGE}: training starts from {name}, a {type(taken.network).__name__} of {millions:.2f} M parameters "
        f"({objective}); commit it with data/start.dvc, and `dvc push` takes the weights to where others pull from"
    )


@contextlib.contextmanager
def _named(state: State, model: str) -> Iterator[tuple[str, Path]]:
    """The model's name, an alias resolved to its version and a folder by its own name; and its files."""
    with model_folder(state, model) as (folder, version):
        yield f"models:/{version}" if version else folder.resolve().name, folder
