"""Kind ``urls`` as the one part of a source: what components/collect/web/urllist.py downloaded, read from its store."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from components.collect.memory import Memory
from components.collect.sources.source import Item, Print, Refusal, Said, Survey
from components.collect.web.urllist import UrlList


class Downloads:
    """The images that came of a list of URLs."""

    form = "urls"

    def __init__(self, listed: UrlList) -> None:
        self._listed = listed

    def fingerprint(self, memory: Memory) -> Print:
        """What came of each URL, and why the others did not."""
        told = self._listed.summary()
        return Print(told["bytes"], told["files"], told["sha256"], told["refused"])

    def survey(self, memory: Memory) -> Survey:
        """Its images, unread, and what the list says of each."""
        items, refusals = self._listed.listing()
        captions = self._listed.captions()
        said = [Said(each.text, each.label, each.group) for each in (captions[item.key] for item in items)]
        return Survey([item._replace(sha256=item.place.sha256) for item in items], said, refusals, 0)

    def read(self, items: Sequence[Item]) -> Iterator[tuple[Item, bytes | Refusal]]:
        """The bytes of ``items`` in the order given."""
        return self._listed.read(items)

    def remember(self, item: Item, sha256: str, memory: Memory) -> None:
        """Nothing: the store knows the hash of each image."""
