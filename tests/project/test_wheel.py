"""The wheel in an environment of its own: it makes a project outside of our repository and runs it, start to end."""

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import checkouts
import pytest
from checkouts import SMALL, edit, emoji, environment, git, with_prefect
from shared import once

ROOT = Path(__file__).resolve().parents[2]
BUILT = ("components", "consume", "flows", "data/samples", "params.yaml", "pyproject.toml", "README.md", "LICENSE")
BUILD = "import sys, setuptools.build_meta; setuptools.build_meta.build_wheel(sys.argv[1])"

pytestmark = pytest.mark.slow(45)


def build(folder):
    """The wheel, by the tool that pyproject.toml names, from a copy of what git has of its sources, links and all."""
    for name in BUILT:
        source, target = ROOT / name, folder / "source" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(source, target)
    line = [sys.executable, "-W", "ignore", "-c", BUILD, str(folder)]
    subprocess.run(line, cwd=folder / "source", check=True, capture_output=True)
    shutil.rmtree(folder / "source")


@pytest.fixture(scope="module")
def wheel():
    (found,) = once("wheel", build).glob("*.whl")
    return found


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """An empty environment with the wheel; what it depends on comes from that of the tests, so nothing is fetched."""
    place = tmp_path_factory.mktemp("environment") / "env"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", place], check=True)
    own = Path(sysconfig.get_path("purelib", vars={"base": str(place), "platbase": str(place)}))
    # A path in a .pth is a place to import from, whose own .pth files (that of our editable install) do not count.
    (own / "shared.pth").write_text(sysconfig.get_path("purelib") + "\n")
    line = [sys.executable, "-m", "pip", "--python", place / "bin/python", "--disable-pip-version-check", "install",
            "--quiet", "--no-deps", "--no-index", "--no-compile", wheel]  # fmt: skip
    subprocess.run(line, check=True)
    return place, own


@pytest.fixture(scope="module")
def stillroom(installed):
    """The command of that environment in a folder, as a user has it who knows nothing of our repository."""
    place, _ = installed
    around = environment() | {"PATH": os.pathsep.join([str(place / "bin"), os.environ["PATH"]])}

    def run(folder, *arguments, code=0):
        line = [place / "bin/stillroom", *arguments]
        done = subprocess.run(line, cwd=folder, env=around, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stderr
        return done.stdout if code == 0 else done.stderr

    return run


@pytest.fixture(scope="module")
def project(stillroom, tmp_path_factory):
    """A project that the command has made, with a few pictures in two folders and values that take seconds."""
    above = tmp_path_factory.mktemp("project")
    said = stillroom(above, "init", "faces", "--preset", "image-32-cpu", "--licence", "Apache-2.0")
    assert said.splitlines()[-1].strip() == "stillroom run"
    folder = above / "faces"
    emoji(above / "pictures.zip", 60)
    with zipfile.ZipFile(above / "pictures.zip") as held:
        for at, name in enumerate(name for name in held.namelist() if name.endswith(".png")):
            target = folder / "pictures" / ("first", "second")[at % 2] / Path(name).name
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(held.read(name))
    for section, values in SMALL.items():
        edit(folder, section, **values)
    return folder


def ours(folder, *arguments):
    """What a command prints that is run from our own code, the same as the wheel's, and starts at once."""
    done = checkouts.stillroom(folder, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def change(own, path, old, new):
    text = (own / path).read_text("utf-8")
    assert old in text
    (own / path).write_text(text.replace(old, new, 1))


def test_the_wheel_has_all_that_a_project_is_made_from_and_no_test(wheel):
    with zipfile.ZipFile(wheel) as held:
        names = set(held.namelist())
        own = held.read("flows/project/params.yaml")
    assert own == (ROOT / "params.yaml").read_bytes()
    assert {"flows/project/noto-emoji-64.zip", "flows/project/noto-emoji-64.LICENSE.txt", "consume/pull.py"} <= names
    ours = {name.split("/")[0] for name in names if ".dist-info/" not in name}
    assert ours == {"components", "consume", "flows"}


def test_a_project_runs_and_another_version_of_the_package_makes_stale_what_it_makes_otherwise(
    installed, stillroom, project
):
    (project / ".stillroom").mkdir()
    with_prefect(project)
    assert "models:/denoiser/1 is the champion" in stillroom(project, "run")
    assert not git(project, "status", "--porcelain", "algorithms", "dvc.yaml", "params.schema.json", ".dvc")
    assert ours(project, "status").startswith("stale: nothing\nregistered: models:/denoiser/1 is the champion")
    links = ours(project, "lineage", "denoiser@champion").splitlines()
    assert all(link.startswith("ok  ") for link in links)
    (package,) = (link for link in links if link.startswith("ok  package: stillroom "))
    assert package.endswith(", no file of it changed")
    assert "Apache-2.0" in links[-1]
    assert "every byte as recorded" in ours(project, "verify")
    assert "would run train" in ours(project, "reproduce", "--stage", "train", "--dry-run")

    _, own = installed
    change(own, "components/train/loop.py", '"""', '"""A comment of another version. ')
    assert stillroom(project, "run", "--dry-run") == "would run nothing: every stage is up to date\n"
    change(own, "components/train/stage.py", 'Algorithm("train", ', 'Algorithm("train", 9')
    assert "would run: train, evaluate, report\n" in stillroom(project, "run", "--dry-run")
