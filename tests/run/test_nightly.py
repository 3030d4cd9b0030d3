"""The schedule: real servers, a real worker, and a pass only when something changed."""

from __future__ import annotations

import http.server
import json
import re
import shutil
import subprocess
import threading
import urllib.error
import urllib.request
from types import SimpleNamespace

import psutil
import pytest
from checkouts import command, edit, emoji, environment, free_port, git, stillroom, with_prefect
from serving import served, wait_for

from components.base import config
from components.base.errors import UserError
from flows.run import deploy
from flows.workspace.paths import State

pytestmark = pytest.mark.slow(90)
NIGHTLY, REFRESH = "retrain/nightly", "refresh/hourly"


@pytest.fixture(scope="module")
def told():
    """What a webhook on loopback was told, and its address as apprise writes it."""
    found = []

    class Hook(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            found.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hook) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield found, f"json://127.0.0.1:{server.server_port}/night"
        server.shutdown()


@pytest.fixture(scope="module")
def night(finished, tmp_path_factory, told):
    """`stillroom serve` in a copy of the finished checkout, its environment full of proxies that answer nobody."""
    folder = tmp_path_factory.mktemp("night") / "checkout"
    shutil.copytree(finished[0], folder, symlinks=True)
    with_prefect(folder)
    assert stillroom(folder, "run").returncode == 0  # a checkout that moved publishes its run where it is now
    State(folder).servers.unlink()  # `serve` starts its own
    proxy = f"http://127.0.0.1:{free_port()}"
    own = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "ALL_PROXY"), proxy)
    with served(folder, "--timezone", "Asia/Tokyo", STILLROOM_NOTIFY=told[1], **own) as (api, process):
        yield SimpleNamespace(api=api, process=process, folder=folder)


