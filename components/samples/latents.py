"""The latents of a pack's pictures, beside the pack: written by stage ``encode``, what a training of latents reads.

latents.json     {"format": 1, "autoencoder": null} where no latents were asked for, and there is nothing else then.
                 Otherwise "autoencoder" is what :class:`Autoencoder` holds, and "pixels" the SHA-256 of the header of
                 the pack of pictures
pack/            a pack (pack.py) of kind latent and dtype f16 with the rows, keys and classes of that of the pictures;
                 its numbers are those that the autoencoder gives, less ``mean``, by ``std``
mirrored/        where they were asked for, a pack with the same rows: the latents of the mirrored pictures
vae/             the autoencoder, as diffusers saves one, that takes and gives such numbers
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from components.base import files
from components.base.errors import UserError, brief
from components.samples import spec as specs
from components.samples.spec import SampleSpec

FORMAT = 1
PACK, MIRRORED, VAE, VQVAE = "pack", "mirrored", "vae", "vqvae"
"""Folders in data/latents; a model folder has the third or the fourth, as pipelines of diffusers call it."""

WIDEST, MOST_FACTOR = 1024, 128
"""Channels of a latent, and pixels of the edge of a square that becomes one place of it, at most."""

_NOTE = "latents.json"
_KINDS = ("AutoencoderKL", "AutoencoderTiny", "AutoencoderDC")


@dataclass(frozen=True, kw_only=True)
class Autoencoder:
    """What makes latents of pictures, and pictures of latents: C channels, a place for each square of pixels."""

    kind: str
    """Its class in diffusers."""
    sha256: str
    """Of all that decides what it says: the configuration and the weights that were brought."""
    weights: str
    """SHA-256 of the file of weights in ``vae``, whose latents are less ``mean``, by ``std``."""
    factor: int
    """Pixels of the edge of that square."""
    colours: int
    """Channels of a picture."""
    mean: tuple[float, ...]
    """Of each channel over the training images; zeros where the class can carry none."""
    std: tuple[float, ...]
    """The same, standard deviation; all equal where the class can carry one alone."""

    def __post_init__(self) -> None:
        if self.kind not in _KINDS:
            raise ValueError(f"autoencoder {self.kind!r:.60} is none of {', '.join(_KINDS)}")
        hashes = (self.sha256, self.weights)
        if not all(isinstance(each, str) and re.fullmatch("[0-9a-f]{64}", each) for each in hashes):
            raise ValueError("sha256 and weights of an autoencoder are 64 hexadecimal digits each")
        sizes = ((self.factor, MOST_FACTOR), (self.colours, WIDEST), (len(self.mean), WIDEST))
        if not all(type(size) is int and 0 < size <= most for size, most in sizes) or len(self.mean) != len(self.std):
            raise ValueError("factor, colours, mean and std of an autoencoder: not sizes and as many of each")
        numbers = [specs.number(each, "mean or std") for each in (*self.mean, *self.std)]
        if not all(map(math.isfinite, numbers)) or not min(self.std) > 0:
            raise ValueError("mean and std of an autoencoder must be finite, and std above 0")

    @property
    def channels(self) -> int:
        """Of a latent."""
        return len(self.mean)

    def shape(self, picture: Sequence[int]) -> tuple[int, ...]:
        """The shape of the latents of pictures of shape ``picture`` (C, H, W)."""
        return (self.channels, *(side // self.factor for side in picture[1:]))

    def picture(self, latent: SampleSpec) -> SampleSpec:
        """What pictures are that are made of samples of ``latent``."""
        _, *sides = latent.shape
        return specs.image((self.colours, *(side * self.factor for side in sides)))

    @property
    def name(self) -> str:
        """In a line about it."""
        return f"{self.kind} {self.sha256[:12]}"

    def plain(self) -> dict[str, Any]:
        """As plain data for JSON; :func:`autoencoder` reads it."""
        return {**asdict(self), "mean": list(self.mean), "std": list(self.std)}


class Latents(NamedTuple):
    """What lies in data/latents."""

    autoencoder: Autoencoder
    pack: Path
    vae: Path
    mirrored: Path | None
    """The pack of the mirrored pictures, where there is one."""


def autoencoder(data: Any) -> Autoencoder:
    """The autoencoder that :meth:`Autoencoder.plain` made plain; ValueError when it makes no sense."""
    if not isinstance(data, dict) or data.keys() != Autoencoder.__dataclass_fields__.keys():
        raise ValueError(f"an autoencoder has {', '.join(Autoencoder.__dataclass_fields__)}")
    if not all(isinstance(data[name], list) for name in ("mean", "std")):
        raise ValueError("mean and std of an autoencoder are lists")
    return Autoencoder(**{**data, "mean": tuple(data["mean"]), "std": tuple(data["std"])})


def write(folder: Path, made: Autoencoder | None, pixels: Path) -> None:
    """Write the note in ``folder`` on latents of the pack ``pixels``; None: that none were asked for."""
    note: dict[str, Any] = {"format": FORMAT, "autoencoder": None}
    if made:
        note |= {"autoencoder": made.plain(), "pixels": _of(pixels)}
    (folder / _NOTE).write_text(json.dumps(note, indent=1, sort_keys=True) + "\n", "utf-8")


def read(folder: Path, pixels: Path) -> Latents | None:
    """The latents of the pack ``pixels``, None where none were asked for; UserError when anything is wrong."""
    return _read(folder, pixels)


def held(folder: Path) -> Latents | None:
    """The same without a look at the pack of pictures, which somebody else had."""
    return _read(folder, None)


def _read(folder: Path, pixels: Path | None) -> Latents | None:
    path = folder / _NOTE
    try:
        raw = json.loads(path.read_text("utf-8"))
        if not isinstance(raw, dict):
            raise ValueError(f"it holds {type(raw).__name__}, wanted an object")
        specs.known_format(raw.get("format"), FORMAT)
        if raw.get("autoencoder") is None:
            return None
        made = autoencoder(raw["autoencoder"])
        if pixels and raw.get("pixels") != _of(pixels):
            raise ValueError(f"of another pack than {pixels}")
        mirrored = folder / MIRRORED
        return Latents(made, folder / PACK, folder / VAE, mirrored if mirrored.is_dir() else None)
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise UserError(f"{path}: not what stage 'encode' writes ({brief(error)}): run it again") from None


def asked(folder: Path | None, pixels: Path) -> Latents:
    """The same for who needs them: UserError where there are none."""
    found = read(folder, pixels) if folder is not None and folder.is_dir() else None
    if found is None:
        raise UserError(
            "train.space latents: but encode.latents is null, or stage 'encode' has not run: name an autoencoder there "
            "(docs/latents.md), or set train.space to pixels"
        )
    return found


def beside(model: Path) -> Path:
    """Where a model folder holds its autoencoder: in ``vqvae`` (what an LDMPipeline calls it) or ``vae``."""
    return model / VQVAE if (model / VQVAE).is_dir() else model / VAE


def of_notes(notes: Mapping[str, Any]) -> str | None:
    """The hash of the autoencoder of whose latents a model was trained, by its stillroom.json; None: on pixels."""
    found = notes.get("autoencoder")
    return str(found.get("sha256")) if isinstance(found, dict) else None


def words(sha256: str | None) -> str:
    """What samples are, in a line that compares two models: latents of an autoencoder, by its hash, or pixels."""
    return f"latents of the autoencoder {str(sha256)[:12]}" if sha256 else "pixels"


def _of(pixels: Path) -> str:
    return files.sha256(pixels / "header.json")
