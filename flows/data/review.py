"""`stillroom data review`: the page on which a curator decides, as a file or from a server on loopback."""

from __future__ import annotations

from pathlib import Path

from components.base import files
from components.base.errors import UserError
from components.diff import changes
from components.review import page
from components.review.turn import Turn
from components.samples import decisions, looks, manifest, pack, withdrawn
from flows.data import edited, reviewserver
from flows.workspace.paths import State
from flows.workspace.processes import stoppable

PAGE = Path("reports/review.html")


def render(state: State, *, pictures: int, turn: Turn | None = None) -> str:
    """The review page of the data as it lies here; UserError when there is none."""
    edited.check(state.root)
    data = state.root / "data"
    if not (data / "splits/splits.parquet").is_file():
        raise UserError("there is nothing to review yet: `stillroom data report` collects the images and judges them")
    rows = sorted(changes.read(raw=data / "raw", clean=data / "clean", splits=data / "splits").values(),
                  key=lambda row: row["arrival"])  # fmt: skip
    flags = _flags(data)
    return page.render(
        rows, decisions.standing(state.root / edited.DECISIONS), raw=data / "raw",
        gone=withdrawn.names(state.root / edited.RECORD), limits=page.Limits(pictures=pictures), flags=flags,
        turn=turn or Turn(),
    )  # fmt: skip


def _flags(data: Path) -> dict[str, tuple[str, str | None]]:
    """Why pictures are worth a look, and a label that may fit better, by SHA-256; none of an earlier version's."""
    path, keys = data / "profile" / looks.TABLE, pack.read_keys(data / "pixels")
    rows = manifest.read_any(path, ("row", "flag", "label")) if path.is_file() else []
    return {keys[row["row"]]: (row["flag"], row["label"]) for row in rows if 0 <= row["row"] < len(keys)}


def serve(state: State, *, pictures: int, port: int) -> None:
    """Serve the page from loopback until Ctrl-C; each click is put on record."""
    with stoppable():
        render(state, pictures=2)  # what is wrong is told here, not in the browser
        reviewserver.serve(state, lambda turn: render(state, pictures=pictures, turn=turn), port=port)


def write(state: State, *, pictures: int) -> Path:
    """Write the page that makes a file of decisions to reports/review.html."""
    files.write_text(state.root / PAGE, render(state, pictures=pictures))
    return state.root / PAGE
