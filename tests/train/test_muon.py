"""Muon: matrices move by about the orthogonal factor of their momentum, the rest by AdamW."""

import math
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load
from train_fixtures import COMPACT, DIT, UNET, run, tiny

from components.networks import registry
from components.train import guards, state
from components.train.optim import flat, muon
from components.train.optim.muon import Muon

pytestmark = pytest.mark.numeric


def matrix(rows, columns, seed=0):
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


def textbook(x):
    """The iteration as it is written: Jordan et al. 2024."""
    a, b, c = muon.COEFFICIENTS
    x = x.double() / x.double().norm()
    for _ in range(muon.STEPS):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x


@settings(max_examples=20)
@given(rows=st.integers(1, 48), columns=st.integers(1, 48), seed=st.integers(0, 99), scale=st.floats(1e-6, 1e6))
def test_it_is_the_textbook_iteration_whatever_shape_and_scale(rows, columns, seed, scale):
    x = matrix(rows, columns, seed)
    wanted = textbook(x) if rows <= columns else textbook(x.T).T
    torch.testing.assert_close(muon.orthogonal([scale * x])[0].double(), wanted, rtol=1e-3, atol=2e-3)


def test_singular_vectors_stay_and_singular_values_come_near_one():
    left, values, right = torch.linalg.svd(matrix(32, 288), full_matrices=False)
    found = muon.orthogonal([left @ torch.diag(values) @ right])[0]
    turned = left.T @ found @ right.T
    assert float((turned - torch.diag(turned.diagonal())).abs().max()) < 1e-3
    assert 0.6 < float(turned.diagonal().min()) <= float(turned.diagonal().max()) < 1.25


def test_matrices_of_one_shape_do_not_touch_each_other():
    several = [matrix(16, 40, 1), matrix(40, 16, 2), 1e4 * matrix(16, 40, 3), torch.zeros(16, 40)]
    for each, found in zip(several, muon.orthogonal(several), strict=True):
        torch.testing.assert_close(found, muon.orthogonal([each])[0])
    assert not found.any()  # no gradient, no move


@pytest.mark.parametrize("kind", [UNET, COMPACT], ids=lambda kind: kind["kind"])
def test_it_moves_matrices_of_the_blocks_and_neither_the_ends_nor_vectors(kind):
    network = registry.build(
        tiny(network=kind, onnx=kind is COMPACT).network, schedule_name="cosine", shape=(3, 8, 8), classes=3
    )
    names = {id(weight): name for name, weight in network.named_parameters()}
    found = [names[id(weight)] for weight in muon.matrices(network)]
    assert found
    assert all("block" in name or name.startswith(("down", "up", "shrink", "grow")) for name in found)
    assert len(set(found)) == len(found)


def test_tables_and_timestep_mlps_in_the_blocks_of_a_dit_are_left_to_adamw():
    kind = DIT | {"width": 32}
    network = registry.build(tiny(network=kind).network, schedule_name="cosine", shape=(3, 8, 8), classes=40)
    names = {id(weight): name for name, weight in network.named_parameters()}
    found = {names[id(weight)] for weight in muon.matrices(network)}
    inside = {name for name, weight in network.named_parameters() if "blocks." in name and weight.dim() > 1}
    assert {name.split(".", 2)[2] for name in inside - found} == {
        "norm1.emb.timestep_embedder.linear_1.weight", "norm1.emb.timestep_embedder.linear_2.weight",
        "norm1.emb.class_embedder.embedding_table.weight",
    }  # fmt: skip
    assert "transformer_blocks.0.attn1.to_q.weight" in found


def steps(optimiser, weights, gradients):
    for gradient in gradients:
        for weight, own in zip(weights, gradient, strict=True):
            weight.grad.copy_(own)
        optimiser.step()


