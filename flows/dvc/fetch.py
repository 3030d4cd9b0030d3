"""Bring back outputs that dvc.lock names and that are not here: from DVC's cache, else from the default remote.

A fresh clone has dvc.lock and no data.  Making all of it again costs hours, and where a source has changed it does not
give the same images; so what was made is looked for first.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from components.base.errors import UserError
from components.pipeline import PIPELINE, downstream
from flows.dvc import stages
from flows.dvc.snapshot import Snapshot

START = "data/start.dvc"
"""What `stillroom start` has DVC keep; no stage writes it."""


def missing(root: Path) -> list[str]:
    """The outputs of the pipeline that are not here, whether they were made before or not; asks the disk only."""
    paths = [path for stage in PIPELINE for path in stage.writes.values()]
    kept = [START.removesuffix(".dvc")] if (root / START).is_file() else []
    return [path for path in paths + kept if not (root / path).exists()]


def bring_back(repo: Any, root: Path, snapshot: Snapshot, *, say: Callable[[str], None]) -> None:
    """Check out each missing output whose stage would make the same again; say which have to be made again.

    Under DVC's lock.  UserError when the remote cannot be asked: that it fails does not mean that it holds nothing.
    """
    remote = repo.config["core"].get("remote")
    lost, fetched = [], []
    for stage in _wanted(repo, root, snapshot):
        for out in filter(_lacking, stage.outs):
            cached = not out.changed_cache()
            if not cached and remote:
                _pull(repo, out, remote)
                fetched.append(out.def_path)
            if cached or not out.changed_cache():
                stage.checkout(filter_info=out.fs_path)
            else:
                lost.append(out.def_path)
    came = [path for path in fetched if path not in lost]
    if came:
        say(f"fetched from remote '{remote}': {', '.join(came)}")
    if lost:
        where = f"nor in remote '{remote}'" if remote else "and no remote is configured"
        say(f"not here, not in DVC's cache {where}: {', '.join(lost)}; made again where a stage needs them")


def follow(repo: Any, root: Path, snapshot: Snapshot) -> list[str]:
    """Check out each output that is not what dvc.lock names; the paths of those.  Under DVC's lock."""
    from dvc.exceptions import ConfirmRemoveError

    remote, came = repo.config["core"].get("remote"), []
    load = stages.loader(repo, root, snapshot)
    for stage in PIPELINE:
        for out in load(stage.name).outs:
            if not (out.use_cache and out.hash_info) or (out.exists and not out.workspace_status()):
                continue
            if out.changed_cache() and remote:
                _pull(repo, out, remote)
            if out.changed_cache():
                continue  # neither here nor there: made again where a stage needs it
            try:
                out.stage.checkout(filter_info=out.fs_path)
            except ConfirmRemoveError:
                raise UserError(
                    f"{out.def_path}: changed by hand, and other than what dvc.lock names: move it away"
                ) from None
            came.append(out.def_path)
    return came


def _wanted(repo: Any, root: Path, snapshot: Snapshot) -> list[Any]:
    """The stages that would make their outputs again as they were, and the model that training starts from."""
    found: list[Any] = []
    changed: list[str] = []
    load = stages.loader(repo, root, snapshot)
    for stage in PIPELINE:
        loaded = load(stage.name)
        if loaded.cmd_changed or any(dep.exists and dep.workspace_status() for dep in loaded.deps):
            changed.append(stage.name)
        # What only grows is worth having even if it will grow.
        if stage.grows or stage.name not in downstream(changed):
            found.append(loaded)
    if (root / START).is_file():
        found.append(repo.stage.load_one(str(root / START)))
    return found


def _lacking(out: Any) -> bool:
    return bool(out.use_cache and out.hash_info and not out.exists)


def _lacks(store: Any, out: Any) -> bool:
    """Whether a remote that answers does not have the file, or the list of a folder's files.

    Of one that is asked by HTTP no answer looks the same, and counts as none.
    """
    return not str(store.fs.protocol).startswith("http") and not store.exists(out.hash_info.value)


def _pull(repo: Any, out: Any, remote: str) -> None:
    try:
        # A folder first: its entry in the cache lists its files.
        repo.cloud.pull([out.hash_info], remote=remote)
        if not repo.cache.local.exists(out.hash_info.value) and _lacks(repo.cloud.get_remote_odb(remote), out):
            return
        for found in out.get_used_objs().values():
            repo.cloud.pull(found, remote=remote)
    except Exception as error:  # each kind of remote has its own
        line = next(iter(str(error).splitlines()), type(error).__name__)
        raise UserError(
            f"{out.def_path} is not here, and remote '{remote}' cannot be asked for it ({line}): mend the remote, or "
            "have everything made again after `dvc config --unset core.remote`"
        ) from error
