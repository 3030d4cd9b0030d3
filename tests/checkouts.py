"""Small checkouts of the project for tests that run it whole: real git, DVC, Prefect and MLflow."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

from ruamel.yaml import YAML

from components.base.config import FILE
from flows.run import servers
from flows.workspace.paths import QUIET

ROOT = Path(__file__).resolve().parent.parent
CODE = ("components", "consume", "flows", "dvc.yaml", ".dvc/config", ".dvc/.gitignore", ".dvcignore", ".gitignore",
        "params.schema.json", FILE, "data/withdrawn.jsonl", "data/decisions.jsonl",
        "data/start.json")  # fmt: skip
SMALL = {
    "resize": {"side": 16},
    "profile": {"embedding": "colours", "images": 100},
    "train": {
        "images": 96,
        "ranks": 1,
        "network": {"kind": "compact", "widths": [32, 32], "layers": 1, "fold": 1, "skip_sigma": 0.5},
        "checkpoint_images": 32,
        "validate_images": 4,
        "validations": 2,
        "sheet": 0,
        "steps": 2,
    },
    "evaluate": {"samples": 16, "replicates": 20},
}
"""What makes a whole pass take seconds; every other value is the project's own."""


def make(folder: Path, *, pictures: int = 90, changes: dict | None = None) -> Path:
    """A committed checkout in ``folder`` whose source is a zip of the first ``pictures`` emoji."""
    folder.mkdir(parents=True)
    for name in CODE:
        source, target = ROOT / name, folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "noto-emoji*"))
        else:
            shutil.copyfile(source, target)
    emoji(folder / "source.zip", pictures)
    for section, values in SMALL.items():
        edit(folder, section, **values)
    point(folder, "source.zip")
    for section, values in (changes or {}).items():
        edit(folder, section, **values)
    git(folder, "init", "--quiet", "--initial-branch=main")
    git(folder, "add", "--all")
    git(folder, "-c", "user.name=t", "-c", "user.email=t@localhost", "commit", "--quiet", "-m", "start")
    return folder


