"""What a fresh Python imports when it runs some statements."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
_CODE = """if True:
    import json, sys
    lines, names = json.loads(sys.argv[1])
    for line in lines:
        exec(line, {})
        if found := sorted(set(names) & set(sys.modules)):
            print(json.dumps([line, found]))
            break
"""


def first_with(names: Iterable[str], lines: Iterable[str]) -> tuple[str, list[str]] | None:
    """The first of ``lines``, run one after the other in one process, that imports some of ``names``, and which."""
    command = [sys.executable, "-c", _CODE, json.dumps([list(lines), sorted(names)])]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    return tuple(json.loads(done.stdout)) if done.stdout else None
