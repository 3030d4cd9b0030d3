"""`stillroom lineage`: each link is looked at, and the first that does not hold is named with what to do."""

import json
import os
import re
import shutil

import pytest
from checkouts import git, stillroom

from components.base import files
from components.base.errors import UserError
from flows.dvc import engine
from flows.history import ledger, store
from flows.model import pull, release
from flows.registry import bundle, chain, publish
from flows.registry.mlflow import MANIFEST_TAG, Tracker
from flows.registry.versions import Versions

pytestmark = pytest.mark.slow


def links(state):
    versions = Versions(Tracker(state, os.environ["MLFLOW_TRACKING_URI"]), "denoiser")
    return versions, chain.verify_chain(versions, versions.champion())


def test_every_link_of_a_version_holds(here):
    _, found = links(here)
    assert not [link for link in found if not link.holds], found
    assert [link.name for link in found][:6] == ["version", "ledger", "files", "MLflow run", "commit", "dvc.lock"]
    assert "noto-emoji (Apache-2.0), 90 files" in found[-1].found
    assert sum(link.name.startswith("train: ") for link in found) == 1


def test_nothing_is_written(here):
    links(here)
    listed = git(here.root, "for-each-ref")
    files = {path: path.stat().st_mtime_ns for path in here.root.rglob("*") if path.is_file()}
    links(here)
    changed = {path for path in here.root.rglob("*") if path.is_file() and files.get(path) != path.stat().st_mtime_ns}
    assert git(here.root, "for-each-ref") == listed
    assert not {path for path in changed if ".stillroom" not in path.parts and ".dvc" not in path.parts}


def model_object(state):
    run = store.current(state.root)
    held = engine.cached(state.root, engine.output(run.stages, "train", "models/candidate"))
    return next(path for name, path in held.items() if name.endswith(".safetensors"))


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.unlink()
    path.write_bytes(data)


BREAKS = {
    "version": lambda state, versions: versions.client.delete_model_version_tag(
        "denoiser", versions.champion().version, MANIFEST_TAG
    ),
    "ledger": lambda state, versions: [
        git(state.root, "update-ref", "-d", name)
        for name in git(state.root, "for-each-ref", "--format=%(refname)", ledger.REFS).split()
    ],
    "files": lambda state, versions: flip(
        next(versions.tracker.local_folder(versions.champion().source).rglob("*.safetensors"))
    ),
    "MLflow run": lambda state, versions: versions.client.delete_run(versions.champion().run_id),
    "commit": lambda state, versions: (
        git(state.root, "checkout", "--quiet", "--orphan", "other"),
        git(state.root, "-c", "user.name=t", "-c", "user.email=t@l", "commit", "--quiet", "-m", "another"),
        git(state.root, "branch", "-D", "main"),
    ),
    "train: models/candidate": lambda state, versions: flip(model_object(state)),
    "collect: data/raw": lambda state, versions: shutil.rmtree(
        engine.cached(state.root, engine.output(store.current(state.root).stages, "collect", "data/raw"))[
            "index.parquet"
        ].parent
    ),
}


@pytest.mark.parametrize("name", BREAKS)
def test_the_first_link_that_does_not_hold_is_named_with_what_to_do(here, name):
    versions, _ = links(here)
    BREAKS[name](here, versions)
    _, found = links(here)
    first = chain.broken(found)
    assert first is not None and first.name == name, found
    assert first.mend


def replaced(state):
    """Version 2 with other weights, a manifest that fits them and a tag that fits that, as by who runs the server."""
    versions = Versions(Tracker(state, os.environ["MLFLOW_TRACKING_URI"]), "denoiser")
    folder = versions.tracker.local_folder(versions.numbered(2).source)
    weights = next(folder.rglob("*.safetensors"))
    flip(weights)
    text = json.loads((folder / bundle.MANIFEST).read_text())
    text["files"][weights.relative_to(folder).as_posix()]["sha256"] = files.sha256(weights)
    (folder / bundle.MANIFEST).write_text(json.dumps(text))
    versions.client.set_model_version_tag("denoiser", 2, MANIFEST_TAG, files.sha256(folder / bundle.MANIFEST))
    assert bundle.verify(folder, versions.numbered(2).tags[MANIFEST_TAG]), "whole by itself"
    assert "as in the ledger" in versions.fault(versions.numbered(2))


