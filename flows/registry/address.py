"""The address of MLflow: as it may be shown, without the name and password in it, and whether a database is there."""

from __future__ import annotations

import urllib.parse
from pathlib import Path

from components.base.errors import UserError

_SHORT = 3  # characters: what is as short is no password, and may stand anywhere in a text


def shown(uri: str) -> str:
    """``uri`` without the name and password that it may hold, also where their own / # ? or @ are not quoted."""
    return without_login(uri, uri)


def without_login(text: str, uri: str) -> str:
    """``text`` without the name and password of ``uri``."""
    login = "" if uri.startswith("sqlite:") else uri.partition("://")[2].rpartition("@")[0]
    password = login.partition(":")[2]
    secrets = [each for each in (password, urllib.parse.unquote(password)) if len(each) > _SHORT]
    for each in ([f"{login}@"] if login else []) + secrets:
        text = text.replace(each, "")
    return text


def lost(uri: str) -> UserError | None:
    """Where ``uri`` is a database that is not there, what says so: MLflow would make one."""
    database = Path(uri.removeprefix("sqlite:///"))
    if not uri.startswith("sqlite:") or database.is_file():
        return None
    return UserError(f"{database}: missing: nothing is registered here yet: `stillroom run` registers a model, and "
                     "`stillroom sync` brings back what is on record")  # fmt: skip
