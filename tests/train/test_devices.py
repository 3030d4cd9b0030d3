"""A checkpoint of one device goes on on another, whose weights lie otherwise; here the layout of CUDA on the CPU."""

import copy

import pytest
import torch
from train_fixtures import COMPACT, UNET, tiny

from components.dataset import tensors
from components.train import state
from components.train.distributed.ranks import Group

ALONE = Group(0, 1, torch.device("cpu"))


def begun(packs, monkeypatch, *, in_one, network=UNET, moved=True):
    """A state whose weights lie in one vector or by themselves in channels-last memory, after two steps."""
    monkeypatch.setattr(state, "in_one_vector", lambda device: in_one)
    params = tiny(network=network, onnx=network is COMPACT, ema_half_lives=[0.05, 0.1], ema_snapshots=2)
    found = state.start(params, tensors.Pixels(packs[0]), ALONE)
    assert found.in_one == in_one
    source = torch.Generator().manual_seed(0)
    for turn in range(1, 3 if moved else 1):
        for weight in found.learning:
            drawn = torch.randn(weight.shape, generator=source)
            weight.grad = torch.empty_like(weight) if weight.grad is None else weight.grad
            weight.grad.copy_(drawn)
        found.optimiser.step()
        with torch.no_grad():
            found.averages.update(found.weights, 8 * turn, 8)
    found.images_seen = 16
    return found


def leaves(tree, name=""):
    if isinstance(tree, dict):
        return {leaf: value for key, part in tree.items() for leaf, value in leaves(part, f"{name}/{key}").items()}
    if isinstance(tree, list | tuple):
        return leaves(dict(enumerate(tree)), name)
    return {name: tree}


@pytest.mark.parametrize("network", [UNET, COMPACT], ids=lambda network: network["kind"])
@pytest.mark.parametrize("in_one", [True, False], ids=["from the CPU", "from CUDA"])
def test_what_was_packed_on_a_device_is_packed_again_on_another(packs, monkeypatch, in_one, network):
    saved = copy.deepcopy(begun(packs, monkeypatch, in_one=in_one, network=network).pack())
    other = begun(packs, monkeypatch, in_one=not in_one, network=network, moved=False)
    other.unpack(saved)
    wanted, found = leaves(saved), leaves(other.pack())
    assert found.keys() == wanted.keys()
    assert sum("/averages/rest/0/" in name for name in found) == len(other.learning)
    for name, value in wanted.items():
        if isinstance(value, torch.Tensor):
            torch.testing.assert_close(found[name], value, rtol=0, atol=0, msg=name)
    for weight in other.weights:
        moments = [value for value in other.optimiser.state[weight].values() if value.shape == weight.shape]
        assert all(moment.stride() == weight.stride() for moment in moments)
