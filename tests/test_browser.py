"""What the tests do on a machine without a browser: find another, skip in one line, or refuse."""

import os
import subprocess
import sys
from pathlib import Path

import browser
import pytest
from checkouts import python_path

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """An otherwise empty PATH; a function that puts a program there which exits with a code."""

    def put(name, code):
        (tmp_path / name).write_text(f"#!/bin/sh\nexit {code}\n")
        (tmp_path / name).chmod(0o755)
        return str(tmp_path / name)

    monkeypatch.setenv("PATH", str(tmp_path))
    for name in (browser.PROGRAM, browser.REQUIRE):
        monkeypatch.delenv(name, raising=False)
    browser.find.cache_clear()
    yield put
    browser.find.cache_clear()


def test_the_first_browser_that_starts_is_taken(programs):
    programs("chromium-browser", 1)  # as Ubuntu's, which only asks for a snap
    chrome = programs("google-chrome", 0)
    assert browser.find() == chrome


def test_the_environment_names_another(programs, monkeypatch):
    programs("chromium", 0)
    other = programs("mine", 0)
    monkeypatch.setenv(browser.PROGRAM, other)
    assert browser.find() == other


def test_a_browser_that_is_named_and_not_there_is_one_line(programs, monkeypatch):
    programs("chromium", 0)
    monkeypatch.setenv(browser.PROGRAM, "/somewhere/chrome")
    with pytest.raises(pytest.fail.Exception) as caught, browser.Browser():
        pass
    assert caught.value.msg == f"{browser.PROGRAM} names /somewhere/chrome, which is no program here: {browser.HOW}"
    assert not caught.value.pytrace


@pytest.mark.parametrize("wait", [0, 1])
def test_a_browser_that_ends_at_once_is_one_line(programs, monkeypatch, wait, tmp_path):
    program = programs("chromium", 0)
    Path(program).write_text('#!/bin/sh\n[ "$1" = --version ] && exit 0\nexit 3\n')
    (tmp_path / "bash").symlink_to("/bin/bash")
    with pytest.raises(pytest.fail.Exception) as caught, browser.Browser() as one:
        if wait:
            one._process.wait(20)  # the pipe is broken before the first word
        one.open(tmp_path / "page.html")
    assert caught.value.msg == f"{program} ended with exit code 3 before Target.createTarget: {browser.HOW}"
    assert not caught.value.pytrace


def test_without_one_a_test_is_skipped_and_where_it_is_required_it_fails(programs, monkeypatch):
    with pytest.raises(pytest.skip.Exception, match=browser.MISSING), browser.Browser():
        pass
    for value in ("1", "true", "yes"):
        monkeypatch.setenv(browser.REQUIRE, value)
        with pytest.raises(pytest.fail.Exception, match="apt-get install chromium"), browser.Browser():
            pass
    for value in ("", "0", "false", "False"):
        monkeypatch.setenv(browser.REQUIRE, value)
        with pytest.raises(pytest.skip.Exception, match=browser.MISSING), browser.Browser():
            pass


@pytest.mark.slow
@pytest.mark.parametrize("required", ["0", "1"])
def test_a_run_without_one_ends_in_one_line_that_says_how_to_get_one(tmp_path, required):
    (tmp_path / "test_it.py").write_text(
        "import browser\n\ndef test_one():\n    with browser.Browser():\n        pass\n\ntest_two = test_one\n"
    )
    python = Path(sys.executable)
    own = {
        "PATH": str(tmp_path),
        "PYTHONPATH": python_path(ROOT, ROOT / "tests"),
        "HOME": os.environ.get("HOME", ""),
        browser.REQUIRE: required,
    }
    done = subprocess.run(
        [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "conftest", "test_it.py"], cwd=tmp_path, env=own,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    lines = [line for line in done.stdout.splitlines() if browser.HOW in line and "skipped" in line]
    if required == "0":
        assert done.returncode == 0
        assert lines == [f"2 skipped, because {browser.MISSING}: {browser.HOW}"]
    else:
        assert done.returncode == 1
        assert not lines
        assert "2 failed" in done.stdout
