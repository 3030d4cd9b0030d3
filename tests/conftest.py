"""What every test stands on: one thread, no network but loopback, and checkouts of its own."""

from __future__ import annotations

import gc
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

# What is imported until the tests begin is no garbage, and takes long to walk.
gc.disable()

ROOT = Path(__file__).resolve().parent.parent
GUARD = ROOT / "tests" / "guard"

# Subprocesses take it from the environment: sitecustomize is imported by every Python that starts.
os.environ["PYTHONPATH"] = os.pathsep.join([str(GUARD), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path[:0] = [str(GUARD), str(ROOT / "tests")]

import browser  # noqa: E402
import hardware  # noqa: E402
import loopback_only  # noqa: E402
import pytest  # noqa: E402
import tracing  # noqa: E402
from checkouts import command, edit, from_its_code, make, new_user, stillroom, with_prefect  # noqa: E402
from hypothesis import settings  # noqa: E402
from shared import once, share  # noqa: E402
from websites import site  # noqa: E402

from components.base import config  # noqa: E402
from flows.workspace.paths import QUIET  # noqa: E402

loopback_only.install()
hardware.install()
# How long an example takes says how busy the machine is, and nothing of the code.
settings.register_profile("stillroom", deadline=None)
settings.load_profile("stillroom")
os.environ.update(QUIET)
# Whoever runs the tests in the background has Ctrl-C ignored, and so would each program that they start and stop.
signal.signal(signal.SIGINT, signal.default_int_handler)
for name in ("MLFLOW_TRACKING_URI", "PREFECT_API_URL", "STILLROOM_EVENTS"):
    os.environ.pop(name, None)


def pytest_collection_finish():
    """Let the garbage collector look at what the tests make, and not at what is imported by now."""
    gc.freeze()
    gc.enable()


def pytest_collection_modifyitems(items):
    """The longest tests first, so that no process is left alone with one at the end.

    Before them one test makes the checkout that others wait for; those that do not need it come next: nobody waits.
    """
    items.sort(key=_seconds, reverse=True)
    needing = [item for item in items if "first_run" in item.fixturenames]
    others = [item for item in items if "first_run" not in item.fixturenames]
    items[:] = [*needing[:1], *others, *needing[1:]]


def _seconds(item):
    """The number of ``@pytest.mark.slow(seconds)``, 0 without one."""
    marker = item.get_closest_marker("slow")
    return marker.args[0] if marker and marker.args else 0


def pytest_terminal_summary(terminalreporter):
    """Say in one line each what was left out for want of a browser or of strace, and how to get it."""
    reasons = [str(each.longrepr) for each in terminalreporter.stats.get("skipped", [])]
    for needed in (browser, tracing):
        if count := sum(needed.MISSING in reason for reason in reasons):
            terminalreporter.write_line(f"{count} skipped, because {needed.MISSING}: {needed.HOW}", yellow=True)


@pytest.fixture(scope="session", autouse=True)
def shared_folder(tmp_path_factory):
    """Say where :func:`shared.once` makes what all processes share."""
    share(tmp_path_factory)


@pytest.fixture(scope="session")
def first_run():
    """A folder with a checkout in which `stillroom run` has been run once, as a new user does, and the trace of that.

    It is shared by all processes: not to be changed, and no server is to be started on it.
    """

    def run(place):
        checkout = make(place / "checkout")
        if tracing.works():
            done, _ = tracing.run(command("run"), place / "trace", cwd=checkout, env=new_user(place / "user"))
        else:
            done = from_its_code(checkout, "run")
        assert done.returncode == 0, done.stderr
        (place / "printed.json").write_text(json.dumps({"stdout": done.stdout, "stderr": done.stderr}))

    return once("finished", run)


@pytest.fixture(scope="session")
def finished(first_run, tmp_path_factory):
    """A checkout in which `stillroom run` has been run once, and what it printed; not to be changed.

    Each process has a copy of the one that was made, and looks at its end whether a test ran something in it: others,
    which count what is there, would break where they come later and pass where they come first.
    """
    folder = tmp_path_factory.mktemp("whole") / "checkout"
    shutil.copytree(first_run / "checkout", folder, symlinks=True)
    printed = json.loads((first_run / "printed.json").read_text())
    yield folder, subprocess.CompletedProcess(command("run"), 0, **printed)
    with sqlite3.connect(f"file:{folder}/.stillroom/prefect/prefect.db?mode=ro", uri=True) as database:
        runs = [row[0] for row in database.execute("select name from flow_run")]
    assert len(runs) == 1, f"a test ran a flow in the checkout that tests share; make a copy: {runs}"


@pytest.fixture(scope="session")
def two(finished):
    """A checkout with two pipeline runs and two versions; the gate has decided on both. Not to be changed."""

    def run(place):
        folder = place / "checkout"
        shutil.copytree(finished[0], folder, symlinks=True)
        with_prefect(folder)
        edit(folder, "report", magnify=config.read(folder / config.FILE)["report"]["magnify"] + 1)
        done = stillroom(folder, "run")
        assert done.returncode == 0, done.stderr

    return once("two", run) / "checkout"


@pytest.fixture(scope="module")
def server():
    """A web server on loopback for all tests of a module."""
    with site() as here:
        yield here


@pytest.fixture
def here(server):
    """The module's web server, with no page yet and nothing asked."""
    server.pages.clear(), server.asked.clear(), server.headers.clear(), server.connections.clear()
    return server


@pytest.fixture(scope="module")
def packs(tmp_path_factory):
    """Pixels and splits of a few small images, to train on."""
    from train_fixtures import make_pack

    return make_pack(tmp_path_factory.mktemp("packs"))
