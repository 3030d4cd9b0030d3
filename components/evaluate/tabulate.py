"""The columns of the tables of samples and of held-out images (:mod:`components.samples.drawn`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from components.evaluate.neighbours import Among
from components.evaluate.params import EvaluateParams

LEAST, FEW = 0.05, 20
"""The share of held-out images that may come nearer, and held-out images of a class that are enough to judge by."""

Columns = dict[str, Sequence[Any]]


def nearest(what: str, found: Among, rows: Sequence[int], keys: Sequence[str], features: Tensor) -> Columns:
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


def judged(params: EvaluateParams, near: Mapping[str, Sequence[Any]], drawn: int) -> Columns:
    """Which images are as near to a training image as a copy: the columns ``copy_limit`` and ``copy``.

    ``near`` has ``label`` and ``train_rmse`` of the samples, which are the first ``drawn``, and then of the held-out
    images.  Copies are nearer than those ever are: a limit is a share of the distance that all but LEAST of them keep.
    """
    labels, rmse = near["label"], near["train_rmse"]
    kept = {None: _quantile(rmse[drawn:])}
    for label in set(labels[drawn:]):
        same = [far for far, other in zip(rmse[drawn:], labels[drawn:], strict=True) if other == label]
        if len(same) >= FEW:
            kept[label] = _quantile(same)
    limits = [max(params.memorised_rmse, params.memorised_ratio * kept.get(label, kept[None])) for label in labels]
    return {"copy_limit": limits, "copy": [far <= limit for far, limit in zip(rmse, limits, strict=True)]}


def _quantile(values: Sequence[float]) -> float:
    return sorted(values)[int(LEAST * len(values))]
