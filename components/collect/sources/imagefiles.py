"""Kind ``files``: image files in a folder or an archive, with captions in metadata.csv or metadata.jsonl."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property

from components.base.errors import UserError
from components.collect.memory import Memory
from components.collect.params import FilesSource
from components.collect.sources import metadata
from components.collect.sources.archives import Tar
from components.collect.sources.folders import Folder
from components.collect.sources.remote import RemoteFolder
from components.collect.sources.source import METADATA_NAMES, Annotation, File, Item, Print, Refusal, Survey, role
from components.collect.sources.zips import Zip


class ImageFiles:
    """A folder, a prefix of a store, a zip or a tar as the one part of a source."""

    def __init__(self, tree: Folder | RemoteFolder | Zip | Tar, source: FilesSource, *, max_bytes: int) -> None:
        self.form = tree.form
        self._tree, self._source, self._max_bytes = tree, source, max_bytes

    def fingerprint(self, memory: Memory) -> Print:
        """Of a folder the names of all and the content of what will be read; of an archive its bytes."""
        tree = self._tree
        if isinstance(tree, Zip | Tar):
            return of_file(tree.file, memory, self._count)
        items, refusals = self._listing
        digest = hashlib.sha256()
        images, size = 0, 0
        for item in items:
            what = role(item.key)
            if what in ("image", "metadata"):  # a readme that changes makes no new data set
                name, state, mark = tree.identity(item)
                known = memory.recall(name, state)  # also with a mark: recalling keeps the hash in memory
                add(digest, item.key, item.size, mark or (known[0] if known else self._hash(tree, item, memory)))
                images += what == "image"
                size += item.size
            else:
                add(digest, item.key, what)
        for refusal in refusals:
            add(digest, refusal.key, refusal.reason, refusal.detail)
        return Print(size, images, digest.hexdigest())

    def survey(self, memory: Memory) -> Survey:
        """Its images, unread, and what the metadata says of each."""
        items, refusals = self._listing[0], list(self._listing[1])
        by_role: dict[str, list[Item]] = {"image": [], "metadata": [], "paper": [], "other": []}
        for item in items:
            by_role[role(item.key)].append(item)
        for item in by_role["other"]:
            detail = "its name does not end like an image's that is read here"
            refusals.append(Refusal(item.key, "not_an_image", detail))
        has_metadata = bool(by_role["metadata"])
        if not has_metadata:
            self._check_columns()
        captions, unusable = self._captions(by_role["metadata"], refusals)
        images = []
        for item in by_role["image"]:
            if item.size > self._max_bytes:
                refusals.append(too_big(item.key, item.size, self._max_bytes))
            elif item.key in unusable and item.key not in captions:
                continue  # refused with its row
            elif has_metadata and item.key not in captions:
                refusals.append(Refusal(item.key, "metadata_missing", "no row of the metadata names this image"))
            else:
                images.append(self._known(item, memory))
        there = {item.key for item in by_role["image"]}
        for key, caption in captions.items():
            if key not in there:
                refusals.append(Refusal(key, "file_missing", f"{caption.where} names it, and it is not there"))
        of_folder = not has_metadata or self._source.label_column is None
        annotations = [_annotation(captions.get(item.key), item.key, of_folder) for item in images]
        return Survey(images, annotations, refusals, len(by_role["paper"]))

    def read(self, items: Sequence[Item]) -> Iterator[tuple[Item, bytes]]:
        """The bytes of ``items``, each once, in the order that suits it."""
        return self._tree.read(items) if items else iter(())

    def remember(self, item: Item, sha256: str, memory: Memory) -> None:
        """Keep the hash of ``item``, so that it need not be read again."""
        if not isinstance(self._tree, Zip | Tar):
            name, state, _ = self._tree.identity(item)
            memory.keep(name, state, [sha256])

    def _check_columns(self) -> None:
        """UserError when columns of a metadata file are asked for, which is not there."""
        asked = [name for name in type(self._source).COLUMNS if getattr(self._source, name)]
        if asked:
            raise UserError(
                f"{self._source.location}: {', '.join(asked)} of source '{self._source.name}' ask for columns of "
                f"{' or '.join(METADATA_NAMES)}, and none is in it: add one, or set them to null in params.yaml "
                "(then the label is the name of the image's folder)"
            )

    @cached_property
    def _listing(self) -> tuple[list[Item], list[Refusal]]:
        return self._tree.listing()

    def _known(self, item: Item, memory: Memory) -> Item:
        if isinstance(self._tree, Zip | Tar):
            return item
        name, state, _ = self._tree.identity(item)
        known = memory.recall(name, state)
        return item._replace(sha256=known[0]) if known else item

    def _hash(self, tree: Folder | RemoteFolder, item: Item, memory: Memory) -> str:
        with tree.open(item) as stream:
            sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
        self.remember(item, sha256, memory)
        return sha256

    def _count(self) -> int:
        return sum(role(item.key) == "image" for item in self._listing[0])

    def _captions(self, items: list[Item], refusals: list[Refusal]) -> tuple[dict[str, metadata.Caption], set[str]]:
        """What the metadata says of each image that it names, and which images it names in a way that is of no use."""
        for item in items:
            if item.size > self._max_bytes:
                raise UserError(
                    f"{self._source.location}: {item.key} has {item.size} bytes, "
                    f"more than collect.max_bytes = {self._max_bytes}"
                )
        captions: dict[str, metadata.Caption] = {}
        unusable: set[str] = set()
        blobs = {item.key: blob for item, blob in self.read(items)}
        columns = {name: getattr(self._source, name) for name in ("text_column", "label_column", "group_column")}
        for key in sorted(blobs):
            for row in metadata.parse(key, blobs[key], **columns):
                if row.reason:
                    refusals.append(Refusal(row.key, row.reason, row.detail))
                    unusable.add(row.key)
                elif row.key in captions:
                    detail = f"{row.where}; what {captions[row.key].where} says counts"
                    refusals.append(Refusal(row.key, "metadata_twice", detail))
                else:
                    captions[row.key] = row
        return captions, unusable


def of_file(file: File, memory: Memory, count: Callable[[], int]) -> Print:
    """The fingerprint of a file: the store's mark of its content, else its SHA-256; ``count`` counts its images."""
    known = memory.recall(str(file), file.state)
    if known is None or len(known) != 2:
        known = [_content(file), count()]
        memory.keep(str(file), file.state, known)
    return Print(file.size, known[1], known[0])


def _content(file: File) -> str:
    if file.mark:
        return hashlib.sha256(json.dumps([file.size, file.mark]).encode()).hexdigest()
    with file.open() as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def too_big(key: str, size: int, most: int) -> Refusal:
    """The refusal of an image of ``size`` bytes."""
    return Refusal(key, "too_big", f"{size} bytes, at most {most} are taken in")


def add(digest: hashlib._Hash, *fields: object) -> None:
    """Add a record to a fingerprint, so that no two lists of records give the same bytes."""
    digest.update(json.dumps(fields).encode() + b"\n")


def _annotation(caption: metadata.Caption | None, key: str, of_folder: bool) -> Annotation:
    """Caption, label and group; without metadata the label is the name of the image's folder."""
    said = caption.annotation if caption else Annotation()
    return said._replace(label=key.rpartition("/")[0].rpartition("/")[2] or None) if of_folder else said
