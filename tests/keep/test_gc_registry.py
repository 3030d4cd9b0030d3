"""`stillroom gc` with a registry: a version that nobody asks for goes, on record; the lineage of the others holds."""

from __future__ import annotations

import hashlib

import pytest
from checkouts import edit, git
from registered import published, versions

from components.base import config
from flows.dvc import engine
from flows.history.known import History
from flows.keep import gc
from flows.registry import chain, publish, records

pytestmark = pytest.mark.slow(20)


def third(state):
    """A third pipeline run, as if only the page of the model were another: registered, and held by the gate."""
    root, page = state.root, b"<p>a third page"
    now = config.of(root)["report"]["magnify"]
    edit(root, "report", magnify=now + 5)
    text = (root / "dvc.lock").read_text()
    head, tail = text[: text.index("\n  report:")], text[text.index("\n  report:") :]
    old = engine.output(engine.lock(root), "report", "reports/model.html")
    new = hashlib.md5(page).hexdigest()
    tail = tail.replace(old, new).replace(f"magnify: {now}", f"magnify: {now + 5}")
    place = engine.listing(root, new)
    place.parent.mkdir(exist_ok=True)
    for each in (place, root / "reports/model.html"):
        each.unlink(missing_ok=True)
        each.write_bytes(page)
    (root / "dvc.lock").write_text(head + tail)
    published(state)
    return old


@pytest.fixture
def three(lived_in):
    """A checkout with three versions: the champion, an old one without an alias, and the challenger."""
    here = lived_in
    git(here.root, "add", "--force", "dvc.lock", "metrics", "data/source.json")
    page = third(here)
    assert [int(each.version) for each in versions(here).all()] == [1, 2, 3]
    return here, page


def test_a_version_that_nobody_asks_for_goes_with_what_only_it_needs(three, capsys):
    here, page = three
    kept = versions(here)
    folder = kept.tracker.local_folder(kept.numbered(2).source)
    said: list[str] = []
    gc.gc(here, keep=1, say=said.append)
    assert [line.split(": ", 1)[1] for line in said[:2]] == [
        "denoiser version 2: no alias, older than the runs that stay",
        "1 object in DVC's cache that nothing names any more",
    ]
    assert folder.is_dir() and engine.listing(here.root, page).is_file(), "it was dry"

    gc.gc(here, keep=1, yes=True, say=said.append)
    assert not folder.exists() and not engine.listing(here.root, page).exists()
    left = versions(here)
    assert [int(each.version) for each in left.all()] == [1, 3]
    for version in left.all():
        broken = chain.broken(chain.verify_chain(left, version))
        assert broken is None or broken.name == "commit", broken
    records.history(here, last=0, as_json=False)
    assert "version 2   deleted   stillroom: denoiser version 2 was deleted from MLflow" in capsys.readouterr().out

    again: list[str] = []
    gc.gc(here, keep=1, yes=True, say=again.append)
    assert again[-1] == "nothing to remove"
    assert publish.sync(here, say=again.append) == 3, "its run stays on record"
    assert [int(each.version) for each in versions(here).all()] == [1, 3], "and it does not come back"
    assert publish.published(here)[0]["version"] == 3


def test_killed_between_the_registry_and_the_ledger_the_next_call_goes_on(three, monkeypatch):
    here, _ = three

    def kill(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(gc.restore, "deleted", kill)
        gc.gc(here, keep=1, yes=True, say=lambda _: None)
    gc.gc(here, keep=1, yes=True, say=lambda _: None)
    assert publish.sync(here, say=lambda _: None) == 3
    assert [one.version for one in History(here.root).decided("denoiser") if one.deleted] == [2]


def test_an_alias_a_tag_and_the_last_runs_keep_a_version(three):
    here, _ = three
    client = versions(here).client

    def would(keep=1):
        said: list[str] = []
        gc.gc(here, keep=keep, say=said.append)
        return any("denoiser version 2" in line for line in said)

    assert would() and not would(keep=2)
    client.set_model_version_tag("denoiser", "2", gc.KEEP, "paper")
    assert not would()
    client.delete_model_version_tag("denoiser", "2", gc.KEEP)
    client.set_registered_model_alias("denoiser", "mine", "2")
    assert not would()
    client.delete_registered_model_alias("denoiser", "mine")
    assert would()


def test_a_deleted_run_of_mlflow_goes_after_some_days(lived_in):
    tracker = versions(lived_in).tracker
    run = tracker.client.create_run(tracker.experiment)
    folder = tracker.local_folder(run.info.artifact_uri)
    folder.mkdir(parents=True)
    (folder / "curve.png").write_bytes(b"x" * 100)
    tracker.client.delete_run(run.info.run_id)
    assert tracker.deleted(7) == []
    ((run_id, place),) = tracker.deleted(0)
    assert (run_id, place) == (run.info.run_id, folder)
    gc.gc(lived_in, days=0, yes=True, say=lambda _: None)
    assert not folder.exists() and tracker.deleted(0) == [] and tracker.run(run_id) is None
