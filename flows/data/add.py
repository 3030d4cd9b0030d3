"""`stillroom data add`: append a source to params.yaml, having checked that it holds images."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from components.base import config, files
from components.base.errors import UserError
from components.collect.params import CollectParams
from components.html.page import visible
from flows.data import detect, entries, merging
from flows.workspace.paths import State

_SECRET = re.compile(r"(key|token|secret|signature|password|credential|sig)=", re.IGNORECASE)
_PLAIN = re.compile(r"[A-Za-z./][A-Za-z0-9_./-]*")
_WORDS = frozenset({"true", "false", "null", "yes", "no", "on", "off", "y", "n"})  # YAML 1.1 reads them as no text
_SHOWN = 3  # names of images


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the user gave for the new source; None where nothing was given."""

    location: str
    name: str
    licence: str
    matte: str
    kind: str | None
    text_column: str | None
    label_column: str | None
    group_column: str | None
    url_column: str | None
    image_column: str | None


@dataclass(frozen=True)
class Found:
    """What a source holds: how many, of which unit, the first few names, and a reason for each refusal."""

    count: int
    unit: str
    names: list[str]
    refused: list[str]


def add(state: State, request: Request, *, dry_run: bool) -> list[str]:
    """Append the source to params.yaml once images were found in it; returns what was found, in lines."""
    _refuse_secrets(request.location)
    path = state.root / config.FILE
    text = path.read_text("utf-8")
    sections = config.parse(text, str(path))
    known = config.section(sections, "collect", CollectParams)
    taken = [source.name for source in known.sources if source.name.lower() == request.name.lower()]
    if taken:
        raise UserError(f"--name {request.name}: params.yaml has a source '{taken[0]}': give this one another name")
    location, moved = _locate(state.root, request.location)
    there = _place(state.root, location)
    for source in known.sources:
        if _place(state.root, source.location) == there:
            raise UserError(f"{visible(location)}: source '{source.name}' reads it already: `stillroom run` takes in "
                            "what is new there")  # fmt: skip
    kind, why = (request.kind, "") if request.kind else detect.kind(state.root, location)
    entry = _entry(request, location, kind, root=state.root)
    whole = {**sections, "collect": {**sections["collect"], "sources": [*sections["collect"]["sources"], entry]}}
    params = config.section(whole, "collect", CollectParams)
    found = survey(params, state.root)
    refused = Counter(found.refused)
    if not found.count:
        reasons = ", ".join(f"{reason} {count}" for reason, count in refused.most_common())
        raise UserError(
            f"{visible(location)}: no image found as kind {kind}"
            f"{f' (refused: {reasons})' if reasons else ''}: nothing was written"
        )
    if not dry_run:
        files.write_text(path, appended(text, entry))
        merging.install(state.root)
    done = "would add" if dry_run else "added"
    detected = f" (detected: {why})" if why else ""
    what = f"{found.count:,} {found.unit}, kind {kind}{detected}{moved}"
    lines = [f"{done} source {entry['name']} to params.yaml: {what}"]
    lines.append(f"  first: {', '.join(visible(name) for name in found.names)}")
    lines += [f"  refused: {count:,} {reason.replace('_', ' ')}" for reason, count in sorted(refused.items())]
    return [*lines, "next: `stillroom data report` imports and shows it, `stillroom run` trains on it too"]


def appended(text: str, entry: dict[str, Any]) -> str:
    """``text`` of params.yaml with ``entry`` as the last source; every other character stays where it is."""
    try:
        sources = entries.listed(text)
    except LookupError as error:
        raise UserError(f"params.yaml: {error}: write it as a list of lines that begin with '-', and run this again"
                        ) from None  # fmt: skip
    dash, inner = sources.start_mark.column, sources.value[-1].start_mark.column
    end = entries.last_line(sources.value[-1])
    made = [f"{'-' if at == 0 else '':<{inner - dash}}{name}: {_scalar(value)}"
            for at, (name, value) in enumerate(entry.items())]  # fmt: skip
    lines = text.splitlines(keepends=True)
    if not lines[end].endswith("\n"):
        lines[end] += "\n"
    lines[end + 1 : end + 1] = [f"{' ' * dash}{line}\n" for line in made]
    new = "".join(lines)
    before, after = config.parse(text), config.parse(new)
    before["collect"]["sources"].append(entry)
    if after != before:
        raise UserError("params.yaml: collect.sources is written in a way that this command cannot edit: add this "
                        f"source by hand: {json.dumps(entry)}")  # fmt: skip
    return new


