"""Random numbers as functions of where they are used: no state, any part of them on any device.

A number is found from (seed, purpose, place, index) alone.  ``place`` is an image's place in the order of the whole
training, so what an image meets does not depend on the batch, the rank or the process that asks.

A place's words come from Philox 4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3", section
3.3); the thousands that make its noise from the mixer of SplitMix64 (Steele et al. 2014, "Fast splittable pseudorandom
number generators", figure 17) with those words as key and offset, a tenth of the work.  Normal numbers are made of them
by Box and Muller with a logarithm, sine and cosine written in sums and products, which IEEE 754 rounds alike
everywhere, as it does a square root; a library's own differ between devices, and on one of them by alignment.
"""

from __future__ import annotations

import functools
import importlib
import logging
import math
from collections.abc import Sequence
from types import ModuleType

import numpy as np
import torch
from torch import Tensor

from components.base.errors import brief

_log = logging.getLogger(__name__)

LOW = 0xFFFFFFFF
_MULTIPLY = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10
_GAMMA = 0x9E3779B97F4A7C15 - 2**64
_MIX = (0xBF58476D1CE4E5B9 - 2**64, 0x94D049BB133111EB - 2**64)
_PIECE = 8192
"""Pairs of normal numbers made at once on the CPU: what is larger than its cache, malloc gets anew from the kernel."""
_DEVICE_PIECE = 1 << 22
"""The same on CUDA, where each piece costs some eighty kernels; each of some ten temporaries takes 32 MiB then."""
_SINE = (1 / 362880, -1 / 5040, 1 / 120, -1 / 6, 1.0)
_COSINE = (1 / 40320, -1 / 720, 1 / 24, -1 / 2, 1.0)
"""Factors of the series in the square of the angle, the highest power's first."""
_FEISTEL = 12
"""Rounds of the permutation: after 8, a chi-square test of 120,000 orders of five images tells them from chance."""

NOISE, SHARE, ORDER, AUGMENT, GROUPS = range(5)
"""Purposes: what is drawn for one never meets what is drawn for another."""

Words = tuple[Tensor, Tensor, Tensor, Tensor]


def philox(counter: Words, key: tuple[int, int]) -> Words:
    """Four words of 32 bits for each counter of four words, all int64 in 0..2**32 - 1; counters broadcast."""
    one, two, three, four = counter
    first, second = key
    for _ in range(_ROUNDS):
        # A product of two 32-bit words wraps in int64, but its bits are right; the upper half loses its sign below.
        left, right = one * _MULTIPLY[0], three * _MULTIPLY[1]
        one = ((right >> 32) ^ two ^ first) & LOW
        three = ((left >> 32) ^ four ^ second) & LOW
        two, four = right, left  # their upper halves go with the next masks
        first, second = (first + _WEYL[0]) & LOW, (second + _WEYL[1]) & LOW
    return one, two & LOW, three, four & LOW


def words(seed: int, purpose: int, places: Tensor, index: Tensor | int = 0) -> Words:
    """The four words of each place (int64, 0 or more) and index; they broadcast."""
    # torch.tensor would copy from the host, for which a GPU waits; torch.full is a kernel.
    if not isinstance(index, Tensor):
        index = torch.full((), index, dtype=torch.int64, device=places.device)
    fourth = torch.full((), purpose, dtype=torch.int64, device=places.device)
    return philox((index, places & LOW, places >> 32, fourth), (seed & LOW, (seed >> 32) & LOW))


def uniform(word: Tensor) -> Tensor:
    """0 <= u < 1 from the upper 24 bits of each word, exact in float32."""
    return (word >> 8).float() * 2.0**-24


