"""`stillroom release`: a mirror with registered versions that consume/pull.py reads like a server, without one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from components.base import files
from components.base.errors import UserError
from consume import pull
from flows.model import bucket, mirror
from flows.registry import sign, source
from flows.registry.publish import register_params
from flows.registry.sign import Signer
from flows.workspace import lock
from flows.workspace.paths import State
from flows.workspace.processes import stoppable


def release(state: State, to: Path | str, numbers: Iterable[int], *, dry_run: bool, say: Callable[[str], None]) -> str:
    """Bring the mirror in ``to`` up to date: every aliased version, and ``numbers``; returns what it holds then.

    ``to`` is a folder, or as text an address such as s3://bucket/prefix.
    """
    if isinstance(to, Path) and not to.parent.is_dir():
        raise UserError(f"{to.parent}: no such folder: make it, or give another")
    params = register_params(state.root)
    name, signer = params.name, sign.signer(state.root, params, say=say)
    with stoppable(), source.explained():
        registry = source.registry(state, None)
        aliases = source.aliases(registry, name)
        wanted = sorted(mirror.wanted(name, aliases, numbers))
        for number in wanted:
            _, digest, _, _ = registry.resolve(name, "", number)
            source.check(state, registry, name, number, digest, "released")
        if dry_run:
            return f"would release {name} versions {', '.join(map(str, wanted))} into {to}"
        if isinstance(to, str):
            return bucket.write(registry, name, aliases, wanted, to, signer=signer)
        to.mkdir(exist_ok=True)
        with lock.held(to.with_name(f".{to.name}.lock"), what="stillroom release", wait=True, say=say):
            return write(registry, name, aliases, wanted, to, signer=signer)


def write(
    registry: pull.Server | pull.Mirror, name: str, aliases: Mapping[str, int], numbers: Iterable[int], to: Path,
    *, signer: Signer | None = None,
) -> str:  # fmt: skip
    """Write the aliased versions and ``numbers`` of model ``name`` into mirror ``to``; returns what it holds then.

    The table that names them is replaced last, so whoever pulls meanwhile gets what it named before. A version that
    the mirror holds already stays, under the same number with the same files.  Signatures are those of ``signer``, or
    those that the registry has.
    """
    table, models = to / mirror.TABLE, _models(to)
    files.sweep(to)
    if (to / "versions").is_dir():
        files.sweep(to / "versions")
    made, there = mirror.Release(name, models.get(name, {}), to), pull.Mirror(to)
    wanted = mirror.wanted(name, aliases, numbers)
    for number in sorted(wanted | {int(each) for each in made.held}):
        if number not in wanted and mirror.whole(there, made.held[str(number)]):
            continue  # released before; the registry need not have it any more
        try:
            digest, signature = mirror.copy(registry, name, number, there)
        except (pull.PullError, *pull.MISTAKES) as error:
            raise UserError(f"{name} version {number}: not released, and {table} is as it was: {error}") from error
        made.add(number, digest, signature)
    models[name] = made.entry(aliases, signer)
    text = mirror.text(models)
    if not table.is_file() or table.read_text("utf-8") != text:
        files.write_text(table, text)
    return made.said(aliases)


def _models(to: Path) -> dict[str, Any]:
    """The models of the mirror in ``to``; UserError when the folder is something else."""
    if (to / mirror.TABLE).is_file():
        table = files.read_json(to / mirror.TABLE, "not a mirror that Stillroom wrote: give another folder")
        return mirror.models(table, to / mirror.TABLE)
    others = [each.name for each in to.iterdir() if each.name != "versions"]
    if others:
        raise UserError(f"{to}: holds {sorted(others)[0]} and no {mirror.TABLE}: give a new or empty folder")
    return {}
