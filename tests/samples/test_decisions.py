"""data/decisions.jsonl: what counts of several lines, and a bad line is an error for each who reads it."""

import json

import pytest

from components.base.errors import UserError
from components.samples import decisions, records

LINE = {"sha256": "a" * 64, "decision": "keep", "label": None, "undo": False, "reason": "a good one", "who": "Ann",
        "source": "photos", "source_key": "a.png"}  # fmt: skip
LABEL = {**LINE, "decision": "label", "label": "cat"}


def held(tmp_path, *lines):
    path = tmp_path / "decisions.jsonl"
    records.append(path, lines)
    found = decisions.standing(path)
    return {name: [(each.kind, each.label, each.reason) for each in here.all] for name, here in found.items()}


def test_the_last_verdict_and_the_last_label_of_an_image_count(tmp_path):
    assert decisions.standing(tmp_path / "decisions.jsonl") == {}, "no file: nothing was decided"
    reject, dog = {**LINE, "decision": "reject", "reason": "no"}, {**LABEL, "label": "dog"}
    found = held(tmp_path, LINE, LABEL, {**LINE, "sha256": "b" * 64}, reject, dog)
    assert found == {"b" * 64: [("keep", None, "a good one")],
                     "a" * 64: [("reject", None, "no"), ("label", "dog", "a good one")]}  # fmt: skip


def test_undo_takes_back_the_decision_of_its_kind_and_no_other(tmp_path):
    other = {**LINE, "decision": "reject"}
    assert held(tmp_path, LINE, LABEL, {**LINE, "undo": True}) == {"a" * 64: [("label", "cat", "a good one")]}
    assert held(tmp_path, {**LABEL, "label": None, "undo": True}) == {}
    assert held(tmp_path, other, {**LINE, "undo": True}) == {"a" * 64: [("reject", None, "a good one")]}, (
        "what another branch decided meanwhile"
    )


def test_a_line_is_written_as_it_is_read(tmp_path):
    (one,) = [decisions.parse(LABEL)]
    assert one.line(source="photos", source_key="a.png") == LABEL


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("{", "Expecting property name"),
        ("[" * 100_000, "recursion"),
        ("[]", "list, wanted an object"),
        ('{"sha256": "%s"}' % ("a" * 64), "'decision' is missing"),
        (json.dumps({**LINE, "sha256": "A" * 64}), "sha256 must be 64 hexadecimal digits"),
        (json.dumps({**LINE, "sha256": 3}), "sha256 must be 64 hexadecimal digits"),
        (json.dumps({**LINE, "decision": "drop"}), "decision must be keep, reject or label, not 'drop'"),
        (json.dumps({**LINE, "decision": ["keep"]}), "decision must be keep"),
        (json.dumps({**LINE, "label": "cat"}), "label must be null"),
        (json.dumps({**LABEL, "label": None}), "label must be a text"),
        (json.dumps({**LABEL, "label": " "}), "label must be a text"),
        (json.dumps({**LABEL, "label": "a\u2028b"}), r"label holds U\+2028"),
        (json.dumps({**LABEL, "label": "a\u202eb"}), r"label holds U\+202E"),
        (json.dumps({**LABEL, "label": "\ud800"}), r"label holds U\+D800"),
        (json.dumps({**LINE, "reason": "x" * 501}), "reason has 501 characters, wanted at most 500"),
        (json.dumps({**LINE, "reason": "\x1b[2J"}), r"reason holds U\+001B"),
        (json.dumps({**LINE, "undo": 1}), "undo must be true or false"),
        (json.dumps({**LINE, "who": 7}), "who must be a text"),
    ],
)
def test_a_bad_line_is_an_error_that_names_file_and_line(tmp_path, line, what):
    path = tmp_path / "decisions.jsonl"
    path.write_text(f"{json.dumps(LINE)}\n\n{line}\n")
    with pytest.raises(UserError, match=rf"decisions\.jsonl:3: not a decision \(.*{what}.*\): mend the line"):
        decisions.read(path)


def test_a_conflict_of_a_merge_is_named_where_it_begins(tmp_path):
    path = tmp_path / "decisions.jsonl"
    path.write_text(f"{json.dumps(LINE)}\n<<<<<<< HEAD\n=======\n>>>>>>> other\n")
    with pytest.raises(UserError, match=r"decisions\.jsonl:2: begins a conflict of a merge"):
        decisions.read(path)
