"""Whether two small pictures are one: slide, scale and turn one a little until it fits the other best.

Works on thumbnails of 32 x 32, which undo the shape of a picture; that shapes agree is the caller's to check.
First a grid of movements at 16 x 16, all pairs at once and in whole numbers, so that no batch changes a sum; then
the best one is made exact (Evangelidis and Psarakis 2008, ECC) and judged at 32 x 32.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace

import numpy as np

from components.base.algorithms import Algorithm
from components.clean.fingerprints import SIDE, luma, seen

ALGORITHM = Algorithm("alignment", 2, ("numpy", "opencv-python-headless"))
_HALF = SIDE // 2
_CHUNK = 64  # pairs at a time
_LUMA = np.array([77, 150, 29])  # Rec. 601, in 256ths
_SHARES = 64  # what the weights of a movement add up to
_OVERLAP = 0.5  # of the cells that must lie on both pictures
_GREY = 2.0  # levels: the spread of colours below which a picture has none
_WORTH = 0.5  # correlation of the grid's best below which nothing is refined
_STRETCH = 1.4  # how much more a refined movement may scale one way than the other: a crop of one side does that


@dataclass(frozen=True)
class Fit:
    """How a picture lies on another: the movement, and what is left between them where they overlap."""

    movement: np.ndarray
    """(2, 3), from the first picture's thumbnail to the other's, in its pixels."""
    correlation: float
    """Of the slopes of luma, -1..1, at 16 x 16: sees shapes and not brightness, and not a loss of sharpness."""
    difference: float
    """The largest in a cell of 16 x 16 and a channel, 0..1."""
    overlap: float
    """Share of the first picture that the other covers, 0..1."""
    even: float
    """The correlation of the square roots of the slopes: faint ones count too, so that one frame or outline that two
    pictures share does not do for them."""
    colour: float
    """Correlation of the colours without luma, -1..1; 1 where one of the pictures has none."""

    def back(self) -> Fit:
        """The same from the other picture to the first; the overlap stays that of the other."""
        square = np.concatenate([self.movement, [[0.0, 0.0, 1.0]]])
        return replace(self, movement=np.linalg.inv(square)[:2])


STILL = np.array([[1.0, 0, 0], [0, 1.0, 0]])
NOTHING = Fit(STILL, -1.0, 1.0, 0.0, -1.0, -1.0)


def still(one: np.ndarray, other: np.ndarray) -> list[Fit]:
    """How well pictures fit that are laid on each other as they are, each uint8 (N, 32, 32, 3)."""
    x, y = _cells(one), _cells(other)
    difference = np.abs(x - y).max(axis=(1, 2, 3)) / (4 * 255)
    slopes = []
    for each in (x, y):
        grey = each @ _LUMA
        rows = [np.diff(grey, axis=axis).reshape(len(grey), -1) for axis in (2, 1)]
        slopes.append(np.concatenate(rows, axis=1))
    columns = _correlation(*slopes), np.round(difference, 6), _even(*slopes), _colour(x, y, np.ones(x.shape[:3], bool))
    table = zip(*(column.tolist() for column in columns), strict=True)
    return [Fit(STILL, c, d, 1.0, even, colour) for c, d, even, colour in table]


def moved(one: np.ndarray, other: np.ndarray) -> list[Fit]:
    """The same after the best movement: either may be a crop of the other, or turned by some degrees."""
    fits = []
    for start in range(0, len(one), _CHUNK):
        some = slice(start, start + _CHUNK)
        greys = luma(one[some]), luma(other[some])
        best, score = _grid(*greys)
        pairs = zip(one[some], other[some], *greys, best, score, strict=True)
        fits += [laid(a, b, _refined(x, y, matrix, value)) for a, b, x, y, matrix, value in pairs]
    return fits


def laid(one: np.ndarray, other: np.ndarray, movement: np.ndarray) -> Fit:
    """How well ``other`` fits ``one``, each uint8 (32, 32, 3), after ``movement``."""
    import cv2

    mask: np.ndarray = np.ones((SIDE, SIDE), bool)
    if movement is not STILL:
        cv2.setNumThreads(1)
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        full = np.full((SIDE, SIDE), 255, np.uint8)
        mask = np.asarray(cv2.warpAffine(full, movement, (SIDE, SIDE), flags=flags) == 255)
        other = cv2.warpAffine(np.ascontiguousarray(other), movement, (SIDE, SIDE), flags=flags)
    overlap = float(mask.mean())
    if overlap < _OVERLAP:
        return NOTHING
    mask = np.asarray(mask.reshape(_HALF, 2, _HALF, 2).all(axis=(1, 3)))
    x, y = _cells(one[None])[0], _cells(other[None])[0]
    difference = float((np.abs(x - y).max(axis=2) * mask).max() / (4 * 255))
    colours = x[None], y[None]
    x, y = x @ _LUMA, y @ _LUMA
    across, down = mask[:, 1:] & mask[:, :-1], mask[1:] & mask[:-1]
    slopes = [np.concatenate([np.diff(each, axis=1)[across], np.diff(each, axis=0)[down]])[None] for each in (x, y)]
    correlation, difference = float(_correlation(*slopes)[0]), round(difference, 6)
    if correlation < _WORTH:  # nobody asks for more
        return Fit(movement, correlation, difference, overlap, -1.0, -1.0)
    return Fit(
        movement, correlation, difference, overlap, float(_even(*slopes)[0]), float(_colour(*colours, mask[None])[0])
    )


def _cells(pictures: np.ndarray) -> np.ndarray:
    """Sums of 2 x 2, int64 (N, 16, 16, 3)."""
    return pictures.reshape(-1, _HALF, 2, _HALF, 2, 3).sum(axis=(2, 4), dtype=np.int64)


def turned(pictures: np.ndarray, orientation: np.ndarray) -> np.ndarray:
    """Each of ``pictures`` (N, 32, 32, 3) in its ``orientation`` (N,)."""
    out = pictures.copy()
    for number in np.unique(orientation):
        mine = orientation == number
        out[mine] = seen(pictures[mine], int(number))
    return out


def _grid(grey: np.ndarray, greys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The best movement (N, 2, 3) from the first picture's cells to the other's, and its correlation."""
    weights, inside, matrices = _movements()
    small = [each.reshape(len(each), _HALF, 2, _HALF, 2).sum(axis=(2, 4)).reshape(len(each), -1) // 4
             for each in (grey, greys)]  # fmt: skip
    best, score = np.zeros(len(grey), np.int64), np.full(len(grey), -2.0)
    for backward in (False, True):
        fixed, other = (small[1], small[0]) if backward else small
        warped = (other @ weights).reshape(len(other), len(matrices), -1)  # N, W, cells; zero outside
        count = inside.sum(axis=1).astype(np.float64)
        x, xx = fixed @ inside.T.astype(np.float64), fixed**2 @ inside.T.astype(np.float64)
        y, yy = warped.sum(axis=2), np.einsum("nwc,nwc->nw", warped, warped)
        xy = np.einsum("nc,nwc->nw", fixed, warped)
        energy = (count * xx - x * x) * (count * yy - y * y)
        found = np.where(energy > 0, (count * xy - x * y) / np.sqrt(np.maximum(energy, 1.0)), -1.0)
        which = found.argmax(axis=1)
        value = found[np.arange(len(found)), which]
        better = value > score
        score = np.where(better, value, score)
        best = np.where(better, which + backward * len(matrices), best)
    return _both_ways()[best], score


