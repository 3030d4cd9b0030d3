"""`stillroom distil`: train a student of a model that samples in few steps, and compare the two."""

from __future__ import annotations

import json
from pathlib import Path

from components.base import config, files
from components.base.errors import UserError
from components.distil.params import DistilParams
from components.pipeline import STATE
from components.train.params import TrainParams
from flows.model.sample import model_folder
from flows.workspace.paths import State
from flows.workspace.processes import stoppable

REPORT = "distilled.json"


def distil(state: State, model: str, out: Path, *, images: int | None, steps: int | None, dry_run: bool) -> None:
    """Teach a student of ``model`` on the data of this checkout, write it to ``out`` and print the comparison."""
    params, train = params_with(state.root, images=images, steps=steps)
    pixels, splits = state.root / "data/pixels", state.root / "data/splits"
    for path in (pixels, splits):
        if not path.is_dir():
            raise UserError(f"{path}: not found: `stillroom data report` makes it, `dvc pull` fetches it")
    if not out.parent.is_dir():
        raise UserError(f"{out.parent}: no such folder: make it, or give another --out")
    if out.exists() and not (out / "stillroom.json").is_file():
        raise UserError(f"{out}: exists and is not a model folder: give another --out")
    with stoppable(), model_folder(state, model) as (folder, name):
        from components.distil import compared, student
        from components.model import sampling

        teacher = sampling.load(folder)
        if out.resolve() == folder.resolve():
            raise UserError(f"{out}: is the teacher's own folder: give another --out")
        print(f"{name or model}: {teacher.steps} steps with guidance {teacher.guidance:g} and autoguidance "
              f"{teacher.autoguidance:g}, to {params.steps} without, "
              f"in {params.images:,} images", flush=True)  # fmt: skip
        if dry_run:
            return
        scratch = state.root / STATE / "distil"
        done = student.distil(
            params, train, teacher=folder, pixels=pixels, splits=splits, student=out, scratch=scratch
        )  # fmt: skip
        found = compared.compared(folder, out, pixels=pixels, splits=splits, samples=params.samples, seed=params.seed)
    text = json.dumps({"model": name, **found, **done}, indent=1, allow_nan=False)
    files.write_text(out / REPORT, text + "\n")
    print("\n".join([*compared.lines(found), f"{out}: draws in {params.steps} steps; {REPORT} in it holds the scores"]))


def params_with(root: Path, *, images: int | None, steps: int | None) -> tuple[DistilParams, TrainParams]:
    """Section ``distil`` of params.yaml with the values of the command line, and section ``train``."""
    sections = config.read(root / config.FILE)
    section = dict(sections.get("distil") or {})
    section |= {name: value for name, value in (("images", images), ("steps", steps)) if value is not None}
    return config.section({"distil": section}, "distil", DistilParams), config.section(sections, "train", TrainParams)
