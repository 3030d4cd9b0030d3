"""The form of a network that needs neither our code nor torch: ONNX, and the noise levels to walk along.

``onnx/model.onnx`` takes float32 ``sample`` BCHW and ``timestep`` (B,), int64 ``class_labels`` (B,) where the network
has labels, float32 ``text`` (B, D) where it takes captions, float32 ``tokens`` (B, L, D) with bool ``mask`` (B, L)
where it reads their tokens (a U-Net of diffusers without a mask), and gives float32 ``prediction`` BCHW, for any B and
L (and any H and W, where images have several shapes); so does ``onnx/guide.onnx`` of a guide, where there is one.
``onnx/decoder.onnx`` of a model of latents takes float32 ``latents`` BCHW and gives ``pictures``, values in [-1, 1].
``onnx/levels.json`` holds, for each step of sampling, what
D(x, sigma) = c_skip * x + c_out * prediction(c_in * x + c_shift, timestep) needs: a sampler is ten lines of numpy.
"""

from __future__ import annotations

import json
import logging
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from components.base.errors import UserError
from components.diffusion.objective import Objective
from components.networks import registry

if TYPE_CHECKING:
    import onnx

FOLDER = "onnx"
MODEL, GUIDE, DECODER = "model.onnx", "guide.onnx", "decoder.onnx"
LEVELS = "levels.json"

OPSET = 18
"""ONNX Runtime has run it since 1.14; LayerNormalization is one node from 17 on."""

MOST_ERROR = 1e-4
"""Of a prediction, beside torch's, as a share of the largest prediction, or of 1 if that is larger."""

MOST_INSIDE = 2**31 - 2**20
"""Bytes of weights up to which they lie in the model's own file: a protobuf message ends at 2 GiB."""

Shape = tuple[int, ...]

_log = logging.getLogger(__name__)


def write(
    folder: Path, network: nn.Module, objective: Objective, sigmas: Sequence[float], guide: nn.Module | None = None,
    shapes: Sequence[Shape] = (), decoder: nn.Module | None = None,
) -> float:  # fmt: skip
    """Write the files into ``folder``; the largest error beside torch; UserError when that is above 1e-4.

    ``shapes``: those that samples have (C, ...), where they are several; the file then takes any that the network does.
    ``network``, its ``guide`` and the ``decoder`` of its samples, if it has them, lie on the CPU; ``sigmas`` are the
    falling noise levels of levels.json.  Equal networks give equal bytes: no path, no clock, no name of a machine in
    them.
    """
    (folder / FOLDER).mkdir()
    several = shapes if len(shapes) > 1 else ()
    pairs = [(name, each) for name, each in ((MODEL, network), (GUIDE, guide)) if each]
    errors = [_write(folder, name, each, objective, several) for name, each in pairs]
    if decoder:
        errors.append(_write_decoder(folder, decoder, registry.sample_shape(network)))
    write_levels(folder, objective, sigmas)
    return max(errors)


def _write(folder: Path, name: str, network: nn.Module, objective: Objective, shapes: Sequence[Shape]) -> float:
    network = network.eval()
    path = folder / FOLDER / name
    _save(_exported(network, sizes=bool(shapes)), path)
    return _within(path, max(
        _error(path, network, objective, shape) for shape in shapes or [registry.sample_shape(network)]
    ))  # fmt: skip


def _write_decoder(folder: Path, decoder: nn.Module, shape: Shape) -> float:
    path = folder / FOLDER / DECODER
    given = torch.randn((5, *shape), generator=torch.Generator().manual_seed(0))
    axes = {name: {0: "batch"} for name in ("latents", "pictures")}
    _save(_traced(decoder, (given[:2],), ["latents"], ["pictures"], axes), path)
    pairs = [(decoder(given[:count]), _answer(_session(path), {"latents": given[:count]})) for count in (1, 5)]
    return _within(path, max(_apart(got, wanted) for wanted, got in pairs))


def _within(path: Path, error: float) -> float:
    """``error``, beside torch, of the file at ``path``; UserError when it is too large."""
    if not error <= MOST_ERROR:
        raise UserError(
            f"onnx/{path.name}: predictions differ from torch's by {error:.2g}, wanted at most {MOST_ERROR:g}: "
            "set train.onnx to false and report this"
        )
    _log.info("onnx: %s, %d bytes, within %.1e of torch", path.name, path.stat().st_size, error)
    return error


def write_levels(folder: Path, objective: Objective, sigmas: Sequence[float]) -> None:
    """Write onnx/levels.json alone; ``folder`` has the folder onnx."""
    (folder / FOLDER / LEVELS).write_text(json.dumps(coefficients(objective, sigmas), indent=1) + "\n", "utf-8")


