"""`stillroom plan` and `run --dry-run`: what a run would do and why; nothing is changed and nothing locked."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from components.base.events import clock
from components.html.page import plural, size
from components.pipeline import PIPELINE, Stage, downstream, stage, writer
from flows.data import contract, edited, look
from flows.dvc import engine, fetch, schema
from flows.dvc.freshness import Freshness
from flows.history import decisions, store
from flows.history.known import History
from flows.registry.publish import register_params
from flows.workspace import exits
from flows.workspace.paths import State

_SHOWN = 4
"""Reasons of one stage that are shown."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """A stage that would run: why, how many seconds it took the last time and how many bytes it wrote, where known."""

    stage: str
    reasons: list[str]
    seconds: float | None
    bytes: int | None


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a run would do.

    ``fetch`` has the bytes, by output, that are neither here nor in DVC's cache and that a run asks ``remote`` for;
    ``lost`` what is nowhere. ``push`` is None where nobody asked: (files, bytes) of what is here and not in the remote.
    ``contract`` is None where it cannot be said before the data has been made.
    """

    steps: list[Step]
    missing: list[str]
    fetch: dict[str, int]
    lost: list[str]
    remote: str
    registers: str
    contract: list[str] | None
    push: tuple[int, int] | None


def plan(state: State, force: Collection[str] = (), *, push: bool = False) -> Plan:
    """What a run would do now; with ``push`` also what would go to DVC's remote, which is asked for it.

    UserError for a stage in ``force`` that is none, and for files that a run would refuse.
    """
    for name in force:
        stage(name)
    root = state.root
    edited.check(root)
    schema.check(root)
    sources = look.sources_changed(state, say=exits.note)
    fresh = Freshness(root, state.folder / "fresh.json")
    try:
        locked = engine.lock(root)
        missing = fetch.missing(root) if locked else []
        absent = {path: _locked(locked, path) for path in missing}
        away = [path for path, out in absent.items() if out and not fresh.held(out["md5"])]
        remote = engine.remote(root) if away or push else ""
        lost = [path for path in missing if not absent[path] or (path in away and not remote)]
        own = fresh.reasons(given=set(missing) - set(lost))
    finally:
        fresh.save()
    if sources:
        own["collect"].append("its sources have changed")
    for name in force:
        own[name].append("--force")
    steps = list(_steps(own, History(root), locked))
    names = [step.stage for step in steps]
    return Plan(
        steps=steps, missing=missing, lost=lost, remote=remote,
        fetch={path: int((absent[path] or {}).get("size", 0)) for path in away if remote and _brought(path, names)},
        registers=_registers(state, names), contract=_contract(root, names),
        push=engine.unpushed(root) if push and remote else None,
    )  # fmt: skip


def _locked(locked: dict[str, Any], path: str) -> dict[str, Any] | None:
    """What dvc.lock says of the output ``path``."""
    outs = (out for entry in locked.values() for out in entry.get("outs", ()))
    return next((out for out in outs if out["path"] == path and out.get("md5")), None)


def _brought(path: str, names: Collection[str]) -> bool:
    """Whether a run fetches ``path``: what its stage would make again as it was, and what only grows."""
    made = writer(path)
    return made is None or made.grows or made.name not in names


def _steps(own: dict[str, list[str]], history: History, locked: dict[str, Any]) -> Iterator[Step]:
    """The stages that would run, in order, each with its own reasons and the stages that run before it."""
    affected = downstream([name for name, reasons in own.items() if reasons])
    seconds = _seconds(history) if affected else {}
    for each in PIPELINE:
        if each.name not in affected:
            continue
        before = [other.name for other in _before(each) if other.name in affected]
        reasons = own[each.name] + ([f"after {', '.join(before)}"] if before else [])
        sizes = [out["size"] for out in locked.get(each.name, {}).get("outs", ()) if "size" in out]
        yield Step(stage=each.name, reasons=reasons, seconds=seconds.get(each.name), bytes=sum(sizes) or None)


def _before(each: Stage) -> list[Stage]:
    return [other for other in PIPELINE if set(other.writes.values()) & set(each.reads.values())]


def _seconds(history: History) -> dict[str, float]:
    """How long each stage took when it was executed last, by what is on record."""
    found: dict[str, float] = {}
    for run in history.runs:
        found |= run.about.get("seconds") or {}
    return found


def _registers(state: State, names: list[str]) -> str:
    """What would become of the model, by what is on record here; empty where it is registered."""
    if set(names) & {"train", "evaluate"}:
        return "a model that the gate decides on"
    run = None if names else store.current(state.root)
    if run is None:
        return ""
    history = History(state.root)
    standing = decisions.of_key(history.decided(register_params(state.root).name), run.key)
    return "" if standing else "the model that is here: no decision on it is on record"


def _contract(root: Path, names: list[str]) -> list[str] | None:
    """The clauses that the data which would be trained on breaks; None where that data is still to be made."""
    if "train" not in names or "profile" in names or not (root / contract.PROFILE).is_file():
        return None if "train" in names else []
    return contract.violations(root)


def lines(found: Plan) -> Iterator[str]:
    """The plan for a terminal."""
    if found.missing:
        yield (f"not here: {', '.join(found.missing)}; a run first looks for them in DVC's cache"
               + (f" and remote '{found.remote}'" if found.remote else " (no remote is configured)" if found.lost
                  else ""))  # fmt: skip
    if found.fetch:
        yield f"would fetch {size(sum(found.fetch.values()))} from remote '{found.remote}': {', '.join(found.fetch)}"
    names = [step.stage for step in found.steps]
    yield "would run: " + ", ".join(names) if names else "would run nothing: every stage is up to date"
    for step in found.steps:
        took = "?" if step.seconds is None else clock(step.seconds)
        more = f"; and {len(step.reasons) - _SHOWN} more" if len(step.reasons) > _SHOWN else ""
        yield f"{step.stage:>9} {took:>7}  {'; '.join(step.reasons[:_SHOWN])}{more}"
    known = [step.seconds for step in found.steps if step.seconds is not None]
    if known:
        unknown = [step.stage for step in found.steps if step.seconds is None]
        without = f" without {', '.join(unknown)}" if unknown else ""
        yield f"they took {clock(sum(known))} the last time{without}"
    if found.contract is None:
        yield "would check the contract on the new data before training"
    elif found.contract:
        yield f"would stop before training: {'; '.join(found.contract)}"
    elif "train" in names:
        yield "contract: holds"
    if found.registers:
        yield f"would register {found.registers}"
    if found.push is not None:
        made = sum(step.bytes or 0 for step in found.steps)
        yield (f"would push {size(found.push[1])} in {plural(found.push[0], 'file')} to remote '{found.remote}'"
               + (f", and what the stages make, {size(made)} the last time" if made else ""))  # fmt: skip


def plain(found: Plan) -> dict[str, Any]:
    """The plan as plain data for JSON."""
    return asdict(found)


def show(state: State, force: Collection[str] = (), *, push: bool = False, say: Callable[[str], None] = print) -> None:
    """Print the plan."""
    for line in lines(plan(state, force, push=push)):
        say(line)
