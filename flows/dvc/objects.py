"""What lies in DVC's cache, or in a remote of its, and is not needed; the objects themselves, by their hashes.

`dvc gc` knows branches and tags alone: not the ledger, nor the versions in the registry.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from components.base import config
from components.base.errors import UserError
from flows.dvc import engine

_NAME = re.compile(r"[0-9a-f]{30}(\.dir)?")
_DAY = 86_400.0


@dataclass(frozen=True, kw_only=True)
class Found:
    """An object that nothing needs: ``path`` in the cache or in the remote, ``size`` in bytes."""

    path: str
    size: int


def named(text: str, where: str) -> set[str]:
    """The hashes in the text of a dvc.lock or of a .dvc file; UserError, with ``where``, when it cannot be read."""
    found: set[str] = set()

    def walk(value: Any) -> None:
        if isinstance(value, dict):
            digest = value.get("md5")
            if isinstance(digest, str) and "path" in value:
                found.add(digest)
            for each in value.values():
                walk(each)
        elif isinstance(value, list):
            for each in value:
                walk(each)

    walk(config.parse(text, where))
    return found


def whole(root: Path, digests: Iterable[str], remote: str | None = None) -> set[str]:
    """``digests`` and, of each that is a folder, the hashes of its files, listed in the cache or the remote."""
    local, found = engine.cache(root), set[str]()
    away = []
    for digest in digests:
        found.add(digest)
        if digest.endswith(".dir"):
            try:
                found |= _listed((local / digest[:2] / digest[2:]).read_text("utf-8"))
            except FileNotFoundError:
                away.append(digest)
    if remote and away:
        with engine.storage(root, remote) as store:
            for digest in away:
                path = store.oid_to_path(digest)
                if store.fs.exists(path):
                    with store.fs.open(path, "rb") as stream:
                        found |= _listed(stream.read().decode())
    return found


def _listed(text: str) -> set[str]:
    return {entry["md5"] for entry in json.loads(text)}


def spare(root: Path, needed: Collection[str]) -> Iterator[Found]:
    """The objects of the local cache that are not ``needed``, and what a killed DVC left there a day ago."""
    cache, now = engine.cache(root), time.time()
    for folder in sorted(cache.glob("[0-9a-f][0-9a-f]")):
        with os.scandir(folder) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                if not entry.is_file(follow_symlinks=False):
                    continue
                state = entry.stat(follow_symlinks=False)
                if _NAME.fullmatch(entry.name):
                    left = folder.name + entry.name not in needed
                else:
                    left = now - state.st_mtime > _DAY
                if left:
                    yield Found(path=entry.path, size=state.st_size)


def remove(root: Path, found: Iterable[Found]) -> None:
    """Remove these from the local cache: from DVC's run cache the results that name one, then folders' lists first."""
    gone = sorted(found, key=lambda each: (not each.path.endswith(".dir"), each.path))
    digests = {Path(each.path).parent.name + Path(each.path).name for each in gone}
    runs = engine.cache(root).parent.parent / "runs"
    for path in sorted(runs.glob("*/*/*")):
        try:
            outs = named(path.read_text("utf-8"), "outs")
        except (UserError, UnicodeDecodeError):  # written by halves: DVC would not take it either
            outs = digests
        if not digests.isdisjoint(outs):
            path.unlink(missing_ok=True)
    for each in gone:
        Path(each.path).unlink(missing_ok=True)


def spare_there(root: Path, remote: str, needed: Collection[str], *, days: float) -> list[Found]:
    """The objects of DVC's ``remote`` that are not ``needed`` and were written ``days`` ago or earlier.

    A machine pushes objects before the commit that names them.  What has no date there stays.
    """
    found, before = [], time.time() - days * _DAY
    with engine.storage(root, remote) as store:
        for digest in sorted(store.all()):
            if digest in needed:
                continue
            path = store.oid_to_path(digest)
            about = store.fs.info(path)
            dates = (about.get(name) for name in ("mtime", "LastModified", "last_modified"))
            written: Any = next((each for each in dates if each is not None), None)
            written = written.timestamp() if isinstance(written, datetime) else written
            if isinstance(written, float | int) and written < before:
                found.append(Found(path=path, size=int(about.get("size") or 0)))
    return found


def remove_there(root: Path, remote: str, found: Iterable[Found]) -> None:
    """Remove these from DVC's ``remote``, folders' lists first: without its list a folder counts as missing."""
    with engine.storage(root, remote) as store:
        for each in sorted(found, key=lambda each: (not each.path.endswith(".dir"), each.path)):
            store.fs.remove(each.path)
