"""Which version each alias points to follows from the decisions on record alone."""

import pytest
from checkouts import git

from flows.history import ledger, store
from flows.history.decisions import Decided, intent, outcome
from flows.history.known import History
from flows.history.ledger import Record
from flows.history.store import PipelineRun
from flows.registry import aliases


def decided(*rows):
    """Decisions in order: each the number of a version, the champion it was compared with, and what came of it."""
    found = []
    for at, (number, expected, result) in enumerate(rows):
        body = intent(name="denoiser", version=number, manifest="m", expected=expected, by="gate",
                      decision={"promote": result == "promoted", "waits": result == "waits"})  # fmt: skip
        begun = Record(id=f"i{at}", kind="intent", key=f"k{number}", number=2 * at, when=0, body=body)
        said = outcome(begun, "held" if result == "waits" else result)
        ended = Record(id=f"o{at}", kind="outcome", key=f"k{number}", number=2 * at + 1, when=0, body=said)
        found.append(Decided(intent=begun, outcome=ended))
    return found


def told(*rows):
    targets = aliases.wanted(decided(*rows))
    waits = aliases.waiting(targets)
    return {alias: one.version for alias, one in targets.items()}, waits and waits.version


def test_a_version_that_is_held_back_is_the_challenger_until_it_is_promoted():
    rows = [(1, None, "promoted"), (2, 1, "held")]
    assert told(*rows) == ({"champion": 1, "challenger": 2}, None)
    assert told(*rows, (3, 1, "held")) == ({"champion": 1, "challenger": 3}, None)
    assert told(*rows, (2, 1, "promoted")) == ({"champion": 2, "previous": 1}, None)
    assert told(*rows, (3, 1, "overtaken")) == ({"champion": 1, "challenger": 2}, None)


def test_a_winner_that_waits_stays_challenger_while_others_lose():
    assert told((1, None, "waits")) == ({"challenger": 1}, 1)
    rows = [(1, None, "promoted"), (2, 1, "waits"), (3, 1, "held")]
    assert told(*rows) == ({"champion": 1, "challenger": 2}, 2)
    assert told(*rows, (4, 1, "waits")) == ({"champion": 1, "challenger": 4}, 4)


def test_a_winner_against_a_champion_that_is_gone_waits_no_more():
    rows = [(1, None, "promoted"), (2, 1, "waits"), (3, 1, "promoted")]
    assert told(*rows) == ({"champion": 3, "previous": 1, "challenger": 2}, None)
    assert told(*rows, (4, 3, "held")) == ({"champion": 3, "previous": 1, "challenger": 4}, None)


def test_going_back_and_forth_leaves_the_one_before_as_previous():
    rows = [(1, None, "promoted"), (2, 1, "promoted"), (1, 2, "promoted")]
    assert told(*rows) == ({"champion": 1, "previous": 2}, None)


def test_previous_is_the_champion_that_was_found_whoever_had_made_it():
    rows = [(1, None, "promoted"), (2, 1, "promoted")]
    by_hand = [*rows, (3, 1, "promoted")]  # somebody had moved the alias back to 1 in MLflow
    assert told(*by_hand) == ({"champion": 3, "previous": 1}, None)
    unknown = [*rows, (5, 4, "promoted")]  # 4 is another machine's, whose records are not here
    assert told(*unknown) == ({"champion": 5}, None)
    assert told((1, None, "promoted"), (1, 1, "promoted")) == ({"champion": 1}, None)
    assert told(*rows, (2, 2, "promoted")) == ({"champion": 2, "previous": 1}, None)


def behind(at, *rows):
    """Whether an alias that stands where the decision number ``at`` of ``rows`` set it is to follow the ledger."""
    every = decided(*rows)
    return aliases.overtaken(every, every[at].intent.key, every[at].intent.id)


def test_an_alias_follows_what_was_decided_elsewhere_and_never_goes_back():
    rows = [(1, None, "promoted"), (2, 1, "promoted")]
    assert behind(0, *rows) and not behind(1, *rows)
    assert behind(1, *rows, (1, 2, "promoted")), "a rollback"
    assert not behind(0, (1, None, "promoted"), (2, 1, "held"))
    assert behind(1, *rows, (3, 1, "promoted")), "two at once: as the ledger has it"
    assert not behind(0, (2, 3, "promoted"), (3, 1, "promoted")), "made against 3, by a machine whose clock is slow"
    every = decided(*rows)
    assert not aliases.overtaken(every, "k1", "another machine's record"), "its ledger was not fetched"
    assert not aliases.overtaken(every, "k2", every[0].intent.id), "a person moved it"


OLD, KEPT = "stillroom", "kept-by-stillroom"


@pytest.fixture
def root(tmp_path):
    """A repository with two pipeline runs on record, ``a`` and ``b``."""
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "-c", "user.name=t", "-c", "user.email=t@localhost", "commit", "--quiet", "--allow-empty", "-m", "x")
    (tmp_path / ".stillroom").mkdir()
    for key in "ab":
        held = {"dvc.lock": f"of {key}".encode()}
        run = PipelineRun(key=key, files=held, commit="", dirty=False, when=0, about={})
        store.record(tmp_path, run, store.records(tmp_path))
    return tmp_path


def keep(root, **pointed):
    """Keep the bytes of the run of each alias; the branches then, with what they hold, and what was said."""
    lines = []
    aliases.keep(History(root), pointed, say=lines.append)
    names = [name for name in git(root, "branch", "--format=%(refname:short)").split() if "stillroom" in name]
    return {name: git(root, "ls-tree", "-r", "--name-only", name).split() and git(root, "show", f"{name}:dvc.lock")
            for name in names}, lines  # fmt: skip


def test_the_branches_follow_the_aliases(root):
    assert keep(root, champion="a") == ({f"{KEPT}/champion": "of a"}, [])
    both = {f"{KEPT}/champion": "of b", f"{KEPT}/previous": "of a"}
    assert keep(root, champion="b", previous="a") == (both, [])
    assert keep(root, champion="unknown here", previous="a") == (both, [])
    assert keep(root) == ({}, [])


@pytest.mark.parametrize("name", [f"{KEPT}/champion", KEPT])
def test_a_branch_of_a_person_is_never_touched(root, name):
    git(root, "branch", name)
    mine = git(root, "rev-parse", name)
    found, lines = keep(root, champion="a", previous="a")
    assert git(root, "rev-parse", name) == mine
    assert (f"{KEPT}/previous" in found) is (name != KEPT)
    assert lines[0].startswith(f"branch {KEPT}/champion stays as it is (") and "rename it" in lines[0]
    keep(root)
    assert git(root, "rev-parse", name) == mine


def test_branches_under_the_name_of_before_are_removed_where_they_are_ours(root):
    commit = ledger.commit_of(root, {"dvc.lock": b"of a"}, f"champion: x\n\n{aliases._MARK}", 0)
    git(root, "branch", f"{OLD}/champion", commit)
    git(root, "branch", f"{OLD}/previous")
    found, lines = keep(root, champion="a")
    assert set(found) == {f"{OLD}/previous", f"{KEPT}/champion"} and not lines
