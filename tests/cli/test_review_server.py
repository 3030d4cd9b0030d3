"""`stillroom data review`: a click on its page is a decision on record, and nobody else's request is."""

import contextlib
import http.client
import json
import re
import signal
import subprocess
import threading

import pytest
from browser import Browser
from checkouts import command, environment
from data_checkout import HOSTILE, copied
from typer.testing import CliRunner

from flows.cli import app
from flows.data import review, reviewserver
from flows.workspace import lock
from flows.workspace.paths import State

RECORD = "data/decisions.jsonl"
CLICK = """(async () => {
  document.getElementById("reason").value = "seen";
  document.getElementById("label").value = "wolves";
  const said = document.getElementById("said"), done = [], wait = async () => {
    while (!said.textContent) await new Promise(go => setTimeout(go, 20));
    done.push(said.textContent); said.textContent = "";
  };
  const card = document.querySelector('[data-sha="SHA"]');
  card.querySelector("button[data-do=label]").click(); await wait();
  card.querySelector("output button").click(); await wait();
  card.querySelector("button[data-do=reject]").click(); await wait();
  return [done, card.querySelector("output").textContent];
})()"""


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return copied(tmp_path_factory.mktemp("review") / "checkout")


@pytest.fixture(scope="module")
def alike(root):
    """The SHA-256 of two kept images; the page shows them as one group."""
    rows = review.changes.read(**{name: root / "data" / name for name in ("raw", "clean", "splits")}).values()
    return [row["sha256"] for row in sorted(rows, key=lambda row: row["arrival"]) if row["verdict"] == "kept"][:2]


@pytest.fixture
def server(root, alike, monkeypatch):
    """A server that runs, and a record without a line."""
    read = review.changes.read

    def grouped(**paths):
        return {key: {**row, "group": "one"} if row["sha256"] in alike else row for key, row in read(**paths).items()}

    monkeypatch.setattr(review.changes, "read", grouped)
    (root / RECORD).write_text("")
    state = State(root)
    with reviewserver.Server(state, lambda turn: review.render(state, pictures=20, turn=turn), 0) as made:
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def ask(server, method, path, body=None, **headers):
    """Status, headers and text of a request; a header that is None is left out."""
    own = {"Host": f"127.0.0.1:{server.server_port}"}
    if method == "POST":
        own |= {"Origin": f"http://127.0.0.1:{server.server_port}", "X-Stillroom-Token": server.token,
                "Content-Type": "application/json"}  # fmt: skip
    own |= {name.replace("_", "-"): value for name, value in headers.items()}
    data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=20)) as connection:
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        for name, value in own.items():
            if value is not None:
                connection.putheader(name, value)
        if data is not None and "Content_Length" not in headers:
            connection.putheader("Content-Length", str(len(data)))
        connection.endheaders(data)
        answer = connection.getresponse()
        return answer.status, dict(answer.headers), answer.read().decode()


def record(root):
    return [json.loads(line) for line in (root / RECORD).read_text("utf-8").splitlines()]


def decision(alike, **changes):
    return {"sha256": alike[0], "decision": "reject", "label": None, "undo": False, "reason": "seen", **changes}


def test_clicks_in_a_browser_are_lines_of_the_record(server, root, alike):
    with Browser() as browser:
        shown = browser.open(server.address, evaluate=CLICK.replace("SHA", alike[0]))
    assert shown.console == [] and set(shown.requests) == {f"http://127.0.0.1:{server.server_port}/decide"}
    done, output = shown.values["result"]
    assert [text.split(":")[0] for text in done] == ["label", "label taken back", "reject"] and output == "reject Undo"
    names = ("sha256", "decision", "label", "undo", "reason")
    assert [tuple(line[name] for name in names) for line in record(root)] == [
        (alike[0], "label", "wolves", False, "seen"), (alike[0], "label", None, True, "seen"),
        (alike[0], "reject", None, False, "seen"),
    ]  # fmt: skip
    assert HOSTILE in shown.text and server.token not in shown.text
    only = ask(server, "GET", f"/?token={server.token}&list=labels&page=%3Cb%3E")[2]
    assert "Alike, labelled differently" in only and "Rejected by a rule" not in only
    again = ask(server, "GET", server.address.split("/", 3)[3].join(["/", ""]))[2]
    assert "<output>reject</output>" in again, "a page that is loaded anew knows what was decided"


BAD_PLACES = {
    "another host": {"Host": "evil.example"},
    "a name that leads here": {"Host": "evil.example:{port}"},
    "another port": {"Host": "127.0.0.1:1"},
    "no host": {"Host": None},
}


