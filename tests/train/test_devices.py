"""A checkpoint of one device goes on on another, whose weights lie otherwise; here the layout of CUDA on the CPU."""

import copy
import os
import weakref

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from train_fixtures import COMPACT, DIT, UNET, tiny

from components.dataset import tensors
from components.samples import pack
from components.train import compiling, feed, state
from components.train.distributed.ranks import Group
from components.train.step import Step

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
            found.averages.update(found.weights, found.averages.shares(8 * turn, 8))
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


@pytest.mark.parametrize("in_one", [True, False])
def test_starting_again_is_becoming_a_fresh_state(packs, monkeypatch, in_one):
    wanted = leaves(copy.deepcopy(begun(packs, monkeypatch, in_one=in_one, moved=False).pack()))
    moved, fresh = (begun(packs, monkeypatch, in_one=in_one, moved=each) for each in (True, False))
    moved.restart(fresh)
    with torch.no_grad():
        for weight in fresh.weights:
            weight.zero_()
    found = leaves(moved.pack())
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        assert torch.equal(found[name], value) if isinstance(value, torch.Tensor) else found[name] == value, name


# --- memory ----------------------------------------------------------------------------------------------------


class Peak(TorchDispatchMode):
    """The most bytes that tensors made inside it took at once."""

    def __init__(self):
        super().__init__()
        self.held, self.most, self.known = 0, 0, set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        old = {each.untyped_storage()._cdata for each in tree_leaves((args, kwargs)) if isinstance(each, torch.Tensor)}
        for each in tree_leaves(out):
            if isinstance(each, torch.Tensor):
                storage = each.untyped_storage()
                if storage._cdata not in self.known | old:
                    self._add(storage)
        return out

    def _add(self, storage):
        place, size = storage._cdata, storage.nbytes()
        self.known.add(place)
        self.held += size
        self.most = max(self.most, self.held)
        weakref.finalize(storage, self._drop, place, size)

    def _drop(self, place, size):
        self.known.discard(place)
        self.held -= size


@pytest.mark.parametrize("network", [UNET, COMPACT, DIT | {"width": 32}], ids=lambda network: network["kind"])
def test_an_attempt_takes_the_memory_of_a_step_of_many_pieces(packs, monkeypatch, network):
    monkeypatch.setattr(state, "in_one_vector", lambda device: False)
    params = tiny(network=network, onnx=network is COMPACT, micro_batch=4)
    pixels = tensors.Pixels(packs[0])
    rows = torch.tensor(list(pack.read_split(packs[1], "train")))
    begun = state.start(params, pixels, ALONE)
    begun.optimiser.asks = False  # as on a GPU
    step, source = Step(params, begun, ALONE), feed.Feed(params, pixels, rows, ALONE)
    before = copy.deepcopy(begun.pack())
    with Peak() as tried:
        step._attempt(4)
    after = begun.pack()
    assert all(torch.equal(after["network"][name], weight) for name, weight in before["network"].items())
    assert not after["optimiser"]["state"]
    batches = [source.batch(place) for place in (0, 8)]
    with Peak() as taken:
        for batch in batches:
            step(batch, (False, False))
    assert taken.most <= tried.most < 1.5 * taken.most


@pytest.mark.parametrize(("network", "wanted"), [(UNET, torch.contiguous_format), (COMPACT, torch.channels_last)])
def test_a_gpu_s_network_lies_as_its_kernels_want_it_and_when_compiled_channels_last(
    packs, monkeypatch, network, wanted
):
    monkeypatch.setattr(state, "in_one_vector", lambda device: False)
    found = state.start(tiny(network=network, onnx=network is COMPACT, muon_rate=0.02), tensors.Pixels(packs[0]), ALONE)
    kernels = [weight for weight in found.learning if weight.dim() == 4 and min(weight.shape[1:]) > 1]
    assert kernels and all(weight.is_contiguous(memory_format=wanted) for weight in kernels)
    for weight in found.learning:
        weight.grad = torch.ones_like(weight)
    found.optimiser.step()
    before = copy.deepcopy(found.pack())
    found.restride()
    for weight in kernels:
        moments = [each for each in found.optimiser.state[weight].values() if each.shape == weight.shape]
        assert moments
        for each in (weight, *moments):
            assert each.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(found.pack(), before, rtol=0, atol=0)


def test_what_compilers_make_stays_in_the_checkout_unless_its_user_has_said_otherwise(tmp_path, monkeypatch):
    monkeypatch.setenv("TRITON_CACHE_DIR", "/elsewhere")
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    compiling.keep_in(tmp_path)
    found = os.environ["TORCHINDUCTOR_CACHE_DIR"], os.environ["TRITON_CACHE_DIR"]
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR")
    assert found == (str(tmp_path / "torch"), "/elsewhere")
