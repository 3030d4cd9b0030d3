"""Reads params.yaml into each stage's parameters, strictly: an unknown key or a wrong type is an error."""

from __future__ import annotations

import copy
import functools
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, Tag, ValidationError
from pydantic_core import ErrorDetails

from components.base import plain
from components.base.errors import UserError, nearest
from components.base.params import EXPLAINED

FILE = "params.yaml"
SNAPSHOT = "STILLROOM_SNAPSHOT"
"""Environment: the folder with params.yaml as it was when the pipeline run began (flows/dvc/snapshot.py)."""
_PYDANTICS = re.compile(r"^(Input|String|Tuple|List|Dictionary|Value|Data) (?=should )| after validation")
"""Words of pydantic's messages that say nothing to who writes params.yaml."""
_YAMLS = (("a valid array", "a list"), ("an object", "keys with values"))
_WORDS = {None: "null", True: "true", False: "false"}
_WHOLE = (EXPLAINED, "too_short", "too_long")
"""Errors whose message says what came already."""
Section = TypeVar("Section", bound=BaseModel)


def of(root: Path) -> dict[str, Any]:
    """The sections of the params.yaml of the checkout ``root``; while a pipeline run goes on, as it found them."""
    held = snapshot(root)
    return read(held / FILE, name=str(root / FILE)) if held else read(root / FILE)


def snapshot(root: Path) -> Path | None:
    """The folder with params.yaml as the pipeline run that goes on in the checkout ``root`` found it, or None."""
    held = Path(os.environ.get(SNAPSHOT, ""))
    return held if root.resolve() in held.parents else None


def read(path: Path, *, name: str = "") -> dict[str, Any]:
    """The sections of ``path`` as plain data; ``name`` is what an error calls the file."""
    name = name or str(path)
    try:
        return parse(path.read_text("utf-8"), name)
    except FileNotFoundError:
        raise UserError(f"{name}: not there: `git checkout {FILE}` brings it back, where git has it") from None
    except IsADirectoryError:
        raise UserError(f"{name}: is a folder: a file belongs there: `git checkout {FILE}` brings it back") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{name}: not UTF-8 text ({error.reason} at byte {error.start})") from None


def parse(text: str, name: str = FILE) -> dict[str, Any]:
    """YAML ``text`` that came from ``name`` as plain data, read as DVC reads it (YAML 1.2, no key twice)."""
    sections = copy.deepcopy(_loaded(text, name))
    if not isinstance(sections, dict):
        held = "nothing" if sections is None else "a list" if isinstance(sections, list) else f"only {_short(sections)}"
        raise UserError(f"{name}: holds {held}, wanted a section for each stage")
    return sections


@functools.lru_cache(maxsize=2)
def _loaded(text: str, name: str) -> Any:
    """A stage reads the same text when it begins, for its parameters, and when it ends: 0.06 s each time."""
    return plain.load(text, name)


def section(sections: Mapping[str, Any], name: str, model: type[Section]) -> Section:
    """Section ``name`` as ``model``; UserError naming key, what came, what was wanted, the nearest name."""
    if name not in sections:
        raise UserError(f"{FILE}: section '{name}' is missing; it holds {', '.join(model.model_fields)}")
    try:
        # By way of JSON, where a list may fill a tuple and strict still means strict.
        return model.model_validate_json(json.dumps(sections[name]))
    except ValidationError as error:
        # A misspelt key gives two errors, an unknown key and a missing one: show the first.
        found = sorted(error.errors(include_url=False), key=lambda detail: detail["type"] != "extra_forbidden")
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        raise plain.failure(FILE, f"{_line(name, found[0], model)}{more}") from None


def load(sections: Mapping[str, Any], models: Mapping[str, type[BaseModel]]) -> dict[str, BaseModel]:
    """Every one of ``sections`` as its model; a section that no stage owns is an error too."""
    for name in sections:
        if name not in models:
            raise plain.failure(FILE, f"section {_short(name)} belongs to no stage{nearest(name, models)}")
    return {name: section(sections, name, model) for name, model in models.items()}


def _line(name: str, detail: ErrorDetails, model: type[BaseModel]) -> str:
    key, owner, field = _place(name, detail["loc"], model)
    wanted = f" ({field.description})" if field and field.description else ""
    if detail["type"] == "extra_forbidden":
        return f"{key} is not a parameter{nearest(str(detail['loc'][-1]), owner.model_fields)}"
    if detail["type"] == "missing":
        return f"{key} is missing{wanted}"
    if detail["type"] == "union_tag_not_found":
        return f"{key}.kind is missing ({', '.join(_variants(field.annotation))})"
    if detail["type"] == "union_tag_invalid":
        tag, known = str(detail["ctx"]["tag"]), _variants(field.annotation)
        return f"{key}.kind should be one of {', '.join(known)}, not {_short(tag)}{nearest(tag, known)}"
    message = _PYDANTICS.sub("", detail["msg"].removeprefix("Value error, "))
    for theirs, ours in _YAMLS:
        message = message.replace(theirs, ours)
    came = "" if detail["type"] in _WHOLE else f", not {_short(detail['input'])}"
    return f"{key} {message}{came}{wanted}"


def _place(name: str, loc: tuple[int | str, ...], model: type[BaseModel]) -> tuple[str, type[BaseModel], Any]:
    """The key at ``loc`` as params.yaml has it, the model that owns it, and its field (None when unknown)."""
    shown, owner, field = name, model, None
    variants: dict[str, type[BaseModel] | None] = {}
    for part in loc:
        if isinstance(part, int):
            shown += f"[{part}]"
        elif part in variants:  # pydantic puts the kind into the path; params.yaml does not
            owner, variants = variants[part] or owner, {}
        else:
            shown += f".{part if len(part) <= 100 else part[:97] + '...'}"
            field = owner.model_fields.get(part)
            variants = _variants(field.annotation) if field else {}
    return shown, owner, field


def _variants(annotation: Any) -> dict[str, type[BaseModel] | None]:
    """The models that a field holds a choice of, by their ``kind`` or tag; None for a plain value with a tag."""
    tags = [part.tag for part in get_args(annotation) if isinstance(part, Tag)]
    if tags:
        plain_or_model = get_args(annotation)[0]
        model = isinstance(plain_or_model, type) and issubclass(plain_or_model, BaseModel)
        return {tags[0]: plain_or_model if model else None}
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        kind = annotation.model_fields.get("kind")
        return dict.fromkeys(get_args(kind.annotation), annotation) if kind else {}
    return {tag: model for part in get_args(annotation) for tag, model in _variants(part).items()}


def _short(value: object) -> str:
    """As params.yaml has it, up to 100 characters."""
    text = _WORDS[value] if value is None or isinstance(value, bool) else repr(value)
    return text if len(text) <= 100 else f"{text[:97]}..."
