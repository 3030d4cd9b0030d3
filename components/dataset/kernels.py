"""The noise of :mod:`components.dataset.counters` on a GPU: one kernel in place of two hundred, the same numbers.

Sums and products stay apart (``enable_fp_fusion``), and root and quotient are rounded as IEEE 754 says, so that the
bits are those of the CPU.  Importing this module imports Triton, which torch for CUDA brings.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

_BLOCK = 1024
"""Pairs of numbers that one program makes."""

_LOW = tl.constexpr(0xFFFFFFFF)
_MULTIPLY_ONE, _MULTIPLY_TWO = tl.constexpr(0xD2511F53), tl.constexpr(0xCD9E8D57)
_WEYL_ONE, _WEYL_TWO = tl.constexpr(0x9E3779B9), tl.constexpr(0xBB67AE85)
_GAMMA = tl.constexpr(0x9E3779B97F4A7C15 - 2**64)
_MIX_ONE, _MIX_TWO = tl.constexpr(0xBF58476D1CE4E5B9 - 2**64), tl.constexpr(0x94D049BB133111EB - 2**64)
_EIGHTH, _LOG_TWO = tl.constexpr(math.pi / 4 * 2.0**-23), tl.constexpr(math.log(2))


@triton.jit
def _noise(places, out, half, low, high, purpose: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    place = tl.load(places + row)
    # Philox 4x32-10 of the place; the comments are in counters.py.
    one, two, three, four = place * 0, place & _LOW, place >> 32, place * 0 + purpose
    first, second = place * 0 + low, place * 0 + high
    for _ in tl.static_range(10):
        left, right = one * _MULTIPLY_ONE, three * _MULTIPLY_TWO
        one = ((right >> 32) ^ two ^ first) & _LOW
        three = ((left >> 32) ^ four ^ second) & _LOW
        two, four = right, left
        first, second = (first + _WEYL_ONE) & _LOW, (second + _WEYL_TWO) & _LOW
    start, key = (one << 32) ^ (two & _LOW), (three << 32) ^ (four & _LOW)
    # SplitMix64 of each pair's number.
    at = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    bits = at.to(tl.int64) * _GAMMA + start
    bits = (bits ^ ((bits >> 30) & 0x3FFFFFFFF)) * _MIX_ONE ^ key
    bits = (bits ^ ((bits >> 27) & 0x1FFFFFFFFF)) * _MIX_TWO
    bits = bits ^ ((bits >> 31) & 0x1FFFFFFFF)
    upper, lower = (bits >> 40).to(tl.int32) + 8388609, bits.to(tl.int32)
    # ln(upper / 2**24).
    value = upper.to(tl.float32).to(tl.int32, bitcast=True)
    exponent = (value - 0x3F3504F3) >> 23
    scaled = (value - (exponent << 23)).to(tl.float32, bitcast=True)
    tangent = tl.math.div_rn(scaled - 1.0, scaled + 1.0)
    square = tangent * tangent
    series = square * (2 / 9) + (2 / 7)
    series = (series * square + (2 / 5)) * square + (2 / 3)
    series = series * square + 2.0
    logarithm = (exponent - 24).to(tl.float32) * _LOG_TWO + tangent * series
    wide = tl.math.sqrt_rn(logarithm * -2.0)
    # Sine and cosine of the angle.
    angle = ((lower << 2) >> 8).to(tl.float32) * _EIGHTH
    square = angle * angle
    sine = square * (1 / 362880) + (-1 / 5040)
    sine = ((sine * square + (1 / 120)) * square + (-1 / 6)) * square + 1.0
    sine = angle * sine
    cosine = square * (1 / 40320) + (-1 / 720)
    cosine = ((cosine * square + (1 / 24)) * square + (-1 / 2)) * square + 1.0
    wide = wide * ((lower >> 31) * 2 + 1).to(tl.float32)
    quarter = (lower >> 30) & 1
    to = out + row * 2 * half + at
    inside = at < half
    tl.store(to, wide * tl.where(quarter == 0, cosine, -sine), mask=inside)
    tl.store(to + half, wide * tl.where(quarter == 0, sine, cosine), mask=inside)


def normal(seed: int, purpose: int, places_B: Tensor, shape: Sequence[int]) -> Tensor:
    """Unit normal noise of ``shape`` for each place (int64), float32 (B, *shape), on the places' device."""
    count, size = len(places_B), math.prod(shape)
    half = -(-size // 2)
    out = torch.empty(count, 2 * half, device=places_B.device)
    kernel: Any = _noise
    kernel[count, triton.cdiv(half, _BLOCK)](
        places_B.contiguous(), out, half, seed & 0xFFFFFFFF, (seed >> 32) & 0xFFFFFFFF, purpose=purpose, BLOCK=_BLOCK,
        enable_fp_fusion=False,
    )  # fmt: skip
    return out.view(count, *shape) if size == 2 * half else out[:, :size].reshape(count, *shape)
