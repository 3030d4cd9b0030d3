"""What is on record holds: through kills, a lost database, deleted or changed bytes, other machines and other hands.

Real git, DVC and MLflow, in a checkout with two pipeline runs; only the training is done once for all.
"""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest
from checkouts import edit, git
from registered import Killed, lost, published, told, versions

from components.base import config
from components.base.errors import UserError
from flows.dvc import engine
from flows.history import decisions, ledger, store
from flows.registry import aliases, bundle, publish, restore, settle
from flows.registry.mlflow import CHECKOUT, RUN_KEY, Tracker
from flows.registry.versions import CHAMPION, PREVIOUS, Versions
from flows.workspace.paths import State

pytestmark = pytest.mark.slow


def champion_folder(state):
    found = versions(state)
    return found.tracker.local_folder(found.champion().source)


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)


def test_versions_keep_their_numbers_when_the_database_is_lost(here):
    publish.promote(here, 2, "better faces")
    publish.promote(here, 1, "no, worse")
    before = told(here)
    assert before[1] == {"champion": 1, "previous": 2}
    lost(here)
    publish.sync(here, say=lambda _: None)
    assert told(here) == before


def test_a_run_before_the_sync_renumbers_nothing_and_decides_nothing_again(here):
    publish.promote(here, 2, "better faces")
    before, records = told(here), len(store.records(here.root))
    lost(here)
    published(here)
    assert told(here) == before
    assert len(store.records(here.root)) == records


def test_the_ledger_is_read_once_for_a_publish(here, monkeypatch):
    read, times = ledger.read, []
    monkeypatch.setattr(ledger, "read", lambda root: times.append(root) or read(root))
    lost(here)
    published(here)
    assert times == [here.root]


def test_a_number_that_the_registry_has_given_away_stops_it(here):
    mine = store.records(here.root)
    lost(here)
    found = versions(here)
    run = found.tracker.client.create_run(found.tracker.experiment)
    found.tracker.ensure_model("denoiser")
    found.client.create_model_version("denoiser", "mlflow-artifacts:/x", run.info.run_id, tags={RUN_KEY: "another"})
    with pytest.raises(UserError, match="denoiser version 1 in MLflow was made by pipeline run another, in the ledger"):
        published(here)
    assert store.records(here.root) == mine and found.champion() is None


STEPS = ("append", "point", "create", "upload", "conclude", "keep", "ensure")


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_kill_at_any_step_loses_nothing_and_decides_nothing_twice(here, monkeypatch, step, after):
    """Each call of the step is killed once, the run goes on the next time, and ends as if nobody had killed it."""
    lost(here)
    for name in git(here.root, "for-each-ref", "--format=%(refname)", ledger.REFS).split():
        git(here.root, "update-ref", "-d", name)
    owner = {"append": ledger, "point": Versions, "create": Versions, "upload": Versions, "conclude": Versions,
             "keep": aliases, "ensure": Tracker}[step]  # fmt: skip
    true, number = getattr(owner, step), 0

    def killed(*arguments, **more):
        nonlocal count
        count += 1
        if count == number and not after:
            raise Killed
        result = true(*arguments, **more)
        if count == number:
            raise Killed
        return result

    monkeypatch.setattr(owner, step, killed)
    while True:
        number, count = number + 1, 0
        try:
            published(here)
        except Killed:
            found = versions(here)
            if (leader := found.champion()) is not None:
                assert not found.fault(leader), "an alias never points at bytes that are not verified"
            continue
        break
    assert number > 1, "the step was never reached"
    numbers, pointed = told(here)
    assert list(numbers) == [1] and pointed == {"champion": 1}
    kinds = [record.kind for record in store.records(here.root)]
    assert (kinds.count("intent"), kinds.count("outcome")) == (1, 1)
    assert [run.info.status for run in versions(here).client.search_runs([versions(here).tracker.experiment])] == [
        "FINISHED"
    ]


def test_a_decision_by_hand_is_adopted_by_a_machine_that_has_no_ledger(here, tmp_path):
    publish.promote(here, 2, "looked at them")
    before = told(here)
    for name in git(here.root, "for-each-ref", "--format=%(refname)", ledger.REFS).split():
        git(here.root, "update-ref", "-d", name)
    published(here)
    assert told(here) == before
    assert versions(here).champion().tags["stillroom.reason"] == "Promoted by hand: looked at them"


