"""The password of a checkout's Prefect server."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from components.base.errors import UserError
from flows.run import access, servers
from flows.workspace.paths import State


@pytest.fixture
def state(tmp_path, monkeypatch):
    monkeypatch.delenv(access.SERVER, raising=False)
    State(tmp_path).folder.mkdir()
    return State(tmp_path)


def test_it_is_made_once_however_many_ask_at_once_and_is_its_owner_s_alone(state):
    old = os.umask(0)
    try:
        with ThreadPoolExecutor(16) as pool:
            found = set(pool.map(lambda _: access.secret(state), range(64)))
    finally:
        os.umask(old)
    (one,) = found
    user, _, password = one.partition(":")
    assert user == "stillroom" and len(password) >= 32
    assert [path.name for path in state.folder.iterdir()] == ["prefect.auth"]
    assert (state.folder / "prefect.auth").stat().st_mode & 0o777 == 0o600


def test_one_that_others_may_read_is_one_line(state):
    access.secret(state)
    (state.folder / "prefect.auth").chmod(0o644)
    with pytest.raises(UserError, match=r"prefect\.auth: others may read it \(mode 644, wanted 600\): remove it"):
        access.secret(state)


def test_server_and_client_have_the_same_and_what_is_set_comes_first(state, monkeypatch):
    server, client = access.server(state, "http://127.0.0.1:4200"), access.client(state, "http://127.0.0.1:4200")
    assert server[access.SERVER] == client[access.CLIENT] == access.secret(state)
    assert server["PREFECT_SERVER_API_CORS_ALLOWED_ORIGINS"] == "http://127.0.0.1:4200"
    assert client["PREFECT_API_URL"] == "http://127.0.0.1:4200/api"
    monkeypatch.setenv(access.SERVER, "team:pass")
    assert access.client(state, "x")[access.CLIENT] == "team:pass"


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.3.2.1"])
def test_loopback_is_bound_without_further_ado(state, host):
    access.bound(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.5", "server.example"])
def test_another_address_only_with_a_password_that_was_chosen_for_it(state, host, monkeypatch):
    with pytest.raises(UserError, match=f"--host {host}: .*put {access.SERVER}=USER:PASSWORD"):
        access.bound(host)
    monkeypatch.setenv(access.SERVER, "team:pass")
    access.bound(host)


def test_two_servers_at_one_port_are_refused_before_either_starts(tmp_path):
    with pytest.raises(UserError, match="both 4321: give each a port of its own"), \
            servers.running(State(tmp_path), servers.Ports(4321, 4321)):  # fmt: skip
        pass
