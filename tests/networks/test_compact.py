"""The compact U-Net is the denoiser that its docstring says, whatever batch, memory or fold."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from components.diffusion.objective import objective
from components.networks.compact import CompactUNet

pytestmark = pytest.mark.numeric

OBJECTIVE = objective("v", "cosine")


def network(*, awake=True, **changes):
    """A small one; ``awake``: with other than the zeros that some layers begin with."""
    torch.manual_seed(0)
    config = {"sample_size": 8, "in_channels": 3, "widths": [16, 32], "layers": 1, "num_class_embeds": 3, **changes}
    made = CompactUNet(**config).eval().requires_grad_(False)
    if awake:
        for weight in made.parameters():
            weight.add_(0.05 * torch.randn_like(weight))
    return made


def entry(count=3, side=8):
    source = torch.Generator().manual_seed(1)
    return torch.randn(count, 3, side, side, generator=source), torch.tensor([1.0, 400.5, 990.0])[:count]


@settings(deadline=None, max_examples=20)
@given(sigma=st.floats(0.01, 80), skip=st.floats(0.05, 1), image=st.floats(-1, 1), noise=st.floats(-2, 2))
def test_what_the_two_heads_say_is_the_image_above_the_skip_and_the_noise_below(sigma, skip, image, noise):
    net = network(awake=False, skip_sigma=skip)
    net.leave.bias.copy_(torch.tensor([image] * 3 + [noise] * 3))
    x = entry(1)[0] * (1 + sigma)
    far = sigma**2 / (sigma**2 + skip**2)
    wanted = far * image + (1 - far) * (x - sigma * noise)
    found = OBJECTIVE.denoise(net, x, torch.tensor([sigma]), {"label": torch.tensor([0])})
    torch.testing.assert_close(found, wanted, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("fold", [1, 2, 4])
def test_the_answer_is_the_same_in_any_batch_and_memory(fold):
    net, labels = network(fold=fold, widths=[32, 32] if fold == 1 else [32]), torch.tensor([0, 1, 2])
    x, t = entry()
    whole = net(x, t, labels).sample
    assert whole.shape == x.shape
    assert float(whole.std()) > 0.05
    alone = torch.cat([net(x[at : at + 1], t[at : at + 1], labels[at : at + 1]).sample for at in range(3)])
    torch.testing.assert_close(alone, whole, rtol=1e-4, atol=1e-5)
    turned = net(x.contiguous(memory_format=torch.channels_last), t, labels).sample
    torch.testing.assert_close(turned, whole, rtol=1e-4, atol=1e-5)


def test_one_timestep_is_that_of_all():
    net, (x, t) = network(num_class_embeds=None), entry()
    torch.testing.assert_close(net(x, t[1]).sample, net(x, t[1].expand(3)).sample)


def test_noise_level_label_and_every_pixel_are_heard():
    net, (x, t) = network(), entry(1)
    x, label = x.requires_grad_(), torch.tensor([0])
    drawn = net(x, t, label).sample
    assert not torch.allclose(drawn, net(x, t + 300, label).sample, atol=1e-3)
    assert not torch.allclose(drawn, net(x, t, label + 1).sample, atol=1e-4)
    (gradient,) = torch.autograd.grad(drawn[0, 0, 0, 0], x)
    assert bool((gradient != 0).all())  # attention at 8 px and below sees the whole picture


def test_it_is_read_again_as_it_was_written(tmp_path):
    net, (x, t) = network(), entry()
    net.save_pretrained(tmp_path)
    again = CompactUNet.from_pretrained(tmp_path).eval()
    assert torch.equal(again(x, t, torch.tensor([0, 1, 2])).sample, net(x, t, torch.tensor([0, 1, 2])).sample)
