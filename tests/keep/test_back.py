"""`stillroom rollback --to`: back to a version that was champion, and to no other."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from registered import versions

from components.base.errors import UserError
from flows.registry import publish, records
from flows.workspace import exits, lock

pytestmark = pytest.mark.slow(10)


def test_the_way_back_leads_to_versions_that_were_champion(lived_in):
    with pytest.raises(UserError, match=r"version 2 was never champion \(on record are 1\): `stillroom promote 2`"):
        records.rollback(lived_in, "no", 2)
    with pytest.raises(UserError, match="version 1 is champion already"):
        records.rollback(lived_in, "no", 1)
    publish.promote(lived_in, 2, "try it")
    assert records.rollback(lived_in, "worse hands", 1) == "denoiser@champion is version 1"
    assert int(versions(lived_in).champion().version) == 1
    last = versions(lived_in).decided[-1]
    assert (last.version, last.intent.body["decision"]["reason"]) == (1, "Promoted by hand: rolled back: worse hands")
    assert records.rollback(lived_in, "and forth", 2) == "denoiser@champion is version 2"


def test_of_two_that_go_back_at_once_one_does(lived_in, monkeypatch):
    publish.promote(lived_in, 2, "try it")
    waits = threading.Event()
    monkeypatch.setattr(exits, "note", lambda line: waits.set() if "waiting for" in line else None)
    with ThreadPoolExecutor(1) as other:
        with lock.held(lived_in.lock, what="stillroom rollback", wait=True, say=exits.note):
            second = other.submit(records.rollback, lived_in, "worse hands")
            assert waits.wait(60)
            publish.promote(lived_in, 1, "rolled back: worse hands")
        with pytest.raises(UserError, match="denoiser@champion became version 1 while this waited: look at"):
            second.result(60)
    assert int(versions(lived_in).champion().version) == 1
