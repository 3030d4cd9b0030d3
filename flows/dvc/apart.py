"""One stage that another machine runs: what goes there and what comes back, by way of DVC's default remote.

Whatever came is compared byte by byte with the hash that it was asked for by: DVC takes a file for what it is called,
and others write to the remote.  All calls are made under the checkout's lock.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from components.base import files
from components.base.errors import UserError, brief
from components.pipeline import writer
from flows.dvc import engine, fetch, lockfile
from flows.dvc.shelf import RemoteGone, Shelf

_START = "data/start.json"


def is_stale(root: Path, stage: str) -> bool:
    """Whether ``stage`` has something to do."""
    with engine.loaded(root) as (_, load):
        return bool(load(stage).status())


def inputs(root: Path, stage: str) -> dict[str, Any]:
    """What ``stage`` would be run from now, as dvc.lock would say it: cmd, deps and params; all hashed."""
    with engine.loaded(root) as (_, load):
        return _entry(load(stage))


def send_inputs(root: Path, stage: str) -> None:
    """Copy the data that ``stage`` reads to the default remote; RemoteGone when that does not take it."""
    with engine.loaded(root) as (repo, load):
        _push(repo, list(_feeding(load(stage), load, repo, root)))


def fetch_inputs(root: Path, stage: str) -> None:
    """Put the data that ``stage`` reads in its place, from the cache or the default remote, each byte as hashed."""
    with engine.loaded(root) as (repo, load):
        for out in _feeding(load(stage), load, repo, root):
            _pull(repo, out)
            _checkout(out)


def changed_input(root: Path, stage: str) -> str:
    """The first file of the data that ``stage`` reads that is not what dvc.lock says; empty when all are."""
    with engine.loaded(root) as (repo, load):
        found = (_unlike(repo, out) for out in _feeding(load(stage), load, repo, root))
        return next(filter(None, found), "")


def send_outputs(root: Path, stage: str) -> dict[str, Any]:
    """Copy what ``stage`` wrote to the default remote; its entry in dvc.lock: cmd, deps, params and outs."""
    with engine.loaded(root) as (repo, load):
        loaded = load(stage)
        _push(repo, [out for out in loaded.outs if out.use_cache])
        return _recorded(loaded)


def adopt(root: Path, stage: str, outs: Mapping[str, str], texts: Mapping[str, str]) -> None:
    """Take over what another machine made of ``stage`` from the same inputs.

    ``outs`` are hashes by path, ``texts`` the files that git keeps and not DVC.  UserError, and dvc.lock stays as it
    was, when an output is missing or is not what its hash says.
    """
    with lockfile.written_whole(), engine.loaded(root) as (repo, load):
        _adopt(repo, root, load(stage), outs, texts)


def shelf(root: Path) -> Shelf:
    """The folder of this project in DVC's default remote; UserError where there is no remote."""
    with engine.opened(root) as repo:
        return Shelf(repo.cloud.get_remote())


def lend(root: Path, place: Path) -> None:
    """Have the worktree ``place`` work from the cache of ``root`` and with its remotes, whatever its commit says."""
    from dvc.config import Config

    with engine.opened(root) as repo:
        name = repo.config["core"].get("remote")
        own: dict[str, Any] = {"cache": {"dir": str(repo.cache.legacy.path)}}
        if name:
            own |= {"core": {"remote": name}, "remote": {name: dict(repo.config["remote"][name])}}
    with Config(dvc_dir=str(place / ".dvc"), validate=False).edit("local") as found:
        found.update(own)


def _entry(stage: Any) -> dict[str, Any]:
    """What dvc.lock would say now of what ``stage`` is run from: its command, inputs and parameters, hashed anew."""
    from dvc.stage.serialize import to_single_stage_lockfile

    stage.save_deps()
    found = to_single_stage_lockfile(stage)
    return {"cmd": found["cmd"], "deps": list(found.get("deps", [])), "params": _plain(found.get("params", {}))}


def _recorded(stage: Any) -> dict[str, Any]:
    """The same as dvc.lock says it, with the outputs: what ``stage`` was run from the last time."""
    from dvc.stage.serialize import to_single_stage_lockfile

    found = to_single_stage_lockfile(stage)
    return {**{name: _plain(found.get(name, {})) for name in ("cmd", "deps", "params")},
            "outs": _plain(found.get("outs", []))}  # fmt: skip


def _feeding(stage: Any, load: Any, repo: Any, root: Path) -> Iterator[Any]:
    """DVC's objects for the data that ``stage`` reads and that DVC keeps."""
    paths = [dep.def_path for dep in stage.deps]
    for path in paths:
        source = writer(path)
        if source is not None:
            yield from (out for out in load(source.name).outs if out.def_path == path)
    if _START in paths and (root / fetch.START).is_file():
        yield from repo.stage.load_one(str(root / fetch.START)).outs


def _push(repo: Any, outs: list[Any]) -> None:
    """Copy to the remote what it does not have of ``outs``; RemoteGone when it does not take them."""
    name = repo.config["core"].get("remote")
    for out in outs:
        try:
            for found in out.get_used_objs().values():
                if repo.cloud.push(found, remote=name).failed:
                    raise OSError("some files were not taken")
        except Exception as error:  # each kind of remote has its own
            raise RemoteGone(f"DVC's remote '{name}' does not take {out.def_path}: {brief(error)}") from error


