"""What the page of a decision shows of a version, and of one that it cannot show."""

import contextlib
import json
from types import SimpleNamespace

import pytest

from flows.registry import verdict


def compared(folder):
    held = SimpleNamespace(name="denoiser", folder=lambda version: contextlib.nullcontext(folder))
    return verdict._compared(held, SimpleNamespace(version="3"))


def test_a_version_is_shown_from_its_own_files(tmp_path):
    (tmp_path / "scores.json").write_text(json.dumps({"scores": {}, "sampler": {"seed": 7}}))
    (tmp_path / "samples.png").write_bytes(b"png")
    shown = compared(tmp_path)
    assert (shown.name, shown.samples, shown.seed) == ("denoiser version 3", b"png", 7)


@pytest.mark.parametrize("scores", ["", "[]", "{}", '{"scores": {}, "sampler": {}}', None])
def test_one_that_is_damaged_or_older_than_the_page_is_not_shown_and_stops_nothing(tmp_path, scores):
    (tmp_path / "samples.png").write_bytes(b"png")
    if scores is not None:
        (tmp_path / "scores.json").write_text(scores)
    assert compared(tmp_path) is None
