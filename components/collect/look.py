"""Fingerprint the sources: DVC sees in one small file whether anything changed."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from components.base.errors import UserError
from components.collect import sourcefile
from components.collect.kinds import open_source, told
from components.collect.memory import Memory
from components.collect.params import CollectParams


def look(
    params: CollectParams, *, root: Path, page: Path, cache: Path | None, store: Path | None = None,
    gone: Collection[str] = (),
) -> dict[str, Any]:  # fmt: skip
    """Write what the sources hold now to ``page``, when that differs; return it.

    ``cache`` remembers each file's hash by size, time and inode, so that a second look is cheap.  ``store`` holds the
    downloads, a folder for each list of URLs; only here are missing ones downloaded, and never kept are the images
    ``gone`` (their SHA-256).
    """
    found = fingerprint(params, root=root, cache=cache, store=store, fetch=True, gone=gone)
    sourcefile.write(page, found)
    return found


def fingerprint(
    params: CollectParams, *, root: Path, cache: Path | None = None, store: Path | None = None, fetch: bool = False,
    gone: Collection[str] = (),
) -> dict[str, Any]:  # fmt: skip
    """What ``data/source.json`` holds: for each source its form, bytes, files and a SHA-256 of the content."""
    memory = Memory(cache)
    found = []
    for at, source in enumerate(params.sources):
        kept = store / source.name if store else None
        with told(source, at):
            opened = open_source(source, root=root, max_bytes=params.max_bytes, store=kept, at=at, fetch=fetch,
                                 gone=gone)  # fmt: skip
            try:
                summary = opened.fingerprint(memory)
            finally:  # a look that is stopped goes on where it was, and does not read terabytes again
                memory.save(all_seen=False)
        if not summary["files"] and (fetch or source.kind != "urls"):
            raise UserError(
                f"{source.location}: empty: no images in it (collect.sources[{at}].location in params.yaml)"
            )
        found.append({"name": source.name, "kind": source.kind, "location": source.location, **summary})
    memory.save(all_seen=True)
    return sourcefile.page(found)
