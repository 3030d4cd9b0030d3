"""What goes on record of how a pipeline run was made, and what is known of it later."""

from dataclasses import replace

from flows.history.ledger import Record
from flows.history.store import PipelineRun
from flows.registry import publish

RUN = PipelineRun(key="ab" * 32, files={}, commit="c", dirty=False, when=1, about={})
BODY = {"commit": "c", "dirty": False, "stages": {"train": "executed"}, "libraries": {"torch": "1"}}


def made(known, user):
    return publish._as_made(RUN, {"train": "unchanged"}, {}, known, user).about.get("user")


def test_the_user_is_who_made_it_and_nobody_where_git_has_no_name():
    record = Record(id="r", kind="run", key=RUN.key, number=1, when=1, body={**BODY, "user": "Ada"})
    assert made([], "Ada") == "Ada"
    assert made([], "") is None
    assert made([record], "Grace") == "Ada", "found again by somebody else"
    assert made([replace(record, body=BODY)], "Grace") is None, "a record of before is not added to"
