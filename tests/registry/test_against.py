"""Candidate and champion are scored with the same seed, labels and images: those of the candidate's evaluation."""

import json
import shutil
from types import SimpleNamespace

import pytest
import torch
from train_fixtures import make_pack, tiny

from components.base import processes
from components.evaluate import measure, paired, stage
from components.evaluate.params import EvaluateParams
from components.register.params import RegisterParams
from components.samples import drawn
from components.train.stage import train
from flows.registry.versions import Versions

pytestmark = pytest.mark.numeric
SEED = 41
PARAMS = RegisterParams(name="denoiser", confidence=0.9, margin=0.0, max_memorised=1.0, min_class_accuracy=0.0,
                        max_slowdown=1000.0, licences=None)  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A checkout's data, a folder ``version`` as it is registered, and ``half``: the same after half the training."""
    root = tmp_path_factory.mktemp("root")
    pixels, splits = make_pack(root / "data")
    evaluation = EvaluateParams(seed=SEED, samples=10, replicates=10, confidence=0.9, memorised_rmse=0.0,
                                memorised_ratio=0.0, sweep=(), judges=())  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(processes, "cores", lambda: 1)
        for name, images in (("version", 128), ("half", 16)):
            train(
                tiny(images=images), pixels=pixels, splits=splits, model=root / name, scratch=root / f"{name}-scratch"
            )
        stage.evaluate(evaluation, pixels=pixels, splits=splits, model=root / "version", evaluation=root / "evaluation")
    for path in (root / "evaluation").iterdir():
        shutil.copyfile(path, root / "version" / path.name)
    shutil.copyfile(root / "version/scores.json", root / "half/scores.json")
    (root / "version/MANIFEST.json").write_text(json.dumps({"sources": [{"name": "noto", "licence": "Apache-2.0"}]}))
    return root


@pytest.fixture
def alone(monkeypatch):
    monkeypatch.setattr(processes, "cores", lambda: 1)


def test_both_are_scored_with_the_seed_of_the_candidates_evaluation(root, alone, monkeypatch):
    """params.yaml, which is not even there, may say another one by now."""
    seeds, lots = [], []
    errors, samples = stage.x0_errors, measure.samples
    monkeypatch.setattr(stage, "x0_errors", lambda *a, seed, **k: seeds.append(seed) or errors(*a, seed=seed, **k))
    monkeypatch.setattr(
        measure,
        "samples",
        lambda run, ids, *, seed, shapes: (
            lots.append((ids, seed, {*shapes})) or samples(run, ids, seed=seed, shapes=shapes)
        ),
    )
    versions = Versions.__new__(Versions)
    versions.tracker = SimpleNamespace(state=SimpleNamespace(root=root))
    decision = versions._against(root / "version", root / "half", PARAMS)
    assert seeds == [SEED, SEED]
    rows = drawn.samples(root / "version")
    assert lots == [([row["class_id"] for row in rows], SEED, {(3, 8, 8)})], "only the champion, which has no table"
    assert {"x0_error_change", "kid_change", "kid_change_low", "seconds_an_image"} <= decision.evidence.keys()
    assert decision.promote == (decision.evidence["kid_change_low"] <= 0), decision.reason


def test_a_model_of_latents_is_not_compared_with_one_of_pixels(root, alone, tmp_path):
    copy = shutil.copytree(root / "version", tmp_path / "copy")
    notes = json.loads((copy / "stillroom.json").read_text())
    (copy / "stillroom.json").write_text(json.dumps({**notes, "autoencoder": {"sha256": "ab" * 32}}))
    versions = Versions.__new__(Versions)
    versions.tracker = SimpleNamespace(state=SimpleNamespace(root=root))
    decision = versions._against(copy, root / "half", PARAMS)
    assert not decision.promote and decision.reason == (
        "Not promoted: it was trained on latents of the autoencoder abababababab, the champion on pixels, and x0 "
        "errors of different spaces cannot be compared; `stillroom promote` moves the alias by hand."
    )


def test_a_model_against_itself_differs_by_nothing_with_its_table_or_without(root, alone, tmp_path, monkeypatch):
    pixels, version = root / "data/pixels", root / "version"
    shutil.copytree(version, tmp_path / "old")
    (tmp_path / "old" / drawn.SAMPLES_FILE).unlink()
    again = paired.kid_change(version, tmp_path / "old", pixels, confidence=0.9)
    assert again == {name: pytest.approx(0, abs=1e-4) for name in ("value", "low", "high")}
    monkeypatch.setattr(measure, "samples", None)  # nothing is drawn
    assert paired.kid_change(version, version, pixels, confidence=0.9) == {"value": 0, "low": 0, "high": 0}


def test_the_paired_interval_is_narrower_than_the_difference_of_two():
    source = torch.Generator().manual_seed(0)
    real, ours = torch.randn(60, 8, generator=source), torch.randn(60, 8, generator=source) + 0.5
    theirs = ours + 0.02 * torch.randn(60, 8, generator=source)
    unlike = torch.randn(60, 8, generator=source) + 0.5
    near, far = (paired.change(ours, some, real, confidence=0.9) for some in (theirs, unlike))
    assert near["low"] < near["value"] < near["high"]
    assert near["high"] - near["low"] < (far["high"] - far["low"]) / 4
    assert paired.change(ours + 1, ours, real, confidence=0.9)["low"] > 0, "worse beyond chance"
