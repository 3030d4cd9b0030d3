"""What stops a refresh before it trains: each clause, its words, and the page."""

from __future__ import annotations

import json
import math
import re
import shutil

import pytest
from browser import Browser
from checkouts import edit, git, stillroom, with_prefect
from report_fixtures import BREAKOUT, SCRIPT

from components.base import config
from components.base.errors import UserError
from components.contract import page as contractpage
from components.contract.clauses import Clause, broken, judge, line, shift
from components.contract.params import ContractParams
from components.pipeline import PIPELINE
from flows.data import contract
from flows.history import decisions, ledger, store
from flows.history.store import PipelineRun

WANTED = {"min_images": 100, "max_rejected": 0.2, "max_unreached": 0.5, "max_duplicates": 0.1, "min_captioned": 0.25,
          "licences": ["CC0", "CC-BY"], "labels": ["birds", "fish"], "min_class": 10, "max_lost": 0.5,
          "max_shift": 0.5, "max_label_shift": 0.5}  # fmt: skip
COLLECT = {"max_bytes": 1024, "notes": "keep", "opt_outs": "refuse", "sources": [
    {"name": name, "kind": "files", "location": name, "licence": "x", "matte": "#ffffff", "text_column": None,
     "label_column": None, "group_column": None} for name in "ab"]}  # fmt: skip
GOOD = {
    "format": 1, "images": 400, "came_in": 440, "rejected_share": 40 / 440,
    "rejected": {"damaged": 10, "duplicate": 30},
    "labels": {"birds": 300, "fish": 100}, "unlabelled": 0, "embedding": "colours", "side": 32, "embedded": 400,
    "mean": [0.0, 0.0], "spread": 2.0, "unreached": {"http_4xx": 50}, "captioned": 100, "licences": {"CC0": 400},
    "label_means": {"birds": {"embedded": 300, "mean": [0.0, 0.0]}, "fish": {"embedded": 100, "mean": [1.0, 0.0]}},
    "sources": {"a": {"kept": 300, "rejected": 10, "unreached": 0, "captioned": 100, "embedded": 300,
                      "mean": [0.0, 0.0]},
                "b": {"kept": 100, "rejected": 30, "unreached": 50, "captioned": 0, "embedded": 100,
                      "mean": [0.0, 0.0]}},
}  # fmt: skip


def params(**changes) -> ContractParams:
    return ContractParams.model_validate_json(json.dumps({**WANTED, **changes}))


def judged(profile: dict, before: dict | None = None, *, sources=("a", "b"), **changes) -> list[Clause]:
    return judge(profile, before, params(**changes), sources=sources)


def broken_lines(profile: dict, before: dict | None = None, **changes) -> list[str]:
    return [line(clause) for clause in broken(judged({**GOOD, **profile}, before, **changes))]


def test_a_good_data_set_keeps_every_clause():
    assert broken_lines({}) == broken_lines({}, GOOD) == []
    assert [clause.name for clause in judged(GOOD)] == list(WANTED)


@pytest.mark.parametrize(
    ("profile", "message"),
    [
        ({"images": 99}, "contract.min_images: 99 images are kept (source a: 300), wanted at least 100 images"),
        (
            {"rejected_share": 0.25},
            "contract.max_rejected: 25.0% of 440 images were rejected (source b: 30 of 130), wanted at most 20.0%",
        ),
        (
            {"labels": {"birds": 400}},
            "contract.labels: 1 of them without an image (label 'fish' has no image), wanted the 2 labels listed",
        ),
        (
            {"labels": {"birds": 300, "fish": 90, "cats": 10}},
            "contract.labels: 1 others (label 'cats' is not expected: 10), wanted the 2 labels listed",
        ),
        (
            {"labels": {"birds": 391, "fish": 9}},
            "contract.min_class: the smallest label has 9 (label 'fish': 9), wanted at least 10 images of each label",
        ),
        (
            {"sources": {"b": {**GOOD["sources"]["b"], "unreached": 390}}},
            "contract.max_unreached: 75.0% of a source's addresses gave nothing (source b: 390 of 520 gave nothing), "
            "wanted at most 50.0%",
        ),
        (
            {"rejected": {"duplicate": 30, "near_duplicate": 25}},
            "contract.max_duplicates: 12.5% of 440 images show what another one shows (duplicate: 30), "
            "wanted at most 10.0%",
        ),
        (
            {"captioned": 80},
            "contract.min_captioned: 20.0% of the images have a caption (source a: 100 of 300 have a caption), "
            "wanted at least 25.0%",
        ),
        (
            {"licences": {"CC0": 390, "unknown": 10}},
            "contract.licences: 1 others (licence 'unknown': 10 images), wanted the 2 licences listed",
        ),
    ],
    ids=[
        "min_images",
        "max_rejected",
        "missing",
        "strange",
        "min_class",
        "unreached",
        "duplicates",
        "captioned",
        "licences",
    ],
)
def test_a_broken_clause_says_what_was_found_who_and_what_was_wanted(profile, message):
    assert broken_lines(profile) == [message]


