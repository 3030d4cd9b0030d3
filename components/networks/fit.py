"""Which images a network takes, by its parameters alone: told before anything is built, and without torch."""

from __future__ import annotations

from collections.abc import Sequence

from components.base.errors import UserError
from components.networks.params import CompactParams, DitParams, NetworkParams

ATTENTION_SIDE = 8
"""Pixels: attention at this resolution and below (64 tokens); above it costs more than it brings."""

NORM_GROUPS = 8

HEAD = 32
"""Channels of an attention head."""

Size = tuple[int, ...]


def check(params: NetworkParams, size: Size) -> None:
    """UserError, with the parameter to change, unless a network of ``params`` is built for ``size`` (H, W), px."""
    height, width = size
    if isinstance(params, DitParams):
        if height != width:  # diffusers' own class, which has to load it, lays the tokens out as a square
            raise UserError(
                f"train.network.kind dit: needs square images, not {width} x {height} pixels: take unet or compact"
            )
        _sides((height,), params.patch, "train.network.patch", "take another")
        if params.width % params.heads or params.width % 4:
            raise UserError(f"train.network.width: {params.width} is not a multiple of 4 and of heads, {params.heads}")
        return
    folded = isinstance(params, CompactParams)
    _sides(size, _divisor(params), "train.network.widths and fold" if folded else "train.network.widths")
    for side, channels in zip(sides(params, size), params.widths, strict=True):
        wanted = HEAD if side <= ATTENTION_SIDE else NORM_GROUPS
        if channels % wanted:
            raise UserError(f"train.network.widths: {channels}, at {side} pixels, is not a multiple of {wanted}")


def check_told(params: NetworkParams, size: Size, *, tokens: int, labels: bool, schedule: str) -> None:
    """UserError, with what to change, unless a network of ``params`` is built that takes captions.

    ``size`` (H, W), px; ``tokens`` of a caption, 0: the vector alone; ``labels``: that it is told of them too.
    """
    kind = f"train.network.kind {params.kind}"
    if tokens and min(sides(params, size)) > ATTENTION_SIDE:
        raise UserError(
            f"train.network.widths: the tokens of captions are read at {ATTENTION_SIDE} pixels and below, and the "
            f"coarsest resolution has {min(sides(params, size))}: give more widths, or set encode.text.tokens to null"
        )
    if isinstance(params, CompactParams):
        return
    # What the Stable Diffusion pipeline of diffusers does not do, in whose form such a network is handed out.
    if not tokens:
        raise UserError(f"{kind}: reads the tokens of captions, and encode.text.tokens is null: set it to 32, or take "
                        "compact")  # fmt: skip
    if labels:
        raise UserError(f"{kind}: takes captions or labels, not both: set train.conditions to [text], or take compact")
    if schedule == "exponential":
        raise UserError(f"{kind}: takes no captions on schedule exponential: take another, or compact")
    if any(side % 8 for side in size):
        raise UserError(f"{kind}: takes captions with images whose sides 8 divides, not {size[1]} x {size[0]}: change "
                        "resize.side, or take compact")  # fmt: skip


def sides(params: NetworkParams, size: Size) -> list[int]:
    """The longer side, px, of a sample of ``size`` (H, W) at each resolution of a U-Net."""
    fold = params.fold if isinstance(params, CompactParams) else 1
    return [max(size) // fold >> halved for halved in range(len(getattr(params, "widths", ())))]


def check_buckets(params: NetworkParams, sizes: Sequence[Size]) -> None:
    """UserError that names the bucket unless a network of ``params`` takes each of several ``sizes`` (H, W), px."""
    buckets(params.kind, None if isinstance(params, DitParams) else _divisor(params), sizes)


def buckets(kind: str, divisor: int | None, sizes: Sequence[Size]) -> None:
    """As :func:`check_buckets`, for a network of ``kind`` that takes sides that ``divisor`` divides; None: one size."""
    for height, width in sizes if len(sizes) > 1 else ():
        bucket = f"{width} x {height}"
        if divisor is None:
            raise UserError(
                f"train.network.kind {kind}: takes squares of one size, not the bucket {bucket} of "
                "resize.fit: take unet or compact, or resize.fit crop"
            )
        if height % divisor or width % divisor:
            raise UserError(
                f"train.network.widths: the network takes sides that {divisor} divides, not those of the bucket "
                f"{bucket}: give fewer widths, start from another model, or make resize.fit.step a multiple of "
                f"{divisor}"
            )


def _divisor(params: NetworkParams) -> int:
    halved = 1 << (len(getattr(params, "widths", ())) - 1)
    return params.fold * halved if isinstance(params, CompactParams) else halved


def _sides(found: Size, divisor: int, what: str, do: str = "give fewer widths") -> None:
    for side in found:
        if side % divisor:
            raise UserError(
                f"{what}: need a side that {divisor} divides, not {side} pixels: {do}, or change resize.side"
            )
