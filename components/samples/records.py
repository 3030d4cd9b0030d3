"""Records that grow by a line for each thing a person did to the data: one JSON object a line, tracked in git."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from components.base import files, plain
from components.base.errors import UserError

T = TypeVar("T")


def read(path: Path, parse: Callable[[Mapping[str, Any]], T], *, wanted: str, advice: str) -> list[T]:
    """What ``parse`` makes of each line of ``path``, in order; none without the file.

    ``parse`` raises ValueError, TypeError or KeyError (of a missing name).  UserError names file and line: it is not
    ``wanted``, such as "a withdrawn image", and ``advice`` says what to do.
    """
    try:
        text = path.read_text("utf-8") if path.is_file() else ""
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not text in UTF-8 ({error.reason} at byte {error.start:,}): {advice}") from None
    if at := plain.conflicted(text):
        raise UserError(f"{path}:{at}: {plain.CONFLICT}")
    found = []
    for number, line in enumerate(text.split("\n"), start=1):  # splitlines would also cut at U+2028 inside a name
        if not line.strip():
            continue
        try:
            said = json.loads(line)
            if not isinstance(said, Mapping):
                raise TypeError(f"{type(said).__name__}, wanted an object")
            found.append(parse(said))
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            what = f"{error} is missing" if isinstance(error, KeyError) else str(error)
            raise UserError(f"{path}:{number}: not {wanted} ({what}): {advice}") from None
    return found


def append(path: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    """Add ``lines`` to the record at ``path``, all or none."""
    before = path.read_text("utf-8") if path.is_file() else ""
    if before and not before.endswith("\n"):
        before += "\n"
    files.write_text(path, before + "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))


def digits(said: Mapping[str, Any], name: str) -> str:
    """The 64 hexadecimal digits that ``said`` holds under ``name``; ValueError for anything else."""
    value = said[name]
    if not isinstance(value, str) or len(value) != 64 or set(value) - set("0123456789abcdef"):
        raise ValueError(f"{name} must be 64 hexadecimal digits, not {value!r}")
    return value
