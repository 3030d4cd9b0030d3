"""What begins from a given picture, held to exactly known answers: D of a Gaussian is a formula."""

import pytest
import torch

from components.diffusion import samplers, stochastic
from components.diffusion.given import Given

MEAN, SPREAD = 0.25, 0.5
SIGMAS = samplers.log_spaced(24, 0.002, 80.0)
PICTURES = torch.linspace(-1, 1, 2 * 3 * 4 * 4).view(2, 3, 4, 4)
LEFT = torch.tensor([1.0, 1, 0, 0]).expand(1, 1, 4, 4)


def denoise(x, sigma):
    """E(image | x) of images whose values are normal numbers of MEAN and SPREAD."""
    return MEAN + (x - MEAN) * SPREAD**2 / (SPREAD**2 + sigma**2)


def drawn(name, given, seed=0):
    made = torch.Generator().manual_seed(seed)
    levels = given.levels(SIGMAS)
    unit = torch.randn(given.images.shape, generator=made)
    denoiser, x = given.begin(denoise, unit, levels[0])

    def fresh(step):
        return torch.randn(unit.shape, generator=torch.Generator().manual_seed(1000 + step))

    return samplers.draw(name, denoiser, x, levels, lambda *_: None, fresh)


@pytest.mark.parametrize("name", samplers.SAMPLERS)
def test_what_the_mask_keeps_comes_out_as_it_was_and_the_rest_does_not(name):
    found = drawn(name, Given(PICTURES, 1.0, LEFT))
    assert torch.equal(found[..., 2:], PICTURES[..., 2:])
    assert (found[..., :2] - PICTURES[..., :2]).abs().mean() > 0.1


@pytest.mark.parametrize("name", ["euler", "heun", "dpmpp_2m", "unipc", "ddpm", "dpmpp_2m_sde", "churn"])
def test_what_is_drawn_anew_is_drawn_as_if_there_were_no_picture(name):
    """Values are independent here, so what is kept says nothing of the rest."""
    found, without = (drawn(name, Given(PICTURES, 1.0, anew)) for anew in (LEFT, torch.ones_like(LEFT)))
    torch.testing.assert_close(found[..., :2], without[..., :2])


def test_what_is_drawn_in_repeated_steps_has_the_spread_of_the_images():
    many = torch.zeros(64, 3, 16, 16)
    fresh = lambda n: torch.randn(many.shape, generator=torch.Generator().manual_seed(n))  # noqa: E731
    found = stochastic.resampled(denoise, 80.0 * fresh(10**6), SIGMAS, lambda *_: None, fresh, 4)
    once = samplers.draw("euler", denoise, 80.0 * fresh(10**6), SIGMAS, lambda *_: None, fresh)
    assert abs(found.mean() - MEAN) < 0.02
    assert abs(found.std() - SPREAD) < abs(once.std() - SPREAD) + 0.02
    one = stochastic.resampled(denoise, 80.0 * fresh(10**6), SIGMAS, lambda *_: None, fresh, 1)
    assert torch.equal(one, once)


def test_the_lower_the_strength_the_nearer_to_the_picture():
    away = [(drawn("heun", Given(PICTURES, strength)) - PICTURES).abs().mean() for strength in (0.1, 0.4, 0.6, 1.0)]
    assert away == sorted(away)
    assert away[0] < 0.02 < 0.3 < away[-1]


@pytest.mark.parametrize(("strength", "steps"), [(1.0, 24), (0.5, 12), (0.51, 13), (0.01, 1), (1 / 24, 1)])
def test_strength_is_the_share_of_the_steps_from_the_end(strength, steps):
    assert Given(PICTURES, strength).levels(SIGMAS) == tuple(SIGMAS[-steps:])


def test_a_part_of_the_pictures():
    some = Given(PICTURES, 0.5, LEFT).of([1, 1])
    assert torch.equal(some.images, PICTURES[[1, 1]])
    assert some.anew is LEFT
