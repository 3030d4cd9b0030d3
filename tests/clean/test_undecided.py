"""What the machine decided in a bad moment is listed, and is no fact about an image's bytes."""

import os
import signal

import pyarrow.parquet as pq
import pytest
from data_fixtures import folder, gather, judge, png

from components.base import parallel, workers
from components.base.errors import UserError
from components.clean import fingerprints, keypoints

EXAMINE, FEATURES = fingerprints.examine, keypoints.features
PICTURE = png(2)


def killed(batch, **options):
    if any(data == PICTURE for data, _ in batch):
        os.kill(os.getpid(), signal.SIGKILL)
    return EXAMINE(batch, **options)


def endless(batch, **options):
    while any(data == PICTURE for data, _ in batch):
        pass
    return EXAMINE(batch, **options)


def crashing(batch, **options):
    if any(data == PICTURE for data, _ in batch):
        os.kill(os.getpid(), signal.SIGSEGV)
    return EXAMINE(batch, **options)


def killed_at_corners(batch):
    os.kill(os.getpid(), signal.SIGKILL)


def reasons(root):
    rows = pq.read_table(root / "data/clean/verdicts.parquet").to_pylist()
    return {row["source_key"]: (row["reason"], row["detail"]) for row in rows}


@pytest.fixture
def three(tmp_path, monkeypatch):
    monkeypatch.setattr(parallel, "workers", lambda: 1)
    folder(tmp_path, {"a.png": png(1), "b.png": PICTURE, "c.png": png(3)})
    gather(tmp_path)
    return tmp_path


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("moment", "words"), [(killed, "was killed"), pytest.param(endless, "out of time", marks=pytest.mark.slow(12))]
)
def test_what_the_machine_decided_is_listed_and_the_next_night_decides_anew(three, monkeypatch, moment, words):
    with monkeypatch.context() as patch:
        patch.setattr(fingerprints, "examine", moment)
        if moment is endless:
            patch.setattr(workers, "allowed", lambda batch: 0.6)
        assert judge(three)["undecided"] == 1
    reason, detail = reasons(three)["b.png"]
    assert reason == "undecided" and words in detail and f"{len(PICTURE)} bytes" in detail
    assert judge(three)["kept"] == 3 and reasons(three)["b.png"] == (None, None)


@pytest.mark.timeout(120)
def test_what_the_bytes_decided_is_kept(three, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(fingerprints, "examine", crashing)
        assert judge(three)["damaged"] == 1
    assert judge(three)["damaged"] == 1 and "SIGSEGV" in reasons(three)["b.png"][1]


@pytest.mark.slow(4)
@pytest.mark.timeout(120)
def test_pairs_are_not_decided_without_the_corners_that_a_bad_moment_took(tmp_path, monkeypatch):
    monkeypatch.setattr(parallel, "workers", lambda: 1)
    folder(tmp_path, {"a.png": png(1, 160), "b.png": png(1, 200)})
    gather(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(keypoints, "features", killed_at_corners)
        with pytest.raises(UserError, match="worker process died"):
            judge(tmp_path)
    assert judge(tmp_path)["pairs"] == 1
