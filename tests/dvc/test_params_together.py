"""What two sections of params.yaml decide together is told before any stage runs."""

import shutil

import pytest
from checkouts import ROOT, edit
from train_fixtures import AUGMENT, COMPACT, DIT, UNET

from components.base.errors import UserError
from flows.dvc import schema

BUCKETS = {"kind": "buckets", "step": 12, "max_aspect": 2.0}


@pytest.fixture
def root(tmp_path):
    shutil.copy(ROOT / "params.yaml", tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data/start.json").write_text("null\n")
    edit(tmp_path, "train", augment=AUGMENT)
    return tmp_path


def test_a_network_and_pictures_that_fit_pass(root):
    edit(root, "resize", side=36, fit=BUCKETS)
    edit(root, "train", network=COMPACT | {"fold": 1, "widths": [32, 32, 32]})
    schema.check(root)


@pytest.mark.parametrize(("side", "fit", "network", "line"), [
    (30, "crop", COMPACT | {"fold": 1, "widths": [32] * 3},
     "train.network.widths and fold: need a side that 4 divides, not 30"),
    (24, "pad", UNET | {"widths": [32, 36]}, "train.network.widths: 36, at 12 pixels, is not a multiple of 8"),
    (30, "pad", DIT | {"patch": 4}, "train.network.patch: need a side that 4 divides, not 30 pixels"),
    (36, BUCKETS, UNET | {"widths": [32] * 4}, "that 8 divides, not those of the bucket"),
    (24, BUCKETS, DIT | {"patch": 5}, "train.network.patch: need a side that 5 divides, not 24"),  # of one shape
    (36, BUCKETS, DIT, "takes squares of one size, not the bucket"),
])  # fmt: skip
def test_a_network_that_does_not_take_the_pictures_is_one_line(root, side, fit, network, line):
    edit(root, "resize", side=side, fit=fit)
    edit(root, "train", network=network, onnx=True)
    with pytest.raises(UserError, match=line):
        schema.check(root)


def test_shapes_are_those_of_another_model_where_training_starts_from_one(root):
    edit(root, "resize", side=36, fit=BUCKETS)
    edit(root, "train", network=UNET | {"widths": [32] * 4})
    (root / "data/start.json").write_text('{"format": 1}\n')
    schema.check(root)
