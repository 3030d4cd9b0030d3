"""`stillroom start`: put the network that training begins with where stage `train` reads it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from components.train import start
from flows.dvc import engine
from flows.model.sample import fetched
from flows.workspace import exits, lock
from flows.workspace.paths import State
from flows.workspace.processes import stoppable

PAGE = "data/start.json"
NOTHING = "none"


def begin(state: State, model: str) -> str:
    """Have training begin with ``model``, a registered version or a folder, or with nothing; what there is to say."""
    page = state.root / PAGE
    with lock.held(state.lock, what="stillroom start", wait=True, say=exits.note), stoppable():
        if model == NOTHING:
            start.clear(page)
            engine.forget(state.root, str(page.with_suffix("").relative_to(state.root)))
            return f"{PAGE}: training starts from nothing"
        with _found(state, model) as (name, folder):
            taken = start.take(name, folder, page)
        engine.track(state.root, str(page.with_suffix("").relative_to(state.root)))
    millions = sum(weight.numel() for weight in taken.network.parameters()) / 1e6
    aim = f"{taken.objective.kind} on {taken.objective.schedule.name}"
    return (
        f"{PAGE}: training starts from {name}, a {type(taken.network).__name__} of {millions:.2f} M parameters "
        f"({aim}); commit it with data/start.dvc, and `dvc push` takes the weights to where others pull from"
    )


@contextlib.contextmanager
def _found(state: State, model: str) -> Iterator[tuple[str, Path]]:
    """An alias as the number of its version, a folder as its own name; and the files."""
    with fetched(state, model) as (folder, version):
        yield f"models:/{version}" if version else folder.resolve().name, folder