def normal(seed: int, places_B: Tensor, shape: Sequence[int], device: torch.device | str = "cpu") -> Tensor:
    """Unit normal noise of ``shape`` for each place, float32 (B, *shape); equal bits on every device."""
    if torch.device(device).type == "cuda" and (kernels := _kernels(torch.device(device))):
        return kernels.normal(seed, NOISE, places_B.to(device), shape)
    half = -(-math.prod(shape) // 2)
    one, two, three, four = (word[:, None] for word in words(seed, NOISE, places_B.to(device)))
    start, key = (one << 32) ^ two, (three << 32) ^ four
    out = torch.empty(len(places_B), 2, half, device=device)
    piece = _PIECE if out.device.type == "cpu" else _DEVICE_PIECE
    for first in range(0, half, piece):
        steps = torch.arange(first, min(half, first + piece), device=device) * _GAMMA
        many = max(1, piece // len(steps))
        for at in range(0, len(start), many):
            rows = slice(at, at + many)
            _pairs(_split(steps + start[rows], key[rows]), out[rows, :, first : first + piece])
    return out.view(len(places_B), 2 * half)[:, : math.prod(shape)].reshape(len(places_B), *shape)


@functools.cache
def _kernels(device: torch.device) -> ModuleType | None:
    """The kernels for CUDA, which need Triton and a C compiler; without them torch's own give the same numbers."""
    try:
        found = importlib.import_module("components.dataset.kernels")
        found.normal(0, NOISE, torch.zeros(1, dtype=torch.int64, device=device), (2,))
    except Exception as error:  # whatever a compiler that is not there, or not a good one, makes Triton raise
        _log.warning("noise is made without Triton (%s): slower, and the same numbers", brief(error))
        return None
    return found


def shuffled(seed: int, purpose: int, rounds: Tensor, places: Tensor, count: int) -> Tensor:
    """Where ``places`` (int64, 0..count-1) lie in the permutation of 0..count-1 that belongs to ``rounds``.

    A Feistel network over the next power of four, walked until it is back among the ``count`` (Black and Rogaway
    2002, "Ciphers with arbitrary finite domains", method 2): an image costs four turns at most on average.
    """
    half = max(1, math.ceil(math.log2(max(2, count)) / 2 - 1e-12))
    keys = torch.stack([part.expand(places.shape) for part in words(seed, purpose, rounds)])
    out = _turn(places, keys, half)
    away = (out >= count).nonzero().flatten()
    while len(away):
        out[away] = _turn(out[away], keys[:, away], half)
        away = away[out[away] >= count]
    return out


def _turn(places: Tensor, keys: Tensor, half: int) -> Tensor:
    """One keyed permutation of 0 .. 4**half - 1."""
    mask = (1 << half) - 1
    # A Feistel network makes even permutations only, which shows at five images: so 0 and 1 change places or not.
    places = places ^ ((places < 2) & (keys[3] >> 31).bool())
    left, right = places >> half, places & mask
    for number in range(_FEISTEL):
        left, right = right, left ^ (_mixed(right, keys[number % 4] + number * _WEYL[0]) & mask)
    return (left << half) | right


def _mixed(value: Tensor, key: Tensor) -> Tensor:
    """A word in which every bit depends on every bit of ``value`` and ``key`` (MurmurHash3's last step, 32 bits)."""
    value = (value * _WEYL[1] + key) & LOW
    value = ((value ^ (value >> 16)) * 0x85EBCA6B) & LOW
    value = ((value ^ (value >> 13)) * 0xC2B2AE35) & LOW
    return value ^ (value >> 16)


def _split(value: Tensor, key: Tensor) -> Tensor:
    """The mixer of SplitMix64 on int64, which wraps as its unsigned words do; ``key`` parts one place from another."""
    value = (value ^ ((value >> 30) & 0x3FFFFFFFF)) * _MIX[0] ^ key
    value = (value ^ ((value >> 27) & 0x1FFFFFFFFF)) * _MIX[1]
    return value ^ ((value >> 31) & 0x1FFFFFFFF)


def _pairs(bits: Tensor, out: Tensor) -> None:
    """Two unit normal numbers (Box and Muller 1958) from each of ``bits`` (b, n), written to ``out`` (b, 2, n)."""
    upper, lower = (bits >> 40).int() + (1 << 23) + 1, bits.int()  # 24 bits, 1..2**24; 32 bits, signed
    wide = _root(-2 * _logarithm(upper.float(), 24))
    # A turn is an angle within an eighth of it to either side, then a quarter turn or none, then half a turn or none.
    angle = ((lower << 2) >> 8).float() * (math.pi / 4 * 2.0**-23)
    square = angle * angle
    sine, cosine = angle * _horner(square, _SINE), _horner(square, _COSINE)
    wide *= ((lower >> 31) * 2 + 1).float()
    quarter = ((lower >> 30) & 1).float()  # 0 or 1, by which products stay exact: torch.where takes ten times as long
    straight = 1 - quarter
    torch.mul(wide, cosine * straight - sine * quarter, out=out[:, 0])
    torch.mul(wide, sine * straight + cosine * quarter, out=out[:, 1])


def _root(value: Tensor) -> Tensor:
    """The square root, rounded as IEEE 754 says; torch's on a CPU is not (it calls MKL's, which one in seven shows)."""
    return torch.from_numpy(np.sqrt(value.numpy())) if value.device.type == "cpu" else value.sqrt()


def _logarithm(value: Tensor, power: int) -> Tensor:
    """ln(value / 2**power), float32 above 0: ln m = 2 artanh((m - 1) / (m + 1)) with m in 0.7 .. 1.42."""
    bits = value.view(torch.int32)
    exponent = (bits - 0x3F3504F3) >> 23
    scaled = (bits - (exponent << 23)).view(torch.float32)
    tangent = (scaled - 1) / (scaled + 1)
    series = tangent * _horner(tangent * tangent, (2 / 9, 2 / 7, 2 / 5, 2 / 3, 2.0))
    return (exponent - power).float() * math.log(2) + series


def _horner(x: Tensor, factors: Sequence[float]) -> Tensor:
    """The polynomial with ``factors``, the highest power's first; sums and products apart, so that nothing fuses."""
    out = x * factors[0] + factors[1]
    for factor in factors[2:]:
        out = out * x + factor
    return out
