"""`stillroom distil`: from a model to a folder that draws in few steps, and what that lost."""

from __future__ import annotations

import json
from pathlib import Path

from components.base import config, files
from components.base.errors import UserError
from components.distil.params import DistilParams
from components.pipeline import STATE
from flows.model.sample import fetched
from flows.workspace.paths import State
from flows.workspace.processes import stoppable

REPORT = "distilled.json"


def distil(state: State, model: str, out: Path, *, images: int | None, steps: int | None, dry_run: bool) -> None:
    """Teach a student of ``model`` on the data of this checkout, write it to ``out`` and say what it lost."""
    params = wished(state.root, images=images, steps=steps)
    pixels, splits = state.root / "data/pixels", state.root / "data/splits"
    for path in (pixels, splits):
        if not path.is_dir():
            raise UserError(f"{path}: not there: `stillroom data report` or `dvc pull` brings it")
    if not out.parent.is_dir():
        raise UserError(f"{out.parent}: no such folder: make it, or give another --out")
    if out.exists() and not (out / "stillroom.json").is_file():
        raise UserError(f"{out}: is there and no model folder: give another --out")
    with stoppable(), fetched(state, model) as (folder, name):
        from components.distil import compared
        from components.distil import student as distil
        from components.model import sampling

        teacher = sampling.load(folder)
        if out.resolve() == folder.resolve():
            raise UserError(f"{out}: is the teacher itself: give another --out")
        print(f"{name or model}: {teacher.steps} steps with guidance {teacher.guidance:g}, to {params.steps} without, "
              f"in {params.images:,} images", flush=True)  # fmt: skip
        if dry_run:
            return
        done = distil.distil(
            params, teacher=folder, pixels=pixels, splits=splits, student=out, scratch=state.root / STATE / "distil"
        )
        found = compared.compared(folder, out, pixels=pixels, splits=splits, samples=params.samples, seed=params.seed)
    text = json.dumps({"model": name, **found, **done}, indent=1, allow_nan=False)
    files.write_text(out / REPORT, text + "\n")
    print("\n".join([*compared.lines(found), f"{out}: draws in {params.steps} steps; {REPORT} in it holds the scores"]))


def wished(root: Path, *, images: int | None, steps: int | None) -> DistilParams:
    """Section ``distil`` of params.yaml with what the command line says otherwise."""
    section = dict(config.read(root / config.FILE).get("distil") or {})
    section |= {name: value for name, value in (("images", images), ("steps", steps)) if value is not None}
    return config.section({"distil": section}, "distil", DistilParams)
