"""The ONNX form: what torch says, at any batch, in the same bytes, drawn from by people without our code or torch."""

import functools
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from train_fixtures import COMPACT, DIT, UNET, make_pack, tiny

from components.base.errors import UserError
from components.diffusion import objective as objectives
from components.model import portable, sampling
from components.networks import registry
from components.train.stage import train

pytestmark = pytest.mark.numeric

SIGMAS = [20.0, 2.0, 0.3, 0.05]
KINDS = {values["kind"]: values for values in (COMPACT, UNET, DIT)}
OBJECTIVES = [("v", "linear"), ("eps", "exponential"), ("edm", "log_normal"), ("flow", "logit_normal")]


def network(values, *, schedule="cosine", classes=3, seed=0):
    """A network of 8 pixels whose every weight counts."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        built = registry.build(
            tiny(network=values, onnx=True).network, schedule_name=schedule, shape=(3, 8, 8), classes=classes
        ).eval()
        for weight in built.parameters():
            torch.nn.init.normal_(weight, std=0.2)
    return built.requires_grad_(False)


def session(folder):
    return onnxruntime.InferenceSession(folder / "onnx/model.onnx", providers=["CPUExecutionProvider"])


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A function: what was written of a network of ``values`` and ``classes``, and how far it is from torch."""
    return functools.cache(lambda kind, classes: _export(tmp_path_factory.mktemp(kind), KINDS[kind], classes=classes))


def _export(folder, values, **changes):
    far = portable.write(folder, network(values, **changes), objectives.objective("v", "cosine"), SIGMAS)
    return folder, far


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("classes", [0, 3])
def test_it_says_what_torch_says_at_any_batch(exported, kind, classes):
    net = network(KINDS[kind], classes=classes)
    folder, far = exported(kind, classes)
    assert far <= 1e-5
    run, source = session(folder), torch.Generator().manual_seed(5)
    for batch in (1, 2, 7):
        given = {"sample": torch.randn(batch, 3, 8, 8, generator=source),
                 "timestep": 999 * torch.rand(batch, generator=source)}  # fmt: skip
        if classes:
            given["class_labels"] = torch.randint(0, classes + 1, (batch,), generator=source)
        got = run.run(None, {name: value.numpy() for name, value in given.items()})[0]
        torch.testing.assert_close(torch.from_numpy(got), net(**given).sample, rtol=0, atol=2e-5)
    assert [entry.name for entry in run.get_inputs()] == list(given)


@pytest.mark.parametrize(("predicts", "schedule"), OBJECTIVES)
def test_numpy_and_the_levels_walk_as_our_sampler_does(tmp_path, predicts, schedule):
    kind = {"v": COMPACT, "flow": DIT}.get(predicts, UNET)
    net, objective = network(kind, schedule=schedule, classes=0), objectives.objective(predicts, schedule)
    portable.write(tmp_path, net, objective, SIGMAS)
    run, steps = session(tmp_path), json.loads((tmp_path / "onnx/levels.json").read_text())
    noise = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    for one in steps:
        x = one["sigma"] * noise.numpy()
        sample = (one["c_in"] * x + one["c_shift"]).astype("f4")
        prediction = run.run(None, {"sample": sample, "timestep": np.full(2, one["timestep"], "f4")})[0]
        clean = objective.denoise(net, one["sigma"] * noise, torch.full((2,), one["sigma"]), {})
        largest = clean.abs().max()
        torch.testing.assert_close(
            torch.from_numpy(one["c_skip"] * x + one["c_out"] * prediction).float() / largest, clean / largest,
            rtol=0, atol=1e-4,
        )  # fmt: skip
    assert [step["sigma"] for step in steps] == SIGMAS


@pytest.mark.parametrize(
    "kind", ["compact", pytest.param("unet", marks=pytest.mark.slow(7)), pytest.param("dit", marks=pytest.mark.slow(4))]
)
def test_equal_networks_give_equal_bytes_that_name_no_place(exported, tmp_path, kind):
    (tmp_path / "a").mkdir()
    folders = [exported(kind, 3)[0], exported(kind, 0)[0], _export(tmp_path / "a", KINDS[kind], classes=3)[0]]
    first, other, again = ((folder / "onnx/model.onnx").read_bytes() for folder in folders)
    assert again == first != other
    for place in (str(folders[0]), str(tmp_path)):
        assert place.encode() not in first
    for word in (sys.prefix, str(Path.cwd()), "site-packages", "pytorch", torch.__version__, ".py"):
        assert word.encode() not in first


