"""What people do in MLflow by hand, and decisions that a kill left open: the next command ends them and goes on."""

import json
import subprocess
import sys

import pytest
from checkouts import edit, git
from registered import Killed, published, versions

from components.base import files
from components.base.errors import UserError
from flows.history import decisions, ledger, store
from flows.history.known import History
from flows.keep import verify
from flows.model import sample
from flows.registry import aliases, bundle, chain, impact, publish, records
from flows.registry.mlflow import MANIFEST_TAG, RUN_KEY
from flows.registry.versions import CHAMPION, PREVIOUS, REASON, Versions

pytestmark = pytest.mark.slow


def pointed(state):
    found = versions(state).client.get_registered_model("denoiser")
    return {alias: int(number) for alias, number in found.aliases.items()}


def results(state):
    every = History(state.root).decided("denoiser")
    return [(one.version, one.outcome and one.outcome.body["result"]) for one in every]


def killed_promotion(state, monkeypatch, number, *, moved):
    """Promote by hand, killed before the alias moves or right after."""
    true = Versions.point

    def point(self, alias, version):
        if moved:
            true(self, alias, version)
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Versions, "point", point)
        publish.promote(state, number, "nicer")
    assert results(state)[-1] == (number, None)


@pytest.mark.parametrize("moved", [False, True], ids=["before the move", "after it"])
def test_a_promotion_by_hand_that_was_killed_is_ended_by_the_next_run(here, monkeypatch, moved):
    killed_promotion(here, monkeypatch, 2, moved=moved)
    assert publish.published(here) == (None, "a decision was begun and not ended")
    published(here)
    assert publish.published(here)[0]["champion"] == 2, "else each run from now on would end with an error"
    assert results(here)[-1] == (2, "promoted") and pointed(here) == {"champion": 2, "previous": 1}


def test_the_next_promotion_ends_what_was_killed_before_it_begins(here, monkeypatch):
    killed_promotion(here, monkeypatch, 2, moved=True)
    publish.promote(here, 1, "no")
    assert results(here)[-2:] == [(2, "promoted"), (1, "promoted")]
    assert pointed(here) == {"champion": 1, "previous": 2}


def test_what_was_killed_is_not_carried_out_onto_bytes_that_are_damaged_since(here, monkeypatch):
    killed_promotion(here, monkeypatch, 2, moved=False)
    found = versions(here)
    weights = next(found.tracker.local_folder(found.numbered(2).source).rglob("*.safetensors"))
    weights.write_bytes(b"")
    publish.promote(here, 1, "the other")
    assert results(here)[-2:] == [(2, "refused"), (1, "promoted")] and pointed(here)[CHAMPION] == 1


def test_a_version_deleted_by_hand_stays_deleted_and_goes_on_record_once(here):
    versions(here).client.delete_model_version("denoiser", "1")
    assert any("denoiser version 1 was deleted from MLflow" in line for line in published(here))
    result, why = publish.published(here)
    assert result is not None and result["champion"] is None, why
    assert results(here)[-1] == (1, "deleted")
    before = results(here)
    assert not any("deleted" in line for line in published(here))
    publish.sync(here, say=lambda _: None)
    assert results(here) == before and [int(one.version) for one in versions(here).all()] == [2]
    assert verify.verify(here, fault=pytest.fail, well=lambda _: None) == 0
    names = impact._names(store.records(here.root))  # pulled copies may still be in use
    assert sorted(names.values()) == ["denoiser version 1 (deleted)", "denoiser version 2"]
    with pytest.raises(UserError, match="models:/denoiser/1: no such version"):
        publish.promote(here, 1, "back")


def test_the_version_of_the_present_run_deleted_by_hand_is_decided_on_again_under_a_new_number(here, monkeypatch):
    versions(here).client.delete_model_version("denoiser", "2")
    held = {"promote": False, "reason": "Not promoted: as before.", "evidence": {}, "against": "denoiser version 1"}
    monkeypatch.setattr(Versions, "decide", lambda *_: held)
    published(here)
    (_, deleted), (number, again) = results(here)[-2:]
    assert (deleted, again) == ("deleted", "held") and number > 2
    result, why = publish.published(here)
    assert result is not None and result["version"] == number, why
    assert aliases.wanted(versions(here).decided)["challenger"].version == number == pointed(here)["challenger"]


def test_what_was_edited_since_the_run_is_not_recorded_as_what_made_it(here):
    key = store.current(here.root).key
    for name in git(here.root, "for-each-ref", "--format=%(refname)", f"{ledger.REFS}/{key}").split():
        git(here.root, "update-ref", "-d", name)
    page, lines = here.root / "data/source.json", []
    held = page.read_text()
    page.write_text(held.replace("noto-emoji", "another"))  # as by `stillroom look` beside a run
    with pytest.raises(UserError, match=r"data/source\.json was changed while the run went on: nothing is recorded"):
        published(here)
    page.write_text(held)
    edit(here.root, "report", magnify=9)
    publish.sync(here, say=lines.append)
    assert any("not on record: params.yaml: report was changed since" in line for line in lines), lines
    assert key not in {run.key for run in store.all_runs(here.root)}


