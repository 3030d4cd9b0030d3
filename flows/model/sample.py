"""`stillroom sample`: draw samples of a model into a sheet; each file says which model and seed made it."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.base import events, files
from components.base.errors import UserError, printable
from flows.model import begin
from flows.registry import reference
from flows.workspace import exits
from flows.workspace.paths import State
from flows.workspace.processes import stoppable

if TYPE_CHECKING:
    from torch import Tensor

    from components.model.sampling import Denoiser, Plan

FILM_PICTURES, FILM_FRAMES, COLUMNS = 8, 8, 8
MOST_BYTES = 2**24
"""Of a file of prompts."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """What to draw; None takes the model's own value."""

    model: str
    num: int
    labels: tuple[str, ...]
    seed: int
    sampler: Any
    steps: int | None
    guidance: float | None
    autoguidance: float | None
    spacing: Any
    eta: float | None
    engine: Any
    scale: int
    size: str | None = None
    """Width and height, as WxH."""
    prompts: tuple[str, ...] = ()
    """In words, in turn; none: nothing is said."""
    negative: str | None = None
    """What guidance leads away from, in words."""
    start: begin.Start = dataclasses.field(default_factory=begin.Start)


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """What to write: a sheet, and where asked for a film strip and a folder of single pictures."""

    sheet: Path
    film: Path | None
    each: Path | None


def prompts(given: Sequence[str], file: Path | None) -> tuple[str, ...]:
    """The prompts of the command line, then those of ``file``, one a line; UserError when it cannot be read."""
    if file is None:
        return tuple(given)
    try:
        if file.stat().st_size > MOST_BYTES:
            raise UserError(f"{file}: {file.stat().st_size:,} bytes; a file of prompts has {MOST_BYTES:,} at most")
        listed = [line.strip() for line in file.read_text("utf-8").splitlines()]
    except OSError as error:
        raise UserError(
            f"{file}: cannot be read ({error.strerror}): --prompt-file is a file with a prompt a line"
        ) from None
    except UnicodeDecodeError as error:
        raise UserError(f"{file}: not UTF-8 text ({error.reason} at byte {error.start})") from None
    found = (*given, *filter(None, listed))
    if not found:
        raise UserError(f"{file}: holds no prompt: write one a line")
    return found


@contextlib.contextmanager
def model_folder(state: State, model: str) -> Iterator[tuple[Path, str | None]]:
    """The folder of ``models:/NAME@ALIAS``, ``models:/NAME/NUMBER`` or a path, while the body runs.

    The second value is ``NAME/VERSION``, None for a path.
    """
    if not model.startswith("models:"):
        if not Path(model).is_dir():
            raise UserError(f"{model}: no such folder; a registered model is models:/NAME@ALIAS")
        yield Path(model), None
        return
    found = reference.parse(model)
    if not found:
        raise UserError(f"{model}: not a model's name: wanted models:/NAME@ALIAS or models:/NAME/VERSION")
    from flows.registry.mlflow import Tracker
    from flows.registry.versions import Versions

    versions = Versions(Tracker(state, os.environ["MLFLOW_TRACKING_URI"]), found[0])
    version = versions.resolve(found[1])
    with versions.folder(version) as folder:
        yield folder, f"{versions.name}/{version.version}"


