"""`stillroom data keep`, `reject`, `label`, `decide`: what goes on record, what cannot, and what follows."""

import hashlib
import json
import re
from dataclasses import replace

import pyarrow.parquet as pq
import pytest
from checkouts import git
from data_checkout import HOSTILE, built, copied, refresh
from data_fixtures import png
from typer.testing import CliRunner

from components.base.errors import UserError
from components.diff import changes
from components.samples import decisions, shards
from flows.cli import app
from flows.data import decide, diff, edited, export, status
from flows.history import store
from flows.registry import chain
from flows.workspace.paths import State

RECORD = "data/decisions.jsonl"
WHOLE, OTHER, BROKEN = (hashlib.sha256(data).hexdigest() for data in (png(4), png(5), png(101)[:-40]))


def ask(root, kind, *words, sure=True, **changes):
    said: list[str] = []
    request = decide.Request(kind=kind, words=words, **{"reason": "I looked", **changes})
    decide.decide(State(root), request, say=said.append, sure=lambda question: sure)
    return said


def record(root):
    return [json.loads(line) for line in (root / RECORD).read_text("utf-8").splitlines()]


def rows(root):
    found = pq.read_table(root / "data/clean/verdicts.parquet").to_pylist()
    return {row["sha256"]: row for row in found}


def stale(root):
    return status.status(State(root))["stale"]


def states(root):
    return {name: root / "data" / name for name in ("raw", "clean", "splits")}


