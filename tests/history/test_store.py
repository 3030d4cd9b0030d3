"""Git keeps each pipeline run, apart from every branch."""

import hashlib
import io
from dataclasses import replace

import pytest
from checkouts import git
from ruamel.yaml import YAML

from components.pipeline import PIPELINE
from flows.dvc import engine
from flows.history import decisions, ledger, store
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


def record(root, run):
    store.record(root, run, store.records(root))


def commit(root, files):
    """Commit ``files`` by path, as people do."""
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    git(root, "add", "--", *files)
    git(root, "-c", "user.name=t", "-c", "user.email=t@localhost", "commit", "--quiet", "-m", "results")


def test_what_is_recorded_is_found_again_and_no_branch_moves(root):
    run = replace(make(root), about={"stages": {"train": "executed"}})
    head, status = git(root, "rev-parse", "HEAD"), git(root, "status", "--porcelain")
    record(root, run)
    (found,) = store.all_runs(root)
    assert (found.key, found.files, found.commit, found.dirty) == (run.key, run.files, run.commit, False)
    assert found.about["stages"] == {"train": "executed"}
    assert found.metrics == {"train/x0_error": 0.5}
    assert (git(root, "rev-parse", "HEAD"), git(root, "status", "--porcelain")) == (head, status)


def test_saying_it_twice_adds_nothing(root):
    for _ in range(2):
        record(root, make(root))
    assert len(ledger.read(root)) == 1


def test_a_run_is_as_it_was_recorded_last_and_each_key_is_there_once(root):
    first, second = make(root, 0), make(root, 1)
    for run in (first, second, replace(first, about={"stages": {"train": "restored"}})):
        record(root, run)
    found = store.all_runs(root)
    assert [one.key for one in found] == [first.key, second.key]
    assert found[0].about["stages"] == {"train": "restored"}


def test_the_decision_that_stands_is_told_with_its_run(root):
    run = make(root)
    record(root, run)
    assert store.last_decided(root) is None
    for promote, result in ((True, "overtaken"), (False, "held")):
        body = decisions.intent(name="denoiser", version=1, manifest="m", expected=None, by="gate",
                                decision={"promote": promote, "reason": "r"})  # fmt: skip
        begun = ledger.append(root, store.records(root), "intent", run.key, body)
        if promote:
            assert store.last_decided(root) is None, "an intent alone decides nothing"
        ledger.append(root, store.records(root), "outcome", run.key, decisions.outcome(begun, result))
    assert store.last_decided(root).about["decision"]["promote"] is False


def md5(content):
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def test_what_was_changed_since_the_stages_read_it_is_named(root):
    """People edit, look at sources and withdraw while a run goes on; DVC's hashes were taken before."""
    held = {"data/source.json": b'{"sources": []}', "metrics/train.json": b"{}", "components/a.py": b"x = 1\n"}
    lock = io.StringIO()
    YAML().dump({"stages": {"train": {
        "cmd": "t", "params": {"params.yaml": {"train": {"seed": 5}}},
        "deps": [{"path": path, "md5": md5(held[path])} for path in ("data/source.json", "components/a.py")]
        + [{"path": "data/pixels", "md5": "0" * 32 + ".dir"}],
        "outs": [{"path": "metrics/train.json", "md5": md5(held["metrics/train.json"])}],
    }}}, lock)  # fmt: skip
    (root / "components").mkdir()
    (root / "components/a.py").write_bytes(held.pop("components/a.py"))
    run = replace(make(root, 5), files={**make(root, 5).files, **held, "dvc.lock": lock.getvalue().encode()})
    assert store.unlike(root, run) == ""
    for path in held:
        assert store.unlike(root, replace(run, files={**run.files, path: b"other"})) == path
    other = {**run.files, "params.yaml": b"train: {seed: 6}\n"}
    assert store.unlike(root, replace(run, files=other)) == "params.yaml: train"
    (root / "components/a.py").write_text("x = 2\n")
    assert store.unlike(root, run) == "components/a.py"


def test_a_lock_that_people_committed_is_a_run_too(root):
    run = make(root, 5)
    commit(root, run.files)
    (found,) = store.all_runs(root)
    assert (found.key, found.metrics, found.about) == (run.key, run.metrics, {})


@pytest.mark.parametrize("name", ["dvc.lock", "dvc.yaml", "params.yaml", "metrics/train.json"])
@pytest.mark.parametrize("text", [b"<<<<<<< HEAD\na: 1\n", b"stages: [1]", b"stages: {a: 3}", b"\xff", b"[3]", b""])
def test_what_a_merge_broke_in_some_commit_stops_no_command(root, name, text):
    commit(root, {**make(root, 1).files, name: text})
    commit(root, make(root, 2).files | {"dvc.yaml": b"stages: {collect: {}}"})
    found = store.all_runs(root)
    assert found[-1].key == make(root, 2).key
    for run in found:
        assert run.sections and run.stages and run.metrics


