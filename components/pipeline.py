"""The table of stages and the files between them: the only place that holds these paths."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from components.base import files, versions
from components.base.errors import UserError, nearest

if TYPE_CHECKING:
    from pydantic import BaseModel

STATE = ".stillroom"
"""The git-ignored folder for everything that is not an output: servers, locks, checkpoints."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One function from files to files; ``reads`` and ``writes`` are its keywords and their paths."""

    name: str
    reads: Mapping[str, str]
    writes: Mapping[str, str]
    grows: bool = False
    """The stage adds to its outputs, so DVC must not delete them before a run."""
    scratch: bool = False
    """Takes ``scratch``: a folder that is kept after a killed run and is not an output."""
    facts: bool = False
    """Takes ``facts``: the folder of components/samples/facts.py, which all stages share; not an output."""
    optional: tuple[str, ...] = ()
    """What of ``reads`` may be missing where the stage is run by itself, as on a machine that has the pack alone."""
    versioned: bool = False
    """The version of its algorithm is raised whenever what it makes changes, so that in a project nothing else of the
    code counts (components/base/versions.py): most upgrades then train nothing anew."""

    @property
    def module_name(self) -> str:
        """The dotted name of the module that holds the function."""
        return f"components.{self.name}.stage"

    @property
    def function(self) -> Callable[..., dict[str, float]]:
        """The function that does the work; imports all that it needs."""
        found: Callable[..., dict[str, float]] = getattr(importlib.import_module(self.module_name), self.name)
        return found

    @property
    def params(self) -> type[BaseModel]:
        """The model of this stage's section in params.yaml; imports nothing heavy."""
        module = importlib.import_module(f"components.{self.name}.params")
        found: type[BaseModel] = getattr(module, f"{self.name.capitalize()}Params")
        return found

    @property
    def metrics(self) -> str:
        """Where the numbers that the function returns are written."""
        return f"metrics/{self.name}.json"

    @property
    def record(self) -> str:
        """What a project depends on in place of this stage's code; reads the code, which takes a tenth of a second."""
        return versions.record(self.module_name, versioned=self.versioned)

    def run(self, params: BaseModel, root: Path) -> dict[str, float]:
        """Do the work below ``root`` and write the metrics; raise UserError when an input is missing."""
        paths = {key: root / path for key, path in {**self.reads, **self.writes}.items()}
        for key in self.reads:
            if not paths[key].exists() and key not in self.optional:
                raise UserError(
                    f"stage '{self.name}' needs {key} at {paths[key]}, which is not there: {_advice(self.reads[key])}"
                )
        if self.scratch:
            paths["scratch"] = root / STATE / self.name
        if self.facts:
            paths["facts"] = root / STATE / "facts"
        numbers = self.function(params, **paths)
        text = json.dumps(numbers, indent=1, sort_keys=True, allow_nan=False)
        files.write_text(root / self.metrics, text + "\n")
        return numbers


PIPELINE = (
    Stage(
        name="collect",
        reads={"look": "data/source.json", "withdrawn": "data/withdrawn.jsonl"},
        writes={"raw": "data/raw"},
        grows=True,
        scratch=True,
    ),
    Stage(
        name="clean",
        reads={"raw": "data/raw", "withdrawn": "data/withdrawn.jsonl", "decisions": "data/decisions.jsonl"},
        writes={"verdicts": "data/clean"},
        facts=True,
    ),
    Stage(
        name="resize",
        reads={"raw": "data/raw", "verdicts": "data/clean"},
        writes={"pixels": "data/pixels"},
        facts=True,
    ),
    Stage(
        name="split",
        reads={"verdicts": "data/clean", "pixels": "data/pixels"},
        writes={"splits": "data/splits"},
    ),
    Stage(
        name="profile",
        reads={"raw": "data/raw", "verdicts": "data/clean", "pixels": "data/pixels"},
        writes={"profile": "data/profile"},
        facts=True,
    ),
    Stage(
        name="describe",
        reads={
            "raw": "data/raw",
            "verdicts": "data/clean",
            "pixels": "data/pixels",
            "splits": "data/splits",
            "profile": "data/profile",
        },
        writes={"page": "reports/data.html"},
    ),
    Stage(
        name="encode",
        reads={"verdicts": "data/clean", "pixels": "data/pixels", "splits": "data/splits"},
        writes={"text": "data/text", "latents": "data/latents"},
        facts=True,
    ),
    Stage(
        name="train",
        reads={
            "pixels": "data/pixels",
            "splits": "data/splits",
            "start": "data/start.json",
            "text": "data/text",
            "latents": "data/latents",
        },
        writes={"model": "models/candidate"},
        optional=("text", "latents"),
        scratch=True,
        versioned=True,
    ),
    Stage(
        name="evaluate",
        reads={
            "pixels": "data/pixels",
            "splits": "data/splits",
            "model": "models/candidate",
            "text": "data/text",
            "latents": "data/latents",
        },
        writes={"evaluation": "models/evaluation"},
        optional=("text", "latents"),
    ),
    Stage(
        name="report",
        reads={"pixels": "data/pixels", "model": "models/candidate", "evaluation": "models/evaluation"},
        writes={"page": "reports/model.html"},
    ),
)


SECTIONS = (*(entry.name for entry in PIPELINE), "contract", "register", "distil")
"""Of params.yaml, in its order: one for each stage, and those that no stage reads."""


def stage(name: str) -> Stage:
    """The stage called ``name``; UserError with the nearest name when there is none."""
    found = {entry.name: entry for entry in PIPELINE}
    if name not in found:
        raise UserError(f"{name}: not a stage (they are {', '.join(found)}){nearest(name, found)}")
    return found[name]


def writer(path: str) -> Stage | None:
    """The stage that writes ``path``, or None when ``path`` comes from outside."""
    return next((entry for entry in PIPELINE if path in entry.writes.values()), None)


def downstream(names: list[str]) -> set[str]:
    """``names`` and every stage that reads, directly or not, what one of them writes."""
    stale_names = set(names)
    written = {path for stage in PIPELINE if stage.name in stale_names for path in stage.writes.values()}
    for stage in PIPELINE:
        if stage.name not in stale_names and written & set(stage.reads.values()):
            stale_names.add(stage.name)
        if stage.name in stale_names:
            written |= set(stage.writes.values())
    return stale_names


def _advice(path: str) -> str:
    source = writer(path)
    if source:
        return f"run stage '{source.name}', or `dvc pull`"
    return "run `stillroom look`" if path == "data/source.json" else f"git has it: `git checkout {path}` brings it back"
