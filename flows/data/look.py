"""`stillroom look`: data/source.json says what the sources hold now."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from components.base import config
from components.base.errors import UserError, nearest
from components.collect import look
from components.collect.params import CollectParams
from components.pipeline import SECTIONS
from components.samples import withdrawn
from flows.data.edited import RECORD
from flows.workspace.paths import State

PAGE = "data/source.json"


def look_at_sources(state: State, *, say: Callable[[str], None]) -> None:
    """Write data/source.json when a source has changed; ``say`` gets a line for each source."""
    page, store = state.root / PAGE, state.folder / "collect"
    gone = withdrawn.names(state.root / RECORD)
    _say(look.look(_params(state), root=state.root, page=page, cache=state.looked, store=store, gone=gone), say)


def sources_changed(state: State, *, say: Callable[[str], None]) -> bool:
    """Whether `look_at_sources` would write data/source.json; no URL is fetched, and nothing written but copies."""
    found = look.fingerprint(_params(state), root=state.root, cache=state.looked, store=state.folder / "collect")
    _say(found, say)
    try:
        return json.loads((state.root / PAGE).read_text("utf-8")) != json.loads(json.dumps(found))
    except (OSError, ValueError):
        return True


def _params(state: State) -> CollectParams:
    sections = config.of(state.root)
    for name in sections:
        if name not in SECTIONS:
            raise UserError(f"{config.FILE}: section '{name}' belongs to no stage{nearest(str(name), SECTIONS)}")
    return config.section(sections, "collect", CollectParams)


def _say(found: dict[str, Any], say: Callable[[str], None]) -> None:
    for each in found["sources"]:
        refused = ", ".join(f"{reason} {count}" for reason, count in each.get("refused", {}).items())
        failed = f"; not there: {refused}" if refused else ""
        say(f"source {each['name']}: {each['files']} files, {each['bytes'] / 2**20:.1f} MiB{failed}")
