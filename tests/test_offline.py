"""The promise "no telemetry": a whole run and a consumer ask for no name and write only where they are told."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tracing
from checkouts import free_port, new_user
from test_consume import pull_command, serving, stranger_lines

from components.model import portable
from flows.run import servers

PREFIX = Path(sys.prefix)


def outside(traced: tracing.Traced, *mine: Path) -> list[str]:
    """The changed paths that are not in ``mine`` and not of the named exceptions."""

    def excused(path: Path) -> bool:
        if any(path.is_relative_to(one) for one in mine):
            return True
        if path.is_relative_to("/dev") or path.is_relative_to("/proc"):
            return True  # semaphores and memory that processes share, the null device, a process's own name
        # Python, and beartype in Python's stead, keep compiled modules beside the installed ones.
        return "__pycache__" in path.parts and any(path.is_relative_to(one) for one in (PREFIX, sys.base_prefix))

    return sorted({str(path) for path in traced.changed if not excused(path)})


def left(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def holds(traced: tracing.Traced, home: Path, *mine: Path) -> None:
    """Assert the promise; ``mine``: where the user said that something may be written."""
    assert traced.names == []
    assert traced.connections == []
    assert outside(traced, *mine, home / "tmp") == []
    assert left(home / "home") == []


@pytest.fixture(scope="module")
def ran(first_run):
    """A checkout, the folder of the new user who ran `stillroom run` in it, and what was traced."""
    tracing.needed()
    with (first_run / "trace").open(errors="replace") as lines:
        traced = tracing.read(lines, first_run / "checkout")
    return first_run / "checkout", first_run / "user", traced


@pytest.mark.slow
def test_a_whole_run_asks_for_no_name_and_writes_in_the_checkout_alone(ran):
    checkout, home, traced = ran
    assert any(path.is_relative_to(checkout / "models") for path in traced.changed), "the trace sees what is written"
    holds(traced, home, checkout)
    assert left(home / "tmp") == [], "temporary files are removed"


@pytest.mark.slow
def test_dvc_by_hand_asks_for_no_name(ran, tmp_path):
    home, checkout = tmp_path / "user", tmp_path / "checkout"
    shutil.copytree(ran[0], checkout, symlinks=True)
    place = ["config", "--local", "core.site_cache_dir", str(checkout / ".stillroom/dvc")]  # as `make setup` does
    subprocess.run([str(PREFIX / "bin/dvc"), *place], cwd=checkout, check=True)
    command = [str(PREFIX / "bin/dvc"), "repro", "--force", "--single-item", "split"]
    done, traced = tracing.run(command, tmp_path / "trace", cwd=checkout, env=new_user(home))
    assert done.returncode == 0, done.stderr
    holds(traced, home, checkout)


UI = """
import contextlib, signal, subprocess, sys, urllib.request
command, ports = [sys.executable, "-m", "flows.cli.app", "ui"], {ports}
own = [*command, "--mlflow-port", ports[0], "--prefect-port", ports[1]]
with contextlib.ExitStack() as stack:
    ui = stack.enter_context(subprocess.Popen(own, stdout=subprocess.PIPE, text=True))
    stack.callback(ui.terminate)  # whatever is found: strace waits for every process
    lines = [ui.stdout.readline() for _ in range(4)]
    assert "prefect.auth" in lines[2] and lines[3] == "Ctrl-C ends both.\\n", lines
    page = f"http://127.0.0.1:{{ports[0]}}/#/experiments/1/runs?workflowType=machine_learning"
    assert lines[0] == f"  mlflow  {{page}}\\n", lines
    for port in ports:
        assert urllib.request.urlopen(f"http://127.0.0.1:{{port}}/", timeout=60).status == 200
    taken = subprocess.run([*command, "--prefect-port", ports[1]], capture_output=True, text=True)
    assert taken.returncode == 2 and "in use by `stillroom ui`" in taken.stderr, taken.stderr
    ui.send_signal(signal.SIGINT)
    assert ui.wait(60) in (0, 130), ui.returncode
