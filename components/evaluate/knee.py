"""The files of a model that say how it draws, written anew for the knee of the sweep.

The registry puts them in the place of the model's own, so that who pulls a version draws in the cheapest way that is
not worse than the best; stage ``evaluate`` writes them, so its hash in dvc.lock answers for their bytes.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from components.base import files
from components.diffusion import samplers
from components.evaluate import sweep
from components.model import card, denoiser, lines, portable
from components.model.sampling import Denoiser
from components.networks import registry

FOLDER = "knee"
"""In the folder of the evaluation."""


def write(evaluation: Path, model: Path, loaded: Denoiser, way: sweep.Way | None) -> None:
    """Write the folder ``knee`` of the evaluation: stillroom.json, the card and onnx/levels.json for ``way``.

    Nothing where there is none or where the model draws so already.
    """
    if way in (None, sweep.own(loaded)):
        return
    folder, schedule = evaluation / FOLDER, loaded.objective.schedule
    folder.mkdir()
    notes = files.read_json_object(model / "stillroom.json", "train or pull the model again")
    denoiser.write_json(folder / "stillroom.json", {**notes, **asdict(way)})
    onnx = (model / portable.FOLDER).is_dir()
    drawing = lines.Drawing(
        network=registry.kind(loaded.network), objective=loaded.objective, spec=loaded.spec,
        classes=len(loaded.classes), steps=way.steps, guidance=way.guidance, autoguidance=way.autoguidance, onnx=onnx,
        text=loaded.text, autoencoder=loaded.autoencoder,
    )  # fmt: skip
    (folder / "README.md").write_text(card.with_knee((model / "README.md").read_text("utf-8"), drawing), "utf-8")
    if onnx:
        (folder / portable.FOLDER).mkdir()
        portable.write_levels(folder, loaded.objective, samplers.log_spaced(way.steps, *schedule.visited))
