"""Which files of components/ a module imports, read from their text: nothing is imported to find out."""

from __future__ import annotations

import ast
import functools
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def path(module: str) -> Path:
    """The file of ``module``, a dotted name such as ``components.base.files``."""
    return ROOT.joinpath(*module.split(".")).with_suffix(".py")


def reached(*modules: str) -> list[str]:
    """``modules`` and the modules of components/ that they import, at any depth and in any function, sorted."""
    found: set[str] = set()
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += _imports(name)
    return sorted(found)


@functools.cache
def _imports(module: str) -> tuple[str, ...]:
    """The modules of components/ that ``module`` imports itself; a process reads each file once."""
    names: list[str] = []
    for node in ast.walk(ast.parse(path(module).read_bytes())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return tuple(name for name in names if name.startswith("components.") and path(name).is_file())
