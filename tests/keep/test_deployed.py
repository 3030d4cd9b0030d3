"""The flows that keep house run at a real Prefect server, in the checkout that the environment names."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from checkouts import ROOT, environment, python_path, with_prefect
from registered import versions

from flows.keep.reap import FLOWS
from flows.run.variables import ROOT as SERVED

SCRIPT = """
import json, sys
from flows.keep import deployed

for name, parameters in json.loads(sys.argv[1]):
    state = getattr(deployed, name)(**parameters, return_state=True)
    print("ended:", json.dumps([state.type.value, state.name, state.message]))
"""


def ran(state, *asked):
    """How each flow ended; all in one process."""
    url = json.loads(state.servers.read_text())["prefect"]["url"]
    own = environment() | {"PREFECT_API_URL": f"{url}/api", SERVED: str(state.root), "PYTHONPATH": python_path(ROOT)}
    done = subprocess.run([sys.executable, "-c", SCRIPT, json.dumps(asked)], env=own, capture_output=True,
                          text=True, check=False, cwd=state.folder)  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    return [tuple(json.loads(line.removeprefix("ended: "))) for line in lines if line.startswith("ended: ")]


@pytest.mark.slow(30)
def test_each_ends_in_a_state_that_says_how(lived_in):
    with_prefect(lived_in.root)
    held = versions(lived_in)
    held.client.set_registered_model_alias("denoiser", "mine", 2)
    checked, reaped, collected, back = ran(
        lived_in, ("verify", {}), ("reap", {}), ("gc", {}), ("rollback", {"reason": "no"})
    )
    assert checked == ("COMPLETED", "Completed", "every version and every link as recorded")
    assert reaped == ("COMPLETED", "NoOp", "closed 0 run(s)")
    assert collected == ("COMPLETED", "NoOp", "nothing to remove")
    assert back[:2] == ("FAILED", "Failed") and "no version before it" in back[2]
    held.client.delete_run(held.champion().run_id)
    ((kind, name, message),) = ran(lived_in, ("verify", {}))
    assert (kind, name) == ("FAILED", "LineageBroken") and message.startswith("denoiser version 1 (champion): MLflow")


def test_reap_knows_the_names_of_all_of_them():
    from prefect import Flow

    from flows.keep import deployed

    own = {each.name for each in vars(deployed).values() if isinstance(each, Flow)}
    assert own == {"verify", "gc", "reap", "rollback", "backfill"} <= set(FLOWS)
    for name in own:
        parameters = getattr(deployed, name).parameters.properties
        assert not {"root", "path", "folder", "directory", "command", "remote"} & set(parameters), name
