"""What each algorithm makes of fixed inputs, to be compared with what was recorded in algorithms.json.

The inputs are made from SHAKE-256 of a name, so no library decides them.  Whole numbers and bytes are recorded by
their digest and must be equal.  Floating-point numbers are recorded themselves, scaled to about 1, and may differ a
little (RELATIVE, ABSOLUTE): the same code gives other last digits with AVX2 than with AVX-512.
"""

from __future__ import annotations

import hashlib
import importlib
import io
import json
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import TypedDict

import latent_fixtures
import numpy as np
import recorded_captions
import recorded_training
import torch
from PIL import Image

from components.base.algorithms import Algorithm
from components.clean import alignment, embedding, fingerprints, keypoints, lists, pairs, rough, search, verify, windows
from components.decode import images
from components.diffusion.objective import objective
from components.distil import student
from components.embed import sentences, vectors
from components.networks import autoencoder
from components.resize import scaling
from components.samples import looks
from components.train import aims
from components.train import stage as train
from components.train.feed import Batch

ROOT = Path(__file__).resolve().parent.parent
FILE = Path(__file__).parent / "algorithms.json"
COMMAND = "python tests/record_algorithms.py"
RELATIVE, ABSOLUTE = 2e-3, 5e-3  # one level of 255 is 4e-3
_MATTE = "#8040c0"


class Result(TypedDict):
    """The digest of what must be equal, and numbers that must be near."""

    exact: str
    near: list[float]


def noise(name: str, *shape: int) -> np.ndarray:
    """uint8 of ``shape``, the same for a name wherever and whenever it is asked for."""
    return np.frombuffer(bytearray(hashlib.shake_256(name.encode()).digest(int(np.prod(shape)))), np.uint8).reshape(
        shape
    )


