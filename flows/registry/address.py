"""The address of an MLflow server as it may be shown: without the name and password in it."""

from __future__ import annotations

import urllib.parse

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
