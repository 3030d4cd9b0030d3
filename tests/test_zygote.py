"""The process that all test processes share: one of a name, and it ends with the last that came."""

import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

import psutil
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


def test_it_is_no_descendant_of_the_test_process_that_starts_it():
    """The code under test ends the stages below its own process: those would be the stages of other tests too."""
    name = f"stillroom-test-parent-{os.getpid()}"
    subprocess.run([sys.executable, zygote.__file__, name], check=True, timeout=60)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
        until = time.monotonic() + 60
        while client.connect_ex(f"\0{name}"):
            assert time.monotonic() < until
            time.sleep(0.05)
        pid, _, _ = struct.unpack("3i", client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    above = [process.pid for process in psutil.Process(pid).parents()]
    os.kill(pid, signal.SIGKILL)  # it would import, for nobody
    assert os.getpid() not in above
