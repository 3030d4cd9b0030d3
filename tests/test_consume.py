"""A registered denoiser reaches somebody who has never seen this repository."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import re
import subprocess
import sys
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from checkouts import environment, free_port, stillroom, tree
from PIL import Image

from components.model import sampling
from flows.model import release
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


def pull_command(url):
    """What the README says after `python` to pull the model, from the server at ``url``."""
    [line] = re.findall(r"^python pull\.py (.*)$", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE)
    assert "http://127.0.0.1:5000" in line
    return ["-I", "-S", str(ROOT / "consume/pull.py"), *line.replace("http://127.0.0.1:5000", url).split()]


def pull_alone(*arguments, **changes):
    """consume/pull.py run by a Python that sees no site-packages and nothing of ours."""
    command = [sys.executable, "-I", "-S", str(ROOT / "consume/pull.py"), *map(str, arguments)]
    env = {**environment(), **changes}
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)


def test_fourteen_lines_draw_pictures_without_our_code_or_torch_or_mlflow(registry, tmp_path):
    subprocess.run([sys.executable, *pull_command(registry)], cwd=tmp_path, env=environment(), check=True, timeout=60)
    lines = stranger_lines()
    assert len(lines.splitlines()) <= 14
    absent = ("components", "flows", "torch", "diffusers", "mlflow")
    blocked = f"import sys; sys.modules.update(dict.fromkeys({absent}))\n"
    command = [sys.executable, "-c", blocked + lines]
    env = environment()
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / "pictures.png") as sheet:
        assert sheet.size == (8 * 16, 16)
        assert len(set(sheet.convert("RGB").get_flattened_data())) > 100


def test_the_one_file_puller_takes_a_version_from_a_real_server_and_trusts_it_with_nothing(
    registry, finished, tmp_path
):
    [store] = (finished[0] / ".stillroom/mlflow/artifacts").glob("stillroom/*/artifacts/denoiser")
    to = tmp_path / "model"
    proxies = dict.fromkeys(("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"), "http://127.0.0.1:9")
    first = pull_alone("denoiser@champion", "--to", to, MLFLOW_TRACKING_URI=registry, **proxies)
    assert (first.returncode, first.stderr) == (0, "")
    assert first.stdout == f"{to}: denoiser version 1 pulled and checked\n"
    pulled = tree(to)
    assert {**tree(store), ".pulled.json": pulled[".pulled.json"]} == pulled
    again = pull_alone("denoiser", "--pin", "1", "--to", to, "--uri", registry)
    assert again.stdout == f"{to}: denoiser version 1 is there and whole: nothing to do\n", again.stderr
    for arguments, line in (
        (["denoiser@best"], "Registered model alias best not found."),
        (["nobody@champion"], "Registered Model with name=nobody not found"),
        (["denoiser", "--pin", "9"], "Model Version (name=denoiser, version=9) not found"),
    ):
        done = pull_alone(*arguments, "--to", to, "--uri", registry)
        assert (done.returncode, done.stderr) == (2, f"error: {registry}: {line}\n")
    other, extra, weights = tmp_path / "other", store / "extra.pkl", store / "onnx/model.onnx"
    before = weights.read_bytes()
    try:
        weights.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
        flipped = pull_alone("denoiser@champion", "--to", other, "--uri", registry)
        weights.write_bytes(before)
        extra.write_bytes(b"")
        unlisted = pull_alone("denoiser@champion", "--to", other, "--uri", registry)
    finally:
        weights.write_bytes(before)
        extra.unlink(missing_ok=True)
    assert (flipped.returncode, flipped.stderr) == (2, "error: onnx/model.onnx: not what MANIFEST.json promises\n")
    assert unlisted.returncode == 2 and "extra.pkl is not in MANIFEST.json" in unlisted.stderr
    assert not other.exists() and tree(to) == pulled


def test_mlflow_serves_the_champion_s_pictures(registry, finished, tmp_path):
    [line] = re.findall(r"^mlflow (models serve .*?) +#", (ROOT / "docs/consume.md").read_text("utf-8"), re.MULTILINE)
    port = free_port()
    with (tmp_path / "log").open("wb") as log:
        command = [sys.executable, "-m", "mlflow", *line.replace("5001", str(port)).split()]
        server = subprocess.Popen(command, stdout=log, stderr=log, cwd=tmp_path, start_new_session=True,
                                  env={**environment(), "MLFLOW_TRACKING_URI": registry})  # fmt: skip
    try:
        url = f"http://{servers.HOST}:{port}"
        servers.wait_for(f"{url}/health", server, what="mlflow models serve", log="log")
        wish = {"inputs": ["Flags", ""], "params": {"seed": 3, "count": 3, "steps": 4}}
        asked = urllib.request.Request(
            f"{url}/invocations", json.dumps(wish).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(asked, timeout=60) as answer:
            drawn = json.load(answer)["predictions"]
    finally:
        servers.stop(server)
    [store] = (finished[0] / ".stillroom/mlflow/artifacts").glob("stillroom/*/artifacts/denoiser")
    ours = sampling.load(store)
    flags = ours.class_id("Flags")
    wanted = sampling.sample(ours, [flags, -1, flags], seed=3, steps=4, precision="fp32").numpy()
    for number, (one, picture) in enumerate(zip(drawn, wanted, strict=True)):
        with Image.open(io.BytesIO(base64.b64decode(one["png"]))) as opened:
            assert abs(np.array(opened).astype(int) - picture).max() <= 1
            said = json.loads(opened.text["Stillroom"])
        assert (said["model"], said["seed"], said["number"], said["steps"]) == ("denoiser/1", 3, number, 4)


def test_pull_reads_the_checkout_without_a_server_and_checks_the_same(finished, tmp_path):
    folder, to = finished[0], tmp_path / "model"
    [store] = (folder / ".stillroom/mlflow/artifacts").glob("stillroom/*/artifacts/denoiser")
    planned = stillroom(folder, "pull", "denoiser@champion", "--to", str(to), "--dry-run")
    assert re.fullmatch(rf"would pull denoiser version 1, \d+ files, [\d,]+ bytes, into {to}\n", planned.stdout), (
        planned
    )
    assert not list(tmp_path.iterdir())
    done = stillroom(folder, "pull", "denoiser@champion", "--to", str(to))
    assert (done.returncode, done.stdout) == (0, f"{to}: denoiser version 1 pulled and checked\n"), done.stderr
    pulled = tree(to)
    assert {**tree(store), ".pulled.json": pulled[".pulled.json"]} == pulled
    (to / "README.md").write_text("mine")
    mended = stillroom(folder, "pull", "models:/denoiser/1", "--to", str(to))
    assert "in place of what was there (README.md: not what" in mended.stdout
    weights = store / "unet/diffusion_pytorch_model.safetensors"
    before = weights.read_bytes()
    try:
        weights.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
        flipped = stillroom(folder, "pull", "denoiser", "--pin", "1", "--to", str(tmp_path / "other"))
    finally:
        weights.write_bytes(before)
    assert flipped.returncode == 2 and "safetensors: not what MANIFEST.json promises" in flipped.stderr
    assert not (tmp_path / "other").exists() and tree(to) == pulled


def test_a_release_is_pulled_without_a_server_and_is_the_same_from_one(finished, registry, tmp_path):
    folder, to = finished[0], tmp_path / "mirror"
    planned = stillroom(folder, "release", str(to), "--dry-run")
    assert planned.stdout == f"would release denoiser versions 1 into {to}\n", planned.stderr
    assert not to.exists()
    done = stillroom(folder, "release", str(to))
    assert done.stdout == f"{to}: denoiser@champion is version 1; versions 1, every file checked\n", done.stderr
    pulled = pull_alone("denoiser@champion", "--to", tmp_path / "model", "--uri", to)
    assert pulled.stdout.endswith("denoiser version 1 pulled and checked\n"), pulled.stderr
    [store] = (folder / ".stillroom/mlflow/artifacts").glob("stillroom/*/artifacts/denoiser")
    assert tree(store).items() <= tree(tmp_path / "model").items()
    state = State(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", registry)
        release.release(state, tmp_path / "other", [], dry_run=False, say=print)
    assert tree(tmp_path / "other") == tree(to)
    missing = stillroom(folder, "release", str(to), "--version", "9")
    assert missing.returncode == 2 and "models:/denoiser/9: no such version" in missing.stderr
    assert tree(tmp_path / "other") == tree(to)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["denoiser"], "wanted NAME@ALIAS, or NAME with --pin NUMBER"),
        (["denoiser@best"], "models:/denoiser@best: no such version in"),
        (["denoiser", "--pin", "9"], "models:/denoiser/9: no such version in"),
        (["denoiser@champion", "--uri", "http://127.0.0.1:9"], "http://127.0.0.1:9: [Errno 111] Connection refused"),
        (["denoiser@champion", "--uri", "nowhere"], "nowhere/registry.json: No such file or directory"),
        (["denoiser@champion", "--uri", "sqlite:///none.db"], "nothing is registered here yet"),
        (["denoiser@champion", "--to", "no/such/folder"], "no such folder: make it"),
    ],
)
def test_a_wrong_pull_is_one_line(finished, tmp_path, arguments, line):
    done = stillroom(finished[0], "pull", "--to", str(tmp_path / "model"), *arguments)
    assert done.returncode == 2, done.stderr
    assert line in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "model").exists()


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
