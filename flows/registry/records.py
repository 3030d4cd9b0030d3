"""What `stillroom history`, `rollback`, `lineage` and `diff` do."""

from __future__ import annotations

import json
import os
from typing import Any

from components.base.errors import UserError
from components.html.page import visible
from flows.history import decisions
from flows.history.decisions import Decided
from flows.history.known import History
from flows.history.ledger import FETCH_COMMAND
from flows.registry import address, aliases, chain, changes, impact, publish, reference, settle
from flows.registry.mlflow import RUN_KEY, Tracker, explained
from flows.registry.versions import CHAMPION, Versions
from flows.workspace import exits, lock
from flows.workspace.paths import State


def history(state: State, *, last: int, as_json: bool) -> None:
    """Print the decisions, the newest below."""
    name = publish.register_params(state.root).name
    every = History(state.root).decided(name)
    rows = [_row(one) for one in (every[-last:] if last else every)]
    if as_json:
        print(json.dumps(rows, indent=1))
        return
    if not rows:
        print("nothing was decided yet: `stillroom run` makes the first version")
        return
    if len(rows) < len(every):
        exits.note(f"the last {len(rows)} of {len(every)}: --last 0 lists all")
    for row in rows:
        number = "version ?" if row["version"] is None else f"version {row['version']}"
        # Both may come from another machine's record or from a tag: no control characters for this terminal.
        print(f"{row['when']}  {number:<11} {row['result']:<9} {visible(row['by'])}: {visible(row['reason'])}")


def _row(one: Decided) -> dict[str, Any]:
    body = one.intent.body
    result = "waits" if one.waits else one.outcome.body["result"] if one.outcome else "open"
    return {"when": one.date, "version": one.version, "result": result, "by": body["by"],
            "reason": body["decision"]["reason"], "against": body["decision"].get("against"),
            "run": one.intent.key, "manifest": body["manifest"]}  # fmt: skip


def rollback(state: State, reason: str, to: int | None = None) -> str:
    """Promote the version before the champion, or version ``to``, which has been champion, with ``reason`` on record;
    what was done, in one line.

    UserError where the champion changed while this waited: of two that go back at once, the second would go forward.
    """
    what, asked = "stillroom rollback", _leader(state)
    with (
        lock.held(state.lock, what=what, wait=True, say=exits.note),
        settle.alone(state.root, what=what, say=exits.note),
        _explained(),
    ):
        versions, now = _versions(state), _leader(state)
        settle.finish(versions)  # which adopts what was done to the aliases by hand
        if to is None and now != asked:
            raise UserError(f"{versions.name}@{CHAMPION} became version {now} while this waited: look at `stillroom "
                            "history`, and roll back once more if that is still wanted")  # fmt: skip
        number = _before(versions) if to is None else _earlier(versions, to)
        publish.promote_version(versions, number, f"rolled back: {reason}")
        return f"{versions.name}@{CHAMPION} is version {number}"


def _leader(state: State) -> int | None:
    """The number of the champion, by the ledger."""
    found = decisions.champion(History(state.root).decided(publish.register_params(state.root).name))
    return found.version if found else None


def _before(versions: Versions) -> int:
    before = aliases.before(versions)
    if before is None:
        raise UserError(f"{versions.name}@{CHAMPION} has no version before it: `stillroom promote NUMBER` takes any")
    return int(before.version)


def _earlier(versions: Versions, number: int) -> int:
    """``number``, of a version that has been champion and is it no more."""
    now = versions.champion()
    if now is not None and int(now.version) == number:
        raise UserError(f"{versions.name} version {number} is {CHAMPION} already")
    been = sorted({one.version for one in versions.decided if one.promoted and one.version})
    if number not in been:
        raise UserError(f"{versions.name} version {number} was never {CHAMPION} (on record are "
                        f"{', '.join(map(str, been)) or 'none'}): `stillroom promote {number}` takes any")  # fmt: skip
    return number


def lineage(state: State, model: str | None, image: str | None, *, as_json: bool) -> int:
    """Print the links of a version, or the versions that saw an image; 1 when a link does not hold."""
    if image is not None:
        from components.samples import catalogue  # pyarrow, which no other of these commands needs

        wanted, alike = chain.image(state.root, image), set[str]()
        try:
            alike = catalogue.read(raw=state.root / "data/raw", clean=state.root / "data/clean").near(wanted)
        except UserError as error:  # what is not known is not "none"
            exits.note(f"the image itself alone, since its near-duplicates are not known here: {error}")
        lines = impact.lines(state, wanted, alike)
        print(json.dumps(lines, indent=1) if as_json else "\n".join(lines))
        return 0
    with _explained():
        versions, where = named(state, model)
        links = chain.verify_chain(versions, versions.resolve(where))
    first = chain.broken(links)
    if as_json:
        print(json.dumps([link.plain() for link in links], indent=1))
        return 1 if first else 0
    for link in links:
        print(f"{'ok ' if link.holds else 'NOT'} {link.name}: {link.found}")
    if first:
        exits.note(f"broken at {first.name}: {first.mend}")
    return 1 if first else 0


def diff(state: State, before: str, now: str, *, as_json: bool) -> None:
    """Print each value that is not the same in the two versions."""
    history, both = History(state.root), []
    with _explained():
        for word in (before, now):
            versions, where = named(state, word)
            run = history.run(versions.resolve(where).tags.get(RUN_KEY))
            if run is None:
                raise UserError(f"{word}: the run that made it is not on record here: {FETCH_COMMAND}")
            both.append(run)
    found = changes.between(both[0], both[1])
    if as_json:
        print(json.dumps([vars(change) for change in found], indent=1))
        return
    for kind in dict.fromkeys(change.kind for change in found):
        print(kind)
        for change in found:
            if change.kind == kind:
                print(f"  {change}")
    if not found:
        print("nothing: they were made from the same data, parameters and code")


def named(state: State, model: str | None) -> tuple[Versions, str]:
    """The versions and the reference (``@alias`` or ``/number``) that ``model`` means; None is the champion."""
    name = publish.register_params(state.root).name
    found = reference.parse(model or f"{name}@{CHAMPION}")
    if not found:
        raise UserError(f"{model}: not a model's name: wanted NAME@ALIAS or NAME@NUMBER, such as {name}@{CHAMPION}")
    uri = os.environ["MLFLOW_TRACKING_URI"]
    missing = address.lost(uri)
    if missing:
        raise missing
    return Versions(Tracker(state, uri), found[0]), found[1]


def number(state: State, model: str) -> int:
    """The version that ``model``, a number or a name as in :func:`named`, means of what is registered here."""
    if model.isdecimal():
        return int(model)
    mine = publish.register_params(state.root).name
    with _explained():
        versions, where = named(state, model)
        if versions.name != mine:
            raise UserError(f"{model}: this checkout registers {mine}: promote it in the checkout that made it")
        return int(versions.resolve(where).version)


def _versions(state: State) -> Versions:
    return Versions(Tracker(state, os.environ["MLFLOW_TRACKING_URI"]), publish.register_params(state.root).name)


def _explained() -> Any:
    return explained(os.environ["MLFLOW_TRACKING_URI"])
