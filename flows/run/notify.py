"""Tell somebody how a scheduled run ended: by e-mail, Slack, a webhook or whatever else apprise has an address for.

The addresses are in the environment, since they hold passwords: nothing of them reaches a file, a log or Prefect.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import Any

from components.base.errors import UserError

VARIABLE = "STILLROOM_NOTIFY"
"""Environment: addresses as apprise writes them, with spaces between: ``json://host/path``, ``slack://...``,
``mailto://user:password@host``."""


def addresses() -> list[Any]:
    """What the environment names, ready to be used; UserError, which repeats none of them, for one that is none."""
    given = os.environ.get(VARIABLE, "").split()
    if not given:
        return []
    import apprise  # here: who wants no messages starts without it

    logging.getLogger("apprise").setLevel(logging.CRITICAL + 1)  # it would print addresses
    asset = apprise.AppriseAsset(app_id="Stillroom", app_desc="Stillroom", app_url="", async_mode=False)
    found = [apprise.Apprise.instantiate(each, asset=asset) for each in given]
    bad = [at for at, each in enumerate(found, start=1) if each is None]
    if bad:
        raise UserError(f"{VARIABLE}: address {bad[0]} of {len(given)} is none that apprise knows, such as "
                        "mailto://user:password@host, slack://... or json://host/path")  # fmt: skip
    return found


def tell(project: str, outcome: str, line: str, *, say: Callable[[str], None]) -> None:
    """Send ``line`` to each address, under a title of ``project`` and ``outcome``; ``say`` hears of one that fails."""
    every = addresses()
    lost = [at for at, each in enumerate(every, start=1) if not _sent(each, f"Stillroom {project}: {outcome}", line)]
    for at in lost:
        say(f"{VARIABLE}: address {at} of {len(every)} did not take the message")


def _sent(address: Any, title: str, body: str) -> bool:
    try:
        return bool(address.notify(title=title, body=body))
    except Exception:  # each of its hundred services has its own; a message is no reason for a run to fail
        return False
