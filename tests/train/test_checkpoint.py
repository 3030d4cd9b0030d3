"""Checkpoints: what was saved comes back, damage is seen, nothing piles up."""

import hashlib
import logging

import pytest
import torch

from components.train import checkpoint


def state(n):
    return {"weights": torch.full((100,), float(n)), "history": [{"step": n, "loss": 0.5}], "images_seen": n}


def test_what_was_saved_comes_back(tmp_path):
    checkpoint.save(tmp_path, 16, state(16), keep=2)
    back = checkpoint.load(tmp_path)
    torch.testing.assert_close(back["weights"], state(16)["weights"], rtol=0, atol=0)
    assert back["history"] == [{"step": 16, "loss": 0.5}]


def test_no_folder_and_an_empty_one_hold_nothing(tmp_path):
    assert checkpoint.load(tmp_path / "none") is None
    assert checkpoint.load(tmp_path) is None


def test_only_the_last_two_are_kept_and_the_newest_is_loaded(tmp_path):
    for n in (16, 32, 48, 1000):
        checkpoint.save(tmp_path, n, state(n), keep=2)
    assert [int(path.name[:12]) for path in sorted(tmp_path.glob("*"))] == [48, 1000]
    assert checkpoint.load(tmp_path)["images_seen"] == 1000


@pytest.mark.parametrize("how", ["flip", "cut", "empty"])
def test_a_damaged_one_falls_back_to_the_one_before_and_says_so(tmp_path, how, caplog):
    checkpoint.save(tmp_path, 16, state(16), keep=2)
    path = checkpoint.save(tmp_path, 32, state(32), keep=2)
    blob = bytearray(path.read_bytes())
    blob[len(blob) // 2] ^= 1
    path.write_bytes({"flip": blob, "cut": blob[:-9], "empty": b""}[how])
    with caplog.at_level(logging.WARNING):
        assert checkpoint.load(tmp_path)["images_seen"] == 16
    assert "damaged" in caplog.text


@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"PK\3\4" + bytes(100)])
def test_what_is_none_under_the_name_of_one_falls_back_to_the_one_before(tmp_path, content, caplog):
    checkpoint.save(tmp_path, 16, state(16), keep=2)
    path = checkpoint.save(tmp_path, 32, state(32), keep=2)
    path.unlink()
    (tmp_path / f"{path.name[:12]}-{hashlib.sha256(content).hexdigest()[:16]}.pt").write_bytes(content)
    with caplog.at_level(logging.WARNING):
        assert checkpoint.load(tmp_path)["images_seen"] == 16
    assert "damaged" in caplog.text


def test_what_a_killed_run_left_half_written_is_swept_away(tmp_path):
    checkpoint.save(tmp_path, 16, state(16), keep=2)
    left = tmp_path / ".000000000032.beside-new"
    left.write_bytes(b"half")
    assert checkpoint.load(tmp_path)["images_seen"] == 16
    assert not left.exists()


def test_code_in_a_checkpoint_is_not_run(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (exec, ("raise SystemExit('ran')",))

    checkpoint.save(tmp_path, 16, {"bomb": Bomb()}, keep=2)
    with pytest.raises(Exception, match=r"(?i)weights"):
        checkpoint.load(tmp_path)


def test_on_a_gpu_checkpoints_take_a_twentieth_of_the_time(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(checkpoint.time, "monotonic", lambda: now[0])
    pause, other = checkpoint.Pause(True), checkpoint.Pause(False)
    assert pause.over()
    for each in (pause, other):
        with each:
            now[0] += 2
    now[0] = 100.0
    with pause:
        now[0] += 2
    now[0] += 37.9
    assert not pause.over()
    assert other.over(), "where images count"
    now[0] += 0.2
    assert pause.over()
