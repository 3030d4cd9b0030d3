"""`stillroom verify`: every byte of every version, and the whole lineage of each version that an alias names."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from flows.history import decisions
from flows.registry import address, aliases, chain
from flows.registry.mlflow import RUN_KEY, Tracker, explained
from flows.registry.publish import register_params
from flows.registry.versions import Versions
from flows.workspace.paths import State


def verify(state: State, *, fault: Callable[[str], None], well: Callable[[str], None]) -> int:
    """Say ``fault`` of each thing that is wrong, in one line with what mends it, and ``well`` of each version that is
    whole; how many faults there are.

    Nothing is written and nothing mended.  UserError where MLflow cannot be asked.
    """
    uri = os.environ["MLFLOW_TRACKING_URI"]
    count = 0
    if address.lost(uri):
        well("nothing is registered here yet")  # what is on record `sync` brings back
        return 0
    with explained(uri):
        versions = Versions(Tracker(state, uri), register_params(state.root).name)
        for named, found in _faults(versions):
            if found:
                count += 1
                fault(f"{named}: {found}")
            else:
                well(f"{named}: every byte as recorded")
    return count


def _faults(versions: Versions) -> Iterator[tuple[str, str]]:
    """What is wrong, by version or alias; an empty text for a version that is whole."""
    recorded = decisions.standing(versions.decided)
    pointed, there = _pointed(versions), set()
    for version in versions.all():
        key, number = version.tags.get(RUN_KEY, ""), int(version.version)
        there.add(key)
        names = ", ".join(alias for alias, other in pointed.items() if other == number)
        where = f"{versions.name} version {number}{f' ({names})' if names else ''}"
        found = list(_lineage(versions, version) if names else _bytes(versions, version, recorded))
        for line in found or [""]:
            yield where, line
    for key, one in recorded.items():
        if key not in there:
            yield f"{versions.name} version {one.version}", "not in MLflow: `stillroom sync` brings it back"
    for alias in aliases.wanted(versions.decided):
        if alias not in pointed:
            yield f"{versions.name}@{alias}", "MLflow has lost the alias: `stillroom sync` sets it again"


def _pointed(versions: Versions) -> Mapping[str, int]:
    """The number of the version that each alias points to, also those that people made."""
    found = versions.client.search_registered_models(f"name = '{versions.name}'")
    return {alias: int(number) for model in found for alias, number in sorted(model.aliases.items())}


def _lineage(versions: Versions, version: Any) -> Iterator[str]:
    for link in chain.verify_chain(versions, version):
        if not link.holds:
            yield f"{link.name}: {link.found}{f': {link.mend}' if link.mend else ''}"


def _bytes(versions: Versions, version: Any, recorded: Mapping[str, decisions.Decided]) -> Iterator[str]:
    one = recorded.get(version.tags.get(RUN_KEY, ""))
    found = versions.fault(version, one.intent.body["manifest"] if one else None)
    if found:
        yield f"{found}: `stillroom sync` takes it from DVC's cache again"
