"""params.schema.json, rendered from the stages' parameters so that an editor completes params.yaml."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from pydantic import BaseModel

from components.base import config
from components.contract.params import ContractParams
from components.distil.params import DistilParams
from components.pipeline import PIPELINE
from components.register.params import RegisterParams
from flows.dvc import rendered

ROOT = Path(__file__).resolve().parents[2]
SECTIONS = (*(stage.name for stage in PIPELINE), "contract", "register", "distil")
"""Of params.yaml, in its order."""


def models() -> dict[str, type[BaseModel]]:
    """Which model each section of params.yaml has to satisfy."""
    stages = {stage.name: stage.params for stage in PIPELINE}
    return stages | {"contract": ContractParams, "register": RegisterParams, "distil": DistilParams}


def check(root: Path) -> None:
    """Load every section of the params.yaml that a run reads; UserError with the first thing that is wrong."""
    config.load(config.of(root), models())


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


if __name__ == "__main__":
    sys.exit(rendered.write_or_check(ROOT / "params.schema.json", render(), sys.argv[1:]))