def test_an_alias_that_somebody_moves_meanwhile_is_compared_with_again(here, monkeypatch):
    found = versions(here)
    publish.promote(here, 1, "start")
    run = next(one for one in store.all_runs(here.root) if one.key == found.numbered(2).tags[RUN_KEY])
    true = Versions.decide

    def slow(self, version, champion, params):
        decision = true(self, version, champion, params) | {"promote": True}
        if champion is not None and int(champion.version) == 1:  # as by a person, in the middle of the comparison
            self.client.delete_registered_model_alias("denoiser", CHAMPION)
        return decision

    monkeypatch.setattr(Versions, "decide", slow)
    monkeypatch.setattr(decisions, "of_key", lambda *_: None)
    monkeypatch.setattr(Versions, "concluded", lambda *_: None)
    settle.settle(found, found.numbered(2), run, publish.register_params(here.root))
    results = [one.body["result"] for one in store.records(here.root) if one.kind == "outcome"]
    assert results[-2:] == ["overtaken", "promoted"]


def test_two_machines_that_register_one_run_at_once_have_one_version(here, monkeypatch):
    lost(here)
    for name in git(here.root, "for-each-ref", "--format=%(refname)", ledger.REFS).split():
        git(here.root, "update-ref", "-d", name)
    true, inside = Versions.create, False

    def twice(self, run, run_id, digest):
        nonlocal inside
        if not inside:
            inside = True
            true(self, run, run_id, digest)  # the other machine
        return true(self, run, run_id, digest)

    monkeypatch.setattr(Versions, "create", twice)
    published(here)
    assert list(told(here)[0]) == [1]


@pytest.mark.parametrize("damage", ["flip", "delete", "more", "manifest"])
def test_bytes_that_are_not_those_on_record_are_seen_and_mended(here, damage):
    weights = next(champion_folder(here).rglob("*.safetensors"))
    if damage == "flip":
        flip(weights)
    elif damage == "delete":
        weights.unlink()
    elif damage == "more":
        (weights.parent / "more.bin").write_bytes(b"x")
    else:
        flip(champion_folder(here) / bundle.MANIFEST)
    assert publish.published(here)[0] is None, "nothing to do would be a lie"
    with pytest.raises(UserError, match=r"safetensors|more\.bin|MANIFEST"):
        publish.promote(here, int(versions(here).champion().version), "again")
    lines = []
    publish.sync(here, say=lines.append)
    assert any("mended from DVC's cache" in line for line in lines), lines
    assert publish.published(here)[0] is not None


def test_an_alias_never_moves_to_bytes_that_are_not_verified(here):
    found = versions(here)
    other = next(one for one in found.all() if int(one.version) != int(found.champion().version))
    flip(next(found.tracker.local_folder(other.source).rglob("*.safetensors")))
    before = told(here)[1][CHAMPION]
    with pytest.raises(UserError, match=r"is not promoted: .*differs from what MANIFEST"):
        publish.promote(here, int(other.version), "blind")
    assert told(here)[1][CHAMPION] == before


def test_an_alias_or_a_version_deleted_by_hand_is_noticed(here):
    before = told(here)
    versions(here).client.delete_registered_model_alias("denoiser", CHAMPION)
    assert publish.published(here)[0] is None
    assert any("champion is version" in line for line in published(here))
    assert told(here) == before
    publish.promote(here, 2, "the other")
    assert publish.published(here)[0]["champion"] == 2
    versions(here).client.delete_model_version("denoiser", "2")
    assert publish.published(here)[0] is None


def test_a_database_that_is_none_is_one_line(here):
    (here.folder / "mlflow/mlflow.db").write_bytes(b"this is no database" * 100)
    with pytest.raises(UserError, match="MLflow at sqlite"):
        publish.published(here)


def test_dvc_keeps_the_bytes_of_every_alias_whatever_is_collected(here):
    publish.promote(here, 1, "first")
    publish.promote(here, 2, "second")
    magnify = config.read(here.root / config.FILE)["report"]["magnify"]
    edit(here.root, "report", magnify=magnify + 5)
    (here.root / "dvc.lock").unlink()  # what lies here names nothing any more
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "gc", "--all-commits", "--force"], cwd=here.root, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert kept(here) == {"champion": 2, "previous": 1}
    before = told(here)
    lost(here)
    shutil.copyfile(two_lock(here), here.root / "dvc.lock")
    publish.sync(here, say=lambda _: None)
    assert told(here) == before
    assert all(not versions(here).fault(one) for one in versions(here).all())


def kept(state):
    """The version whose bytes the branch of each alias holds for DVC."""
    numbers = {one.tags[RUN_KEY]: int(one.version) for one in versions(state).all()}
    rows = git(state.root, "for-each-ref", "--format=%(refname:lstrip=3) %(subject)", aliases.BRANCH).splitlines()
    return {row.split(":")[0].split()[0]: next(n for key, n in numbers.items() if key[:12] == row.split()[-1])
            for row in rows}  # fmt: skip


def test_the_bytes_of_an_alias_that_a_person_moved_in_mlflow_are_kept(here):
    publish.promote(here, 1, "first")
    publish.promote(here, 2, "second")
    versions(here).point(CHAMPION, 1)
    publish.sync(here, say=lambda _: None)
    assert told(here)[1] == {CHAMPION: 1, PREVIOUS: 2}
    assert kept(here) == {CHAMPION: 1, PREVIOUS: 2}


