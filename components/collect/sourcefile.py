"""``data/source.json``: what each source held at the last look, in one small file that DVC compares."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from components.base import files
from components.base.errors import UserError
from components.collect.params import CollectParams

FORMAT = 2
CHANGED = "the source changed during the run"
"""In an error that another look at the sources mends."""


def page(sources: list[dict[str, Any]]) -> dict[str, Any]:
    """The file's content, from the fingerprint of each source."""
    return {"format": FORMAT, "sources": sources}


def write(path: Path, content: dict[str, Any]) -> None:
    """Write ``content`` to ``path`` when it differs from what is there."""
    text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
    if not path.is_file() or path.read_text("utf-8") != text:
        files.write_text(path, text)


def read(path: Path, params: CollectParams) -> list[dict[str, Any]]:
    """What was seen of each source, in the order of params.yaml; UserError when the file is of other sources."""
    try:
        content = json.loads(path.read_text("utf-8"))
        sources: list[dict[str, Any]] = content["sources"]
        found = [(each["name"], each["kind"], each["location"]) for each in sources]
        whole = content["format"] == FORMAT and all(isinstance(each["sha256"], str) for each in sources)
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{path}: cannot be understood: run `stillroom look`") from None
    if not whole or found != [(source.name, source.kind, source.location) for source in params.sources]:
        raise UserError(f"{path}: lists other sources than params.yaml: run `stillroom look`")
    return sources
