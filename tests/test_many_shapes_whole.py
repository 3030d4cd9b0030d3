"""Pictures of many shapes through every stage: from a folder of files to reports, a student and exports."""

import io
import json
from collections import Counter

import numpy as np
import pytest
import report_fixtures
from data_fixtures import encoded, folder, gather, judge, pixels, resize_params, split_params
from PIL import Image
from train_fixtures import COMPACT, contents, tiny

from components.base import processes
from components.describe.params import DescribeParams
from components.describe.stage import describe
from components.distil import compared, student
from components.distil.params import DistilParams
from components.evaluate.params import EvaluateParams
from components.evaluate.stage import evaluate
from components.export import writer
from components.profile.params import ProfileParams
from components.profile.stage import profile
from components.report.params import ReportParams
from components.report.stage import report
from components.resize.stage import resize
from components.samples import pack
from components.split.stage import split
from components.train.stage import train
from flows.data import erase
from flows.workspace.paths import State

pytestmark = pytest.mark.slow(5)

SIZES = [(60, 60), (36, 60), (60, 36), (58, 60), (40, 60), (61, 61)]
BUCKETS = {"kind": "buckets", "step": 4, "max_aspect": 2.0}


def pictures(first, last):
    """Name and bytes of pictures of three shapes and two labels, none like another."""
    sizes = {n: SIZES[n % len(SIZES)] for n in range(first, last)}
    return {
        f"{'ab'[n // 6 % 2]}/{n:03d}.png": encoded(pixels(n, 61)[:height, :width])
        for n, (height, width) in sizes.items()
    }


def states(root, fit):
    """Bring the data stages of ``root`` up to date; the metrics of resize."""
    data = root / "data"
    metrics = resize(resize_params(fit=fit), raw=data / "raw", verdicts=data / "clean", pixels=data / "pixels",
                     facts=root / ".stillroom/facts")  # fmt: skip
    split(split_params(), verdicts=data / "clean", pixels=data / "pixels", splits=data / "splits")
    return metrics


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("whole")
    folder(root, pictures(0, 72))
    gather(root)
    judge(root)
    states(root, BUCKETS)
    return root


def test_images_keep_their_rows_and_splits_whatever_their_shapes_and_whoever_comes_later(root, tmp_path):
    for fit, last in (("crop", 72), (BUCKETS, 72), (BUCKETS, 90)):
        folder(tmp_path, pictures(0, last))
        gather(tmp_path)
        judge(tmp_path)
        states(tmp_path, fit)
        keys = pack.read_keys(tmp_path / "data/pixels")
        assert keys[:72] == pack.read_keys(root / "data/pixels")
        for name in pack.SPLITS:
            before = list(pack.read_split(root / "data/splits", name))
            assert list(pack.read_split(tmp_path / "data/splits", name))[: len(before)] == before


def test_the_profile_and_the_data_report_know_the_shapes(root, tmp_path):
    data = root / "data"
    paths = {"raw": data / "raw", "verdicts": data / "clean", "pixels": data / "pixels"}
    profile(
        ProfileParams(embedding="colours", images=100), **paths, profile=tmp_path / "profile", facts=tmp_path / "facts"
    )
    content = json.loads((tmp_path / "profile/profile.json").read_text())
    assert content["side"] == "16 x 16 and other shapes" and content["embedded"] == 72
    describe(DescribeParams(**report_fixtures.DESCRIBE), **paths, splits=data / "splits", page=tmp_path / "data.html",
             profile=tmp_path / "profile")  # fmt: skip
    text = (tmp_path / "data.html").read_text()
    assert "16 × 16 and 2 other shapes of about as many pixels each" in text
    assert "Shapes that training uses" in text and "20 × 12" in text and "12 × 20" in text


