"""`stillroom pull`: a registered version in a folder of its own, every byte checked."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from pathlib import Path

from components.base.errors import UserError
from consume import pull as puller
from consume import signed
from flows.registry import source
from flows.workspace.paths import State
from flows.workspace.processes import stoppable

Check = Callable[[bytes, str], bool]


def pull(
    state: State, model: str, to: Path, *, pin: int | None, uri: str | None, key: str | None, dry_run: bool
) -> str:
    """Have folder ``to`` hold a version, by the code of consume/pull.py; returns in one line what was done.

    With ``key``, a public key or its file, only a version that its owner signed.
    """
    found = re.fullmatch(r"(?:models:/)?([^/@]+)(?:[@/](\d+)|@([^/@]+))?", model)
    if not found or (pin is None and not found[2] and not found[3]):
        raise UserError(f"{model}: not a version's name: wanted NAME@ALIAS, or NAME with --pin NUMBER")
    if not to.parent.is_dir():
        raise UserError(f"{to.parent}: no such folder: make it, or give another --to")
    if pin is None and found[2]:
        pin = int(found[2])
    check = _checker(key) if key else None
    registry = source.registry(state, uri)
    with stoppable(), source.explained():
        number, digest, _, _ = registry.resolve(found[1], found[3] or "", pin)
        if uri is None:  # another registry may well have a model of the same name
            source.check(state, registry, found[1], number, digest, "pulled")
        if dry_run:
            return _plan(registry, found[1], "", to, number, check)
        return puller.pull(registry, found[1], "", to, number, check)


def _checker(key: str) -> Check:
    path = Path(key)
    line = path.read_text("utf-8", "replace") if not key.startswith("ssh-") and path.is_file() else key
    try:
        return signed.checker(line)
    except ValueError as error:
        raise UserError(f"--key: {error}, or a file that holds it") from None


def _plan(
    registry: puller.Server | puller.Mirror, name: str, alias: str, to: Path, pin: int | None, check: Check | None
) -> str:
    """What `pull` would do, from the manifest alone; the folder is hashed, nothing is written."""
    number, digest, root, signature = registry.resolve(name, alias, pin)
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