"""


@pytest.mark.slow(35)
def test_the_ui_serves_the_pages_of_mlflow_and_prefect_asks_for_no_name_and_ends_with_its_servers(ran, tmp_path):
    home, checkout = tmp_path / "user", tmp_path / "checkout"
    shutil.copytree(ran[0], checkout, symlinks=True)
    ports = [str(free_port()) for _ in range(2)]
    script = [sys.executable, "-c", UI.format(ports=ports)]
    done, traced = tracing.run(script, tmp_path / "trace", cwd=checkout, env=new_user(home))
    assert done.returncode == 0, done.stderr
    assert not any(servers.answers(f"http://{servers.HOST}:{port}/") for port in ports)
    assert not (checkout / ".stillroom/servers.json").exists()
    holds(traced, home, checkout)


@pytest.mark.slow(12)
def test_the_readme_s_consumer_asks_for_no_name_and_writes_its_pictures(finished, tmp_path):
    tracing.needed()
    home, place = tmp_path / "user", tmp_path / "place"
    place.mkdir()
    own = new_user(home)
    with serving(finished[0]) as url:
        command = [sys.executable, *pull_command(url)]
        done, traced = tracing.run(command, tmp_path / "trace", cwd=place, env=own)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in place.iterdir()} == {".model.lock", "model"}
    holds(traced, home, place)
    before = left(place)
    done, traced = tracing.run([sys.executable, "-c", stranger_lines()], tmp_path / "trace", cwd=place, env=own)
    assert done.returncode == 0, done.stderr
    assert left(place) == sorted([*before, "pictures.png"])
    holds(traced, home, place)
    assert left(home / "tmp") == []


@pytest.mark.slow(4)
def test_onnx_runtime_is_kept_quiet_whatever_comes_first(tmp_path):
    code = "from components.model import portable; import onnxruntime"
    env = new_user(tmp_path) | {"PYTHONPATH": str(Path(portable.__file__).parents[2])}
    subprocess.run([sys.executable, "-c", code], env=env, check=True)
    assert left(tmp_path / "home") == left(tmp_path / "tmp") == []


def test_the_trace_is_read_as_strace_writes_it():
    traced = tracing.read(
        [
            '7 openat(AT_FDCWD</a>, "b/c.txt", O_WRONLY|O_CREAT|O_TRUNC|O_CLOEXEC, 0666) = 4</a/b/c.txt>',
            '7 openat(AT_FDCWD</a>, "/etc/passwd", O_RDONLY|O_CLOEXEC) = 4</etc/passwd>',
            '7 openat(AT_FDCWD</a>, "/etc/resolv.conf", O_RDONLY|O_CLOEXEC <unfinished ...>',
            "7 <... openat resumed>) = 5</etc/resolv.conf>",
            '7 renameat2(3</x>, "one", AT_FDCWD</a>, "../two", RENAME_NOREPLACE) = 0',
            '8 chdir("/elsewhere") = 0',
            '8 mkdir("new", 0777) = 0',
            '8 unlink("/gone\\303\\251") = -1 ENOENT (No such file or directory)',
            '9 connect(4<socket:[1]>, {sa_family=AF_INET, sin_port=htons(5000), sin_addr=inet_addr("127.0.0.1")}, 16)',
            '9 sendto(4<socket:[1]>, "x", 1, 0, {sa_family=AF_INET, sin_port=htons(53), '
            'sin_addr=inet_addr("9.9.9.9")}, 16) = 1',
            '8 symlink("/target", "/a/name") = 0',
            '9 connect(4<socket:[2]>, {sa_family=AF_INET6, sin6_port=htons(443), sin6_flowinfo=htonl(0), '
            'inet_pton(AF_INET6, "2001:db8::1", &sin6_addr), sin6_scope_id=0}, 28) = -1 EINPROGRESS',
            '9 connect(5<socket:[3]>, {sa_family=AF_UNIX, sun_path="/run/systemd/resolve/io.systemd.Resolve"}, 42) = 0',
            '9 connect(5<socket:[3]>, {sa_family=AF_UNIX, sun_path="/var/run/nscd/socket"}, 110) = -1 ENOENT',
        ],
        Path("/start"),
    )  # fmt: skip
    assert [line.split("(")[0] for line in traced.names] == ["7 openat", "9 connect"]
    assert [line.split("(")[0] for line in traced.connections] == ["9 sendto", "9 connect"]
    assert {str(path) for path in traced.changed} == {
        "/a/b/c.txt", "/a/name", "/x/one", "/two", "/goneé", "/start/new", "/elsewhere/new",
    }  # fmt: skip
