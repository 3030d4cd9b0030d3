"""Opens a source of any kind: which parts it has, and what of it belongs to none."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from components.base.errors import UserError
from components.collect.memory import Memory
from components.collect.params import AnySource
from components.collect.sources import folders, remote
from components.collect.sources.archives import Tar, open_archive
from components.collect.sources.folders import Folder
from components.collect.sources.imagefiles import ImageFiles, add
from components.collect.sources.remote import RemoteFolder
from components.collect.sources.source import File, Part, Refusal, role
from components.collect.sources.zips import Zip


@dataclass(frozen=True)
class Opened:
    """A source that is there: its parts by name ('' for the only one), and what belongs to no part."""

    form: str
    parts: dict[str, Part]
    refusals: list[Refusal] = field(default_factory=list)
    ignored: int = 0

    def fingerprint(self, memory: Memory) -> dict:
        """Form, bytes, number of images and a SHA-256 of it all; with several parts also that of each."""
        prints = {name: part.fingerprint(memory) for name, part in self.parts.items()}
        size, images = sum(each.bytes for each in prints.values()), sum(each.files for each in prints.values())
        summary = {"form": self.form, "bytes": size, "files": images}
        if list(prints) == [""]:
            only = prints[""]
            return {**summary, **({} if only.refused is None else {"refused": only.refused}), "sha256": only.sha256}
        digest = hashlib.sha256()
        for name, each in prints.items():
            add(digest, name, each.sha256)
        for refusal in self.refusals:
            add(digest, refusal.key, refusal.reason, refusal.detail)
        parts = {name: each.sha256 for name, each in prints.items()}
        return {**summary, "sha256": digest.hexdigest(), "parts": parts}


def open_source(
    source: AnySource, *, root: Path, max_bytes: int, store: Path | None, at: int, fetch: bool,
    gone: Collection[str] = (),
) -> Opened:  # fmt: skip
    """Source number ``at``, below ``root`` or in a store; UserError when it is not there or of another kind.

    ``store`` is the folder of what kind urls downloads, and of copies of tars that lie in a store elsewhere; with
    ``fetch`` what is missing of the downloads is downloaded first, but for the images ``gone`` (SHA-256).
    """
    located = locate(source.location, root=root, at=at)
    if source.kind == "files":
        if isinstance(located, Folder | RemoteFolder):
            tree: Folder | RemoteFolder | Zip | Tar = located
        else:
            tree = open_archive(located, max_bytes=max_bytes, copies=store)
        part = ImageFiles(tree, source, max_bytes=max_bytes)
        return Opened(part.form, {"": part})
    if source.kind == "parquet":
        # Imported here: a look at other kinds need not wait for pyarrow.
        from components.collect.sources.parquet import ParquetRows

        return _shards(
            located, (".parquet",), source, lambda file, key: ParquetRows(file, source, key=key, max_bytes=max_bytes)
        )
    if source.kind == "webdataset":
        from components.collect.sources.webdataset import SUFFIXES, Samples

        return _shards(
            located, SUFFIXES, source,
            lambda file, key: Samples(file, source, key=key, max_bytes=max_bytes, copies=store),
        )  # fmt: skip
    if isinstance(located, Folder | RemoteFolder):
        wanted = f"collect.sources[{at}].location in params.yaml"
        raise UserError(f"{source.location}: a folder, wanted a list of URLs ({wanted})")
    assert store is not None, "a list of URLs needs a folder for the downloads"
    # Imported here: only what looks waits for aiohttp, and only who has a list of URLs for pyarrow.
    if fetch:
        from components.collect.web import gather

        return Opened("urls", {"": gather.look(source, located, store, max_bytes=max_bytes, gone=gone)})
    from components.collect.web import urllist

    return Opened("urls", {"": urllist.open_list(source, located, store)})


@contextmanager
def told(source: AnySource, at: int) -> Iterator[None]:
    """Name source number ``at`` in each UserError that does not say yet where it comes from."""
    try:
        yield
    except UserError as error:
        if source.location in str(error) or f"sources[{at}]" in str(error):
            raise
        raise UserError(f"source {source.name}: {error}") from None


def locate(location: str, *, root: Path, at: int) -> Folder | RemoteFolder | File:
    """What lies at ``location`` of source number ``at``; UserError when nothing does."""
    where = f"collect.sources[{at}].location"
    if remote.is_remote(location):
        return remote.locate(location, where=where)
    return folders.locate(location, root, where=where)


def _shards(located: Folder | RemoteFolder | File, suffixes: tuple[str, ...], source: AnySource,
            make: Callable[[File, str], Part]) -> Opened:  # fmt: skip
    """Each file of ``located`` that ends in one of ``suffixes`` as a part; one file is a part whatever its name."""
    if not isinstance(located, Folder | RemoteFolder):
        return Opened(source.kind, {located.name: make(located, located.name)})
    items, refusals = located.listing()
    parts, ignored = {}, 0
    for item in items:
        if item.key.lower().endswith(suffixes):
            parts[item.key] = make(located.file(item), item.key)
        elif role(item.key) == "paper":
            ignored += 1
        else:
            wanted = f"kind {source.kind} reads {', '.join(suffixes)}"
            refusals.append(Refusal(item.key, "not_read", f"its name does not end as {wanted}"))
    if not parts:
        raise UserError(f"{source.location}: holds no {' or '.join(suffixes)}, which kind {source.kind} wants")
    return Opened(source.kind, parts, refusals, ignored)
