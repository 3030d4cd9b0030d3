"""`stillroom init`: a project whole or not at all, and one line for each thing that stands against it."""

import os
import re
import subprocess
import threading
import time
from pathlib import Path

import pytest
from checkouts import git, stillroom, tree

from components.base.errors import UserError
from components.pipeline import PIPELINE
from flows.history import git as calls
from flows.project import layout, make, presets
from flows.workspace import paths

NAME = "image-32-cpu"


@pytest.fixture(scope="module")
def content():
    """What every project of the preset holds; rendered once, since that reads all code."""
    return layout.files(NAME, "faces", location="pictures", licence="unknown")


@pytest.fixture(autouse=True)
def rendered_once(content, monkeypatch):
    monkeypatch.setattr(layout, "files", lambda *_, **__: dict(content))


def init(folder, preset=NAME, *, source=None, licence="unknown", dry_run=False):
    return make.make(folder, preset, source=source, licence=licence, dry_run=dry_run)


def refused(folder, words, **options):
    above = next(each for each in (folder, *folder.parents) if os.path.lexists(each) and each.is_dir())
    before = tree(above)
    with pytest.raises(UserError, match=words):
        init(folder, **options)
    assert tree(above) == before, "nothing half-made"


def held(folder):
    return {path: text for path, text in tree(folder).items() if not path.startswith(".git/")}


def test_a_new_project_is_whole_committed_and_found(tmp_path, content):
    said = init(tmp_path / "faces")
    own = held(tmp_path / "faces")
    assert own.pop(".dvc/config.local").decode().endswith(f'site_cache_dir = "{tmp_path}/faces/.stillroom/dvc"\n')
    assert own == content
    assert git(tmp_path / "faces", "status", "--porcelain") == ""
    assert set(git(tmp_path / "faces", "ls-files").split()) == set(content)
    assert "preset image-32-cpu" in git(tmp_path / "faces", "log", "--format=%s")
    assert paths.find(tmp_path / "faces/data").root == tmp_path / "faces"
    assert [path.name for path in tmp_path.iterdir()] == ["faces"]
    assert said[0].startswith(f"made {tmp_path}/faces: preset image-32-cpu")
    assert said[-1].strip() == "stillroom run" and any("put pictures into pictures/" in line for line in said)

    told = init(tmp_path / "other", licence="CC0-1.0")
    assert [line for line in said if "licence" in line] and not [line for line in told if "licence" in line]


def test_dvc_works_in_it_and_its_outputs_and_pictures_are_not_gits(tmp_path):
    from dvc.repo import Repo

    init(tmp_path / "faces")
    with Repo(str(tmp_path / "faces")) as repo:
        assert {stage.name for stage in repo.index.stages} == {stage.name for stage in PIPELINE}
    for path in ("data/raw/a", "models/a", "reports/a", ".stillroom/a", "pictures/cats/a.jpg"):
        (tmp_path / "faces" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "faces" / path).touch()
    assert git(tmp_path / "faces", "status", "--porcelain") == ""


def test_a_dry_run_says_what_it_would_make_and_makes_nothing(tmp_path):
    said = init(tmp_path / "faces", dry_run=True)
    assert list(tmp_path.iterdir()) == []
    assert said[0].startswith("would make ") and "  params.yaml" in said and "git init, and a first commit" in said


@pytest.mark.parametrize("dvc", [True, False])
def test_an_own_repository_and_dvc_stay_as_they_are(tmp_path, dvc):
    git(tmp_path, "init", "--quiet")
    if dvc:
        (tmp_path / ".dvc").mkdir()
        (tmp_path / ".dvc/config").write_text("[core]\n    remote = mine\n")
    said = init(tmp_path)
    assert ("remote = mine" in (tmp_path / ".dvc/config").read_text()) == dvc
    assert calls.commit(tmp_path) == "", "no commit of ours in a repository of theirs"
    assert any(line.strip().startswith("git add --all") for line in said)


@pytest.mark.parametrize("into", ["new", "empty"])
@pytest.mark.parametrize("after", [0, 3, -2, -1])
def test_a_killed_init_can_be_run_again(tmp_path, content, into, after):
    """It is killed after so many renames, or so many before the end; what it leaves is no project, or the whole one."""
    place = tmp_path / "faces"
    if into == "empty":
        place.mkdir()
    child = os.fork()
    if not child:
        real, left = os.replace, [after % (len(content) + 2)]  # DVC's local file and .git come with it

        def replace(*arguments):
            if not left[0]:
                os._exit(9)  # as kill -9: nothing is cleaned up
            left[0] -= 1
            real(*arguments)

        os.replace = replace
        init(place)
        os._exit(0)
    os.waitpid(child, 0)
    if not (place / "params.yaml").exists():
        init(place)
    (place / ".dvc/config.local").unlink(missing_ok=True)
    assert held(place) == content
    assert git(place, "status", "--porcelain") == ""
    assert [path.name for path in tmp_path.iterdir()] == ["faces"]


