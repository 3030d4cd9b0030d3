"""data/withdrawn.jsonl: one parser for all who read it, and a bad line is an error for each of them."""

import json
import re
import subprocess

import pytest

from components.base.errors import UserError
from components.samples import records, withdrawn

LINE = {
    "sha256": "a" * 64, "source": "photos", "source_key": "a.png", "reason": "asked for", "pixel_sha256": "b" * 64,
    "phash": None, "width": 4, "height": None, "pairs": [["c" * 64, "similar"]],
}  # fmt: skip

NAMED = ("-c", "user.name=a", "-c", "user.email=a@localhost")


def test_what_was_appended_is_read_again(tmp_path):
    path = tmp_path / "withdrawn.jsonl"
    assert withdrawn.names(path) == frozenset(), "no file: nothing was withdrawn"
    path.write_text(json.dumps(LINE))  # a last line without an end
    records.append(path, [{**LINE, "sha256": "d" * 64}, {**LINE, "width": 9}])
    assert withdrawn.names(path) == {"a" * 64, "d" * 64}
    found = withdrawn.read(path)["a" * 64]
    assert (found.width, found.height, found.phash, found.pairs) == (4, None, None, (("c" * 64, "similar"),))


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("{", "Expecting property name"),
        ("[]", "list, wanted an object"),
        ('{"sha256": "%s"}' % ("a" * 64), "'pixel_sha256' is missing"),
        (json.dumps({**LINE, "sha256": "a" * 63}), "sha256 must be 64 hexadecimal digits"),
        (json.dumps({**LINE, "phash": "x" * 64}), "phash must be 64 hexadecimal digits"),
        (json.dumps({**LINE, "width": "wide"}), "invalid literal"),
        (json.dumps({**LINE, "pairs": [["c" * 64]]}), "not enough values"),
    ],
)
@pytest.mark.parametrize("reader", [withdrawn.read, withdrawn.names])
def test_a_bad_line_is_an_error_that_names_file_and_line(tmp_path, reader, line, what):
    path = tmp_path / "withdrawn.jsonl"
    path.write_text(f"{json.dumps(LINE)}\n\n{line}\n")
    with pytest.raises(UserError, match=rf"withdrawn\.jsonl:3: not a withdrawn image \(.*{what}"):
        reader(path)


def test_a_conflict_of_a_merge_is_named_where_it_begins(tmp_path):
    path = tmp_path / "withdrawn.jsonl"
    mine, theirs = (json.dumps({**LINE, "sha256": each * 64}) for each in "de")
    path.write_text(f"{json.dumps(LINE)}\n<<<<<<< HEAD\n{mine}\n=======\n{theirs}\n>>>>>>> other\n")
    with pytest.raises(UserError, match=r"withdrawn\.jsonl:2: begins a conflict of a merge .*both sides"):
        withdrawn.read(path)


def test_a_name_may_hold_what_python_takes_for_the_end_of_a_line(tmp_path):
    path = tmp_path / "withdrawn.jsonl"
    records.append(path, [{**LINE, "source_key": "a\u2028b\x85c\x0b.png"}, {**LINE, "sha256": "d" * 64}])
    assert withdrawn.names(path) == {"a" * 64, "d" * 64}


def test_what_is_no_text_is_an_error_that_names_the_file(tmp_path):
    path = tmp_path / "withdrawn.jsonl"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match=r"withdrawn\.jsonl: not text in UTF-8 .*git checkout"):
        withdrawn.read(path)


def test_the_command_that_the_error_names_brings_the_file_back(tmp_path, monkeypatch):
    path = tmp_path / "data/withdrawn.jsonl"
    path.parent.mkdir()
    path.write_text(json.dumps(LINE) + "\n")
    monkeypatch.chdir(tmp_path)
    for words in (["init", "--quiet"], ["add", "."], [*NAMED, "commit", "--quiet", "-m", "it"]):
        subprocess.run(["git", *words], check=True)
    path.write_text("{")
    with pytest.raises(UserError) as caught:
        withdrawn.read(path)
    command = re.search("`(.*)`", str(caught.value))[1]
    subprocess.run(command.split(), check=True, capture_output=True)
    assert withdrawn.names(path) == {"a" * 64}