@pytest.mark.parametrize("sizes", [(1, 1, 2), (2, 0, 2), (0, 2, 2), (1, 3, 0)])
def test_weights_in_one_vector_move_as_they_do_by_themselves(sizes):
    """In all groups: AdamW's with weight decay and without, and Muon's."""
    shapes = [(24,), (5, 7), (32, 16, 3, 3), (16, 16, 3, 3)]
    start = [torch.randn(shape, generator=torch.Generator().manual_seed(1)) for shape in shapes]
    gradients = [[torch.randn(s, generator=torch.Generator().manual_seed(9 + i)) for s in shapes] for i in range(4)]

    def fresh():
        out = [torch.nn.Parameter(each.clone()) for each in start]
        out[2].data = out[2].data.to(memory_format=torch.channels_last)
        return out

    def by(decayed, kept, moved):
        return Muon(decayed, moved, no_decay=kept, lr=1e-2, muon_rate=3e-2, weight_decay=0.1, fused=True)

    def in_one(weights):
        pieces, matrices = flat.parts(vector, weights, sizes[:2], sizes[2])
        return by(*([piece] if size else [] for piece, size in zip(pieces, sizes[:2], strict=True)), matrices)

    plain, other = fresh(), fresh()
    for weight in plain:
        weight.grad = torch.zeros_like(weight)
    first, second = sizes[0], sizes[0] + sizes[1]
    one = by(plain[:first], plain[first:second], plain[second:])
    steps(one, plain, gradients)
    vector = flat.flatten(other)
    two = in_one(other)
    steps(two, other, gradients[:2])
    # Stored as the state of single weights, and read again by an optimiser over the vector.
    counts = [size for size in sizes if size]
    saved = flat.spread(two.state_dict(), other, counts)
    again = in_one(other)
    again.load_state_dict(flat.gathered(saved, other, vector, counts))
    steps(again, other, gradients[2:])
    for a, b in zip(plain, other, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
    first, last = one.state_dict(), flat.spread(again.state_dict(), other, counts)
    assert first["param_groups"] == last["param_groups"]
    assert first["state"].keys() == last["state"].keys()
    for number, moments in first["state"].items():
        for name, value in moments.items():
            torch.testing.assert_close(last["state"][number][name], value, rtol=1e-5, atol=1e-6, msg=f"{number} {name}")


@pytest.mark.parametrize("kind", [UNET, COMPACT, DIT | {"width": 32}], ids=lambda kind: kind["kind"])
def test_weight_decay_reaches_matrices_and_kernels_alone(kind):
    """Without a gradient nothing else moves a weight."""
    params = tiny(network=kind, onnx=kind is COMPACT, weight_decay=0.5, learning_rate=0.1, muon_rate=0.2)
    network = registry.build(params.network, schedule_name="cosine", shape=(3, 8, 8), classes=3)
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(1)
            weight.grad = torch.zeros_like(weight)
    before = {name: weight.detach().clone() for name, weight in network.named_parameters()}
    decayed, kept, moved = ([*group.values()] for group in state.in_groups(network, params))
    Muon(decayed, moved, no_decay=kept, lr=0.1, muon_rate=0.2, weight_decay=0.5).step()
    tables = {f"{name}.weight" for name, part in network.named_modules() if isinstance(part, torch.nn.Embedding)}
    assert tables
    shares = {name: float((weight.detach() / before[name]).mean()) for name, weight in network.named_parameters()}
    still = {name for name, share in shares.items() if share == 1}
    assert still == tables | {name for name, weight in before.items() if weight.dim() == 1}
    rest = {round(share, 3) for name, share in shares.items() if name not in still}
    assert rest == {0.95, 0.9}, "AdamW's and Muon's, each by its learning rate"


@pytest.mark.parametrize("shape", [(24, 40), (40, 24)])
def test_matrices_go_where_torchs_own_muon_takes_them(shape):
    """Which rounds to bf16."""
    ours, theirs = (torch.nn.Parameter(matrix(*shape)) for _ in range(2))
    options = {"weight_decay": 0.1, "momentum": muon.MOMENTUM, "nesterov": True, "ns_steps": muon.STEPS}
    ours_by = Muon([torch.nn.Parameter(torch.ones(1))], [ours], lr=0.1, muon_rate=0.02, weight_decay=0.1)
    theirs_by = torch.optim.Muon([theirs], lr=0.02, **options)
    for turn in range(6):
        ours.grad = matrix(*shape, seed=turn + 1)
        theirs.grad = ours.grad.clone()
        ours_by.step()
        theirs_by.step()
    moved, wanted = (each.detach() - matrix(*shape) for each in (ours, theirs))
    assert float((moved - wanted).norm() / wanted.norm()) < 0.02


@settings(max_examples=20)
@given(shapes=st.lists(st.tuples(st.integers(1, 64), st.integers(1, 64)), max_size=12), size=st.integers(1, 4))
def test_every_matrix_is_the_work_of_one_rank(shapes, size):
    found = muon.shares(shapes, size)
    assert len(found) == size
    assert sorted(at for own in found for at in own) == list(range(len(shapes)))


@pytest.mark.parametrize("fused", [False, True])
def test_a_step_that_is_not_finite_moves_nothing(fused):
    weights = [torch.nn.Parameter(matrix(16, 20)), torch.nn.Parameter(torch.ones(4))]
    for weight in weights:
        weight.grad = torch.ones_like(weight)
    optimiser = Muon(weights[1:], weights[:1], lr=0.1, muon_rate=0.1, fused=fused)
    row = torch.ones(19, dtype=torch.float64)
    guards.move(optimiser, row)
    before = [weight.detach().clone() for weight in weights]
    moment = optimiser.state[weights[0]]["momentum_buffer"].clone()
    weights[0].grad.fill_(float("nan"))
    row[16] = float("nan")
    guards.move(optimiser, row)
    assert all(torch.equal(a, b) for a, b in zip(before, weights, strict=True))
    assert torch.equal(moment, optimiser.state[weights[0]]["momentum_buffer"])


def test_a_device_leaves_everything_as_it_is_without_asking_the_host():
    """The way of CUDA, here on the CPU: what is not finite meets a mask."""
    weight = torch.nn.Parameter(matrix(16, 20))
    weight.grad = torch.ones_like(weight)
    optimiser = Muon([torch.nn.Parameter(torch.ones(1))], [weight], lr=0.1, muon_rate=0.1)
    with torch.no_grad():
        optimiser._update(optimiser.param_groups[1], torch.tensor(False))
    moved, moment = weight.detach().clone(), optimiser.state[weight]["momentum_buffer"].clone()
    assert not torch.equal(moved, matrix(16, 20))
    weight.grad.fill_(float("nan"))
    with torch.no_grad():
        optimiser._update(optimiser.param_groups[1], torch.tensor(True))
    assert torch.equal(moved, weight)
    assert torch.equal(moment, optimiser.state[weight]["momentum_buffer"])


@pytest.mark.slow(14)
def test_two_ranks_share_the_work_and_agree_with_one(tmp_path, packs):
    """The updates are worked out by halves; gradients are means of halves, so sums are in another order."""
    found = [run(tmp_path / str(size), tiny(images=32, ranks=size), packs)[1] for size in (1, 2)]
    one, two = (load(files["unet/diffusion_pytorch_model.safetensors"]) for files in found)
    for name in one:
        torch.testing.assert_close(one[name], two[name], rtol=0, atol=2e-3, msg=name)


@pytest.mark.parametrize("shape", [(24, 40), (40, 24), (32, 16, 3, 3), (16, 32, 1, 1)])
@pytest.mark.parametrize("last", [False, True])
def test_the_few_kernels_of_a_gpu_move_matrices_where_those_of_the_cpu_do(shape, last):
    host, device = (torch.nn.Parameter(matrix(shape[0], math.prod(shape[1:])).view(shape)) for _ in range(2))
    if last and len(shape) == 4:
        device.data = device.data.to(memory_format=torch.channels_last)
    moved = []
    for weight, asks in ((host, True), (device, False)):
        optimiser = Muon([torch.nn.Parameter(torch.ones(1))], [weight], lr=0.1, muon_rate=0.02, weight_decay=0.1)
        optimiser.asks = asks
        for turn in range(4):
            weight.grad = matrix(shape[0], math.prod(shape[1:]), seed=turn + 1).view(shape)
            with torch.no_grad():
                optimiser._update(optimiser.param_groups[1], None if asks else torch.tensor(False))
        moved.append((weight.detach(), optimiser.state[weight]["momentum_buffer"], optimiser.state[weight]["step"]))
    for one, other in zip(*moved, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.slow(4)
def test_a_step_does_not_import_torchs_compiler():
    code = """if True:
        import sys, torch
        from components.train.optim.muon import Muon
        weight = torch.nn.Parameter(torch.ones(16, 16))
        weight.grad = torch.ones(16, 16)
        for fused in (False, True):
            optimiser = Muon([torch.nn.Parameter(torch.ones(1))], [weight], lr=0.1, muon_rate=0.1, fused=fused)
            optimiser.step()
            optimiser.load_state_dict(optimiser.state_dict())
        optimiser.zero_grad()
        print("torch._dynamo" in sys.modules)
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
