"""params.schema.json, rendered from the stages' parameters so that an editor completes params.yaml."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from pydantic import BaseModel

from components.base import config, files
from components.contract.params import ContractParams
from components.distil.params import DistilParams
from components.pipeline import PIPELINE
from components.register.params import RegisterParams

ROOT = Path(__file__).resolve().parents[2]
SECTIONS = (*(stage.name for stage in PIPELINE), "contract", "register", "distil")
"""Of params.yaml, in its order."""


def models() -> dict[str, type[BaseModel]]:
    """Which model each section of params.yaml has to satisfy."""
    stages = {stage.name: stage.params for stage in PIPELINE}
    return stages | {"contract": ContractParams, "register": RegisterParams, "distil": DistilParams}


def check(root: Path) -> None:
    """Load every section of params.yaml; UserError with the first thing that is wrong."""
    config.load(root / config.FILE, models())


def render() -> str:
    """The JSON schema (draft 2020-12) of params.yaml."""
    sections = models()
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "params.yaml of Stillroom",
        "type": "object",
        "additionalProperties": False,
        "required": list(sections),
        "properties": {name: model.model_json_schema() for name, model in sections.items()},
    }
    return json.dumps(schema, indent=1) + "\n"


def main(arguments: list[str]) -> int:
    """Write params.schema.json, or with ``--check`` say whether it is current."""
    path, text = ROOT / "params.schema.json", render()
    if "--check" in arguments:
        current = path.is_file() and path.read_text("utf-8") == text
        print("params.schema.json is current" if current else "params.schema.json is out of date: run `make dvc`")
        return 0 if current else 1
    files.write_text(path, text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
