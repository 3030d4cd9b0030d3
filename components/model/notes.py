"""What stillroom.json of a model folder says, held against the network beside it."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import torch
from torch import Tensor

from components.base.errors import UserError
from components.diffusion import conditions, samplers
from components.diffusion.names import Weighting
from components.diffusion.objective import noted
from components.networks import registry
from components.samples import latents, texts
from components.samples import spec as specs
from components.samples.spec import SampleSpec

if TYPE_CHECKING:
    from torch import nn

FORMAT = 2

NOTHING = "nothing.f16"
"""In a model folder: the states of the empty caption's tokens, little-endian half floats, where tokens are read."""

MOST_STEPS, MOST_GUIDANCE = 1000, 50

MOST_NUMBERS = 2**28
"""In one sample: 1 GiB of float32; more is no picture but a slip, or meant to fill the memory."""

_SIGMAS = (1e-6, 1e6)
"""The range of sigmas; float32 computes their squares and logarithms."""


def read(notes: dict[str, Any], network: nn.Module, guide: nn.Module | None) -> dict[str, Any]:
    """The fields of a denoiser that ``notes`` holds; an exception when they make no sense or fit another network."""
    alike = (registry.sample_shape, registry.labels, registry.text_width, registry.text_tokens)
    if guide and any(of(guide) != of(network) for of in alike):
        raise ValueError("a guide of other samples, labels or captions")
    specs.known_format(notes["format"], FORMAT)
    weighting = notes["weighting"]
    if weighting not in get_args(Weighting):
        raise ValueError(f"weighting {weighting!r:.40} is none of {', '.join(get_args(Weighting))}")
    classes = specs.names(notes["classes"], "classes")
    null_class = _null_class(notes["null_class"], classes, network)
    spec = _spec(notes, registry.sample_shape(network))
    return {
        "shapes": _shapes(notes, spec), "multiple": registry.multiple(network),
        "objective": noted(notes["objective"]), "weighting": weighting, "classes": classes, "null_class": null_class,
        "spec": spec, "text": _text(notes.get("text"), network), "autoencoder": _autoencoder(notes, spec),
        **_habits(notes, guide is not None),
    }  # fmt: skip


def drawable(spec: SampleSpec) -> None:
    """UserError unless samples of ``spec`` are pictures: images whose bytes stand for values in [-1, 1]."""
    if spec.kind != "image":
        raise UserError(f"this draws images only, not kind {spec.kind}")
    if not spec.pixels:
        raise UserError(
            f"this draws images of bytes for values in [-1, 1] only, not of dtype {spec.dtype} with scale "
            f"{spec.scale:g} and shift {spec.shift:g}"
        )


def _null_class(found: Any, classes: tuple[str, ...], network: nn.Module) -> int | None:
    known = (len(classes), registry.PIPELINES_NULL) if registry.kind(network) == "dit" else (len(classes),)
    if found is not None and (type(found) is not int or found not in known or found < len(classes)):
        raise ValueError(f"null_class {found!r:.40} must be the number of classes, {len(classes)}, or null")
    if found is None and classes:
        raise ValueError(f"null_class is null, but there are {len(classes)} classes")
    wanted = 0 if found is None else found + 1
    if (labels := registry.labels(network)) != wanted:
        raise ValueError(f"{len(classes)} classes need a network of {wanted} labels, and this one has {labels}")
    return found


def _text(found: Any, network: nn.Module) -> texts.Encoder | None:
    """What made the vectors of captions that the network takes; None where it takes none."""
    encoder = None if found is None else texts.encoder(found)
    if (width := registry.text_width(network)) != (encoder.width if encoder else 0):
        raise ValueError(f"a network for captions of {width} numbers, and an encoder of {encoder and encoder.width}")
    if (registry.text_tokens(network) > 0) != bool(encoder and encoder.tokens):
        raise ValueError("one of network and encoder has tokens of captions, and the other has not")
    return encoder


def nothing(folder: Path, text: texts.Encoder | None) -> conditions.Condition:
    """The empty caption, in one row, as the network in ``folder`` is told it; an exception when it makes no sense."""
    if text is None:
        return {}
    found: dict[str, Tensor] = {conditions.TEXT: torch.zeros(1, text.width)}
    if text.tokens:
        path, size = folder / NOTHING, text.tokens * text.width
        if path.stat().st_size != 2 * size:
            raise ValueError(f"{NOTHING} does not hold {text.tokens} tokens of {text.width} numbers")
        states = torch.from_file(str(path), size=size, dtype=torch.float16).view(1, text.tokens, text.width).clone()
        if not bool(torch.isfinite(states).all()):
            raise ValueError(f"{NOTHING} is not finite")
        found |= conditions.of_tokens(states, torch.tensor([text.nothing]))
    return found


