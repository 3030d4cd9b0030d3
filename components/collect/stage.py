"""Bring source images, captions and labels into data/raw, which only grows.

A refresh appends new images, in order of the sources and of the names in each.  An image that is gone from its source
stays and is no longer a member.  Captions and labels follow the source.  The bytes of withdrawn images are removed.
What did not change since the last collection is not read again.  The index is written after the new shards and before
old ones are removed: a killed run leaves the old index or the new one, and the next run goes on behind the shards that
were whole (unfinished.py), or removes those that no index names.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.base import files
from components.base.errors import UserError
from components.base.events import Progress
from components.collect import bare, erasure, ledger, sourcefile
from components.collect.index import Arrivals, Index, Refused, part_of
from components.collect.kinds import Opened, open_source, told
from components.collect.ledger import Ledger
from components.collect.memory import MEMORY, Memory
from components.collect.params import AnySource, CollectParams
from components.collect.sources import copies, webdataset
from components.collect.sources.source import Annotation, Item, Part, Refusal, Survey
from components.collect.unfinished import NAME, Unfinished, identity
from components.decode.reserved import reserved
from components.samples import shards
from components.samples import withdrawn as record

log = logging.getLogger(__name__)

_NOTHING: dict[str, Any] = {"parts": {}, "ignored": 0}  # what is known of a new source


@dataclass
class Plan:
    """The work on one source: the parts that did not change, and the others with their surveys."""

    source: AnySource
    parameters_hash: str
    sha256: str
    prints: dict[str, str]
    stays: set[str]
    opened: Opened | None
    surveys: dict[str, Survey]
    reread: bool
    """Whether images that are stored are to be read again: another rule may hold for what is taken in, and how."""


def collect(params: CollectParams, *, look: Path, withdrawn: Path, raw: Path, scratch: Path) -> dict[str, float]:
    """Bring images, captions and labels into Parquet shards that only grow, and list what was refused."""
    gone = set(record.names(withdrawn))
    _refuse_lost_index(raw)
    memory = Memory(scratch / MEMORY)
    before = ledger.read(raw) if (raw / shards.INDEX).exists() and (raw / shards.REFUSED).exists() else {}
    plans = _plan(params, look, before, gone, memory, scratch)
    _begin(raw)
    index, refused = Index(raw), Refused(raw)
    unfinished = _go_on(plans, index, gone, raw, scratch)
    offered = index.offered(gone)
    erased = erasure.erase(raw, index.columns, gone)
    with contextlib.closing(unfinished):
        after = _refresh(plans, index, refused, before, gone, raw, memory, params, unfinished)
    _repeat(offered, plans, refused, after)
    ledger.write(raw, ledger.between(before, after, {plan.source.name: plan.stays for plan in plans}))
    refused.write(raw)
    index.write(raw)
    ledger.write(raw, after)
    unfinished.clear()
    for name in erased:
        (raw / name).unlink()
    memory.save(all_seen=False)
    copies.clear(scratch)
    return _numbers(index, refused, after)


def _refuse_lost_index(raw: Path) -> None:
    """UserError when there are shards and no index, as after an interrupted `dvc checkout`: they would be removed."""
    if shards.present(raw) and not (raw / shards.INDEX).exists():
        raise UserError(
            f"{raw / shards.INDEX}: lost, and the shards beside it hold images that may be nowhere else: "
            f"`dvc checkout` brings it back (to begin anew, remove {raw})"
        )


def _begin(raw: Path) -> None:
    """Make an empty index before the first shard, so that shards without one always mean that it was lost."""
    raw.mkdir(parents=True, exist_ok=True)
    if not (raw / shards.INDEX).exists():
        Index(raw).write(raw)


def _go_on(plans: list[Plan], index: Index, gone: set[str], raw: Path, scratch: Path) -> Unfinished:
    """What a killed collection of the same things has left in ``raw``; anything else that one left is removed."""
    named = set(index.columns["shard"])
    prints = [[plan.source.name, plan.parameters_hash, plan.prints] for plan in plans]
    if erasure.stored(index.columns, gone):  # it writes shards, which take the numbers of those that are left
        (scratch / NAME).unlink(missing_ok=True)
    of = identity(prints, sorted(gone), files.sha256(raw / shards.INDEX))
    found = Unfinished(scratch / NAME, raw, of=of, first=shards.after(named))
    orphans = shards.clear_orphans(raw, named.union(found.shards))
    if orphans:
        log.info("removed %d shards that a killed run left", len(orphans))
    if found.shards:
        log.info("going on behind %d shards that a killed run had written", len(found.shards))
    index.locations.update(found.locations)
    return found


def _plan(
    params: CollectParams, look: Path, before: Ledger, gone: set[str], memory: Memory, scratch: Path
) -> list[Plan]:
    """Open and survey what changed; nothing is written before all of it has been read."""
    root = look.parent.parent  # data/source.json lies in the project's folder; relative sources start there
    page = sourcefile.read(look, params)
    plans = []
    for at, (source, seen) in enumerate(zip(params.sources, page, strict=True)):
        parameters_hash = ledger.parameters_hash(source, params)
        prints = seen.get("parts", {"": seen["sha256"]})
        stays = ledger.unchanged(before.get(source.name), parameters_hash, prints, gone)
        known = before.get(source.name, {})
        _notes(source, params, known, gone)
        if len(stays) == len(prints) and known["sha256"] == seen["sha256"]:
            plans.append(Plan(source, parameters_hash, seen["sha256"], prints, stays, None, {}, False))
            continue
        with told(source, at):
            opened = open_source(source, root=root, max_bytes=params.max_bytes, store=scratch / source.name, at=at,
                                 fetch=False)  # fmt: skip
            if {**seen, **opened.fingerprint(memory)} != seen:
                again = "run it again (before `dvc repro`: `stillroom look`)"
                raise UserError(f"{source.location}: {sourcefile.CHANGED}: {again}")
            surveys = {name: part.survey(memory) for name, part in opened.parts.items() if name not in stays}
            refusals = [*opened.refusals, *(each for survey in surveys.values() for each in survey.refusals)]
            if not stays and not any(survey.items for survey in surveys.values()):
                raise UserError(f"{source.location}: no image in it that can be imported{_reasons(refusals)}")
            if source.kind == "webdataset" and not stays:  # what stays was taken in with the same columns
                webdataset.check(source, surveys.values())
        reread = known.get("told") != parameters_hash
        plans.append(Plan(source, parameters_hash, seen["sha256"], prints, stays, opened, surveys, reread))
    return plans


def _notes(source: AnySource, params: CollectParams, known: dict[str, Any], gone: set[str]) -> None:
    """Say what a change of `collect.notes` does to what was taken in; UserError where it would bring back bytes."""
    was = known.get("notes", "keep")
    if not known or was == params.notes:
        return
    if gone and params.notes == "keep":
        raise UserError(
            f"collect.notes keep: source {source.name} was taken in with strip, and images were withdrawn; the record "
            "knows them without their notes, so their files would come back: leave strip, or call the source otherwise "
            "and take those images out of it first"
        )
    log.warning("collect.notes was %s: the files of %s get other SHA-256, so that decisions about them "
                "(data/decisions.jsonl) hold no more", was, source.name)  # fmt: skip


def _refresh(plans: list[Plan], index: Index, refused: Refused, before: Ledger, gone: set[str], raw: Path,
             memory: Memory, params: CollectParams, unfinished: Unfinished) -> Ledger:  # fmt: skip
    """Bring ``index`` and ``refused`` up to date, with new bytes in new shards; what to write into the ledger."""
    total = sum(len(survey.items) for plan in plans for survey in plan.surveys.values())
    after = {}
    with ExitStack() as stack:
        writer = stack.enter_context(shards.ShardWriter(raw, first=shards.following(raw)))
        progress = Progress(total, what="collect")
        if total:  # no progress bar when there is nothing to read
            stack.enter_context(progress)
        for plan in plans:
            name, opened, known = plan.source.name, plan.opened, before.get(plan.source.name, _NOTHING)
            index.stay(name, plan.stays)
            refused.stay(name, plan.stays if opened else None)
            parts = {part: known["parts"][part] for part in plan.stays}
            if opened:
                for refusal in opened.refusals:
                    refused.add(name, refusal)
                arrivals = index.arrivals(plan.source)
                for part, survey in plan.surveys.items():
                    taker = _Taker(plan, arrivals, index, refused, gone, writer, progress, params, unfinished)
                    taker.take(opened.parts[part], survey, memory)
                    parts[part] = {"sha256": plan.prints[part], "ignored": survey.ignored}
                    parts[part]["offers"] = sorted(taker.offers)
                arrivals.append()
            ignored = opened.ignored if opened else known["ignored"]
            after[name] = {"name": name, "notes": params.notes, "told": plan.parameters_hash,
                           "sha256": plan.sha256, "ignored": ignored,
                           "parts": parts}  # fmt: skip
    unfinished.keep(writer.whole)
    return after


class _Taker:
    """Reads the images of a part, and imports or refuses each."""

    def __init__(self, plan: Plan, arrivals: Arrivals, index: Index, refused: Refused, gone: set[str],
                 writer: shards.ShardWriter, progress: Progress, params: CollectParams,
                 unfinished: Unfinished) -> None:  # fmt: skip
        self._source, self._reread = plan.source, plan.reread
        self._obey, self._strip = params.opt_outs == "refuse", params.notes == "strip"
        self._arrivals, self._locations = arrivals, index.locations
        self._refused, self._gone, self._writer, self._progress = refused, gone, writer, progress
        self._unfinished = unfinished
        self.offers: set[str] = set()
        """The withdrawn images that the part still holds."""

    def take(self, part: Part, survey: Survey, memory: Memory) -> None:
        """Take in every image of ``survey``; what is known and stored is not read."""
        annotations = {item.key: each for item, each in zip(survey.items, survey.annotations, strict=True)}
        for refusal in survey.refusals:
            self._refused.add(self._source.name, refusal)
        unread = []
        for item in survey.items:
            stored = item.sha256 in self._locations and not self._reread
            taken = self._unfinished.taken.get((self._source.name, item.key))
            if taken:
                self._one(item, *taken, annotations[item.key], None)
            elif item.sha256 and (stored or item.sha256 in self._gone):
                self._one(item, item.sha256, item.size, annotations[item.key], None)
            else:
                unread.append(item)
        read = self._read(part, unread, memory)
        for item, data in bare.each(read) if self._strip else read:
            if isinstance(data, Refusal):
                self._refuse(data)
            else:
                self._one(item, hashlib.sha256(data).hexdigest(), len(data), annotations[item.key], data)

    def _read(self, part: Part, items: list[Item], memory: Memory) -> Iterator[tuple[Item, bytes]]:
        """The bytes of each of ``items`` as the source has them; what is refused is listed."""
        for item, data in part.read(items):
            if isinstance(data, Refusal):
                self._refuse(data)
                continue
            sha256 = hashlib.sha256(data).hexdigest()
            if item.sha256 not in (None, sha256):
                raise UserError(f"{self._source.location}: {item.key} changed while it was read: run `stillroom look`")
            part.remember(item, sha256, memory)
            if sha256 in self._gone:
                self._one(item, sha256, len(data), Annotation(), None)
            elif self._obey and (word := reserved(data)):
                self._refuse(Refusal(item.key, "opted_out", f"its file says {word}"))
            else:
                yield item, data

    def _refuse(self, refusal: Refusal) -> None:
        self._refused.add(self._source.name, refusal)
        self._progress.advance()

    def _one(self, item: Item, sha256: str, size: int, annotation: Annotation, data: bytes | None) -> None:
        self._progress.advance()
        if sha256 in self._gone:
            self._refused.add(self._source.name, _withdrawn(item.key))
            self.offers.add(sha256)
            return
        if sha256 not in self._locations:  # the same bytes are stored once
            text, label, licence = annotation.text, annotation.label, self._source.licence
            record = (sha256, data, self._source.name, item.key, text, label, licence)
            self._locations[sha256] = self._writer.add(record)
        self._arrivals.take(item.key, sha256, size, annotation, self._locations[sha256])
        if data is not None:
            self._unfinished.took(self._source.name, item.key, sha256, size, self._locations[sha256])
            self._unfinished.keep(self._writer.whole)


def _repeat(offered: list[tuple[str, str, str]], plans: list[Plan], refused: Refused, after: Ledger) -> None:
    """Refuse images that were withdrawn just now and lie in a part that is not read again: it still offers them."""
    stays = {plan.source.name: plan.stays for plan in plans}
    for source, key, sha256 in offered:
        part = part_of(key, stays.get(source, ()))
        if part is not None:
            refused.add(source, _withdrawn(key))
            entry = after[source]["parts"][part]
            after[source]["parts"][part] = {**entry, "offers": sorted({*entry["offers"], sha256})}


def _withdrawn(key: str) -> Refusal:
    return Refusal(key, "withdrawn", "the same bytes were withdrawn by hand (data/withdrawn.jsonl)")


def _numbers(index: Index, refused: Refused, after: Ledger) -> dict[str, float]:
    columns, reasons = index.columns, refused.reasons()
    sizes = [size for size, member in zip(columns["size"], columns["member"], strict=True) if member]
    log.info(
        "%d images: %d new, %d gone, %d with another caption, label, group, licence or matte; %d refused",
        len(sizes), index.counts["arrived"], index.vanished, index.counts["updated"], reasons.total(),
    )  # fmt: skip
    ignored = sum(each["ignored"] + sum(part["ignored"] for part in each["parts"].values()) for each in after.values())
    return {
        "items": len(sizes), "bytes": sum(sizes), "ever": len(columns["member"]),
        "withdrawn": len(columns["member"]) - len(sizes), "refused": reasons.total(), "ignored": ignored,
        **{f"refused_{reason}": n for reason, n in sorted(reasons.items())},
    }  # fmt: skip


def _reasons(refusals: list[Refusal]) -> str:
    counts = Counter(refusal.reason for refusal in refusals)
    return f" (refused: {', '.join(f'{reason} {n}' for reason, n in sorted(counts.items()))})" if counts else ""
