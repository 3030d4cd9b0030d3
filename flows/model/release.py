"""`stillroom release`: a folder with registered versions that consume/pull.py reads like a server, without one."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from components.base import files
from components.base.errors import UserError
from consume import pull
from flows.registry import sign, source
from flows.registry.publish import register_params
from flows.registry.sign import Signer
from flows.workspace import lock
from flows.workspace.paths import State
from flows.workspace.processes import stoppable

TABLE = "registry.json"


def release(state: State, to: Path, numbers: Iterable[int], *, dry_run: bool, say: Callable[[str], None]) -> str:
    """Bring the mirror in ``to`` up to date: every aliased version, and ``numbers``; returns what it holds then."""
    if not to.parent.is_dir():
        raise UserError(f"{to.parent}: no such folder: make it, or give another")
    params = register_params(state.root)
    name, signer = params.name, sign.signer(state.root, params, say=say)
    with stoppable(), source.explained():
        registry = source.registry(state, None)
        aliases = source.aliases(registry, name)
        numbers = list(numbers)
        for number in sorted({*aliases.values(), *numbers}):
            _, digest, _, _ = registry.resolve(name, "", number)
            source.check(state, registry, name, number, digest, "released")
        if dry_run:
            wanted = sorted({*aliases.values(), *numbers})
            return f"would release {name} versions {', '.join(map(str, wanted))} into {to}"
        to.mkdir(exist_ok=True)
        with lock.held(to.with_name(f".{to.name}.lock"), what="stillroom release", wait=True, say=say):
            return write(registry, name, aliases, numbers, to, signer=signer)


def write(
    registry: pull.Server | pull.Mirror, name: str, aliases: Mapping[str, int], numbers: Iterable[int], to: Path,
    *, signer: Signer | None = None,
) -> str:  # fmt: skip
    """Write the aliased versions and ``numbers`` of model ``name`` into mirror ``to``; returns what it holds then.

    The table that names them is replaced last, so whoever pulls meanwhile gets what it named before. A version that
    the mirror holds already stays, under the same number with the same files.  Signatures are those of ``signer``, or
    those that the registry has.
    """
    models = _models(to)
    files.sweep(to)
    if (to / "versions").is_dir():
        files.sweep(to / "versions")
    held: dict[str, str] = models.get(name, {}).get("versions", {})
    signatures: dict[str, str] = dict(models.get(name, {}).get("signatures", {}))
    wanted = {*aliases.values(), *numbers}
    if not wanted:
        raise UserError(f"{name}: no alias points to a version: name one with --version")
    found, mirror = dict(held), pull.Mirror(to)
    for number in sorted(wanted | {int(each) for each in held}):
        if number not in wanted and _whole(mirror, held[str(number)]):
            continue  # released before; the registry need not have it any more
        try:
            found[str(number)], signature = _copy(registry, name, number, mirror)
            signatures |= {str(number): signature} if signature else {}
        except (pull.PullError, *pull.MISTAKES) as error:
            raise UserError(f"{name} version {number}: not released, and {to / TABLE} is as it was: {error}") from error
        if held.get(str(number)) not in (None, found[str(number)]):
            raise UserError(f"{name} version {number}: {to} holds another version under that number: give a new folder")
    if signer:
        signatures = {number: signer(name, int(number), digest) for number, digest in found.items()}
    models[name] = {"aliases": dict(sorted(aliases.items())), "versions": found,
                    **({"signatures": signatures} if signatures else {})}  # fmt: skip
    text = json.dumps({"format": 1, "models": models}, indent=1, sort_keys=True) + "\n"
    if not (to / TABLE).is_file() or (to / TABLE).read_text("utf-8") != text:
        files.write_text(to / TABLE, text)
    named = "; ".join(f"{name}@{alias} is version {number}" for alias, number in sorted(aliases.items()))
    return f"{to}: {named or 'no alias'}; versions {', '.join(sorted(found, key=int))}, every file checked"


def _copy(registry: pull.Server | pull.Mirror, name: str, number: int, mirror: pull.Mirror) -> tuple[str, str]:
    """Have ``mirror`` hold version ``number`` whole; the SHA-256 of its manifest (its folder's name), its signature."""
    _, digest, root, signature = registry.resolve(name, "", number)
    if not re.fullmatch("[0-9a-f]{64}", digest):  # it becomes a folder's name
        raise pull.PullError(f"no SHA-256 in its tag {pull.TAG}, but {digest!r}")
    if not _whole(mirror, digest):
        with files.replacing_folder(mirror.location / "versions" / digest) as beside:
            pull.copy(registry, root, digest, beside)
    return digest, signature


def _whole(mirror: pull.Mirror, digest: str) -> bool:
    try:
        pull.copy(mirror, f"versions/{digest}", digest)
    except (pull.PullError, *pull.MISTAKES):
        return False
    return True


def _models(to: Path) -> dict[str, Any]:
    """The models of the mirror in ``to``; UserError when the folder is something else."""
    if (to / TABLE).is_file():
        table = files.read_json_object(to / TABLE, "not a mirror that Stillroom wrote: give another folder")
        if table.get("format") != 1 or not isinstance(table.get("models"), dict):
            raise UserError(f"{to / TABLE}: not a mirror of format 1: give another folder")
        return table["models"]
    others = [each.name for each in to.iterdir() if each.name != "versions"]
    if others:
        raise UserError(f"{to}: holds {sorted(others)[0]} and no {TABLE}: give a new or empty folder")
    return {}