@functools.cache
def _both_ways() -> np.ndarray:
    matrices = _movements()[2]
    square = np.concatenate([matrices, np.broadcast_to([[[0.0, 0.0, 1.0]]], (len(matrices), 1, 3))], axis=1)
    return np.concatenate([matrices, np.linalg.inv(square)[:, :2]])


@functools.cache
def _movements() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(cells of the other, W x cells) weights of 1/64, (W, cells) whether inside, and the W matrices, in -1..1."""
    made = [np.array([[1.0, 0, 0], [0, 1.0, 0]])]
    for size in (0.95, 0.9, 0.85, 0.8):
        reach = 1 - size
        shifts = [(x * reach, y * reach) for x in (-1, 0, 1) for y in (-1, 0, 1)]
        made += [np.array([[size, 0, x], [0, size, y]]) for x, y in shifts]
    for size in (0.9, 0.8):  # one side alone
        made += [np.array([[size, 0, x * (1 - size)], [0, 1.0, 0]]) for x in (-1, 0, 1)]
        made += [np.array([[1.0, 0, 0], [0, size, y * (1 - size)]]) for y in (-1, 0, 1)]
    for degrees in (-8, -5, -2.5, 2.5, 5, 8):
        c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
        made += [size * np.array([[c, -s, 0], [s, c, 0]]) for size in (1.0, 0.9, 0.8)]
    middle = (np.arange(_HALF) + 0.5) * 2 / _HALF - 1
    x, y = (each.ravel() for each in np.meshgrid(middle, middle))
    cells = _HALF * _HALF
    weights, insides = np.zeros((cells, len(made), cells)), np.zeros((len(made), cells), bool)
    for number, matrix in enumerate(made):
        at = matrix @ np.stack([x, y, np.ones(cells)])
        insides[number] = (np.abs(at) <= 1).all(axis=0)
        across, down = np.clip((at + 1) * _HALF / 2 - 0.5, 0, _HALF - 1)
        left, top = np.minimum(across.astype(int), _HALF - 2), np.minimum(down.astype(int), _HALF - 2)
        right, low = across - left, down - top
        for step, share in ((0, (1 - low) * (1 - right)), (1, (1 - low) * right),
                            (_HALF, low * (1 - right)), (_HALF + 1, low * right)):  # fmt: skip
            weights[top * _HALF + left + step, number, np.arange(cells)] += np.round(share * _SHARES) * insides[number]
    return weights.reshape(cells, -1), insides, np.stack(made)


def _refined(grey: np.ndarray, greys: np.ndarray, matrix: np.ndarray, score: float) -> np.ndarray:
    """The movement ``matrix`` (in -1..1) in pixels, made exact when it is worth it."""
    import cv2

    cv2.setNumThreads(1)
    half = SIDE / 2
    warp = matrix.copy()  # pixels' middles are whole numbers
    warp[:, 2] = half * (matrix[:, 2] + 1) - 0.5 - matrix[:, :2] @ np.array([half - 0.5, half - 0.5])
    if score < _WORTH:
        return warp
    try:
        criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 30, 1e-4)
        images = grey.astype(np.uint8), greys.astype(np.uint8)
        # OpenCV's types lack "no mask" beside a filter size.
        _, exact = cv2.findTransformECC(  # type: ignore[call-overload]
            *images, warp.astype(np.float32), cv2.MOTION_AFFINE, criteria, None, 3
        )
    except cv2.error:
        return warp  # it does not converge: the grid's movement stands
    return exact.astype(np.float64) if _plausible(exact) else warp


def _plausible(warp: np.ndarray) -> bool:
    if not np.isfinite(warp).all():
        return False
    large, small = np.linalg.svd(warp[:, :2].astype(np.float64), compute_uv=False)
    return bool(small >= 0.65 and large <= 1.5 and large / small <= _STRETCH)


def _correlation(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Cosines of rows of whole numbers, so exact; two flat pictures are alike, a flat one and another are not."""
    xx, yy, xy = (np.einsum("np,np->n", *both) for both in ((x, x), (y, y), (x, y)))
    scale = np.sqrt(xx.astype(np.float64) * yy.astype(np.float64))
    return np.round(np.where(scale > 0, xy / np.maximum(scale, 1.0), (xx == yy).astype(np.float64)), 6)


