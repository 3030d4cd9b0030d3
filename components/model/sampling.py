"""Samples from a model folder: loaded without pickle, the same picture for the same (seed, number).

Shapes: N pictures, C channels, H and W pixels.  Pictures leave as uint8 NHWC.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from components.base import files
from components.base.errors import UserError, brief, nearest
from components.dataset import tensors
from components.diffusion import conditions, names, samplers, stochastic
from components.diffusion.conditions import Condition
from components.diffusion.given import Given
from components.diffusion.names import Weighting
from components.diffusion.noise import generator
from components.diffusion.objective import Objective
from components.model import engines, notes
from components.networks import autoencoder as autoencoders
from components.networks import precision as arithmetic
from components.networks import registry
from components.samples import latents, texts
from components.samples.spec import SampleSpec

if TYPE_CHECKING:
    from torch import nn

_log = logging.getLogger(__name__)

BATCH = 32
"""Pictures drawn at once on the CPU; fixed, since rounding depends on it."""

CUDA_BATCH = 256
"""The same on CUDA; a last, smaller batch is filled up, so that every call has one shape."""

DECODED = 16
"""Latents that are decoded at once on CUDA, whose memory it bounds; on the CPU they are one by one."""


@dataclass(frozen=True, kw_only=True)
class Denoiser:
    """A loaded model folder, and how it draws unless somebody says otherwise."""

    network: nn.Module
    guide: nn.Module | None
    """The weaker network that samples are led away from."""
    device: torch.device
    engine: str
    objective: Objective
    weighting: Weighting
    classes: tuple[str, ...]
    null_class: int | None
    spec: SampleSpec
    sampler: names.Sampler
    steps: int
    guidance: float
    autoguidance: float
    sigmas: tuple[float, ...] | None
    """The only noise levels that a distilled student knows; None for all others."""
    shapes: tuple[tuple[int, ...], ...] = ()
    """All shapes that it was trained on, where it was on several; that of ``spec`` is drawn unless another is asked
    for."""
    text: texts.Encoder | None = None
    """What makes the vectors of captions that it takes; None where it takes none."""
    nothing: Condition = field(default_factory=dict)
    """The empty caption, in one row; nothing where it takes none."""
    multiple: int | None = None
    """It draws any image whose sides are multiples of this; None: the shape of ``pictures`` alone."""
    autoencoder: latents.Autoencoder | None = None
    """What its samples are latents of; None where they are pictures themselves."""
    decoder: autoencoders.Autoencoder | None = None
    """The same, which makes pictures of them."""

    @property
    def pictures(self) -> SampleSpec:
        """What is drawn: samples, or what they are the latents of."""
        return self.autoencoder.picture(self.spec) if self.autoencoder else self.spec

    def inner(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of a sample that becomes a picture of ``shape`` (C, H, W)."""
        return self.autoencoder.shape(shape) if self.autoencoder else shape

    def decoded(self, samples: Tensor) -> Tensor:
        """Pictures of samples, values in [-1, 1], (B, C, H, W)."""
        if self.decoder is None:
            return samples
        size = DECODED if self.device.type == "cuda" else 1  # so how a picture is rounded depends on no other
        return torch.cat([self.decoder.decode(part) for part in samples.split(size)])

    def takes(self, shape: tuple[int, ...]) -> bool:
        """Whether it can draw images of ``shape`` (C, H, W), whatever it was trained on."""
        own = self.pictures.shape
        if shape == own or self.multiple is None:
            return shape == own
        return shape[0] == own[0] and not any(side % self.multiple for side in shape[1:])

    def class_id(self, name: str) -> int:
        """The number of class ``name``; UserError with the nearest name when there is none."""
        if name in self.classes:
            return self.classes.index(name)
        if not self.classes:
            raise UserError(f"label {name!r}: this model was trained without labels")
        raise UserError(f"label {name!r} is not one of {', '.join(self.classes)}{nearest(name, self.classes)}")


class Told(NamedTuple):
    """What pictures show, in captions as networks are told them; None: nothing is said."""

    text: Condition | None
    """A row for each picture."""
    negative: Condition | None
    """One row: what guidance leads away from."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How pictures are drawn, with nothing left open."""

    sampler: names.Sampler
    sigmas: tuple[float, ...]
    guidance: float
    autoguidance: float
    eta: float | None


