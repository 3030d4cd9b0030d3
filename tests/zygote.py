"""The command ``stillroom`` in forks of one process that has imported what it imports late: 2 to 6 CPU seconds a call.

``python zygote.py FD`` serves one test process through the socket FD: for each request, a JSON object with folder,
arguments and environment beside two descriptors for the output, it answers with the exit code.  The code is the
project's own, not that of the checkout that the command works in (:func:`checkouts.from_its_code`).
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import socket
import sys
import threading
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PRELOAD = (
    "dvc.repo", "dvc.stage.loader", "flows.cli.app", "flows.data.diff", "flows.registry.publish", "flows.run.launch",
    "mlflow", "mlflow.store.model_registry.sqlalchemy_store", "mlflow.store.tracking.sqlalchemy_store",
)  # fmt: skip
_REQUEST = 2**20


def serve(requests: socket.socket) -> None:
    """Answer until the other side is closed; a fork leaves by SystemExit, as the command does by itself."""
    sys.path.insert(0, str(ROOT))
    for name in PRELOAD:
        importlib.import_module(name)
    assert threading.active_count() == 1, "a fork of several threads may find a lock held for ever"
    while True:
        request, pipes, _, _ = socket.recv_fds(requests, _REQUEST, 2)
        if not request:
            return
        child = os.fork()
        if not child:
            requests.close()
            _become(json.loads(request), pipes)
            from flows.cli import app

            app.main()
        for pipe in pipes:
            os.close(pipe)
        _, status = os.waitpid(child, 0)
        requests.send(str(os.waitstatus_to_exitcode(status)).encode())


def _become(request: dict, pipes: list[int]) -> None:
    for number, pipe in enumerate(pipes, 1):
        os.dup2(pipe, number)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.argv = ["stillroom", *request["arguments"]]


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    serve(socket.socket(fileno=int(sys.argv[1])))
