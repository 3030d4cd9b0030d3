"""`stillroom data withdraw`: erase images, keep their places, and name the versions that were trained on them."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from components.base import files
from components.base.errors import UserError
from components.html.page import plural, visible
from components.samples import catalogue, records, withdrawn
from components.samples.catalogue import Known
from flows.data import edited, erase, materialise, named
from flows.data.edited import RECORD
from flows.dvc import engine
from flows.registry import impact, restore
from flows.registry.publish import register_params
from flows.workspace import lock
from flows.workspace.paths import State

NOT_REACHED = (
    "not reached: the source still holds the images, and DVC's remotes older states until `dvc gc --workspace --cloud`"
)
KEPT = (
    "kept, for --no-purge: older states in DVC's cache and older reports in MLflow, which may hold the images; the "
    "same command without it removes both"
)
_SHOWN = 10


@dataclass(frozen=True, kw_only=True)
class Request:
    """Which images to withdraw, and why."""

    words: tuple[str, ...]
    listed: Path | None
    source: str | None
    reason: str
    dry_run: bool
    purge: bool


def withdraw(state: State, request: Request, *, say: Callable[[str], None], sure: Callable[[str], bool]) -> None:
    """Withdraw what ``request`` names; ``sure`` is asked before anything is written."""
    with lock.held(state.lock, what="stillroom data withdraw", wait=True, say=say):
        edited.check(state.root)  # before the record is written: the stages run after it
        known = catalogue.read(raw=state.root / "data/raw", clean=state.root / "data/clean")
        asked = named.of(known, request.words, request.listed, request.source, what="withdraw",
                         ways="ids, --list FILE or --source NAME")  # fmt: skip
        wanted = _unfinished(state, known, asked)
        if wanted:
            _refuse_all(known, wanted)
            for line in _plan(state, known, wanted):
                say(line)
            if request.dry_run:
                say("nothing was done (--dry-run)")
                return
            if not sure(f"take {plural(len(wanted), 'image')} out of the working data?"):
                raise UserError("nothing was withdrawn")
            _carry_out(state, known, wanted, request.reason, say)
        else:
            cut_off = _mark(state).exists()
            say("an earlier withdrawal was cut off: it is ended now" if cut_off else
                f"nothing to do: {plural(len(asked), 'image')} withdrawn already")  # fmt: skip
            if request.dry_run:
                return
            if cut_off:
                _erase(state, say)
            else:
                erase.erase_facts(state, [row for row in known.rows if not row["withdrawn"]])
        if request.purge:
            _purge(state, say, sure)
        elif wanted:
            say(KEPT)
        if wanted:
            say(NOT_REACHED)


def _unfinished(state: State, known: Known, asked: set[str]) -> set[str]:
    """Those of ``asked`` whose bytes are there, also when a killed withdrawal has written its record already."""
    there = {row["sha256"] for row in known.rows if not row["withdrawn"]}
    return asked & (there | (asked - withdrawn.names(state.root / RECORD)))


def _refuse_all(known: Known, wanted: set[str]) -> None:
    if not any(row["member"] and not row["withdrawn"] and row["sha256"] not in wanted for row in known.rows):
        raise UserError(
            "that is every image there is: nothing was withdrawn; to begin anew, change the sources in params.yaml"
        )


def _plan(state: State, known: Known, wanted: set[str]) -> list[str]:
    rows = [row for row in known.rows if row["sha256"] in wanted]
    by_source = Counter(row["source"] for row in rows)
    lines = [f"to withdraw: {plural(len(wanted), 'image')} ("
             + ", ".join(f"{visible(name)} {count:,}" for name, count in sorted(by_source.items())) + ")"]  # fmt: skip
    lines += [f"  {row['sha256'][:16]} {visible(row['source'])}:{visible(row['source_key'])}" for row in rows[:_SHOWN]]
    if len(rows) > _SHOWN:
        lines.append(f"  and {len(rows) - _SHOWN:,} more")
    twins = known.same_pixels(wanted)
    if twins:
        lines.append(f"{plural(len(twins), 'image')} with other bytes but the same pixels will be rejected; their "
                     "bytes stay: " + ", ".join(row["sha256"][:16] for row in twins[:_SHOWN]))  # fmt: skip
    near = known.near(wanted) - {row["sha256"] for row in twins}
    if near:
        lines.append(
            f"{plural(len(near), 'image')} that look much the same will stay: "
            + ", ".join(sorted(each[:16] for each in near)[:_SHOWN])
        )
    return [*lines, *impact.lines(state, wanted, known.near(wanted))]


def _carry_out(state: State, known: Known, wanted: set[str], reason: str, say: Callable[[str], None]) -> None:
    new = wanted - withdrawn.names(state.root / RECORD)
    files.write_text(_mark(state), "")
    records.append(state.root / RECORD, known.tombstones(new, reason))
    say(f"{RECORD}: {plural(len(new), 'image')} added; commit it, so that they are not collected again")
    _erase(state, say)


def _mark(state: State) -> Path:
    """There from before the record is written until all is erased: the same command then ends what a kill cut off."""
    return state.folder / "withdrawal-unfinished"


def _erase(state: State, say: Callable[[str], None]) -> None:
    """Erase what is on record, and not this command's images alone: an earlier one may have been cut off."""
    names = set(withdrawn.names(state.root / RECORD))
    downloads = erase.erase_downloads(state, names)
    materialise.materialise(state, say=say)
    rows = catalogue.read(raw=state.root / "data/raw", clean=state.root / "data/clean").rows
    left = {row["sha256"] for row in rows if row["sha256"] in names and not row["withdrawn"]}
    assert not left, f"stage collect left {sorted(left)}"
    facts_erased = erase.erase_facts(state, [row for row in rows if not row["withdrawn"]])
    gone = erase.remove_pages(state)
    pages = ", ".join(gone) or "none"
    say("erased from data/raw, data/pixels and reports; "
        f"{facts_erased:,} facts and {downloads:,} downloaded files erased; pages removed: {pages}")  # fmt: skip
    say("models/ and the registered versions are unchanged: `stillroom run` trains without these images")
    _mark(state).unlink(missing_ok=True)


def _purge(state: State, say: Callable[[str], None], sure: Callable[[str], bool]) -> None:
    name = register_params(state.root).name
    asked = ("remove every state of the data but the present one from DVC's local cache, and every report from MLflow? "
             "Registered versions stay, with the hashes of what they were trained on, but `stillroom reproduce` and "
             "`stillroom data diff` cannot go back to their data")  # fmt: skip
    if not sure(asked):
        raise UserError("nothing was removed from DVC's cache and MLflow, which may still hold the images")
    if not engine.own_cache(state.root):
        say(f"not reached: DVC's cache at {engine.cache(state.root)} lies outside of this checkout, and others may "
            "work from it: `dvc gc --workspace --projects EVERY OTHER` removes older states there")  # fmt: skip
        _forget_reports(state, say)
        return
    before = shutil.disk_usage(state.root).free
    engine.purge(state.root, lambda: restore.objects(state.root, name))
    freed = max(0, shutil.disk_usage(state.root).free - before) / 2**20
    say(f"DVC's cache now holds the present state and the registered models only ({freed:.1f} MiB freed)")
    _forget_reports(state, say)


def _forget_reports(state: State, say: Callable[[str], None]) -> None:
    uri = os.environ["MLFLOW_TRACKING_URI"]
    if uri != state.database or (state.folder / "mlflow/mlflow.db").is_file():
        from flows.registry.mlflow import Tracker

        say(f"MLflow: the reports of {plural(Tracker(state, uri).erase_reports(), 'run')} removed")
