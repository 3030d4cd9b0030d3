"""Who may use the Prefect server of a checkout: whoever may read `.stillroom/prefect.auth`, on loopback too.

Any process of any user of the machine reaches loopback, and so does a page in a browser; who creates a flow run
decides what a worker executes.  The file is made once, for its owner alone; what it holds reaches servers and clients
by the environment, never a command line or a log.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import secrets

from components.base import files
from components.base.errors import UserError
from flows.workspace.paths import State

SERVER = "PREFECT_SERVER_API_AUTH_STRING"
CLIENT = "PREFECT_API_AUTH_STRING"
"""Environment: ``user:password``, of a server and of those who call it; the first comes before the file."""


def secret(state: State) -> str:
    """``user:password`` of the checkout's Prefect server, made at the first call; UserError when others may read it."""
    given = os.environ.get(SERVER, "")
    if given:
        return given
    path = state.folder / "prefect.auth"
    if not path.exists():
        files.sweep(path.parent, path.name)
        beside = files.beside_of(path)
        with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
            stream.write(f"stillroom:{secrets.token_urlsafe(32)}\n")
        try:
            files.sync(beside)
            with contextlib.suppress(FileExistsError):  # another process was quicker: its string is the one
                os.link(beside, path)
        finally:
            beside.unlink()
    mode = path.stat().st_mode & 0o777
    if mode & 0o077:
        raise UserError(f"{path}: others may read it (mode {mode:o}, wanted 600): remove it, and a "
                        "new one is made at the next start")  # fmt: skip
    return path.read_text("utf-8").strip()


def server(state: State, address: str) -> dict[str, str]:
    """The environment of a Prefect server at ``address`` (http://HOST:PORT), its pages' too; what is set stays."""
    wanted = {
        "PREFECT_SERVER_API_CSRF_PROTECTION_ENABLED": "true",
        "PREFECT_SERVER_API_CORS_ALLOWED_ORIGINS": address,
        "PREFECT_UI_API_URL": f"{address}/api",  # where the pages in the browser find it
        "PREFECT_SERVER_UI_API_URL": f"{address}/api",
    }
    return {SERVER: secret(state), **{name: os.environ.get(name, value) for name, value in wanted.items()}}


def client(state: State, address: str) -> dict[str, str]:
    """The environment of whoever calls the checkout's Prefect server at ``address``."""
    return {CLIENT: secret(state), "PREFECT_API_URL": f"{address}/api"}


def bound(host: str) -> None:
    """UserError for a ``host`` that others than this machine reach, unless a password was chosen for that."""
    if local(host) or os.environ.get(SERVER):
        return
    raise UserError(f"--host {host}: whoever reaches it could have flows run here: put {SERVER}=USER:PASSWORD into the "
                    "environment, of the workers that call it too (docs/schedules.md), or leave --host "
                    "at 127.0.0.1")  # fmt: skip


def local(host: str) -> bool:
    """Whether ``host`` is loopback."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