def emoji(path: Path, pictures: int, *, skip: int = 0) -> None:
    """Write a zip with ``pictures`` of the embedded data set, spread over it, and their metadata."""
    with zipfile.ZipFile(ROOT / "data/samples/noto-emoji-64.zip") as whole, zipfile.ZipFile(path, "w") as part:
        names = sorted(name for name in whole.namelist() if name.endswith(".png"))
        chosen = names[skip :: max(1, len(names) // (pictures + skip))][:pictures]
        rows = whole.read("metadata.csv").decode().splitlines(keepends=True)
        kept = [row for row in rows[1:] if row.split(",")[0] in set(chosen)]
        part.writestr(zipfile.ZipInfo("metadata.csv"), rows[0] + "".join(kept))
        for name in chosen:
            part.writestr(zipfile.ZipInfo(name), whole.read(name))


def edit(folder: Path, section: str, **values: object) -> None:
    """Change values of one section of params.yaml; None as the whole section takes it out."""
    yaml = YAML()
    path = folder / FILE
    data = yaml.load(path)
    data[section].update(values)
    yaml.dump(data, path)


def point(folder: Path, location: str, **values: object) -> None:
    """Have the checkout's one source lie at ``location``; ``values`` change what else params.yaml says of it."""
    yaml = YAML()
    path = folder / FILE
    data = yaml.load(path)
    data["collect"]["sources"][0].update(location=location, **values)
    yaml.dump(data, path)


def git(folder: Path, *arguments: str) -> str:
    """What ``git arguments`` prints in ``folder``."""
    done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout


def python_path(*folders: Path | str) -> str:
    """A PYTHONPATH of ``folders``, with the guard that keeps each Python it is given to off the network."""
    return os.pathsep.join(map(str, (ROOT / "tests" / "guard", *folders)))


def environment() -> dict[str, str]:
    """That of a user who has just opened a terminal, without the project's path."""
    own = ("PREFECT_", "MLFLOW_", "DVC_", "STILLROOM_")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(own) or k.startswith("STILLROOM_TEST_")}
    here = str(Path(sys.executable).parent)
    kept["PYTHONPATH"] = python_path()
    kept["PATH"] = os.pathsep.join([here, os.environ["PATH"]])
    return kept


def new_user(place: Path) -> dict[str, str]:
    """The environment of a user who has set nothing, with a home and a folder for temporary files in ``place``.

    Both are made here and are empty.  What holds a training to the same bytes as that of other tests is kept.
    """
    for name in ("home", "tmp"):
        (place / name).mkdir(parents=True)
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    kept = {k: v for k, v in os.environ.items() if k.startswith("STILLROOM_TEST_") or k == "OMP_NUM_THREADS"}
    return kept | {"HOME": str(place / "home"), "TMPDIR": str(place / "tmp"), "PATH": path, "LANG": "C.UTF-8"}


def from_its_code(folder: Path, *arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    """Run the command in ``folder``, from that checkout's own code and in a process of its own."""
    return subprocess.run(command(*arguments), cwd=folder, env=environment(), capture_output=True, text=True,
                          timeout=300, check=False, **options)  # fmt: skip


def stillroom(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command in ``folder``, from the project's code, in a fork of a process that has imported it.

    What it starts, a pipeline run and its stages, is fresh and of the checkout's own code as ever.
    """
    request = {"folder": str(folder), "arguments": arguments, "environment": environment()}
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        zygote = _zygote()
        socket.send_fds(zygote, [json.dumps(request).encode()], [out.fileno(), err.fileno()])
        code = int(zygote.recv(16))
        said = []
        for stream in (out, err):
            stream.seek(0)
            said.append(stream.read().decode())
    return subprocess.CompletedProcess(["stillroom", *arguments], code, *said)


@functools.cache
def _zygote() -> socket.socket:
    """A connection with the process that all test processes share (zygote.py), and that ends with the last of them."""
    # pytest-xdist gives all processes of one test run this name.
    name = f"stillroom-{os.environ.get('PYTEST_XDIST_TESTRUNUID') or os.getpid()}"
    ours = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.settimeout(300)
    until, started = time.monotonic() + 300, False
    while True:
        try:
            ours.connect(f"\0{name}")
            return ours
        except ConnectionRefusedError:  # it is not there, or does not listen yet
            if time.monotonic() > until:
                raise
        if not started:
            line = [sys.executable, str(ROOT / "tests" / "zygote.py"), name]
            subprocess.run(line, env=environment() | QUIET, check=True)
            started = True
        time.sleep(0.05)


def with_prefect(folder: Path) -> None:
    """Have the runs in ``folder`` find a Prefect server that answers, as beside `stillroom ui`: one for all tests."""
    (folder / ".stillroom/servers.json").write_text(json.dumps({"prefect": {"url": prefect_server()}}))


@functools.cache
def prefect_server() -> str:
    """The address of the one Prefect server of all test processes, which ends with the last of them."""
    zygote = _zygote()
    zygote.send(json.dumps({}).encode())
    url, until = f"http://127.0.0.1:{int(zygote.recv(16))}", time.monotonic() + 300
    while not servers.answers(f"{url}/api/health"):
        assert time.monotonic() < until, "Prefect does not start"
        time.sleep(0.25)
    return url


def command(*arguments: str) -> list[str]:
    """The command line of ``stillroom arguments``, run from the current folder's code."""
    return [sys.executable, "-m", "flows.cli.app", *arguments]


@contextlib.contextmanager
def dvc_locked(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process, killed at the end, that holds DVC's lock of the checkout ``folder``."""
    code = "import time, zc.lockfile as z; held = z.LockFile('.dvc/tmp/lock'); print(flush=True); time.sleep(60)"
    holder = subprocess.Popen([sys.executable, "-c", code], cwd=folder, stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None and holder.stdout.readline() == "\n"
        yield holder
    finally:
        holder.kill()
        holder.communicate()


def free_port() -> int:
    """A port of loopback on which nothing listened a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below ``folder`` by relative name."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
