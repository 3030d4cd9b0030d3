"""Whether a version made again is the same: code, libraries, bytes and scores, held against what is on record."""

import hashlib
import json
from pathlib import Path

import pytest
from checkouts import git

from components.base import processes
from components.base.errors import UserError
from flows.history.store import PipelineRun
from flows.registry import again, bundle

CODE = b"x = 1\n"
TABLE = b"stages: {collect: {}, split: {}, train: {}}\n"


def md5(content):
    return hashlib.md5(content).hexdigest()


def made(commit="", code=CODE, *, seconds=None, seed=0, **outs):
    """A pipeline run whose stage train reads a file of code and what split and collect wrote."""
    rows = {name: outs.get(name, f"{number:031x}.dir") for number, name in enumerate(("raw", "splits", "model"))}
    lock = f"""stages:
  collect: {{cmd: c, outs: [{{path: data/raw, md5: {rows["raw"]}}}]}}
  split: {{cmd: s, deps: [{{path: data/raw, md5: {rows["raw"]}}}],
           outs: [{{path: data/splits, md5: {rows["splits"]}}}]}}
  train: {{cmd: t, deps: [{{path: components/a.py, md5: '{md5(code)}'}}, {{path: data/splits, md5: {rows["splits"]}}}],
           params: {{params.yaml: {{seed: {seed}}}}}, outs: [{{path: models/candidate, md5: {rows["model"]}}}]}}
"""
    held = {"dvc.lock": lock.encode(), "dvc.yaml": TABLE}
    about = {"seconds": seconds} if seconds else {}
    return PipelineRun(key="k", files=held, commit=commit, dirty=True, when=0, about=about)


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "repository" / "checkout"  # below the top of the repository
    (folder / "components").mkdir(parents=True)
    (folder / "components/a.py").write_bytes(CODE)
    git(folder, "init", "--quiet", "..")
    git(folder, "add", ".")
    git(folder, "-c", "user.name=t", "-c", "user.email=t@localhost", "commit", "--quiet", "-m", "x")
    return folder


def test_code_is_held_against_the_hashes_of_dvc_lock_and_not_against_a_mark(root):
    commit = git(root, "rev-parse", "HEAD").strip()
    assert again.missing_code(root, made(commit)) == []
    assert again.missing_code(root, made(commit, code=b"x = 2\n")) == ["components/a.py"]
    for gone in ("", "0" * 40):
        with pytest.raises(UserError, match="is not in this repository: fetch"):
            again.missing_code(root, made(gone))


def test_stages_are_those_of_the_run_but_for_what_looks_at_sources():
    assert again.stages(made()) == ["split", "train"]
    assert again.stages(made(), ["train"]) == ["train"]
    with pytest.raises(UserError, match=r"'trian': not a stage of it; did you mean 'train'\?: wanted some of split"):
        again.stages(made(), ["trian"])
    with pytest.raises(UserError, match="'collect': takes what is in its sources now"):
        again.stages(made(), ["collect"])


def cached(root, path, files):
    """Put a folder of ``files`` into DVC's cache of ``root``; its hash."""
    folder = root / ".dvc/cache/files/md5"
    rows = [{"md5": md5(content), "relpath": name} for name, content in files.items()]
    listing = json.dumps(rows).encode()
    for digest, content in [(md5(listing) + ".dir", listing), *((md5(c), c) for c in files.values())]:
        place = folder / digest[:2] / digest[2:]
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
    return md5(listing) + ".dir"


def test_what_the_stages_read_and_none_of_them_makes_is_taken_from_the_cache_whole(root):
    raw, splits = cached(root, "data/raw", {"a": b"1", "b": b"2"}), cached(root, "data/splits", {"c": b"3"})
    run = made(raw=raw, splits=splits)
    assert {path: sorted(held) for path, held in again.inputs(root, run, ["split", "train"]).items()} == {
        "data/raw": ["a", "b"]
    }
    assert list(again.inputs(root, run, ["train"])) == ["data/splits"]
    place = again.inputs(root, run, ["split"])["data/raw"]["b"]
    place.write_bytes(b"9")
    with pytest.raises(UserError, match=r"damaged, and data/raw is made of it"):
        again.inputs(root, run, ["split"])
    with pytest.raises(UserError, match="data/splits of that run is not whole in DVC's cache: `dvc pull`"):
        again.inputs(root, made(raw=raw, splits="0" * 32 + ".dir"), ["train"])


def test_files_that_came_out_otherwise_are_named(root, tmp_path):
    other = tmp_path / "again"
    before = made(model=cached(root, "m", {"unet/w": b"1", "card": b"2"}))
    now = made(model=cached(other, "m", {"unet/w": b"8", "card": b"2", "more": b"3"}))
    assert again.unlike(root, before.stages, other, before.stages, "train") == []
    assert again.unlike(root, before.stages, other, now.stages, "train") == [
        "models/candidate/more", "models/candidate/unet/w"
    ]  # fmt: skip
    assert again.unlike(other, before.stages, other, now.stages, "train") == ["models/candidate"]
    assert again.unlike(root, before.stages, other, {}, "train") != []


def test_libraries_that_are_not_those_on_record_are_named():
    here = bundle.libraries()
    assert again.others(here, here) == []
    assert again.others({**here, "torch": "1.0", "jax": "2"}, here) == [
        "jax is not installed (was 2)", f"torch {here['torch']} (was 1.0)"
    ]  # fmt: skip


def test_a_score_has_to_lie_in_its_interval_and_one_that_is_gone_does_not():
    recorded = {
        "scores": {"kid": {"value": 2.0, "low": 1.0, "high": 3.0}, "x0": {"value": 0.5, "low": 0.4, "high": 0.6}}
    }
    found = again.scores(recorded, {"scores": {"kid": {"value": 3.0}, "x0": {"value": 0.61}}})
    assert [one.inside for one in found] == [True, False]
    assert str(found[1]) == "x0 0.61, outside of 0.4 to 0.6 (was 0.5)"
    assert [one.inside for one in again.scores(recorded, {"scores": {"x0": {"value": 0.4}}})] == [False, True]


def test_how_long_a_stage_took_is_what_the_run_says_that_executed_it():
    first = made(seconds={"split": 2.0, "train": 60.0})
    again_with_another_seed = made(seed=1, seconds={"train": 50.0})
    assert again.took([first, again_with_another_seed], again_with_another_seed) == {"split": 2.0, "train": 50.0}
    assert again.took([first, again_with_another_seed], first) == {"split": 2.0, "train": 60.0}
    assert again.took([made()], first) == {}


def test_the_kind_of_a_machine_is_the_same_each_time_and_names_no_host(monkeypatch):
    import platform

    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert bundle.machine() == bundle.machine() and "3 threads" in bundle.machine()
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert f"{processes.cores()} threads" in bundle.machine()
    assert platform.machine() in bundle.machine() and platform.node() not in bundle.machine().split(", ")
    assert str(Path.home()) not in bundle.machine()
