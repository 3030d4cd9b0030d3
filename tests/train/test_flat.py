"""Weights in one vector: the network is the same network, and learns the same."""

import copy
import itertools

import pytest
import torch
from train_fixtures import COMPACT, UNET, tiny

from components.diffusion.objective import objective
from components.networks import registry
from components.train.optim import flat


def network(kind):
    torch.manual_seed(0)
    built = registry.build(
        tiny(network=kind, onnx=kind is COMPACT).network, schedule_name="cosine", shape=(3, 8, 8), classes=3
    )
    for weight in built.parameters():  # what starts at zero would hide its neighbours' gradients
        torch.nn.init.normal_(weight, std=0.05)
    return built


def gradients(built):
    source = torch.Generator().manual_seed(1)
    image, noise = (torch.randn(4, 3, 8, 8, generator=source) for _ in range(2))
    sigma = torch.rand(4, generator=source) + 0.1
    losses = objective("v", "cosine").loss(built, image, noise, sigma, {"label": torch.tensor([0, 1, 2, 3])}, "plain")
    losses.mean().backward()


@pytest.mark.parametrize("kind", [UNET, COMPACT], ids=lambda kind: kind["kind"])
def test_a_flat_network_learns_what_it_learns_otherwise(kind):
    plain, other = network(kind), network(kind)
    vector = flat.flatten(other.parameters())
    one = torch.optim.AdamW(plain.parameters(), lr=1e-2)
    two = torch.optim.AdamW([vector], lr=1e-2, fused=True)
    for _ in range(3):
        gradients(plain)
        gradients(other)
        norms = [torch.nn.utils.clip_grad_norm_(part, 0.5) for part in (plain.parameters(), [vector])]
        torch.testing.assert_close(*norms)
        one.step()
        two.step()
        plain.zero_grad()
        vector.grad.zero_()
    for (name, a), b in zip(plain.named_parameters(), other.parameters(), strict=True):
        assert a.stride() == b.stride(), name
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4, msg=name)


def test_a_gradient_goes_into_the_vector_and_the_vector_into_the_weights():
    built = network(COMPACT)
    before = {name: weight.detach().clone() for name, weight in built.named_parameters()}
    vector = flat.flatten(built.parameters())
    assert all(torch.equal(before[name], weight) for name, weight in built.named_parameters())
    gradients(built)
    total = sum(float(weight.grad.square().sum()) for weight in built.parameters())
    assert float(vector.grad.square().sum()) == pytest.approx(total, rel=1e-4)
    assert total > 0
    with torch.no_grad():
        vector.fill_(2.0)
    assert all(bool((weight == 2).all()) for weight in built.parameters())


def test_weights_lie_beside_each_other_and_never_over():
    built = network(UNET)
    flat.flatten(built.parameters())
    spans = sorted((w.storage_offset(), w.storage_offset() + w.numel()) for w in built.parameters())
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(spans))
    assert all(start % 16 == 0 for start, _ in spans)


def test_another_vector_is_read_as_the_weights_are():
    built = network(COMPACT)
    vector = flat.flatten(built.parameters())
    for weight in built.parameters():
        assert torch.equal(flat.like(vector, weight), weight)


def test_parted_weights_are_free_of_the_vector_and_of_gradients():
    built = network(COMPACT)
    vector = flat.flatten(built.parameters())
    before = copy.deepcopy(built.state_dict())
    flat.part(built)
    with torch.no_grad():
        vector.zero_()
    assert all(torch.equal(before[name], weight) for name, weight in built.state_dict().items())
    assert all(weight.grad is None for weight in built.parameters())
