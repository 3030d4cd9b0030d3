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


def named(node: ast.ImportFrom, module: str) -> list[str]:
    """What a ``from`` import in ``module`` may name; ``.x`` and ``..y`` are taken from the module's package."""
    base = node.module or ""
    if node.level:
        package = module.split(".")[: -node.level]
        base = ".".join([*package, *filter(None, [node.module])])
    return [base, *(f"{base}.{alias.name}" for alias in node.names)]


@functools.cache
def _imports(module: str) -> tuple[str, ...]:
    """The modules of components/ that ``module`` imports itself; a process reads each file once."""
    names: list[str] = []
    for node in ast.walk(ast.parse(path(module).read_bytes())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names += named(node, module)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "import_module":
            names += [
                one.value for one in node.args[:1] if isinstance(one, ast.Constant) and isinstance(one.value, str)
            ]
    return tuple(name for name in names if name.startswith("components.") and path(name).is_file())
