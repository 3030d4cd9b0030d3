"""`stillroom pull`: a registered version in a folder of its own, every byte checked."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from pathlib import Path

from components.base.errors import UserError
from consume import pull as puller
from consume import signed
from flows.registry import reference, source
from flows.workspace.paths import State
from flows.workspace.processes import stoppable

Check = Callable[[bytes, str], bool]


def pull(
    state: State, model: str, to: Path, *, pin: int | None, uri: str | None, key: str | None, dry_run: bool
) -> str:
    """Have folder ``to`` hold a version, by the code of consume/pull.py; returns in one line what was done.

    With ``key``, a public key or its file, only a version that its owner signed.
    """
    name = model.removeprefix("models:/")
    found = reference.parse(model) or ((name, "") if pin is not None and re.fullmatch("[^/@:]+", name) else None)
    if not found:
        raise UserError(f"{model}: not a version's name: wanted NAME@ALIAS, or NAME with --pin NUMBER")
    if not to.parent.is_dir():
        raise UserError(f"{to.parent}: no such folder: make it, or give another --to")
    name, where = found
    if pin is None and where.startswith("/"):
        pin = int(where[1:])
    check = _checker(key) if key else None
    registry = source.registry(state, uri)
    with stoppable(), source.explained():
        number, digest, _, _ = registry.resolve(name, where.removeprefix("@"), pin)
        if uri is None:  # another registry may well have a model of the same name
            source.check(state, registry, name, number, digest, "pulled")
        if dry_run:
            return _plan(registry, name, number, to, check)
        return puller.pull(registry, name, "", to, number, check)


def _checker(key: str) -> Check:
    path = Path(key)
    line = path.read_text("utf-8", "replace") if not key.startswith("ssh-") and path.is_file() else key
    try:
        return signed.checker(line)
    except ValueError as error:
        raise UserError(f"--key: {error}, or a file that holds it") from None


def _plan(registry: puller.Server | puller.Mirror, name: str, number: int, to: Path, check: Check | None) -> str:
    """What `pull` would do, from the manifest alone; the folder is hashed, nothing is written."""
    _, digest, root, signature = registry.resolve(name, "", number)
    if check and not check(signed.statement(name, number, digest), signature):
        raise UserError(f"{name} version {number}: {'false signature' if signature else 'not signed'}")
    try:
        puller.copy(puller.Mirror(to), ".", digest)
        return f"{to}: {name} version {number} is there and whole: would do nothing"
    except (puller.PullError, OSError, ValueError):
        with registry.open(f"{root}/{puller.MANIFEST}") as stream:
            text = stream.read(puller.MOST)
    if hashlib.sha256(text).hexdigest() != digest:
        raise UserError(f"{puller.MANIFEST} of {name} version {number}: its SHA-256 is not the registered one")
    listed, _ = puller.files(text)
    size = sum(entry["bytes"] for entry in listed.values())
    return f"would pull {name} version {number}, {len(listed)} files, {size:,} bytes, into {to}"