def load(folder: Path, device: torch.device | str = "cpu", engine: engines.Engine = "torch") -> Denoiser:
    """The denoiser in ``folder``; UserError when it is missing, incomplete or damaged, or its files contradict."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no model there: run stage 'train', or `dvc pull`")
    found = files.read_json_object(folder / "stillroom.json", "train or pull the model again")
    device = torch.device(device)
    chosen = engines.choose(engine, folder, device)
    try:
        place = folder / registry.GUIDE
        network, guide = _network(folder), _network(place) if place.is_dir() else None
        said = notes.read(found, network, guide)
        decoder = _decoder(folder, said["autoencoder"], device)
        network = _placed(network, folder / engines.ONNX, chosen, device)
        guide = guide and _placed(guide, folder / engines.ONNX_GUIDE, chosen, device)
        said["nothing"] = notes.nothing(folder, said["text"])
    except UserError:
        raise
    except Exception as error:  # the constructors of networks raise whatever a hostile config.json makes them meet
        _log.debug("%s cannot be loaded", folder, exc_info=True)
        raise UserError(f"{folder}: not a whole denoiser ({brief(error)}): train or pull it again") from None
    if chosen == "onnx" and len(said["shapes"]) < 2:  # a graph of one height and width
        said["multiple"] = None
    if decoder and said["multiple"]:
        said["multiple"] *= decoder.factor
    return Denoiser(network=network, guide=guide, device=device, engine=chosen, decoder=decoder, **said)


def _decoder(
    folder: Path, made: latents.Autoencoder | None, device: torch.device
) -> autoencoders.Autoencoder | None:  # fmt: skip
    """The autoencoder of a model of latents; UserError when it is not the one of its training."""
    if made is None:
        return None
    place = latents.beside(folder)
    autoencoders.check(place)
    if files.sha256(place / autoencoders.WEIGHTS) != made.weights:
        raise UserError(f"{place}: not the autoencoder that this model was trained with: train or pull it again")
    found = autoencoders.load(place)
    if (found.kind, found.channels, found.factor, found.colours) != (
        made.kind, made.channels, made.factor, made.colours
    ):  # fmt: skip
        raise UserError(f"{place}: another {found.kind} than stillroom.json says: train or pull the model again")
    return found.to(device)


def _network(folder: Path) -> nn.Module:
    """The network in ``folder``; any exception when it is damaged."""
    network = registry.load(registry.folder(folder) / registry.CONFIG)
    for name, weight in network.state_dict().items():
        if not bool(torch.isfinite(weight).all()):
            raise ValueError(f"weight {name} is not finite")
    return network


def _placed(network: nn.Module, onnx: Path, engine: str, device: torch.device) -> nn.Module:
    """``network`` as ``engine`` computes it on ``device``."""
    if engine == "onnx":
        network = engines.OnnxNetwork(onnx)
    elif device.type == "cuda":
        network = engines.Graphed(network)
    return network.to(device).eval().requires_grad_(False)


def plan(
    model: Denoiser, *, sampler: names.Sampler | None = None, steps: int | None = None, guidance: float | None = None,
    autoguidance: float | None = None, spacing: names.Spacing | None = None, eta: float | None = None,
) -> Plan:  # fmt: skip
    """How to draw, where None is the model's own.

    ``spacing`` is that of the noise levels (option ``--levels``): None is ``log``, unless the model has
    noise levels of its own.

    ``steps`` 1..1000, ``guidance`` 0..50, ``autoguidance`` 1..50, ``eta`` 0..1; UserError for what cannot be.
    """
    sampler = sampler or model.sampler
    if sampler not in samplers.SAMPLERS:
        raise UserError(f"sampler {sampler!r} is not one of {', '.join(samplers.SAMPLERS)}")
    if spacing is not None and spacing not in samplers.SPACINGS:
        raise UserError(f"levels {spacing!r} are not one of {', '.join(samplers.SPACINGS)}")
    if steps is not None and not 1 <= steps <= notes.MOST_STEPS:
        raise UserError(f"steps must be in 1..{notes.MOST_STEPS}, not {steps}")
    if eta is not None and samplers.SAMPLERS[sampler].eta is None:
        having = ", ".join(name for name, each in samplers.SAMPLERS.items() if each.eta is not None)
        raise UserError(f"eta {eta:g}: sampler {sampler} has none; {having} do")
    if model.sigmas and spacing is None:
        if steps not in (None, model.steps):
            raise UserError(
                f"steps {steps}: this model was distilled to draw in {model.steps}; give levels to try others, or "
                "distil another"
            )
        sigmas = model.sigmas
    else:
        sigmas = tuple(samplers.spaced(spacing or "log", steps or model.steps, model.objective.schedule))
    guidance = model.guidance if guidance is None else guidance
    autoguidance = model.autoguidance if autoguidance is None else autoguidance
    if autoguidance != 1 and model.guide is None:
        raise UserError(
            f"autoguidance {autoguidance:g}: this model has no guide: train one with train.guide, or take 1"
        )
    return Plan(sampler=sampler, sigmas=sigmas, guidance=guidance, autoguidance=autoguidance, eta=eta)


@torch.no_grad()
def sample(
    model: Denoiser | Path, class_ids: Sequence[int], *, seed: int, start: int = 0, precision: str = "auto",
    progress: Callable[[int], object] | None = None, shape: tuple[int, ...] | None = None,
    text: Condition | None = None, negative: Condition | None = None, given: Given | None = None, **wishes: Any,
) -> Tensor:  # fmt: skip
    """One uint8 HWC picture a class id (-1: no label), as NHWC; picture i is number ``start`` + i of ``seed``.

    ``wishes`` are those of :func:`plan`; ``progress`` is called after every step with the number of pictures in it.
    ``shape`` (C, H, W) is the model's own unless given; UserError when the model cannot draw it.  ``text``: what each
    shows, as :func:`components.model.prompts.said` gives it, None for nothing said; ``negative``, in one row: what
    guidance leads away from.  ``given``: N pictures to begin from, of ``shape``.
    """
    model = load(model) if isinstance(model, Path) else model
    planned = plan(model, **wishes)
    shape = _check(model, class_ids, shape)
    drawn = []
    most = CUDA_BATCH if model.device.type == "cuda" else BATCH
    for first in range(0, len(class_ids), most):
        ids = list(class_ids[first : first + most])
        count = len(ids)
        numbers = list(range(start + first, start + first + count))
        if model.device.type == "cuda" and first:
            numbers += [numbers[-1]] * (most - count)
            ids += [ids[-1]] * (most - count)
        rows = [at - start for at in numbers]
        told = Told(text and conditions.rows(text, rows), negative)
        begun = given and given.of(rows)
        report = (lambda *_: None) if progress is None else lambda *_, count=count: progress(count)
        made = _denoise(model, planned, ids, seed, numbers, precision, report, model.inner(shape), told, begun)
        drawn.append(tensors.to_pixels(model.decoded(made[:count])).cpu())
    empty = torch.empty(0, *model.pictures.shaped(shape).stored_shape, dtype=torch.uint8)
    return torch.cat([empty, *drawn])


@torch.no_grad()
def film(
    model: Denoiser, class_ids: Sequence[int], *, seed: int, frames: int, precision: str = "auto",
    shape: tuple[int, ...] | None = None, text: Condition | None = None, negative: Condition | None = None,
    given: Given | None = None, **wishes: Any,
) -> tuple[Tensor, list[float]]:  # fmt: skip
    """What the denoiser believes along the way: uint8 pictures x frames x H x W x C, and each frame's sigma.

    Frames are predicted clean images at ``frames`` of the steps, the first and the last among them.
    """
    planned = plan(model, **wishes)
    shape = _check(model, class_ids, shape)
    seen: list[tuple[float, Tensor]] = []
    numbers = range(len(class_ids))
    told = Told(text, negative)
    _denoise(model, planned, class_ids, seed, numbers, precision, lambda *step: seen.append(step), model.inner(shape),
             told, given)  # fmt: skip
    frames = min(frames, len(seen))
    chosen = [seen[round(i * (len(seen) - 1) / max(1, frames - 1))] for i in range(frames)]
    pictures = [tensors.to_pixels(model.decoded(image)).cpu() for _, image in chosen]
    return torch.stack(pictures, 1), [sigma for sigma, _ in chosen]


def noise(
    model: Denoiser, seed: int, numbers: Sequence[int], *step: int, shape: tuple[int, ...] | None = None
) -> Tensor:  # fmt: skip
    """Unit normal NCHW: the start of each of the pictures ``numbers``, or what its ``step`` adds.

    ``shape`` (C, H, W) is the model's own unless given.
    """
    size = shape or model.spec.shape
    return torch.stack([torch.randn(size, generator=generator(seed, "sample", i, *step)) for i in numbers])


def _denoise(
    model: Denoiser, planned: Plan, class_ids: Sequence[int], seed: int, numbers: Sequence[int], precision: str,
    watch: samplers.Watch, shape: tuple[int, ...], told: Told, given: Given | None = None,
) -> Tensor:  # fmt: skip
    """Clean images in [-1, 1], NCHW; ``watch`` is called with each step's sigma and predicted clean images."""
    denoise = guided(model, class_ids, planned.guidance, planned.autoguidance, precision, told)
    unit = noise(model, seed, numbers, shape=shape).to(model.device)
    sigmas = given.levels(planned.sigmas) if given else planned.sigmas
    x = unit * sigmas[0]
    if given:
        denoise, x = given.begin(denoise, unit, sigmas[0])

    def fresh(step: int) -> Tensor:
        return noise(model, seed, numbers, step, shape=shape).to(model.device)

    if given and given.anew is not None and given.repeats > 1:
        drawn = stochastic.resampled(denoise, x, sigmas, watch, fresh, given.repeats)
    else:
        drawn = samplers.draw(planned.sampler, denoise, x, sigmas, watch, fresh, planned.eta)
    if not bool(torch.isfinite(drawn).all()):
        raise UserError("this model draws numbers that are not finite: train or pull it again")
    return drawn


