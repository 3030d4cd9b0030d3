"""A controller and a worker: two clones of one bare repository, and a DVC remote in a folder that both reach."""

from __future__ import annotations

import contextlib
import logging
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from checkouts import command, git, new_user, python_path
from data_checkout import copied
from ruamel.yaml import YAML

from flows.dvc import apart, snapshot
from flows.dvc.shelf import Shelf
from flows.worker import order, work
from flows.worker.task import Result, Task
from flows.workspace.paths import State

REMOTE = "[core]\n    remote = shelf\n['remote \"shelf\"']\n    url = {url}\n"
LOG = logging.getLogger("worker")


@dataclass(frozen=True)
class Workshop:
    """The two clones, whose data stages are up to date in the first and of which the second has only git's files."""

    controller: Path
    worker: Path
    remote: Path

    def order(self) -> Task:
        """What the controller asks for."""
        with snapshot.taken(self.controller):
            return order.order(self.controller, "train")

    @property
    def shelf(self) -> Shelf:
        """The folder in DVC's remote."""
        return apart.shelf(self.worker)

    def another(self, name: str) -> Workshop:
        """The same controller with one more worker, in a clone of its own."""
        root = self.worker.with_name(name)
        git(root.parent, "clone", "--quiet", str(self.worker.with_name("bare.git")), str(root))
        shutil.copyfile(self.worker / ".dvc/config.local", root / ".dvc/config.local")
        return replace(self, worker=root)

    def worked(self, task: Task) -> Result:
        """What the worker makes of ``task``, in this process."""
        where = work.prepare(self.worker, task)
        seconds = work.run(where, task, log=LOG, metrics=lambda *_: None, files=lambda *_: None)
        made = work.deliver(where, task, self.shelf, seconds, None)
        work.clear(self.worker, where)
        return made


def make(place: Path, url: str = "") -> Workshop:
    """The two clones below ``place``, and a DVC remote at ``url``, in a folder unless told."""
    controller, worker, bare = (place / name for name in ("controller", "worker", "bare.git"))
    copied(controller)
    git(place, "clone", "--quiet", "--bare", str(controller), str(bare))
    git(controller, "remote", "add", "origin", str(bare))
    git(place, "clone", "--quiet", str(bare), str(worker))
    for root in (controller, worker):
        (root / ".dvc/config.local").write_text(REMOTE.format(url=url or place / "remote"))
        State(root).folder.mkdir(exist_ok=True)
    return Workshop(controller, worker, place / "remote")


def quickly(root: Path, command: str = "") -> None:
    """Have training in the checkout ``root`` take a moment: it writes a text as its model, and does ``command``."""
    fake = (
        "mkdir -p models/candidate metrics && cp data/start.json models/candidate/weights"
        """ && cp data/start.json metrics/train.json && echo '{"kind":"start","stage":"train"}' >> $STILLROOM_EVENTS"""
    )
    table = YAML().load(root / "dvc.yaml")
    table["stages"]["train"]["cmd"] = f"{fake} && {command}" if command else fake
    YAML().dump(table, root / "dvc.yaml")


@contextlib.contextmanager
def working(shop: Workshop, place: Path, url: str, pool: str, **own: str) -> Iterator[subprocess.Popen]:
    """`stillroom worker` of ``pool`` as a new user of another machine has it, in the worker's clone."""
    around = {**new_user(place), "PYTHONPATH": python_path(), "PREFECT_API_URL": f"{url}/api", **own}
    with (place / "log").open("wb") as log:
        process = subprocess.Popen(
            command("worker", "--pool", pool), cwd=shop.worker, env=around, stdout=log, stderr=log
        )
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()


def deployed(url: str, pool: str) -> None:
    """Make the work pool ``pool`` and the deployment ``train/pool`` on the Prefect server at ``url``."""
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.actions import WorkPoolCreate

    job = {"command": "python -m prefect.engine", "env": {}, "labels": {}, "name": None, "stream_output": True,
           "working_dir": None}  # fmt: skip
    template = {"job_configuration": job, "variables": {"type": "object", "properties": {}}}
    with SyncPrefectClient(f"{url}/api") as client:
        client.create_work_pool(WorkPoolCreate(name=pool, type="process", base_job_template=template))
        flow = client.create_flow_from_name("train")
        client.create_deployment(flow, pool, entrypoint="flows.worker.flow.train_stage", work_pool_name=pool)
