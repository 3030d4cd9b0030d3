"""dvc.yaml, rendered from the table of stages: ``python -m flows.dvc.dvcyaml [--check]``.

In a checkout a stage depends on the files of its code; in a project (flows/dvc/package.py) on its record of versions.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

from components.base import imports, versions
from components.pipeline import PIPELINE, Stage
from flows.dvc import rendered

ROOT = Path(__file__).resolve().parents[2]
HEAD = "# Rendered from components/pipeline.py by `make dvc`; a test says when it is out of date. Do not edit.\n"
OF_A_PROJECT = "# Rendered by stillroom {}; `stillroom run` renders it anew when another is installed. Do not edit.\n"


def render(*, package: str = "") -> str:
    """The text of dvc.yaml: for each stage its command, the data and the code it reads, its section, its outputs.

    ``package``: the version of Stillroom that is installed, for a project beside it.
    """
    lines = [(OF_A_PROJECT.format(package) if package else HEAD) + "stages:"]
    for stage in PIPELINE:
        needed = [versions.path(stage.name)] if package else code(stage)
        lines += [
            f"  {stage.name}:",
            f"    desc: {_quote(description(stage))}",
            f"    cmd: python -m components {stage.name}",
            "    deps:",
            *(f"    - {path}" for path in [*needed, *stage.reads.values()]),
            "    params:",
            f"    - {stage.name}",
            "    outs:",
        ]
        for path in stage.writes.values():
            lines += [f"    - {path}:", "        persist: true"] if stage.grows else [f"    - {path}"]
        lines += ["    metrics:", f"    - {stage.metrics}:", "        cache: false"]
    return "\n".join(lines) + "\n"


def code(stage: Stage) -> list[str]:
    """Every file of components/ that the stage's module imports, at any depth and in any function, sorted."""
    return sorted(str(imports.path(name).relative_to(ROOT)) for name in imports.reached(stage.module_name))


def description(stage: Stage) -> str:
    """The first line of the stage's docstring, read without importing the module."""
    path = imports.path(stage.module_name)
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, ast.FunctionDef) and node.name == stage.name:
            return (ast.get_docstring(node) or "").splitlines()[0]
    raise LookupError(f"{path} has no function {stage.name}")


def _quote(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


if __name__ == "__main__":
    sys.exit(rendered.write_or_check(ROOT / "dvc.yaml", render(), sys.argv[1:]))
