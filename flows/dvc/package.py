"""A project beside the installed package: what of it is rendered from the package, and what that package is.

A checkout of Stillroom has the code of its stages; a project (`stillroom init`) has parameters and data alone.  Its
dvc.yaml and its ``algorithms/NAME.json`` (components/base/versions.py) say what the installed package is, so that
another version of it makes stale what it makes otherwise, and nothing else.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from components.base import files, imports, versions
from components.pipeline import PIPELINE, STATE
from flows.dvc import dvcyaml

NAME = "stillroom"
"""Of the distribution, as pip knows it."""
is_project = versions.is_project
RECORDS = {"data/withdrawn.jsonl": "", "data/decisions.jsonl": "", "data/start.json": "null\n"}
"""What stages read and commands write, tracked in git: as it is before the first of these commands."""


def rendered(root: Path) -> dict[str, str]:
    """What the project ``root`` has of the installed package, text by path.

    These are dvc.yaml, the schema of params.yaml, and a record for each stage.

    Rendering reads all of the code, a second's work; so it is kept below ``.stillroom``, under a hash of that code.
    """
    memory, key = root / STATE / "package.json", _code()
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):  # a lost memory costs time, nothing else
        held = json.loads(memory.read_text("utf-8"))
        if held["code"] == key:
            return {str(path): str(text) for path, text in held["files"].items()}
    found = render()
    if memory.parent.is_dir():
        with contextlib.suppress(OSError):
            files.write_text(memory, json.dumps({"code": key, "files": found}))
    return found


def render() -> dict[str, str]:
    """The same for a project that is not there yet."""
    from flows.dvc import schema  # the models of all parameters, which few commands need

    records = {versions.path(stage.name): stage.record for stage in PIPELINE}
    return {"dvc.yaml": dvcyaml.render(package=version()), "params.schema.json": schema.render(), **records}


def current(root: Path) -> bool:
    """Whether a project is as the installed package has it, so that `refresh` writes nothing; yes in a checkout."""
    if not is_project(root):
        return True
    wanted = rendered(root)
    kept = {f"{versions.FOLDER}/{each.name}" for each in (root / versions.FOLDER).glob("*.json")}
    return all(_text(root / path) == text for path, text in wanted.items()) and kept <= wanted.keys()


def refresh(root: Path, say: Callable[[str], None]) -> None:
    """Write what is not as the installed package has it, in a project; nothing happens in a checkout.

    Under the checkout's lock, before the snapshot is taken.  ``say`` gets a line when another package was here before.
    """
    if not is_project(root):
        return
    wanted = rendered(root)
    other = [path for path, text in wanted.items() if _text(root / path) != text]
    table = _text(root / "dvc.yaml") or ""
    for path, text in RECORDS.items():  # of one that this project has had, a loss is not to be hidden
        if path not in table and not (root / path).exists():
            files.write_text(root / path, text)
    for path in other:
        files.write_text(root / path, wanted[path])
    kept = (root / versions.FOLDER).glob("*.json")
    gone = [each for each in kept if f"{versions.FOLDER}/{each.name}" not in wanted]
    for each in gone:
        each.unlink()
    if other or gone:
        stages = [Path(path).stem for path in other if path.startswith(f"{versions.FOLDER}/")]
        changed = f": other code for {', '.join(stages)}" if stages else ""
        say(f"{NAME} {version()} is not the package that was here before{changed}; commit what changed "
            f"in {versions.FOLDER}/ and beside it")  # fmt: skip


def unlike(stages: Mapping[str, Any]) -> list[str]:
    """The stages of a dvc.lock that ran as the installed package would not run them; none of a checkout's are."""
    found = []
    for name, entry in stages.items():
        dep = next((dep for dep in entry.get("deps", ()) if dep["path"] == versions.path(name)), None)
        mine = next((stage.record for stage in PIPELINE if stage.name == name), None) if dep else None
        if dep and (mine is None or _md5(mine) != dep.get("md5")):
            found.append(name)
    return found


def of_project(stages: Mapping[str, Any]) -> bool:
    """Whether the stages of a dvc.lock ran in a project."""
    return any(dep["path"] == versions.path(name) for name, entry in stages.items() for dep in entry.get("deps", ()))


def version() -> str:
    """The version of the package that is installed; ``of a checkout`` where the code was never installed."""
    try:
        return metadata.version(NAME)
    except metadata.PackageNotFoundError:
        return "of a checkout"


def released() -> bool:
    """Whether the code that runs is that of an installed wheel, byte for byte: its version then says what it was."""
    try:
        listed = metadata.distribution(NAME).files or []
    except metadata.PackageNotFoundError:
        return False
    promised = {str(each): each.hash for each in listed if each.suffix == ".py"}
    for path in (path for top in ("components", "flows") for path in sorted((imports.ROOT / top).rglob("*.py"))):
        wanted = promised.get(path.relative_to(imports.ROOT).as_posix())
        if wanted is None or wanted.mode != "sha256" or wanted.value != _record_hash(path.read_bytes()):
            return False
    return True


def _record_hash(content: bytes) -> str:
    """As RECORD of an installed distribution has it (PEP 376)."""
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()


def _code() -> str:
    """A hash of the package's code."""
    digest = hashlib.sha256(version().encode())
    for path in sorted((imports.ROOT / "components").rglob("*.py")):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(imports.ROOT)}\0{len(content)}\0".encode() + content)
    # What renders dvc.yaml is code too, of which no stage knows.
    digest.update(Path(dvcyaml.__file__).read_bytes())
    return digest.hexdigest()


def _text(path: Path) -> str | None:
    try:
        return path.read_text("utf-8")
    except (FileNotFoundError, UnicodeDecodeError):
        return None


def _md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
