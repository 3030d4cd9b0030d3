"""Git keeps each pipeline run, on a ref of its own."""

import io
import subprocess
from dataclasses import replace

import pytest
from checkouts import git
from ruamel.yaml import YAML

from components.pipeline import PIPELINE
from flows.dvc import engine
from flows.history import store
from flows.history.store import PipelineRun
from flows.registry import bundle


@pytest.fixture
def root(tmp_path):
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "-c", "user.name=t", "-c", "user.email=t@localhost", "commit", "--quiet", "--allow-empty", "-m", "x")
    (tmp_path / ".stillroom").mkdir()
    return tmp_path


def make(root, seed=0):
    stages = {
        stage.name: {"cmd": f"python -m components {stage.name}", "deps": [], "params": {"params.yaml": {"seed": seed}},
                     "outs": [{"path": path, "md5": f"{seed:030x}01.dir"} for path in stage.writes.values()]}
        for stage in PIPELINE
    }  # fmt: skip
    text = io.StringIO()
    YAML().dump({"schema": "2.0", "stages": stages}, text)
    held = {"dvc.lock": text.getvalue().encode(), "params.yaml": f"train:\n  seed: {seed}\n".encode()}
    held["metrics/train.json"] = b'{"x0_error": 0.5}'
    commit = git(root, "rev-parse", "HEAD").strip()
    return PipelineRun(key=engine.key(stages), files=held, commit=commit, dirty=False, when=0, about={})


def test_what_is_recorded_is_found_again_and_no_branch_moves(root):
    run = replace(make(root), about={"stages": {"train": "executed"}})
    head, status = git(root, "rev-parse", "HEAD"), git(root, "status", "--porcelain")
    store.record(root, run)
    (found,) = store.all_runs(root)
    assert (found.key, found.files, found.commit, found.dirty) == (run.key, run.files, run.commit, False)
    assert found.about["stages"] == {"train": "executed"}
    assert found.metrics == {"train/x0_error": 0.5}
    assert (git(root, "rev-parse", "HEAD"), git(root, "status", "--porcelain")) == (head, status)


def test_saying_it_twice_adds_nothing(root):
    for _ in range(2):
        store.record(root, make(root))
    assert git(root, "rev-list", "--count", store.REF).strip() == "2"  # the pass, and the commit it was made from


def test_a_run_is_as_it_was_recorded_last_and_each_key_is_there_once(root):
    first, second = make(root, 0), make(root, 1)
    store.record(root, first)
    store.record(root, second)
    store.record(root, replace(first, about={"decision": {"promote": True}}))
    found = store.all_runs(root)
    assert [one.key for one in found] == [second.key, first.key]
    assert found[1].about["decision"] == {"promote": True}


def test_a_lock_that_people_committed_is_a_run_too(root):
    run = make(root, 5)
    for name, content in run.files.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(content)
    git(root, "add", "dvc.lock", "params.yaml", "metrics")
    git(root, "-c", "user.name=t", "-c", "user.email=t@localhost", "commit", "--quiet", "-m", "results")
    (found,) = store.all_runs(root)
    assert (found.key, found.metrics, found.about) == (run.key, run.metrics, {})


def test_a_run_from_before_a_stage_was_added_is_complete_by_its_own_dvc_yaml(root):
    def without(*names: str) -> dict:
        return {name: entry for name, entry in make(root).stages.items() if name not in names}

    def dumped(stages: dict) -> bytes:
        out = io.StringIO()
        YAML().dump({"stages": stages}, out)
        return out.getvalue().encode()

    table = dumped({name: {} for name in without("profile")})
    for gone in (("profile",), ("profile", "report")):
        held = {**make(root).files, "dvc.yaml": table, "dvc.lock": dumped(without(*gone))}
        store.record(root, replace(make(root), files=held))
    assert [one.key for one in store.all_runs(root)] == [engine.key(without("profile"))]


def test_the_history_survives_a_push_and_a_fetch(root, tmp_path_factory):
    store.record(root, make(root))
    bare = tmp_path_factory.mktemp("remote") / "bare.git"
    subprocess.run(["git", "init", "--quiet", "--bare", str(bare)], check=True)
    git(root, "push", "--quiet", str(bare), store.REF)
    other = tmp_path_factory.mktemp("other")
    git(other, "init", "--quiet")
    git(other, "fetch", "--quiet", str(bare), f"{store.REF}:{store.REF}")
    assert [one.key for one in store.all_runs(other)] == [make(root).key]


def test_a_version_answers_for_every_file_and_a_changed_one_is_named(root, tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    for name in ("weights.safetensors", "scores.json", "samples.png", "film.png"):
        (source / name).write_text(name)
    model = {"unet/weights.safetensors": source / "weights.safetensors"}
    scores = {name: source / name for name in ("scores.json", "samples.png", "film.png")}
    folders = [tmp_path / "a" / "version", tmp_path / "b" / "version"]
    digests = [bundle.build(folder, run=make(root), model=model, evaluation=scores) for folder in folders]
    assert digests[0] == digests[1]
    found = bundle.verify(folders[0])
    assert set(found["files"]) == {"unet/weights.safetensors", "scores.json", "samples.png", "film.png"}
    assert found["data"]["splits"].endswith(".dir") and found["git_commit"] == make(root).commit
    (folders[0] / "unet/weights.safetensors").write_text("weights.safetensorz")
    with pytest.raises(bundle.UserError, match=r"weights\.safetensors: differs"):
        bundle.verify(folders[0])
    (folders[1] / "scores.json").unlink()
    with pytest.raises(bundle.UserError, match=r"scores\.json: missing"):
        bundle.verify(folders[1])


def test_a_manifest_that_points_outside_is_not_trusted(tmp_path):
    (tmp_path / "version").mkdir()
    (tmp_path / "secret").write_text("x")
    (tmp_path / "version" / bundle.MANIFEST).write_text('{"files": {"../secret": {"sha256": "", "bytes": 1}}}')
    with pytest.raises(bundle.UserError, match="outside"):
        bundle.verify(tmp_path / "version")
