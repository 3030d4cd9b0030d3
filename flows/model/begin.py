"""Pictures of the user's that drawing begins from, and the mask of what is drawn anew: read as the pipeline reads."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.base.errors import UserError, brief

if TYPE_CHECKING:
    import numpy as np

    from components.diffusion.given import Given
    from components.model.sampling import Denoiser

MOST_BYTES, MOST_PIXELS = 2**28, 100_000_000
"""Of a picture's file, and of the picture."""
STRENGTH = 0.6
"""Of a picture that is changed as a whole; with a mask all of the part is drawn anew."""
REPEATS = 5
"""Of each step, with a mask: at 1 the new part often does not go with the old."""
WHITE = "#ffffff"


@dataclass(frozen=True)
class Start:
    """What to begin from: ``pictures`` in turn; none: from noise alone."""

    pictures: tuple[Path, ...] = ()
    mask: Path | None = None
    """White where it is drawn anew."""
    strength: float | None = None
    repeats: int | None = None
    """How often each step is taken where a part stays; None: REPEATS."""

    def __post_init__(self) -> None:
        """UserError where something is asked for that has no picture."""
        for option, value in (("--mask", self.mask), ("--strength", self.strength)):
            if value is not None and not self.pictures:
                raise UserError(f"{option}: of which picture? Give --init PICTURE too")
        if self.repeats is not None and self.mask is None:
            raise UserError("--repeats: without --mask each step is taken once; give --mask PICTURE too")

    @property
    def share(self) -> float:
        """Of the steps that are taken."""
        return (1.0 if self.mask else STRENGTH) if self.strength is None else self.strength

    @property
    def times(self) -> int:
        """How often each step is taken."""
        return (self.repeats or REPEATS) if self.mask else 1

    def note(self) -> dict[str, Any]:
        """For the files that are written: SHA-256 of each picture and of the mask, and the strength."""
        if not self.pictures:
            return {}
        mask = {"mask": _digest(self.mask), "repeats": self.times} if self.mask else {}
        return {"init": [_digest(path) for path in self.pictures], "strength": self.share, **mask}


def given(start: Start, denoiser: Denoiser, shape: tuple[int, ...], num: int) -> Given | None:
    """``num`` pictures of ``shape`` (C, H, W) as samples of the network; UserError for files that cannot be used.

    Of each picture the middle that has the shape's aspect, scaled as the pack's are.  A place of a latent is drawn anew
    where any of its pixels is.
    """
    if not start.pictures:
        return None
    import torch

    from components.diffusion.given import Given

    spec, found, sizes = denoiser.pictures.shaped(shape), [], set()
    for path in start.pictures:
        pixels = _pixels(path)
        sizes.add(pixels.shape[:2])
        found.append(torch.from_numpy(_scaled(pixels, shape)))
    images = torch.stack(found).permute(0, 3, 1, 2).float() * spec.scale + spec.shift
    anew = None
    if start.mask is not None:
        pixels = _pixels(start.mask)
        if sizes != {pixels.shape[:2]}:
            raise UserError(f"{start.mask}: a mask of {_named(pixels.shape)}; wanted the size of --init, "
                            f"{' and '.join(map(_named, sorted(sizes)))}")  # fmt: skip
        anew = torch.from_numpy(_scaled(pixels, shape)).float().mean(-1)[None, None] > 127.5
        if not bool(anew.any()):
            raise UserError(f"{start.mask}: black, so nothing would be drawn: make white what is to be drawn anew")
    if denoiser.decoder and denoiser.autoencoder:
        images = torch.cat([denoiser.decoder.encode(each[None].to(denoiser.device)).cpu() for each in images])
        if anew is not None:
            anew = torch.nn.functional.max_pool2d(anew.float(), denoiser.autoencoder.factor) > 0
    return Given(images[[at % len(images) for at in range(num)]], start.share, anew, start.times)


def _scaled(pixels: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    from components.resize import scaling

    size = shape[1], shape[2]
    return scaling.resized(scaling.cut(pixels, size), size).copy()


def _pixels(path: Path) -> np.ndarray:
    """The RGB of the picture at ``path``, what is transparent on white."""
    from components.decode import images

    try:
        size = path.stat().st_size
        if size > MOST_BYTES:
            raise UserError(f"{path}: {size:,} bytes; a picture to begin from has {MOST_BYTES:,} at most")
        return images.decode(path.read_bytes(), WHITE, max_pixels=MOST_PIXELS).pixels
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({brief(error)}): give the file of a picture") from None
    except images.Damaged as error:
        raise UserError(f"{path}: no picture to begin from ({error.reason}: {error.detail})") from None


def _named(size: tuple[int, ...]) -> str:
    return f"{size[1]} × {size[0]}"


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