def test_what_stands_against_it_is_one_line(tmp_path, monkeypatch):
    refused(tmp_path / "a", "--preset image: not a preset", preset="image")
    refused(tmp_path / "none/a", f"{tmp_path}/none: no such folder: make it")
    refused(tmp_path / "who?", "question mark")
    refused(tmp_path / "a", "--source /not/there: not there: name", source="/not/there")
    refused(tmp_path / "a", "preset emoji-cpu has its own pictures", preset="emoji-cpu", source=str(tmp_path))
    (tmp_path / "file").touch()
    refused(tmp_path / "file", "is a file: give a new or an empty folder")
    refused(tmp_path, "is not empty: it holds file: give")
    (tmp_path / "file").rename(tmp_path / "params.yaml")
    refused(tmp_path, rf"{tmp_path}/params.yaml: there already: nothing was written; `stillroom run`")


@pytest.mark.parametrize("name", ["with space", "-dash", "it's", 'a "b"', "a#b, c;$d", "bild-ü☃"])
def test_a_folder_of_any_name_is_found_by_the_shell_and_by_dvc(tmp_path, monkeypatch, name):
    from dvc.config import Config

    monkeypatch.chdir(tmp_path)
    said = init(tmp_path / name)
    line = next(line.strip() for line in said if line.strip().startswith("cd "))
    came = subprocess.run(["bash", "-c", f"{line} && pwd"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert came.stdout == f"{tmp_path / name}\n"
    held_by_dvc = Config(dvc_dir=str(tmp_path / name / ".dvc"))["core"]["site_cache_dir"]
    assert held_by_dvc == f"{tmp_path / name}/.stillroom/dvc"


def test_a_folder_that_cannot_be_made_or_written_down_is_one_line(tmp_path, monkeypatch):
    (tmp_path / "round").symlink_to("round")
    refused(tmp_path / "round/a", "round: no such folder: make it, or give another")
    refused(tmp_path / "new\nline", r"DIR .*/new\\nline: has a line end")
    refused(tmp_path / "bad\udcff", r"bytes that are no UTF-8")
    refused(tmp_path / "100%(a)s", r"where a name has %\(")
    for length in (240, 300):  # a name beside it would be too long, and it itself
        refused(tmp_path / ("a" * length), r"cannot be made \(File name too long\): give another folder")
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(UserError, match=r"^a: leads nowhere"):
        init(Path("a"))
    assert init(tmp_path / "faces")[2].strip() == f"cd {tmp_path}/faces"


def test_pictures_that_hold_the_project_and_words_that_params_yaml_cannot_hold_are_refused(tmp_path, monkeypatch):
    monkeypatch.undo()  # what is rendered is looked at
    for source in (tmp_path, tmp_path / "a"):
        (tmp_path / "a").mkdir(exist_ok=True)
        refused(tmp_path / "a", "holds the project itself", source=str(source))
    refused(tmp_path / "b", "--source : not there", source="")
    refused(tmp_path / "b", "not there", source="a" * 300)
    refused(tmp_path / "b", "location holds credentials", source="s3://me:secret@bucket/p")
    refused(tmp_path / "b", "licence should have at least 1", licence="")
    refused(tmp_path / "b", "licence should have at most 200", licence="word " * 100)
    refused(tmp_path / "b", r"--licence a\\nb: has a line end", licence="a\nb")
    refused(tmp_path / "b", "--licence MIT: preset emoji-cpu has its own", preset="emoji-cpu", licence="MIT")


def test_the_first_commit_has_every_file_whatever_the_user_ignores(tmp_path, content, monkeypatch):
    (tmp_path / "ignore").write_text("*.yaml\n")
    (tmp_path / "config").write_text(f"[core]\n    excludesFile = {tmp_path}/ignore\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "config"))
    init(tmp_path / "faces")
    assert set(git(tmp_path / "faces", "ls-files").split()) == set(content)


def test_one_waits_for_another_and_a_folder_made_meanwhile_stays(tmp_path, monkeypatch):
    real, inits = make._write, []

    def write(place, *arguments, own):
        if not inits:
            inits.append(threading.Thread(target=lambda: inits.append(ended(place))))
            inits[0].start()
            time.sleep(0.2)  # enough for it to sweep, did it not wait
        real(place, *arguments, own=own)

    def ended(place):
        with pytest.raises(UserError, match="there already: nothing was written"):
            init(place)
        return "refused"

    monkeypatch.setattr(make, "_write", write)
    init(tmp_path / "faces")
    inits[0].join()
    assert inits[1:] == ["refused"] and (tmp_path / "faces/params.yaml").exists()

    def commit(beside, _):
        (tmp_path / "other").mkdir()
        (tmp_path / "other/mine").touch()

    monkeypatch.setattr(make, "_commit", commit)
    with pytest.raises(UserError, match="made meanwhile by somebody else"):
        init(tmp_path / "other")
    assert set(tree(tmp_path / "other")) == {"mine"}


def test_a_folder_inside_another_repository_is_refused_but_not_one_with_its_own(tmp_path):
    git(tmp_path, "init", "--quiet")
    refused(tmp_path / "a", f"{tmp_path}/a: lies inside the git repository {tmp_path}: give a folder outside")
    (tmp_path / "a").mkdir()
    git(tmp_path / "a", "init", "--quiet")
    init(tmp_path / "a")
    assert (tmp_path / "a/params.yaml").is_file()


def test_without_git_it_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    refused(tmp_path / "a", "git is not here: install it")


def test_the_command_lists_the_presets_and_ends_a_mistake_with_one_line(tmp_path):
    done = stillroom(tmp_path, "init", "--help")
    for name, preset in presets.PRESETS.items():
        assert re.search(rf"^ +{name} +{re.escape(preset.line)}$", done.stdout, re.MULTILINE)
    done = stillroom(tmp_path, "init", "a")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1) and "--preset" in done.stderr
    done = stillroom(tmp_path, "init", "a", "--preset", "image-64-tpu")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith("error: --preset image-64-tpu: not a preset")
    assert list(tmp_path.iterdir()) == []


def test_a_run_before_there_are_pictures_says_where_they_are_wanted(tmp_path):
    init(tmp_path / "faces")
    done = stillroom(tmp_path / "faces", "run", "--dry-run")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: pictures: empty: no images in it (collect.sources[0].location in params.yaml)\n"


def test_nobody_who_reads_a_project_is_sent_to_make_or_to_our_repository(content):
    for path, text in content.items():
        if not path.endswith((".json", ".zip")):
            assert not re.search(rb"`make\b|Makefile|^make ", text, re.MULTILINE), path


def test_two_branches_that_withdraw_and_run_merge_into_what_a_run_makes_right(tmp_path, content):
    """The record has the lines of both; what a run makes is one side's, without git's marks, and a conflict."""

    def commit(**files):
        for path, text in files.items():
            place = tmp_path / path.replace("__", "/").replace("_", ".")
            place.parent.mkdir(exist_ok=True)
            place.write_text(text)
        git(tmp_path, "add", "--all")
        git(tmp_path, "-c", "user.name=t", "-c", "user.email=t@localhost", "commit", "--quiet", "-m", "x")

    git(tmp_path, "init", "--quiet", "--initial-branch=main")
    (tmp_path / ".gitattributes").write_bytes(content[".gitattributes"])
    commit(data__withdrawn_jsonl="first\n", dvc_lock="a: 1\n", metrics__clean_json="{1}\n")
    git(tmp_path, "checkout", "--quiet", "-b", "other")
    commit(data__withdrawn_jsonl="first\ntheirs\n", dvc_lock="a: 2\n", metrics__clean_json="{2}\n")
    git(tmp_path, "checkout", "--quiet", "main")
    commit(data__withdrawn_jsonl="first\nours\n", dvc_lock="a: 3\n", metrics__clean_json="{3}\n")
    merged = subprocess.run(["git", "merge", "other"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert merged.returncode == 1
    for name in ("withdrawn", "decisions"):
        assert f"data/{name}.jsonl merge=union\n".encode() in content[".gitattributes"]
    assert sorted((tmp_path / "data/withdrawn.jsonl").read_text().split()) == ["first", "ours", "theirs"]
    assert ((tmp_path / "dvc.lock").read_text(), (tmp_path / "metrics/clean.json").read_text()) == ("a: 3\n", "{3}\n")
    shown = git(tmp_path, "status", "--porcelain").splitlines()
    assert sorted(shown) == ["M  data/withdrawn.jsonl", "UU dvc.lock", "UU metrics/clean.json"]


def test_the_repository_merges_as_a_project_does(content):
    def rules(text):
        return {line for line in text.splitlines() if " merge" in line or " -merge" in line}

    ours = rules((Path(__file__).resolve().parents[2] / ".gitattributes").read_text())
    theirs = rules(content[".gitattributes"].decode())
    assert theirs - ours == {"algorithms/*.json -merge linguist-generated"} and ours < theirs
