"""Augmentation: random changes to training images before noise is added, on the batch and on its device.

What happens to an image is a function of (seed, place), as its noise is (counters.py).  So a resumed training and any
number of ranks draw the same.

The augmentation label of an image says what was done to it, in numbers that are 0 where nothing was done.  In training
the network gets them as an input.  In sampling it gets zeros, so that samples look like images that were left alone
(Karras et al. 2022, arXiv:2206.00364, appendix F.2).

Shapes: B images, BCHW, pixels in [-1, 1] or what their spec says; parameters (B,).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from components.base.errors import UserError
from components.dataset import counters, tensors
from components.dataset.params import AugmentParams
from components.samples import spec as specs
from components.samples.spec import SampleSpec


class Drawn(NamedTuple):
    """What is done to each image; each field is (B,), and 0 where nothing is done."""

    mirrored: Tensor
    """1 or 0: left and right change sides."""
    upturned: Tensor
    """1 or 0: top and bottom change sides."""
    angle: Tensor
    """Radians, counter-clockwise."""
    cut: Tensor
    """Share of each side that is cut away, 0..1; the rest is enlarged to the full side."""
    right: Tensor
    """Where the rest lies, -cut (far left) to cut (far right)."""
    down: Tensor
    """Where the rest lies, -cut (top) to cut (bottom)."""
    brightness: Tensor
    """Added to every pixel, where black is -1 and white 1."""
    contrast: Tensor
    """Distances from mid-grey are multiplied by 1 + contrast."""
    saturation: Tensor
    """Distances from grey are multiplied by 1 + saturation."""
    hue: Tensor
    """Radians of a turn of the colours around the axis of greys."""

    def label(self) -> Tensor:
        """The augmentation labels, (B, LABELS): each angle as its cosine less 1 and its sine, as in the paper."""
        own = self._asdict()
        angles = [own.pop(name) for name in ("angle", "hue")]
        return torch.stack([*own.values(), *(f for angle in angles for f in (angle.cos() - 1, angle.sin()))], 1)

    def words(self, at: int) -> str:
        """What is done to image ``at``, in words."""
        own = {name: float(value[at]) for name, value in self._asdict().items()}
        found = [word for name, word in (("mirrored", "mirrored"), ("upturned", "upside down")) if own[name]]
        percent = {"brightness": 50, "contrast": 100, "saturation": 100}
        if own["angle"]:
            found.append(f"turned {math.degrees(own['angle']):+.0f}°")
        if own["cut"]:
            found.append(f"cut by {100 * own['cut']:.0f} %")
        found += [f"{name} {own[name] * times:+.0f} %" for name, times in percent.items() if own[name]]
        if own["hue"]:
            found.append(f"hue {math.degrees(own['hue']):+.0f}°")
        return ", ".join(found) or "as it is"


LABELS = len(Drawn._fields) + 2
"""Numbers in an augmentation label: one for each field, two for each of the two angles."""

DRAWS = 6
"""Augmented versions of each image on the sheet in the model report."""

_IMAGE = specs.image((3, 1, 1))
_UNIFORM = 16
"""Uniform random numbers for an image: ten for the values, six for whether a change is made at all."""


def check(spec: SampleSpec, params: AugmentParams, *, mirrored: bool = False) -> None:
    """UserError unless samples of ``spec`` are images, of which alone mirroring and colours make sense.

    Latents, of which there are those of the ``mirrored`` images, may be mirrored, and nothing else.
    """
    rest = params.model_copy(update={"horizontal_flip": 0.0}).on
    if spec.kind == "latent" and mirrored and not rest:
        return
    if spec.kind == "latent" and not rest:
        raise UserError(
            "train.augment.horizontal_flip: mirrored pictures have other latents, which are not there: set "
            "encode.latents.mirrored to true, or this to 0"
        )
    if spec.kind == "latent":
        raise UserError("train.augment: of latents horizontal_flip alone is possible: set all else of it to 0")
    if spec.kind != "image":
        raise UserError(
            f"train.augment: changes images only, and these samples are of kind {spec.kind}: set all of it to 0"
        )


def draw(params: AugmentParams, seed: int, places_B: Tensor) -> Drawn:
    """Draw what happens to the images at ``places_B`` (int64, 0 or more) of the training order, on that device."""
    index = torch.arange(_UNIFORM // 4, device=places_B.device)[:, None]
    u = torch.cat([counters.uniform(word) for word in counters.words(seed, counters.AUGMENT, places_B, index)])
    turned, cropped, *coloured = (u[10:] < params.probability).float()
    colour = params.colour
    cut = u[3] * params.crop * cropped
    both = 2 * u - 1
    brightness, contrast, saturation, hue = (
        both[6 + at] * most * coloured[at]
        for at, most in enumerate((2 * colour.brightness, colour.contrast, colour.saturation, 2 * math.pi * colour.hue))
    )
    return Drawn(
        mirrored=(u[0] < params.horizontal_flip).float(), upturned=(u[1] < params.vertical_flip).float(),
        angle=both[2] * math.radians(params.rotate) * turned, cut=cut, right=both[4] * cut, down=both[5] * cut,
        brightness=brightness, contrast=contrast, saturation=saturation, hue=hue,
    )  # fmt: skip


def apply(params: AugmentParams, images_BCHW: Tensor, drawn: Drawn, spec: SampleSpec = _IMAGE) -> Tensor:
    """Do what was drawn to ``images_BCHW``, values in the limits of ``spec``, whose shape is not read, or uint8.

    The result is a new tensor of the same dtype and range.
    """
    if images_BCHW.dtype == torch.uint8:
        changed = apply(params, images_BCHW.float().div_(127.5).sub_(1), drawn)
        return changed.add_(1).mul_(127.5).round_().to(torch.uint8)
    out = images_BCHW
    if params.horizontal_flip:
        out = torch.where(_column(drawn.mirrored) > 0, out.flip(3), out)
    if params.vertical_flip:
        out = torch.where(_column(drawn.upturned) > 0, out.flip(2), out)
    low, high = spec.limits
    if max(abs(low + 1), abs(high - 1)) < 1e-6:
        out = _changed(params, out, drawn)
    else:
        middle, half = (high + low) / 2, (high - low) / 2
        unit = (out - middle) / half
        changed = _changed(params, unit, drawn)
        # What is not changed keeps its exact values, which the way there and back would round.
        out = torch.where(changed == unit, out, changed * half + middle)
    return out.clone() if out is images_BCHW else out


def sheet(
    params: AugmentParams, seed: int, images_BHWC: Tensor, spec: SampleSpec = _IMAGE
) -> tuple[Tensor, list[list[str]]]:
    """The first ``DRAWS`` draws of each image as stored, B x DRAWS x H x W x C, and what was done in words.

    They are bytes and their values those of ``spec``, whose shape is not read.
    """
    count = len(images_BHWC)
    drawn = draw(params, seed, torch.arange(count * DRAWS))
    changed = apply(params, tensors.to_network(images_BHWC.repeat_interleave(DRAWS, 0), spec=spec), drawn, spec)
    words = [[drawn.words(row * DRAWS + at) for at in range(DRAWS)] for row in range(count)]
    return tensors.to_pixels(changed, spec).view(count, DRAWS, *images_BHWC.shape[1:]), words


def _changed(params: AugmentParams, images: Tensor, drawn: Drawn) -> Tensor:
    """Rotated, cropped and recoloured; pixels in [-1, 1]."""
    if params.probability and (params.rotate or params.crop):
        images = _moved(images, drawn, params.fill)
    if params.probability and any(params.colour.model_dump().values()):
        images = _coloured(images, drawn)
    return images


def _moved(images: Tensor, drawn: Drawn, fill: str) -> Tensor:
    """Rotate and crop, back at full size.  Interpolation is bicubic, since linear blurs small images."""
    down, right = (
        ((2 * torch.arange(length, device=images.device) + 1) / length - 1).view(shape)
        for length, shape in zip(images.shape[2:], ((1, -1, 1), (1, 1, -1)), strict=True)
    )  # middles of the pixels, -1 to 1
    cosine, sine = (((1 - drawn.cut) * part).view(-1, 1, 1) for part in (drawn.angle.cos(), drawn.angle.sin()))
    tall = images.shape[2] / images.shape[3]  # both axes run from -1 to 1, whatever their lengths
    grid = torch.stack([cosine * right - sine * (tall * down) + drawn.right.view(-1, 1, 1),
                        sine * (right / tall) + cosine * down + drawn.down.view(-1, 1, 1)], 3)  # fmt: skip
    ground = _border(images) if fill == "mean" else 0.0
    found = functional.grid_sample(
        images - ground, grid, mode="bicubic", padding_mode="border" if fill == "edge" else "zeros", align_corners=False
    )
    # Images that are not moved keep their exact values, which interpolation would round.
    still = _column((drawn.angle == 0) & (drawn.cut == 0))
    return torch.where(still, images, (found + ground).clamp_(-1, 1))


def _border(images: Tensor) -> Tensor:
    """The mean of each image's outermost pixels, (B, C, 1, 1)."""
    edges = [images[:, :, 0], images[:, :, -1], images[:, :, 1:-1, 0], images[:, :, 1:-1, -1]]
    return torch.cat(edges, 2).mean(2)[:, :, None, None]


