"""What a checkout tells the tools it calls, whatever the person's own environment says."""

import getpass
import http.server
import os
import pwd
import threading
from pathlib import Path

import httpx
import pytest
import requests

from components.base.errors import UserError
from flows.workspace.paths import State


@pytest.fixture
def entered(tmp_path):
    """Enter a checkout; the environment is as it was when the test ends."""
    before = dict(os.environ)
    yield lambda: State(tmp_path).enter()
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def server():
    """The address of a server on loopback whose every answer is an error."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as made:
        threading.Thread(target=made.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{made.server_port}"
        made.shutdown()


@pytest.mark.parametrize("said", [{}, {"NO_PROXY": "corp.example"}, {"no_proxy": "corp.example", "NO_PROXY": "old"}])
def test_servers_of_this_machine_are_asked_without_the_proxy(entered, server, monkeypatch, said):
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nobody listens there
    for name, value in said.items():
        monkeypatch.setenv(name, value)
    entered()
    entered()  # once more changes nothing
    for client in (httpx, requests):  # Prefect's and MLflow's
        assert client.get(server, timeout=5).status_code == 501
    named = os.environ["no_proxy"].split(",")
    assert os.environ["NO_PROXY"].split(",") == named and len(named) == len(set(named))
    assert ("corp.example" in named) == bool(said)


def test_a_place_that_mlflow_s_database_cannot_have_is_refused(tmp_path):
    folder = tmp_path / "why?"
    folder.mkdir()
    with pytest.raises(UserError, match="question mark"):
        State(folder).enter()
    assert not list(folder.iterdir())


def test_an_account_without_a_name_has_a_home_and_a_name(entered, tmp_path, monkeypatch):
    for name in ("HOME", "LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    known = Path.home()
    entered()
    assert Path.home() == known, "that of a user who has one stays"

    def nobody(number):
        raise KeyError(number)

    monkeypatch.setattr(pwd, "getpwuid", nobody)
    entered()
    assert tmp_path in Path.home().parents and getpass.getuser() == f"user {os.getuid()}"