def test_a_training_that_was_forced_and_gave_other_bytes_changes_no_version(here):
    """As on a GPU, or with another library: the inputs are the same, so it is the same pipeline run."""
    weights = next((here.root / "models/candidate").rglob("*.safetensors"))
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.unlink()
    weights.write_bytes(content)
    subprocess.run([sys.executable, "-m", "dvc", "commit", "--force", "train"], cwd=here.root, check=True)
    assert any("stage train gave other bytes than denoiser version 2 has" in line for line in published(here))
    found = versions(here)
    links = chain.verify_chain(found, found.numbered(2), only=("dvc.lock", "objects", "model"))
    assert chain.broken(links) is None, links
    next(found.tracker.local_folder(found.numbered(2).source).rglob("*.safetensors")).unlink()
    publish.sync(here, say=lambda _: None)
    assert not found.fault(found.numbered(2)), "made again from what it was made of, not from what lies here now"


def replaced(state, number):
    """The version with other weights and a manifest that fits them."""
    found = versions(state)
    folder = found.tracker.local_folder(found.numbered(number).source)
    weights = next(folder.rglob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    text = json.loads((folder / bundle.MANIFEST).read_text())
    text["files"][weights.relative_to(folder).as_posix()]["sha256"] = files.sha256(weights)
    (folder / bundle.MANIFEST).write_text(json.dumps(text))
    return found, files.sha256(folder / bundle.MANIFEST)


@pytest.mark.parametrize("tag", ["deleted", "replaced too"])
def test_nothing_is_drawn_from_bytes_that_no_tag_and_no_record_vouches_for(here, tag):
    found, digest = replaced(here, 1)
    if tag == "deleted":
        found.client.delete_model_version_tag("denoiser", "1", MANIFEST_TAG)
    else:
        found.client.set_model_version_tag("denoiser", "1", MANIFEST_TAG, digest)
    why = "has no tag stillroom.manifest" if tag == "deleted" else "as in the ledger"
    with pytest.raises(UserError, match=why), sample.model_folder(here, "models:/denoiser@champion"):
        pass
    assert why in publish.published(here)[1], "`run` has to mend it"
    published(here)
    assert publish.published(here)[0]["champion"] == 1


def test_a_tag_that_names_the_run_comes_back(here):
    versions(here).client.delete_model_version_tag("denoiser", "1", RUN_KEY)
    assert any("tag stillroom.pass was deleted; it is put right" in line for line in published(here))
    assert publish.published(here)[0]["champion"] == 1


@pytest.mark.parametrize("way", ["alias moved", "alias deleted"])
def test_the_way_back_is_the_ledgers_whatever_was_done_to_the_aliases(here, way):
    publish.promote(here, 2, "nicer")
    if way == "alias moved":
        versions(here).point(CHAMPION, 1)
    else:
        versions(here).client.delete_registered_model_alias("denoiser", PREVIOUS)
    records.rollback(here, "no")
    assert pointed(here)[CHAMPION] == (2 if way == "alias moved" else 1)


def test_an_older_champion_that_a_machine_without_ledger_finds_is_not_made_champion_again(here):
    publish.promote(here, 2, "nicer")
    publish.promote(here, 1, "no")
    for name in git(here.root, "for-each-ref", "--format=%(refname)", ledger.REFS).split():
        git(here.root, "update-ref", "-d", name)
    published(here)  # version 2 says that it was promoted; the alias says that it is champion no more
    assert results(here) == [(1, "adopted"), (2, "adopted")] and pointed(here)[CHAMPION] == 1
    assert aliases.wanted(versions(here).decided)[CHAMPION].version == 1


def test_an_alias_moved_in_mlflow_goes_on_record_and_outlives_the_database(here):
    versions(here).point(CHAMPION, 2)
    publish.sync(here, say=lambda _: None)
    assert results(here)[-1] == (2, "adopted") and pointed(here) == {"champion": 2, "previous": 1}
    before = results(here)
    publish.sync(here, say=lambda _: None)
    assert results(here) == before
    assert versions(here).champion().tags[REASON] == "Promoted in MLflow: denoiser@champion was found on it"
    versions(here).client.delete_registered_model_alias("denoiser", CHAMPION)
    published(here)
    assert pointed(here)[CHAMPION] == 2


def test_two_machines_that_promoted_at_once_agree_with_mlflow_once_their_ledgers_are_united(here):
    known, keys = store.records(here.root), {int(one.version): one.tags[RUN_KEY] for one in versions(here).all()}
    for number in (2, 1):  # neither knew of the other; the alias is where the one put it that the ledger has first
        body = decisions.intent(name="denoiser", version=number, manifest=None, expected=1, by="A",
                                decision={"promote": True, "reason": ""}) | {"files": []}  # fmt: skip
        begun = ledger.append(here.root, known, "intent", keys[number], body)
        last = ledger.append(here.root, [*known, begun], "outcome", keys[number], decisions.outcome(begun, "promoted"))
        known = [*known, begun, last] if number == 2 else known
    versions(here).point(CHAMPION, 2)
    publish.sync(here, say=lambda _: None)
    assert pointed(here)[CHAMPION] == aliases.wanted(versions(here).decided)[CHAMPION].version == 2