def sample(state: State, request: Request, outputs: Outputs, *, dry_run: bool) -> None:
    """Write ``request.num`` pictures to ``outputs``, eight in a row, and print which labels they show."""
    for path in (outputs.sheet, outputs.film, outputs.each):
        if path is not None and not path.parent.is_dir():
            raise UserError(f"{path.parent}: no such folder: make it, or give another --out, --film or --each")
    with stoppable(), model_folder(state, request.model) as (folder, name):
        import torch

        from components.model import sampling

        denoiser = sampling.load(folder, "cuda" if torch.cuda.is_available() else "cpu", request.engine)
        wishes = {
            key: getattr(request, key) for key in ("sampler", "steps", "guidance", "autoguidance", "spacing", "eta")
        }
        planned, shape = sampling.plan(denoiser, **wishes), _shape(denoiser, request.size)
        told = _told(denoiser, folder, request, planned)
        given = begin.given(request.start, denoiser, shape, request.num)
        sigmas = given.levels(planned.sigmas) if given else planned.sigmas
        # Who says what to draw in words alone wants no label beside it.
        names = request.labels or (() if request.prompts else denoiser.classes)
        kinds = [denoiser.class_id(each) for each in names] or [-1]
        class_ids = [kinds[at % len(kinds)] for at in range(request.num)]
        said = [*names[: request.num], *(f"'{prompt}'" for prompt in request.prompts[: request.num])]
        shown = ", then ".join(map(printable, said)) or "no labels"
        origin = _provenance(denoiser, planned, name, folder, request)
        if dry_run:
            _print_plan(denoiser, dataclasses.replace(planned, sigmas=sigmas), shape, request, outputs, shown)
            return
        with events.Progress(request.num * len(sigmas), what="sample", unit="picture steps") as progress:
            pictures = sampling.sample(
                denoiser, class_ids, seed=request.seed, progress=progress.advance, shape=shape, given=given, **told,
                **wishes,
            )  # fmt: skip
        _write(pictures, class_ids, denoiser, request, outputs, origin)
        if outputs.film:
            some = {"given": given and given.of(range(min(FILM_PICTURES, request.num))), **_some(told)}
            _film(denoiser, class_ids, request, outputs.film, origin, {**wishes, "shape": shape, **some})
    print(f"{outputs.sheet}: {request.num} pictures, in turn {shown}")


def _told(denoiser: Denoiser, folder: Path, request: Request, planned: Plan) -> dict[str, Any]:
    """What prompts say, picture by picture, and what to lead away from; UserError for what cannot be told."""
    if not request.prompts and request.negative is None:
        return {}
    from components.diffusion import conditions
    from components.model import prompts

    if request.negative is not None and planned.guidance == 1:
        raise UserError("--negative: guidance 1 leads nowhere, so not away from it either: give --guidance 3")
    if request.negative is not None and not request.prompts:
        raise UserError("--negative: nothing is said that it could be led away towards: give --prompt too")
    words = [*request.prompts, *([] if request.negative is None else [request.negative])]
    found = prompts.said(folder, denoiser.text, words)
    count = len(request.prompts)
    told = {"text": conditions.rows(found, [at % count for at in range(request.num)])}
    return told if request.negative is None else {**told, "negative": conditions.rows(found, slice(-1, None))}


def _some(told: dict[str, Any]) -> dict[str, Any]:
    """``told`` of the pictures of a film."""
    from components.diffusion import conditions

    some = slice(0, FILM_PICTURES)
    return {name: conditions.rows(value, some) if name == "text" else value for name, value in told.items()}


def _shape(denoiser: Denoiser, size: str | None) -> tuple[int, ...]:
    """The shape (C, H, W) to draw for ``size``; says so where the model was not trained on it.  UserError."""
    own = denoiser.pictures.shape
    if size is None:
        return own
    found = re.fullmatch(r"([0-9]{1,4})x([0-9]{1,4})", size)
    if not found or not int(found[1]) or not int(found[2]):
        raise UserError(f"--size {size}: wanted width x height in pixels, such as {own[2]}x{own[1]}")
    shape = (own[0], int(found[2]), int(found[1]))
    known = denoiser.shapes or (own,)
    if not denoiser.takes(shape):
        wanted = f"multiples of {denoiser.multiple} pixels"
        if denoiser.multiple is None:
            wanted = f"{own[2]}x{own[1]} only" + (", as ONNX (try --engine torch)" if denoiser.engine == "onnx" else "")
        raise UserError(f"--size {size}: this model's network draws {wanted}")
    if shape not in known:
        sizes = ", ".join(f"{width}x{height}" for _, height, width in known)
        exits.note(f"--size {size}: the model was trained on {sizes}; other sizes may look repeated or cut")
    return shape


