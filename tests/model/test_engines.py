"""ONNX Runtime in place of torch: the same pictures, chosen where it is faster, refused where it cannot be."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from train_fixtures import CLASSES, make_pack, tiny

from components.base.errors import UserError
from components.model import engines, sampling
from components.networks import precision as arithmetic
from components.train.stage import train

pytestmark = pytest.mark.numeric

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model folder whose network answers with half of what it is given, plus a hundredth of its label."""
    folder = tmp_path_factory.mktemp("model")
    pixels, splits = make_pack(folder)
    train(tiny(images=16), pixels=pixels, splits=splits, model=folder / "model", scratch=folder / "scratch")
    write(folder / "model" / engines.ONNX)
    return folder / "model"


def write(path, *, inputs=("sample", "timestep", "class_labels"), kinds=(1, 1, 7)):
    """An ONNX graph of ``inputs`` (element types 1 float, 7 int64): sample / 2 + label / 100."""
    from onnx import TensorProto, helper, numpy_helper, save

    shapes = (["n", 3, 8, 8], ["n"], ["n"])
    declared = [helper.make_tensor_value_info(*each) for each in zip(inputs, kinds, shapes, strict=False)]
    constants = [numpy_helper.from_array(torch.tensor(value).numpy(), name)
                 for name, value in (("half", 0.5), ("hundredth", 0.01), ("shape", [-1, 1, 1, 1]))]  # fmt: skip
    nodes = [
        helper.make_node("Mul", [inputs[0], "half"], ["halved"]),
        helper.make_node("Cast", [inputs[-1]], ["number"], to=TensorProto.FLOAT),
        helper.make_node("Reshape", ["number", "shape"], ["column"]),
        helper.make_node("Mul", ["column", "hundredth"], ["scaled"]),
        helper.make_node("Add", ["halved", "scaled"], ["out"]),
    ]
    outputs = [helper.make_tensor_value_info("out", TensorProto.FLOAT, shapes[0])]
    graph = helper.make_graph(nodes, "network", declared, outputs, constants)
    path.parent.mkdir(exist_ok=True)
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), str(path))


class Twin(torch.nn.Module):
    """What the graph computes, in torch."""

    def forward(self, sample, timestep, class_labels=None):
        return engines.Answer(sample / 2 + class_labels.view(-1, 1, 1, 1) / 100)


def test_onnx_runtime_draws_what_torch_draws(model):
    onnx = sampling.load(model, engine="onnx")
    twin = sampling.Denoiser(**{**vars(onnx), "network": Twin(), "engine": "torch"})
    ids = [0, 1, 2, -1]
    for wish in ({}, {"sampler": "heun", "guidance": 3.0}, {"sampler": "ddpm"}):
        one, two = (sampling.sample(each, ids, seed=0, **wish).int() for each in (onnx, twin))
        assert int((one - two).abs().max()) <= 1
        assert float((one - two).abs().float().mean()) / 255 < 1e-3
    assert onnx.engine == "onnx"
    assert onnx.classes == CLASSES


@pytest.mark.parametrize(
    ("precision", "there", "device", "chosen"),
    [("fp32", True, "cpu", "onnx"), ("bf16", True, "cpu", "torch"), ("fp32", False, "cpu", "torch"),
     ("fp32", True, "cuda", "torch")],
)  # fmt: skip
def test_auto_takes_onnx_where_it_is_there_and_torch_has_no_bf16(
    model, tmp_path, monkeypatch, precision, there, device, chosen
):
    monkeypatch.setattr(arithmetic, "resolve", lambda *_: precision)
    assert engines.choose("auto", model if there else tmp_path, torch.device(device)) == chosen


def test_onnx_is_refused_where_it_cannot_be(model, tmp_path):
    with pytest.raises(UserError, match=r"model\.onnx: not there: this model has no ONNX form"):
        engines.choose("onnx", tmp_path, CPU)
    with pytest.raises(UserError, match="engine onnx runs on the CPU"):
        engines.choose("onnx", model, torch.device("cuda"))


@pytest.mark.parametrize("how", ["garbage", "cut", "empty", "strings", "one input"])
def test_a_graph_that_is_none_of_ours_is_one_line(model, tmp_path, how):
    copy = Path(shutil.copytree(model, tmp_path / "copy"))
    path = copy / engines.ONNX
    if how == "strings":
        write(path, kinds=(1, 1, 8))
    elif how == "one input":
        write(path, inputs=("sample",))
    else:
        path.write_bytes({"garbage": b"\xff\x00\x80" * 50, "cut": path.read_bytes()[:-40], "empty": b""}[how])
    with pytest.raises(UserError, match=r"model\.onnx") as caught:
        sampling.load(copy, engine="onnx")
    assert "\n" not in str(caught.value)


def test_the_network_behind_a_cuda_graph_is_the_network_on_the_cpu(model):
    loaded = sampling.load(model)
    wrapped = sampling.Denoiser(**{**vars(loaded), "network": engines.Graphed(loaded.network)})
    assert torch.equal(*(sampling.sample(each, [0, 1], seed=0) for each in (loaded, wrapped)))


def test_a_cuda_graph_is_of_the_arithmetic_that_it_was_captured_in():
    """Samples in bf16 come first; x0 errors of the same shape in fp32 must not be replayed from their graph."""
    given = [torch.zeros(2, 3, 8, 8), torch.zeros(2)]
    keys = [engines.Graphed.key(given)]
    with arithmetic.exact(CPU):
        keys.append(engines.Graphed.key(given))
    try:
        torch.set_autocast_enabled("cuda", True)
        for kind in (torch.bfloat16, torch.float16):
            torch.set_autocast_dtype("cuda", kind)
            keys.append(engines.Graphed.key(given))
    finally:
        torch.set_autocast_enabled("cuda", False)
        torch.set_autocast_dtype("cuda", torch.float16)
    assert len(set(keys)) == 4, "fp32 with TF32, fp32 without, bf16, fp16"
    assert engines.Graphed.key(given) == keys[0] != engines.Graphed.key([given[0][:1], given[1]])


def test_exact_is_fp32_and_leaves_everything_as_it_was():
    held = (torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        with arithmetic.exact(CPU):
            assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32
            assert not torch.backends.cudnn.allow_tf32
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16
    assert (torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()) == held


def test_notes_do_not_name_an_engine(model):
    assert "engine" not in json.loads((model / "stillroom.json").read_text()), "it is a matter of the machine"
