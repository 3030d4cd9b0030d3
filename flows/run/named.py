"""What a flow run is called on Prefect's pages."""

from __future__ import annotations

from uuid import UUID

import httpx
from prefect import get_run_logger
from prefect.client.orchestration import get_client
from prefect.exceptions import PrefectException
from prefect.runtime import flow_run


def call(name: str) -> None:
    """Give this flow run ``name`` on Prefect's pages, which shows what it did; best effort."""
    if flow_run.id is None:  # called outside of a flow run
        return
    try:
        with get_client(sync_client=True) as client:
            client.update_flow_run(UUID(flow_run.id), name=name[:200])
    except (httpx.HTTPError, PrefectException) as error:
        get_run_logger().warning("the flow run keeps its name: %s", error)