def test_exported_training_pixels_have_their_shapes(root, tmp_path):
    data = root / "data"
    made = writer.plan(
        raw=data / "raw", clean=data / "clean", splits=data / "splits", pixels=data / "pixels", wanted=["train"]
    )
    writer.export(made, tmp_path / "out", raw=data / "raw", pixels=data / "pixels", layout="imagefolder", size="pixels")
    found = Counter(Image.open(path).size for path in (tmp_path / "out/train").rglob("*.png"))
    header = pack.read_header(data / "pixels")
    rows = pack.read_split(data / "splits", "train")
    assert found == Counter(header.shape(row)[:0:-1] for row in rows) and len(found) == 3


def test_what_is_known_of_a_picture_that_stays_is_kept_whatever_its_shape(root, tmp_path):
    data, store = root / "data", tmp_path / ".stillroom/facts"
    (tmp_path / "data").symlink_to(data)
    profile(ProfileParams(embedding="colours", images=100), raw=data / "raw", verdicts=data / "clean",
            pixels=data / "pixels", profile=tmp_path / "profile", facts=store)  # fmt: skip
    stay = [{"sha256": key, "matte": "#ffffff"} for key in pack.read_keys(data / "pixels")]
    assert erase.erase_facts(State(tmp_path), stay) == 0, "each vector is called by the pixels of its picture"
    scaled = resize(resize_params(fit=BUCKETS), raw=data / "raw", verdicts=data / "clean", pixels=tmp_path / "pixels",
                    facts=store)  # fmt: skip
    assert scaled["rows"] == 72 and erase.erase_facts(State(tmp_path), stay) == 0
    assert erase.erase_facts(State(tmp_path), stay[1:]) == 1, "the picture as it was scaled"


@pytest.mark.slow(25)
def test_a_model_of_many_shapes_is_trained_scored_reported_and_distilled(root, tmp_path, monkeypatch):
    data = root / "data"
    made = {"pixels": data / "pixels", "splits": data / "splits"}
    params = tiny(
        network=COMPACT, onnx=True, images=96, ranks=2, validate_images=8, guide=0.5, autoguidance=1.5, sheet=8
    )
    for name in ("one", "two"):
        train(params, **made, model=tmp_path / name, scratch=tmp_path / "scratch")
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    monkeypatch.setattr(processes, "cores", lambda: 1)
    scored = EvaluateParams(seed=0, samples=24, replicates=20, confidence=0.9, memorised_rmse=0.02, memorised_ratio=0.5,
                            sweep=(2, 3), judges=())  # fmt: skip
    numbers = evaluate(scored, **made, model=tmp_path / "one", evaluation=tmp_path / "evaluation")
    assert np.isfinite(numbers["kid_efficientnet_lite0"]) and np.isfinite(numbers["x0_error"])
    sizes = json.loads((tmp_path / "evaluation/samples.json").read_text())["sizes"]
    assert [size[:2] for size in sizes] == [[20, 12], [16, 16], [12, 20]] and sum(size[2] for size in sizes) == 24
    shown = ReportParams(samples_per_class=8, films=2, neighbours=6, magnify=2, characters=60)
    report(shown, pixels=data / "pixels", model=tmp_path / "one", evaluation=tmp_path / "evaluation",
           page=tmp_path / "model.html")  # fmt: skip
    sheet = Image.open(io.BytesIO((tmp_path / "evaluation/samples.png").read_bytes()))
    assert sheet.size == (12 * 42 + 2, 2 * 42 + 2), "every picture in the middle of a square of 20 pixels"
    tuning = DistilParams(seed=0, images=16, steps=2, gap=0.5, halvings=1, rate=0.25, samples=12)
    student.distil(
        tuning, params, teacher=tmp_path / "one", **made, student=tmp_path / "student", scratch=tmp_path / "d"
    )
    notes = json.loads((tmp_path / "student/stillroom.json").read_text())
    assert notes["shapes"] == [[3, 20, 12], [3, 16, 16], [3, 12, 20]]
    found = compared.compared(tmp_path / "one", tmp_path / "student", **made, samples=12, seed=0)
    assert np.isfinite(found["kid_lost"]["value"])
