"""People edit while a run goes on: what DVC records is what the stage worked from."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import data_checkout
import pytest
from checkouts import edit, environment, git, tree
from dvc.repo import Repo
from ruamel.yaml import YAML

from components import pipeline
from components.base import config, parallel
from components.base.errors import UserError
from flows.dvc import engine, snapshot, stages
from flows.workspace.paths import State

CODE, DATA, PARAMS = "components/base/a.py", "data/in", "params.yaml"
FIRST = {CODE: "x = 1\n", DATA: "first\n", PARAMS: "split:\n  a: 1\n"}
TABLE = """\
stages:
  split:
    cmd: {command}
    deps: [components/base/a.py, data/in]
    params: [split]
    outs: [out]
"""
MAKE = 'cat "$STILLROOM_SNAPSHOT/params.yaml" "$STILLROOM_SNAPSHOT/../components/base/a.py" data/in > out'


def project(folder: Path, command: str = MAKE, *, with_git: bool = True) -> Path:
    """A real DVC project whose stage `split` runs ``command``."""
    folder.mkdir()
    if with_git:
        git(folder, "init", "--quiet")
    Repo.init(str(folder), no_scm=True).close()
    (folder / ".dvc/config").write_text("")
    for path, text in FIRST.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    (folder / "dvc.yaml").write_text(TABLE.format(command=json.dumps(command)))
    State(folder).enter()
    return folder


def reproduce(folder: Path, stage: str = "split", *, force: bool = False) -> str:
    return engine.reproduce(folder, pipeline.stage(stage), watched=State(folder).events, force=force)


def recorded(folder: Path, stage: str = "split") -> list[dict]:
    """What dvc.lock says of ``stage``, and what DVC's run cache says of each run with its command."""
    entry = engine.lock(folder).get(stage)
    runs = [YAML(typ="safe").load(path) for path in (folder / ".dvc/cache/runs").rglob("*") if path.is_file()]
    mine = [run for run in runs if run["cmd"].endswith(f"components {stage}") or "> out" in run["cmd"]]
    return [one for one in (entry, *mine) if one]


def md5(entry: dict, path: str) -> str:
    return next(dep["md5"] for dep in entry["deps"] if dep["path"] == path)


