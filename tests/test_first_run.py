"""What `git status` shows after a first run is what the README calls yours to commit."""

import re

import pytest
from checkouts import ROOT, git

from components.base import config
from components.collect import look
from components.collect.params import CollectParams

TEXT = (ROOT / "README.md").read_text("utf-8")


def yours() -> tuple[set[str], set[str]]:
    """The paths that the README names: left by a first run, and changed where the images are one's own."""
    (listed,) = re.findall(r"\*\*Yours to commit\*\*: (.*?)The data and the weights", TEXT, re.DOTALL)
    always, own = re.fullmatch(r"(.*?)A first run leaves these two (.*)", listed, re.DOTALL).groups()
    return set(re.findall(r"`([^`]+)`", always)), set(re.findall(r"`([^`]+)`", own)) - {"git status"}


def test_nothing_that_a_run_makes_is_committed():
    always, _ = yours()
    assert always == {"dvc.lock", "metrics/"}
    assert git(ROOT, "ls-files", "--", *always) == ""


def test_a_look_at_the_pictures_that_come_with_it_changes_no_committed_file(tmp_path):
    params = config.section(config.read(ROOT / config.FILE), "collect", CollectParams)
    look.look(params, root=ROOT, page=tmp_path / "source.json", cache=tmp_path / "looked", store=tmp_path / "store")
    assert (tmp_path / "source.json").read_text() == git(ROOT, "show", "HEAD:data/source.json")


@pytest.mark.slow
def test_a_first_run_leaves_in_git_status_what_the_readme_names(finished):
    """Its small checkout has pictures of its own, and its params.yaml is committed."""
    always, own = yours()
    shown = {line[3:] for line in git(finished[0], "status", "--porcelain").splitlines()}
    assert shown == always | own - {"params.yaml"}
