"""The columns of the tables of samples and of held-out images (:mod:`components.samples.drawn`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from components.evaluate.neighbours import Nearest
from components.evaluate.params import EvaluateParams

Columns = dict[str, Sequence[Any]]


def nearest(what: str, found: Nearest, rows: Sequence[int], keys: Sequence[str], features: Tensor) -> Columns:
    """Of each image the nearest of the images ``rows`` of a pack, which is called ``what``: four columns.

    ``features`` are those of the images themselves, for the similarity.
    """
    near = [rows[place] for place in found.places.tolist()]
    return {
        f"{what}_row": near, f"{what}_sha256": [keys[row] for row in near], f"{what}_rmse": found.rmse.tolist(),
        f"{what}_similarity": found.similarity(features).tolist(),
    }  # fmt: skip


def labelled(class_ids: Sequence[int], classes: Sequence[str]) -> Columns:
    """Class ids and their names."""
    return {"class_id": class_ids, "label": [classes[number] if number >= 0 else None for number in class_ids]}


def judged(params: EvaluateParams, near: Mapping[str, Sequence[Any]]) -> Columns:
    """Which images are as near to a training image as a copy."""
    limits = [params.memorised_rmse] * len(near["train_rmse"])
    return {
        "copy_limit": limits,
        "copy": [rmse <= limit for rmse, limit in zip(near["train_rmse"], limits, strict=True)],
    }
