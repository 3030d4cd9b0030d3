"""A real S3 for tests, as moto serves it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import fsspec
import pytest


@contextlib.contextmanager
def bucket(name: str) -> Iterator[str]:
    """The address of an empty bucket, which the environment says how to reach."""
    from moto.server import ThreadedMotoServer  # the server and the client take seconds to import

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        for key, value in (("ENDPOINT_URL", f"http://{host}:{port}"), ("ACCESS_KEY_ID", "visitor"),
                           ("SECRET_ACCESS_KEY", "secret"), ("DEFAULT_REGION", "us-east-1")):  # fmt: skip
            patch.setenv(f"AWS_{key}", value)
        fsspec.filesystem("s3", skip_instance_cache=True).mkdir(name)
        yield f"s3://{name}"
    server.stop()