@pytest.fixture
def mine(tmp_path):
    return copied(tmp_path / "checkout")


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A checkout in which one image was rejected, one got a label that none had, and the data stages ran."""
    root = copied(tmp_path_factory.mktemp("decided") / "checkout")
    git(root, "config", "user.name", "Ann")
    ask(root, "reject", WHOLE[:10].upper(), reason=f"blurred {HOSTILE}")
    ask(root, "label", OTHER, label="wolves")
    before = stale(root)
    refresh(root)
    return root, before


def test_a_decision_makes_the_stage_stale_that_reads_it_and_says_who_decided_and_why(done):
    root, before = done
    assert before == ["clean", "resize", "split", "profile", "describe"], "what reads verdicts may be stale with them"
    assert [(line["sha256"], line["decision"], line["label"], line["who"]) for line in record(root)] == [
        (WHOLE, "reject", None, "Ann"), (OTHER, "label", "wolves", "Ann"),
    ]  # fmt: skip
    assert set(record(root)[0]) == {"sha256", "decision", "label", "undo", "reason", "who", "source", "source_key"}


def test_every_later_stage_and_the_export_go_by_it(done, tmp_path):
    root, _ = done
    found = rows(root)
    assert (found[WHOLE]["verdict"], found[WHOLE]["reason"]) == ("rejected", "curator")
    assert "wolves" in json.loads((root / "data/profile/profile.json").read_text())["labels"]
    request = export.Request(to=tmp_path / "out", layout="imagefolder", splits=("train", "val", "test", "quarantine"),
                             rev="now", size="original", overwrite=False)  # fmt: skip
    export.export(State(root), request, dry_run=False)
    files = {path.name: path.parent.name for path in (tmp_path / "out").rglob("*.png")}
    assert f"{WHOLE}.png" not in files and files[f"{OTHER}.png"] == "wolves"


def test_no_other_image_changes_its_verdict_label_or_split(done):
    root, _ = done
    found, _ = diff.diff(State(root), "HEAD", "now", pictures=5, target=root.parent / "page.html")
    assert [change.image["sha256"] for change in found.verdicts] == [WHOLE]
    assert [change.image["sha256"] for change in found.annotated] == [OTHER]
    assert found.verdicts[0].why == f"kept → rejected (curator); decided by hand: blurred {HOSTILE}, Ann"
    assert found.annotated[0].why == "label; decided by hand: I looked, Ann"
    back = changes.compare(changes.read(**states(root)), changes.read(**states(built())))
    assert back.annotated[0].why == "label; a decision was taken back"
    assert found.moved == found.added == found.removed == []


def test_the_list_tells_what_came_of_each_and_what_is_yet_to_come(done, capsys):
    root, _ = done
    text = decide.lines(decide.listed(root))
    assert re.search(rf"reject  {WHOLE[:16]} .*kept → rejected \(curator\)  blurred .* \(Ann\)", text)
    assert re.search(rf" label  {OTHER[:16]} .*→ wolves  I looked \(Ann\)", text)
    shown = CliRunner().invoke(app.app, ["data", "decisions", "-C", str(root), "--json"], catch_exceptions=False)
    assert [row["decision"] for row in json.loads(shown.stdout)] == ["reject", "label"]
    assert decide.lines(decide.listed(built())) == "no decision holds"


def test_the_lineage_of_a_run_names_the_record_and_a_run_before_there_was_one_holds(done):
    root, _ = done
    text = (root / RECORD).read_bytes()
    files = {RECORD: text, "data/withdrawn.jsonl": b""}
    run = store.PipelineRun(key="", files=files, commit="", dirty=False, when=0, about={})
    assert chain.by_hand(run).found == (
        f"0 withdrawn, 2 decided by curators ({RECORD}, SHA-256 {hashlib.sha256(text).hexdigest()[:12]})"
    )
    link = chain.by_hand(replace(run, files={}))
    assert link.holds and link.found == "0 withdrawn, 0 decided by curators"
    assert RECORD in store.KEPT


def test_what_is_decided_twice_is_said_and_written_once(mine):
    said = ask(mine, "label", OTHER, label="wolves")
    assert said[0] == "to label wolves: 1 image" and OTHER[:16] in said[1] and RECORD in said[-1]
    text = decide.lines(decide.listed(mine))
    assert re.search(rf" label wolves  {OTHER[:16]} noto-emoji:.*  at the next run  I looked", text)
    assert ask(mine, "label", OTHER, label=" wolves ") == ["1 image that need no decision: all is so already",
                                                           "nothing to do"]  # fmt: skip
    ask(mine, "label", OTHER, undo=True)
    assert [line["undo"] for line in record(mine)] == [False, True] and decide.listed(mine) == []
    with pytest.raises(UserError, match=f"{OTHER[:16]} .*no decision to label it is there to be taken back"):
        ask(mine, "label", OTHER, undo=True)


def test_what_is_rejected_by_a_rule_needs_no_curator_and_what_has_no_picture_cannot_be_kept(mine):
    before = (mine / RECORD).read_bytes()
    assert ask(mine, "reject", BROKEN)[-1] == "nothing to do"
    with pytest.raises(UserError, match=r"damaged.*cannot be kept: only duplicate, near duplicate, too small"):
        ask(mine, "keep", WHOLE, BROKEN)
    with pytest.raises(UserError, match="nothing was decided"):
        ask(mine, "reject", WHOLE, sure=False)
    assert ask(mine, "reject", WHOLE, dry_run=True)[-1] == "nothing was done (--dry-run)"
    with pytest.raises(UserError, match=r"--reason must be a text that is not empty"):
        ask(mine, "reject", WHOLE, reason=" ")
    with pytest.raises(UserError, match="name what to reject: ids or --list FILE"):
        ask(mine, "reject")
    assert (mine / RECORD).read_bytes() == before
    ask(mine, "reject", WHOLE)
    with pytest.raises(UserError, match=r"no decision to keep it is there to be taken back: that to reject it holds"):
        ask(mine, "keep", WHOLE, undo=True)
    assert ask(mine, "keep", WHOLE)[1].endswith("decided to reject")


def test_a_withdrawn_image_is_out_of_reach(mine):
    index = shards.read_index(mine / "data/raw")
    at = index["sha256"].to_pylist().index(WHOLE)
    flags = index["withdrawn"].to_pylist()
    flags[at] = True
    place = index.schema.get_field_index("withdrawn")
    pq.write_table(index.set_column(place, index.schema.field(place), [flags]), mine / "data/raw/index.parquet")
    with pytest.raises(UserError, match=f"{WHOLE[:16]} .*it was withdrawn: nothing can be decided"):
        ask(mine, "keep", WHOLE)


def take_in(root, path, **changes):
    said: list[str] = []
    decide.take_in(State(root), path, **{"dry_run": False, "sure": lambda _: True, **changes}, say=said.append)
    return said


def test_a_file_of_decisions_is_taken_in_whole_or_not_at_all(mine, tmp_path):
    path = tmp_path / "decisions.jsonl"
    good = [{"sha256": WHOLE, "decision": "reject", "reason": "blurred", "who": "somebody else", "source": "/etc"},
            {"sha256": OTHER, "decision": "label", "label": "wolves", "reason": "is one"}]  # fmt: skip
    for bad, what in (
        ({"sha256": "0" * 64, "decision": "keep", "reason": "x"}, "no image in data/raw has this SHA-256"),
        ({"sha256": BROKEN, "decision": "keep", "reason": "x"}, "cannot be kept"),
        ({"sha256": WHOLE[:8], "decision": "keep", "reason": "x"}, "sha256 must be 64 hexadecimal digits"),
        ({"sha256": WHOLE, "decision": "keep"}, "'reason' is missing"),
        ({"sha256": WHOLE, "decision": "delete", "reason": "x"}, "decision must be keep, reject or label"),
    ):
        path.write_text("".join(json.dumps(line) + "\n" for line in [*good, bad]))
        with pytest.raises(UserError, match=rf"decisions\.jsonl:3: not a decision \(.*{what}.*\): nothing was taken"):
            take_in(mine, path)
        assert (mine / RECORD).read_bytes() == b""
    path.write_text("".join(json.dumps(line) + "\n" for line in good))
    assert take_in(mine, path, dry_run=True)[-1] == "nothing was done (--dry-run)"
    take_in(mine, path)
    first, second = record(mine)
    assert (first["source"], second["label"]) == ("noto-emoji", "wolves") and first["who"] != "somebody else"
    assert take_in(mine, path)[-1] == "nothing to do"
    with pytest.raises(UserError, match=r"nowhere\.jsonl: wanted a file of decisions"):
        take_in(mine, tmp_path / "nowhere.jsonl")


def test_the_command_line_takes_just_one_of_a_label_and_undo(mine):
    words = ["data", "label", WHOLE, "--reason", "x", "-C", str(mine)]
    assert CliRunner().invoke(app.app, words).exit_code == 2
    assert CliRunner().invoke(app.app, [*words, "--to", "a", "--undo"]).exit_code == 2
    done = CliRunner().invoke(app.app, [*words, "--to", "a", "--yes"], catch_exceptions=False)
    assert done.exit_code == 0 and "1 added; commit data/decisions.jsonl" in done.stderr
    assert decisions.standing(mine / RECORD)[WHOLE].label.label == "a"


@pytest.mark.parametrize(("kind", "what"), [("none", "not there"), ("folder", "a folder")])
def test_a_record_that_is_lost_is_one_line_before_anything_is_done(tmp_path, kind, what):
    (tmp_path / "data").mkdir()
    (tmp_path / "params.yaml").write_text("clean: {}\n")
    (tmp_path / "data/withdrawn.jsonl").touch()
    edited.check(tmp_path)  # a project of an older package has no such record, and no stage that reads it
    (tmp_path / "dvc.yaml").write_text("stages:\n  clean:\n    deps: [data/withdrawn.jsonl, data/decisions.jsonl]\n")
    if kind == "folder":
        (tmp_path / "data/decisions.jsonl").mkdir()
    with pytest.raises(UserError, match=rf"^data/decisions\.jsonl: {what}, .*`git checkout data/decisions\.jsonl`"):
        edited.check(tmp_path)
