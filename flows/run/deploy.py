"""`stillroom deploy`: the pools, the deployments and the watch over the night, on a Prefect server."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from components.base import files
from components.base.errors import UserError
from flows.run import access, deployments, notify
from flows.workspace.paths import State

NIGHTLY, REFRESH = "retrain/nightly", "refresh/hourly"
PATIENCE_HOURS = 26
"""A night that did not begin is told after so many hours: a day, and what it may begin later."""


@dataclass(frozen=True)
class Times:
    """When the pipeline runs, when data is taken in (cron's five fields; "": not by itself), and in which time zone."""

    nightly: str
    refresh: str
    timezone: str

    @classmethod
    def checked(cls, nightly: str, refresh: str, timezone: str | None) -> Times:
        """The times; ``timezone`` is this machine's unless given.  UserError when one is none."""
        import tzlocal
        from prefect._vendor.croniter import CroniterBadDateError, croniter  # which Prefect's scheduler asks
        from prefect.client.schemas.schedules import CronSchedule

        try:
            zone = tzlocal.get_localzone_name() if timezone is None else timezone
            ZoneInfo(zone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            named = f"--timezone {timezone!r}" if timezone is not None else f"TZ={os.environ.get('TZ', '')!r}"
            raise UserError(f"{named}: not a time zone, such as Europe/Berlin or UTC") from None
        for option, cron in (("--cron", nightly), ("--refresh", refresh)):
            if option == "--refresh" and not cron:
                continue
            try:
                if len(cron.split()) != 5:
                    raise ValueError("not five fields")
                CronSchedule(cron=cron, timezone=zone)
                croniter(cron).get_next()
            except CroniterBadDateError:  # a ValueError too
                raise UserError(f"{option} {cron!r}: no such day ever comes: wanted one that does, such as "
                                "'0 3 28 2 *' for 3:00 on 28 February") from None  # fmt: skip
            except ValueError:
                raise UserError(f"{option} {cron!r}: not a cron schedule of five fields, such as '0 3 * * *'") from None
        return cls(nightly, refresh, zone)


def deploy(
    state: State, when: Times, *, only: Sequence[deployments.Deployment] = deployments.TABLE,
    say: Callable[[str], None],
) -> None:  # fmt: skip
    """Make pools, deployments and automations on the server that PREFECT_API_URL names; again changes what differs.

    UserError where that server does not answer or wants another password.
    """
    url = os.environ["PREFECT_API_URL"]
    with _asking(url):
        _pools()
        path = state.folder / "prefect.yaml"
        crons = {NIGHTLY: when.nightly, REFRESH: when.refresh}
        files.write_text(path, deployments.render(cron=crons, timezone=when.timezone, only=only))
        line = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all", "--prefect-file", str(path)]
        # In the state's folder: Prefect looks for git and for Python files in the folder that it is called in.
        done = subprocess.run(line, cwd=state.folder, capture_output=True, text=True, check=False, env={
            **os.environ, "PYTHONPATH": python_path(), "COLUMNS": "1000", "NO_COLOR": "1"})  # fmt: skip
        if done.returncode:
            why = " ".join((done.stderr.strip() or done.stdout.strip()).splitlines()[-1:])
            raise UserError(f"Prefect at {url} takes no deployments: {why}")
        watched = _watch()
    say(f"deployed: {', '.join(row.name for row in only)}")
    say(f"Prefect's server tells of a night that has not begun for {PATIENCE_HOURS} h, and of runs that died"
        if watched else f"nobody is told of a night that did not begin: {notify.VARIABLE} names nobody")  # fmt: skip


def python_path() -> str:
    """PYTHONPATH of the processes that import the flows: what this one imported them from comes first."""
    own = str(deployments.ROOT)
    given = [each for each in os.environ.get("PYTHONPATH", "").split(os.pathsep) if each and each != own]
    return os.pathsep.join([*given, own])


def _row(name: str) -> deployments.Deployment:
    return next(row for row in deployments.TABLE if row.name == name)


def _pools() -> None:
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
    from prefect.exceptions import ObjectAlreadyExists

    with get_client(sync_client=True) as client:
        for name, description in deployments.POOLS.items():
            pool: dict[str, Any] = {"base_job_template": deployments.JOB, "description": description}
            try:
                client.create_work_pool(WorkPoolCreate(name=name, type="process", **pool))
            except ObjectAlreadyExists:
                client.update_work_pool(name, WorkPoolUpdate(**pool))
        for pool_name, queues in deployments.QUEUES.items():
            known = {queue.name: queue.id for queue in client.read_work_queues(work_pool_name=pool_name)}
            for priority, queue in enumerate(queues, start=1):
                if queue not in known:
                    client.create_work_queue(name=queue, work_pool_name=pool_name, priority=priority)


def _watch() -> bool:
    """Have Prefect's server tell whom STILLROOM_NOTIFY names of what no flow can tell; whether it names any.

    A nightly that did not begin, since no worker was there, and a run whose process died.  The addresses then lie in
    the server's database, encrypted by Prefect.
    """
    from prefect.blocks.notifications import SlackWebhook
    from prefect.client.orchestration import get_client
    from prefect.events.actions import SendNotification
    from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
    from prefect.events.schemas.events import ResourceSpecification
    from pydantic import SecretStr

    given = [] if not notify.addresses() else os.environ[notify.VARIABLE].split()
    # Of all its kinds of block the one that takes any address of apprise, and not only Slack's.
    blocks: list[Any] = [
        SlackWebhook(url=SecretStr(each)).save(f"stillroom-notify-{at}", overwrite=True)
        for at, each in enumerate(given, 1)
    ]
    with get_client(sync_client=True) as client:
        nightly = client.read_deployment_by_name(NIGHTLY)
        of_nightly: dict[str, str | list[str]] = {
            "prefect.resource.id": f"prefect.deployment.{nightly.id}",
            "prefect.resource.role": "deployment",
        }
        ours = {
            "stillroom: no night": (
                EventTrigger(
                    expect={"prefect.flow-run.Running"}, match_related=ResourceSpecification(of_nightly), threshold=1,
                    posture=Posture.Proactive, within=timedelta(hours=PATIENCE_HOURS),
                ),
                f"{NIGHTLY} has not begun for {PATIENCE_HOURS} h: is a worker of pool {_row(NIGHTLY).pool} running?",
            ),
            "stillroom: died": (
                EventTrigger(
                    expect={"prefect.flow-run.Crashed"}, posture=Posture.Reactive, threshold=1,
                    match=ResourceSpecification({"prefect.resource.id": "prefect.flow-run.*"}),
                ),
                "A flow run has ended without a word (state Crashed): Prefect's page of it says why.",
            ),
        }  # fmt: skip
        for name, (trigger, body) in ours.items():
            for old in client.read_automations_by_name(name):
                client.delete_automation(old.id)
            if blocks:
                actions: list[Any] = [
                    SendNotification(block_document_id=one, subject=name, body=body) for one in blocks
                ]
                client.create_automation(AutomationCore(name=name, trigger=trigger, actions=actions))
    return bool(blocks)


@contextmanager
def _asking(url: str) -> Iterator[None]:
    """Have Prefect's client ask the server at ``url``; no answer, or that it wants another password, is a UserError."""
    import httpx
    from prefect.exceptions import PrefectHTTPStatusError
    from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

    # Prefect read the environment when it was imported, and without an address it starts a server of its own.
    try:
        with temporary_settings({PREFECT_API_URL: url, PREFECT_API_AUTH_STRING: os.environ.get(access.CLIENT)}):
            yield
    except PrefectHTTPStatusError as error:
        if error.response.status_code != 401:
            raise
        raise UserError(f"Prefect at {url} wants another password: set {access.CLIENT} to the "
                        "USER:PASSWORD of that server") from None  # fmt: skip
    except httpx.TransportError as error:
        raise UserError(f"Prefect at {url} does not answer ({error}): start it, or set PREFECT_API_URL to the address "
                        "at which it does") from None  # fmt: skip
