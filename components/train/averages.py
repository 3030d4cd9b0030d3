"""Averages of the weights over a training (EMA): several half-lives at once, and any other one afterwards.

An average whose half-life is a share h of the images seen so far weights the network after t images by t**g with
g = ln 2 / h - 1: a power-function average (Karras et al. 2023, arXiv:2312.02696, section 3.1), whose length relative
to the training stays the same while it goes on.  A snapshot holds all averages at one moment; from the snapshots of a
training the average of any other half-life is reconstructed by least squares (section 3.2 and algorithm 3 there).
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from components.base import files
from components.base.errors import UserError
from components.model import notes, stable
from components.networks import lora, registry
from components.samples import latents
from components.train.optim import flat

FOLDER = "averages"
"""Subfolder of a model folder that holds its snapshots."""

GUIDE = "guide"
"""Subfolder of a training's that holds the snapshot of which its guide is made."""

SHORTEST, LONGEST = 0.01, 0.35
"""Half-lives that can be reconstructed; with the longest, g is about 1."""


class Averages:
    """One average for each of ``half_lives``, shares 0..1 of the images seen; the first is a network of its own."""

    def __init__(
        self, first: nn.Module, half_lives: Sequence[float], *, names: Sequence[str] | None = None, in_one: bool = False
    ) -> None:
        """``first``: a copy of the network before its first step, which becomes :attr:`first`, the first average.

        ``names``: of the weights that are trained, all when None.  ``in_one``: they lie in one vector
        (:mod:`components.train.optim.flat`), and the averages are to as well.
        """
        self.half_lives = tuple(half_lives)
        self.first = first.eval().requires_grad_(False)
        weights = dict(first.named_parameters())
        self._named = {name: weights[name] for name in names} if names is not None else weights
        self._tracked: list[Tensor] = [flat.flatten(self._named.values())] if in_one else list(self._named.values())
        self._in_one = in_one
        self.rest: list[list[Tensor]] = [
            [weight.detach().clone() for weight in self._tracked] for _ in self.half_lives[1:]
        ]

    def shares(self, seen: int, batch: int) -> list[float]:
        """What the weights after a step of ``batch`` images count in each average, with ``seen`` images seen in all."""
        return [1 - decay(half_life, seen, batch) for half_life in self.half_lives]

    def update(self, weights: Sequence[Tensor], shares: Sequence[float | Tensor]) -> None:
        """Include ``weights`` in each average by its share, 0..1, a tensor (0-dim) where it is not yet known."""
        local = [_local(weight) for weight in weights]
        for share, average in zip(shares, [self._tracked, *self.rest], strict=True):
            averaged = [_local(weight) for weight in average]
            if not isinstance(share, Tensor):
                torch._foreach_lerp_(averaged, local, share)
                continue
            apart = torch._foreach_sub(local, averaged)
            torch._foreach_mul_(apart, share)
            torch._foreach_add_(averaged, apart)

    def named(self, at: int) -> dict[str, Tensor]:
        """The weights of average number ``at``, by name."""
        if at == 0:
            return {name: weight.detach() for name, weight in self._named.items()}
        kept = self.rest[at - 1]
        if self._in_one:
            return {name: flat.like(kept[0], weight) for name, weight in self._named.items()}
        return dict(zip(self._named, kept, strict=True))

    def state_dict(self) -> dict[str, Any]:
        """The averages as plain data and tensors, by the names of weights: alike on every device."""
        return {"first": self.first.state_dict(), "rest": [self.named(at) for at in range(1, len(self.half_lives))]}

    @torch.no_grad()
    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` gave, in memory of this device's form."""
        self.first.load_state_dict(saved["first"])
        for at, average in enumerate(saved["rest"], 1):
            for name, weight in self.named(at).items():
                weight.copy_(average[name])


def _local(weight: Tensor) -> Tensor:
    """This rank's part of a sharded tensor, which is enough: averaging works element by element."""
    weight = weight.detach()
    return weight.to_local() if hasattr(weight, "to_local") else weight


class Snapshot(NamedTuple):
    """A file that holds all averages after ``seen`` images."""

    seen: int
    half_lives: tuple[float, ...]
    path: Path


def store(
    folder: Path, averages: Averages, seen: int, *, write: bool = True, dtype: torch.dtype = torch.float16
) -> None:
    """Write a snapshot after ``seen`` images to ``folder``, in ``dtype``, whole or not at all.

    With sharded weights it is a collective call, which gathers them; one rank passes ``write``.
    """
    from safetensors.torch import save_file

    tensors = {}
    for at in range(len(averages.half_lives)):
        for name, weight in averages.named(at).items():
            weight = weight.full_tensor() if hasattr(weight, "full_tensor") else weight
            if write:
                tensors[f"{at}.{name}"] = weight.to("cpu", dtype).contiguous()
    if not write:
        return
    # A single entry, since safetensors writes several in random order.
    metadata = {"averages": json.dumps({"seen": seen, "half_lives": averages.half_lives})}
    with files.replacing(folder / f"{seen:012d}.safetensors") as path:
        save_file(tensors, path, metadata=metadata)


def stored(folder: Path) -> list[Snapshot]:
    """The snapshots in ``folder``, oldest first; UserError names one that is damaged."""
    from safetensors import SafetensorError, safe_open

    found = []
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(path, "pt") as opened:
                entry = json.loads((opened.metadata() or {})["averages"])
            half_lives = tuple(float(each) for each in entry["half_lives"])
            seen = int(entry["seen"])
            if seen < 1 or not half_lives or not all(0 < each <= 1 for each in half_lives):
                raise ValueError(f"{seen} images, half-lives {half_lives}")
        except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            first = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise UserError(f"{path}: not a snapshot of averages ({first}): train or pull the model again") from None
        found.append(Snapshot(seen, half_lives, path))
    return found


def first(snapshot: Snapshot) -> dict[str, Tensor]:
    """The weights of the first average in ``snapshot``, float32 by name."""
    from safetensors.torch import load_file

    tensors = load_file(snapshot.path)
    return {name.removeprefix("0."): tensors[name].float() for name in sorted(tensors) if name.startswith("0.")}


def reconstruct(snapshots: Sequence[Snapshot], half_life: float) -> dict[str, Tensor]:
    """The weights averaged with ``half_life`` at the end of the training of ``snapshots``, float32 by name.

    UserError without snapshots, or for a half-life outside :data:`SHORTEST` .. :data:`LONGEST`.
    """
    from safetensors.torch import load_file

    if not snapshots:
        raise UserError("no snapshots of averages: train with train.ema_snapshots of 8 or more")
    if not SHORTEST <= half_life <= LONGEST:
        raise UserError(f"half-life {half_life:g}: wanted a share of the images seen, {SHORTEST} to {LONGEST}")
    known = [(snapshot.seen, each) for snapshot in snapshots for each in snapshot.half_lives]
    shares = iter(coefficients(known, (max(seen for seen, _ in known), half_life)))
    weights: dict[str, Tensor] = {}
    for snapshot in snapshots:
        tensors = load_file(snapshot.path)
        for at in range(len(snapshot.half_lives)):
            share, prefix = next(shares), f"{at}."
            for name in sorted(tensors):
                if name.startswith(prefix):
                    part = share * tensors[name].double()
                    weights[name.removeprefix(prefix)] = weights.get(name.removeprefix(prefix), 0) + part
    return {name: weight.float() for name, weight in weights.items()}


def remake(model: Path, half_life: float, out: Path) -> None:
    """Write a copy of model folder ``model`` to ``out``, with the weights averaged over another half-life.

    What was derived from the old weights (ONNX, snapshots, scores, manifest) is not copied; of adapters (LoRA) the
    averages are taken, and merged.  UserError when the model is incomplete or its snapshots are of another network.
    """
    from safetensors.torch import load_file, save_file

    found = reconstruct(stored(model / FOLDER), half_life)
    weights = next(iter(sorted(model.glob(f"*/{registry.WEIGHTS}"))), None)
    if weights is None or not (model / "stillroom.json").is_file():
        raise UserError(f"{model}: not a whole denoiser: train or pull it again")
    tensors, adapters = load_file(weights), lora.FOLDER if (model / lora.FOLDER).is_dir() else None
    other = UserError(f"{model / FOLDER}: snapshots of another network than {weights.parent.name}: train it again")
    if not adapters and any(name not in tensors or found[name].shape != tensors[name].shape for name in found):
        raise other
    with files.replacing_folder(out) as folder:
        others = [name for name in (registry.GUIDE, *stable.FOLDERS, latents.VQVAE) if (model / name).is_dir()]
        for name in filter(None, (weights.parent.name, "scheduler", adapters, *others)):
            shutil.copytree(model / name, folder / name)
        for name in ("model_index.json", "README.md", notes.NOTHING):
            if (model / name).is_file():
                shutil.copyfile(model / name, folder / name)
        said = files.read_json_object(model / "stillroom.json", "train or pull the model again")
        said |= {"ema_half_life": half_life}
        (folder / "stillroom.json").write_text(json.dumps(said, indent=2, ensure_ascii=False) + "\n", "utf-8")
        try:
            tensors = lora.exchanged(folder / lora.FOLDER, tensors, found) if adapters else tensors | found
        except (ValueError, KeyError):
            raise other from None
        save_file(tensors, folder / weights.parent.name / registry.WEIGHTS, metadata={"format": "pt"})


def coefficients(known: Sequence[tuple[int, float]], wanted: tuple[int, float]) -> list[float]:
    """The factor of each of ``known`` in the combination closest to ``wanted``; each is (images seen, half-life)."""
    rows = torch.tensor([[inner(one, other) for other in known] for one in known], dtype=torch.float64)
    right = torch.tensor([[inner(one, wanted)] for one in known], dtype=torch.float64)
    # Neighbouring profiles are nearly equal: directions below double precision are cut off.
    return torch.linalg.lstsq(rows, right, rcond=1e-12, driver="gelsd").solution.flatten().tolist()


def inner(one: tuple[int, float], other: tuple[int, float]) -> float:
    """Inner product of two averages' profiles over the training: Karras et al. 2023, algorithm 3."""
    (early, first), (late, second) = sorted([one, other])
    first, second = exponent(first), exponent(second)
    return (first + 1) * (second + 1) / (first + second + 1) * (early / late) ** second / late


def exponent(half_life: float) -> float:
    """g of the power function t**g with that half-life, a share of the images seen."""
    return math.log(2) / half_life - 1


def decay(half_life: float, seen: int, batch: int) -> float:
    """The factor of the old average in a step of ``batch`` images that ends at ``seen``: equation 127.

    Between 0, in the first step, so that the average forgets where it started, and 1.
    """
    return (1 - batch / seen) ** (exponent(half_life) + 1)


def relative_deviation(half_life: float) -> float:
    """The length of an average as Karras et al. 2023 give it (equation 123): its standard deviation, as a share."""
    power = exponent(half_life)
    return math.sqrt((power + 1) / (power + 2) ** 2 / (power + 3))