def test_a_clause_at_its_limit_holds():
    assert broken_lines({"images": 100, "rejected_share": 0.2, "labels": {"birds": 90, "fish": 10}}) == []


def test_any_labels_will_do_when_none_are_listed():
    assert broken_lines({"labels": {"cats": 400}}, labels=None) == []
    assert broken_lines({"labels": {}}, labels=None) == []


def test_a_shift_names_the_source_that_moved_and_the_labels_that_changed():
    far = {"kept": 200, "rejected": 0, "embedded": 200, "mean": [3.0, 0.0]}
    now = {"mean": [1.5, 0.0], "labels": {"birds": 200, "fish": 200}, "sources": {**GOOD["sources"], "new": far}}
    (message,) = broken_lines(now, GOOD)
    assert message.startswith(
        "contract.max_shift: the mean has moved by 0.75 spreads (source new: 1.50 spreads from then"
    )
    (clause,) = broken(judged({**GOOD, **now}, GOOD))
    assert "label 'birds': 300 then, 200 now" in clause.involved
    assert broken_lines(now, GOOD, max_shift=0.8) == broken_lines(now, GOOD, max_shift=None) == broken_lines(now) == []


def test_a_label_that_now_shows_something_else_is_named():
    moved = {"birds": {"embedded": 300, "mean": [0.0, 0.0]}, "fish": {"embedded": 100, "mean": [4.0, 0.0]}}
    assert broken_lines({"label_means": moved}, GOOD) == [
        "contract.max_label_shift: the label that moved most has moved by 1.49 spreads (label 'fish': 1.49 spreads "
        "from then, 100 images), wanted at most 0.5 spreads"
    ]
    before = {key: value for key, value in GOOD.items() if key != "label_means"}  # as earlier versions wrote it
    assert broken_lines({"label_means": moved}, before) == broken_lines({"label_means": {}}, GOOD) == []
    assert broken_lines({"label_means": moved}, GOOD, max_label_shift=None) == []


def test_a_ruined_source_names_itself_its_labels_and_what_it_was_rejected_for():
    ruined = {**GOOD["sources"], "b": {"kept": 20, "rejected": 110, "embedded": 20, "mean": [0.0, 0.0]}}
    now = {"images": 320, "labels": {"birds": 280, "fish": 40}, "sources": ruined,
           "rejected": {"damaged": 90, "duplicate": 30}}  # fmt: skip
    (message,) = broken_lines(now, GOOD)
    assert message == (
        "contract.max_lost: a source or label has lost 80.0% of its images (source b: 100 then, 20 now), "
        "wanted at most 50.0% of a source or label"
    )
    (clause,) = broken(judged({**GOOD, **now}, GOOD))
    assert clause.involved[1:] == ("label 'fish': 100 then, 40 now", "rejected as damaged: 10 then, 90 now")
    assert broken_lines(now, GOOD, max_lost=None) == broken_lines(now, GOOD, max_lost=0.8) == broken_lines(now) == []


def test_a_source_that_is_gone_is_lost_and_one_that_was_taken_out_is_not():
    now = {"images": 300, "sources": {"a": GOOD["sources"]["a"]}}
    assert "source b: 100 then, 0 now" in broken_lines(now, GOOD)[0]
    assert broken_lines(now, GOOD, sources=("a",)) == []
    assert "label 'fish': 100 then, 0 now" in broken_lines(now | {"labels": {"birds": 300}}, GOOD, sources=("a",),
                                                           labels=None)[0]  # fmt: skip


def test_of_few_images_a_loss_says_nothing():
    few = {**GOOD, "labels": {"birds": 300, "fish": 9}}
    assert broken_lines({"labels": {"birds": 300}}, few, labels=None) == []


def test_what_chance_gives_is_no_shift():
    by_chance = 2.0 * math.sqrt(1 / 400 + 1 / 400)
    assert shift({**GOOD, "mean": [by_chance, 0.0]}, GOOD) == 0
    assert shift({**GOOD, "mean": [2.0, 0.0]}, GOOD) == pytest.approx(1, abs=0.01)
    assert shift({**GOOD, "mean": [2.0, 0.0]}, {**GOOD, "spread": 0.0}) == math.inf


def test_another_embedding_cannot_be_compared():
    before = {**GOOD, "embedding": "efficientnet_lite0", "mean": [9.0] * 1280}
    assert broken_lines({}, before) == []
    assert "not to be compared: efficientnet_lite0 at 32 px then" in judged(GOOD, before)[-1].found


