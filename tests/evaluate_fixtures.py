"""Parameters of an evaluation that takes a second, and the stage run with them."""

from __future__ import annotations

from pathlib import Path

from components.evaluate import stage

PARAMS = stage.EvaluateParams(
    seed=0, samples=10, replicates=20, confidence=0.9, memorised_rmse=0.02, memorised_ratio=0.5, sweep=(), judges=()
)


def run(made: tuple[Path, Path, Path], folder: Path, params: stage.EvaluateParams = PARAMS) -> dict[str, float]:
    """Stage evaluate of the (pixels, splits, model) ``made``, into ``folder``."""
    pixels, splits, model = made
    return stage.evaluate(params, pixels=pixels, splits=splits, model=model, evaluation=folder / "evaluation")
