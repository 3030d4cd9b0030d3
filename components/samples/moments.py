"""The standard deviation of samples, measured while they are written: the same in any order and in any portions."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import TYPE_CHECKING, Protocol

from components.base.errors import UserError
from components.samples import spec as specs
from components.samples.spec import SampleSpec

if TYPE_CHECKING:
    import numpy as np

_BLOCK = 2**22  # numbers that are looked at together: what they are widened to takes 32 MiB


class Moments(Protocol):
    """Sees stored samples, then tells their deviation."""

    def add(self, blob: memoryview) -> None:
        """Count whole samples; UserError when a number of theirs is not finite."""

    def deviation(self, spec: SampleSpec) -> float:
        """The standard deviation of the values, four digits; ``ASSUMED`` where all are the same."""


def of(spec: SampleSpec) -> Moments:
    """What measures samples of ``spec``."""
    return Bytes() if spec.dtype == "u8" else Floats(spec)


class Bytes:
    """How often each byte occurs, for the standard deviation of values in whole numbers: exact in any order."""

    def __init__(self) -> None:
        self._counts = [0] * 256

    def add(self, blob: memoryview) -> None:
        """Count the bytes of ``blob``."""
        import numpy as np  # readers of packs need none of these
        from PIL import Image

        for at in range(0, len(blob), _BLOCK):
            block = np.frombuffer(blob[at : at + _BLOCK], np.uint8)
            # Not numpy's bincount, which widens each byte: it takes 4 to 13 times as long.
            found = Image.frombuffer("L", (len(block), 1), block).histogram()
            self._counts = [one + other for one, other in zip(self._counts, found, strict=True)]

    def deviation(self, spec: SampleSpec) -> float:
        """The standard deviation of the values, four digits; ASSUMED where all are the same."""
        count = sum(self._counts)
        first = sum(value * often for value, often in enumerate(self._counts))
        second = sum(value**2 * often for value, often in enumerate(self._counts))
        spread = count * second - first**2
        return float(f"{abs(spec.scale) * spread**0.5 / count:.4g}") if spread else specs.ASSUMED


class Floats:
    """Mean and mean squared distance from it of each sample in float64, added over the samples without rounding.

    Each is a number of one sample alone, so neither the order nor the portions in which samples come decide a digit;
    and a mean far from 0 takes no digits from the deviation.
    """

    def __init__(self, spec: SampleSpec) -> None:
        self._dtype, self._numbers = specs.NUMPY[spec.dtype], math.prod(spec.shape)
        self._count = 0
        self._means = self._squares = self._within = Fraction(0)
        """Sums over the samples: of their means, of these squared, and of their mean squared distances."""

    def add(self, blob: memoryview) -> None:
        """Count the samples of ``blob``; UserError when a number of theirs is not finite."""
        import numpy as np

        samples = np.frombuffer(blob, self._dtype).reshape(-1, self._numbers)
        step = max(1, _BLOCK // self._numbers)
        for at in range(0, len(samples), step):
            self._see(samples[at : at + step].astype(np.float64))

    def _see(self, samples: np.ndarray) -> None:
        import numpy as np

        if not (finite := np.isfinite(samples).all(1)).all():
            number = self._count + int(finite.argmin())
            raise UserError(f"sample {number} has a number that is not finite: no pack holds such")
        for sample in samples:  # one by one: how rows of a matrix are added may depend on how many there are
            mean = sample.mean()
            exact = Fraction(float(mean))
            self._means += exact
            self._squares += exact**2
            self._within += Fraction(float(np.square(sample - mean).mean()))
        self._count += len(samples)

    def deviation(self, spec: SampleSpec) -> float:
        """The standard deviation of the values, four digits; ASSUMED where all are the same."""
        if not self._count:
            return specs.ASSUMED
        spread = float(self._within / self._count + self._squares / self._count - (self._means / self._count) ** 2)
        return float(f"{abs(spec.scale) * spread**0.5:.4g}") if spread else specs.ASSUMED
