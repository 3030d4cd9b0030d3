"""params.schema.json, rendered from the stages' parameters so that an editor completes params.yaml."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Any, cast

from pydantic import BaseModel

from components.base import config, versions
from components.base.errors import UserError
from components.contract.params import ContractParams
from components.distil.params import DistilParams
from components.networks import fit
from components.pipeline import PIPELINE
from components.register.params import RegisterParams
from components.resize.params import BucketParams, ResizeParams
from components.train.params import TrainParams
from flows.dvc import rendered

ROOT = Path(__file__).resolve().parents[2]
START = Path("data/start.json")


def models() -> dict[str, type[BaseModel]]:
    """Which model each section of params.yaml has to satisfy."""
    stages = {stage.name: stage.params for stage in PIPELINE}
    return stages | {"contract": ContractParams, "register": RegisterParams, "distil": DistilParams}


def check(root: Path) -> None:
    """Load every section of the params.yaml that a run reads; UserError with the first thing that is wrong.

    In a project, whose package may have been upgraded, also with every parameter that is new, and a value for it.
    """
    sections = config.of(root)
    try:
        loaded = config.load(sections, models())
    except UserError as error:
        new = list(_lacking(sections, _own())) if versions.is_project(root) else []
        if not new:
            raise
        raise UserError(f"{error}; {config.FILE} lacks, as Stillroom's own has them: {', '.join(new)}") from None
    _fits(cast(ResizeParams, loaded["resize"]), cast(TrainParams, loaded["train"]), root)


def _fits(resize: ResizeParams, train: TrainParams, root: Path) -> None:
    """UserError unless the network takes pictures of the sizes that `resize` makes: told before any stage runs."""
    if not isinstance(resize.fit, BucketParams):
        fit.check(train.network, (resize.side, resize.side))
        return
    from components.resize import buckets  # here: numpy takes a tenth of a second

    try:
        anew = (root / START).read_bytes().strip() == b"null"
    except OSError:
        return  # stage `train` says what is wrong with it
    if not anew:  # the network is that of another model
        return
    sizes = buckets.shapes(resize.side, resize.fit)
    if len(sizes) == 1:
        fit.check(train.network, sizes[0])
    fit.check_buckets(train.network, sizes)


def _own() -> dict[str, Any]:
    """The params.yaml that comes with the package, from which presets are made."""
    return config.parse((resources.files("flows.project") / config.FILE).read_text("utf-8"))


def _lacking(held: object, own: Mapping[str, Any], above: str = "") -> Iterator[str]:
    """``key: value`` of what ``own`` has and ``held`` lacks; a choice of kinds, as a network, is not compared."""
    if not isinstance(held, Mapping):
        return
    for key, value in own.items():
        if key not in held:
            yield f"{above}{key}: {json.dumps(value)}"
        elif isinstance(value, Mapping) and "kind" not in value:
            yield from _lacking(held[key], value, f"{above}{key}.")


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
