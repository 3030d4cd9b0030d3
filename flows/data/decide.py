"""`stillroom data keep`, `reject`, `label` and `decide`: a curator overrules what stage `clean` found."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from components.base.errors import UserError
from components.html.page import plural, visible
from components.samples import catalogue, decisions, manifest, records
from components.samples.catalogue import Known
from components.samples.decisions import Decision, Kind
from flows.data import edited, named
from flows.data.edited import DECISIONS
from flows.history import git
from flows.workspace import lock
from flows.workspace.paths import State

MOST = 50_000_000
"""Bytes of a file of decisions that is taken in."""
_SHOWN = 10
_NEXT = f"commit {DECISIONS}; `stillroom run`, or `stillroom data report`, goes by it"


@dataclass(frozen=True, kw_only=True)
class Request:
    """What to decide about which images, and why; ``label`` is the new one."""

    kind: Kind
    words: tuple[str, ...]
    listed: Path | None = None
    label: str | None = None
    undo: bool = False
    reason: str
    dry_run: bool = False


class Desk:
    """The images and what is decided about them: takes one decision more, or says why it cannot be."""

    def __init__(self, known: Known, root: Path) -> None:
        self._root = root
        self._rows: dict[str, list[dict[str, Any]]] = {}
        for row in known.rows:
            self._rows.setdefault(row["sha256"], []).append(row)
        self._held: decisions.Held = {}
        for each in decisions.read(root / DECISIONS):
            decisions.take(self._held, each)
        self.taken: list[dict[str, Any]] = []
        """The lines to add to the record."""

    def take(self, new: Decision) -> str:
        """Take ``new``, and say in a few words what was; "" when all is so already.  UserError where it cannot be."""
        rows = self._rows.get(new.sha256)
        if not rows:
            raise UserError(f"{new.sha256[:16]}: no image in data/raw has this SHA-256")
        name = f"{new.sha256[:16]} {visible(rows[0]['source'])}:{visible(rows[0]['source_key'])}"
        if any(row["withdrawn"] for row in rows):
            raise UserError(f"{name}: it was withdrawn: nothing can be decided about it any more")
        was = self._was(new, rows, name)
        if was:
            decisions.take(self._held, new)
            self.taken.append(new.line(source=rows[0]["source"], source_key=rows[0]["source_key"]))
        return was and f"{name}: {was}"

    def write(self) -> None:
        """Add what was taken to the record."""
        if self.taken:
            records.append(self._root / DECISIONS, self.taken)
        self.taken = []

    def _was(self, new: Decision, rows: list[dict[str, Any]], name: str) -> str:
        held = self._held.get((new.sha256, new.kind == "label"))
        if new.undo:
            if held is None or held.kind != new.kind:
                other = f": that to {held.kind} it holds" if held else ""
                raise UserError(f"{name}: no decision to {new.kind} it is there to be taken back{other}")
            return f"decided to {new.kind}"
        if new.kind == "label":
            label = held.label if held else rows[0]["label"]
            return "" if label == new.label else f"labelled {visible(label)}" if label is not None else "no label"
        if held:
            return "" if held.kind == new.kind else f"decided to {held.kind}"
        return self._judged(new, rows, name)

    def _judged(self, new: Decision, rows: list[dict[str, Any]], name: str) -> str:
        """The verdict that ``new`` overrules, "" when it is the same; of an image that no curator judged."""
        there = [row for row in rows if row["member"]]
        if not there:
            return "not in its source now; the decision waits until it comes back"
        kept = next((row for row in there if row["verdict"] in ("kept", None) or row["reason"] == "curator"), None)
        row = kept or next((row for row in there if row["reason"] in manifest.KEEPABLE), there[0])
        if new.kind == "keep" and not kept and row["reason"] not in manifest.KEEPABLE:
            raise UserError(
                f"{name}: rejected ({manifest.words(row['reason'])}), and cannot be kept: only "
                f"{', '.join(map(manifest.words, manifest.KEEPABLE))} can be overruled"
            )
        if new.kind == "reject" and not kept:
            return ""
        return "kept" if kept else manifest.judged(row["verdict"], row["reason"])


def decide(state: State, request: Request, *, say: Callable[[str], None], sure: Callable[[str], bool]) -> None:
    """Put on record what ``request`` decides; ``sure`` is asked before anything is written."""
    with _desk(state, f"stillroom data {request.kind}", say) as (desk, known):
        asked = named.of(known, request.words, request.listed, what=request.kind, ways="ids or --list FILE")
        label = decisions.text(request.label, "--to") if request.kind == "label" and not request.undo else None
        each = Decision(sha256="", kind=request.kind, label=label, undo=request.undo,
                        reason=decisions.text(request.reason, "--reason"), who=git.user(state.root))  # fmt: skip
        new = [replace(each, sha256=name) for name in dict.fromkeys(row["sha256"] for row in known.rows)
               if name in asked]  # fmt: skip
        was = [desk.take(one) for one in new]
        what = f"take back the decision to {request.kind}" if request.undo else request.kind
        _finish(desk, was, what if label is None else f"label {visible(label)}", request.dry_run, say=say, sure=sure)


def take_in(
    state: State, file: Path, *, dry_run: bool, say: Callable[[str], None], sure: Callable[[str], bool]
) -> None:
    """Put on record the decisions in ``file``, which the review page made: all, or none when one cannot be."""
    if not file.is_file() or file.stat().st_size > MOST:
        raise UserError(f"{file}: wanted a file of decisions of at most {MOST:,} bytes, as the review page makes it")
    with _desk(state, "stillroom data decide", say) as (desk, _):
        was: list[str] = []

        def take(line: Mapping[str, Any]) -> None:
            try:
                was.append(desk.take(said(line, git.user(state.root))))
            except UserError as error:
                raise ValueError(str(error)) from None

        records.read(file, take, wanted="a decision", advice="nothing was taken in: mend the line, or take it out")
        _finish(desk, was, "decide about", dry_run, say=say, sure=sure)


def one(state: State, line: Mapping[str, Any]) -> str:
    """Put the one decision that the review page sends on record, and say in a few words what was."""
    new = said(line, git.user(state.root))
    # A run may go on for hours: who clicks is told of it, and does not wait.
    with _desk(state, "stillroom data review", say=lambda line: None, wait=False) as (desk, _):
        was = desk.take(new)
        desk.write()
    return f"{new.kind}{' taken back' if new.undo else ''}: {was}" if was else "nothing to do: all is so already"


def said(line: Mapping[str, Any], who: str) -> Decision:
    """What the review page says, which knows not ``who`` decides; UserError for what is no decision."""
    return decisions.parse({"label": None, "undo": False, **line, "who": who})


@contextlib.contextmanager
def _desk(state: State, what: str, say: Callable[[str], None], *, wait: bool = True) -> Iterator[tuple[Desk, Known]]:
    with lock.held(state.lock, what=what, wait=wait, say=say):
        edited.check(state.root)
        raw, clean = state.root / "data/raw", state.root / "data/clean"
        known = _known(raw, clean, tuple(_stamp(path) for path in (raw / "index.parquet", clean / "verdicts.parquet")))
        yield Desk(known, state.root), known


@functools.lru_cache(maxsize=1)  # a second at 60,000 images, which no click is to take again
def _known(raw: Path, clean: Path, stamps: tuple[tuple[int, ...], ...]) -> Known:
    return catalogue.read(raw=raw, clean=clean)


def _stamp(path: Path) -> tuple[int, ...]:
    """Other for another file."""
    if not path.is_file():
        return ()
    found = path.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns


def _finish(
    desk: Desk, was: Iterable[str], what: str, dry_run: bool, *, say: Callable[[str], None],
    sure: Callable[[str], bool],
) -> None:  # fmt: skip
    was = list(was)
    lines, count = [each for each in was if each], len(desk.taken)
    if len(lines) < len(was):
        say(f"{plural(len(was) - len(lines), 'image')} that need no decision: all is so already")
    if not lines:
        say("nothing to do")
        return
    say(f"to {what}: {plural(count, 'image')}")
    for line in lines[:_SHOWN]:
        say(f"  {line}")
    if count > _SHOWN:
        say(f"  and {count - _SHOWN:,} more")
    if dry_run:
        say("nothing was done (--dry-run)")
        return
    if not sure(f"{what} {plural(count, 'image')}?"):
        raise UserError("nothing was decided")
    desk.write()
    say(f"{DECISIONS}: {count:,} added; {_NEXT}")


def listed(root: Path) -> list[dict[str, Any]]:
    """Every decision that holds, the newest last, with what came of it when stage `clean` ran last.

    The columns are those of manifest.DECISIONS and ``applied``: whether `clean` has seen it.
    """
    standing = decisions.standing(root / DECISIONS)
    path = root / "data/clean" / manifest.OUTCOMES
    names = manifest.DECISIONS.names
    rows = manifest.read_any(path, names) if path.is_file() else []
    seen = {(row["sha256"], row["decision"], row["reason"], row["who"]): row for row in rows}
    found = []
    for sha256, held in standing.items():
        for each in held.all:
            row = seen.get((sha256, each.kind, each.reason, each.who))
            row = row if row and (each.kind != "label" or row["after"] in (each.label, None)) else None
            mine = {
                "sha256": sha256,
                "decision": each.kind,
                "after": each.label,
                "reason": each.reason,
                "who": each.who,
                "source": each.source,
                "source_key": each.source_key,
            }
            came = {name: value for name, value in (row or {}).items() if value is not None}
            found.append({**dict.fromkeys(names), **mine, **came, "applied": row is not None})
    return found


def lines(found: list[dict[str, Any]]) -> str:
    """What `listed` found, as lines for a terminal; control characters of names and texts are escaped."""
    if not found:
        return "no decision holds"
    shown = []
    for row in found:
        became = f"{visible(row['before'] or 'no label')} → {visible(row['after'] or '')}"
        what = visible(row["fault"]) if row["fault"] else became if row["applied"] else "at the next run"
        new = f" {visible(row['after'])}" if row["decision"] == "label" and not row["applied"] else ""
        name = f" {visible(row['source'])}:{visible(row['source_key'])}" if row["source"] else ""
        who = f" ({visible(row['who'])})" if row["who"] else ""
        shown.append(f"{row['decision']:>6}{new}  {row['sha256'][:16]}{name}  {what}  {visible(row['reason'])}{who}")
    return "\n".join(shown)
