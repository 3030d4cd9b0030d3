"""Which Python `make` sets up with."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
VENV = """case "$1$2" in -mvenv) mkdir -p "$3/bin";; esac\n"""
RANGE = ["3.11", "3.12", "3.13"]


@pytest.fixture
def chosen(tmp_path):
    """`make python` where PATH holds just the given interpreters: name to version, or to an exit code."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for tool in ("sh", "make", "grep", "awk", "mkdir", "rm", "touch"):
        (folder / tool).symlink_to(next(Path(p, tool) for p in os.get_exec_path() if Path(p, tool).exists()))

    def choose(
        *arguments: str, target: str = "python", without: str = "-", **interpreters: str
    ) -> subprocess.CompletedProcess[str]:
        for name, version in interpreters.items():
            script = f'#!/bin/sh\ncase "$2" in *{without}*) exit 1;; *version_info*) echo {version};; esac\n{VENV}'
            path = folder / name.replace("_", ".")
            path.write_text(script if "." in version else f"#!/bin/sh\nexit {version}\n")
            path.chmod(0o755)
        environment = {"PATH": str(folder), "HOME": str(tmp_path)}
        line = ["make", "--silent", "-f", str(ROOT / "Makefile"), target, *arguments]
        return subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    return choose


def test_the_shells_own_python_comes_first_then_the_newest(chosen):
    assert chosen(python3="3.12", python3_13="3.13", python3_11="3.11").stdout == "python3\n"
    assert chosen(python3="3.10").stdout == "python3.13\n"
    assert chosen(python3="3.14").stdout == "python3.13\n"


def test_one_on_path_that_does_not_run_is_passed_over(chosen):
    assert chosen(python3="127", python3_13="127", python3_12="3.12").stdout == "python3.12\n"


def test_one_of_pyenv_is_found_though_it_is_not_selected(chosen, tmp_path):
    real = tmp_path / ".pyenv/versions/3.12.9/bin/python3"
    real.parent.mkdir(parents=True)
    real.symlink_to(sys.executable)
    assert chosen(python3="3.10", python3_12="127").stdout == f"{real}\n"


@pytest.mark.parametrize("named", ["with space", "it's"])
def test_a_path_may_hold_spaces_and_quotes(chosen, tmp_path, named):
    real = tmp_path / named / "python3"
    real.parent.mkdir()
    real.symlink_to(sys.executable)
    done = chosen(f"PYTHON={real}", python3="3.13")
    assert (done.stdout, done.stderr) == (f"{real}\n", "")
    pyenv = tmp_path / f"{named} too"
    real = pyenv / "versions/3.12.9/bin/python3"
    real.parent.mkdir(parents=True)
    real.symlink_to(sys.executable)
    assert chosen(f"PYENV_ROOT={pyenv}", python3="3.10").stdout == f"{real}\n"
    assert chosen(f"PYENV_ROOT={pyenv}", "PYTHON=python3.12", python3="3.10").returncode == 2, "the named or nothing"


@pytest.mark.parametrize("runs", [True, False])
def test_an_environment_whose_python_is_gone_is_not_ready(chosen, lock, tmp_path, runs):
    own = tmp_path / ".venv/bin/python"
    own.parent.mkdir(parents=True)
    own.symlink_to(sys.executable if runs else tmp_path / "gone")
    (tmp_path / ".venv/pyvenv.cfg").touch()
    (tmp_path / ".venv/.ready").touch()
    done = chosen(target="setup", python3="3.12")  # ends at pip, which is not there
    assert (tmp_path / ".venv/.ready").exists() == runs
    assert (".venv is made anew: its Python does not run" in done.stdout) != runs
    assert ("setting up .venv by python3:" in done.stdout) != runs


def test_an_environment_of_another_python_is_left_alone(chosen, lock, tmp_path):
    own = tmp_path / ".venv/bin/python"
    own.parent.mkdir(parents=True)
    own.write_text("#!/bin/sh\necho 3.10\n")
    own.chmod(0o755)
    (tmp_path / ".venv/pyvenv.cfg").touch()
    done = chosen(target="setup", python3="3.12")
    assert done.returncode == 2
    assert done.stderr.splitlines()[0] == (
        "error: .venv is of Python 3.10, and 3.11, 3.12 or 3.13 is needed: move it away, or make VENV=another"
    )
    assert own.exists() and "setting up" not in done.stdout


