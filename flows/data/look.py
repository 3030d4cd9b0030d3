"""`stillroom look`: data/source.json says what the sources hold now."""

from __future__ import annotations

from collections.abc import Callable

from components.base import config
from components.base.errors import UserError, nearest
from components.collect import look
from components.collect.params import CollectParams
from flows.dvc import schema
from flows.workspace.paths import State


def look_at_sources(state: State, *, say: Callable[[str], None]) -> None:
    """Write data/source.json when a source has changed; ``say`` gets a line for each source."""
    sections = config.of(state.root)
    for name in sections:
        if name not in schema.SECTIONS:
            raise UserError(f"{config.FILE}: section '{name}' belongs to no stage{nearest(str(name), schema.SECTIONS)}")
    params = config.section(sections, "collect", CollectParams)
    page = state.root / "data/source.json"
    found = look.look(params, root=state.root, page=page, cache=state.looked, store=state.folder / "collect")
    for each in found["sources"]:
        refused = ", ".join(f"{reason} {count}" for reason, count in each.get("refused", {}).items())
        failed = f"; not there: {refused}" if refused else ""
        say(f"source {each['name']}: {each['files']} files, {each['bytes'] / 2**20:.1f} MiB{failed}")