def _coloured(images: Tensor, drawn: Drawn) -> Tensor:
    """Change the colours by one affine map for each image.

    Of three or more channels the first three are colours; of one or two the first is grey.
    """
    count = 3 if images.shape[1] >= 3 else 1
    matrix = (1 + drawn.contrast).view(-1, 1, 1)
    if count == 3:
        matrix = matrix * _turn(drawn.hue, 1 + drawn.saturation)
    colours = images[:, :count]
    # Sums, not a matrix product: the rounding of a product may depend on how many images there are.
    parts = [matrix[:, :, at, None, None] * colours[:, at, None] for at in range(count)]
    changed = (sum(parts[1:], parts[0]) + _column(drawn.brightness)).clamp_(-1, 1)
    still = (drawn.brightness == 0) & (drawn.contrast == 0) & (drawn.saturation == 0) & (drawn.hue == 0)
    return torch.cat([torch.where(_column(still), colours, changed), images[:, count:]], 1)


def _turn(angle: Tensor, factor: Tensor) -> Tensor:
    """Matrices, (B, 3, 3), that change colours about the axis of greys.

    They turn by ``angle`` (radians) around it and multiply the distance from it by ``factor``.
    """
    grey = torch.full((3, 3), 1 / 3, device=angle.device)
    one = torch.eye(3, device=angle.device)
    across = (one.roll(1, 0) - one.roll(1, 1)) / math.sqrt(3)  # (0, -1, 1), (1, 0, -1), (-1, 1, 0)
    cosine, sine, factor = angle.cos().view(-1, 1, 1), angle.sin().view(-1, 1, 1), factor.view(-1, 1, 1)
    return grey + factor * (cosine * (one - grey) + sine * across)


def _column(values: Tensor) -> Tensor:
    return values.view(-1, 1, 1, 1)
