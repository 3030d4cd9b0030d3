"""What MLflow needs beside the ONNX form to serve a model folder: MLmodel, and the code that draws (served.py)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components.model import served
from components.samples import spec as specs

CODE = Path("code") / "stillroom_served.py"

_PARAMS = ("seed", "count", "start", "steps")

_MLMODEL = """flavors:
  python_function:
    code: {folder}
    loader_module: {module}
signature:
  inputs: '[{{"name": "label", "type": "string"}}]'
  outputs: null
  params: '[{params}]'
"""


def write(folder: Path, notes: Mapping[str, Any]) -> None:
    """Make the model folder, which holds the ONNX form, one that `mlflow models serve` takes; always the same bytes.

    Nothing where ``notes``, the content of its stillroom.json, tell of samples that no PNG shows, or of captions, whose
    encoder the served code has not.
    """
    if ("spec" in notes and not specs.of_plain(notes["spec"]).pixels) or "text" in notes:
        return
    (folder / CODE.parent).mkdir()
    (folder / CODE).write_bytes(Path(served.__file__).read_bytes())
    params = ", ".join(f'{{"name": "{name}", "type": "long", "default": 0, "shape": null}}' for name in _PARAMS)
    text = _MLMODEL.format(folder=CODE.parent, module=CODE.stem, params=params)
    (folder / "MLmodel").write_text(text, "utf-8")