def guided(
    model: Denoiser, class_ids: Sequence[int], guidance: float, autoguidance: float, precision: str,
    told: Told | None = None,
) -> samplers.Denoise:  # fmt: skip
    """D(x, sigma) of ``model`` for these classes and captions, pulled towards them and away from what its guide says.

    The pull is that of Ho and Salimans 2022, arXiv:2207.12598, the push equation 1 of Karras et al. 2024,
    arXiv:2406.02507, with the pulled D in the place of D1.  The guide gets no label, so that the push is one towards
    the label too (docs/sampling.md).
    """
    found = conditions.of_classes(torch.tensor(class_ids, dtype=torch.int64), model.null_class)
    said, negative = told or Told(None, None)
    nothing = conditions.moved(model.nothing, model.device)
    found = {**found, **(said or conditions.repeated(model.nothing, len(class_ids)))}
    condition = conditions.moved(found, model.device)
    pulled = guidance != 1 and conditions.says_something(condition, model.null_class, nothing)
    free = conditions.without(condition, model.null_class, nothing)
    away = conditions.moved(conditions.repeated(negative or {}, len(class_ids)), model.device)
    both = conditions.joined([condition, {**free, **away}]) if pulled else condition

    def denoise(x: Tensor, sigma: float) -> Tensor:
        at = torch.full((len(x),), sigma, device=model.device)
        with arithmetic.autocast(model.device, precision), _explained():
            if pulled:
                found = model.objective.denoise(model.network, x.repeat(2, *(1,) * (x.dim() - 1)), at.repeat(2), both)
                with_label, without = found.chunk(2)
                found = torch.lerp(without, with_label, guidance)
            else:
                found = model.objective.denoise(model.network, x, at, condition)
            if model.guide is None or autoguidance == 1:
                return found
            return torch.lerp(model.objective.denoise(model.guide, x, at, free), found, autoguidance)

    return denoise


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    """Turn what a network raises into one line: some that can be built from their config.json cannot be called."""
    try:
        yield
    except (UserError, torch.OutOfMemoryError):
        raise
    except (ArithmeticError, AttributeError, LookupError, NameError, RuntimeError, TypeError, ValueError) as error:
        _log.debug("the network cannot be computed", exc_info=True)
        raise UserError(f"this model's network cannot be computed ({brief(error)}): train or pull it again") from error


def _check(model: Denoiser, class_ids: Sequence[int], shape: tuple[int, ...] | None) -> tuple[int, ...]:
    """The shape to draw, the model's own where none is given; UserError for what the model cannot draw."""
    notes.drawable(model.pictures)
    wrong = [number for number in class_ids if not -1 <= number < len(model.classes)]
    if wrong:
        raise UserError(f"class {wrong[0]} is not one of the {len(model.classes)} classes of this model")
    if shape is None or model.takes(shape):
        return shape or model.pictures.shape
    asked = model.pictures.shaped(shape).size
    if model.multiple is None:
        raise UserError(f"size {asked}: this model draws pictures of {model.pictures.size} pixels only")
    raise UserError(f"size {asked}: this model draws pictures whose sides are multiples of {model.multiple} pixels")
