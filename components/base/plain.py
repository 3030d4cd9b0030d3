"""YAML text as plain data, read as DVC reads it: strings, numbers, true, false and null in lists and mappings."""

from __future__ import annotations

import copy
import functools
import re
from dataclasses import dataclass, field
from typing import Any

from components.base.errors import UserError

LONGEST = 280
"""Characters of a message behind the file's name; the rest of a longer one is left out."""
_DEPTH, _DIGITS, _SIZE = 40, 40, 10_000_000
_NODE = 10  # what a node adds to the size, beside its characters
_SCALARS = {"str", "int", "float", "bool", "null"}
CONFLICT = "begins a conflict of a merge (<<<<<<<): keep what is right of both sides, and delete the marks of git"
_CONFLICT = re.compile(r"^<{7} ", re.MULTILINE)
# What YAML does not allow, and a byte order mark, which is of use as the first character alone.
_BAD = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")


def load(text: str, name: str) -> Any:
    """The YAML ``text`` that came from ``name``; UserError with the line and column of what is no plain data."""
    return copy.deepcopy(_loaded(text, name))


@functools.lru_cache(maxsize=8)  # a dvc.lock takes 0.4 s and is asked for several times
def _loaded(text: str, name: str) -> Any:
    from ruamel.yaml import YAML, YAMLError  # DVC's own parser, so that both see the same values

    if line := conflicted(text):
        raise failure(name, f"line {line} {CONFLICT}")
    bad = _BAD.search(text, 1 if text.startswith("\ufeff") else 0)
    if bad:
        before = text[: bad.start()]
        line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
        raise failure(name, f"line {line}, column {column} holds U+{ord(bad[0]):04X}, which cannot be seen: delete it")
    reader = YAML(typ="safe", pure=True)
    try:
        node, ours = reader.compose(text), None
        if node is not None:
            _Walk(name).check(node, 0)
            ours = reader.constructor.construct_document(node)  # as `load` does once it has parsed the text again
        theirs = YAML(typ="safe").load(text)  # DVC takes the parser in C where there is one
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}, column {mark.column + 1} " if mark else ""
        raise failure(name, f"{where}is not YAML: {getattr(error, 'problem', None) or 'cannot be read'}") from None
    except RecursionError:
        raise failure(name, f"lists and mappings stand in each other more than {_DEPTH} deep") from None
    except (ValueError, LookupError, TypeError, AttributeError):  # !!int abc
        raise failure(name, "a value is not of the kind that its tag says, such as !!int: leave the tag out") from None
    if repr(ours) != repr(theirs):
        raise failure(name, "DVC reads other values in it: leave out lines that start with %, and tags such as !!int")
    return ours


def conflicted(text: str) -> int:
    """The number of the first line that git writes where two branches changed the same lines; 0 without one."""
    mark = _CONFLICT.search(text)
    return text.count("\n", 0, mark.start()) + 1 if mark else 0


def failure(name: str, text: str) -> UserError:
    """A UserError about the file ``name``: one line, with what cannot be printed escaped, and not too long."""
    shown = "".join(c if c.isprintable() else repr(c)[1:-1] for c in " ".join(text[: 10 * LONGEST].split()))
    return UserError(f"{name}: {shown if len(shown) <= LONGEST else f'{shown[: LONGEST - 3]}...'}")


@dataclass
class _Walk:
    """One look at every node, however often aliases repeat it."""

    name: str
    above: list[Any] = field(default_factory=list)
    known: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Size, once aliases are followed, and height of each node that was looked at; by id, as nodes have no hash."""

    def check(self, node: Any, depth: int) -> tuple[int, int]:
        """Size and height of ``node``; UserError for the first thing at or below it that is no plain data."""
        if any(node is one for one in self.above):
            raise self._at(node, "holds itself by an alias (*): write the value out")
        size, height = self.known.get(id(node), (_NODE, 0))
        if depth + height > _DEPTH:
            raise self._at(node, f"stands more than {_DEPTH} deep in lists and mappings")
        if id(node) in self.known:
            return size, height
        self.above.append(node)
        for child in self._scalar(node) if isinstance(node.value, str) else self._collection(node):
            below = self.check(child, depth + 1)
            size, height = size + below[0], max(height, 1 + below[1])
        self.above.pop()
        size += len(node.value) if isinstance(node.value, str) else 0
        if size > _SIZE:
            raise self._at(node, "makes the file too large once its aliases (*) are followed: write the values out")
        self.known[id(node)] = size, height
        return size, height

    def _scalar(self, node: Any) -> list[Any]:
        kind, shown = _kind(node), _cut(node.value)
        if kind == "timestamp":
            raise self._at(node, f'is a date for YAML: put it in quotes, "{shown}"')
        if kind not in _SCALARS:
            raise self._at(node, f"has the tag {_cut(str(node.tag))}: leave it out and put the value in quotes")
        if kind == "int" and len(node.value) > _DIGITS:
            raise self._at(node, f"is a number of {len(node.value)} characters: if it is text, put it in quotes")
        if _BAD.search(node.value):
            raise self._at(node, f"holds a character that cannot be seen, {_cut(ascii(node.value))}: take it out")
        return []

    def _collection(self, node: Any) -> list[Any]:
        pairs = bool(node.value) and isinstance(node.value[0], tuple)
        if _kind(node) not in ({"map"} if pairs else {"seq"} if node.value else {"map", "seq"}):
            raise self._at(node, f"has the tag {_cut(str(node.tag))}: leave it out; text is put in quotes")
        if not pairs:
            return list(node.value)
        for key, _ in node.value:
            if _kind(key) not in ("str", "merge"):
                what = "a date" if _kind(key) == "timestamp" else f"of the kind {_cut(_kind(key))}"
                raise self._at(key, f"is a key that is {what}: a key is a word; put it in quotes")
        return [part for pair in node.value for part in pair if _kind(part) != "merge"]

    def _at(self, node: Any, what: str) -> UserError:
        mark = node.start_mark
        return failure(self.name, f"line {mark.line + 1}, column {mark.column + 1} {what}")


def _kind(node: Any) -> str:
    return str(node.tag).removeprefix("tag:yaml.org,2002:")


def _cut(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."