def test_the_schedule_has_runs_and_they_do_nothing_when_nothing_changed(night):
    before = git(night.folder, "log", "--format=%H %s")
    (schedule,) = night.api.deployment(NIGHTLY)["schedules"]
    assert schedule["schedule"] == {"cron": "0 3 * * *", "timezone": "Asia/Tokyo", "day_or": True}
    wanted = {"flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}}}
    # prefect 3.8.8 with sqlalchemy 2.1 makes none
    assert wait_for(lambda: night.api("flow_runs/filter", wanted))
    run = night.api.trigger(NIGHTLY)
    assert night.api.ended(run) == ("COMPLETED", "NoOp")
    logs = {"logs": {"flow_run_id": {"any_": [run["id"]]}}}  # they arrive a moment after the state
    wait_for(lambda: "nothing to do" in {line["message"] for line in night.api("logs/filter", logs)})
    assert night.api.ended(night.api.trigger(REFRESH)) == ("COMPLETED", "NoOp")
    assert git(night.folder, "log", "--format=%H %s") == before, "no commit"


def test_of_two_that_are_triggered_at_once_one_works_and_the_other_is_cancelled(night):
    runs = [night.api.trigger(NIGHTLY) for _ in range(2)]
    assert sorted(night.api.ended(run) for run in runs) == [("CANCELLED", "Cancelled"), ("COMPLETED", "NoOp")]


def test_a_run_takes_no_folder_and_no_command_from_whoever_reaches_the_server(night, tmp_path):
    assert night.api.deployment(NIGHTLY)["parameter_openapi_schema"]["properties"] == {}
    asked = night.api.trigger(NIGHTLY, parameters={"root": "/"})
    assert night.api.ended(asked)[0] in ("FAILED", "CRASHED"), "the flow has no such parameter"
    elsewhere = str(tmp_path)
    job = {"command": f"touch {tmp_path}/done", "env": {"STILLROOM_SERVED": elsewhere}, "working_dir": elsewhere}
    assert night.api.ended(night.api.trigger(NIGHTLY, job_variables=job)) == ("COMPLETED", "NoOp")
    assert list(tmp_path.iterdir()) == [], "what a job is is the pool's to say"


def test_a_second_one_of_the_same_checkout_is_one_line(night):
    second = stillroom(night.folder, "serve")
    assert second.returncode == 2 and "in use by `stillroom serve` (process" in second.stderr
    assert second.stderr.count("\n") == 1


def test_whoever_has_not_the_password_is_turned_away_and_so_is_a_page_of_another_origin(night):
    url = night.api.url

    def answer(path, body=None, **headers):
        request = urllib.request.Request(f"{url}/{path}", body, headers)
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                return response.status, response.headers
        except urllib.error.HTTPError as error:
            return error.code, error.headers

    json_body = {"Content-Type": "application/json"}
    mine = {"Authorization": night.api.headers["Authorization"], **json_body}
    assert answer("health")[0] == 200
    assert answer("csrf-token?client=me")[0] == 401 and answer("flows/filter", b"{}", **json_body)[0] in (401, 403)
    assert answer("flows/filter", b"{}", **mine)[0] == 403, "a page in a browser that is logged in has no CSRF token"
    origin = url.removesuffix("/api")
    assert answer("health", Origin=origin)[1]["Access-Control-Allow-Origin"] == origin
    assert answer("health", Origin="http://elsewhere.example")[1]["Access-Control-Allow-Origin"] is None


def test_the_password_is_in_one_file_of_its_owner_and_nowhere_else(night):
    path = State(night.folder).folder / "prefect.auth"
    secret = path.read_text().strip().split(":")[1]
    assert path.stat().st_mode & 0o777 == 0o600 and len(secret) >= 32
    here = psutil.Process(night.process.pid)
    for each in [here, *here.children(recursive=True)]:
        assert secret not in " ".join(each.cmdline())
    for found in State(night.folder).folder.rglob("*"):
        if found.is_file() and found != path:
            assert secret.encode() not in found.read_bytes(), found


def test_how_a_night_ended_is_the_name_of_its_state_and_is_told(night, told):
    folder = night.folder

    def ending():
        return night.api.ended(night.api.trigger(NIGHTLY), 300)

    heard = len(nights(told))
    assert ending() == ("COMPLETED", "NoOp") and len(nights(told)) == heard, "of nothing nobody is told"
    before = config.read(folder / config.FILE)
    edit(folder, "contract", min_images=10**6)
    edit(folder, "train", seed=5)
    assert ending() == ("FAILED", "ContractBroken")
    edit(folder, "contract", min_images=before["contract"]["min_images"])
    edit(folder, "train", images="many")
    assert ending()[0] == "FAILED"
    edit(folder, "train", images=before["train"]["images"])
    kind, name = ending()
    assert kind == "COMPLETED" and name in ("Promoted", "Waiting", "Refused")
    titles, lines = zip(*((each["title"], each["message"]) for each in nights(told)[heard:]), strict=True)
    assert titles == tuple(f"Stillroom checkout: {how}" for how in ("contract broken", "failed", name.lower()))
    assert "nothing was trained" in lines[0] and "train.images" in lines[1] and "version" in lines[2]


def test_new_images_are_taken_in_and_the_night_comes_of_itself(night, told):
    folder, heard = night.folder, len(nights(told))
    emoji(folder / "source.zip", 100)
    before = {run["id"] for run in _runs(night)}
    run = night.api.trigger(REFRESH)
    assert night.api.ended(run, 300) == ("COMPLETED", "Changed"), night.api.run(run)
    assert "collect" in night.api.run(run)["name"] and len(nights(told)) == heard, "nothing was decided"
    (follows,) = wait_for(lambda: [each for each in _runs(night) if each["id"] not in before])
    kind, name = night.api.ended(follows, 300)
    assert kind == "COMPLETED" and name in ("Promoted", "Waiting", "Refused")


def nights(told):
    """What was told by flows, and not by Prefect's server."""
    return [each for each in told[0] if each["title"].startswith("Stillroom checkout: ")]


def _runs(night):
    """The runs of the nightly that something triggered."""
    wanted = {"deployments": {"name": {"any_": ["nightly"]}}, "limit": 200}
    return [run for run in night.api("flow_runs/filter", wanted) if not run["auto_scheduled"]]


def test_the_server_tells_of_a_run_that_died_and_of_a_night_that_did_not_begin(night, told):
    known = {each["name"]: each for each in night.api("automations/filter", {})}
    late = known["stillroom: no night"]
    assert late["trigger"]["posture"] == "Proactive" and late["trigger"]["within"] == deploy.PATIENCE_HOURS * 3600
    (action,) = late["actions"]
    assert action["type"] == "send-notification" and NIGHTLY in action["body"]
    flow = night.api.deployment(NIGHTLY)["flow_id"]
    run = night.api("flow_runs/", {"flow_id": flow, "state": {"type": "RUNNING"}})
    night.api(f"flow_runs/{run['id']}/set_state", {"state": {"type": "CRASHED", "message": "killed"}, "force": True})
    wait_for(lambda: "stillroom: died" in {each["title"] for each in told[0]})


def test_an_address_that_is_none_is_one_line_that_does_not_repeat_it(finished):
    own = {**environment(), "STILLROOM_NOTIFY": "json://127.0.0.1 nonsense:s3cr3t"}
    done = subprocess.run(command("serve"), cwd=finished[0], env=own, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and "STILLROOM_NOTIFY: address 2 of 2 is none that apprise knows" in done.stderr
    assert "s3cr3t" not in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize(("times", "line"), [
    (("every night", "", None), "--cron 'every night': not a cron schedule of five fields, such as"),
    (("0 3 * * * *", "", None), "--cron '0 3 * * * *': not a cron schedule of five fields, such as"),
    (("", "", None), "--cron '': not a cron schedule of five fields, such as"),
    (("0 3 * * *", "hourly", None), "--refresh 'hourly': not a cron schedule of five fields, such as"),
    (("0 0 31 2 *", "", None), "--cron '0 0 31 2 *': no such day ever comes: wanted one that does"),
    (("0 3 * * *", "0 0 31 4,6 *", None), "--refresh '0 0 31 4,6 *': no such day ever comes"),
    (("0 3 * * *", "", ""), "--timezone '': not a time zone, such as Europe/Berlin"),
    (("0 3 * * *", "", "Mars/Olympus"), "--timezone 'Mars/Olympus': not a time zone, such as Europe/Berlin"),
])  # fmt: skip
def test_a_schedule_that_is_none_is_an_error_that_names_it(times, line):
    with pytest.raises(UserError, match=re.escape(line)):
        deploy.Times.checked(*times)


def test_a_day_that_comes_every_four_years_is_a_schedule():
    assert deploy.Times.checked("0 3 29 2 *", "", "UTC").nightly == "0 3 29 2 *"


@pytest.mark.parametrize(("options", "line"), [
    (("--cron", "every night"), "--cron 'every night': not a cron schedule of five fields, such as"),
    (("--host", "0.0.0.0"), "--host 0.0.0.0: whoever reaches it could have flows run here: put "
                            "PREFECT_SERVER_API_AUTH_STRING=USER:PASSWORD into the environment"),
])  # fmt: skip
def test_what_cannot_be_served_is_one_line_before_anything_starts(finished, options, line):
    done = stillroom(finished[0], "serve", *options)
    assert done.returncode == 2, done.stderr
    assert f"error: {line}" in done.stderr and "Traceback" not in done.stderr
    assert done.stdout == "", "nothing was announced"


def test_a_schedule_is_meant_in_the_machine_s_own_time(monkeypatch):
    import tzlocal

    monkeypatch.setenv("TZ", "Asia/Tokyo")
    tzlocal.reload_localzone()
    assert deploy.Times.checked("0 3 * * *", "", None).timezone == "Asia/Tokyo"
    assert deploy.Times.checked("0 3 * * *", "", "Europe/Berlin").timezone == "Europe/Berlin"
    monkeypatch.undo()
    tzlocal.reload_localzone()
