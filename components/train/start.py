"""Where a training starts: from nothing, or from the network of a model that was there before.

``data/start.json`` is null, or names the model and each of its files with its SHA-256; the files lie beside it in
``data/start/``.  So the stage reads files only: `stillroom start` writes both, whatever place the model is in.
"""

from __future__ import annotations

import json
import logging
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.base import files
from components.base.errors import UserError
from components.diffusion.schedule import SIGMAS
from components.model import schedulers
from components.networks import registry
from components.samples import latents

if TYPE_CHECKING:
    from torch import nn

    from components.diffusion.objective import Objective
    from components.samples.pack import Header

NETWORKS = ("unet", "transformer")
"""Folders in which a pipeline of diffusers keeps the network that denoises."""

CONFIG, WEIGHTS = "config.json", registry.WEIGHTS
SCHEDULER, NOTES = "scheduler/scheduler_config.json", "stillroom.json"
_KNOWN = {SCHEDULER, NOTES, *(f"{name}/{file}" for name in NETWORKS for file in (CONFIG, WEIGHTS))}
_MOST = 1 << 20  # bytes of a JSON file
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Start:
    """A network to begin with, and what it was trained for; ``classes`` is None where nobody noted their names."""

    model: str
    network: nn.Module
    objective: Objective
    classes: tuple[str, ...] | None