def coefficients(objective: Objective, sigmas: Sequence[float]) -> list[dict[str, float]]:
    """For each of ``sigmas``: sigma, timestep, c_in, c_shift, c_skip and c_out."""
    schedule = objective.schedule
    sigma = torch.tensor(sigmas, dtype=torch.float64)
    columns = {
        "sigma": sigma,
        "timestep": schedule.timestep(sigma),
        "c_in": objective.c_in(sigma),
        "c_shift": torch.full_like(sigma, objective.c_shift),
        "c_skip": objective.c_skip(sigma),
        "c_out": objective.c_out(sigma),
    }
    return [{name: float(column[at]) for name, column in columns.items()} for at in range(len(sigma))]


class _Plain(nn.Module):
    """The network with a tensor, not an object that holds one, as its answer."""

    def __init__(self, network: nn.Module, names: Sequence[str]) -> None:
        super().__init__()
        self.network, self.names = network, names

    def forward(self, *given: Tensor) -> Tensor:
        """The prediction, BCHW, for inputs of ``names``."""
        return self.network(**dict(zip(self.names, given, strict=True))).sample.float()


def _exported(network: nn.Module, *, sizes: bool) -> onnx.ModelProto:
    """``network`` as an ONNX graph; with ``sizes`` for images of any height and width.

    By torch's tracing exporter: 0.8 CPU-s for the compact network of three resolutions, for which the one built on
    `torch.export` (``dynamo=True``) takes 22; what comes out is compared with torch in either case.
    """
    given = registry.examples(network, torch.tensor([1.0, 2.0]))
    written, outputs = list(given), ["prediction"]
    axes = {name: {0: "batch"} for name in written + outputs}
    for name in {"tokens", "mask"} & {*written}:
        axes[name] = {0: "batch", 1: "tokens"}
    if sizes:
        axes |= {name: {0: "batch", 2: "height", 3: "width"} for name in ("sample", *outputs)}
    return _traced(_Plain(network, written), tuple(given.values()), written, outputs, axes)


def _traced(
    module: nn.Module, given: tuple[Tensor, ...], inputs: list[str], outputs: list[str],
    axes: dict[str, dict[int, str]],
) -> onnx.ModelProto:  # fmt: skip
    """``module`` as an ONNX graph, without a path or a version of torch in it; ``axes``: those of any length."""
    import onnx

    with tempfile.TemporaryDirectory() as scratch, torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it is the older exporter, and what tracing takes for constant
        path = Path(scratch) / MODEL
        torch.onnx.export(
            module, given, str(path), dynamo=False, opset_version=OPSET, input_names=inputs, output_names=outputs,
            dynamic_axes=axes,
        )  # fmt: skip
        model = onnx.load(path)  # weights beside the file, where they are too large for it, come in with it
    model.producer_name, model.producer_version, model.doc_string = "stillroom", "", ""
    for node in model.graph.node:
        node.doc_string = ""
    del model.metadata_props[:]
    return model


def _save(model: onnx.ModelProto, path: Path) -> None:
    """Write ``model``, and its weights into a second file beside it when one would be too large."""
    import onnx

    size = sum(len(weight.raw_data) for weight in model.graph.initializer)
    beside: dict[str, Any] = {}
    if size > MOST_INSIDE:
        beside = {"save_as_external_data": True, "location": f"{path.name}.data", "size_threshold": 1024}
    onnx.save_model(model, path, **beside)


def _error(path: Path, network: nn.Module, objective: Objective, shape: Shape) -> float:
    """Largest difference between the file's predictions for samples of ``shape`` and torch's.

    Over the noise levels, in batches of 1 and 5.
    """
    session, schedule, largest = _session(path), objective.schedule, 0.0
    for count in (1, 5):
        sigma = torch.logspace(0, 1, count, base=schedule.high / schedule.low, dtype=torch.float64) * schedule.low
        given = registry.examples(network, schedule.timestep(sigma), shape)
        with torch.no_grad():
            wanted = _Plain(network, list(given))(*given.values())
        error = _apart(_answer(session, given), wanted)
        if not error <= largest:  # a NaN stays
            largest = error
    return largest


def _session(path: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _answer(session: Any, given: Mapping[str, Tensor]) -> Tensor:
    return torch.from_numpy(session.run(None, {name: value.numpy() for name, value in given.items()})[0])


def _apart(got: Tensor, wanted: Tensor) -> float:
    """Largest difference, as a share of the largest number wanted, or of 1 if that is larger."""
    return ((got - wanted).abs().max() / wanted.abs().max().clamp(min=1)).item()
