"""One process beside all test processes: it forks the command ``stillroom``, and has one Prefect server.

``python zygote.py NAME`` listens at the abstract socket NAME until the last that came is gone; a second one ends at
once.  It has imported what the command imports late, 2 to 6 CPU seconds a call, and a Prefect server takes 20 to start.

A request is a JSON object.  One with folder, arguments and environment comes with two descriptors for the output, and
its answer is the exit code; the code is the project's own, not that of the checkout that the command works in
(:func:`checkouts.from_its_code`).  The empty object asks for the port of the server, which may not answer yet.
"""

from __future__ import annotations

import importlib
import json
import os
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PRELOAD = (
    "dvc.repo", "dvc.stage.loader", "flows.cli.app", "flows.data.diff", "flows.registry.publish", "flows.run.launch",
    "mlflow", "mlflow.store.model_registry.sqlalchemy_store", "mlflow.store.tracking.sqlalchemy_store",
)  # fmt: skip
_REQUEST = 2**20
_SECONDS = 60  # for the one that started this process to come


class Zygote:
    """What listens, who has come, and what runs for them."""

    def __init__(self, listener: socket.socket) -> None:
        self.listener = listener
        self.clients: set[socket.socket] = set()
        self.prefect: tuple[subprocess.Popen[bytes], Path, int] | None = None
        self.waiting = selectors.DefaultSelector()
        self.waiting.register(listener, selectors.EVENT_READ, self._come)

    def serve(self) -> None:
        """Answer until nobody is left; a fork leaves by SystemExit, as the command does by itself."""
        began = False
        while not began or self.clients or self.waiting.select(0):
            ready = self.waiting.select(None if began else _SECONDS)
            if not ready:
                return
            began = True
            for key, _ in ready:
                key.data()

    def end(self) -> None:
        """End the Prefect server, and remove what it kept."""
        if self.prefect:
            server, home, _ = self.prefect
            server.kill()
            server.wait()
            shutil.rmtree(home, ignore_errors=True)

    def _come(self) -> None:
        client, _ = self.listener.accept()
        self.clients.add(client)
        self.waiting.register(client, selectors.EVENT_READ, lambda: self._read(client))

    def _read(self, client: socket.socket) -> None:
        try:
            message, pipes, _, _ = socket.recv_fds(client, _REQUEST, 2)
        except ConnectionResetError:
            message, pipes = b"", []
        request = json.loads(message or b"null")
        if request is None:
            self.waiting.unregister(client)
            self.clients.remove(client)
            client.close()
        elif request:
            self._fork(client, request, pipes)
        else:
            client.send(str(self._port()).encode())

    def _fork(self, client: socket.socket, request: dict, pipes: list[int]) -> None:
        child = os.fork()
        if not child:
            for each in (self.listener, self.waiting, *self.clients):
                each.close()
            _become(request, pipes)
            from flows.cli import app

            app.main()
        for pipe in pipes:
            os.close(pipe)
        ended = os.pidfd_open(child)

        def answer() -> None:
            self.waiting.unregister(ended)
            os.close(ended)
            _, status = os.waitpid(child, 0)
            if client in self.clients:
                client.send(str(os.waitstatus_to_exitcode(status)).encode())

        self.waiting.register(ended, selectors.EVENT_READ, answer)

    def _port(self) -> int:
        if self.prefect is None:
            from components.base.processes import die_with_parent
            from flows.run import servers

            home = Path(tempfile.mkdtemp())
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                port = probe.getsockname()[1]
            own = {"PREFECT_HOME": str(home), "PREFECT_UI_ENABLED": "0"}
            server = subprocess.Popen(
                servers.prefect_command(port), env=os.environ | own, stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL, preexec_fn=die_with_parent,
            )  # fmt: skip
            self.prefect = server, home, port
        return self.prefect[2]


def _become(request: dict, pipes: list[int]) -> None:
    for number, pipe in enumerate(pipes, 1):
        os.dup2(pipe, number)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.argv = ["stillroom", *request["arguments"]]


def main(name: str) -> None:
    """Listen, import, serve; nothing where another listens already."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        try:
            listener.bind(f"\0{name}")
        except OSError:
            return
        listener.listen(64)
        sys.path.insert(0, str(ROOT))
        for each in PRELOAD:
            importlib.import_module(each)
        assert threading.active_count() == 1, "a fork of several threads may find a lock held for ever"
        zygote, own = Zygote(listener), os.getpid()
        try:
            zygote.serve()
        finally:
            if os.getpid() == own:
                zygote.end()


if __name__ == "__main__":
    # No descendant of the test process that starts it: code under test ends the stages below its own process.
    if os.fork():
        os._exit(0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    main(sys.argv[1])
