"""`stillroom data export`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from components.base.errors import UserError
from components.export import writer
from components.html.page import size
from components.samples import withdrawn
from flows.data import edited, revisions
from flows.workspace.paths import State
from flows.workspace.processes import stoppable


@dataclass(frozen=True, kw_only=True)
class Request:
    """What to write where; ``rev`` is the state of the data."""

    to: Path
    layout: str
    splits: tuple[str, ...]
    rev: str
    size: str
    overwrite: bool


def export(state: State, request: Request, *, dry_run: bool) -> str:
    """Write what ``request`` asks for; what was (or would be) written, in one line."""
    withdrawn.names(state.root / edited.RECORD)  # unread, it may name images that are not to be given away
    _outside(state.root, request.to)
    writer.check(request.to, overwrite=request.overwrite)
    revision = revisions.resolve(state, request.rev)
    with stoppable(), revisions.opened(state, revision) as here:
        made = writer.plan(raw=here.raw, clean=here.clean, splits=here.splits, pixels=here.pixels,
                              wanted=request.splits)  # fmt: skip
        counts = ", ".join(f"{name} {len(rows):,}" for name, rows in made.splits.items())
        what = f"{revision.name}: {counts} images as {request.layout} ({request.size}"
        if dry_run:
            return f"would write {what}, {size(made.bytes)} of originals) to {request.to}"
        done = writer.export(made, request.to, raw=here.raw, pixels=here.pixels,
                                layout=request.layout, size=request.size, overwrite=request.overwrite)  # fmt: skip
    return f"wrote {what}): {done['files']:,} files, {size(done['bytes'])} in {request.to}"


def _outside(root: Path, target: Path) -> None:
    """UserError for a folder that stages, DVC or git own: the next command would remove what is written there."""
    within = Path(os.path.realpath(target))
    for name in ("data", "models", "reports", "metrics", ".stillroom", ".dvc", ".git"):
        if within.is_relative_to(Path(os.path.realpath(root)) / name):
            raise UserError(f"--to {target}: lies in {name}/ of the project, which is its own: name a folder elsewhere")
