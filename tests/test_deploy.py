"""What is in deploy/: read by the programs that it is for, as far as they are here, and without a secret."""

from __future__ import annotations

import configparser
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from flows.run import deployments, serve, variables

ROOT = Path(__file__).resolve().parent.parent
DEPLOY = ROOT / "deploy"
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
LOCKED = {"NoNewPrivileges": "true", "ProtectSystem": "strict", "ProtectHome": "true", "PrivateTmp": "true",
          "UMask": "0077", "CapabilityBoundingSet": "", "User": "stillroom"}  # fmt: skip


def unit(path: Path) -> dict[str, str]:
    found = configparser.ConfigParser(strict=False, interpolation=None)
    found.optionxform = str
    found.read_string(path.read_text("utf-8"))
    return dict(found["Service"])


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd here")
@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)
def test_systemd_finds_no_fault_in_a_unit(path, tmp_path):
    there = tmp_path / path.name  # with a Python that is here
    there.write_text(path.read_text("utf-8").replace("/opt/stillroom/.venv/bin/python", sys.executable))
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", there], capture_output=True, text=True, check=False)
    mine = [line for line in (done.stdout + done.stderr).splitlines() if path.stem in line]
    assert not mine, mine


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)
def test_a_unit_may_do_little_and_comes_back(path):
    found = unit(path)
    assert {name: found.get(name) for name in LOCKED} == LOCKED
    assert found["Restart"] in ("always", "on-failure")


def test_there_is_a_worker_for_each_pool_and_it_says_how_often_it_asks():
    for pool in deployments.POOLS:
        text = (DEPLOY / f"systemd/stillroom-worker-{pool}.service").read_text("utf-8")
        assert f"--pool {pool} --type process --install-policy never" in text
        assert f"PREFECT_WORKER_QUERY_SECONDS={serve.POLL_SECONDS} " in text
        assert f"PREFECT_FLOWS_HEARTBEAT_FREQUENCY={serve.HEARTBEAT_SECONDS}\n" in text


def test_compose_takes_each_secret_from_outside_and_binds_loopback_alone():
    table = yaml.safe_load((DEPLOY / "compose.yaml").read_text("utf-8"))
    assert set(table["services"]) == {"postgres", "prefect", "mlflow", "worker"}
    for name, service in table["services"].items():
        assert service.get("restart") == "unless-stopped", name
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name
        assert set(service["networks"]) <= set(table["networks"])
        for key, value in service["environment"].items():
            if re.search("PASSWORD|AUTH_STRING", key):
                assert re.fullmatch(r"\$\{\w+(:\?[^}]+)?\}", value), key
    worker = table["services"]["worker"]["environment"]
    assert {variables.ROOT, variables.SHARED, "PREFECT_API_AUTH_STRING"} <= set(worker)
    assert "stores" not in table["services"]["worker"]["networks"], "a worker does not reach the database"


@pytest.mark.slow(5)
@pytest.mark.parametrize("path", ["pool-process.json", "pool-kubernetes.json"])
def test_prefect_takes_the_templates_of_the_pools(path):
    from prefect.server.schemas.actions import validate_base_job_template

    template = json.loads((DEPLOY / path).read_text("utf-8"))
    validate_base_job_template(template)
    assert "env" not in template["job_configuration"], "Prefect would merge whatever a run's creator gives into it"
    assert not {"command", "env", "working_dir"} & set(template["variables"]["properties"])
    template["job_configuration"]["labels"] = "{{ missing }}"
    with pytest.raises(Exception, match="missing"):
        validate_base_job_template(template)


def test_no_file_holds_a_secret_or_an_address_that_is_not_an_example():
    for path in DEPLOY.rglob("*"):
        if path.is_file():
            text = path.read_text("utf-8")
            assert not re.search(r"(PASSWORD|AUTH_STRING|AUTH)=(?!USER:PASSWORD|\$|\.\.\.)[^`\s\"',]", text), path
            assert not re.search(r"://[^\s/]+:(?!\$\{POSTGRES_PASSWORD\}|PASSWORD)[^\s@/\d]+@", text), path
