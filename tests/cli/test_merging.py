"""Two branches that each changed params.yaml: sources that both added are merged, and what git cannot know is shown."""

import shutil
import subprocess

import pytest
from checkouts import ROOT, git
from hypothesis import given, settings
from hypothesis import strategies as st

from components.base import config
from flows.data import add, merging

BASE = (ROOT / "params.yaml").read_text("utf-8")


SMALL = """\
collect:
  sources:
  - {name: first, kind: files, location: first.zip}
  max_bytes: 1000
"""


def entry(name, **changes):
    return {"name": name, "kind": "files", "location": f"/data/{name}", "licence": "MIT", "matte": "#ffffff",
            "text_column": None, "label_column": None, "group_column": None, **changes}  # fmt: skip


def plus(text, *names):
    for name in names:
        text = add.appended(text, entry(name))
    return text


def names(text):
    return [each["name"] for each in config.parse(text)["collect"]["sources"]]


def test_sources_of_both_are_there_and_those_of_this_branch_come_first():
    found = merging.merged(BASE, plus(BASE, "birds", "cats"), plus(BASE, "dogs"))
    assert names(found) == [*names(BASE), "birds", "cats", "dogs"]
    assert found == plus(BASE, "birds", "cats", "dogs"), "every other character stays"


@settings(max_examples=25)
@given(st.lists(st.sampled_from("abcdefgh"), unique=True, max_size=4),
       st.lists(st.sampled_from("abcdefgh"), unique=True, max_size=4))  # fmt: skip
def test_whatever_both_added_is_there_once(ours, theirs):
    found = merging.merged(SMALL, plus(SMALL, *ours), plus(SMALL, *theirs))
    assert names(found) == ["first", *ours, *(name for name in theirs if name not in ours)]


def test_line_ends_of_windows_stay(repository):
    merging.install(repository)
    ours, theirs = (plus(SMALL, name).replace("\n", "\r\n").encode() for name in ("birds", "dogs"))
    git(repository, "config", "core.autocrlf", "false")
    (repository / "params.yaml").write_bytes(SMALL.replace("\n", "\r\n").encode())
    git(repository, "commit", "-qam", "as Windows writes it")
    status, _ = branches(repository, ours, theirs)
    assert status == 0
    assert (repository / "params.yaml").read_bytes() == plus(SMALL, "birds", "dogs").replace("\n", "\r\n").encode()


def test_what_else_was_changed_is_merged_by_git_also_beside_the_sources():
    theirs = plus(BASE, "dogs").replace("batch: 16", "batch: 32")
    ours = plus(BASE.replace("licence: Apache-2.0", "licence: MIT"), "birds").replace("seed: 0", "seed: 7", 1)
    assert BASE != ours != plus(BASE, "birds")
    found = config.parse(merging.merged(BASE, ours, theirs))
    assert (
        found["train"]["batch"] == 32 and found["collect"]["sources"][0] == config.parse(ours)["collect"]["sources"][0]
    )
    gone = merging.merged(plus(BASE, "old"), plus(BASE, "old", "birds"), plus(BASE, "dogs"))
    assert names(gone) == [*names(BASE), "birds", "dogs"], "one that a side took out stays out"


@pytest.mark.parametrize(("ours", "theirs"), [
    (plus(BASE, "birds"), add.appended(BASE, entry("birds", licence="CC0-1.0"))),
    (BASE.replace("batch: 16", "batch: 32"), BASE.replace("batch: 16", "batch: 8")),
    ("<<<<<<< ours\n" + BASE, plus(BASE, "dogs")), ("collect: 1\n", BASE), (BASE, "- 1\n"), (BASE, ""),
])  # fmt: skip
def test_what_cannot_be_known_is_left_to_git(ours, theirs):
    with pytest.raises(merging._Unmerged):
        merging.merged(BASE, ours, theirs)


@pytest.fixture
def repository(tmp_path):
    git(tmp_path, "init", "-q", "-b", "main")
    (tmp_path / "params.yaml").write_text(BASE)
    shutil.copyfile(ROOT / ".gitattributes", tmp_path / ".gitattributes")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "base")
    return tmp_path


def branches(root, ours, theirs):
    """Merge a branch with ``theirs`` into one with ``ours``; git's exit status and the text that is there then."""
    for name, text in (("other", theirs), ("mine", ours)):
        git(root, "checkout", "-qb", name, "main")
        (root / "params.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
        git(root, "commit", "-qam", name)
    done = subprocess.run(["git", "-C", root, "merge", "-q", "--no-edit", "other"], capture_output=True, check=False)
    return done.returncode, (root / "params.yaml").read_text("utf-8")


def test_git_itself_merges_them(repository):
    merging.install(repository)
    merging.install(repository)  # changes nothing
    assert branches(repository, plus(BASE, "birds"), plus(BASE, "dogs")) == (0, plus(BASE, "birds", "dogs"))


@pytest.mark.parametrize("broken", [False, True])
def test_what_it_leaves_and_a_driver_that_is_gone_end_in_git_s_own_marks(repository, broken):
    merging.install(repository)
    if broken:  # as of an environment that was moved
        key = "merge.stillroom.driver"
        command = git(repository, "config", key).strip()
        git(repository, "config", key, "/nowhere/" + command)
    status, text = branches(repository, BASE.replace("batch: 16", "batch: 32"), BASE.replace("batch: 16", "batch: 8"))
    assert status and "<<<<<<< ours\n" in text and "batch: 32" in text and "batch: 8" in text


def test_a_repository_that_does_not_ask_for_it_is_left_alone(repository):
    (repository / ".gitattributes").write_text("*.png binary\n")
    merging.install(repository)
    assert "merge.stillroom" not in git(repository, "config", "--local", "--list")
