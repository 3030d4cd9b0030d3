"""What a mirror of registered versions is, in a folder or in a store: its table, and one model's entry in it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from components.base import files
from components.base.errors import UserError
from consume import pull
from flows.registry.sign import Signer

TABLE = "registry.json"


class Release:
    """What the mirror at ``place`` holds of model ``name``, by its ``entry`` in the table, and what comes to it."""

    def __init__(self, name: str, entry: Mapping[str, Any], place: object) -> None:
        self.name, self.place = name, place
        self.held: dict[str, str] = dict(entry.get("versions", {}))
        self.found = dict(self.held)
        self._signatures: dict[str, str] = dict(entry.get("signatures", {}))

    def add(self, number: int, digest: str, signature: str) -> None:
        """Name version ``number``; UserError when that number is another version's."""
        if self.held.get(str(number)) not in (None, digest):
            raise UserError(
                f"{self.name} version {number}: {self.place} holds another version under that number: give a new folder"
            )
        self.found[str(number)] = digest
        self._signatures |= {str(number): signature} if signature else {}

    def entry(self, aliases: Mapping[str, int], signer: Signer | None) -> dict[str, Any]:
        """What the table says then; signatures are those of ``signer``, or those that the registry has."""
        signatures = self._signatures
        if signer:
            signatures = {number: signer(self.name, int(number), digest) for number, digest in self.found.items()}
        return {"aliases": dict(sorted(aliases.items())), "versions": self.found,
                **({"signatures": signatures} if signatures else {})}  # fmt: skip

    def said(self, aliases: Mapping[str, int]) -> str:
        """What it holds then, in one line."""
        named = "; ".join(f"{self.name}@{alias} is version {number}" for alias, number in sorted(aliases.items()))
        numbers = ", ".join(sorted(self.found, key=int))
        return f"{self.place}: {named or 'no alias'}; versions {numbers}, every file checked"


def wanted(name: str, aliases: Mapping[str, int], numbers: Iterable[int]) -> set[int]:
    """The versions to release; UserError when there is none."""
    found = {*aliases.values(), *numbers}
    if not found:
        raise UserError(f"{name}: no alias points to a version: name one with --version")
    return found


def copy(registry: pull.Server | pull.Mirror, name: str, number: int, mirror: pull.Mirror) -> tuple[str, str]:
    """Have ``mirror`` hold version ``number`` whole; the SHA-256 of its manifest (its folder's name), its signature."""
    _, digest, root, signature = registry.resolve(name, "", number)
    if not re.fullmatch("[0-9a-f]{64}", digest):  # it becomes a folder's name
        raise pull.PullError(f"no SHA-256 in its tag {pull.TAG}, but {digest!r}")
    if not whole(mirror, digest):
        with files.replacing_folder(mirror.location / "versions" / digest) as beside:
            pull.copy(registry, root, digest, beside)
    return digest, signature


def whole(mirror: pull.Mirror, digest: str) -> bool:
    """Whether ``mirror`` has every file of the version whose manifest has the SHA-256 ``digest``."""
    try:
        pull.copy(mirror, f"versions/{digest}", digest)
    except (pull.PullError, *pull.MISTAKES):
        return False
    return True


def models(table: object, place: object) -> dict[str, Any]:
    """The models of a mirror's ``table``, which lies at ``place``; UserError when it is something else."""
    if not isinstance(table, dict) or table.get("format") != 1 or not isinstance(table.get("models"), dict):
        raise UserError(f"{place}: not a mirror of format 1: give another folder")
    return table["models"]


def text(models: Mapping[str, Any]) -> str:
    """The text of a table with ``models``."""
    return json.dumps({"format": 1, "models": models}, indent=1, sort_keys=True) + "\n"
