"""What one sample is: its kind, shape, and what its stored numbers mean.  It travels with packs and model folders."""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from components.base.errors import UserError

Kind = Literal["image", "latent", "mel", "clip", "tensor"]
Dtype = Literal["u8", "f16", "f32"]

AXES: dict[Kind, str] = {"image": "C, H, W", "latent": "C, H, W", "mel": "C, F, T", "clip": "C, T, H, W"}
"""What the numbers of a shape are; a tensor's are channels and whatever else."""

BYTES: dict[Dtype, int] = {"u8": 1, "f16": 2, "f32": 4}

NUMPY: dict[Dtype, str] = {"u8": "|u1", "f16": "<f2", "f32": "<f4"}
"""What numpy calls them as they are stored."""

ASSUMED = 0.5
"""sigma_data where nothing was measured: what Karras et al. 2022, table 1, assume of pixels in [-1, 1]."""


@dataclass(frozen=True, kw_only=True)
class SampleSpec:
    """A sample has ``shape``, channels first; its values are stored * ``scale`` + ``shift``.

    Packs store the channels of each place together, so ``stored_shape`` has them last.
    """

    kind: Kind
    shape: tuple[int, ...]
    dtype: Dtype
    scale: float
    shift: float
    sigma_data: float
    """Standard deviation of the values, measured."""

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ValueError(f"kind {self.kind!r} is not one of {', '.join(get_args(Kind))}")
        if not self.shape or not all(type(size) is int and size > 0 for size in self.shape):
            raise ValueError(f"shape {self.shape} must be whole numbers above 0")
        axes = AXES.get(self.kind)
        if axes and len(self.shape) != len(axes.split(", ")):
            raise ValueError(f"shape {self.shape} of kind {self.kind} must be ({axes})")
        if self.dtype not in get_args(Dtype):
            raise ValueError(f"dtype {self.dtype!r} is not one of {', '.join(get_args(Dtype))}")
        if not (math.isfinite(self.scale) and self.scale and math.isfinite(self.shift)):
            raise ValueError(f"scale {self.scale} and shift {self.shift} must be finite, and scale not 0")
        if not (math.isfinite(self.sigma_data) and self.sigma_data > 0):
            raise ValueError(f"sigma_data {self.sigma_data} must be finite and above 0")

    @property
    def stored_shape(self) -> tuple[int, ...]:
        """The shape in a pack: channels last."""
        return (*self.shape[1:], self.shape[0])

    def shaped(self, shape: tuple[int, ...]) -> SampleSpec:
        """The spec of samples of another ``shape`` and otherwise such."""
        return self if shape == self.shape else dataclasses.replace(self, shape=shape)  # asked for each row of a pack

    @property
    def channels(self) -> int:
        """Of one sample: the first axis."""
        return self.shape[0]

    @property
    def size(self) -> str:
        """Of an image, in words: width × height."""
        height, width, _ = self.picture_shape
        return f"{width} × {height}"

    @property
    def picture_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of images that are stored as bytes; UserError for all other samples."""
        if self.kind != "image" or self.dtype != "u8":
            raise UserError(
                f"these samples are of kind {self.kind} and dtype {self.dtype}: this works for images as bytes only"
            )
        channels, height, width = self.shape
        return height, width, channels

    @property
    def pixels(self) -> bool:
        """Whether samples are images of bytes that stand for values in [-1, 1], as :func:`image` has them."""
        ends = self.shift, 255 * self.scale + self.shift
        usual = all(math.isclose(end, wanted, rel_tol=1e-6) for end, wanted in zip(ends, (-1, 1), strict=True))
        return self.kind == "image" and self.dtype == "u8" and usual

    @property
    def limits(self) -> tuple[float, float]:
        """The least and the greatest value of an image: what bytes can stand for; of floats, [-1, 1]."""
        if self.dtype != "u8":
            return -1.0, 1.0
        ends = self.shift, 255 * self.scale + self.shift
        return min(ends), max(ends)

    @property
    def bytes(self) -> int:
        """Bytes of one stored sample."""
        return math.prod(self.shape) * BYTES[self.dtype]

    def plain(self) -> dict[str, Any]:
        """As plain data for JSON; :func:`of_plain` reads it."""
        return {**asdict(self), "shape": list(self.shape)}


def of_plain(data: Mapping[str, Any]) -> SampleSpec:
    """The spec that :meth:`SampleSpec.plain` gave; ValueError when a value is missing, unknown or makes no sense."""
    fields = SampleSpec.__dataclass_fields__
    if not isinstance(data, Mapping):
        raise ValueError(f"a sample spec is an object, not {type(data).__name__}")
    if data.keys() != fields.keys():
        raise ValueError(f"a sample spec has {', '.join(fields)}, not {', '.join(map(str, data))}")
    if not isinstance(data["shape"], list | tuple):
        raise ValueError(f"shape {data['shape']!r} must be a list")
    numbers = {name: number(data[name], name) for name in ("scale", "shift", "sigma_data")}
    return SampleSpec(kind=data["kind"], shape=tuple(data["shape"]), dtype=data["dtype"], **numbers)


def number(value: Any, name: str) -> float:
    """``value`` as float; ValueError, which calls it ``name``, when it is no finite number (a bool is none)."""
    # 10**400 is a number of JSON and of Python, but no float.
    if type(value) not in (int, float) or not abs(value) <= sys.float_info.max:
        raise ValueError(f"{name} {value!r:.40} must be a finite number")
    return float(value)


def names(value: Any, what: str) -> tuple[str, ...]:
    """``value``, a list of distinct strings, as tuple; ValueError, which calls it ``what``, when it is none."""
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise ValueError(f"{what} must be a list of strings")
    if len(set(value)) < len(value):
        raise ValueError(f"{what} must be distinct")
    for each in value:
        each.encode()  # half of a surrogate pair is a string of JSON that nothing can print
    return tuple(value)


def known_format(value: Any, newest: int) -> None:
    """ValueError unless ``value`` is the number of a format up to ``newest``."""
    if type(value) is not int or value < 1:
        raise ValueError(f"format {value!r:.40} must be a whole number above 0")
    if value > newest:
        raise ValueError(f"format {value!r:.40}: made by a newer Stillroom, this one reads up to {newest}")


def sizes(shape: tuple[int, ...]) -> dict[str, int]:
    """Of pictures of ``shape`` (H, W, C) for JSON: side and channels of squares, else height, width and channels."""
    height, width, channels = shape
    lengths = {"side": height} if height == width else {"height": height, "width": width}
    return {**lengths, "channels": channels}


def sized(data: Mapping[str, Any]) -> tuple[int, int, int]:
    """The shape (H, W, C) that :func:`sizes` gave; ValueError when a number is missing or none."""
    found: list[Any] = [data.get("side", data.get(name)) for name in ("height", "width")] + [data.get("channels")]
    if not all(type(length) is int and length > 0 for length in found):
        raise ValueError(f"height, width and channels of pictures must be whole numbers above 0, not {found!r:.60}")
    height, width, channels = found
    return height, width, channels


def image(shape: tuple[int, ...], sigma_data: float = ASSUMED) -> SampleSpec:
    """Images of ``shape`` (C, H, W) as bytes, their values in [-1, 1]."""
    return SampleSpec(kind="image", shape=shape, dtype="u8", scale=1 / 127.5, shift=-1.0, sigma_data=sigma_data)
