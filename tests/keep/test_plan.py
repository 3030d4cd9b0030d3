"""`stillroom plan`: what would run, each stage with its reason; nothing is changed."""

from __future__ import annotations

import json

import data_checkout
import pytest
from checkouts import edit, git

from components.base import config
from components.base.errors import UserError
from flows.cli import keep
from flows.dvc import engine
from flows.dvc.freshness import Freshness
from flows.keep import plan
from flows.workspace.paths import State


@pytest.fixture
def mine(tmp_path):
    """A checkout whose data stages are up to date; nothing was trained in it."""
    root = data_checkout.copied(tmp_path / "checkout")
    state = State(root)
    state.enter()
    return state


def reasons(state, **options):
    return {step.stage: step.reasons for step in plan.plan(state, **options).steps}


def test_a_stage_that_never_ran_says_so_and_those_behind_it_name_it(mine):
    found = reasons(mine)
    assert found["train"] == ["it has not run yet"]
    assert found["evaluate"] == ["it has not run yet", "after train"]
    assert list(found) == ["train", "evaluate", "report"]


def test_a_parameter_is_named_with_both_values(mine):
    before = config.of(mine.root)["split"]["salt"]
    edit(mine.root, "split", salt="another")
    found = reasons(mine)
    assert found["split"] == [f'params.yaml: split.salt {json.dumps(before)} -> "another"']
    assert found["describe"] == ["after split"]


def test_a_file_of_code_is_named(mine):
    path = mine.root / "components/split/stage.py"
    path.write_text(path.read_text() + "\n# a comment\n")
    assert reasons(mine)["split"] == ["components/split/stage.py has changed"]


def test_an_output_that_was_changed_is_named(mine):
    (mine.root / "reports/data.html").write_text("by hand")
    assert reasons(mine)["describe"] == ["reports/data.html has changed"]


def test_a_source_that_changed_and_a_stage_that_is_forced_are_reasons(mine):
    data_checkout.zipped(mine.root / "source.zip", data_checkout.members(25))
    assert reasons(mine)["collect"] == ["its sources have changed"]
    assert "--force" in reasons(mine, force=["split"])["split"]
    with pytest.raises(UserError, match="splt: not a stage"):
        plan.plan(mine, ["splt"])


def test_the_plan_and_the_run_agree_on_what_is_stale(mine):
    """The reasons come from the same comparison as the list."""
    edit(mine.root, "clean", min_side=9)
    fresh = Freshness(mine.root, mine.folder / "none.json")
    assert list(reasons(mine)) == fresh.stale() == engine.stale(mine.root)


def test_what_is_not_here_but_in_the_cache_makes_nothing_stale(mine):
    (mine.root / "reports/data.html").unlink()
    found = plan.plan(mine)
    assert "describe" not in [step.stage for step in found.steps]
    assert (found.missing[0], found.fetch) == ("reports/data.html", {})


def test_what_only_the_remote_has_is_to_be_fetched_with_its_bytes(mine, tmp_path):
    (mine.root / ".dvc/config.local").write_text(
        f"[core]\n    remote = shelf\n['remote \"shelf\"']\n    url = {tmp_path / 'remote'}\n"
    )
    size = (mine.root / "reports/data.html").stat().st_size
    digest = engine.output(engine.lock(mine.root), "describe", "reports/data.html")
    files, every = plan.plan(mine, push=True).push
    assert files > 5 and every > size, "the remote is empty"
    engine.push(mine.root)
    assert plan.plan(mine, push=True).push == (0, 0)
    engine.listing(mine.root, digest).unlink()
    (mine.root / "reports/data.html").unlink()
    found = plan.plan(mine)
    assert found.fetch == {"reports/data.html": size}
    assert "describe" not in [step.stage for step in found.steps]
    assert f"would fetch {size / 1000:.1f} kB from remote 'shelf': reports/data.html" in "\n".join(plan.lines(found))


def test_what_is_nowhere_is_made_again(mine):
    digest = engine.output(engine.lock(mine.root), "describe", "reports/data.html")
    engine.listing(mine.root, digest).unlink()
    (mine.root / "reports/data.html").unlink()
    found = plan.plan(mine)
    assert "reports/data.html" in found.lost
    assert reasons(mine)["describe"][0] == "reports/data.html is not here"


def test_the_last_time_is_told(mine, monkeypatch):
    monkeypatch.setattr(plan, "_seconds", lambda history: {"train": 61.0})
    text = "\n".join(plan.lines(plan.plan(mine)))
    assert "    train    1:01  it has not run yet" in text
    assert "they took 1:01 the last time without evaluate, report" in text


def test_json_has_the_same(mine, capsys):
    before = git(mine.root, "status", "--porcelain")
    keep.plan(directory=mine.root, as_json=True)
    found = json.loads(capsys.readouterr().out)
    assert [step["stage"] for step in found["steps"]] == ["train", "evaluate", "report"]
    assert git(mine.root, "status", "--porcelain") == before
