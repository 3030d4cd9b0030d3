"""DVC, called in-process; only this folder imports it.

Every call opens its own ``Repo``.  Whatever changes something is called under the checkout's lock
(flows/workspace/lock.py), repairs first what a killed DVC left (flows/dvc/repair.py), and waits while a `dvc` command
by hand works here (flows/dvc/waiting.py).  What only reads (`lock`, `cached`) repairs nothing and takes no lock.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import logging
import os
import re
import shutil
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from components.base import config, events, starter
from components.base.errors import UserError
from components.pipeline import PIPELINE, STATE, Stage, downstream
from flows.dvc import faults, fetch, forks, lockfile, repair, snapshot, stages, waiting
from flows.dvc.faults import StageCrashed, StageFailed, StageKilled
from flows.workspace import exits, processes

_OBJECT = re.compile(r"[0-9a-f]{32}(\.dir)?")
"""A DVC hash: nothing else becomes part of a path."""
_KILLED = re.compile(r", exited with (?:-9|137)$")
"""How DVC says that a command was ended by SIGKILL, as its shell sees it."""


def stale(root: Path) -> list[str]:
    """The stages that are not up to date, in the order of the pipeline; none when there is nothing to do."""
    from dvc.repo import lock_repo

    with snapshot.taken(root) as taken, _working(root) as repo, lock_repo(repo):
        load = stages.loader(repo, root, taken)
        changed = [stage.name for stage in PIPELINE if load(stage.name).status()]
    # DVC compares each stage with what is there now; what a stale stage will write makes its readers stale too.
    return [stage.name for stage in PIPELINE if stage.name in downstream(changed)]


def bring_back(root: Path) -> None:
    """Check out what dvc.lock names and is not here, from DVC's cache or its default remote (flows/dvc/fetch.py)."""
    from dvc.repo import lock_repo

    if not (root / "dvc.lock").is_file() or not fetch.missing(root):
        return
    with snapshot.taken(root) as taken, _working(root) as repo, lock_repo(repo):
        waiting.patiently(lambda: fetch.bring_back(repo, root, taken, say=exits.note), say=exits.note)


def remote(root: Path) -> str:
    """The name of DVC's default remote; "" where there is none."""
    with _repo(root) as repo:
        return str(repo.config["core"].get("remote") or "")


def follow_lock(root: Path) -> list[str]:
    """Have every output that is here be what dvc.lock names, as after a pull; those that were brought, from the cache
    or the default remote.

    UserError for an output that was changed by hand: the cache has no copy of it.
    """
    from dvc.repo import lock_repo

    if not (root / "dvc.lock").is_file():
        return []
    with snapshot.taken(root) as taken, _working(root) as repo, lock_repo(repo):
        return waiting.patiently(lambda: fetch.follow(repo, root, taken), say=exits.note)


def push(root: Path) -> int:
    """Copy what dvc.lock names to the default remote; returns how many files were not there yet."""
    with _working(root) as repo:
        try:
            return int(repo.push())
        except UserError:
            raise
        except Exception as error:  # each kind of remote has its own
            line = next(iter(str(error).splitlines()), type(error).__name__)
            raise UserError(f"DVC's remote '{repo.config['core'].get('remote')}' does not take what was made ({line}): "
                            "mend it and run this again") from error  # fmt: skip


def unpushed(root: Path) -> tuple[int, int]:
    """How many files, and bytes, of what dvc.lock names are in DVC's cache and not in the default remote.

    Changes nothing; UserError when the remote cannot be asked.
    """
    with faults.explained(), _repo(root) as repo:
        wanted = [each for objects in repo.used_objs().values() for each in objects]
        try:
            new = repo.cloud.status(wanted).new
        except Exception as error:  # each kind of remote has its own
            line = next(iter(str(error).splitlines()), type(error).__name__)
            raise UserError(f"DVC's remote '{repo.config['core'].get('remote')}' cannot be asked ({line})") from error
        local = Path(repo.cache.local.path)
        places = (local / each.value[:2] / each.value[2:] for each in new)
        sizes = [place.stat().st_size for place in places if place.is_file()]
    return len(sizes), sum(sizes)


