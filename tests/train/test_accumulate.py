"""Pieces of a batch add up to its gradient, the largest piece is found, and compiling is decided soberly."""

import pytest
import torch
from torch import nn

from components.base.errors import UserError
from components.train import accumulate, compiling
from components.train.distributed.ranks import Group

pytestmark = pytest.mark.numeric

ALONE = Group(0, 1, torch.device("cpu"))


class OnGpu(Group):
    """A rank that believes it has a GPU."""

    def sum(self, numbers):
        return numbers


CUDA = OnGpu(0, 1, torch.device("cuda"))


def gradients(micro, *, scale=1.0):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(6, 8), nn.SiLU(), nn.Linear(8, 1))
    entry = torch.randn(12, 6)
    calls = []

    def losses(piece):
        calls.append(piece)
        return network(entry[piece]).square().flatten()

    found = accumulate.backward(network, losses, 12, micro, lambda loss: loss * scale)
    return found, torch.cat([weight.grad.flatten() for weight in network.parameters()]), calls


@pytest.mark.parametrize("micro", [1, 4, 5, 11])
def test_pieces_give_the_whole_batchs_losses_and_gradient(micro):
    losses, gradient, calls = gradients(micro)
    whole_losses, whole_gradient, _ = gradients(12)
    assert len(calls) == -(-12 // micro)
    torch.testing.assert_close(losses, whole_losses)
    torch.testing.assert_close(gradient, whole_gradient)
    assert not losses.requires_grad


def test_one_piece_is_the_mean_bit_for_bit():
    _, gradient, calls = gradients(64)
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(6, 8), nn.SiLU(), nn.Linear(8, 1))
    network(torch.randn(12, 6)).square().flatten().mean().backward()
    assert torch.equal(gradient, torch.cat([weight.grad.flatten() for weight in network.parameters()]))
    assert calls == [slice(0, 12)]


def test_the_scale_of_fp16_reaches_every_piece():
    _, gradient, _ = gradients(5)
    _, scaled, _ = gradients(5, scale=1024.0)
    torch.testing.assert_close(scaled, 1024 * gradient)


def out_of_memory_above(most, tried):
    def attempt(count):
        tried.append(count)
        if count > most:
            raise torch.OutOfMemoryError("CUDA out of memory")

    return attempt


@pytest.mark.parametrize(
    ("share", "most", "tries"),
    [(64, 100, [64]), (64, 20, [64, 32, 16]), (48, 40, [48, 32]), (48, 5, [48, 32, 16, 8, 4]), (3, 1, [3, 2, 1])],
)
def test_auto_halves_until_it_fits(share, most, tries):
    tried = []
    assert accumulate.size("auto", share, CUDA, out_of_memory_above(most, tried)) == tries[-1]
    assert tried == tries


def test_when_one_image_does_not_fit_it_says_so():
    with pytest.raises(UserError, match="one image"):
        accumulate.size("auto", 4, CUDA, out_of_memory_above(0, []))


def test_a_number_is_taken_as_it_is_and_the_cpu_takes_all():
    def never(count):
        pytest.fail("nothing is tried")

    assert accumulate.size(8, 32, CUDA, never) == 8
    assert accumulate.size(64, 32, ALONE, never) == 32
    assert accumulate.size("auto", 32, ALONE, never) == 32


# --- compiling -------------------------------------------------------------------------------------------------


class Network(nn.Module):
    """Says when it is compiled."""

    compiled = False

    def compile(self, **_):
        self.compiled = True


@pytest.mark.parametrize(
    ("wanted", "seconds", "on", "compiled"),
    [
        ("auto", 600, False, False), ("auto", 880, False, False), ("auto", 960, False, True),
        (True, 1, False, True), (False, 10**6, False, False), ("auto", 600, True, True),
    ],
)  # fmt: skip
def test_on_the_cpu_it_compiles_when_the_budget_pays_for_it(wanted, seconds, on, compiled, monkeypatch):
    monkeypatch.setattr(compiling, "possible", lambda device: True)
    network = Network()
    decided = compiling.Compiling(wanted, network, ALONE.device, on=on, operations=lambda: seconds * compiling.CPU_RATE)
    assert network.compiled == decided.on == compiled


class DiTTransformer2DModel(Network):
    """Pays sooner, as it compiles faster."""


@pytest.mark.parametrize(("kind", "left", "compiled"), [
    (Network, 1000, False), (Network, 2600, False), (Network, 2800, True), (Network, 10_000, True),
    (DiTTransformer2DModel, 880, False), (DiTTransformer2DModel, 950, True),
])  # fmt: skip
def test_on_cuda_measured_steps_decide(kind, left, compiled, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(compiling.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)
    network = kind()
    decided = compiling.Compiling("auto", network, CUDA.device, on=False, operations=lambda: 0)
    for step in range(1, 40):
        clock[0] += 0.1
        decided.step(step, left)
        assert not network.compiled or step >= 25
    assert network.compiled == decided.on == compiled


def test_without_a_compiler_auto_goes_on_and_true_says_what_is_missing(monkeypatch):
    monkeypatch.setattr(compiling, "possible", lambda device: False)
    network = Network()
    compiling.Compiling("auto", network, ALONE.device, on=False, operations=lambda: 1e18)
    assert not network.compiled
    with pytest.raises(UserError, match=r"C\+\+ compiler"):
        compiling.Compiling(True, network, ALONE.device, on=False, operations=lambda: 1)