def test_an_environment_keeps_its_own(chosen, tmp_path):
    own = tmp_path / ".venv/bin/python"
    own.parent.mkdir(parents=True)
    own.symlink_to(sys.executable)
    assert chosen(python3="3.13").stdout == ".venv/bin/python\n"


def test_none_that_fits_is_one_line_that_names_what_was_found(chosen):
    done = chosen(python3="3.10", python3_12="127")
    assert done.returncode == 2
    assert done.stderr.splitlines()[0] == (
        "error: Python 3.11, 3.12 or 3.13 is needed, found python3 (3.10), python3.12 (does not run); "
        "make PYTHON=/path/to/python3.12"
    )
    named = chosen("PYTHON=python3", python3_13="3.13")
    assert (named.returncode, named.stdout) == (2, ""), "what is named is taken, or nothing"


def test_a_python_without_venv_is_one_line_that_says_what_to_install(chosen):
    done = chosen(without="ensurepip", python3="3.11")
    assert done.returncode == 2
    assert done.stderr.splitlines()[0] == "error: python3 has no venv module: apt-get install python3.11-venv"
    assert chosen(python3_12="3.12").stdout == "python3.12\n"


@pytest.fixture
def lock(tmp_path):
    """The project's lock, where `make` looks for it."""
    for name in ("requirements.lock", "pyproject.toml"):
        (tmp_path / name).symlink_to(ROOT / name)
    return (ROOT / "requirements.lock").read_text("utf-8")


@pytest.mark.parametrize("left_out", ["", "gpu", "ray moto"])
def test_what_is_installed_is_the_lock_without_what_is_left_out(chosen, lock, tmp_path, left_out):
    chosen(f"WITHOUT={left_out}", target="setup", python3="3.12")  # ends at pip, which is not there
    parts = {part.split("==")[0]: part for part in re.split(r"^(?=\w)", lock, flags=re.MULTILINE)}
    gpu = re.search(r"^GPU_ONLY := (.*)$", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)[1]
    gone = left_out.replace("gpu", gpu).split()
    assert set(gone) <= set(parts)
    wanted = "".join(part for name, part in parts.items() if name not in gone)
    assert (tmp_path / ".venv/requirements.lock").read_text("utf-8") == wanted


def test_a_package_that_the_lock_does_not_have_cannot_be_left_out(chosen, lock):
    done = chosen("WITHOUT=gpu tritn", target="setup", python3="3.12")
    assert done.returncode == 2
    assert done.stderr.splitlines()[0] == "error: WITHOUT=tritn: no such package in requirements.lock"


def test_a_machine_without_a_newer_python_is_told_so(chosen):
    done = chosen(target="newest", python3="3.11", python3_13="127")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "newest: no Python 3.12 or 3.13 that runs on this machine, so nothing is tried on it\n"


def test_the_versions_of_make_are_those_of_the_package():
    low, high = re.search(r'requires-python = ">=3\.(\d+),<3\.(\d+)"', (ROOT / "pyproject.toml").read_text()).groups()
    assert [f"3.{minor}" for minor in range(int(low), int(high))] == RANGE
    makefile = (ROOT / "Makefile").read_text("utf-8")
    assert f"case $$version in {'|'.join(RANGE)})" in makefile
    assert f"$(foreach minor,{' '.join(v[2:] for v in reversed(RANGE))}," in makefile
    assert f"Python {RANGE[0]} to {RANGE[-1]}" in (ROOT / "README.md").read_text("utf-8")


@pytest.mark.slow
def test_the_footprint_of_this_environment_grows_with_what_is_done_in_it():
    script = ROOT / "benchmarks/footprint.py"
    done = subprocess.run([sys.executable, script], cwd=ROOT, capture_output=True, text=True, check=True)
    rows = [int(row.replace(",", "")) for row in re.findall(r"\| \d+ \| ([\d,]+) \|$", done.stdout, re.MULTILINE)]
    draw, by_hand, by_hand_gpu, whole, whole_gpu, everything = rows[:6]
    assert 100 < draw < by_hand <= by_hand_gpu < whole_gpu < everything
    assert by_hand < whole <= whole_gpu
    assert abs(whole_gpu - whole - rows[7]) <= 2, "what only a GPU needs is the difference"