def _pull(repo: Any, out: Any) -> None:
    """Have the cache hold ``out`` as its hash says; RemoteGone when the remote does not give it.

    What came and is not what it is called is removed again, and a UserError.
    """
    name = repo.config["core"].get("remote")
    if out.changed_cache():
        try:
            repo.cloud.pull([out.hash_info], remote=name)  # a folder first: its entry in the cache lists its files
            _inside(out, _listing(repo, out.hash_info.value))
            for found in out.get_used_objs().values():
                repo.cloud.pull(found, remote=name)
        except UserError:
            raise
        except Exception as error:  # each kind of remote has its own
            raise RemoteGone(f"DVC's remote '{name}' does not give {out.def_path}: {brief(error)}") from error
        if out.changed_cache():
            raise RemoteGone(f"DVC's remote '{name}' does not hold {out.def_path} ({out.hash_info.value}) whole")
    _inside(out, _listing(repo, out.hash_info.value))
    wrong = [path for path, digest in _objects(repo, out.hash_info.value) if _md5(path) != digest]
    for path in wrong:
        path.unlink(missing_ok=True)  # else it counts as what it is called from here on
    if wrong:
        raise UserError(f"{out.def_path}: {len(wrong)} of its files in DVC's remote '{name}' are not what their names "
                        f"say ({wrong[0].parent.name}{wrong[0].name}): none is used; remove them there")  # fmt: skip


def _checkout(out: Any) -> None:
    """Put ``out`` from the cache in its place, whatever lies there."""
    if not out.exists or out.workspace_status():
        out.stage.checkout(filter_info=out.fs_path, force=True)


def _unlike(repo: Any, out: Any) -> str:
    """The first file of ``out`` in its place that is not what its hash says, every byte read; empty when all are."""
    place, digest = Path(out.fs_path), out.hash_info.value
    if not digest.endswith(".dir"):
        return "" if place.is_file() and _md5(place) == digest else str(out.def_path)
    wanted = {each["relpath"]: each["md5"] for each in _listing(repo, digest)}
    there = {path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_file()}
    for name in sorted(there | wanted.keys()):
        if name not in there or name not in wanted or _md5(place / name) != wanted[name]:
            return f"{out.def_path}/{name}"
    return ""


def _adopt(repo: Any, root: Path, stage: Any, outs: Mapping[str, str], texts: Mapping[str, str]) -> None:
    from dvc_data.hashfile.hash_info import HashInfo

    wanted = {out.def_path for out in stage.outs}
    if outs.keys() != wanted or texts.keys() != {out.def_path for out in stage.outs if not out.use_cache}:
        raise UserError(f"stage '{stage.name}' writes {', '.join(sorted(wanted))}, not {', '.join(sorted(outs))}")
    for out in stage.outs:
        if out.use_cache:
            out.hash_info = HashInfo("md5", outs[out.def_path])
            _pull(repo, out)
        elif hashlib.md5(texts[out.def_path].encode(), usedforsecurity=False).hexdigest() != outs[out.def_path]:
            raise UserError(f"{out.def_path}: its text is not what its hash {outs[out.def_path]} says")
    for out in stage.outs:
        if out.use_cache:
            _checkout(out)
        else:
            files.write_text(root / out.def_path, texts[out.def_path])
    stage.save()
    for out in stage.outs:
        if out.hash_info.value != outs[out.def_path]:
            raise UserError(f"{out.def_path}: is {out.hash_info.value} here, not {outs[out.def_path]}")
    stage.commit()
    stage.dump(update_pipeline=False)


def _inside(out: Any, listing: list[dict[str, str]]) -> None:
    for each in listing:
        name = each["relpath"]
        if name.startswith("/") or "\\" in name or not {"", ".", ".."}.isdisjoint(name.split("/")):
            raise UserError(f"{out.def_path}: lists {name!r}, which lies outside: do not trust who wrote it")


def _objects(repo: Any, digest: str) -> Iterator[tuple[Path, str]]:
    """The files of the cache behind a hash, each with the MD5 that it has to have."""
    cache = Path(repo.cache.local.path)
    yield cache / digest[:2] / digest[2:], digest.removesuffix(".dir")
    for each in _listing(repo, digest):
        yield cache / each["md5"][:2] / each["md5"][2:], each["md5"]


def _listing(repo: Any, digest: str) -> list[dict[str, str]]:
    """What the object of a folder lists; UserError when it is none."""
    if not digest.endswith(".dir"):
        return []
    path = Path(repo.cache.local.path) / digest[:2] / digest[2:]
    try:
        if _md5(path) != digest.removesuffix(".dir"):
            raise ValueError("its bytes are not what its name says")
        found = json.loads(path.read_bytes())
        if not all(_is_md5(each["md5"]) and isinstance(each["relpath"], str) for each in found):
            raise ValueError("a hash that is none")
    except FileNotFoundError:
        raise
    except (ValueError, KeyError, TypeError) as error:
        path.unlink()  # else DVC takes it for what it is called
        raise UserError(f"DVC's object {digest}: not the list of a folder: {brief(error)}") from None
    return list(found)


def _is_md5(text: object) -> bool:
    return isinstance(text, str) and len(text) == 32 and set(text) <= set("0123456789abcdef")


def _md5(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    except FileNotFoundError:
        return ""


def _plain(found: Any) -> Any:
    return json.loads(json.dumps(found))
