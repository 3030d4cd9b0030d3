"""A captured step does what a step does: shown by a tape, which stands for a CUDA graph where there is no GPU.

The tape notes every operation of torch and its tensors, and replays them on the same memory.  So a number of the host
that changes from step to step, and went into the capture as it was, shows as a wrong result; and a question of the host
for a number of the device is an error, as it is in a capture.
"""

import copy

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from train_fixtures import AUGMENT, CLASSES, COMPACT, DIT, UNET, tiny

from components.dataset import counters, tensors
from components.samples import pack
from components.train import aims, captured, feed, state
from components.train.accumulate import OutOfMemory
from components.train.distributed.ranks import Group
from components.train.step import Step

ALONE = Group(0, 1, torch.device("cpu"))


class Tape(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.calls = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        if name in ("_local_scalar_dense", "nonzero", "equal"):
            raise RuntimeError(f"{name}: a capture cannot wait for the device")
        out = func(*args, **(kwargs or {}))
        self.calls.append((func, args, kwargs or {}, out))
        return out

    def replay(self):
        with torch._C._AutoDispatchBelowADInplaceOrView():  # as kernels: there is no gradient to follow
            for func, args, kwargs, out in self.calls:
                again = func(*args, **kwargs)
                for old, new in zip(tree_leaves(out), tree_leaves(again), strict=True):
                    if isinstance(old, torch.Tensor) and old.data_ptr() != new.data_ptr():
                        old.copy_(new)


def taped(body):
    before = {}
    for each in (taped.state.network, *taped.state.optimiser.state.values(), taped.state.averages):
        held = each if isinstance(each, dict) else each.state_dict()
        before |= {id(value): (value, value.clone()) for value in tree_leaves(held) if isinstance(value, torch.Tensor)}
    with Tape() as tape:
        result = body()
    for value, old in before.values():  # a capture runs nothing
        value.detach().copy_(old)
    return tape.replay, result


@pytest.fixture
def as_on_a_gpu(monkeypatch):
    monkeypatch.setattr(state, "in_one_vector", lambda device: False)
    monkeypatch.setattr(feed.Feed, "_fits", lambda self: True)
    monkeypatch.setattr(captured, "possible", lambda step: True)
    monkeypatch.setattr(captured, "capture", taped)
    monkeypatch.setattr(counters, "_root", torch.sqrt)  # numpy's is none of torch's operations


def consistency(begun):
    """The aim of `stillroom distil`, which changes on the way: the gap halves after 32 of 64 images."""
    tuning = aims.Tuning(gap=0.25, halvings=1, guidance=1.5, autoguidance=1.0, sigmas=(80.0, 1.0), classes=CLASSES)
    return aims.Consistency(tuning, begun.objective, begun.network, copy.deepcopy(begun.network))


def steps(packs, aim=lambda begun: None, **params):
    params = tiny(batch=4, images=64, warmup_images=40, ema_half_lives=[0.1, 0.2], ema_snapshots=1, **params)
    pixels, splits = packs
    pixels = tensors.Pixels(pixels)
    begun = state.start(params, pixels, ALONE)
    begun.optimiser.asks = False
    taped.state = begun
    rows = torch.tensor(list(pack.read_split(splits, "train")))
    return captured.Steps(Step(params, begun, ALONE, aim(begun)), feed.Feed(params, pixels, rows, ALONE))


def walk(taken, first, last):
    rows = []
    for at in range(first, last):
        rows.append(taken(4 * at, None, (at == 6, False)).clone())
        taken.step.state.images_seen += 4
    return torch.stack(rows)


@pytest.mark.parametrize("augment", [AUGMENT, {**AUGMENT, "horizontal_flip": 0.5, "rotate": 10.0}], ids=["", "augment"])
@pytest.mark.parametrize(
    "network",
    [COMPACT, pytest.param(UNET, marks=pytest.mark.slow(3)), pytest.param(DIT, marks=pytest.mark.slow(3))],
    ids=lambda network: network["kind"],
)
def test_replayed_steps_move_what_steps_move(packs, as_on_a_gpu, monkeypatch, network, augment):
    chosen = {"network": network, "onnx": True, "augment": augment, "muon_rate": 0.02, "micro_batch": 2}
    replayed = steps(packs, **chosen)
    found = walk(replayed, 0, 9)
    assert replayed._graph is not None
    monkeypatch.setattr(captured, "possible", lambda step: False)
    plain = steps(packs, **chosen)
    wanted = walk(plain, 0, 9)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
    assert found[:, -2].tolist() == [at == 6 for at in range(9)], "a signal is a number of its step"
    one, other = replayed.step.state.pack(), plain.step.state.pack()
    for part in ("network", "averages"):
        torch.testing.assert_close(one[part], other[part], rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(one["optimiser"]["state"], other["optimiser"]["state"], rtol=1e-3, atol=1e-5)


def test_replayed_steps_of_a_distillation_move_what_its_steps_move(packs, as_on_a_gpu, monkeypatch):
    augment = {**AUGMENT, "rotate": 9.0, "label": True}
    chosen = {"network": COMPACT, "onnx": True, "aim": consistency, "augment": augment}
    replayed = steps(packs, **chosen)
    found = walk(replayed, 0, 11)
    assert replayed._graph is not None
    monkeypatch.setattr(captured, "possible", lambda step: False)
    plain = steps(packs, **chosen)
    torch.testing.assert_close(found, walk(plain, 0, 11), rtol=1e-4, atol=1e-4)
    one, other = replayed.step.state.pack(), plain.step.state.pack()
    torch.testing.assert_close(one["network"], other["network"], rtol=1e-3, atol=1e-5)


def test_a_replayed_step_that_is_not_finite_moves_nothing(packs, as_on_a_gpu):
    taken = steps(packs, muon_rate=0.02)
    walk(taken, 0, 5)
    before = copy.deepcopy(taken.step.state.pack()["network"])
    taken.feed._held = [held.float() for held in taken.feed._held]
    taken.forget()
    walk(taken, 5, 9)
    assert taken._graph is not None
    still = copy.deepcopy(taken.step.state.pack()["network"])
    assert any(not torch.equal(still[name], before[name]) for name in still)
    taken.feed._held[0].fill_(float("nan"))
    assert not walk(taken, 9, 11).isfinite().all()
    after = taken.step.state.pack()
    assert all(torch.equal(after["network"][name], still[name]) for name in still)
    moments = [value for value in torch.utils._pytree.tree_leaves(after["optimiser"]) if torch.is_tensor(value)]
    assert all(value.isfinite().all() for value in moments)


def test_a_network_that_cannot_be_captured_is_trained_kernel_by_kernel(packs, as_on_a_gpu, caplog):
    taken = steps(packs)
    network, forward = taken.step.state.network, taken.step.state.network.forward
    network.forward = lambda sample, *args, **others: forward(sample * sample.isfinite().all().item(), *args, **others)
    walk(taken, 0, 6)
    assert taken._graph is None
    assert caplog.text.count("no CUDA graph of a step (_local_scalar_dense") == 1


def test_a_graph_that_memory_does_not_hold_is_done_without(packs, as_on_a_gpu, monkeypatch, caplog):
    def full(body):
        raise OutOfMemory("memory is full in a step")

    monkeypatch.setattr(captured, "capture", full)
    walk(steps(packs), 0, 6)
    assert caplog.text.count("no CUDA graph of a step (memory is full in a step)") == 1


def test_a_training_that_went_back_is_captured_anew(packs, as_on_a_gpu):
    taken = steps(packs)
    walk(taken, 0, 4)
    saved = copy.deepcopy(taken.step.state.pack())
    walk(taken, 4, 8)
    wanted = taken.step.state.pack()
    taken.step.state.unpack(saved)
    taken.forget()
    assert taken._graph is None
    walk(taken, 4, 8)
    torch.testing.assert_close(taken.step.state.pack()["network"], wanted["network"], rtol=1e-4, atol=1e-6)