def survey(params: CollectParams, root: Path) -> Found:
    """What the last source holds; nothing is decoded, and nothing is downloaded."""
    from components.collect import kinds
    from components.collect.memory import Memory
    from components.collect.sources.folders import Folder
    from components.collect.sources.remote import RemoteFolder
    from components.collect.web import urllist

    source, at = params.sources[-1], len(params.sources) - 1
    if source.kind == "urls":
        located = kinds.locate(source.location, root=root, at=at)
        if isinstance(located, Folder | RemoteFolder):
            raise UserError(f"{visible(source.location)}: is a folder: kind urls is a file that lists addresses")
        rows, refusals = urllist.read_list(located.name, located.read_bytes(), source)
        return Found(len(rows), "addresses, downloaded by the next `stillroom look`",
                     [row.key for row in rows[:_SHOWN]],
                     [each.reason for each in refusals])  # fmt: skip
    opened = kinds.open_source(source, root=root, max_bytes=params.max_bytes, store=None, at=at, fetch=False)
    found = [part.survey(Memory(None)) for part in opened.parts.values()]
    names = sorted(item.key for each in found for item in each.items)
    refusals = [*opened.refusals, *(refusal for each in found for refusal in each.refusals)]
    return Found(len(names), "images", names[:_SHOWN], [each.reason for each in refusals])


def _entry(request: Request, location: str, kind: str, *, root: Path) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "name": request.name, "kind": kind, "location": location, "licence": request.licence, "matte": request.matte,
        "text_column": request.text_column, "label_column": request.label_column, "group_column": request.group_column,
    }  # fmt: skip
    if kind == "urls":
        column = request.url_column or (None if PurePosixPath(location).suffix.lower() == ".txt" else "url")
        entry |= {"url_column": column, "seconds": 60.0, "attempts": 4, "private": False, "obey": True}
    elif kind == "parquet":
        entry["image_column"] = request.image_column or detect.image_column(root, location) or "image"
    for option, wanted, value in (("--url-column", "urls", request.url_column),
                                  ("--image-column", "parquet", request.image_column)):  # fmt: skip
        if value is not None and kind != wanted:
            raise UserError(f"{option}: is for kind {wanted}, and this source is of kind {kind}")
    return entry


def _refuse_secrets(location: str) -> None:
    """UserError, which does not repeat them, when there are credentials in ``location``."""
    try:
        parts = urlsplit(location) if "://" in location else None
    except ValueError:
        raise UserError("the location is not a valid address") from None
    if parts and ("@" in parts.netloc or _SECRET.search(parts.query)):
        raise UserError(
            "the location holds credentials, and params.yaml is kept with every version: give them in the environment "
            "(AWS_PROFILE, GOOGLE_APPLICATION_CREDENTIALS, ...) and name the place without them"
        )


def _locate(root: Path, location: str) -> tuple[str, str]:
    """The location relative to the project's folder, for params.yaml; a remark when it was given otherwise."""
    if "://" in location or (root / location).exists():
        return location, ""
    if not Path(location).exists():
        raise UserError(f"{visible(location)}: not found: name a folder, an archive, a list or an address")
    full = Path(location).resolve()
    relative = str(full.relative_to(root)) if full.is_relative_to(root) else str(full)
    return relative, f"; written as {visible(os.fspath(relative))}, relative to the project's folder"


def _place(root: Path, location: str) -> str:
    """What two names of one place have in common."""
    return location.rstrip("/") if "://" in location else os.path.realpath(root / location)


def _scalar(value: object) -> str:
    """``value`` as YAML 1.1 and 1.2 both read it."""
    if isinstance(value, str) and _PLAIN.fullmatch(value) and value.lower() not in _WORDS:
        return value
    return json.dumps(value, ensure_ascii=False)
