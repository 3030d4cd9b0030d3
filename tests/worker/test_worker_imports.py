"""A worker needs few packages: what it imports is what it has to have installed."""

import starting


def test_the_flow_of_a_worker_needs_no_server_no_reports_and_no_other_stage():
    heavy = {"duckdb", "pandas", "pyarrow", "ray", "faiss", "cv2", "PIL", "torch", "mlflow.server",
             "prefect.server.api.server", "components.html", "components.report", "components.clean"}  # fmt: skip
    assert starting.first_with(heavy, ["import flows.worker.flow"]) is None
