"""`stillroom sample`: from a model's name to a sheet of pictures."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from components import events
from components.errors import UserError
from flows.processes import stoppable
from flows.state import State


@dataclass(frozen=True, kw_only=True)
class Request:
    """What to draw; None takes the value that the model carries."""

    model: str
    num: int
    labels: tuple[str, ...]
    seed: int
    steps: int | None
    guidance: float | None
    scale: int


@contextlib.contextmanager
def fetched(state: State, model: str) -> Iterator[Path]:
    """The folder of ``models:/NAME@ALIAS``, ``models:/NAME/VERSION`` or a path, while the body runs."""
    if not model.startswith("models:"):
        if not Path(model).is_dir():
            raise UserError(f"{model}: no such folder; a registered model is models:/NAME@ALIAS")
        yield Path(model)
        return
    found = re.fullmatch(r"models:/([^/@]+)(@[^/@]+|/\d+)", model)
    if not found:
        raise UserError(f"{model}: not a model's name: wanted models:/NAME@ALIAS or models:/NAME/VERSION")
    from flows.tracking import Tracker
    from flows.versions import Versions

    versions = Versions(Tracker(state, os.environ["MLFLOW_TRACKING_URI"]), found[1])
    with versions.folder(versions.resolve(found[2])) as folder:
        yield folder


def draw(state: State, request: Request, out: Path) -> None:
    """Write a sheet of ``request.num`` pictures to ``out``, a row for eight of them, and say what they show."""
    if not out.parent.is_dir():
        raise UserError(f"{out.parent}: no such folder: make it, or give another --out")
    with stoppable(), fetched(state, request.model) as folder:
        from components import grid, sampling

        denoiser = sampling.load(folder)
        names = request.labels or denoiser.classes
        kinds = [denoiser.class_id(name) for name in names] or [-1]
        class_ids = [kinds[at % len(kinds)] for at in range(request.num)]
        with events.Progress(request.num, what="sample", unit="pictures") as progress:
            pictures = sampling.sample(
                denoiser, class_ids, seed=request.seed, steps=request.steps, guidance=request.guidance,
                progress=progress.advance,
            )  # fmt: skip
        told = {
            "model": request.model, "seed": request.seed, "steps": request.steps or denoiser.steps,
            "guidance": denoiser.guidance if request.guidance is None else request.guidance,
            "labels": [denoiser.classes[at] if at >= 0 else None for at in class_ids],
        }  # fmt: skip
        grid.write(
            out, pictures, columns=min(8, request.num), scale=request.scale, text={"Stillroom": json.dumps(told)}
        )
    shown = ", then ".join(names[: request.num]) or "no labels"
    print(f"{out}: {request.num} pictures, in turn {shown}")