def test_the_page_shows_every_clause_and_hostile_names_as_text(tmp_path):
    labels = {SCRIPT: 200, BREAKOUT: 200}
    now = {**GOOD, "labels": labels, "sources": {SCRIPT: GOOD["sources"]["a"]}, "rejected_share": 0.9}
    clauses = judged(now, GOOD)
    page = tmp_path / "contract.html"
    page.write_text(contractpage.render(clauses, now, GOOD), "utf-8")
    with Browser() as browser:
        view = browser.open(page, evaluate="[document.title, document.scripts.length, document.images.length]")
    assert view.values["result"] == ["Data contract broken · Stillroom", 1, 0]
    assert view.console == view.requests == [] and view.overflow <= 0
    for clause in clauses:
        assert clause.wanted in view.text
    broken_here = "contract.max_rejected, contract.labels, contract.max_lost"
    assert f"3 of 11 rules of the data contract are broken: {broken_here}" in view.text
    assert SCRIPT in view.text and re.search(r"fish\s+100\s+0\s+0\.0 %", view.text)


def test_a_long_list_is_cut():
    clause = Clause("labels", "w", "f", True, tuple(f"label {at}" for at in range(1000)))
    text = contractpage.render([clause], GOOD, None)
    assert "label 199<" in text and "label 200<" not in text and "And 800 more." in text


@pytest.fixture
def root(tmp_path):
    """A checkout with a profile and no pass."""
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "-c", "user.name=t", "-c", "user.email=t@localhost", "commit", "--quiet", "--allow-empty", "-m", "x")
    (tmp_path / ".stillroom").mkdir()
    (tmp_path / "params.yaml").write_text(f"contract: {json.dumps(WANTED)}\ncollect: {json.dumps(COLLECT)}\n")
    put(tmp_path, GOOD)
    return tmp_path


def put(root, profile: dict) -> bytes:
    path = root / contract.PROFILE
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(profile))
    return path.read_bytes()


def remember(root, key: str, profile: dict, promote: bool | None = None) -> None:
    """Put a run on record, and a decision on it where ``promote`` is one."""
    stages = {stage.name: {"cmd": "", "deps": [], "outs": []} for stage in PIPELINE}
    lock = json.dumps({"schema": "2.0", "stages": stages}).encode()
    held = {"dvc.lock": lock, "params.yaml": b"x: 1\n", contract.PROFILE: json.dumps(profile).encode()}
    commit = git(root, "rev-parse", "HEAD").strip()
    run = PipelineRun(key=key, files=held, commit=commit, dirty=False, when=0, about={})
    store.record(root, run, store.records(root))
    if promote is not None:
        body = decisions.intent(name="denoiser", version=1, manifest="", expected=None, by="gate",
                                decision={"promote": promote, "reason": ""})  # fmt: skip
        begun = ledger.append(root, store.records(root), "intent", key, body)
        result = "promoted" if promote else "held"
        ledger.append(root, store.records(root), "outcome", key, decisions.outcome(begun, result))


def test_the_page_is_there_while_the_contract_is_broken(root):
    put(root, {**GOOD, "images": 1})
    assert contract.violations(root) == broken_lines({"images": 1})
    assert not (root / contract.PAGE).exists()
    with pytest.raises(
        UserError, match=r"^contract\.min_images: 1 images .* nothing was trained; see reports/contract\.html"
    ):
        contract.check(root)
    assert "Broken: min_images" in (root / contract.PAGE).read_text("utf-8")
    put(root, GOOD)
    assert contract.check(root).startswith("contract holds: 400 images are kept;")
    assert not (root / contract.PAGE).exists()


def test_it_compares_with_the_last_run_that_the_gate_decided_on(root):
    assert contract.baseline(root) is None
    remember(root, "a", {**GOOD, "images": 111}, promote=True)
    remember(root, "b", {**GOOD, "images": 222}, promote=False)
    remember(root, "c", {**GOOD, "images": 333})
    assert contract.baseline(root)["images"] == 222


@pytest.mark.parametrize("text", ["{", "[]", '{"format": 2}', "{}"])
def test_a_profile_that_is_none_is_one_line(root, text):
    (root / contract.PROFILE).write_text(text)
    with pytest.raises(UserError, match="run stage 'profile' again"):
        contract.check(root)


@pytest.mark.slow
def test_a_broken_contract_stops_a_real_run_before_it_trains(finished, tmp_path):
    folder = tmp_path / "checkout"
    shutil.copytree(finished[0], folder, symlinks=True)
    with_prefect(folder)
    assert stillroom(folder, "run").returncode == 0  # a checkout that moved publishes its run where it is now
    model = (folder / "models/candidate/history.jsonl").read_bytes()
    edit(folder, "train", seed=3)
    edit(folder, "contract", min_images=1000)
    assert "would stop before training: contract.min_images: " in stillroom(folder, "run", "--dry-run").stdout
    done = stillroom(folder, "run")
    assert done.returncode == 2, done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: contract.min_images: ")
    assert "Traceback" not in done.stderr and "train" not in done.stderr.split("error: ")[0]
    assert (folder / contract.PAGE).is_file()
    assert (folder / "models/candidate/history.jsonl").read_bytes() == model
    edit(folder, "train", seed=config.read(finished[0] / config.FILE)["train"]["seed"])
    done = stillroom(folder, "run")
    assert "Nothing to do" in done.stdout, done.stderr
    assert "the next training would be refused: contract.min_images: " in done.stderr