def two_lock(state):
    """The dvc.lock of the champion, as its branch holds it."""
    path = state.folder / "lock.txt"
    path.write_text(git(state.root, "show", f"{aliases.BRANCH}/champion:dvc.lock"))
    return path


def test_a_purge_leaves_what_lost_versions_are_made_from_and_no_images(here, monkeypatch):
    before, lock = told(here), (here.root / "dvc.lock").read_bytes()
    raw = [engine.output(run.stages, "collect", "data/raw") for run in store.all_runs(here.root)]
    (here.root / "dvc.lock").unlink()  # what lies here names nothing any more
    with monkeypatch.context() as patch, pytest.raises(Killed):
        true, times = engine._put_back, []
        patch.setattr(engine, "_put_back", lambda *where: killed() if times else times.append(true(*where)))
        engine.purge(here.root, lambda: restore.objects(here.root, "denoiser"))
    assert not restore.objects(here.root, "denoiser"), "killed while they were aside"
    engine.purge(here.root, lambda: restore.objects(here.root, "denoiser"))
    assert not any(engine.cached(here.root, digest) for digest in raw)
    (here.root / "dvc.lock").write_bytes(lock)
    lost(here)
    publish.sync(here, say=lambda _: None)
    assert told(here) == before and not any(versions(here).fault(one) for one in versions(here).all())


def killed():
    raise Killed


def test_a_copy_of_a_checkout_leaves_the_live_run_of_the_first_alone(here, tmp_path):
    tracker = versions(here).tracker
    tracker.stream("train", 1, {"loss": 1.0})
    again = tmp_path / "again"
    shutil.copytree(here.root, again, symlinks=True)
    assert State(again).identity() != here.identity()
    assert Tracker(State(again), here.database).repair() == 0
    (live,) = tracker.client.search_runs([tracker.experiment], "attributes.status = 'RUNNING'")
    assert live.data.tags[CHECKOUT] == here.identity()


def test_a_file_for_who_watches_lies_in_the_run_in_progress(here, tmp_path):
    (tmp_path / "000000000016.png").write_bytes(b"a sheet")
    tracker = versions(here).tracker
    tracker.keep("train", tmp_path / "000000000016.png", "samples")
    tracker.stream("train", 16, {"loss": 1.0})
    (live,) = tracker.client.search_runs([tracker.experiment], "attributes.status = 'RUNNING'")
    folder = tracker.local_folder(live.info.artifact_uri)
    assert (folder / "train/samples/000000000016.png").read_bytes() == b"a sheet"


def test_a_deleted_experiment_comes_back(here):
    tracker = versions(here).tracker
    tracker.client.delete_experiment(tracker.experiment)
    lost_runs = published(here)
    assert lost_runs is not None and publish.published(here)[0] is not None


def test_a_password_in_the_address_is_not_shown(here, monkeypatch):
    uri = "http://me:secret@127.0.0.1:9"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(UserError) as raised:
        publish.published(here)
    assert "secret" not in str(raised.value) and "127.0.0.1:9" in str(raised.value)


def test_a_version_that_started_from_another_is_named_with_it(here):
    from flows.registry import impact

    made = store.all_runs(here.root)[0]
    held = dict(made.files)
    (intent,) = [one for one in store.records(here.root) if one.kind == "intent" and one.key == made.key]
    listed = bundle.json.loads(next(ledger.files(here.root, [intent]))[bundle.MANIFEST])["files"]
    weights = next(entry["sha256"] for name, entry in listed.items() if name.endswith(".safetensors"))
    start = {"format": 1, "model": "models:/denoiser/1", "files": {"unet/w.safetensors": weights}}
    held["data/start.json"] = bundle.json.dumps(start).encode()
    child = store.PipelineRun(key="c" * 64, files=held, commit=made.commit, dirty=False, when=9, about={})
    store.record(here.root, child, store.records(here.root))
    body = decisions.intent(
        name="denoiser", version=3, manifest="", expected=1, by="gate", decision={"promote": False, "reason": ""}
    )
    begun = ledger.append(here.root, store.records(here.root), "intent", child.key, body)
    ledger.append(here.root, store.records(here.root), "outcome", child.key, decisions.outcome(begun, "held"))
    keys = impact._training_images(here.root, *impact._hashes(made))
    lines = impact.lines(here, {min(keys)}, set())
    assert any(line.startswith("denoiser version 3: was trained on 1 of them; started from the network of denoiser "
                               "version 1") for line in lines), lines  # fmt: skip


def test_previous_is_the_champion_before(here):
    publish.promote(here, 2, "a")
    publish.promote(here, 1, "b")
    assert told(here)[1] == {CHAMPION: 1, PREVIOUS: 2}