@contextlib.contextmanager
def storage(root: Path, name: str) -> Iterator[Any]:
    """DVC's store of objects in the remote ``name``; UserError when there is none, or it cannot be asked."""
    with faults.explained(), _repo(root) as repo:
        store = repo.cloud.get_remote_odb(name)
        try:
            yield store
        except UserError:
            raise
        except Exception as error:  # each kind of remote has its own
            line = next(iter(str(error).splitlines()), type(error).__name__)
            raise UserError(f"DVC's remote '{name}' cannot be asked ({line})") from error


def reproduce(root: Path, stage: Stage, *, watched: Path, force: bool = False) -> str:
    """Bring one stage up to date; say whether it was ``executed``, ``restored`` from the cache or ``unchanged``.

    The stage works from the snapshot of the pipeline run that goes on, or from its own.  It writes its progress to the
    file ``watched``. Whatever ends this call early ends the stage too, and waits for it: a stage saves what it can when
    it gets SIGTERM.
    """
    before = watched.stat().st_size if watched.exists() else 0
    try:
        with (
            snapshot.taken(root) as taken, _working(root) as repo, lockfile.written_whole(),
            forks.in_place_of_a_shell(),
        ):  # fmt: skip
            # DVC would load the stage, and each other one, from the checkout.
            repo.stage.collect = lambda *_, **__: [stages.loader(repo, root, taken)(stage.name)]
            own = {events.VARIABLE: str(watched), starter.VARIABLE: str(os.getpid())}
            environment = {**own, **taken.environment()}
            done = waiting.patiently(
                lambda: repo.reproduce(targets=[stage.name], single_item=True, force=force, run_env=environment),
                say=exits.note,
            )
    except StageCrashed as error:
        line = _last_error(watched, before)
        if line:
            raise StageFailed(line) from None
        if _KILLED.search(str(error)):
            raise StageKilled(
                f"stage '{stage.name}' was killed (SIGKILL), by the kernel for want of memory most often: free some or "
                "have it take less (`train.micro_batch`, fewer cores by `taskset`), and run the same command again; it "
                "goes on from what is complete"
            ) from None
        raise error
    except BaseException:
        processes.end_children()
        forks.close()
        raise
    if not done:
        return "unchanged"
    return "executed" if _started(watched, before) else "restored"


@contextlib.contextmanager
def loaded(root: Path) -> Iterator[tuple[Any, Callable[[str], Any]]]:
    """DVC under its lock, and what gives its stages (flows/dvc/stages.py)."""
    from dvc.repo import lock_repo

    with snapshot.taken(root) as taken, _working(root) as repo, lock_repo(repo):
        yield repo, stages.loader(repo, root, taken)


def lock(root: Path) -> dict[str, Any]:
    """The stages of dvc.lock: for each its cmd, deps, params and outs; empty when nothing ran yet."""
    text = lockfile.text(root)
    return parse_lock(text) if text else {}


def parse_lock(text: str) -> dict[str, Any]:
    """The stages in the text of a dvc.lock."""
    return dict(config.parse(text, "dvc.lock").get("stages") or {})


def key(stages: Mapping[str, Any]) -> str:
    """The key of a pipeline run: a SHA-256 over every stage's command, inputs and parameters, not its outputs."""
    inputs = {
        name: {
            "cmd": entry["cmd"],
            "deps": [[dep["path"], dep.get("md5")] for dep in entry.get("deps", [])],
            "params": entry.get("params", {}),
        }
        for name, entry in stages.items()
    }
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()


def output(stages: Mapping[str, Any], stage: str, path: str) -> str:
    """The DVC hash of what ``stage`` wrote at ``path``; an empty text when it is not in the lock."""
    outs = stages.get(stage, {}).get("outs", [])
    return next((out.get("md5", "") for out in outs if out["path"] == path), "")


def cached(root: Path, digest: str, only: Container[str] | None = None) -> dict[str, Path]:
    """The files behind a DVC hash, by their name in the output folder (``""`` for a single file).

    Empty when the cache does not hold all of them any more, or all of ``only``, those of these names.
    """
    cache = _local(root)
    found = cache / digest[:2] / digest[2:] if _OBJECT.fullmatch(digest) else None
    if found is None or not found.is_file():
        return {}
    if not digest.endswith(".dir"):
        return {"": found}
    entries = json.loads(found.read_text("utf-8"))
    for entry in entries:  # they may come from a remote that others write to
        parts = PurePosixPath(entry["relpath"]).parts
        if ".." in parts or not parts or parts[0] == "/" or not _OBJECT.fullmatch(entry["md5"]):
            raise UserError(f"{found}: lists {entry['relpath']!r} as {entry['md5']!r}, which lies outside: remove it")
    paths = {entry["relpath"]: cache / entry["md5"][:2] / entry["md5"][2:] for entry in entries
             if only is None or entry["relpath"] in only}  # fmt: skip
    return paths if all(path.is_file() for path in paths.values()) else {}


