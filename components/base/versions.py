"""What decides a stage's outputs where the code is an installed package's: versions of algorithms, in a small text.

A checkout of Stillroom has the code itself, and its stages depend on each file of it.  A project beside the package has
none: there a stage depends on ``algorithms/NAME.json``.  That text holds the version of each algorithm that the stage
can reach and, unless a version stands for all of its code, one hash of that code.  No library is in it: as in a
checkout, a new torch alone makes no stage stale.  All is read from the sources: nothing is imported.
"""

from __future__ import annotations

import ast
import hashlib
import json
from pathlib import Path

from components.base import imports

FOLDER = "algorithms"
"""Of a project: no checkout of Stillroom has it."""


def is_project(root: Path) -> bool:
    """Whether ``root`` is a project beside the installed package, and no checkout, which has the code itself."""
    return (root / FOLDER).is_dir()


def path(stage: str) -> str:
    """Where a project keeps the record of the stage called ``stage``."""
    return f"{FOLDER}/{stage}.json"


def record(module: str, *, versioned: bool) -> str:
    """The text for the stage of the module ``module``; ``versioned``: the versions stand for all of its code."""
    reached = imports.reached(module)
    found: dict[str, object] = {"algorithms": declared(reached)}
    if not versioned:
        digest = hashlib.sha256()
        for each in reached:
            content = imports.path(each).read_bytes()
            digest.update(f"{each}\0{len(content)}\0".encode() + content)
        found["code"] = digest.hexdigest()
    return json.dumps(found, indent=1, sort_keys=True) + "\n"


def declared(modules: list[str]) -> dict[str, int]:
    """The version of each algorithm that the source of one of ``modules`` declares, by its name.

    ValueError for a declaration whose version is no number, or whose name is no text, in so many words.
    """
    found: dict[str, int] = {}
    for module in modules:
        content = imports.path(module).read_bytes()
        if b"Algorithm(" not in content:
            continue
        for node in ast.walk(ast.parse(content)):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Algorithm":
                name, version = (_written(argument) for argument in node.args[:2])
                if not isinstance(name, str) or not isinstance(version, int):
                    raise ValueError(f"{module}: Algorithm({ast.unparse(node.args[0])}, ...): write name and version")
                found[name] = version
    return dict(sorted(found.items()))


def _written(node: ast.expr) -> object:
    """The value of a literal; an f-string as it is written, ``{name}`` for what is filled in; else None."""
    if isinstance(node, ast.JoinedStr):
        parts = (part.value if isinstance(part, ast.Constant) else _filled(part) for part in node.values)
        return "".join(str(part) for part in parts)
    return node.value if isinstance(node, ast.Constant) else None


def _filled(part: ast.expr) -> str:
    return f"{{{ast.unparse(part.value)}}}" if isinstance(part, ast.FormattedValue) else ast.unparse(part)
