"""What data/raw was last collected from: a part of a source that did not change is not read again.

``collected.json`` lies beside the index.  It holds for each source a hash of its parameters (without the location),
and for each part (the one folder or archive, or each shard) its fingerprint, how many files such as licences were
ignored, and which withdrawn images it still offers.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components.base import files
from components.collect.params import AnySource, CollectParams

Ledger = dict[str, dict[str, Any]]
"""What is known of each source, by its name."""

NAME = "collected.json"
FORMAT = 2  # raise it when the same source would give another result


def read(raw: Path) -> Ledger:
    """What is known of each source, by name; nothing when the file is not there or of another format."""
    try:
        found = json.loads((raw / NAME).read_text("utf-8"))
        return {each["name"]: each for each in found["sources"]} if found["format"] == FORMAT else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}  # then everything is read again, with the same result


def parameters_hash(source: AnySource, params: CollectParams) -> str:
    """SHA-256 of everything that ``params`` say of ``source`` and that may change what is collected."""
    values = {**source.model_dump(exclude={"location"}), **params.model_dump(exclude={"sources"})}
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def write(raw: Path, sources: Mapping[str, dict[str, Any]]) -> None:
    """Write the ledger, in order of names."""
    content = {"format": FORMAT, "sources": [sources[name] for name in sorted(sources)]}
    text = json.dumps(content, indent=1, ensure_ascii=False, sort_keys=True) + "\n"
    path = raw / NAME
    if not path.is_file() or path.read_text("utf-8") != text:
        files.write_text(path, text)


def between(before: Ledger, after: Ledger, stays: Mapping[str, set[str]]) -> Ledger:
    """What holds of the old tables and of the new ones: while these are written, a kill leaves either.

    ``stays``: the parts of each source that both have.  The parameters are those of the old tables: where the new
    ones have others, and where a source is new, what is stored is read again.
    """
    found = {}
    for name, known in before.items():
        if name in after:
            parts = {part: after[name]["parts"][part] for part in stays[name]}
            found[name] = known if known == after[name] else {**known, "sha256": "", "parts": parts}
    return found


def unchanged(before: Mapping[str, Any] | None, parameters_hash: str, prints: Mapping[str, str],
              withdrawn: set[str]) -> set[str]:  # fmt: skip
    """The parts that hold what they held when ``before`` was written, with the same :func:`parameters_hash`."""
    if not before or before.get("told") != parameters_hash:  # "told": the hash's key in collected.json
        return set()
    # When a withdrawal was taken back, the parts that offer the image must be read again.
    return {
        name
        for name, sha256 in prints.items()
        if (known := before["parts"].get(name)) and known["sha256"] == sha256 and withdrawn.issuperset(known["offers"])
    }