def test_a_run_from_before_a_stage_was_added_is_complete_by_its_own_dvc_yaml(root):
    def without(*names: str) -> dict:
        return {name: entry for name, entry in make(root).stages.items() if name not in names}

    def dumped(stages: dict) -> bytes:
        out = io.StringIO()
        YAML().dump({"stages": stages}, out)
        return out.getvalue().encode()

    table = dumped({name: {} for name in without("profile")})
    for gone in (("profile",), ("profile", "report")):
        commit(root, {**make(root).files, "dvc.yaml": table, "dvc.lock": dumped(without(*gone))})
    assert [one.key for one in store.all_runs(root)] == [engine.key(without("profile"))]


def test_a_checkout_below_the_repository_has_its_own_history(root):
    below = root / "deep" / "checkout"
    (below / ".stillroom").mkdir(parents=True)
    run = make(root, 5)
    commit(below, run.files)
    assert [one.key for one in store.all_runs(below)] == [run.key]
    record(below, make(root, 6))
    assert [one.key for one in store.all_runs(below)] == [run.key, make(root, 6).key]


def test_code_that_git_does_not_know_makes_a_run_dirty(root):
    commit(root, make(root).files)
    assert not store.current(root).dirty
    (root / "components").mkdir()
    (root / "components/new.py").write_text("x = 1")
    assert store.current(root).dirty


def test_code_that_git_hides_makes_a_run_dirty(root):
    """Ignored files and those that git was told not to look at: the hashes in dvc.lock tell."""
    code = {"components/a.py": b"x = 1\n", "components/ignored.py": b"y = 1\n"}
    stages = make(root).stages
    stages["train"]["deps"] = [{"path": path, "md5": md5(content)} for path, content in code.items()]
    text = io.StringIO()
    YAML().dump({"schema": "2.0", "stages": stages}, text)
    commit(root, {**make(root).files, **code, "dvc.lock": text.getvalue().encode()})
    assert not store.current(root).dirty
    git(root, "rm", "--quiet", "--cached", "components/ignored.py")
    commit(root, {".gitignore": b"ignored.py\n"})
    assert git(root, "status", "--porcelain") == "" and store.current(root).dirty
    assert store.missing_code(root, store.current(root)) == ["components/ignored.py"]


def test_a_version_answers_for_every_file_and_a_changed_one_is_named(root, tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    for name in ("weights.safetensors", "scores.json", "samples.png", "film.png"):
        (source / name).write_text(name)
    model = {"unet/weights.safetensors": source / "weights.safetensors"}
    scores = {name: source / name for name in ("scores.json", "samples.png", "film.png")}
    folders = [tmp_path / "a" / "version", tmp_path / "b" / "version"]
    manifests = [bundle.build(folder, run=make(root), model=model, evaluation=scores) for folder in folders]
    assert manifests[0] == manifests[1]
    found = bundle.verify(folders[0])
    assert set(found["files"]) == {"unet/weights.safetensors", "scores.json", "samples.png", "film.png"}
    assert found["data"]["splits"].endswith(".dir") and found["git_commit"] == make(root).commit
    (folders[0] / "unet/weights.safetensors").write_text("weights.safetensorz")
    with pytest.raises(bundle.UserError, match=r"weights\.safetensors: differs"):
        bundle.verify(folders[0])
    (folders[1] / "scores.json").unlink()
    with pytest.raises(bundle.UserError, match=r"scores\.json: missing"):
        bundle.verify(folders[1])
    again = bundle.build(folders[1], run=replace(make(root), dirty=True), model=model, evaluation=scores,
                         recorded=manifests[0])  # fmt: skip
    assert again == manifests[0], "what the manifest said is on record, and is not worked out anew"
    (folders[1] / "unet/more.bin").write_text("x")
    with pytest.raises(bundle.UserError, match=r"more\.bin: MANIFEST\.json does not list it"):
        bundle.verify(folders[1])
    with pytest.raises(bundle.UserError, match="not 00 as on record"):
        bundle.verify(folders[1], "00")


def test_the_files_of_a_knee_take_the_place_of_the_model_s(root, tmp_path):
    for name in ("stillroom.json", "weights", "knee/stillroom.json", "knee/other", "scores.json", "samples.png",
                 "film.png"):  # fmt: skip
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    model = {name: tmp_path / name for name in ("stillroom.json", "weights")}
    evaluation = {name: tmp_path / name for name in
                  ("knee/stillroom.json", "knee/other", "scores.json", "samples.png", "film.png")}  # fmt: skip
    bundle.build(tmp_path / "version", run=make(root), model=model, evaluation=evaluation)
    assert set(bundle.verify(tmp_path / "version")["files"]) == {*model, "scores.json", "samples.png", "film.png"}
    assert (tmp_path / "version/stillroom.json").read_text() == "knee/stillroom.json"
    assert (tmp_path / "version/weights").read_text() == "weights"


def test_a_manifest_that_points_outside_is_not_trusted(tmp_path):
    (tmp_path / "version").mkdir()
    (tmp_path / "secret").write_text("x")
    (tmp_path / "version" / bundle.MANIFEST).write_text('{"files": {"../secret": {"sha256": "", "bytes": 1}}}')
    with pytest.raises(bundle.UserError, match="outside"):
        bundle.verify(tmp_path / "version")
