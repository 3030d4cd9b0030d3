"""Where a person has to approve, the gate's winner waits as challenger; who approved it goes on record."""

import shutil

import pytest
from checkouts import edit, git

from components.base.errors import UserError
from flows.history import ledger, store
from flows.registry import publish, records
from flows.registry.metrics import MetricStream
from flows.registry.mlflow import Tracker
from flows.registry.versions import DECISION, REASON, Versions
from flows.run import launch, summary

pytestmark = pytest.mark.slow


def test_the_winner_waits_until_a_person_approves_it(here, capsys):
    for name in git(here.root, "for-each-ref", "--format=%(refname)", ledger.REFS).split():
        git(here.root, "update-ref", "-d", name)
    shutil.rmtree(here.folder / "mlflow")
    edit(here.root, "register", approval="person")
    git(here.root, "config", "user.name", "Ann")
    publish.publish(here, {}, MetricStream(here), say=lambda _: None)
    versions = Versions(Tracker(here, here.database), "denoiser")
    assert versions.champion() is None
    assert int(versions.resolve("@challenger").version) == records.number(here, "denoiser@challenger") == 1
    result, _ = publish.published(here)
    assert (result["champion"], result["waits"]) == (None, 1)
    told = summary.of(here, result, seen_from=here.root)
    assert told.startswith("denoiser@1 waits for approval: `stillroom promote --approve denoiser@1`\n")
    assert "is registered. There is no champion. Waits for approval: the first version" in told
    launch.status(here)
    assert "denoiser@1 waits for approval" in capsys.readouterr().out
    publish.publish(here, {}, MetricStream(here), say=lambda _: None)  # a nightly meanwhile decides nothing again
    assert versions.champion() is None and len(store.records(here.root)) == 3
    launch.promote(here, records.number(here, "denoiser@1"), None)
    assert capsys.readouterr().out == (
        "denoiser@champion is version 1: Promoted, approved by Ann: the first version in this registry.\n"
    )
    champion = versions.champion()
    assert (champion.tags[DECISION], champion.tags[REASON][:24]) == ("promoted", "Promoted, approved by An")
    assert versions.tracker.run(champion.run_id).data.tags["mlflow.user"] == "Ann"
    assert versions.tracker.version("denoiser", "@challenger") is None
    intent = [record for record in store.records(here.root) if record.kind == "intent"][-1]
    assert (intent.body["by"], intent.body["decision"]["approved_by"]) == ("Ann", "Ann")
    assert publish.published(here)[0]["waits"] is None
    with pytest.raises(UserError, match="denoiser version 1 does not wait for approval"):
        publish.promote(here, 1, None)


def test_what_was_compared_with_another_champion_is_not_approved(here):
    versions = Versions(Tracker(here, here.database), "denoiser")
    publish.promote(here, 1, "start")
    waits = {"promote": False, "waits": True, "reason": "Waits for approval: better", "against": None}
    version, known = versions.numbered(2), store.records(here.root)
    key = version.tags[publish.RUN_KEY]
    body = {"name": "denoiser", "version": 2, "manifest": None, "expected": None, "decision": waits, "by": "gate"}
    begun = ledger.append(here.root, known, "intent", key, body)
    ledger.append(here.root, [*known, begun], "outcome", key, {"intent": begun.id, "result": "held"})
    with pytest.raises(UserError, match="was compared with no champion, and the champion is version 1 now"):
        publish.promote(here, 2, None)
    assert int(versions.champion().version) == 1
