"""The process that all test processes share: one of a name, and it ends with the last that came."""

import os
import socket
import threading

import pytest
import zygote


@pytest.fixture
def listener():
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listening:
        listening.bind(f"\0stillroom-test-{os.getpid()}")
        listening.listen()
        yield listening


def come(listener):
    client = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    client.connect(listener.getsockname())
    return client


def test_it_serves_until_the_last_has_left(listener):
    serving = threading.Thread(target=zygote.Zygote(listener).serve, daemon=True)
    first, second = come(listener), come(listener)
    serving.start()
    first.close()
    serving.join(0.2)
    assert serving.is_alive()
    second.close()
    serving.join(10)
    assert not serving.is_alive()


def test_a_second_of_its_name_ends_at_once(listener, monkeypatch):
    monkeypatch.setattr(zygote, "PRELOAD", ("it_would_import",))
    zygote.main(listener.getsockname()[1:].decode())