def test_other_weights_give_other_bytes(exported, tmp_path):
    other, _ = _export(tmp_path, COMPACT, classes=3, seed=1)
    assert (other / "onnx/model.onnx").read_bytes() != (exported("compact", 3)[0] / "onnx/model.onnx").read_bytes()


def test_the_weights_of_a_large_network_lie_beside_it(tmp_path, monkeypatch):
    net, objective = network(COMPACT), objectives.objective("v", "cosine")
    monkeypatch.setattr(portable, "MOST_INSIDE", 1000)
    assert portable.write(tmp_path, net, objective, SIGMAS) <= 1e-5, "the file is run as it was written"
    sizes = {path.name: path.stat().st_size for path in (tmp_path / "onnx").iterdir()}
    assert set(sizes) == {"model.onnx", "model.onnx.data", "levels.json"}
    assert sizes["model.onnx.data"] > sizes["model.onnx"] / 2
    onnx.checker.check_model(tmp_path / "onnx/model.onnx")


def test_a_form_that_differs_from_torch_is_refused(tmp_path, monkeypatch):
    true = portable._exported

    def bent(net, **how):
        model = true(net, **how)
        for weight in model.graph.initializer:
            values = onnx.numpy_helper.to_array(weight)
            if values.dtype == np.float32 and values.ndim == 4:
                weight.raw_data = (values + 1e-3).tobytes()
        return model

    monkeypatch.setattr(portable, "_exported", bent)
    with pytest.raises(UserError, match=r"differ from torch's by .*wanted at most 0\.0001"):
        portable.write(tmp_path, network(COMPACT), objectives.objective("v", "cosine"), SIGMAS)


def test_a_compact_network_is_never_without_it():
    with pytest.raises(ValueError, match="nobody could run network compact"):
        tiny(network=COMPACT, onnx=False)


# --- in a model folder -----------------------------------------------------------------------------------------


@pytest.fixture(
    scope="module",
    params=[(COMPACT, True), (COMPACT, False), pytest.param((UNET, True), marks=pytest.mark.slow(4)), (DIT, True)],
    ids=lambda param: f"{param[0]['kind']}-{param[1]}",
)
def model(request, tmp_path_factory):
    values, labelled = request.param
    folder = tmp_path_factory.mktemp("model")
    pixels, splits = make_pack(folder, classes=("left", "right", "both") if labelled else ())
    params = tiny(images=160, network=values, onnx=True)
    train(params, pixels=pixels, splits=splits, model=folder / "model", scratch=folder / "scratch")
    return folder / "model"


def block(model, word):
    """The lines of the model card that import ``word``."""
    parts = [part.split("```")[0] for part in (model / "README.md").read_text().split("```python\n")[1:]]
    (found,) = [part for part in parts if word in part]
    return found.replace("FOLDER", str(model))


def test_the_card_s_lines_need_numpy_and_onnxruntime_alone_and_draw_our_pictures(model, tmp_path):
    ours = sampling.load(model)
    classes = [0, 1, 2, 0] if ours.classes else [-1] * 4
    np.save(tmp_path / "noise.npy", sampling.noise(ours, 0, range(4)).numpy())
    code = block(model, "onnxruntime").replace("numpy.random.randn(4, 3, 8, 8)", "numpy.load('noise.npy')")
    absent = ("components", "flows", "torch", "diffusers", "safetensors", "onnx")
    blocked = f"import sys; sys.modules.update(dict.fromkeys({absent}))\n"
    done = subprocess.run(
        [sys.executable, "-c", blocked + code + "\nnumpy.save('images.npy', images)"], cwd=tmp_path, check=False,
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    drawn = torch.from_numpy(np.load(tmp_path / "images.npy")).permute(0, 2, 3, 1)
    wanted = sampling.sample(ours, classes, seed=0, precision="fp32")  # as ONNX Runtime computes
    assert drawn.dtype == torch.uint8
    assert (drawn.int() - wanted.int()).abs().max() <= 1


def test_the_card_and_the_folder_say_what_the_network_is(model):
    card = (model / "README.md").read_text()
    kind = json.loads((registry.folder(model) / "config.json").read_text())["_class_name"]
    words = {"UNet2DModel": "A `UNet2DModel` of diffusers", "CompactUNet": "A compact U-Net of Stillroom",
             "DiTTransformer2DModel": "A `DiTTransformer2DModel` of diffusers"}  # fmt: skip
    assert [name for name, phrase in words.items() if phrase in card] == [kind]
    assert (model / "model_index.json").exists() == (kind == "UNet2DModel")
    assert ("from diffusers" in card) == (kind != "CompactUNet"), "no lines that cannot work"
