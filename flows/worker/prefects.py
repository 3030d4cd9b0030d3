"""What the controller asks Prefect of a task: to have it run, how that stands, and to end it.

Prefect's server may be away for as long as it likes: a worker goes on without it, and its result is what counts.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import FlowRunFilter
from prefect.client.schemas.objects import StateType
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound, PrefectException
from prefect.states import Cancelling, Crashed

from components.base.errors import UserError, brief
from flows.worker.pool import API, AUTH
from flows.worker.task import Task

FLOW = "train"
"""Of the deployments: ``train/POOL``."""
LEASE = 600.0
"""Seconds for which the place of :meth:`Pool.alone` is kept for one that gives no more sign."""
_OPEN = [StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING]


class Away(UserError):
    """Prefect's server does not answer."""


@dataclass(frozen=True)
class Asked:
    """One flow run of ``train/POOL``, as Prefect has it: ``kind`` is the type of its state, ``name`` its name."""

    id: UUID
    called: str
    kind: StateType
    name: str
    message: str

    @classmethod
    def of(cls, run: Any) -> Self:
        """From Prefect's own object."""
        state = run.state
        return cls(run.id, run.name, state.type, state.name or "", (state.message or "").strip())

    @property
    def over(self) -> bool:
        """Whether it has ended, however it did."""
        return self.kind not in (*_OPEN, StateType.PAUSED, StateType.CANCELLING)


class Pool:
    """Deployment ``train/POOL`` of the Prefect server that workers ask."""

    def __init__(self, pool: str) -> None:
        self.pool = pool
        names = (API, AUTH) if os.environ.get(API) else ("PREFECT_API_URL", "PREFECT_API_AUTH_STRING")
        self.url, self.auth = (os.environ.get(name, "") for name in names)

    def ask(self, task: Task) -> Asked:
        """Have a worker run ``task``: the flow run that does it already, else a new one."""
        tag = f"stillroom:{task.inputs[:32]}"
        with self._client() as client:
            wanted = FlowRunFilter.model_validate({"tags": {"all_": [tag]}, "state": {"type": {"any_": _OPEN}}})
            for run in client.read_flow_runs(flow_run_filter=wanted, limit=1):
                return Asked.of(run)
            try:
                deployment = client.read_deployment_by_name(f"{FLOW}/{self.pool}")
            except ObjectNotFound:
                raise UserError(
                    f"Prefect at {self.url} has no deployment {FLOW}/{self.pool}: make it, and start a worker "
                    "of that pool (docs/workers.md), or train here without --train-on"
                ) from None
            parameters = {"commit": task.commit, "inputs": task.inputs, "stage": task.stage}
            run = client.create_flow_run_from_deployment(
                deployment.id, parameters=parameters, tags=["stillroom", tag], name=f"{task.stage} {task.inputs[:12]}"
            )
            return Asked.of(run)

    def look(self, asked: Asked) -> Asked:
        """The same flow run as it stands now."""
        with self._client() as client:
            return Asked.of(client.read_flow_run(asked.id))

    def lose(self, asked: Asked, why: str) -> None:
        """Have Prefect's pages say that the worker of a flow run is gone; best effort."""
        with contextlib.suppress(UserError), self._client() as client:
            client.set_flow_run_state(asked.id, Crashed(message=why), force=True)

    def cancel(self, asked: Asked) -> None:
        """Have its worker stop it; best effort."""
        with contextlib.suppress(UserError), self._client() as client:
            client.set_flow_run_state(asked.id, Cancelling(message="the run that waited for it was stopped"))

    @contextlib.contextmanager
    def alone(self, what: str) -> Iterator[None]:
        """Be the only one that does ``what`` of all machines that ask this server; waits for who does it now.

        Away where the server does not answer at the beginning; later it may go.  Whoever dies meanwhile holds the place
        for LEASE seconds.  Not by Prefect's `concurrency`, which asks the server that the flow run is on.
        """
        with self._client() as client, contextlib.suppress(ObjectAlreadyExists):  # another machine makes it just now
            client.upsert_global_concurrency_limit_by_name(what, 1)
        while (lease := self._lease(what)) is None:
            time.sleep(1.0)
        try:
            yield
        finally:
            with contextlib.suppress(Away), self._client() as client:
                client.release_concurrency_slots_with_lease(lease)

    def _lease(self, what: str) -> UUID | None:
        """The place, None while another one has it."""
        with self._client() as client:
            try:
                answer = client.increment_concurrency_slots_with_lease([what], 1, "concurrency", LEASE)
            except httpx.HTTPStatusError as error:
                if error.response.status_code != httpx.codes.LOCKED:
                    raise
                return None
            return UUID(answer.json()["lease_id"])

    @contextlib.contextmanager
    def _client(self) -> Iterator[SyncPrefectClient]:
        """A client of this server: `get_client` in a flow run gives that of the run's own."""
        if not self.url:
            raise UserError("no Prefect server: set PREFECT_API_URL to the one that the workers ask")
        try:
            with SyncPrefectClient(self.url, auth_string=self.auth or None) as client:
                yield client
        except (httpx.HTTPError, PrefectException) as error:
            raise Away(f"Prefect at {self.url}: {brief(error)}") from error
