"""What a run did, told to people: its name, the note on its page, what changed since the champion."""

import json
from dataclasses import replace

from flows.history.store import PipelineRun
from flows.registry import changes


def run(key, *, kept, kid, rate, **about):
    sources = "collect: {sources: [{name: emoji, licence: Apache-2.0}]}"
    held = {
        "params.yaml": f"{sources}\ntrain: {{rate: {rate}}}\n".encode(),
        "metrics/clean.json": json.dumps({"kept": kept}).encode(),
        "metrics/evaluate.json": json.dumps({"kid_efficientnet_lite0": kid, "x0_error": 0.5}).encode(),
    }
    return PipelineRun(key=key, files=held, commit=f"{key}0123456789ab", dirty=False, when=0, about=about)


OLD = run("a", kept=90, kid=4.2, rate=0.1, version=2)
NEW = run("b", kept=690, kid=3.9, rate=0.2, version=3, against="a", decision={"reason": "Promoted: better."})


def test_a_run_is_named_by_what_it_did():
    first, second = changes.labelled([OLD, NEW])
    assert first.about["name"] == "v2: 90 images, KID 4.2"
    assert second.about["name"] == "v3: +600 images, train.rate 0.1 → 0.2, KID 4.2 → 3.9"


def test_the_page_begins_with_the_decision_the_scores_and_what_changed():
    note = changes.labelled([OLD, NEW])[1].about["note"]
    order = ["**Promoted: better.**", "- KID: 4.2 → 3.9", "Changed since version 2:", "- parameters: train.rate",
             "Made from:", "- sources: emoji (Apache-2.0)", "- code: commit b0123456789"]  # fmt: skip
    places = [note.index(each) for each in order]
    assert places == sorted(places)
    alone = changes.labelled([OLD])[0].about["note"]
    assert (
        alone.startswith("Not compared with the champion yet.") and "- KID: 4.2\n" in alone and "Changed" not in alone
    )


def test_what_changed_is_a_page_in_markdown():
    assert (
        changes.text(NEW, OLD)
        == """# What changed since version 2

## Data

- kept 90 → 690

## Parameters

- train.rate 0.1 → 0.2

## Code

- commit a0123456789a → b0123456789a

## Scores

- KID 4.2 → 3.9
"""
    )
    assert changes.text(NEW, None) == "There was no champion to compare with.\n"
    assert "Nothing: the same data" in changes.text(OLD, OLD)


def test_the_code_of_a_project_is_the_package_and_not_what_its_repository_commits():
    old, new = (replace(one, about=one.about | {"libraries": {"stillroom": "1.0"}}) for one in (OLD, NEW))
    assert [change for change in changes.between(old, new) if change.kind == "code"] == []
    new = replace(new, about=new.about | {"libraries": {"stillroom": "1.1"}})
    (code,) = [change for change in changes.between(old, new) if change.kind == "code"]
    assert str(code) == "stillroom 1.0 → 1.1"
    assert "- code: stillroom 1.1" in changes.labelled([old, new])[1].about["note"]
