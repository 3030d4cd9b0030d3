"""The numbers that stand as constants in the code that decides results, and the record of them: tests/constants.json.

A fixed input of a test notices few of them.  So whoever changes one is asked whether a result changes with it.
"""

from __future__ import annotations

import ast
import json
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FILE = Path(__file__).parent / "constants.json"
ROOMS = (
    "decode",
    "embed",
    "diffusion",
    "networks",
    "dataset",
    "clean",
    "resize",
    "split",
    "train",
    "distil",
    "evaluate",
)


def constants() -> dict[str, str]:
    """The source of each constant with a number in it, by its dotted name."""
    found = {}
    for room in ROOMS:
        for path in sorted((ROOT / "components" / room).rglob("*.py")):
            module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            for node in ast.parse(path.read_text("utf-8")).body:
                target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
                if isinstance(target, ast.Name) and target.id.isupper() and _numeric(getattr(node, "value", None)):
                    found[f"{module}.{target.id}"] = ast.unparse(node.value)
    return found


def _numeric(value: ast.expr | None) -> bool:
    """Whether a number stands in ``value``."""
    parts = [node.value for node in ast.walk(value) if isinstance(node, ast.Constant)] if value else []
    return any(isinstance(part, int | float) and not isinstance(part, bool) for part in parts)


def read() -> dict[str, str]:
    """The constants as they were recorded."""
    return json.loads(FILE.read_text("utf-8")) if FILE.is_file() else {}


def write() -> None:
    """Record them as they are."""
    FILE.write_text(json.dumps(constants(), indent=1, sort_keys=True) + "\n", "utf-8")