@pytest.mark.parametrize("headers", BAD_PLACES.values(), ids=list(BAD_PLACES))
def test_a_request_to_another_host_gets_nothing(server, root, alike, headers):
    headers = {name: value and value.format(port=server.server_port) for name, value in headers.items()}
    for method, path, body in (("GET", f"/?token={server.token}", None), ("POST", "/decide", decision(alike))):
        status, _, text = ask(server, method, path, body, **headers)
        assert status == 403 and server.token not in text and "data-sha" not in text
    assert record(root) == []


@pytest.mark.parametrize(
    "headers",
    [{"Origin": "https://evil.example"}, {"Origin": None}, {"Origin": "null"}, {"Origin": "http://127.0.0.1:1"},
     {"X_Stillroom_Token": None}, {"X_Stillroom_Token": "guess"}, {"X_Stillroom_Token": "ä"}],
    ids=str,
)  # fmt: skip
def test_a_decision_from_another_page_is_none(server, root, alike, headers):
    status, said, _ = ask(server, "POST", "/decide", decision(alike), **headers)
    assert status == 403 and record(root) == []
    assert "Access-Control-Allow-Origin" not in said
    assert ask(server, "OPTIONS", "/decide")[0] == 501, "nobody is given leave to ask from elsewhere"


@pytest.mark.parametrize(
    "path",
    ["/", "/?token=guess", "/?token=", "/data/decisions.jsonl?token={token}", "/../params.yaml?token={token}",
     "/decide?token={token}", "//x/?token=%ff"],
)  # fmt: skip
def test_only_the_printed_address_is_a_page(server, path):
    status, headers, text = ask(server, "GET", path.format(token=server.token))
    assert status == 403 and "data-sha" not in text and server.token not in text
    assert headers["X-Frame-Options"] == "DENY" and headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    ("body", "headers", "status", "what"),
    [
        (b"{", {}, 400, "JSON object"),
        (b"[" * 9000, {}, 400, "JSON object"),
        (b"[]", {}, 400, "JSON object"),
        (b"{}", {"Content_Type": "text/plain"}, 400, "as JSON"),
        (b"", {"Content_Length": "999999"}, 400, "at most 16,384 bytes"),
        (b"", {"Content_Length": "-1"}, 400, "at most"),
        ({"decision": "drop"}, {}, 409, "decision must be keep, reject or label"),
        ({"sha256": "../../etc/passwd"}, {}, 409, "sha256 must be 64 hexadecimal digits"),
        ({"sha256": "0" * 64}, {}, 409, "no image in data/raw has this SHA-256"),
        ({"reason": ""}, {}, 409, "reason must be a text"),
    ],
)
def test_what_is_no_decision_is_told_and_not_written(server, root, alike, body, headers, status, what):
    sent = decision(alike, **body) if isinstance(body, dict) else body
    found, _, text = ask(server, "POST", "/decide", sent, **headers)
    assert found == status and what in json.loads(text)["error"]
    assert record(root) == []


def test_who_clicks_while_a_run_goes_on_is_told_so(server, root, alike):
    with lock.held(State(root).lock, what="stillroom run", wait=False, say=print):
        status, _, text = ask(server, "POST", "/decide", decision(alike))
    assert status == 409 and "in use by `stillroom run`" in json.loads(text)["error"] and record(root) == []
    assert ask(server, "POST", "/decide", decision(alike, who="the boss"))[0] == 200
    assert record(root)[0]["who"] != "the boss"


def test_a_port_that_is_taken_is_one_line(server, root):
    with pytest.raises(reviewserver.UserError, match=rf"port {server.server_port}: .*in use: give another --port"):
        reviewserver.Server(State(root), str, server.server_port)


def test_the_page_as_a_file(root):
    done = CliRunner().invoke(app.app, ["data", "review", "--page", "-C", str(root)], catch_exceptions=False)
    assert done.exit_code == 0 and "reports/review.html" in done.stdout
    assert 'id="save"' in (root / "reports/review.html").read_text("utf-8")


def test_ctrl_c_ends_it(root):
    line = command("data", "review", "-C", str(root))
    with subprocess.Popen(line, cwd=root, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True) as run:  # fmt: skip
        assert re.fullmatch(r"review  http://127\.0\.0\.1:\d+/\?token=\S{43}\n", run.stdout.readline())
        run.send_signal(signal.SIGINT)
        _, err = run.communicate(timeout=60)
    assert run.returncode == 0 and "Traceback" not in err and "token" not in err
