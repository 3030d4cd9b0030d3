"""Fingerprint the sources, so that DVC sees in one small file whether anything changed."""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path

from components import files, urllist
from components.collectparams import AnySource, CollectParams
from components.errors import UserError
from components.sources import Folder, Item, Source, locate, open_source, role

FORMAT = 2
_SETTLED = 2_000_000_000  # ns: a file changed later than this before it was hashed may change again unseen


def look(params: CollectParams, *, root: Path, page: Path, cache: Path | None, store: Path | None = None) -> dict:
    """Write what the sources hold now to ``page``, when that differs; return it.

    ``cache`` remembers each file's hash by size, time and inode, so that a second look is cheap.  ``store`` holds what
    came of lists of URLs, a folder for each source; what it lacks is downloaded first, here and nowhere else.
    """
    for source in params.sources:
        if source.kind == "urls" and store is not None:
            urllist.look(source, locate(source.location, root), store / source.name, max_bytes=params.max_bytes)
    found = fingerprint(params, root=root, cache=cache, store=store)
    text = json.dumps(found, indent=1, ensure_ascii=False) + "\n"
    if not page.is_file() or page.read_text("utf-8") != text:
        files.write_text(page, text)
    return found


def fingerprint(params: CollectParams, *, root: Path, cache: Path | None = None, store: Path | None = None) -> dict:
    """What ``data/source.json`` holds: for each source its form, bytes, files and a SHA-256 of the content."""
    memory = _Memory(cache)
    found = [
        _of(source, params, root, memory, f"collect.sources[{at}].location", store)
        for at, source in enumerate(params.sources)
    ]
    memory.save()
    return {"format": FORMAT, "sources": found}


def _of(source: AnySource, params: CollectParams, root: Path, memory: _Memory, where: str, store: Path | None) -> dict:
    if source.kind == "urls" and store is not None:
        path = locate(source.location, root, where=where)
        return {"name": source.name, "kind": source.kind, "location": source.location, "form": path.suffix[1:],
                **urllist.open_list(source, path, store / source.name).summary()}  # fmt: skip
    if source.kind != "files":
        raise UserError(f"{where.removesuffix('location')}kind: {source.kind} cannot be read yet")
    opened = open_source(locate(source.location, root, where=where), max_bytes=params.max_bytes)
    summary = _of_folder(opened, memory) if isinstance(opened, Folder) else _of_archive(opened, memory)
    if not summary["files"]:
        raise UserError(f"{source.location}: empty: no images in it ({where} in params.yaml)")
    return {"name": source.name, "kind": source.kind, "location": source.location, "form": opened.kind, **summary}


def _of_archive(source: Source, memory: _Memory) -> dict:
    known = memory.recall(source.path)
    if known is None:
        items, _ = source.listing()
        known = [files.sha256(source.path), sum(role(item.key) == "image" for item in items)]
        memory.keep(source.path, known)
    return {"bytes": source.path.stat().st_size, "files": known[1], "sha256": known[0]}


def _of_folder(source: Folder, memory: _Memory) -> dict:
    """Names of all, content of what will be read: a readme that changes makes no new data set."""
    items, refusals = source.listing()
    digest = hashlib.sha256()
    images, size = 0, 0
    for item in items:
        what = role(item.key)
        if what in ("image", "metadata"):
            _add(digest, item.key, item.size, _content(source, item, memory))
            images += what == "image"
            size += item.size
        else:
            _add(digest, item.key, what)
    for refusal in refusals:
        _add(digest, refusal.key, refusal.reason, refusal.detail)
    return {"bytes": size, "files": images, "sha256": digest.hexdigest()}


def _content(source: Folder, item: Item, memory: _Memory) -> str:
    known = memory.recall(item.place)
    if known is None:
        with source.open(item) as stream:
            known = [hashlib.file_digest(stream, "sha256").hexdigest()]
        memory.keep(item.place, known)
    return known[0]


def _add(digest: hashlib._Hash, *fields: object) -> None:
    digest.update(json.dumps(fields).encode() + b"\n")


class _Memory:
    """What was found at a path, as long as its size, time and inode stay."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._old: dict[str, list] = {}
        self._new: dict[str, list] = {}
        if path is not None:
            try:
                self._old = json.loads(path.read_text("utf-8"))
            except (OSError, ValueError):
                self._old = {}  # a lost memory costs time, nothing else

    def recall(self, path: Path) -> list | None:
        state = _state(path)
        entry = self._old.get(str(path))
        if not isinstance(entry, list) or entry[:3] != state:
            return None
        self._new[str(path)] = entry
        return entry[3:]

    def keep(self, path: Path, found: list) -> None:
        state = _state(path)
        if time.time_ns() - state[1] > _SETTLED:
            self._new[str(path)] = state + found

    def save(self) -> None:
        if self._path is not None and self._new != self._old:
            files.write_text(self._path, json.dumps(self._new))


def _state(path: Path) -> list[int]:
    found = path.stat()
    return [found.st_size, found.st_mtime_ns, found.st_ino]
