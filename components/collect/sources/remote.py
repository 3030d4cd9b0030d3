"""Stores that fsspec knows (s3://, gs://, hf://, memory:// ...): a prefix is a folder, an object a file.

Credentials come from the environment, as for each store's own tools; none stands in params.yaml or in an output.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from components.base.errors import UserError
from components.collect.sources.source import Item, Refusal, sift, why

if TYPE_CHECKING:
    from typing_extensions import Buffer  # typing has it from Python 3.12 on

_READERS = 16  # requests under way at a time: most of the time is spent waiting for the store
_BLOCK = 8 * 2**20  # bytes asked for at once of a large object
# The names under which stores give a mark of the content, best first; the time of change comes last.
_MARKS = ("ETag", "etag", "md5Hash", "md5", "blob_id", "content_md5", "crc32c", "LastModified", "last_modified",
          "updated", "mtime")  # fmt: skip
_ELSEWHERE = {"http": "kind urls fetches", "https": "kind urls fetches", "file": "a plain path names",
              "local": "a plain path names"}  # fmt: skip


class RemoteFile:
    """An object of a store."""

    def __init__(self, fs: Any, path: str, info: dict, address: str) -> None:
        self._fs, self._path, self._address = fs, path, address
        self.name = path.rstrip("/").rpartition("/")[2]
        self.size = int(info["size"])
        self.mark = _mark(info)
        self.state = (self.size, self.mark) if self.mark else None

    def __str__(self) -> str:
        return self._address

    def open(self) -> io.BufferedReader:
        """A seekable stream of its bytes."""
        with _explained(self._address):
            stream = self._fs.open(self._path, "rb", block_size=_BLOCK)
        return io.BufferedReader(_Stream(stream, self._address), 2**20)

    def read_bytes(self) -> bytes:
        """All of it."""
        with self.open() as stream:
            return stream.read()


class RemoteFolder:
    """All objects below a prefix."""

    form = "folder"

    def __init__(self, fs: Any, path: str, address: str) -> None:
        self._fs, self._path, self._address = fs, path.rstrip("/"), address.rstrip("/")

    def listing(self) -> tuple[list[Item], list[Refusal]]:
        """Every object and every refusal, each sorted by key."""
        with _explained(self._address):
            self._fs.invalidate_cache()
            found = self._fs.find(self._path, detail=True)
        members = []
        for path, info in sorted(found.items()):
            if path.endswith("/") or info.get("type") == "directory":
                continue  # what some tools write to stand for a folder
            trouble = None
            if info.get("type") != "file":
                trouble = ("link", "no plain object")
            elif not isinstance(info.get("size"), int):
                trouble = ("unreadable", "the store does not say its size")
            members.append((path[len(self._path) :].removeprefix("/"), info.get("size") or 0, (path, info), trouble))
        return sift(members)

    def read(self, items: Sequence[Item]) -> Iterator[tuple[Item, bytes]]:
        """The bytes of ``items`` in the order given, several asked for at a time."""
        with ThreadPoolExecutor(_READERS) as pool:
            for at in range(0, len(items), _READERS):
                some = items[at : at + _READERS]
                yield from zip(some, pool.map(self._whole, some), strict=True)

    def file(self, item: Item) -> RemoteFile:
        """``item`` as a file."""
        path, info = item.location
        return RemoteFile(self._fs, path, info, f"{self._address}/{item.key}")

    def open(self, item: Item) -> io.BufferedReader:
        """A stream of ``item``."""
        return self.file(item).open()

    def identity(self, item: Item) -> tuple[str, tuple[int, str | None] | None, str | None]:
        """What memory knows ``item`` by, its state, and the store's mark of its content, if it has one."""
        file = self.file(item)
        return str(file), file.state, file.mark

    def _whole(self, item: Item) -> bytes:
        if not item.size:
            return b""
        address = f"{self._address}/{item.key}"
        with _explained(address):
            data = self._fs.cat_file(item.location[0], start=0, end=item.size + 1)
        if len(data) != item.size:
            raise UserError(f"{address}: changed while it was read: run the same command again")
        return data


def is_remote(location: str) -> bool:
    """Whether ``location`` is an address and no path."""
    return "://" in location


def locate(location: str, *, where: str) -> RemoteFile | RemoteFolder:
    """What lies at the address ``location``; ``where`` names the parameter."""
    protocol = location.partition("://")[0]
    if protocol in _ELSEWHERE:
        raise UserError(f"{location}: {_ELSEWHERE[protocol]} such an address ({where} in params.yaml)")
    if not protocol.isalnum() or "::" in location:
        raise UserError(f"{location}: wanted one address such as s3://bucket/prefix ({where} in params.yaml)")
    import fsspec

    try:
        fs, path = fsspec.core.url_to_fs(location, skip_instance_cache=True)  # the environment may have changed
    except (ImportError, ValueError) as error:
        raise UserError(f"{location}: {why(error)} ({where} in params.yaml)") from None
    with _explained(location, where):
        fs.invalidate_cache()
        info = fs.info(path)
    if info.get("type") == "directory":
        return RemoteFolder(fs, path, location)
    return RemoteFile(fs, path, info, location)


class _Stream(io.RawIOBase):
    """A store's stream whose errors become one line for the user."""

    def __init__(self, stream: Any, address: str) -> None:
        self._stream, self._address = stream, address

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer) -> int:
        with _explained(self._address):
            data: bytes = self._stream.read(memoryview(buffer).nbytes)
        memoryview(buffer)[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        return self._stream.tell()

    def close(self) -> None:
        self._stream.close()
        super().close()


@contextmanager
def _explained(address: str, where: str = "") -> Iterator[None]:
    """Turn any error of a store's library into one line; each library has its own exceptions."""
    hint = f" ({where} in params.yaml)" if where else ""
    try:
        yield
    except UserError:
        raise
    except FileNotFoundError:
        raise UserError(f"{address}: not there{hint}") from None
    except Exception as error:
        raise UserError(f"{address}: cannot be read ({type(error).__name__}: {why(error)}){hint}") from None


def _mark(info: dict) -> str | None:
    for name in _MARKS:
        if info.get(name):
            return str(info[name])
    return None