def test_a_version_that_was_replaced_whole_is_neither_promoted_nor_pulled_nor_released(here, tmp_path):
    publish.promote(here, 1, "start")
    replaced(here)
    why = r"ledger: on record is version 2 with manifest [0-9a-f]{64}: `stillroom sync` puts right"
    with pytest.raises(UserError, match=f"denoiser version 2 is not promoted: {why}"):
        publish.promote(here, 2, "looks good")
    with pytest.raises(UserError, match=f"denoiser version 2 is not pulled: {why}"):
        pull.pull(here, "denoiser@2", tmp_path / "model", pin=None, uri=None, key=None, dry_run=False)
    with pytest.raises(UserError, match=f"denoiser version 2 is not released: {why}"):
        release.release(here, tmp_path / "mirror", [2], dry_run=False, say=print)
    assert not (tmp_path / "model").exists() and not (tmp_path / "mirror").exists()
    lines = []
    publish.sync(here, say=lines.append)
    assert any("mended from DVC's cache" in line for line in lines)
    pull.pull(here, "denoiser/2", tmp_path / "model", pin=None, uri=None, key=None, dry_run=False)


def test_sync_says_which_link_of_an_alias_does_not_hold(here):
    BREAKS["commit"](here, None)
    lines = []
    publish.sync(here, say=lines.append)
    assert any(
        re.search(r"denoiser@champion, version \d: commit: \w+ lies on no branch or tag", line) for line in lines
    )


def test_the_commands_tell_it_with_their_exit_codes(here):
    done = stillroom(here.root, "lineage")
    assert done.returncode == 0 and "NOT" not in done.stdout, done.stdout + done.stderr
    assert {link["holds"] for link in json.loads(stillroom(here.root, "lineage", "--json").stdout)} == {True}
    assert stillroom(here.root, "verify").returncode == 0
    versions, _ = links(here)
    BREAKS["files"](here, versions)
    done = stillroom(here.root, "lineage", "denoiser@champion")
    assert done.returncode == 1 and "broken at files: " in done.stderr
    done = stillroom(here.root, "verify")
    assert done.returncode == 1 and "differs from what MANIFEST.json promises" in done.stdout
    assert stillroom(here.root, "lineage", "denoiser").returncode == 2
    keys = json.loads(stillroom(here.root, "lineage", "--json", "--image", "noto-emoji:nothing").stdout or "[]")
    assert keys == []


def test_two_versions_are_compared_and_their_pages_tell_it(here):
    found = json.loads(stillroom(here.root, "diff", "denoiser/1", "denoiser/2", "--json").stdout)
    assert [(row["kind"], row["name"]) for row in found] == [("parameters", "report.magnify")]
    shown = stillroom(here.root, "diff", "denoiser/1", "denoiser/2").stdout
    assert shown.startswith("parameters\n  report.magnify ")
    versions, _ = links(here)
    first, second = versions.all()
    names = [versions.client.get_run(one.run_id).info.run_name for one in (first, second)]
    assert names[0].startswith("v1: 90 images, KID ") and names[1].startswith("v2: report.magnify ")
    assert "Changed since version 1" in second.description and "x0 error: " in second.description


def test_history_and_the_way_back(here):
    first = json.loads(stillroom(here.root, "history", "--json").stdout)
    assert [row["version"] for row in first] == [1, 2] and first[0]["result"] == "promoted"
    assert stillroom(here.root, "promote", "2", "--reason", "nicer").returncode == 0
    done = stillroom(here.root, "rollback", "--reason", "no")
    assert done.returncode == 0 and "denoiser@champion is version 1" in done.stdout, done.stderr
    page = (here.root / "reports/decision.html").read_text()
    assert "denoiser version 1: promoted" in page and "Promoted by hand: rolled back: no" in page
    last = json.loads(stillroom(here.root, "history", "--json").stdout)
    assert f"{last[-1]['when']}, by {last[-1]['by']}" in page
    assert [row["reason"] for row in last[2:]] == ["Promoted by hand: nicer", "Promoted by hand: rolled back: no"]
