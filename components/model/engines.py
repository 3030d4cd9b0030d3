"""Who computes the network while pictures are drawn: torch, ONNX Runtime on the CPU, or a replayed CUDA graph."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from components.base.errors import UserError, brief
from components.networks import precision, registry

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

Engine = Literal["auto", "torch", "onnx"]

ONNX, ONNX_GUIDE = Path("onnx") / "model.onnx", Path("onnx") / "guide.onnx"
"""Where a model folder holds its ONNX form, and that of its guide."""

_DTYPES = {"tensor(float)": torch.float32, "tensor(int64)": torch.int64, "tensor(bool)": torch.bool}

_NAMES = ("sample", "timestep", "class_labels", "text", "tokens", "mask")

_AGAIN = "export it again, or --engine torch"

_log = logging.getLogger(__name__)


class Answer(NamedTuple):
    """What a network returns, as diffusers' networks do."""

    sample: Tensor


def choose(engine: Engine, folder: Path, device: torch.device) -> Literal["torch", "onnx"]:
    """``engine``, or for ``auto`` the faster one here.

    Measured (docs/sampling.md): on the CPU ONNX Runtime is ahead of torch in fp32 and behind it in bf16, so it is taken
    where the folder has the ONNX form and the processor no instructions for bf16. On CUDA it is always torch.
    """
    wanted = [ONNX, ONNX_GUIDE] if (folder / registry.GUIDE).is_dir() else [ONNX]
    missing = [name for name in wanted if not (folder / name).is_file()]
    if engine == "onnx" and device.type != "cpu":
        raise UserError("engine onnx runs on the CPU, and here is a CUDA device: take --engine torch or auto")
    if engine == "onnx" and missing:
        raise UserError(f"{folder / missing[0]}: not there: this model has no ONNX form, take --engine torch or auto")
    if engine != "auto":
        return engine
    return "onnx" if not missing and device.type == "cpu" and precision.resolve(device, "auto") == "fp32" else "torch"


class OnnxNetwork(nn.Module):
    """A network in ONNX Runtime, with the signature of diffusers' networks: inputs of its names, one output."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path, self._session = path, _session(path)
        self._inputs = [(each.name, each.type, len(each.shape)) for each in self._session.get_inputs()]
        names = {name for name, _, _ in self._inputs}
        if not {*_NAMES[:2]} <= names <= {*_NAMES} or any(kind not in _DTYPES for _, kind, _ in self._inputs):
            inputs = ", ".join(f"{name} {kind}" for name, kind, _ in self._inputs)
            raise UserError(f"{path}: takes {inputs}; wanted an image, a timestep and perhaps a label "
                            "and a caption: export it again")  # fmt: skip

    def forward(self, sample: Tensor, timestep: Tensor, class_labels: Tensor | None = None, **told: Tensor) -> Answer:
        """What the network predicts for ``sample`` BCHW at ``timestep`` (B,).

        With labels (B,), and what it takes of ``told``, captions by the names of the module ``conditions``.
        """
        given = {"sample": sample, "timestep": timestep, "class_labels": class_labels, **told}
        feed = {
            name: _array(value, kind, rank) for name, kind, rank in self._inputs
            if (value := given.get(name)) is not None
        }  # fmt: skip
        try:
            found = torch.from_numpy(self._session.run(None, feed)[0])
        except Exception as error:  # as in _session
            raise UserError(f"{self._path}: cannot be computed ({brief(error)}): {_AGAIN}") from None
        if found.shape != sample.shape or not found.is_floating_point():
            raise UserError(f"{self._path}: answers {tuple(found.shape)} to {tuple(sample.shape)}: {_AGAIN}")
        return Answer(found)


def _array(value: Tensor, kind: str, rank: int) -> Any:
    value = value.reshape(-1)[0] if rank == 0 else value
    return value.to(_DTYPES[kind]).contiguous().numpy()


def _session(path: Path) -> InferenceSession:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = torch.get_num_threads(), 1
    options.use_deterministic_compute = True
    options.log_severity_level = 3  # its warnings are about graphs, not for who draws pictures
    # Without threads that wait in a loop: the next call of the network is milliseconds away.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions have no common ancestor of their own
        raise UserError(f"{path}: ONNX Runtime cannot read it ({brief(error)}): {_AGAIN}") from None


class Graphed(nn.Module):
    """``network`` replayed as one CUDA graph for each shape and arithmetic; elsewhere it is called as it is.

    So it is where capturing fails.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self._graphs: dict[tuple, tuple[torch.cuda.CUDAGraph, list[Tensor], Tensor] | None] = {}

    def forward(self, sample: Tensor, timestep: Tensor, class_labels: Tensor | None = None, **told: Tensor) -> Answer:
        """As the network's own."""
        if sample.device.type != "cuda":
            return self.network(sample, timestep, class_labels=class_labels, **told)
        labels = {} if class_labels is None else {"class_labels": class_labels}
        named = {"sample": sample, "timestep": timestep, **labels, **told}
        given = [*named.values()]
        key = self.key(given)
        if key not in self._graphs:
            self._graphs[key] = self._captured(given, [*named])
        held = self._graphs[key]
        if held is None:
            return self.network(sample, timestep, class_labels=class_labels, **told)
        graph, inputs, output = held
        for slot, value in zip(inputs, given, strict=True):
            slot.copy_(value)
        graph.replay()
        return Answer(output.clone())

    @staticmethod
    def key(given: list[Tensor]) -> tuple:
        """What a graph is captured for: a replay computes in the arithmetic of its capture, whatever is asked then."""
        enabled = torch.is_autocast_enabled("cuda")
        arithmetic = (
            enabled, torch.get_autocast_dtype("cuda") if enabled else None, torch.backends.cudnn.allow_tf32,
            torch.get_float32_matmul_precision(),
        )  # fmt: skip
        return (arithmetic, *((each.shape, each.dtype) for each in given))

    def _captured(
        self, given: list[Tensor], names: list[str]
    ) -> tuple[torch.cuda.CUDAGraph, list[Tensor], Tensor] | None:
        inputs = [each.clone() for each in given]
        named = dict(zip(names, inputs, strict=True))
        enabled, dtype = torch.is_autocast_enabled("cuda"), torch.get_autocast_dtype("cuda")
        # Weights that autocast keeps would be freed when its context ends, under the graph that reads them.
        with torch.autocast("cuda", dtype=dtype, enabled=enabled, cache_enabled=False):
            try:
                side = torch.cuda.Stream()
                side.wait_stream(torch.cuda.current_stream())
                with torch.cuda.stream(side):
                    for _ in range(3):
                        self.network(**named)
                torch.cuda.current_stream().wait_stream(side)
                graph = torch.cuda.CUDAGraph()
                with torch.cuda.graph(graph):
                    output = self.network(**named).sample
            except RuntimeError as error:
                _log.warning("no CUDA graph of this network (%s): it is called step by step", str(error)[:200])
                return None
        return graph, inputs, output
