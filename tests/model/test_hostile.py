"""Model folders whose files are whole, yet contradict each other or make no sense: one line, and never a picture."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from train_fixtures import make_pack, tiny

from components.base.errors import UserError
from components.model import engines, notes, sampling
from components.networks import registry
from components.samples import spec as specs
from components.train.stage import train

pytestmark = pytest.mark.numeric

BIG = 10**400


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    pixels, splits = make_pack(folder)
    train(tiny(images=16), pixels=pixels, splits=splits, model=folder / "model", scratch=folder / "scratch")
    return folder / "model"


@pytest.fixture
def copy(model, tmp_path):
    return Path(shutil.copytree(model, tmp_path / "copy"))


def changed(path, keys, value):
    """Set one value of the JSON file at ``path``, and return the text that was there."""
    text = path.read_text("utf-8")
    whole = at = json.loads(text)
    for key in keys[:-1]:
        at = at[key]
    at[keys[-1]] = value
    path.write_text(json.dumps(whole), "utf-8")
    return text


def refused(folder, match="copy: not a whole denoiser"):
    with pytest.raises(UserError, match=match) as caught:
        sampling.load(folder)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 350 + len(str(folder))


@pytest.mark.parametrize(("keys", "values"), [
    (("format",), [None, 0, "zzz", True, notes.FORMAT + 1]),
    (("spec",), [None, [], {}, "x"]),
    (("spec", "shape"), ["abc", [3, 16, 16], [1, 8, 8], [3, 4, 16], [3, BIG, 8], [3]]),
    (("spec", "kind"), [[], None, "clip"]),
    (("spec", "scale"), [None, "0.5", True, BIG, 0]),
    (("spec", "sigma_data"), [float("nan"), -1]),
    (("null_class",), [None, 0, 2, 999, -5, "a", 3.0, True]),
    (("classes",), [None, "abc", [], [1, 2, 3], ["a"] * 3, ["a", "b"], ["a", "b", "c", "d"], {"a": 1, "b": 2, "c": 3}]),
    (("weighting",), [None, [], "junk"]),
    (("objective",), [None, "v", [], {}]),
    (("objective", "kind"), [None, [], "x", BIG]),
    (("objective", "schedule"), [None, [], "x", BIG]),
    (("objective", "sigma_data"), [None, 0, -1, "x", [], True, 1e-300, 1e300, 1e400, BIG]),
    (("steps",), [None, 0, 10**9, BIG, True, 3.9, "4", []]),
    (("guidance",), [None, -1, 51, "2", True, BIG, float("nan")]),
    (("sampler",), [None, [], {}, "x"]),
    (("sigmas",), ["ab", True, {}, [BIG] * 4, [float("nan")] * 4, [4, 3, 2, True], [4, 3, 2, 1e-30], ["4"]]),
])  # fmt: skip
def test_notes_that_contradict_the_network_or_make_no_sense(copy, keys, values):
    path = copy / "stillroom.json"
    for value in values:
        before = changed(path, keys, value)
        refused(copy)
        path.write_text(before, "utf-8")
    sampling.load(copy)


@pytest.mark.parametrize("key", ["format", "classes", "null_class", "objective", "weighting", "steps", "guidance"])
def test_notes_without_a_key_name_the_key(copy, key):
    found = json.loads((copy / "stillroom.json").read_text())
    del found[key]
    (copy / "stillroom.json").write_text(json.dumps(found))
    refused(copy, match=f"no '{key}'")


def test_newer_notes_say_so(copy):
    changed(copy / "stillroom.json", ["format"], notes.FORMAT + 1)
    refused(copy, match="made by a newer Stillroom")


def test_older_notes_name_the_side_alone_and_it_has_to_fit(copy, model):
    path = copy / "stillroom.json"
    found = json.loads(path.read_text())
    del found["spec"]
    path.write_text(json.dumps(found))
    assert sampling.load(copy).spec == specs.image((3, 8, 8))
    assert torch.equal(*(sampling.sample(each, [0, -1], seed=0) for each in (copy, model)))
    for side in (16, "8", -8, 1e400, [8], None):
        changed(path, ["side"], side)
        refused(copy)


@pytest.mark.parametrize(("key", "values"), [
    ("sample_size", [16, None, "x", -1, [8], [8, 8, 8]]),
    ("in_channels", [0, 4, "x", None, -1]),
    ("num_class_embeds", [None, 0, 2, "x", -1]),
    ("_class_name", [None, [], {}]),
    ("block_out_channels", [[], None, "ab"]),
    ("norm_num_groups", [0, None, 7]),
    ("time_embedding_type", ["x", None]),
    ("dropout", [2, "x"]),
    ("act_fn", ["x", None]),
])  # fmt: skip
def test_a_network_that_cannot_be_built(copy, key, values):
    path = copy / "unet/config.json"
    for value in values:
        before = changed(path, [key], value)
        refused(copy)
        path.write_text(before, "utf-8")


def test_a_network_that_can_be_built_and_not_computed(copy):
    changed(copy / "unet/config.json", ["norm_num_groups"], -1)
    with pytest.raises(UserError, match="this model's network cannot be computed"):
        sampling.sample(copy, [0], seed=0)


@pytest.mark.parametrize("name", ["stillroom.json", "unet/config.json"])
@pytest.mark.parametrize("text", ["", "[]", "null", "[" * 100_000, '{"a": ' + "9" * 5000 + "}", "\0"])
def test_a_file_that_is_no_object(copy, name, text):
    (copy / name).write_text(text)
    refused(copy, match=f"{name}: (holds|cannot be read)")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite(copy, value):
    path = copy / "unet" / registry.WEIGHTS
    weights = load_file(path)
    name = sorted(weights)[-1]
    weights[name].view(-1)[-1] = value
    save_file(weights, path)
    refused(copy, match=f"weight {name} is not finite")


def test_pictures_that_are_not_finite(model):
    loaded = sampling.load(model)
    next(loaded.network.parameters()).fill_(float("nan"))
    with pytest.raises(UserError, match="draws numbers that are not finite"):
        sampling.sample(loaded, [0], seed=0)


@pytest.mark.parametrize(("changes", "line"), [
    ({"kind": "mel"}, "draws images only, not kind mel"),
    ({"kind": "tensor"}, "draws images only, not kind tensor"),
    ({"dtype": "f32"}, "not of dtype f32"),
    ({"scale": 1.0}, "with scale 1 and shift -1"),
    ({"scale": -1 / 127.5, "shift": 1.0}, "with scale -0.00784314 and shift 1"),
])  # fmt: skip
def test_samples_that_are_no_pictures_are_not_drawn(copy, changes, line):
    for key, value in changes.items():
        changed(copy / "stillroom.json", ["spec", key], value)
    loaded = sampling.load(copy)
    for draw in (sampling.sample, lambda *given, **wishes: sampling.film(*given, frames=2, **wishes)):
        with pytest.raises(UserError, match=line):
            draw(loaded, [0], seed=0)


@pytest.mark.parametrize(("side", "answer", "line"), [
    (4, ["n", 3, 4, 4], "cannot be computed"),
    (8, ["n", 3, 4, 4], r"answers \(1, 3, 4, 4\) to \(1, 3, 8, 8\)"),
])  # fmt: skip
def test_a_graph_of_another_network_is_one_line(copy, side, answer, line):
    from onnx import TensorProto, helper, numpy_helper, save

    inputs = [
        helper.make_tensor_value_info(name, kind, shape)
        for name, kind, shape in (
            ("sample", 1, ["n", 3, side, side]), ("timestep", 1, ["n"]), ("class_labels", TensorProto.INT64, ["n"])
        )
    ]  # fmt: skip
    bounds = [numpy_helper.from_array(torch.tensor(value).numpy(), name)
              for name, value in (("from", [0, 0]), ("to", answer[2:]), ("axes", [2, 3]))]  # fmt: skip
    nodes = [helper.make_node("Slice", ["sample", "from", "to", "axes"], ["out"])]
    outputs = [helper.make_tensor_value_info("out", TensorProto.FLOAT, answer)]
    graph = helper.make_graph(nodes, "network", inputs, outputs, bounds)
    (copy / engines.ONNX).parent.mkdir()
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), str(copy / engines.ONNX))
    loaded = sampling.load(copy, engine="onnx")
    with pytest.raises(UserError, match=line) as caught:
        sampling.sample(loaded, [0], seed=0, guidance=1.0)
    assert "model.onnx" in str(caught.value)
    assert "\n" not in str(caught.value)
