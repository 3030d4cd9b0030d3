"""Adapters: only they are trained, what is handed out is plain, and a stop changes no bit."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file
from train_fixtures import COMPACT, contents, make_pack, tiny

from components.base.errors import UserError
from components.model import sampling
from components.networks import lora, registry
from components.train import averages, checkpoint, start
from components.train.stage import train

pytestmark = [pytest.mark.numeric, pytest.mark.slow(3)]  # importing peft alone takes 5 s

WEIGHTS = "unet/diffusion_pytorch_model.safetensors"
TARGETS = ["to_q", "to_v", "conv_in", "time_embedding.linear_1"]
LORA = {"rank": 2, "alpha": 4.0, "targets": TARGETS}


def run(folder, params, packs, page=None):
    pixels, splits = packs
    train(params, pixels=pixels, splits=splits, model=folder / "model", scratch=folder / "scratch", start=page)
    return folder / "model"


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """A pack, the model that training starts from, its data/start.json, and the model that came of it."""
    root = tmp_path_factory.mktemp("lora")
    packs, page = make_pack(root / "packs"), root / "data/start.json"
    first = run(root / "first", tiny(images=16, validations=1), packs)
    start.take("first", first, page)
    return packs, first, page, run(root, tiny(lora=LORA), packs, page)


def test_the_compact_network_takes_them_too():
    adapters = {"rank": 2, "alpha": 2.0, "targets": ["inner", "outer"]}
    params = tiny(network=COMPACT, onnx=True, lora=adapters)
    network = registry.build(params.network, schedule_name="cosine", shape=(3, 8, 8), classes=0)
    plain = set(network.state_dict())
    network = lora.added(network, params.lora, seed=0)
    for weight in network.parameters():  # B, and the layer at the end, begin as 0
        torch.nn.init.normal_(weight, std=0.1)
    x, t = torch.randn(2, 3, 8, 8), torch.tensor([10.0, 900.0])
    before = network(x, t).sample
    assert lora.merge(network)
    torch.testing.assert_close(network(x, t).sample, before, rtol=1e-4, atol=1e-4)
    assert set(network.state_dict()) == plain


def test_only_the_targets_move(begun):
    _, first, _, model = begun
    before, after = load_file(first / WEIGHTS), load_file(model / WEIGHTS)
    assert set(before) == set(after), "no trace of an adapter"
    moved = {name.removesuffix(".weight") for name, weight in after.items() if not torch.equal(weight, before[name])}
    assert moved == {name for name in (key.removesuffix(".weight") for key in before) if name.endswith(tuple(TARGETS))}


def test_what_was_merged_is_the_adapter_that_lies_beside(begun):
    """By peft itself, on the model that training started from."""
    from peft import PeftModel

    _, first, _, model = begun
    config = json.loads((first / "unet/config.json").read_text())
    base = registry.read(config)
    base.load_state_dict(load_file(first / WEIGHTS))
    adapted = PeftModel.from_pretrained(base, model / "lora").eval()
    x, t, labels = torch.randn(2, 3, 8, 8), torch.tensor([10.0, 900.0]), torch.tensor([0, 3])
    with torch.no_grad():
        found, wanted = adapted(x, t, labels).sample, sampling.load(model).network(x, t, labels).sample
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
    adapters = load_file(model / "lora/adapter_model.safetensors")
    assert all(bool(weight.any()) for weight in adapters.values()), "each has learned"


@pytest.mark.parametrize("at", [1, 3])
def test_it_goes_on_from_a_checkpoint_bit_for_bit(begun, tmp_path, monkeypatch, at):
    packs, _, page, model = begun
    often = tiny(lora=LORA, checkpoint_images=16)
    true_save, calls = checkpoint.save, []

    def save(*arguments, **more):
        true_save(*arguments, **more)
        calls.append(1)
        if len(calls) == at:
            raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "save", save)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, often, packs, page)
    assert contents(run(tmp_path, often, packs, page)) == contents(model)


@pytest.mark.slow
def test_adapters_of_another_half_life_are_those_of_a_training_with_it(begun, tmp_path):
    packs, _, page, _ = begun
    short = {"lora": LORA, "validations": 1}
    many = run(tmp_path / "many", tiny(**short, ema_half_lives=[0.3, 0.05], ema_snapshots=4), packs, page)
    averages.remake(many, 0.05, tmp_path / "remade")
    wanted = run(tmp_path / "one", tiny(**short, ema_half_lives=[0.05]), packs, page)
    for name in (WEIGHTS, "lora/adapter_model.safetensors"):
        before, found, aim = (load_file(folder / name) for folder in (many, tmp_path / "remade", wanted))
        assert found.keys() == aim.keys()
        parts = [[each[key].double().flatten() for key in sorted(aim)] for each in (before, found, aim)]
        old, new, right = (torch.cat(part) for part in parts)
        assert float((new - right).norm()) < 0.1 * float((old - right).norm()), name


def test_snapshots_of_other_adapters_are_refused(begun, tmp_path):
    packs, _, page, _ = begun
    short = {"images": 16, "validations": 1, "ema_snapshots": 2}
    model = run(tmp_path, tiny(**short, lora=LORA), packs, page)
    other = run(tmp_path / "other", tiny(**short, lora=LORA | {"rank": 3}), packs, page)
    shutil.copytree(other / averages.FOLDER, model / averages.FOLDER, dirs_exist_ok=True)
    with pytest.raises(UserError, match="snapshots of another network than unet"):
        averages.remake(model, 0.06, tmp_path / "remade")
    assert not (tmp_path / "remade").exists()


def test_an_adapter_needs_a_start_and_layers_that_are_there(begun, tmp_path):
    packs, _, page, _ = begun
    with pytest.raises(UserError, match=r"train.lora needs a start: run `stillroom start MODEL`"):
        run(tmp_path, tiny(lora=LORA), packs)
    with pytest.raises(UserError, match=r"train.lora.targets: 'to_w' is no layer .*did you mean 'to_"):
        run(tmp_path, tiny(lora=LORA | {"targets": ["to_w"]}), packs, page)
