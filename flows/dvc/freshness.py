"""Which stages are stale, without importing DVC: its hashes, cached by size, time and inode as its state database does.

DVC takes half a second to import.  `stillroom data status` asks only "does what lies here have the hashes in
dvc.lock?", which takes `os.stat` of tens of files when nothing was touched.  A test compares the answers with DVC's.
"""

from __future__ import annotations

import configparser
import contextlib
import functools
import hashlib
import json
import os
import time
from collections.abc import Callable, Container, Iterator
from pathlib import Path
from typing import Any

from components.base import config, files
from components.pipeline import PIPELINE, downstream
from flows.dvc import lockfile, package

_LONGEST = 40  # characters of a value of params.yaml that are shown
_SETTLED = 2_000_000_000  # ns: a file changed later than this before it was hashed may change again unseen


class Freshness:
    """The hashes of the files in a checkout; the file ``memory`` keeps them for the next time."""

    def __init__(self, root: Path, memory: Path) -> None:
        self._root, self._memory = root, memory
        self._new: dict[str, dict[str, Any]] = {"files": {}, "known": {}}
        self._old: dict[str, dict[str, Any]] = {"files": {}, "known": {}}
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):  # a lost memory costs time, nothing else
            held = json.loads(memory.read_text("utf-8"))
            self._old = {"files": dict(held["files"]), "known": dict(held["known"])}

    def stale(self) -> list[str]:
        """The stages that are not up to date, in the pipeline's order; the same as `flows.dvc.engine.stale`."""
        changed = [name for name, unlike in self._compared() if next(unlike, None) is not None]
        affected = downstream(changed)
        return [stage.name for stage in PIPELINE if stage.name in affected]

    def reasons(self, *, given: Container[str] = ()) -> dict[str, list[str]]:
        """For each stage what makes it stale by itself, in words; an empty list where nothing does.

        ``given``: outputs that are not here, to be taken for what dvc.lock says of them.
        """
        return {name: list(unlike) for name, unlike in self._compared(given)}

    def locked(self) -> dict[str, Any]:
        """The stages of dvc.lock, as `flows.dvc.engine.lock` reads them."""
        return dict(self._parsed("dvc.lock", lockfile.text(self._root)).get("stages") or {})

    def sections(self) -> dict[str, Any]:
        """The sections of params.yaml."""
        return self._parsed(config.FILE, self._text(config.FILE))

    def _compared(self, given: Container[str] = ()) -> Iterator[tuple[str, Iterator[str]]]:
        locked, params = self.locked(), self.sections()
        stages = self._parsed("dvc.yaml", self._text("dvc.yaml")).get("stages") or {}
        for stage in PIPELINE:
            yield stage.name, self._unlike(stages.get(stage.name) or {}, locked.get(stage.name), params, given)

    def digest(self, path: str) -> str:
        """DVC's hash of what lies at ``path``, ``.dir`` at the end for a folder; empty when nothing does.

        Of what a project has of the installed package: the hash that the next run will find there.
        """
        if path in self._package:
            return hashlib.md5(self._package[path].encode(), usedforsecurity=False).hexdigest()
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):  # a running stage replaces it just now
            return self._digest(self._root / path)
        return ""

    @functools.cached_property
    def _package(self) -> dict[str, str]:
        return package.rendered(self._root) if package.is_project(self._root) else {}

    def _text(self, name: str) -> str:
        path = self._root / name
        return self._package.get(name) or (path.read_text("utf-8") if path.is_file() else "")

    def _digest(self, full: Path) -> str:
        if full.is_dir():
            found = sorted(Path(folder, name) for folder, _, names in os.walk(full) for name in names)
            listed = [{"md5": self._md5(each), "relpath": each.relative_to(full).as_posix()} for each in found]
            listed.sort(key=lambda entry: entry["relpath"])
            return hashlib.md5(json.dumps(listed, sort_keys=True).encode(), usedforsecurity=False).hexdigest() + ".dir"
        return self._md5(full) if full.is_file() else ""

    def known(self, key: str, find: Callable[[], Any]) -> Any:
        """The result of ``find``, kept under ``key``, which has to change with what it depends on; plain data."""
        held = self._old["known"]
        self._new["known"][key] = held[key] if key in held else find()
        return self._new["known"][key]

    def save(self) -> None:
        """Keep what was found for the next time, where this user may and the disk has room: only time depends on it."""
        if self._new != self._old:
            with contextlib.suppress(OSError):
                files.write_text(self._memory, json.dumps(self._new))

    def _unlike(
        self, wanted: dict[str, Any], locked: dict[str, Any] | None, params: dict[str, Any], given: Container[str]
    ) -> Iterator[str]:
        """What of a stage is not as dvc.lock has it, one after the other: who asks whether anything is stops early."""
        if not locked:
            yield "it has not run yet"
            return
        if locked.get("cmd") != wanted.get("cmd"):
            yield "its command is another"
        sections = (locked.get("params") or {}).get(config.FILE) or {}
        for name in wanted.get("params") or []:
            if name not in sections:
                yield f"{config.FILE}: {name} is new to it"
            else:
                yield from _other(sections[name], params.get(name), f"{config.FILE}: {name}")
        deps, outs, metrics = (
            [entry if isinstance(entry, str) else next(iter(entry)) for entry in wanted.get(part) or []]
            for part in ("deps", "outs", "metrics")
        )
        recorded = {entry["path"]: entry.get("md5") for part in ("deps", "outs") for entry in locked.get(part) or []}
        for path in (*deps, *outs, *metrics):
            if path not in recorded:
                yield f"{path} is new to it"
            elif path not in given and (found := self.digest(path)) != recorded[path]:
                yield f"{path} has changed" if found else f"{path} is not here"
        for path in outs:
            if path in recorded and path not in given and not self.held(recorded[path]):
                yield f"{path} is not in DVC's cache"

    def held(self, digest: str) -> bool:
        """Whether DVC's cache holds the output: what is not there DVC makes again, so that others can have it."""
        cache = self._cache / "files" / "md5"
        found = cache / digest[:2] / digest[2:]
        try:
            listed = json.loads(found.read_text("utf-8")) if digest.endswith(".dir") else []
            return found.is_file() and all((cache / each["md5"][:2] / each["md5"][2:]).is_file() for each in listed)
        except (OSError, ValueError, KeyError, TypeError):
            return False

    @functools.cached_property
    def _cache(self) -> Path:
        """DVC's cache folder as the checkout's own configuration has it; relative paths start at .dvc."""
        config = configparser.ConfigParser(interpolation=None)
        with contextlib.suppress(configparser.Error):
            config.read([self._root / ".dvc/config", self._root / ".dvc/config.local"], encoding="utf-8")
        return self._root / ".dvc" / config.get("cache", "dir", fallback="cache")

    def _parsed(self, name: str, text: str) -> dict[str, Any]:
        if not text:
            return {}

        def parse() -> Any:
            # JSON between the parser and us: what comes from the memory and what is fresh are the same plain data.
            return json.loads(json.dumps(config.parse(text, name), default=str))

        return self.known(f"{name} {hashlib.sha256(text.encode()).hexdigest()}", parse)

    def _md5(self, path: Path) -> str:
        found = path.stat()
        state = [found.st_size, found.st_mtime_ns, found.st_ino]
        name = path.relative_to(self._root).as_posix()
        entry = self._new["files"].get(name) or self._old["files"].get(name)
        if entry and entry[:3] == state:
            self._new["files"][name] = entry
            return entry[3]
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
        if time.time_ns() - found.st_mtime_ns > _SETTLED:
            self._new["files"][name] = [*state, digest]
        return digest


def _other(before: Any, now: Any, name: str) -> Iterator[str]:
    """Each value that is not the same, with its name and both."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in dict.fromkeys((*before, *now)):
            if key in before and key in now:
                yield from _other(before[key], now[key], f"{name}.{key}")
            else:
                yield f"{name}.{key} is {'new' if key in now else 'gone'}"
    elif before != now:
        yield f"{name} {_short(before)} -> {_short(now)}"


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