def _even(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The same of the square roots of their sizes."""
    x, y = (np.sign(each) * np.sqrt(np.abs(each)) for each in (x, y))
    xx, yy, xy = (np.einsum("np,np->n", *both) for both in ((x, x), (y, y), (x, y)))
    return np.asarray(np.round(np.where(xx * yy > 0, xy / np.sqrt(np.maximum(xx * yy, 1e-9)), xx == yy), 6))


def _colour(x: np.ndarray, y: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Correlation of red - blue and green - blue of cells (N, 16, 16, 3) inside ``mask``; 1 where one has no colour."""
    count = np.maximum(mask.sum(axis=(1, 2)), 1)
    xx, yy, xy = (np.zeros(len(x)) for _ in range(3))
    for channel in (0, 1):
        u, v = ((each[..., channel] - each[..., 2]) * mask for each in (x, y))
        su, sv = u.sum(axis=(1, 2)), v.sum(axis=(1, 2))
        xx += (u * u).sum(axis=(1, 2)) - su * su / count
        yy += (v * v).sum(axis=(1, 2)) - sv * sv / count
        xy += (u * v).sum(axis=(1, 2)) - su * sv / count
    none = np.minimum(xx, yy) <= (4 * _GREY) ** 2 * count
    return np.asarray(np.round(np.where(none, 1.0, xy / np.sqrt(np.maximum(xx * yy, 1e-9))), 6))