def digest(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def put(folder: Path, **texts: str) -> None:
    for name, text in {"CODE": CODE, "DATA": DATA, "PARAMS": PARAMS}.items():
        if name in texts:
            (folder / text).write_text(texts[name])


EDITS = "printf 'split:\\n  a: 2\\n' > params.yaml; echo 'x = 2' > components/base/a.py; "


@pytest.mark.parametrize("with_git", [True, False], ids=["git", "no git"])
@pytest.mark.parametrize("command", [EDITS + MAKE, MAKE + "; " + EDITS], ids=["before it reads", "after it read"])
def test_an_edit_during_a_stage_is_not_recorded_and_makes_it_stale(tmp_path, command, with_git):
    folder = project(tmp_path / "project", command, with_git=with_git)
    made = FIRST[PARAMS] + FIRST[CODE] + FIRST[DATA]
    reproduce(folder)
    assert (folder / "out").read_text() == made
    for entry in recorded(folder):
        assert entry["params"] == {"params.yaml": {"split": {"a": 1}}}
        assert (md5(entry, CODE), md5(entry, DATA)) == (digest(FIRST[CODE]), digest(FIRST[DATA]))
    assert len(recorded(folder)) == 2
    reproduce(folder)  # of the edited state
    assert (folder / "out").read_text() == "split:\n  a: 2\n" + "x = 2\n" + FIRST[DATA]
    assert len(recorded(folder)) == 3
    put(folder, CODE=FIRST[CODE], PARAMS=FIRST[PARAMS])
    assert reproduce(folder) == "restored" and (folder / "out").read_text() == made
    assert reproduce(folder) == "unchanged"


def test_one_run_works_from_one_snapshot_whatever_is_edited_between_its_stages(tmp_path):
    folder = project(tmp_path / "project")
    with snapshot.taken(folder):
        put(folder, CODE="not Python", PARAMS="split: [")
        (folder / "dvc.yaml").write_text("stages: [")
        reproduce(folder)
        assert reproduce(folder) == "unchanged"
        assert config.of(folder) == {"split": {"a": 1}}
        assert snapshot.file(folder, "params.yaml").read_text() == FIRST[PARAMS]
        assert snapshot.file(folder, "dvc.yaml").read_text().startswith("stages:\n  split:")
        assert snapshot.file(folder, DATA) == folder / DATA
    assert recorded(folder)[0]["params"] == {"params.yaml": {"split": {"a": 1}}}
    assert config.SNAPSHOT not in os.environ
    assert snapshot.file(folder, "params.yaml") == folder / "params.yaml"
    with pytest.raises(UserError, match=r"params\.yaml: line 1.* is not YAML"):
        config.of(folder)


@pytest.mark.parametrize("before", [True, False], ids=["never run", "run before"])
def test_a_stage_whose_data_changed_while_it_ran_is_not_recorded(tmp_path, before):
    folder = project(tmp_path / "project", MAKE + "; cat data/add >> data/in")
    (folder / "data/add").write_text("")
    if not before:
        reproduce(folder)
        put(folder, PARAMS="split:\n  a: 3\n")
    held = recorded(folder)
    (folder / "data/add").write_text("more\n")
    with pytest.raises(stages.InputChanged, match=r"^data/in changed while stage 'split' ran.*run it again$"):
        reproduce(folder)
    assert recorded(folder) == held
    (folder / "data/add").write_text("")
    reproduce(folder)
    assert (folder / "out").read_text().endswith("first\nmore\n")


@pytest.mark.parametrize("force", [False, True])
def test_data_that_was_removed_between_two_stages_is_one_line(tmp_path, force):
    folder = project(tmp_path / "project")
    reproduce(folder)
    held = (folder / DATA).read_text()
    (folder / DATA).unlink()
    line = r"^stage 'split' reads data/in, which was removed while the run went on: run it again"
    with pytest.raises(UserError, match=line):
        reproduce(folder, force=force)
    (folder / DATA).write_text(held)
    assert reproduce(folder) in ("unchanged", "restored"), "DVC takes the old output away before it runs a stage"


def test_data_that_is_removed_while_dvc_hashes_it_is_one_line(tmp_path, monkeypatch):
    from dvc.output import Output

    folder = project(tmp_path / "project")
    reproduce(folder)
    put(folder, PARAMS="split:\n  a: 3\n")

    def removed(out, *_, **__):
        (folder / DATA).unlink(missing_ok=True)
        (folder / DATA).stat()

    monkeypatch.setattr(Output, "_build", removed)
    with pytest.raises(UserError, match=r"data/in: was removed while the run went on"):
        reproduce(folder)


def test_a_full_disk_names_the_place_that_is_full(tmp_path, monkeypatch):
    from dvc.output import Output

    from components.base.errors import environment_error

    folder = project(tmp_path / "project")
    full = folder / ".dvc/cache/files/md5"
    full.mkdir(parents=True)
    monkeypatch.setattr(shutil, "disk_usage", lambda place: SimpleNamespace(free=0 if place == full else 10**9))

    def save(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Output, "commit", save)
    with pytest.raises(OSError, match="No space left") as raised:
        reproduce(folder)
    assert str(environment_error(raised.value)).startswith(f"{full}: the disk is full: ")


def test_a_dependency_that_is_new_to_dvc_lock_has_not_changed(tmp_path):
    folder = project(tmp_path / "project")
    reproduce(folder)
    (folder / "data/new").write_text("")
    put(folder, PARAMS="split:\n  a: 3\n")
    text = (folder / "dvc.yaml").read_text()
    (folder / "dvc.yaml").write_text(text.replace(f"{CODE}, data/in", f"{CODE}, data/in, data/new"))
    reproduce(folder)
    assert md5(recorded(folder)[0], "data/new") == digest("")
    assert reproduce(folder) == "unchanged"


def test_a_snapshot_is_kept_for_the_next_run_and_older_ones_are_removed(tmp_path):
    folder = project(tmp_path / "project")
    above = folder / ".stillroom/snapshot"
    with snapshot.taken(folder) as first:
        compiled = first.folder.parent / "components/base/__pycache__/a.pyc"
        compiled.parent.mkdir()
        compiled.write_text("compiled")
    with snapshot.taken(folder) as again:
        assert again == first and compiled.is_file()
    put(folder, PARAMS="split:\n  a: 2\n")
    with snapshot.taken(folder) as other:
        assert other.folder.parent == first.folder.parent and not first.folder.exists()
    (first.folder.parent / CODE).write_text("x = 3\n")  # somebody's hand in it
    with snapshot.taken(folder) as mended:
        assert (mended.folder.parent / CODE).read_text() == FIRST[CODE]
    put(folder, CODE="x = 4\n")
    with snapshot.taken(folder) as last:
        assert [entry.name for entry in above.iterdir()] == [last.folder.parent.name]


def test_a_python_that_does_not_import_the_snapshot_does_not_run_the_stage(tmp_path):
    root = data_checkout.copied(tmp_path / "checkout")
    with snapshot.taken(root) as taken:
        env = {**environment(), config.SNAPSHOT: str(taken.folder)}
        done = subprocess.run([sys.executable, "-m", "components", "split"], cwd=root, env=env, capture_output=True,
                              text=True, check=False)  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith("error: stage 'split': its Python does not import the snapshot of the code")


@pytest.mark.parametrize(
    ("text", "line"), [("stages: [", "not what DVC reads"), ("stages: {}", "has no stage 'split'")]
)
def test_a_broken_dvc_yaml_is_named_where_the_user_finds_it(tmp_path, text, line):
    folder = project(tmp_path / "project")
    (folder / "dvc.yaml").write_text(text)
    with pytest.raises(UserError, match=rf"/project/dvc\.yaml: {line}"):
        reproduce(folder)


def test_a_broken_dvc_yaml_in_a_folder_of_images_stops_nothing(tmp_path):
    folder = project(tmp_path / "project")
    (folder / "images").mkdir()
    (folder / "images/dvc.yaml").write_text("stages: [")
    (folder / "images/some.dvc").write_text("outs: {")
    reproduce(folder)
    assert reproduce(folder) == "unchanged"


TRAINING = {
    "images": 160, "ranks": 2,
    "network": {"kind": "compact", "widths": [32, 32], "layers": 1, "fold": 1, "skip_sigma": 0.5},
    "validate_images": 4, "validations": 2, "sheet": 0, "steps": 2,
}  # fmt: skip
STEP = "components/train/step.py"


@pytest.mark.slow(60)
def test_an_edit_while_training_runs_changes_neither_the_weights_nor_the_record(tmp_path):
    undisturbed, root = (data_checkout.copied(tmp_path / name) for name in ("undisturbed", "edited"))
    for folder in (undisturbed, root):
        edit(folder, "train", **TRAINING)
    first = config.of(root)["train"]
    code = (root / STEP).read_text()
    assert reproduce(undisturbed, "train") == "executed"

    def edits() -> None:
        events = State(root).events
        while not (events.exists() and '"stage":"train"' in events.read_text()):
            time.sleep(0.01)
        edit(root, "train", learning_rate=first["learning_rate"] * 20)
        (root / STEP).write_text(f"# a comment\nraise SystemExit('the code of the checkout')\n{code}")

    editing = threading.Thread(target=edits)
    editing.start()
    assert reproduce(root, "train") == "executed"
    editing.join()
    assert config.of(root)["train"] != first
    assert tree(root / "models/candidate") == tree(undisturbed / "models/candidate")
    found = recorded(root, "train")
    assert len(found) == 2
    for entry in found:
        assert entry["params"]["params.yaml"]["train"] == first
        assert md5(entry, STEP) == digest(code)
    assert engine.stale(root) == ["train", "evaluate", "report"]
    edit(root, "train", learning_rate=first["learning_rate"])
    (root / STEP).write_text(code)
    assert engine.stale(root) == engine.stale(undisturbed) == ["evaluate", "report"]


@pytest.mark.slow(20)
@pytest.mark.parametrize("pool", ["local", "ray"])
def test_every_process_of_a_stage_imports_the_snapshot(tmp_path, pool, monkeypatch):
    root = data_checkout.copied(tmp_path / "checkout")
    shutil.rmtree(root / ".stillroom")  # with it the facts that are remembered of images
    State(root).enter()
    monkeypatch.setenv(parallel.ENGINE, pool)
    with snapshot.taken(root):
        for name in ("components", "components/base", "components/decode"):
            (root / name / "__init__.py").write_text("raise SystemExit('the code of the checkout')\n")
        assert engine.reproduce(root, pipeline.stage("clean"), watched=State(root).events, force=True) == "executed"


EDITING = {
    PARAMS: "    path = Path('params.yaml')\n    path.write_text(path.read_text()"
    ".replace('  train: 0.5', '  train: 0.51').replace('  test: 0.25', '  test: 0.24'))\n",
    "components/samples/manifest.py": "    path = Path('components/samples/manifest.py')\n"
    "    path.write_text(path.read_text() + '\\n')\n",
    "components/report/stage.py": "    path = Path('components/report/stage.py')\n"
    "    path.write_text(path.read_text() + '\\n')\n",
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("edited", EDITING)
def test_dvc_by_hand_does_not_record_a_stage_whose_inputs_were_edited_while_it_ran(tmp_path, edited):
    """The stage edits them itself, so that it is sure to be in between."""
    root = data_checkout.copied(tmp_path / "checkout")
    path = root / "components/split/stage.py"
    head = "def split("
    body = path.read_text()
    start = body.index(":\n", body.index("-> dict", body.index(head))) + 2
    doc = body.index('"""\n', body.index('"""', start) + 3) + 4
    path.write_text(body[:doc] + EDITING[edited] + body[doc:])
    held = (root / "dvc.lock").read_bytes()
    env = {**environment(), "DVC_SITE_CACHE_DIR": str(tmp_path / "dvc")}
    done = subprocess.run(["dvc", "repro", "--single-item", "split"], cwd=root, env=env, capture_output=True, text=True,
                          check=False)  # fmt: skip
    if edited == "components/report/stage.py":  # not a file of the stage's
        assert done.returncode == 0, done.stderr
        return
    assert done.returncode != 0
    assert f"error: {edited} changed while stage 'split' ran" in done.stderr
    assert (root / "dvc.lock").read_bytes() == held
