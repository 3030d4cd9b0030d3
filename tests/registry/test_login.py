"""The name and password in MLflow's address appear in no line and in nothing that Prefect keeps."""

import os
import traceback

import pytest

from components.base.errors import UserError
from flows.registry.address import shown, without_login
from flows.registry.metrics import MetricStream
from flows.registry.mlflow import Unreachable
from flows.workspace.paths import State

SECRET = "s3cr3t"


@pytest.mark.parametrize("login", [
    f"me:{SECRET}", f"me:{SECRET}/x", f"me:{SECRET}#x", f"me:{SECRET}?x", f"me:x@{SECRET}", f"{SECRET}:x",
    f"me:{SECRET}%40",
])  # fmt: skip
def test_neither_is_shown_even_where_it_is_not_quoted(login):
    uri = f"http://{login}@example.org:5000/mlflow"
    assert shown(uri) == "http://example.org:5000/mlflow"
    for text in (f"Invalid url: {uri}/api", f"Failed to parse: '{uri}'", f"Invalid port: '{login.split(':')[1]}'"):
        assert SECRET not in without_login(text, uri)


@pytest.mark.parametrize("uri", ["http://127.0.0.1:5000", "sqlite:////home/me@work/mlflow.db", "sqlite:///a:b@c.db"])
def test_an_address_without_them_stays(uri):
    assert shown(uri) == uri
    assert without_login("me and the rest: a:b", uri) == "me and the rest: a:b"


@pytest.fixture
def stream(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:{SECRET}@127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    return MetricStream(State(tmp_path))


def told(raised):
    """What a log says of an error: its line, and each error that it came from."""
    return "".join(traceback.format_exception(raised.value))


@pytest.mark.slow
def test_a_server_that_does_not_answer_is_told_before_the_work_and_without_them(stream, tmp_path):
    from flows.run import flow, outage  # and Prefect with it, of which `make test` needs nothing

    done = []
    watch = outage.Watch("http://127.0.0.1:9/api", lambda _: None, runner=True)
    with pytest.raises(Unreachable, match=r"MLflow at http://127\.0\.0\.1:9: ") as raised:
        flow.pipeline.fn(str(tmp_path), (), lambda *outcome: done.append(outcome), watch)
    assert SECRET not in told(raised) and not done


@pytest.mark.slow
def test_what_streams_metrics_tells_it_without_them(stream):
    class Refusing:
        uri = os.environ["MLFLOW_TRACKING_URI"]

        def stream(self, *point):
            from mlflow.exceptions import MlflowException

            raise MlflowException(f"API request to {self.uri}/api failed")

    stream._tracker = Refusing()
    with pytest.raises(UserError, match="failed") as raised:
        stream.log("train", 1, {"loss": 1.0})
    assert SECRET not in told(raised)


@pytest.mark.slow
def test_a_server_that_answers_everything_with_nothing_is_not_believed(server, tmp_path, monkeypatch):
    server.say("/api/2.0/mlflow/experiments/get-by-name", b"{}")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.url("").rstrip("/"))
    with pytest.raises(Unreachable, match="empty answers: something else than MLflow answers there"):
        MetricStream(State(tmp_path)).open()
