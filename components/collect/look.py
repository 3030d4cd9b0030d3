"""Fingerprint the sources, so that DVC sees in one small file whether anything changed."""

from __future__ import annotations

import json
from pathlib import Path

from components.base import files
from components.base.errors import UserError
from components.collect.kinds import open_source
from components.collect.memory import Memory
from components.collect.params import CollectParams

FORMAT = 2
MEMORY = ".looked.json"
"""What was found out about files; it lies beside the folders of what was downloaded, and no source begins so."""


def look(params: CollectParams, *, root: Path, page: Path, cache: Path | None, store: Path | None = None) -> dict:
    """Write what the sources hold now to ``page``, when that differs; return it.

    ``cache`` remembers each file's hash by size, time and inode, so that a second look is cheap.  ``store`` holds what
    came of lists of URLs, a folder for each source; what it lacks is downloaded first, here and nowhere else.
    """
    found = fingerprint(params, root=root, cache=cache, store=store, fetch=True)
    text = json.dumps(found, indent=1, ensure_ascii=False) + "\n"
    if not page.is_file() or page.read_text("utf-8") != text:
        files.write_text(page, text)
    return found


def fingerprint(
    params: CollectParams, *, root: Path, cache: Path | None = None, store: Path | None = None, fetch: bool = False
) -> dict:
    """What ``data/source.json`` holds: for each source its form, bytes, files and a SHA-256 of the content."""
    memory = Memory(cache)
    found = []
    for at, source in enumerate(params.sources):
        kept = store / source.name if store else None
        opened = open_source(source, root=root, max_bytes=params.max_bytes, store=kept, at=at, fetch=fetch)
        told = opened.fingerprint(memory)
        if not told["files"]:
            raise UserError(
                f"{source.location}: empty: no images in it (collect.sources[{at}].location in params.yaml)"
            )
        found.append({"name": source.name, "kind": source.kind, "location": source.location, **told})
    memory.save(all_seen=True)
    return {"format": FORMAT, "sources": found}