def _local(root: Path) -> Path:
    # Looked up again only when the configuration changes: to open a Repo takes a tenth of a second.
    return _cache(root, *(_stamp(root / ".dvc" / name) for name in ("config", "config.local")))


@functools.lru_cache(maxsize=32)
def _cache(root: Path, *configured: tuple[int, int] | None) -> Path:
    with _repo(root) as repo:
        return Path(repo.cache.local.path)


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_mtime_ns, found.st_size


def track(root: Path, path: str) -> None:
    """Have DVC keep the folder ``path``, which no stage writes; ``path``.dvc says what is in it."""
    with _working(root) as repo:
        repo.add([path])


def untrack(root: Path, path: str) -> None:
    """Have DVC no longer keep ``path``; nothing happens when it does not."""
    (root / f"{path}.dvc").unlink(missing_ok=True)


def listing(root: Path, digest: str) -> Path:
    """Where the cache has the object ``digest`` itself: of a folder, the list of its files."""
    return _local(root) / digest[:2] / digest[2:]


def cache(root: Path) -> Path:
    """Where DVC's local cache lies."""
    return _local(root)


def own_cache(root: Path) -> bool:
    """Whether DVC's local cache lies in this checkout, so that no other works from it."""
    return cache(root).resolve().is_relative_to((root / ".dvc").resolve())


def purge(root: Path, keep: Callable[[], Iterable[Path]] = tuple) -> None:
    """Remove from the local cache whatever the present dvc.lock does not name, but for the objects that ``keep`` names.

    Killed meanwhile, the next call puts them back before it asks.
    """
    with _working(root) as repo:
        cache = Path(repo.cache.local.path)
        aside = cache.with_name("stillroom.kept")
        _put_back(aside, cache)
        for path in keep():
            other = aside / path.relative_to(cache)
            other.parent.mkdir(parents=True, exist_ok=True)
            os.link(path, other)
        try:
            repo.gc(workspace=True, force=True)
        finally:
            _put_back(aside, cache)


def _put_back(aside: Path, cache: Path) -> None:
    for path in sorted(aside.rglob("*")):
        target = cache / path.relative_to(aside)
        if path.is_file() and not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(path, target)
    shutil.rmtree(aside, ignore_errors=True)


@contextlib.contextmanager
def opened(root: Path) -> Iterator[Any]:
    """DVC, to read its configuration: nothing is repaired and no lock is taken."""
    with faults.explained(), _repo(root) as repo:
        yield repo


@contextlib.contextmanager
def _working(root: Path) -> Iterator[Any]:
    """DVC, to change something: under the checkout's lock, what a killed DVC left repaired."""
    with faults.explained():
        repair.repair(root, say=exits.note)
        with _repo(root) as repo:
            waiting.wait_for_lock(repo, say=exits.note)
            yield repo


@contextlib.contextmanager
def _repo(root: Path) -> Iterator[Any]:
    from dvc.repo import Repo

    logging.getLogger("dvc").setLevel(logging.ERROR)
    config = {} if any((folder / ".git").exists() for folder in (root, *root.parents)) else {"core": {"no_scm": True}}
    repo = Repo(str(root), config=config or None)
    try:
        # dvc.yaml's commands, and git, work in the checkout whatever folder the caller stands in.
        with contextlib.chdir(root):
            yield repo
    except Exception as error:
        exits.name_full_disk(error, Path(repo.cache.local.path), root / STATE, root)
        raise
    finally:
        repo.close()


def _since(watched: Path, start: int) -> list[dict[str, Any]]:
    if not watched.exists():
        return []
    with watched.open("rb") as stream:
        stream.seek(start)
        return [json.loads(line) for line in stream.read().splitlines() if line.endswith(b"}")]


def _last_error(watched: Path, start: int) -> str:
    errors = [event["message"] for event in _since(watched, start) if event["kind"] == "error"]
    return errors[-1] if errors else ""


def _started(watched: Path, start: int) -> bool:
    return any(event["kind"] == "start" for event in _since(watched, start))