def take(model: str, source: Path, page: Path) -> Start:
    """Copy the network of pipeline folder ``source`` beside ``page`` (data/start.json) and name it there ``model``."""
    names = sorted(name for name in _KNOWN if (source / name).is_file())
    read(model, source)
    with files.replacing_folder(page.with_suffix("")) as folder:
        for name in names:
            (folder / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(source / name, folder / name)
        listed = {
            name: {"bytes": (folder / name).stat().st_size, "sha256": files.sha256(folder / name)} for name in names
        }
        found = read(model, folder)
    _write(page, {"format": 1, "model": model, "files": listed})
    return found


def clear(page: Path) -> None:
    """Start from nothing again."""
    _write(page, None)
    shutil.rmtree(page.with_suffix(""), ignore_errors=True)


def noted(page: Path | None) -> dict[str, Any] | None:
    """What ``page`` says, None when training starts from nothing; UserError when it is not what :func:`take` wrote."""
    content = None if page is None else _json(page)
    if content is None:
        return None
    listed = content.get("files")
    if not isinstance(content.get("model"), str) or not isinstance(listed, dict) or not set(listed) <= _KNOWN:
        raise UserError(f"{page}: not what `stillroom start` writes: run it again")
    return content


def network(page: Path | None, built: nn.Module, objective: Objective, header: Header) -> nn.Module:
    """The network to train: ``built``, fresh, or that of ``page``, which must do the same job as it."""
    content = noted(page)
    if page is None or content is None:
        return built
    folder = page.with_suffix("")
    for name, wanted in sorted(content["files"].items()):
        path = folder / name
        if not path.is_file() or files.sha256(path) != wanted.get("sha256"):
            raise UserError(f"{path}: missing, or not what {page.name} says: `dvc checkout`, `dvc pull`, or run "
                            f"`stillroom start {content['model']}` again")  # fmt: skip
    # Of a network without memory, of one rank of several that share the weights, the shapes are enough.
    found = read(content["model"], folder, weights=not next(built.parameters()).is_meta)
    _check(found, built, objective, header)
    return found.network


def guide(page: Path | None) -> nn.Module | None:
    """The guide that was put beside the network of ``page``, if one was (:mod:`components.distil.student`)."""
    folder = page and page.with_suffix("") / registry.GUIDE
    return registry.load(registry.folder(folder) / CONFIG) if folder and folder.is_dir() else None


def objective(page: Path | None, own: Objective) -> Objective:
    """``own``, that of the parameters and the data; for a score or EDM network that training starts from, as it was.

    Such a network knows the noise levels between the ends that its scheduler has, and an EDM one has the sigma_data
    that it was preconditioned with.
    """
    if page is None or noted(page) is None:
        return own
    theirs = schedulers.derived(_json(page.with_suffix("") / SCHEDULER) or {})
    if (theirs.kind, theirs.schedule.name) != (own.kind, own.schedule.name) or theirs.schedule.ends is None:
        return own
    data = theirs.sigma_data if theirs.kind == "edm" else own.sigma_data
    return replace(own, schedule=theirs.schedule, sigma_data=data)


def check_space(page: Path | None, data: latents.Autoencoder | None) -> None:
    """UserError unless the network of ``page`` was trained on what the data are: pictures, or latents of ``data``."""
    content = noted(page)
    if page is None or content is None or NOTES not in content["files"]:
        return
    came = latents.of_notes(_json(page.with_suffix("") / NOTES) or {})
    if came != (wanted := data.sha256 if data else None):
        raise UserError(
            f"start {content['model']}: trained on {latents.words(came)}, the data are {latents.words(wanted)}: "
            "change train.space or encode.latents, or start from another model, or with `stillroom start none`"
        )


def say_levels(page: Path | None, objective: Objective) -> None:
    """Log the ends of the noise levels where they are those of the start, and warn when x0 errors lie beyond them."""
    content, ends = noted(page), objective.schedule.own_ends
    if content is None or ends is None:
        return
    _log.info("start %s: trained and sampled at its own noise levels, %g to %g", content["model"], *ends)
    if ends[0] > SIGMAS[0] or ends[1] < SIGMAS[-1]:
        _log.warning("start %s: x0 errors are measured at %g to %g, which its noise levels, %g to %g, do not hold",
                     content["model"], SIGMAS[0], SIGMAS[-1], *ends)  # fmt: skip


def read(model: str, folder: Path, *, weights: bool = True) -> Start:
    """The network in pipeline folder ``folder`` and its objective; UserError when it is none that can be trained on.

    Without ``weights`` those are left as they come.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    kept = next((folder / name for name in NETWORKS if (folder / name / CONFIG).is_file()), None)
    if kept is None:
        raise UserError(f"{model}: no {' or '.join(f'{name}/{CONFIG}' for name in NETWORKS)} in it: not a pipeline of "
                        "diffusers that can be trained on")  # fmt: skip
    if not (kept / WEIGHTS).is_file():
        raise UserError(f"{model}: no {kept.name}/{WEIGHTS} in it (pickled weights are not read): save it again with "
                        "safe_serialization")  # fmt: skip
    scheduler = _json(folder / SCHEDULER) or {}
    try:
        objective = schedulers.derived(scheduler)
    except (TypeError, ValueError) as error:
        raise UserError(f"{model}: its scheduler has {error}, which cannot be trained here") from None
    notes = _json(folder / NOTES) if (folder / NOTES).is_file() else None
    try:
        found = registry.read(_json(kept / CONFIG) or {})
        if weights:
            found.load_state_dict(load_file(kept / WEIGHTS))
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{model}: its network cannot be read ({first})") from None
    classes = None if notes is None else tuple(map(str, notes.get("classes") or ()))
    return Start(model=model, network=found, objective=objective, classes=classes)


def _check(found: Start, built: nn.Module, objective: Objective, header: Header) -> None:
    """UserError unless ``found`` does the job of ``built``: widths and depths are its own."""
    rows = (
        ("network", type(found.network).__name__, type(built).__name__, "train.network"),
        ("objective", _objective(found.objective), _objective(objective), "train.objective and train.schedule"),
        ("side in pixels", _size(found.network), _size(built), "resize.side"),
        ("channels", registry.sample_shape(found.network)[0], registry.sample_shape(built)[0], "the data"),
        ("labels", registry.labels(found.network) or None, registry.labels(built) or None, "the data's classes"),
        (
            "numbers of a caption",
            registry.text_width(found.network) or None,
            registry.text_width(built) or None,
            "train.conditions and encode.text",
        ),
        (
            "tokens of a caption",
            registry.text_tokens(found.network) or None,
            registry.text_tokens(built) or None,
            "encode.text.tokens",
        ),
        ("classes", found.classes, found.classes and tuple(header.classes), "the data"),
    )
    for what, came, wanted, where in rows:
        if came != wanted:
            raise UserError(
                f"start {found.model}: {what}: it has {_shown(came)}, wanted {_shown(wanted)} ({where}): change that, "
                "start from another model, or from nothing with `stillroom start none`"
            )


def _size(network: nn.Module) -> int | list[int]:
    """The side of the squares that it takes, or height and width."""
    _, *sides = registry.sample_shape(network)
    return sides[0] if len(set(sides)) == 1 else sides


def _objective(objective: Objective) -> str:
    return f"{objective.kind} on {objective.schedule.name}"


def _shown(value: object) -> str:
    return (", ".join(map(str, value)) or "none") if isinstance(value, (tuple, list)) else str(value).replace(
        "None", "none"
    )  # fmt: skip


def _json(path: Path) -> dict[str, Any] | None:
    advice = "`git checkout data/start.json` brings that file back, `stillroom start` the rest"
    found = files.read_json(path, advice, most=_MOST)
    if found is not None and not isinstance(found, dict):
        raise UserError(f"{path}: holds {type(found).__name__}, wanted an object: {advice}")
    return found


def _write(page: Path, content: object) -> None:
    files.write_text(page, json.dumps(content, indent=1, sort_keys=True) + "\n")