def _provenance(
    denoiser: Denoiser, planned: Plan, name: str | None, folder: Path, request: Request
) -> dict[str, Any]:  # fmt: skip
    """What made the pictures, without time or path; ``weights`` is the SHA-256 of the network's file."""
    from components.networks import registry

    told = {"negative": request.negative} if request.negative is not None else {}
    return {
        **told, **request.start.note(), "model": name,
        "weights": files.sha256(registry.folder(folder) / registry.WEIGHTS),
        "seed": request.seed,
        "sampler": planned.sampler, "steps": len(planned.sigmas), "levels": request.spacing or "the model's",
        "eta": planned.eta, "guidance": planned.guidance, "autoguidance": planned.autoguidance,
        "engine": denoiser.engine,
    }  # fmt: skip


def _print_plan(
    denoiser: Denoiser, planned: Plan, shape: tuple[int, ...], request: Request, outputs: Outputs, shown: str
) -> None:  # fmt: skip
    """Print what would be drawn."""
    from components.diffusion.samplers import SAMPLERS

    times = request.start.times
    calls = (len(planned.sigmas) - 1) * (times if times > 1 else SAMPLERS[planned.sampler].calls) + 1
    _, height, width = shape
    print(f"would draw {request.num} pictures of {width} x {height} pixels, in turn {shown}")
    if request.start.pictures:
        part = f", where {request.start.mask} is white" if request.start.mask else ""
        print(f"from {', then '.join(map(str, request.start.pictures))}{part}")
    sampler = planned.sampler if times == 1 else f"euler, {times} times each"
    print(f"by {sampler}, {len(planned.sigmas)} steps from sigma {planned.sigmas[0]:.4g} to "
          f"{planned.sigmas[-1]:.4g}, guidance {planned.guidance:g}, autoguidance {planned.autoguidance:g}, seed "
          f"{request.seed}: {calls} calls of the denoiser each, by {denoiser.engine}")  # fmt: skip
    for path in (outputs.sheet, outputs.film, outputs.each):
        if path is not None:
            print(f"into {path}")


def _write(
    pictures: Tensor, class_ids: list[int], denoiser: Denoiser, request: Request, outputs: Outputs,
    origin: dict[str, Any],
) -> None:  # fmt: skip
    from components.model import grid

    labels = [denoiser.classes[at] if at >= 0 else None for at in class_ids]
    words = [request.prompts[at % len(request.prompts)] for at in range(request.num)] if request.prompts else None
    all_of_it = {**origin, "labels": labels, **({"prompts": words} if words else {})}
    text = {"Stillroom": json.dumps(all_of_it), **_source(request)}
    grid.write(outputs.sheet, pictures, columns=min(COLUMNS, request.num), scale=request.scale, text=text)
    if not outputs.each:
        return
    outputs.each.mkdir(exist_ok=True)
    for number, (picture, label) in enumerate(zip(pictures, labels, strict=True)):
        own = {**origin, "number": number, "label": label, **({"prompt": words[number]} if words else {})}
        text = {"Stillroom": json.dumps(own), **_source(request)}
        path = outputs.each / f"seed{request.seed}-{number:05d}.png"
        grid.write(path, picture[None], columns=1, scale=request.scale, text=text)
    print(f"{outputs.each}: {request.num} pictures")


def _film(
    denoiser: Denoiser, class_ids: list[int], request: Request, path: Path, origin: dict[str, Any],
    wishes: dict[str, Any],
) -> None:  # fmt: skip
    """Write the first pictures at up to eight steps of sampling, a row each: the denoiser's output at that step."""
    from components.model import grid, sampling

    some = class_ids[:FILM_PICTURES]
    frames, sigmas = sampling.film(denoiser, some, seed=request.seed, frames=FILM_FRAMES, **wishes)
    text = {"Stillroom": json.dumps({**origin, "sigmas": [round(at, 4) for at in sigmas]}), **_source(request)}
    grid.write(path, frames.flatten(0, 1), columns=len(sigmas), scale=request.scale, text=text)
    print(f"{path}: {len(some)} pictures at noise levels sigma {', '.join(f'{sigma:.3g}' for sigma in sigmas)}")


def _source(request: Request) -> dict[str, str]:
    from components.model import grid

    return grid.CHANGED_BY_A_MODEL if request.start.pictures else grid.MADE_BY_A_MODEL
