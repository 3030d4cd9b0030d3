"""The files of a model that say in how many steps it draws, written anew for the knee of the sweep.

The registry puts them in the place of the model's own, so that who pulls a version draws in the fewest steps that
are not worse than the best; stage ``evaluate`` writes them, so its hash in dvc.lock answers for their bytes.
"""

from __future__ import annotations

from pathlib import Path

from components.base import files
from components.diffusion import samplers
from components.model import card, denoiser, portable
from components.model.sampling import Denoiser

FOLDER = "knee"
"""In the folder of the evaluation."""


def write(evaluation: Path, model: Path, loaded: Denoiser, knee: int | None) -> None:
    """Write the folder ``knee`` of the evaluation: stillroom.json, the card and onnx/levels.json for ``knee`` steps.

    Nothing where there is no knee or where it is the model's own number of steps.
    """
    if knee in (None, loaded.steps):
        return
    folder, schedule = evaluation / FOLDER, loaded.objective.schedule
    folder.mkdir()
    notes = files.read_json_object(model / "stillroom.json", "train or pull the model again")
    denoiser.write_json(folder / "stillroom.json", {**notes, "steps": knee})
    written = (model / "README.md").read_text("utf-8")
    (folder / "README.md").write_text(card.with_knee(written, loaded.steps, knee), "utf-8")
    if (model / portable.FOLDER).is_dir():
        (folder / portable.FOLDER).mkdir()
        portable.write_levels(folder, loaded.objective, samplers.log_spaced(knee, schedule.low, schedule.high))
