"""Bring source images, captions and labels into data/raw, which only grows.

A refresh appends what was never seen before, in sorted order of the names in the source; what vanished stays
and is no member any more; captions and labels follow the source.  The index is written last: until then the
folder is as it was, and shards that no index names are removed at the next start.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections import Counter
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from components import files, manifest, metadata, shards, urllist
from components.collectparams import AnySource, CollectParams
from components.errors import UserError
from components.events import Progress
from components.look import fingerprint
from components.sources import Item, Refusal, Source, locate, open_source, role

__all__ = ["CollectParams", "collect"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Survey:
    """What a source holds, before any image is read."""

    items: list[Item]
    captions: dict[str, metadata.Caption]
    has_metadata: bool
    refusals: list[Refusal]
    papers: int
    label_of_folder: bool

    def said_of(self, item: Item) -> tuple[str | None, str | None, str | None]:
        """Caption, label and group of ``item``; without metadata the label is the name of its folder."""
        caption = self.captions.get(item.key)
        folder = PurePosixPath(item.key).parent.name or None
        label = folder if self.label_of_folder else caption.label if caption else None
        return (caption.text, label, caption.group) if caption else (None, label, None)


def collect(params: CollectParams, *, look: Path, withdrawn: Path, raw: Path, scratch: Path) -> dict[str, float]:
    """Bring images, captions and labels into Parquet shards that only grow, and list what was refused."""
    root = look.parent.parent  # data/source.json lies in the project's folder; relative sources start there
    _verify(params, look=look, root=root, store=scratch)
    opened, surveys = {}, {}
    for each in params.sources:
        if each.kind == "urls":
            opened[each.name] = urllist.open_list(each, locate(each.location, root), scratch / each.name)
        else:
            opened[each.name] = open_source(locate(each.location, root), max_bytes=params.max_bytes)
        surveys[each.name] = survey = _survey(opened[each.name], each, params.max_bytes)
        if not survey.items:
            raise UserError(f"{each.location}: no image in it that can be taken in{_reasons(survey.refusals)}")
    raw.mkdir(parents=True, exist_ok=True)
    index = _read_index(raw)
    orphans = shards.clear_orphans(raw, {row["shard"] for row in index})
    if orphans:
        log.info("removed %d shards that a killed run left", len(orphans))
    counts: Counter[str] = Counter()
    present: set = set()
    for each in params.sources:
        counts += _refresh(index, surveys[each.name], opened[each.name], each, raw, present)
    for row in index:
        here = (row["source"], row["source_key"], row["sha256"]) in present
        counts["vanished"] += row["member"] and not here
        row["member"] = here
    refused = [
        {"source": name, "source_key": each.key, "reason": each.reason, "detail": each.detail}
        for name, survey in surveys.items()
        for each in sorted(survey.refusals, key=lambda each: (each.key, each.reason, each.detail))
    ]
    with files.replacing(raw / shards.REFUSED) as beside:
        manifest.write(beside, manifest.rows(refused, manifest.REFUSED))
    with files.replacing(raw / shards.INDEX) as beside:
        manifest.write(beside, manifest.rows(index, manifest.INDEX))
    members = [row for row in index if row["member"]]
    log.info(
        "%d images: %d new, %d gone, %d with another caption, label, licence or matte; %d refused",
        len(members), counts["arrived"], counts["vanished"], counts["updated"], len(refused),
    )  # fmt: skip
    return {
        "items": len(members), "bytes": sum(row["size"] for row in members), "ever": len(index),
        "withdrawn": len(index) - len(members), "refused": len(refused),
        "ignored": sum(survey.papers for survey in surveys.values()),
        **{f"refused_{reason}": n for reason, n in sorted(Counter(row["reason"] for row in refused).items())},
    }  # fmt: skip


def _verify(params: CollectParams, *, look: Path, root: Path, store: Path) -> None:
    try:
        promised = json.loads(look.read_text("utf-8"))
    except ValueError as error:
        raise UserError(f"{look}: not JSON ({error}): run `stillroom look`") from None
    if promised != fingerprint(params, root=root, store=store):
        raise UserError(f"the sources: not what {look.name} says they are any more: run `stillroom look`")


def _survey(source: Source, params: AnySource, max_bytes: int) -> Survey:
    items, refusals = source.listing()
    if isinstance(source, urllist.UrlList):  # what came from the web was told to be an image by its bytes
        return Survey(items, source.captions(), True, refusals, papers=0, label_of_folder=False)
    by_role: dict[str, list[Item]] = {"image": [], "metadata": [], "paper": [], "other": []}
    for item in items:
        by_role[role(item.key)].append(item)
    for item in by_role["other"]:
        refusals.append(Refusal(item.key, "not_an_image", "its name does not end like an image's that is read here"))
    captions = _captions(source, by_role["metadata"], params, max_bytes, refusals)
    has_metadata = bool(by_role["metadata"])
    images = []
    for item in by_role["image"]:
        if item.size > max_bytes:
            refusals.append(Refusal(item.key, "too_big", f"{item.size} bytes, at most {max_bytes} are taken in"))
        elif has_metadata and item.key not in captions:
            refusals.append(Refusal(item.key, "metadata_missing", "no row of the metadata names this image"))
        else:
            images.append(item)
    there = {item.key for item in by_role["image"]}
    for key, caption in captions.items():
        if key not in there:
            refusals.append(Refusal(key, "file_missing", f"{caption.where} names it, and it is not there"))
    return Survey(
        items=images, captions=captions, has_metadata=has_metadata, refusals=refusals,
        papers=len(by_role["paper"]), label_of_folder=not has_metadata or params.label_column is None,
    )  # fmt: skip


def _captions(
    source: Source, items: list[Item], params: AnySource, max_bytes: int, refusals: list[Refusal]
) -> dict[str, metadata.Caption]:
    for item in items:
        if item.size > max_bytes:
            raise UserError(
                f"{params.location}: {item.key} has {item.size} bytes, more than collect.max_bytes = {max_bytes}"
            )
    captions: dict[str, metadata.Caption] = {}
    blobs = {item.key: blob for item, blob in source.read(items)} if items else {}
    for key in sorted(blobs):
        rows = metadata.parse(
            key, blobs[key], text_column=params.text_column, label_column=params.label_column,
            group_column=params.group_column,
        )  # fmt: skip
        for row in rows:
            if row.unsafe:
                refusals.append(Refusal(row.key, "unsafe_name", f"{row.where}: {row.unsafe}"))
            elif row.key in captions:
                refusals.append(
                    Refusal(row.key, "metadata_twice", f"{row.where}; what {captions[row.key].where} says counts")
                )
            else:
                captions[row.key] = row
    return captions


def _read_index(raw: Path) -> list[dict]:
    return shards.read_index(raw).to_pylist() if (raw / shards.INDEX).exists() else []


def _refresh(
    index: list[dict], survey: Survey, source: Source, params: AnySource, raw: Path, present: set
) -> Counter[str]:
    """Append to ``index`` what is new, write its bytes to new shards, and bring the old rows up to date."""
    counts: Counter[str] = Counter()
    known = {(row["source"], row["source_key"], row["sha256"]): row for row in index}
    places = {row["sha256"]: (row["shard"], row["row"]) for row in index}
    first = 1 + max((int(row["shard"][6:11]) for row in index), default=-1)
    newcomers = []
    with shards.ShardWriter(raw, first=first) as writer, Progress(len(survey.items), what="collect") as progress:
        for item, data in source.read(survey.items):
            sha256 = hashlib.sha256(data).hexdigest()
            text, label, group = survey.said_of(item)
            said = {"text": text, "label": label, "licence": params.licence, "group_key": group, "matte": params.matte}
            identity = (params.name, item.key, sha256)
            present.add(identity)
            if identity in known:
                row = known[identity]
                counts["updated"] += any(row[name] != value for name, value in said.items())
                row.update(said)
            else:
                name, key, _ = identity
                row = {"sha256": sha256, "source": name, "source_key": key, **said, "size": len(data)}
                if sha256 not in places:  # the same bytes are stored once
                    places[sha256] = writer.add({**row, "bytes": data})
                row["shard"], row["row"] = places[sha256]
                newcomers.append(row)
            progress.advance()
    for row in sorted(newcomers, key=lambda row: row["source_key"]):
        index.append({"arrival": len(index), **row, "member": True, "withdrawn": False})
    counts["arrived"] = len(newcomers)
    return counts


def _reasons(refusals: list[Refusal]) -> str:
    counts = Counter(refusal.reason for refusal in refusals)
    return f" (refused: {', '.join(f'{reason} {n}' for reason, n in sorted(counts.items()))})" if counts else ""