def _autoencoder(notes: dict[str, Any], spec: SampleSpec) -> latents.Autoencoder | None:
    """What makes pictures of samples that are latents; None of a model that draws pictures, or anything else."""
    if notes.get("autoencoder") is None:
        return None
    found = latents.autoencoder(notes["autoencoder"])
    if spec.kind != "latent" or spec.channels != found.channels or (spec.scale, spec.shift) != (1, 0):
        raise ValueError(f"samples of kind {spec.kind}, {spec.channels} channels, and latents of {found.channels}")
    if math.prod(found.picture(spec).shape) > MOST_NUMBERS:
        raise ValueError(f"pictures of more than {MOST_NUMBERS:,} numbers")
    return found


def _spec(notes: dict[str, Any], shape: tuple[int, ...]) -> SampleSpec:
    """Of the samples; older notes name the side of squares alone."""
    found = specs.of_plain(notes["spec"]) if "spec" in notes else specs.image((shape[0], *[notes["side"]] * 2))
    if found.shape != shape:
        raise ValueError(f"samples of shape {found.shape}, but a network for {shape}")
    if math.prod(shape) > MOST_NUMBERS:
        raise ValueError(f"samples of more than {MOST_NUMBERS:,} numbers")
    return found


def _shapes(notes: dict[str, Any], spec: SampleSpec) -> tuple[tuple[int, ...], ...]:
    """All that the model was trained on, where it was on several; that of ``spec`` is one of them."""
    listed = notes.get("shapes", [])
    if not isinstance(listed, list) or not all(isinstance(each, list) for each in listed):
        raise ValueError("shapes must be a list of shapes")
    found = tuple(spec.shaped(tuple(each)).shape for each in listed)
    if found and (
        spec.shape not in found or len(set(found)) < len(found) or {each[0] for each in found} != {spec.channels}
    ):
        raise ValueError(f"shapes must be distinct, of {spec.channels} channels, and {spec.shape} one of them")
    if any(math.prod(shape) > MOST_NUMBERS for shape in found):
        raise ValueError(f"samples of more than {MOST_NUMBERS:,} numbers")
    return found


def _habits(notes: dict[str, Any], guide: bool) -> dict[str, Any]:
    """Sampler, steps, guidance, autoguidance and sigmas; ValueError when they make no sense."""
    sampler, steps, guidance = notes.get("sampler", "dpmpp_2m"), notes["steps"], notes["guidance"]
    if not isinstance(sampler, str) or sampler not in samplers.SAMPLERS:
        raise ValueError(f"sampler {sampler!r:.40} is none of {', '.join(samplers.SAMPLERS)}")
    if type(steps) is not int or not 1 <= steps <= MOST_STEPS:
        raise ValueError(f"steps {steps!r:.40} must be a whole number in 1..{MOST_STEPS}")
    if not 0 <= (guidance := specs.number(guidance, "guidance")) <= MOST_GUIDANCE:
        raise ValueError(f"guidance {guidance:g} is not in 0..{MOST_GUIDANCE}")
    autoguidance = specs.number(notes.get("autoguidance", 1.0), "autoguidance")
    if not 1 <= autoguidance <= (MOST_GUIDANCE if guide else 1):
        raise ValueError(f"autoguidance {autoguidance:g} is not in 1..{MOST_GUIDANCE}, or there is no guide")
    sigmas = notes.get("sigmas")
    if sigmas is not None:
        low, high = _SIGMAS
        sigmas = tuple(specs.number(each, "one of sigmas") for each in sigmas)
        falling = all(one > two for one, two in itertools.pairwise(sigmas))
        if len(sigmas) != steps or not falling or not low <= sigmas[-1] <= sigmas[0] <= high:
            raise ValueError(f"sigmas must be {steps} falling numbers in {low:g}..{high:g}")
    return {
        "sampler": sampler, "steps": steps, "guidance": guidance, "autoguidance": autoguidance, "sigmas": sigmas,
    }  # fmt: skip
