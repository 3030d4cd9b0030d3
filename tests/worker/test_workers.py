"""Workers as they are used: a real Prefect server and workers, clones with homes of their own, a DVC remote."""

import contextlib
import threading
import time

import psutil
import pytest
import workshop
from checkouts import edit, prefect_server, tree

from components.base.errors import UserError
from components.pipeline import stage
from flows.dvc import engine, snapshot
from flows.worker import call, keeper
from flows.worker.prefects import Away, Pool
from flows.worker.task import Task
from flows.workspace.paths import State


@pytest.fixture
def prefect(monkeypatch):
    """A Prefect server that this process asks; its address."""
    monkeypatch.setenv("PREFECT_API_URL", f"{prefect_server()}/api")
    return prefect_server()


@pytest.fixture
def shop(tmp_path, prefect):
    return workshop.make(tmp_path)


@contextlib.contextmanager
def asked(shop, pool):
    """The controller asks ``pool`` for a training and waits, in a thread; yields what it says, and how it ended."""
    said, ended = [], {}

    def work():
        try:
            ended["how"] = call.brought(shop.controller, "train", pool, force=False, metrics=None, say=said.append)
        except BaseException as error:
            ended["error"] = error

    with snapshot.taken(shop.controller):
        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        yield said, ended
        thread.join(200)
        assert not thread.is_alive(), said


def wait(condition, seconds=120.0, said=()):
    until = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < until, f"waited too long: {said}"
        time.sleep(0.05)
    return found


def below(worker, *words):
    """The processes below ``worker`` whose command line has all ``words``."""
    found = []
    with contextlib.suppress(psutil.NoSuchProcess):
        for process in psutil.Process(worker.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                if set(words) <= set(process.cmdline()):
                    found.append(process)
    return found


def saved(shop, more_than=0):
    """The images of the newest checkpoint on the shelf, once there are more than ``more_than``."""
    folder = shop.remote / "stillroom" / "checkpoints"
    found = [int(path.name[:12]) for path in folder.rglob("*.pt") if not path.name.startswith(".")]
    return max((images for images in found if images > more_than), default=0)


@pytest.mark.slow(100)
def test_a_training_goes_on_on_other_workers_bit_for_bit_however_one_ends(shop, tmp_path, monkeypatch):
    monkeypatch.setattr(keeper, "LOST", 30.0)
    edit(shop.controller, "train", images=960, checkpoint_images=32, validations=1)
    url = prefect_server()
    workshop.deployed(url, "spot")
    with asked(shop, "spot") as (said, ended):
        with workshop.working(shop, tmp_path / "one", url, "spot") as worker:
            first = wait(lambda: saved(shop), said=said)
            (flow,) = below(worker, "prefect.engine")
            ours = [flow, *below(worker, "components", "train")]
            worker.terminate()
            _, alive = psutil.wait_procs(ours, timeout=10)
            assert not alive, "the checkpoint is pushed by then"
        assert saved(shop) >= first and not list((shop.remote / "stillroom/working").glob("*.json"))
        first, other = saved(shop), shop.another("second")
        with workshop.working(other, tmp_path / "two", url, "spot") as worker:
            wait(lambda: saved(shop, first), said=said)
            (flow,) = below(worker, "prefect.engine")
            trainings = below(worker, "components", "train")
            for process in (worker, flow, *below(worker, "prefect", "worker")):
                process.kill()
            _, alive = psutil.wait_procs(trainings, timeout=10)
            assert trainings and not alive, "nothing outlives its worker"
        with workshop.working(shop, tmp_path / "three", url, "spot"):
            wait(lambda: ended, 240, said=said)
    assert ended == {"how": "executed"}, (ended, said)
    why = [line for line in said if "another try" in line]
    assert "its worker was stopped" in why[0] and "no sign of life for 30 seconds" in why[1], said
    assert "going on from the checkpoint after" in (tmp_path / "three/log").read_text()
    theirs = ((shop.controller / "dvc.lock").read_bytes(), tree(shop.controller / "models"))
    assert shop.shelf.names("checkpoints") == shop.shelf.names("working") == set(), "nothing is left behind"
    engine.reproduce(shop.controller, stage("train"), watched=State(shop.controller).events, force=True)
    assert ((shop.controller / "dvc.lock").read_bytes(), tree(shop.controller / "models")) == theirs


@pytest.mark.slow(10)
def test_two_machines_do_not_publish_at_once(prefect):
    began, done = threading.Barrier(2), []

    def publish(name):
        began.wait()
        with Pool("").alone("stillroom denoiser"):
            done.append((name, "begins"))
            time.sleep(1)
            done.append((name, "ends"))

    threads = [threading.Thread(target=publish, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [what for _, what in done] == ["begins", "ends"] * 2, done
    assert done[0][0] == done[1][0]


@pytest.mark.slow(4)
def test_a_server_without_the_deployment_or_that_is_gone_is_one_line(prefect, monkeypatch):
    wanted = Task("1" * 40, "2" * 64, "train")
    with pytest.raises(UserError, match=r"has no deployment train/none: make it, .*docs/workers\.md") as raised:
        Pool("none").ask(wanted)
    assert "\n" not in str(raised.value)
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    with pytest.raises(Away, match=r"Prefect at http://127\.0\.0\.1:9/api: "):
        Pool("none").ask(wanted)
    monkeypatch.delenv("PREFECT_API_URL")
    with pytest.raises(UserError, match="no Prefect server: set PREFECT_API_URL"):
        Pool("none").ask(wanted)