def picture(name: str, side: int = 48) -> np.ndarray:
    """uint8 (side, side, 3): squares of two sizes and a slope, so that there are shapes, colours and corners."""
    coarse, fine = noise(name, 4, 4, 3), noise(name + " fine", 16, 16, 3)
    rows = np.arange(side)
    whole = (
        coarse[rows * 4 // side][:, rows * 4 // side].astype(int) * 2 + fine[rows * 16 // side][:, rows * 16 // side]
    )
    return ((whole + rows[:, None, None] * 255 // side) // 4).astype(np.uint8)


def png(pixels: np.ndarray) -> bytes:
    """``pixels``, uint8 or uint16 (H, W, 3 or 4), as a PNG file, written here so that no encoder decides its bytes."""
    height, width, channels = pixels.shape
    rows = pixels.astype(pixels.dtype.newbyteorder(">")).reshape(height, -1).view(np.uint8)
    packed = zlib.compress(np.insert(rows, 0, 0, axis=1).tobytes(), 0)
    header = struct.pack(">IIBBBBB", width, height, 8 * pixels.itemsize, 2 if channels == 3 else 6, 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", packed), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in parts
    )


def _saved(pixels: np.ndarray, kind: str, mode: str = "RGB", **options: object) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(stream, kind, **options)
    return stream.getvalue()


def _result(*exact: bytes | str | np.ndarray, near: Sequence[np.ndarray] = ()) -> Result:
    """Of each of ``near`` up to 32 evenly spaced values, then their mean and standard deviation, are recorded."""
    whole, numbers = hashlib.sha256(), []
    for part in exact:
        whole.update(part.encode() if isinstance(part, str) else bytes(np.ascontiguousarray(part).data)
                     if isinstance(part, np.ndarray) else part)  # fmt: skip
    for values in near:
        flat = np.asarray(values, np.float64).ravel()
        chosen = flat[np.linspace(0, flat.size - 1, min(32, flat.size)).astype(int)]
        numbers += [float(f"{value:.6g}") for value in (*chosen, flat.mean(), flat.std())]
    return {"exact": whole.hexdigest()[:32] if exact else "", "near": numbers}


def _decode() -> Result:
    shown = picture("decode")
    alpha = np.dstack([shown, noise("alpha", 48, 48)])
    deep = noise("deep", 24, 24, 8).view("<u2")
    exif = Image.Exif()
    exif[0x0112] = 6
    files = [
        png(shown), png(alpha), png(deep), png(shown)[:-30], b"no image",
        _saved(shown, "JPEG", quality=90, exif=exif), _saved(shown, "JPEG", "CMYK"), _saved(shown, "JPEG", "L"),
        _saved(shown, "JPEG", progressive=True)[:-200], _saved(shown, "GIF"), _saved(shown, "BMP"),
        _saved(alpha, "WEBP", "RGBA", lossless=True), _saved(shown, "TIFF", "LAB"), _saved(shown, "PNG", "I;16"),
        _saved(shown, "PPM"),
    ]  # fmt: skip
    parts: list[bytes | str | np.ndarray] = []
    for data in files:
        try:
            found = images.decode(data, _MATTE, max_pixels=10**6)
            parts += [f"{found.pixels.shape} {found.mode} {found.format} {found.note}", found.pixels]
        except images.Damaged as damaged:
            parts.append(damaged.reason)
    return _result(*parts)


def _batch() -> list[tuple[bytes, str]]:
    shown = [picture(f"batch {number}", side) for number, side in enumerate((20, 48, 90, 260))]
    faint = 120 + picture("faint", 64) // 100
    return [*((png(each), _MATTE) for each in (*shown, faint)), (b"no image", _MATTE)]


def _fingerprints() -> Result:
    found = fingerprints.examine(_batch(), max_pixels=10**6)
    names = [name for name in fingerprints.FACTS.names if name != "detail"]
    return _result(*(found[name] for name in names), fingerprints.all_hashes(found["thumb"]))


def _keypoints() -> Result:
    one = picture("corners", 200)
    other = np.ascontiguousarray(one[10:180, 20:190, :][:, ::-1])
    records = [keypoints.corners(each) for each in (one, other)]
    match = keypoints.match(records[0], (200, 200), records[1], (170, 170))
    assert match is not None
    counts = [record["count"] for record in records]
    return _result(*counts, str(match.mirrored), near=[np.array([match.inliers]), match.movement])


def _search() -> Result:
    codes, queries = noise("codes", 600, 2), noise("queries", 40, 2)
    codes, queries = (np.tile(each, (1, 16)) for each in (codes, queries))
    found = search.within(queries, codes, 48)
    return _result(*(getattr(found, name) for name in ("a", "b", "distance")))


def _lists() -> Result:
    codes, queries = (np.tile(noise(name, count, 2), (1, 16)) for name, count in (("codes", 600), ("queries", 40)))
    middles = codes[::120]
    (where,) = lists.nearest([(codes, middles)])
    (looked,) = lists.nearest([(queries, middles)], probes=2)
    made = lists.Lists(codes, where[:, 0], len(middles), np.arange(len(codes)))
    (found,) = lists.within(list(made.tasks(queries, looked, np.arange(40))), radius=48)
    return _result(where, looked, *(getattr(found, name) for name in ("a", "b", "distance")))


def _thumbs() -> np.ndarray:
    shown = [picture(f"thumb {number % 5}", 40) for number in range(20)]
    turned = [np.clip(each.astype(int) + 2 * at, 0, 255).astype(np.uint8)[:, :: -1 if at % 3 else 1]
              for at, each in enumerate(shown)]  # fmt: skip
    return np.stack([fingerprints.thumbnail(np.ascontiguousarray(each)) for each in turned])


def _candidates() -> Result:
    thumbs = _thumbs()
    codes = fingerprints.hashes(thumbs)
    every, some = np.ones(len(codes), bool), np.arange(len(codes)) % 3 == 0
    blocks = verify.near([(codes, thumbs, 0, drawn) for drawn in (every, some)], radius=64)
    return _result(*blocks)


def _near(records: np.ndarray, level: int) -> list[np.ndarray]:
    tasks = windows._tasks(np.arange(len(records)), lambda at, window: records["waves"][at, window], 0, level)
    found = np.concatenate(windows.near(list(tasks)))
    order = np.lexsort((found["orientation"], found["combination"]))  # in each as they were found
    return [found[order][["a", "b", "orientation"]]]


def _windows() -> Result:
    records = windows.records(_thumbs())
    return _result(records["drawn"], records["waves"], *_near(records, 0))


def _by_windows() -> Result:
    return _result(*_near(windows.records(_thumbs()), 2))


def _rough() -> Result:
    small = rough.shrunk(_thumbs())
    movement = np.stack([rough.between(((0, 32), (0, 32)), ((1, 30), (2, 32)))] * len(small))
    fits = [rough.fits(small, np.roll(small, shift, axis=(1, 2)), movement) for shift in (0, 1, 4)]
    return _result(*fits, near=[small])


def _alignment() -> Result:
    one = _thumbs()[:6]
    other = np.roll(one, (1, 2), axis=(1, 2))
    fits = [*alignment.still(one, other), *alignment.moved(one, other)]
    numbers = [np.array([fit.correlation, fit.difference, fit.overlap, fit.even, fit.colour, *fit.movement.ravel()])
               for fit in fits]  # fmt: skip
    return _result(near=[*numbers, *alignment._grid(fingerprints.luma(one), fingerprints.luma(other))])


def _verify() -> Result:
    rule = verify.Rule(max_distance=64, max_difference=0.06, min_correlation=0.8, min_inliers=12)
    shown = picture("verify", 200)
    others = [shown, np.roll(shown, 3, axis=1), shown[12:190, 5:180], shown[:, ::-1], picture("other", 200), shown // 2]
    shown_as = [verify.Look(fingerprints.thumbnail(np.ascontiguousarray(each)), each.shape[1], each.shape[0], corners)
                for each in others for corners in (None, keypoints.corners(np.ascontiguousarray(each)))]  # fmt: skip
    batch = [(shown_as[at % 2], look, int(at in (6, 7)), 10) for at, look in enumerate(shown_as)]
    auto = verify.Rule(max_distance="auto", max_difference=0.06, min_correlation="auto", min_inliers=12)
    found = np.concatenate([verify.verify(batch, rule=each) for each in (rule, auto)])
    exact = (found[name] for name in ("found", "same", "how", "orientation"))
    return _result(*exact, near=[found["difference"], found["correlation"]])


def _scale() -> Result:
    batch = [(png(picture(f"scale {side}", side)[: side * 3 // 4]), _MATTE) for side in (20, 90, 500)]
    ways = [scaling.scale(batch, side=32, fit=fit) for fit in ("pad", "crop")]
    # Small ones by Pillow, in whole numbers; the large one by torchvision, whose kernels differ by a level.
    large = [np.frombuffer(way[2], np.uint8) / 255 for way in ways]
    return _result(*(each for way in ways for each in way[:2]), near=large)


def _vectors(name: str) -> Callable[[], Result]:
    return lambda: _result(near=_parts(vectors.embed([picture(f"vector {n}", 64) for n in range(3)], name=name)))


def _parts(found: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Of each vector the sums of 32 parts: most numbers of a network's are zero."""
    return [each.astype(np.float64).reshape(32, -1).sum(1) for each in found]


def _features(name: str) -> Callable[[], Result]:
    def made() -> Result:
        found = embedding.embed(_batch(), name=name)["vector"]
        units = embedding.whole(found) / 512
        return _result(near=[*_parts(found), units @ units.T])

    return made


def _units() -> np.ndarray:
    return embedding.whole(noise("units", 60, 8).astype(np.float32) - 128)


def _captions(exact: np.ndarray, near: np.ndarray) -> Result:
    return _result(exact, near=[near])


def _looks() -> Result:
    pictures = np.stack([noise("look", 32, 32, 3), noise("dark", 32, 32, 3) // 8, np.full((32, 32, 3), 250, np.uint8)])
    return _result(*looks.seen(pictures))


def _nearest() -> Result:
    found = embedding.near(_units(), 20, 0.4)
    return _result(found.a, found.b)


def _by_features() -> Result:
    class Facts:
        """Stands for what clean knows: the vectors and thumbnails of twenty pictures."""

        def thumbs(self, positions: np.ndarray) -> np.ndarray:
            return thumbs[positions]

        def vectors(self, positions: np.ndarray, name: str) -> np.ndarray:
            return _units()[positions]

    thumbs = _thumbs()
    rule = verify.Rule(64, 0.06, 0.8, 12, "efficientnet_lite0", 0.3)
    found = pairs._by_features(Facts(), np.arange(20), fingerprints.hashes(thumbs), 0, rule)
    return _result(*found)


def _train() -> Result:
    return _result(near=[np.array(curve) for curve in recorded_training.curves()])


class _Denoiser(torch.nn.Module):
    """The least that can be distilled: a kernel, and a number for each label."""

    def __init__(self) -> None:
        super().__init__()
        kernel, label = (torch.from_numpy(noise(name, *shape) / 1024 - 0.125).float()
                         for name, shape in (("kernel", (3, 3, 3, 3)), ("label", (3, 3))))  # fmt: skip
        self.kernel, self.label = torch.nn.Parameter(kernel), torch.nn.Parameter(label)

    def forward(self, sample: torch.Tensor, timestep: torch.Tensor, class_labels: torch.Tensor) -> SimpleNamespace:
        shift = self.label[class_labels][:, :, None, None]
        return SimpleNamespace(sample=torch.nn.functional.conv2d(sample, self.kernel, padding=1) + shift)


def _distil() -> Result:
    tuning = aims.Tuning(gap=0.5, halvings=2, guidance=1.5, autoguidance=1.0, sigmas=(80.0, 1.0), classes=("a", "b"))
    network, guide = _Denoiser(), _Denoiser()
    with torch.no_grad():
        guide.kernel.neg_()
    aim = aims.Consistency(tuning, objective("v", "cosine"), network, guide)
    image, unit = (
        torch.from_numpy(noise(name, 12, 3, 8, 8).copy()).float() / 128 - 1 for name in ("distil", "distil noise")
    )
    sigma = torch.logspace(-1.9, 1.9, 12)
    batch = Batch(image, unit, sigma, {"label": torch.arange(12) % 3})
    found = []
    for done in (0.0, 0.5, 0.99):
        losses = aim.losses(network, batch, aim.gap(done))
        network.zero_grad()
        losses.mean().backward()
        found += [losses.detach().numpy(), *(10 * weight.grad.numpy() for weight in network.parameters())]
    return _result(near=found)


CASES: dict[Algorithm, Callable[[], Result]] = {
    images.ALGORITHM: _decode,
    fingerprints.ALGORITHM: _fingerprints,
    keypoints.ALGORITHM: _keypoints,
    search.ALGORITHM: _search,
    lists.ALGORITHM: _lists,
    verify.CANDIDATES: _candidates,
    windows.ALGORITHM: _windows,
    windows.SEARCH: _by_windows,
    rough.ALGORITHM: _rough,
    alignment.ALGORITHM: _alignment,
    verify.VERIFY: _verify,
    scaling.ALGORITHM: _scale,
    embedding.NEAR: _nearest,
    pairs.BY_FEATURES: _by_features,
    looks.ALGORITHM: _looks,
    sentences.ALGORITHM: lambda: _captions(*recorded_captions.vectors()),
    sentences.TOKENS: lambda: _captions(*recorded_captions.tokens()),
    autoencoder.ALGORITHM: lambda: _result(near=latent_fixtures.recorded()),
    train.ALGORITHM: _train,
    student.ALGORITHM: _distil,
    **{algorithm: _vectors(name) for name, algorithm in vectors.ALGORITHMS.items()},
    **{algorithm: _features(name) for name, algorithm in embedding.ALGORITHMS.items()},
}


def declared() -> Iterator[tuple[str, Algorithm]]:
    """(module, algorithm) of each constant in components/ that is an Algorithm, or a table of them."""
    for path in sorted((ROOT / "components").rglob("*.py")):
        if "Algorithm(" in path.read_text("utf-8") and path.name != "algorithms.py":
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            for value in vars(importlib.import_module(name)).values():
                some = value.values() if isinstance(value, dict) else [value]
                yield from ((name, each) for each in some if isinstance(each, Algorithm))


def entry(algorithm: Algorithm) -> dict:
    """What is recorded of ``algorithm``."""
    return {"versions": algorithm.parts(), "result": CASES[algorithm]()}


def read() -> dict[str, dict]:
    """The recorded entries by the name of the algorithm."""
    return json.loads(FILE.read_text("utf-8")) if FILE.is_file() else {}


def same(one: Result, other: Result) -> bool:
    """Whether two results are one, but for the last digits of floating-point numbers."""
    if one["exact"] != other["exact"] or len(one["near"]) != len(other["near"]):
        return False
    return bool(np.allclose(one["near"], other["near"], rtol=RELATIVE, atol=ABSOLUTE))


def wrong(algorithm: Algorithm, old: dict | None, new: dict) -> str:
    """Why ``new``, the entry of ``algorithm``, does not follow from the recorded ``old``; '' when it does."""
    if old is None:
        return f"{algorithm.name}: no result is recorded: run `{COMMAND}`"
    then, now = old["versions"], new["versions"]
    differing = [name for name in sorted({*then, *now}) if then.get(name) != now.get(name)]
    moved = [f"{name.removeprefix('library ')} {then.get(name)}, here {now.get(name)}"
             for name in differing if name.startswith("library ")]  # fmt: skip
    if len(moved) < len(differing):
        return f"{algorithm.name}: the version is not the recorded one: run `{COMMAND}`"
    if same(old["result"], new["result"]):
        return ""
    if moved:
        return (
            f"{algorithm.name}: the result changed; recorded with {'; '.join(moved)}. "
            f"If these libraries changed it, run `{COMMAND}`; else raise the version first"
        )
    return f"{algorithm.name}: the result changed and the version did not: raise the version and run `{COMMAND}`"
