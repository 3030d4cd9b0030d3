"""Draw pictures from a model folder by numpy and ONNX Runtime: what `mlflow models serve` runs.

:mod:`components.model.serving` copies this file into model folders as code/stillroom_served.py, and MLmodel names it as
the module that MLflow's pyfunc loads a model by: code, nothing pickled.  It imports nothing of Stillroom, torch or
MLflow.

Picture number i of a seed begins as the noise of that picture in `stillroom sample`, so it is the same one, but for
rounding.  Shapes: N pictures, C channels, H and W pixels.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import importlib.util
import json
import math
import os
import shutil
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

MOST_PICTURES, MOST_STEPS = 1000, 1000
"""Of one request."""

_BATCH = 32
_ENDS = (0.02, 80.0)  # of the noise levels that are visited
_XMP = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" Iptc4xmpExt:'
    'DigitalSourceType="http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"/></rdf:RDF></x:xmpmeta>'
)  # that a model drew it


class Served:
    """The model in ``folder``, each of whose files is first compared with MANIFEST.json, where there is one."""

    def __init__(self, folder: Path) -> None:
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # before the import
        import onnxruntime

        _check(folder)
        self.notes = json.loads((folder / "stillroom.json").read_text("utf-8"))
        if self.notes["spec"]["kind"] != "image":
            raise ValueError(f"this draws images only, not kind {self.notes['spec']['kind']}")
        self.levels = json.loads((folder / "onnx/levels.json").read_text("utf-8"))
        options = onnxruntime.SessionOptions()
        options.log_severity_level, options.use_deterministic_compute = 3, True
        self.network, self.guide = (
            onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
            if path.is_file() else None
            for path in (folder / "onnx/model.onnx", folder / "onnx/guide.onnx")
        )  # fmt: skip
        if self._push != 1 and self.guide is None:
            raise ValueError("onnx/guide.onnx: not there, but autoguidance needs it: pull the version again")
        weights = next(folder.glob("*/diffusion_pytorch_model.safetensors"))
        self.origin = {"model": _name(folder), "weights": _sha256(weights)}

    def predict(self, model_input: Any, params: dict[str, Any] | None = None) -> list[dict[str, Any]]:
        """A dictionary with ``png`` (base64), ``label``, ``seed`` and ``number`` for each picture.

        ``model_input``: labels, as a list or in a table's column ``label``; an empty one stands for none.  ``params``:
        ``seed``; ``count``, pictures in all, of the labels in turn (0: one for each); ``start``, the number of the
        first; ``steps`` (0: the model's own).  ValueError for what cannot be drawn.
        """
        wanted = {"seed": 0, "count": 0, "start": 0, "steps": 0, **(params or {})}
        seed, count, start, steps = (int(wanted[name]) for name in ("seed", "count", "start", "steps"))
        names = self._labels(model_input["label"] if hasattr(model_input, "columns") else model_input)
        count = count or len(names)
        if not names or not 0 < count <= MOST_PICTURES or not 0 <= steps <= MOST_STEPS or start < 0:
            raise ValueError(
                f"wanted a label (or an empty one), count in 0..{MOST_PICTURES}, steps in 0..{MOST_STEPS}, start from 0"
            )
        labels = [names[at % len(names)] for at in range(count)]
        levels = self.levels if steps in (0, len(self.levels)) else self._levels(steps)
        drawn: list[dict[str, Any]] = []
        for first in range(0, count, _BATCH):
            some = labels[first : first + _BATCH]
            numbers = range(start + first, start + first + len(some))
            pictures = self._draw(some, levels, seed, numbers)
            for picture, label, number in zip(pictures, some, numbers, strict=True):
                text = {
                    **self.origin, "seed": seed, "sampler": self._sampler, "steps": len(levels),
                    "levels": "the model's", "eta": None, "guidance": self.notes["guidance"],
                    "autoguidance": self._push, "engine": "onnx",
                    "number": number, "label": label,
                }  # fmt: skip
                blob = png(picture, {"Stillroom": json.dumps(text), "XML:com.adobe.xmp": _XMP})
                drawn.append({"label": label, "seed": seed, "number": number, "png": base64.b64encode(blob).decode()})
        return drawn

    def _labels(self, given: Any) -> list[str | None]:
        classes = self.notes["classes"]
        names = [None if name is None or name != name or name == "" else name for name in given]  # NaN is not itself
        for name in names:
            if name is not None and name not in classes:
                known = f"not one of {', '.join(classes)}" if classes else "not known: this model has no labels"
                raise ValueError(f"label {name!r:.80} is {known}")
        return names

    @property
    def _sampler(self) -> str:
        """That of a student, jumps or in older ones Euler's method, and DPM-Solver++(2M) for all others."""
        own = self.notes.get("sampler")
        return own if own in ("consistency", "euler") else "dpmpp_2m"

    @property
    def _push(self) -> float:
        """Away from the guide; 1 where there is none."""
        return float(self.notes.get("autoguidance", 1))

    def _levels(self, steps: int) -> list[dict[str, float]]:
        if self.notes.get("sigmas"):
            raise ValueError(f"steps {steps}: this model was distilled to draw in {len(self.levels)}")
        return levels(self.notes["objective"], steps)

    def _draw(self, labels: Sequence[str | None], levels: list[dict[str, float]], seed: int, numbers: range) -> Any:
        """Pictures, uint8 NHWC."""
        shape = self.notes["spec"]["shape"]
        x = np.stack([noise(seed, number, shape) for number in numbers]) * np.float32(levels[0]["sigma"])
        classes, null, guidance = self.notes["classes"], self.notes["null_class"], self.notes["guidance"]
        ids = np.array([null if name is None else classes.index(name) for name in labels]) if classes else None
        none = None if ids is None else np.full(len(ids), null)
        pulled = ids is not None and guidance != 1 and bool((ids != null).any())
        before, last = None, 0.0
        for at, (one, after) in enumerate(zip(levels, [*levels[1:], None], strict=True)):
            clean = self._clean(self.network, x, one, ids)
            if pulled:
                free = self._clean(self.network, x, one, none)
                clean = free + guidance * (clean - free)
            if self._push != 1:
                weak = self._clean(self.guide, x, one, none)
                clean = weak + self._push * (clean - weak)
            if after is None:
                return ((clean.clip(-1, 1) + 1) * 127.5).round().astype("u1").transpose(0, 2, 3, 1)
            if self._sampler == "consistency":
                fresh = np.stack([noise(seed, number, shape, at) for number in numbers])
                x = clean + np.float32(after["sigma"]) * fresh
                continue
            step = math.log(one["sigma"] / after["sigma"])
            ahead = clean
            if before is not None and self._sampler == "dpmpp_2m":  # Lu et al. 2022, arXiv:2211.01095, algorithm 2
                ahead = clean + (clean - before) * (step / (2 * last))
            x, before, last = ahead + (x - ahead) * (after["sigma"] / one["sigma"]), clean, step
        raise ValueError("onnx/levels.json names no noise level")

    def _clean(self, network: Any, x: Any, one: dict[str, float], ids: Any) -> Any:
        """The clean images that ``network`` expects behind ``x``, NCHW."""
        given = {"sample": (one["c_in"] * x + one["c_shift"]).astype("f4"),
                 "timestep": np.full(len(x), one["timestep"], "f4")}  # fmt: skip
        if ids is not None:
            given["class_labels"] = ids.astype("i8")
        return one["c_skip"] * x + one["c_out"] * network.run(None, given)[0]


def levels(objective: dict[str, Any], steps: int) -> list[dict[str, float]]:
    """What onnx/levels.json holds, for another number of steps: noise levels and what a prediction means at each."""
    kind, schedule, data = objective["kind"], objective["schedule"], objective.get("sigma_data", 0.5)
    table = _log_sigmas(schedule) if schedule in ("linear", "cosine") else None
    low, high = _ENDS if table is None else (max(_ENDS[0], math.exp(table[0])), min(_ENDS[1], math.exp(table[-1])))
    if own := objective.get("sigmas"):  # of a model whose training began elsewhere
        low, high = max(_ENDS[0], own[0]), own[1]
    found = []
    for s in [high] if steps == 1 else np.geomspace(high, low, steps).tolist():
        flat, edm = 1 / math.sqrt(1 + s * s), s * s + data * data
        c_in, c_shift, c_skip, c_out = {
            "eps": (flat, 0.0, 1.0, -s), "x0": (flat, 0.0, 0.0, 1.0), "v": (flat, 0.0, flat * flat, -s * flat),
            "edm": (1 / math.sqrt(edm), 0.0, data * data / edm, s * data / math.sqrt(edm)),
            "flow": (1 / (1 + s), 0.0, 1 / (1 + s), -s / (1 + s)),
        }[kind]  # fmt: skip
        if schedule == "exponential":  # a score of pixels in [0, 1]
            c_in, c_shift, c_out = 0.5, 0.5, s * s / 2
        if table is not None:
            timestep = float(np.interp(math.log(s), table, np.arange(len(table))))
        else:
            timestep = {"exponential": s / 2, "log_normal": math.log(s) / 4}.get(schedule, 1000 * s / (1 + s))
        found.append({"sigma": s, "timestep": timestep, "c_in": c_in, "c_shift": c_shift, "c_skip": c_skip,
                      "c_out": c_out})  # fmt: skip
    return found


def _log_sigmas(schedule: str) -> Any:
    """Log sigma of each of 1,000 timesteps, ascending."""
    betas = np.linspace(1e-4, 0.02, 1000)
    if schedule == "cosine":
        bar = np.cos((np.arange(1001) / 1000 + 0.008) / 1.008 * np.pi / 2) ** 2
        betas = np.minimum(1 - bar[1:] / bar[:-1], 0.999)
    kept = np.cumprod(1 - betas)
    return np.log((1 - kept) / kept) / 2


def noise(seed: int, number: int, shape: Sequence[int], *step: int) -> Any:
    """The noise that picture ``number`` of ``seed`` begins as, or that its ``step`` adds, float32 CHW.

    It is torch.randn's, by the same generator.
    """
    digest = hashlib.sha256("/".join(map(str, (seed, "sample", number, *step))).encode()).digest()
    source = np.random.RandomState((int.from_bytes(digest[:8], "little") >> 1) & 0xFFFFFFFF)
    size = math.prod(shape)

    def uniform(count: int) -> Any:
        drawn = source.randint(0, 2**32, count, dtype=np.uint32)
        return ((drawn & 0xFFFFFF) * np.float32(2**-24)).astype("f4")

    values = uniform(size)
    whole = values[: size // 16 * 16]
    whole[:] = _normal(whole)
    if size % 16:
        values[-16:] = _normal(uniform(16))
    return values.reshape(shape)


def _normal(uniform: Any) -> Any:
    """Box and Muller's method, as torch pairs the numbers: each of eight with that eight places on."""
    pairs = uniform.reshape(-1, 2, 8)
    radius, angle = np.sqrt(-2 * np.log(1 - pairs[:, 0])), np.float32(2 * np.pi) * pairs[:, 1]
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1).astype("f4").reshape(-1)


def png(picture: Any, text: dict[str, str]) -> bytes:
    """A PNG of a uint8 HWC picture of 1 to 4 channels with each entry of ``text`` as an iTXt chunk."""
    height, width, channels = picture.shape
    rows = np.concatenate([np.zeros((height, 1), "u1"), picture.reshape(height, -1)], 1)
    chunks = [(b"IHDR", struct.pack(">2I5B", width, height, 8, {1: 0, 2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)),
              (b"IDAT", zlib.compress(rows.tobytes(), 9))]  # fmt: skip
    chunks += [(b"iTXt", word.encode("latin-1") + b"\0\0\0\0\0" + value.encode()) for word, value in text.items()]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in [*chunks, (b"IEND", b"")]
    )


def _name(folder: Path) -> str | None:
    """NAME/VERSION, as the puller or MLflow's download left it; None in a folder that neither brought."""
    pulled, meta = folder / ".pulled.json", folder / "registered_model_meta"
    if pulled.is_file():
        found = json.loads(pulled.read_text("utf-8"))
        return f"{found['model']}/{found['version']}"
    if meta.is_file():  # two lines of YAML
        said = dict(line.split(": ", 1) for line in meta.read_text("utf-8").splitlines())
        return f"{said['model_name']}/{said['model_version'].strip(chr(39))}"
    return None


def _check(folder: Path) -> None:
    """ValueError names the first file that is not what MANIFEST.json promises."""
    if (folder / "MANIFEST.json").is_file():
        for name, promised in json.loads((folder / "MANIFEST.json").read_text("utf-8"))["files"].items():
            if _sha256(folder / name) != promised["sha256"]:
                raise ValueError(f"{name}: not what MANIFEST.json promises: pull the version again")


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _load_pyfunc(path: str) -> Served:
    """What MLflow calls with the model's folder."""
    with contextlib.suppress(OSError):  # of this import; a pulled folder holds what its manifest lists, and no more
        shutil.rmtree(Path(importlib.util.cache_from_source(__file__)).parent)
    return Served(Path(path))
