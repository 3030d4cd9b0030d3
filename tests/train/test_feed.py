"""What a step on a device waits for: nothing is copied from the host but what is told here.

The device is torch's `meta`, which computes shapes and no numbers.  What would make a GPU wait is seen there as well: a
copy from the host, and a question for a number.
"""

import contextlib
from types import SimpleNamespace

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from train_fixtures import AUGMENT, COLOUR, COMPACT, DIT, UNET, tiny

from components.dataset import counters, tensors
from components.samples import pack
from components.train import feed, guards, state
from components.train.distributed.ranks import Group

META = torch.device("meta")


@contextlib.contextmanager
def waits():
    """The names of the operations for which the host of a GPU waits, or the GPU for its host."""
    found = []

    class Copies(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            name = func.overloadpacket.__name__
            places = {each.device for each in (*args, out) if isinstance(each, torch.Tensor) and each.dim()}
            if name in ("_local_scalar_dense", "nonzero") or (name in ("_to_copy", "copy_") and len(places) > 1):
                found.append(name)
            return out

    class Constants(TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            if func in (torch.tensor, torch.as_tensor) and not isinstance(args[0], torch.Tensor):
                found.append(func.__name__)
            return func(*args, **(kwargs or {}))

    with Constants(), Copies():
        yield found


def feeds(packs, monkeypatch, *, held, device=META, **params):
    pixels, splits = packs
    monkeypatch.setattr(feed.Feed, "_fits", lambda self: held)
    params = tiny(batch=4, **params)
    rows = torch.tensor(list(pack.read_split(splits, "train")))
    return feed.Feed(params, tensors.Pixels(pixels), rows, Group(0, 1, device))


MOVED = {**AUGMENT, "rotate": 10.0, "crop": 0.2, "colour": {**COLOUR, "hue": 0.1}}


@pytest.mark.parametrize(
    ("held", "augment", "copies"),
    [(True, AUGMENT, 0), pytest.param(True, MOVED, 0, marks=pytest.mark.slow), (False, AUGMENT, 1)],
)
@pytest.mark.parametrize("network", [COMPACT, UNET, DIT], ids=lambda network: network["kind"])
def test_a_step_copies_the_images_alone_and_not_even_them_where_the_device_holds_them(
    packs, monkeypatch, held, augment, copies, network
):
    source = feeds(packs, monkeypatch, held=held, augment=augment, network=network, onnx=True)
    built = state.build(source.params, source.pixels).to(META)
    objective = source.params.objective_at(0.5)

    def step(place):
        batch = source.batch(place)
        losses = objective.loss(built, batch.image, batch.noise, batch.sigma, batch.condition, source.params.weighting)
        losses.mean().backward()
        norm = torch.nn.utils.clip_grad_norm_(built.parameters(), 1.0)
        return guards.row(losses.detach(), batch.sigma, norm, (True, False))

    step(0)
    with waits() as found:
        row = step(4)
    assert found == ["_to_copy"] * copies
    assert row.device == META


@pytest.mark.parametrize(("device", "free", "held"), [
    ("cuda", 32 * 8 * 8 * 3 * 4, True), ("cuda", 32 * 8 * 8 * 3 * 4 - 1, False), ("cpu", 10**12, False),
])  # fmt: skip
def test_a_gpu_holds_the_images_where_they_take_a_quarter_of_its_free_memory(packs, monkeypatch, device, free, held):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 10**12))
    source = SimpleNamespace(
        group=Group(0, 1, torch.device(device)), rows=torch.arange(32), pixels=tensors.Pixels(packs[0])
    )
    assert feed.Feed._fits(source) == held


def test_images_that_the_device_holds_are_those_of_the_pack(packs, monkeypatch):
    cpu = torch.device("cpu")
    kept, read = (feeds(packs, monkeypatch, held=held, device=cpu) for held in (True, False))
    for place in (0, 4, 8, 40_000):
        one, other = kept.batch(place), read.batch(place)
        assert torch.equal(one.image, other.image) and torch.equal(one.sigma, other.sigma)


def test_the_noise_of_a_batch_takes_as_many_kernels_as_that_of_an_image():
    def kernels(count):
        with Counted() as counted:
            counters.normal(0, torch.arange(count, device=META), (3, 64, 64), META)
        return counted.number

    assert kernels(64) == kernels(1) < 250
    assert kernels(4096) <= 8 * kernels(1), "in pieces, whose memory is bounded"


class Counted(TorchDispatchMode):
    """Counts operations."""

    number = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.number += 1
        return func(*args, **(kwargs or {}))
