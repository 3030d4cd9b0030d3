"""Fetches what a list of URLs names and the store lacks: the only part of a source that uses the network."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from components.base.errors import UserError, printable
from components.base.events import Progress
from components.collect.memory import Memory
from components.collect.params import UrlsSource
from components.collect.sources.source import File
from components.collect.web import urllist
from components.collect.web.client import Client
from components.collect.web.download import Download, Task
from components.collect.web.failure import FetchError
from components.collect.web.fetch import Fetcher, Image
from components.collect.web.store import Entry, Store, Writer

_KEPT = {"kind": "Content-Type", "modified": "Last-Modified", "etag": "ETag"}
_LONGEST_HEADER = 200  # characters
_GONE = ("HTTP 404", "HTTP 410")
_GONE_MILLISECONDS = 7 * 86_400_000  # until what is gone is asked for again


@dataclass(frozen=True)
class Report:
    """What a look did: how many URLs it had already, fetched now, and could not fetch; and the store, for reading."""

    kept: int
    fetched: int
    failed: int
    store: Store


def fetch_all(
    source: UrlsSource, rows: Sequence[urllist.Row], store: Path, *, max_bytes: int, gone: Collection[str] = (),
    pause: Callable[[int], float] = lambda failed: 2.0**failed,
) -> Report:  # fmt: skip
    """Fetch those of ``rows`` that ``store`` lacks or that failed before; after a kill the next call goes on.

    Of the images ``gone`` (SHA-256) no bytes are kept, also when they come from another address.
    """
    with Writer(store, name=source.name, gone=gone) as writer:
        now, known = int(time.time() * 1000), writer.entries
        # What was asked for longest ago or never comes first: who fails each time keeps nobody from being asked.
        todo = sorted((Task(row.key, row.url) for row in rows if not _settled(known.get(row.key), now)),
                      key=lambda task: known.get(task.key, Entry()).asked)  # fmt: skip
        return asyncio.run(_fetch(source, todo, writer, kept=len(rows) - len(todo), max_bytes=max_bytes, pause=pause))


async def _fetch(
    source: UrlsSource, todo: Sequence[Task], writer: Writer, *, kept: int, max_bytes: int,
    pause: Callable[[int], float],
) -> Report:  # fmt: skip
    fetched = failed = 0
    now, known = int(time.time() * 1000), writer.entries
    async with Client(private=source.private, most=max_bytes) as client:
        fetcher = Fetcher(
            client, seconds=source.seconds, attempts=source.attempts, most=max_bytes, obey=source.obey, pause=pause
        )
        results = Download(fetcher, todo, attempts=source.attempts, pause=pause).results()
        progress = Progress(kept + len(todo), what=f"fetch {source.name}", unit="URLs", start=kept)
        async with contextlib.aclosing(results):
            with progress:
                async for task, result in results:
                    if isinstance(result, FetchError):
                        asked = now if task.failed else known.get(task.key, Entry()).asked
                        writer.fail(task.key, result.reason, result.detail, asked=asked, passing=result.passing)
                        failed += 1
                    else:
                        writer.put(task.key, result.data, _said(task, result))
                        fetched += 1
                    progress.advance(note=f"{failed} failed" if failed else "")
    return Report(kept, fetched, failed, writer)


def look(source: UrlsSource, file: File, store: Path, *, max_bytes: int, gone: Collection[str] = ()) -> urllist.UrlList:
    """Fetch what the list ``file`` names and ``store`` lacks; the list with what is there then.

    UserError when that is not one image.
    """
    rows, refusals = urllist.read_list(file.name, file.read_bytes(), source)
    report = fetch_all(source, rows, store, max_bytes=max_bytes, gone=gone)
    found = urllist.UrlList(rows, refusals, report.store, name=source.name)
    if not report.kept + report.fetched:
        reasons = found.fingerprint(Memory(None)).refused or {}
        failures = ", ".join(f"{reason} {count}" for reason, count in reasons.items())
        raise UserError(f"{source.location}: none of its URLs gave an image ({failures or 'it is empty'})")
    return found


def _said(task: Task, image: Image) -> dict[str, str]:
    """Where ``image`` was in the end, if that is elsewhere, and what its server said of it, for the journal."""
    final = image.url.key()
    headers = {name: image.headers.get(header, "") for name, header in _KEPT.items()}
    kept = {name: printable(value)[:_LONGEST_HEADER] for name, value in headers.items()}
    return {"final": "" if final == task.url.key() else final, **kept}


def _settled(entry: Entry | None, now: int) -> bool:
    if entry is None:
        return False
    gone = entry.detail.startswith(_GONE) and now - entry.asked < _GONE_MILLISECONDS
    return bool(entry.sha256) or entry.reason == "withdrawn" or gone
