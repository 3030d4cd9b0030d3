"""What ``evaluate`` computes with networks: samples, x0 errors and features, on all cores or on one GPU.

Shapes: N images; C, H, W of one.  The work is split into tasks of :data:`CHUNK` images whatever the number of
processes, since rounding depends on what is computed together: the results do not depend on the number of cores.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from components.base import events, processes
from components.base.errors import UserError
from components.dataset import tensors
from components.diffusion import conditions, schedule, x0_error
from components.embed import features, judges
from components.evaluate import telling
from components.model import sampling
from components.networks import precision, registry
from components.samples import latents, pack
from components.samples.latents import Latents

CHUNK = 32
"""Images of a task; on CUDA as many as are drawn at once."""

_MOST = 8
"""Processes, each of which holds the network."""

Run = Callable[..., Tensor]
"""``run(work, tasks, what)``: the results of ``work(*task)``, each (N, ...), joined in order.

``what`` names the progress bar.
"""

_held: dict[str, Any] = {}
"""Of a worker process: the denoiser, and each feature network once it is needed."""


@contextlib.contextmanager
def workers(model: Path, quiet: bool = False, told: telling.Told | None = None) -> Iterator[Run]:
    """Yield a :data:`Run` whose processes have loaded the denoiser in ``model``; with CUDA or one core, this process.

    ``quiet``: without a progress bar.  ``told``: where captions are for a model that takes them; without, it is told
    nothing.
    """
    with contextlib.ExitStack() as stack:
        if _alone():
            threads = torch.get_num_threads()
            stack.callback(torch.set_num_threads, threads)
            stack.callback(_held.clear)
            _open(str(model), told)
            each: Callable[..., Iterator[Any]] = map
        else:
            each = stack.enter_context(_processes(model, told)).map

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


def _parts(count: int, times: int = 1) -> list[slice]:
    """The tasks of ``count`` images."""
    size = times * (sampling.CUDA_BATCH if torch.cuda.is_available() else CHUNK)
    return [slice(at, at + size) for at in range(0, count, size)]


def import_ahead(model: Path) -> None:
    """Begin to import what :func:`workers` need, which takes seconds, beside what the caller does until then."""
    if not _alone():
        processes.import_ahead([__name__, *registry.modules(model)])


def _alone() -> bool:
    return torch.cuda.is_available() or processes.cores() == 1


def _processes(
    model: Path, told: telling.Told | None
) -> contextlib.AbstractContextManager[ProcessPoolExecutor]:  # fmt: skip
    most = min(processes.cores(), _MOST)
    return processes.pool(most, _open, str(model), told, preload=registry.modules(model))


def samples(
    run: Run, class_ids: Sequence[int], *, seed: int, first: int = 0, what: str = "evaluate: samples",
    shapes: Sequence[tuple[int, ...]] | None = None, **wishes: Any,
) -> list[Tensor]:  # fmt: skip
    """A sample for each class id (:mod:`components.model.sampling`), uint8 NHWC, as the model does but for ``wishes``.

    They come in runs of one shape; ``shapes`` are those of the samples (C, H, W), one after the other, None for the
    model's own.  Wishes are those of :func:`components.model.sampling.plan`.  The first one is number ``first`` of
    ``seed``; ``what`` names the progress bar.
    """
    drawn, at = [], 0
    each: Sequence[tuple[int, ...] | None] = shapes or [None] * len(class_ids)
    for shape, group in itertools.groupby(each):
        ids = class_ids[at : at + len(list(group))]
        given = {**wishes, "shape": shape}
        tasks = [(list(ids[part]), seed, first + at + part.start, given) for part in _parts(len(ids))]
        drawn.append(run(_sample, tasks, what))
        at += len(ids)
    return drawn


def of_captions(
    run: Run, rows: Sequence[int], *, seed: int, first: int, shapes: Sequence[tuple[int, ...]], **wishes: Any
) -> list[Tensor]:  # fmt: skip
    """As :func:`samples`, one of the first caption of each of ``rows``, of ``shapes``."""
    drawn, at = [], 0
    for shape, group in itertools.groupby(shapes):
        some = list(rows[at : at + len(list(group))])
        given = {**wishes, "shape": shape}
        tasks = [(some[part], seed, first + at + part.start, given) for part in _parts(len(some))]
        drawn.append(run(_sample_of, tasks, "evaluate: captions"))
        at += len(some)
    return drawn


def errors(run: Run, pixels: Path, rows: Sequence[int], *, seed: int, space: Latents | None = None) -> Tensor:
    """Squared x0 errors on ``rows`` of a pack, (N, 8), in fp32 (:func:`components.diffusion.x0_error.measure`).

    ``space``: the latents of the pack's pictures, of a denoiser of latents (:func:`space`); the errors are in theirs.
    """
    made = space and space.autoencoder
    tasks = [(list(rows[part]), str(space.pack if space else pixels), seed, made) for part in _parts(len(rows))]
    return run(_errors, tasks, "evaluate: errors")


def space(denoiser: sampling.Denoiser, model: Path, pixels: Path, folder: Path | None) -> Latents | None:
    """The latents in ``folder`` (data/latents) for a denoiser of latents, None for one of pictures.

    UserError where there are none, or those of another autoencoder.
    """
    if denoiser.autoencoder is None:
        return None
    found = latents.read(folder, pixels) if folder is not None and folder.is_dir() else None
    name = denoiser.autoencoder.sha256
    if found is None or found.autoencoder.sha256 != name:
        held = latents.words(found.autoencoder.sha256) if found else "nothing, for encode.latents is null"
        raise UserError(
            f"{model}: trained on {latents.words(name)}, and data/latents holds {held}: train it again, or set "
            "encode.latents to what it was trained with"
        )
    return found


def described(run: Run, runs: Sequence[Tensor], what: str, judge: judges.Judge | None = None) -> Tensor:
    """Features of uint8 images in runs of one shape (B, H, W, C), joined (N, D).

    By ``judge`` or :mod:`components.embed.features`; ``what`` names the progress bar.
    """
    tasks = [(some[part].numpy(), judge) for some in runs for part in _parts(len(some), 4)]
    return run(_features, tasks, f"evaluate: {what}")


def described_rows(run: Run, pixels: Path, rows: Sequence[int], what: str) -> Tensor:
    """Features of ``rows`` of a pack, (N, D), whose images only the workers read."""
    tasks = [(list(rows[part]), str(pixels)) for part in _parts(len(rows), 4)]
    return run(_features_of_rows, tasks, f"evaluate: {what}")


def check(
    denoiser: sampling.Denoiser, header: pack.Header, model: Path, advice: str = "they cannot be compared"
) -> None:
    """UserError, which ends in ``advice``, unless the denoiser's samples have the pack's shapes, kind and values.

    Of several shapes one has to be both a shape that it was trained on and one of the pack; all others it has to take.
    The type of the stored numbers does not matter, nor the measured sigma_data.
    """
    known = {denoiser.pictures.shape, *denoiser.shapes}
    if not known & set(header.shapes) or not all(map(denoiser.takes, header.shapes)):
        ours, theirs = (" x ".join(map(str, shape)) for shape in (denoiser.pictures.shape, _other(denoiser, header)))
        raise UserError(f"{model}: its samples are {ours} (channels first), those of the pack {theirs}: {advice}")
    one, other = denoiser.pictures, header.spec
    same = all(math.isclose(x, y, rel_tol=1e-6) for x, y in ((one.scale, other.scale), (one.shift, other.shift)))
    if one.kind != other.kind or not same:
        ours, theirs = (f"{each.kind}, stored * {each.scale:g} + {each.shift:g}" for each in (one, other))
        raise UserError(f"{model}: its samples are of kind {ours}, those of the pack of kind {theirs}: {advice}")


def _other(denoiser: sampling.Denoiser, header: pack.Header) -> tuple[int, ...]:
    """The first shape of the pack that the denoiser does not take, else its usual one."""
    return next((shape for shape in header.shapes if not denoiser.takes(shape)), header.spec.shape)


def _open(model: str, told: telling.Told | None) -> None:
    if not torch.cuda.is_available():
        torch.set_num_threads(1)
    _held["denoiser"] = sampling.load(Path(model), "cuda" if torch.cuda.is_available() else "cpu")
    _held["telling"] = telling.Telling(told, _held["denoiser"]) if told else None


def _plain(work: Callable[..., Tensor], task: tuple) -> Any:
    return work(*task).numpy()  # a tensor would go through shared memory, of which containers have little


def _sample(class_ids: list[int], seed: int, start: int, wishes: dict[str, Any]) -> Tensor:
    told = _held["telling"] and _held["telling"].of_classes(class_ids, start)
    ids = class_ids if _held["denoiser"].classes else [-1] * len(class_ids)  # one that is told no labels
    return sampling.sample(_held["denoiser"], ids, seed=seed, start=start, text=told, **wishes)


def _sample_of(rows: list[int], seed: int, start: int, wishes: dict[str, Any]) -> Tensor:
    """Samples of the captions of ``rows``; without a label, whatever else the denoiser takes."""
    text = _held["telling"].of_rows(rows)
    return sampling.sample(_held["denoiser"], [-1] * len(rows), seed=seed, start=start, text=text, **wishes)


def _errors(rows: list[int], pixels: str, seed: int, made: latents.Autoencoder | None) -> Tensor:
    """The errors of one task; images of a class that the denoiser does not know are measured without a label.

    ``made``: what the pack holds latents of.
    """
    denoiser, images, keys = _held["denoiser"], tensors.Pixels(Path(pixels)), pack.read_keys(Path(pixels))
    out, device = torch.empty(len(rows), len(schedule.SIGMAS)), denoiser.device

    def network_images(chosen: Tensor, which: Tensor) -> Tensor:
        return tensors.to_network(chosen[which], device, spec=images.header.spec)

    for at in images.grouped(rows):
        mine = [rows[each] for each in at.tolist()]
        parts = x0_error.measure(
            _across(denoiser, made),
            functools.partial(network_images, images.gather(mine)),
            _condition(denoiser, images.numbered(denoiser.classes)[mine], mine),
            [keys[row] for row in mine], seed=seed,
        )  # fmt: skip
        with precision.exact(device):
            out[at] = torch.cat(list(parts)).view(len(mine), len(schedule.SIGMAS))
    return out


def _across(denoiser: sampling.Denoiser, made: latents.Autoencoder | None) -> x0_error.Denoise:
    """D of the denoiser, of samples as the pack has them.

    Latents of one autoencoder are normalised by the images of their day: a model of another day gets its own, and what
    it answers is taken back.
    """
    own = functools.partial(denoiser.objective.denoise, denoiser.network)
    mine = denoiser.autoencoder
    if made is None or mine is None or (made.mean, made.std) == (mine.mean, mine.std):
        return own

    def each(values: Sequence[float]) -> Tensor:
        return torch.tensor(values, device=denoiser.device).view(-1, 1, 1)

    scale = each(made.std) / each(mine.std)
    shift = (each(made.mean) - each(mine.mean)) / each(mine.std)
    return lambda noisy, sigma, given: (own(noisy * scale + shift, sigma, given) - shift) / scale


def _condition(denoiser: sampling.Denoiser, class_ids: Tensor, rows: Sequence[int]) -> conditions.Condition:
    """Of ``rows`` for the denoiser; without captions where nobody said where they are."""
    found = conditions.of_classes(class_ids, denoiser.null_class)
    if denoiser.text is None:
        return found
    held = _held["telling"]
    return {**found, **(held.of_rows(rows) if held else conditions.repeated(denoiser.nothing, len(rows)))}


def _features(images_NHWC: Any, judge: judges.Judge | None = None) -> Tensor:
    name = f"features {judge.network}" if judge else "features"
    if name not in _held:
        found = judges.network(judge) if judge else features.network()
        _held[name] = found.to("cuda" if torch.cuda.is_available() else "cpu")
    return (judges if judge else features).of(_held[name], torch.from_numpy(images_NHWC))


def _features_of_rows(rows: list[int], pixels: str) -> Tensor:
    images = tensors.Pixels(Path(pixels))
    groups = [(at, images.gather([rows[each] for each in at.tolist()])) for at in images.grouped(rows)]
    found = [(at, _features(some.numpy())) for at, some in groups]
    if len(found) == 1:
        return found[0][1]
    out = torch.empty(len(rows), found[0][1].shape[1])
    for at, features_of in found:
        out[at] = features_of
    return out
