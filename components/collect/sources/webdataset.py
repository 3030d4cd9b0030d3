"""Kind ``webdataset``: tar shards; the files of a sample have the same name up to the first dot."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from components.base.errors import UserError, nearest
from components.collect.memory import Memory
from components.collect.params import WebdatasetSource
from components.collect.sources import tables
from components.collect.sources.archives import Tar, open_archive
from components.collect.sources.imagefiles import of_file, too_big
from components.collect.sources.source import (
    IMAGE_SUFFIXES,
    Annotation,
    File,
    Item,
    Print,
    Refusal,
    Survey,
    litter,
    sift,
)

SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
TEXTS = ("txt", "cls", "json")
MOST_TEXT = 2**20  # bytes of the largest member with text


@dataclass
class _Sample:
    """The members of a sample: its images, its texts by extension, and whether an image of it was refused."""

    images: list[Item] = field(default_factory=list)
    texts: dict[str, bytes] = field(default_factory=dict)
    refused: bool = False


class Samples:
    """One tar shard; an image is called ``shard/member``."""

    form = "webdataset"

    def __init__(self, file: File, source: WebdatasetSource, *, key: str, max_bytes: int,
                 copies: Path | None) -> None:  # fmt: skip
        self._file, self._source, self._key, self._max_bytes, self._copies = file, source, key, max_bytes, copies
        names = ("text", "label", "group")
        columns = {name: getattr(source, f"{name}_column") for name in names}
        self._columns = {name: column.split(".") for name, column in columns.items() if column}
        self._texts = {path[0] for path in self._columns.values()}

    def fingerprint(self, memory: Memory) -> Print:
        """The shard's bytes, or what its store says of them."""
        return of_file(self._file, memory, self._count)

    def survey(self, memory: Memory) -> Survey:
        """Its images, unread, and what the other members of their samples say."""
        blobs: dict[Any, bytes] = {}
        found = []
        for member, data in self._tar.members(lambda name, size: _ends(name)[1] in self._texts and size <= MOST_TEXT):
            found.append(member)
            if data is not None:
                blobs[member[2]] = data
        items, refusals = sift(found)
        refusals = [Refusal(f"{self._key}/{each.key}", each.reason, each.detail) for each in refusals]
        samples, ignored = self._group(items, blobs, refusals)
        images, annotations = [], []
        for name, sample in samples.items():
            try:
                annotation = Annotation(**{what: _value(path, sample.texts) for what, path in self._columns.items()})
            except UserError as error:
                refusals += [Refusal(item.key, "bad_text", str(error)) for item in sample.images]
                continue
            if not sample.images and not sample.refused:
                refusals.append(Refusal(f"{self._key}/{name}", "file_missing", "a sample without an image"))
            images += sample.images
            annotations += [annotation] * len(sample.images)
        order = sorted(range(len(images)), key=lambda at: images[at].key)
        there = frozenset(end for sample in samples.values() for end in sample.texts)
        return Survey([images[at] for at in order], [annotations[at] for at in order], refusals, ignored, there)

    def read(self, items: Sequence[Item]) -> Iterator[tuple[Item, bytes]]:
        """The bytes of ``items`` in the order in which they lie in the shard."""
        return self._tar.read(items) if items else iter(())

    def remember(self, item: Item, sha256: str, memory: Memory) -> None:
        """Nothing: a shard that did not change is not read again."""

    @cached_property
    def _tar(self) -> Tar:
        opened = open_archive(self._file, max_bytes=self._max_bytes, copies=self._copies)
        if not isinstance(opened, Tar):
            raise UserError(f"{self._file}: a {opened.form}, wanted a tar (kind webdataset)")
        return opened

    def _count(self) -> int:
        return sum(
            _is_image(name) and not trouble and not litter(name) for (name, _, _, trouble), _ in self._tar.members()
        )

    def _group(
        self, items: list[Item], blobs: Mapping[Any, bytes], refusals: list[Refusal]
    ) -> tuple[dict[str, _Sample], int]:
        """The members by sample, in order of names; how many were texts that nobody asked for."""
        samples: dict[str, _Sample] = {}
        ignored = 0
        for item in items:
            name, end = _ends(item.key)
            key = f"{self._key}/{item.key}"
            if _is_image(item.key):
                if item.size > self._max_bytes:
                    refusals.append(too_big(key, item.size, self._max_bytes))
                    samples.setdefault(name, _Sample()).refused = True
                else:
                    samples.setdefault(name, _Sample()).images.append(item._replace(key=key))
            elif end in self._texts:
                if item.location in blobs:
                    samples.setdefault(name, _Sample()).texts[end] = blobs[item.location]
                else:
                    refusals.append(Refusal(key, "too_big", f"{item.size} bytes of text, at most {MOST_TEXT}"))
            elif end in TEXTS:
                ignored += 1
            else:
                refusals.append(Refusal(key, "not_an_image", "its extension is not one that is read here"))
        return samples, ignored


def check(source: WebdatasetSource, surveys: Iterable[Survey]) -> None:
    """UserError when a column names an extension that no sample of any shard has; one shard may lack it."""
    there = frozenset[str]().union(*(survey.texts for survey in surveys))
    columns = (source.text_column, source.label_column, source.group_column)
    for end in sorted({column.split(".")[0] for column in columns if column} - there):
        listed = ", ".join(sorted(there)) or "no text that was asked for"
        raise UserError(
            f"{source.location}: no member ends in '.{end}'{nearest(end, TEXTS)}; its samples have {listed}"
        )


def _ends(name: str) -> tuple[str, str]:
    """The sample's name and the extension: what stands before and behind the first dot of the file's name."""
    folder, slash, last = name.rpartition("/")
    stem, _, end = last.partition(".")
    return folder + slash + stem, end.lower()


def _is_image(name: str) -> bool:
    stem, end = _ends(name)
    return f".{end}" in IMAGE_SUFFIXES and not stem.endswith("/") and stem != ""


def _value(path: list[str], texts: dict[str, bytes]) -> str | None:
    """The value at ``path``: an extension, and behind it the keys of a JSON member."""
    end, *keys = path
    blob = texts.get(end)
    if blob is None:
        return None
    try:
        text = blob.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"'.{end}': not UTF-8 text ({error.reason} at byte {error.start})") from None
    if not keys:
        return tables.plain(text, f"'.{end}'")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"'.{end}': not JSON ({error})") from None
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return tables.plain(value, f"'{'.'.join(path)}'")
