"""The heavy work of ``evaluate``, in tasks that every core takes its share of.

Shapes: N images.  A task is :data:`CHUNK` images, whatever the number of processes, since rounding depends on
what is computed together; so the numbers do not depend on the machine's cores.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from components.base import events, processes
from components.base.errors import UserError
from components.dataset import tensors
from components.diffusion import conditions, schedule, x0_error
from components.embed import features
from components.model import sampling
from components.samples import pack

CHUNK = 32
_MOST = 8

Run = Callable[..., Tensor]
"""``run(work, tasks, what)``: the results of ``work(*task)``, each N x ..., joined in order, with a progress bar."""

_held: dict[str, Any] = {}
"""What this process has opened: the denoiser, and the feature network once it is asked for."""


@contextlib.contextmanager
def workers(model: Path, quiet: bool = False) -> Iterator[Run]:
    """Yield a :data:`Run` whose processes hold the denoiser in ``model``; with CUDA or one core, this process."""
    alone = torch.cuda.is_available() or processes.cores() == 1
    with contextlib.ExitStack() as stack:
        if alone:
            threads = torch.get_num_threads()
            stack.callback(torch.set_num_threads, threads)
            stack.callback(_held.clear)
            _open(str(model))
            each: Callable[..., Iterator[Any]] = map
        else:
            each = stack.enter_context(processes.pool(min(processes.cores(), _MOST), _open, str(model))).map

        def run(work: Callable[..., Tensor], tasks: Sequence[tuple], what: str) -> Tensor:
            parts = []
            total = sum(len(task[0]) for task in tasks)
            with contextlib.nullcontext() if quiet else events.Progress(total, what=what) as progress:
                for part in each(_plain, [work] * len(tasks), tasks):
                    parts.append(torch.from_numpy(part))
                    if progress:
                        progress.advance(len(part))
            return torch.cat(parts)

        yield run


def samples(run: Run, class_ids: Sequence[int], *, seed: int, steps: int | None = None) -> Tensor:
    """A picture for each class id (:mod:`components.model.sampling`), uint8 NHWC, in ``steps`` or the model's own."""
    wishes = {} if steps is None else {"steps": steps}
    tasks = [(list(class_ids[at : at + CHUNK]), seed, at, wishes) for at in range(0, len(class_ids), CHUNK)]
    return run(_sample, tasks, "evaluate: samples")


def errors(run: Run, pixels: Path, rows: Sequence[int], *, seed: int) -> Tensor:
    """Squared x0 errors on ``rows`` of a pack, N x 8 (:func:`components.diffusion.x0_error.measure`)."""
    tasks = [(list(rows[at : at + CHUNK]), str(pixels), seed) for at in range(0, len(rows), CHUNK)]
    return run(_errors, tasks, "evaluate: errors")


def described(run: Run, pictures: Tensor, what: str) -> Tensor:
    """Features of uint8 NHWC pictures, N x 1280."""
    return run(_features, [(part.numpy(),) for part in pictures.split(4 * CHUNK)], f"evaluate: {what}")


def check(denoiser: sampling.Denoiser, header: pack.Header, model: Path) -> None:
    """UserError unless the denoiser is for images like those of the pack."""
    if (denoiser.side, denoiser.channels) != (header.side, header.channels):
        raise UserError(
            f"{model}: made for {denoiser.side} px and {denoiser.channels} channels, "
            f"the images have {header.side} and {header.channels}: they cannot be compared"
        )


def _open(model: str) -> None:
    if not torch.cuda.is_available():
        torch.set_num_threads(1)
    _held["denoiser"] = sampling.load(Path(model), "cuda" if torch.cuda.is_available() else "cpu")


def _plain(work: Callable[..., Tensor], task: tuple) -> Any:
    return work(*task).numpy()  # a tensor would travel as shared memory, which containers have little of


def _sample(class_ids: list[int], seed: int, start: int, wishes: dict[str, int]) -> Tensor:
    return sampling.sample(_held["denoiser"], class_ids, seed=seed, start=start, **wishes)


def _errors(rows: list[int], pixels: str, seed: int) -> Tensor:
    """Labels go by name: a class that the denoiser does not know is shown to it without a label."""
    denoiser, images, keys = _held["denoiser"], tensors.Pixels(Path(pixels)), pack.read_keys(Path(pixels))
    known = [denoiser.classes.index(name) if name in denoiser.classes else -1 for name in images.header.classes]
    class_ids = torch.tensor([known[at] if at >= 0 else -1 for at in images.class_ids[rows].tolist()])
    chosen, device = images.gather(rows), denoiser.device
    parts = x0_error.measure(
        functools.partial(denoiser.objective.denoise, denoiser.network),
        lambda which: tensors.to_network(chosen[which], device),
        conditions.labels_for(class_ids, denoiser.null_class), [keys[row] for row in rows], seed=seed,
    )  # fmt: skip
    return torch.cat(list(parts)).view(len(rows), schedule.LEVELS)


def _features(pictures: Any) -> Tensor:
    if "features" not in _held:
        _held["features"] = features.network()
    return features.of(_held["features"], torch.from_numpy(pictures))
