"""The noise process: exact identities, agreement with diffusers, and a denoiser whose answer is known."""

import pytest
import torch
from diffusers import DDPMScheduler
from hypothesis import given
from hypothesis import strategies as st

from components import denoiser, diffusion

TIMES = st.integers(0, diffusion.TIMESTEPS - 1)


def normal(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_the_schedule_is_the_one_of_diffusers():
    theirs = DDPMScheduler(beta_schedule="squaredcos_cap_v2").alphas_cumprod
    torch.testing.assert_close(diffusion.alphas_cumprod(), theirs, rtol=1e-6, atol=0)


def test_velocity_and_noisy_images_are_those_of_diffusers():
    scheduler = DDPMScheduler(beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction")
    image, noise, t = normal(0, 5, 3, 4, 4), normal(1, 5, 3, 4, 4), torch.tensor([0, 10, 500, 900, 999])
    torch.testing.assert_close(diffusion.velocity(image, noise, t), scheduler.get_velocity(image, noise, t))
    torch.testing.assert_close(diffusion.add_noise(image, noise, t), scheduler.add_noise(image, noise, t))


@given(t=TIMES, seed=st.integers(0, 1000))
def test_image_and_noise_come_back_from_the_velocity(t, seed):
    image, noise, when = normal(seed, 2, 3, 4, 4), normal(seed + 1, 2, 3, 4, 4), torch.tensor([t, t])
    noisy, velocity = diffusion.add_noise(image, noise, when), diffusion.velocity(image, noise, when)
    torch.testing.assert_close(diffusion.image_from(velocity, noisy, when), image, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(diffusion.noise_from(velocity, noisy, when), noise, rtol=1e-4, atol=1e-4)


@given(t=TIMES)
def test_an_error_of_v_is_an_error_of_the_image_beta_times_as_large(t):
    when = torch.tensor([t])
    alpha, beta = diffusion.shares(when)
    assert float(alpha**2 + beta**2) == pytest.approx(1, abs=1e-6)
    noisy, velocity = normal(0, 1, 3, 4, 4), normal(1, 1, 3, 4, 4)
    shift = diffusion.image_from(velocity + 1, noisy, when) - diffusion.image_from(velocity, noisy, when)
    torch.testing.assert_close(shift, -beta.expand_as(shift), rtol=1e-4, atol=1e-5)


@given(t=TIMES)
def test_a_timestep_is_nearest_to_its_own_sigma(t):
    assert diffusion.timestep_of(float(diffusion.sigmas()[t])) == t


def test_levels_are_centred_on_the_measured_sigmas():
    t = torch.tensor([diffusion.timestep_of(sigma) for sigma in diffusion.SIGMAS])
    assert diffusion.level_of(t).tolist() == list(range(8))
    assert diffusion.level_of(torch.tensor([0, 999])).tolist() == [0, 7]
    for sigma, when in zip(diffusion.SIGMAS, t.tolist(), strict=True):
        assert float(diffusion.sigmas()[when]) == pytest.approx(sigma, rel=0.03)


@pytest.mark.parametrize(("mean", "std"), [(0.0, 0.25), (0.5, 0.1), (-0.3, 0.5)])
@pytest.mark.parametrize("steps", [12, 16, 30])
def test_the_saved_sampler_draws_the_gaussian_that_a_perfect_denoiser_knows(mean, std, steps):
    scheduler = denoiser.scheduler()
    scheduler.set_timesteps(steps)
    x = normal(0, 256, 3, 8, 8)
    for t in scheduler.timesteps:
        alpha, beta = diffusion.shares(t[None])
        image = (mean * beta**2 + alpha * std**2 * x) / (alpha**2 * std**2 + beta**2)
        x = scheduler.step((alpha * x - image) / beta, t, x).prev_sample
    assert float(x.mean()) == pytest.approx(mean, abs=0.02)
    assert float(x.std()) == pytest.approx(std, rel=0.05)
