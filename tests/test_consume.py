"""A registered denoiser reaches somebody who has never seen this repository."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
from pathlib import Path

import pytest
from checkouts import environment, free_port, stillroom
from PIL import Image

from flows.run import servers
from flows.workspace.paths import State

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parent.parent


def stranger_lines() -> str:
    text = (ROOT / "README.md").read_text("utf-8")
    return re.search(r"test_consume\.py runs these lines.*?```python\n(.*?)```", text, re.DOTALL)[1]


@pytest.fixture
def registry(finished):
    """A real MLflow server over the finished checkout's registry; its address."""
    with serving(finished[0]) as url:
        yield url


@contextlib.contextmanager
def serving(folder):
    """A real MLflow server over a checkout's registry; its address."""
    port = free_port()
    url = f"http://{servers.HOST}:{port}"
    with (folder / ".stillroom" / "servers.log").open("ab") as log:
        server = subprocess.Popen(servers.mlflow_command(State(folder), port), stdout=log, stderr=log,
                                  env={**environment(), "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
                                  start_new_session=True)  # fmt: skip
    try:
        servers.wait_for(f"{url}/health", server, what="MLflow", log="servers.log")
        yield url
    finally:
        servers.stop(server)


def test_fourteen_lines_draw_pictures_without_our_code_or_torch(registry, tmp_path):
    lines = stranger_lines()
    assert len(lines.splitlines()) <= 14
    absent = ("components", "flows", "torch", "diffusers")
    blocked = f"import sys; sys.modules.update(dict.fromkeys({absent}))\n"
    env = {**environment(), "MLFLOW_TRACKING_URI": registry, "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", blocked + lines]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / "pictures.png") as sheet:
        assert sheet.size == (8 * 16, 16)
        assert len(set(sheet.convert("RGB").get_flattened_data())) > 100


def test_sample_draws_the_champion_the_same_picture_at_any_count(finished, tmp_path):
    folder, _ = finished
    sheets = []
    for count in (2, 3):
        out = tmp_path / f"{count}.png"
        done = stillroom(folder, "sample", "--num", str(count), "--label", "Flags", "--seed", "3", "--out", str(out))
        assert done.returncode == 0, done.stderr
        with Image.open(out) as sheet:
            assert '"seed": 3' in sheet.text["Stillroom"]
            sheets.append(sheet.convert("RGB").crop((0, 0, 2 * (16 * 3 + 2), 16 * 3 + 4)).tobytes())
    assert sheets[0] == sheets[1]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--label", "Flag"], "did you mean 'Flags'?"),
        (["--model", "models:/denoiser/9"], "models:/denoiser/9: no such version in"),
        (["--model", "models:/denoser@champion"], "nothing is registered under that name"),
        (["--model", "models:/denoiser"], "wanted models:/NAME@ALIAS or models:/NAME/VERSION"),
        (["--model", "no-such-folder"], "no such folder"),
        (["--out", "no/such/folder/x.png"], "no such folder: make it"),
    ],
)
def test_a_wrong_request_is_one_line(finished, arguments, line):
    done = stillroom(finished[0], "sample", *arguments)
    assert done.returncode == 2, done.stderr
    assert line in done.stderr
    assert "Traceback" not in done.stderr


def test_a_version_that_was_changed_on_disk_is_not_used(finished, tmp_path):
    folder, _ = finished
    weights = next((folder / ".stillroom/mlflow/artifacts").rglob("denoiser/unet/*.safetensors"))
    before = weights.read_bytes()
    try:
        weights.write_bytes(before[:-4] + b"\0\0\0\1")
        done = stillroom(folder, "sample", "--num", "1", "--out", str(tmp_path / "x.png"))
    finally:
        weights.write_bytes(before)
    assert done.returncode == 2
    assert "differs from what MANIFEST.json promises" in done.stderr


def test_the_ui_command_serves_both_and_ends_with_its_servers(finished):
    folder, _ = finished
    ports = [str(free_port()) for _ in range(2)]
    process = subprocess.Popen(
        [sys.executable, "-m", "flows.cli.app", "ui", "--prefect-port", ports[0], "--mlflow-port", ports[1]],
        cwd=folder, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        lines = [process.stdout.readline() for _ in range(3)]
        assert lines[2] == "Ctrl-C ends both.\n", process.stderr.read()
        assert servers.answers(f"http://{servers.HOST}:{ports[0]}/api/health")
        assert servers.answers(f"http://{servers.HOST}:{ports[1]}/health")
        taken = stillroom(folder, "ui", "--prefect-port", ports[0])
        assert taken.returncode == 2 and f"port {ports[0]} is taken" in taken.stderr
    finally:
        process.terminate()
        process.communicate(timeout=60)
    assert not servers.answers(f"http://{servers.HOST}:{ports[0]}/api/health")
    assert not (folder / ".stillroom" / "servers.json").exists()
