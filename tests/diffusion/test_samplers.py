"""Every sampler draws what an exactly known denoiser stands for, and falls in error as its paper says."""

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from components.diffusion import samplers
from components.diffusion.samplers import SAMPLERS
from components.diffusion.schedule import schedule

ODE = ("ddim", "euler", "heun", "dpmpp_2m", "unipc")
# Steps for 2 % of a spread: reverse diffusion needs hundreds, which Langevin steps mend only in part.
STEPS = {"ddpm": 160, "ddim": 160, "euler": 160, "euler_ancestral": 160, "heun": 24, "dpmpp_2m": 24, "unipc": 24,
         "dpmpp_2m_sde": 40, "churn": 40, "pc_ve": 300, "pc_vp": 300}  # fmt: skip
NAMES = sorted(set(SAMPLERS) - {"consistency"})


def unit(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def noise_like(x):
    return lambda n: unit(*x.shape, seed=1000 + n)


def gaussian(mean, std):
    """D of pixels that are normal."""
    return lambda x, sigma: (mean * sigma**2 + std**2 * x) / (std**2 + sigma**2)


def mixture(parts):
    """D of pixels that are one of several Gaussians, each (share, mean, std)."""

    def denoise(x, sigma):
        logs = [math.log(share) - 0.5 * math.log(std**2 + sigma**2) - (x - mean) ** 2 / (2 * (std**2 + sigma**2))
                for share, mean, std in parts]  # fmt: skip
        shares = torch.stack(logs).softmax(0)
        return sum(w * gaussian(mean, std)(x, sigma) for w, (_, mean, std) in zip(shares, parts, strict=True))

    return denoise


def draw(name, denoise, steps, count=64, kind="log", eta=None, watch=lambda *_: None):
    sigmas = samplers.spaced(kind, steps, schedule("cosine"))
    x = unit(count, 3, 8, 8) * sigmas[0]
    return samplers.draw(name, denoise, x, sigmas, watch, noise_like(x), eta)


def energy_distance(a, b):
    """2 E|a - b| - E|a - a'| - E|b - b'| of two samples of numbers: Szekely and Rizzo 2013, equation 5."""
    a, b = a.flatten(), b.flatten()

    def within(x):
        x = x.sort().values
        rank = torch.arange(1, len(x) + 1, dtype=x.dtype)
        return float(2 * ((2 * rank - len(x) - 1) * x).sum() / (len(x) * (len(x) - 1)))

    both = torch.cat([a, b])
    across = within(both) * len(both) * (len(both) - 1) / 2
    across -= sum(within(x) * len(x) * (len(x) - 1) / 2 for x in (a, b))
    return 2 * across / (len(a) * len(b)) - within(a) - within(b)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("mean", "std"), [(0.0, 0.25), (0.5, 0.1), (-0.3, 0.5)])
def test_it_draws_a_gaussian_with_its_mean_and_spread(name, mean, std):
    x = draw(name, gaussian(mean, std), STEPS[name])
    assert float(x.mean()) == pytest.approx(mean, abs=0.02)
    assert float(x.std()) == pytest.approx(std, rel=0.04)


@pytest.mark.parametrize("name", NAMES)
def test_it_draws_a_mixture(name):
    parts = ((0.3, -0.6, 0.1), (0.7, 0.5, 0.2))
    x = draw(name, mixture(parts), STEPS[name])
    which = torch.rand(x.shape, generator=torch.Generator().manual_seed(7), dtype=torch.float64) < 0.3
    true = torch.where(which, -0.6 + 0.1 * unit(*x.shape, seed=8), 0.5 + 0.2 * unit(*x.shape, seed=9))
    assert float((x < 0).double().mean()) == pytest.approx(0.3, abs=0.03)
    assert float(x.std()) == pytest.approx(float(true.std()), rel=0.04)
    assert energy_distance(x, true) < 0.004
    assert energy_distance(x + 0.1, true) > 0.01, "it can fail"


@pytest.mark.parametrize(("name", "order"), [("euler", 1), ("ddim", 1), ("heun", 2), ("dpmpp_2m", 2), ("unipc", 2)])
def test_the_error_falls_with_the_order_of_the_solver(name, order):
    """Against the exact end of each path: (x - mean) goes as sqrt(std**2 + sigma**2) along the flow."""
    mean, std, steps = 0.3, 0.5, (40, 80, 160)
    denoise, errors = gaussian(mean, std), []
    for count in steps:
        sigmas = samplers.log_spaced(count + 1, 0.02, 80.0)
        x = unit(4, 3, 4, 4) * sigmas[0]
        found = samplers.draw(name, denoise, x, sigmas, lambda *_: None, noise_like(x))
        end = mean + (x - mean) * math.sqrt((std**2 + sigmas[-1] ** 2) / (std**2 + sigmas[0] ** 2))
        errors.append(float((found - denoise(end, sigmas[-1])).abs().max()))
    found = [math.log2(one / two) for one, two in itertools.pairwise(errors)]
    assert found[-1] > order - 0.15, found
    assert order > 1 or found[-1] < 1.3, found


def test_ddim_without_noise_is_euler_and_ddpm_is_ddim_with_all_of_it():
    denoise = mixture(((0.5, -0.5, 0.1), (0.5, 0.5, 0.1)))
    torch.testing.assert_close(draw("ddim", denoise, 12, 2), draw("euler", denoise, 12, 2))
    assert torch.equal(draw("ddim", denoise, 12, 2, eta=1.0), draw("ddpm", denoise, 12, 2))


def test_a_step_of_ddpm_is_that_of_diffusers():
    from diffusers import DDPMScheduler

    theirs = DDPMScheduler(beta_schedule="squaredcos_cap_v2", clip_sample=False, prediction_type="sample")
    sigmas, t = schedule("cosine").sigmas.double(), 500
    scale = (1 + sigmas**2).rsqrt()
    x, clean = unit(2, 3, 4, 4) * 2, unit(2, 3, 4, 4, seed=1) / 2
    generator = torch.Generator().manual_seed(5)
    wanted = theirs.step(clean, t, scale[t] * x, generator=generator).prev_sample / scale[t - 1]
    fresh = torch.randn(x.shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    seen = []

    def denoise(x, sigma):
        seen.append(x)
        return clean

    two = [float(sigmas[t]), float(sigmas[t - 1])]
    samplers.draw("ddpm", denoise, x, two, lambda *_: None, lambda _: fresh)
    torch.testing.assert_close(seen[1], wanted, rtol=1e-4, atol=1e-4)


def test_unipc_is_that_of_diffusers():
    from diffusers import UniPCMultistepScheduler

    sigmas = samplers.log_spaced(8, 0.05, 20.0)
    theirs = UniPCMultistepScheduler(
        prediction_type="sample", use_karras_sigmas=True, solver_type="bh2", lower_order_final=False
    )
    theirs.set_timesteps(8)
    theirs.sigmas = torch.tensor([*sigmas, 0.0], dtype=torch.float64)
    denoise, x = mixture(((0.5, -0.5, 0.1), (0.5, 0.5, 0.3))), unit(2, 3, 4, 4) * 20
    seen, y = [], x / math.sqrt(1 + 20**2)
    for t, sigma in zip(theirs.timesteps, sigmas, strict=True):
        clean = denoise(y * math.sqrt(1 + sigma**2), sigma)
        seen.append(clean)
        y = theirs.step(clean, t, y).prev_sample
    ours = []
    samplers.draw("unipc", denoise, x, sigmas, lambda _, clean: ours.append(clean), noise_like(x))
    torch.testing.assert_close(torch.stack(ours), torch.stack(seen), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", sorted(SAMPLERS))
def test_it_calls_the_network_as_often_as_it_says_and_shows_each_level(name):
    calls, seen = [], []

    def denoise(x, sigma):
        calls.append(sigma)
        return gaussian(0.0, 0.5)(x, sigma)

    last = draw(name, denoise, 5, 2, watch=lambda sigma, clean: seen.append((sigma, clean)))
    assert len(calls) == (5 if SAMPLERS[name].calls == 1 else 9)
    assert len(seen) == 5
    assert torch.equal(seen[-1][1], last)


@pytest.mark.parametrize("name", sorted(SAMPLERS))
def test_a_picture_does_not_know_what_is_drawn_beside_it(name):
    """Langevin steps in particular: their size comes from norms."""
    denoise, sigmas = mixture(((0.5, -0.5, 0.1), (0.5, 0.5, 0.3))), samplers.log_spaced(6, 0.02, 80.0)
    x, fresh = unit(3, 3, 4, 4) * 80, noise_like(unit(3, 3, 4, 4))
    whole = samplers.draw(name, denoise, x, sigmas, lambda *_: None, fresh)
    alone = samplers.draw(name, denoise, x[1:2], sigmas, lambda *_: None, lambda n: fresh(n)[1:2])
    torch.testing.assert_close(alone, whole[1:2])


@pytest.mark.parametrize("shape", [(24, 64), (24, 4, 16), (24, 2, 2, 4, 4)], ids=["2-D", "3-D", "5-D"])
@pytest.mark.parametrize("name", sorted(SAMPLERS))
def test_samples_of_any_rank_are_those_of_images(name, shape):
    denoise, sigmas = gaussian(0.2, 0.5), samplers.log_spaced(6, 0.02, 80.0)
    images = unit(24, 4, 4, 4) * 80
    fresh = noise_like(images)
    wanted = samplers.draw(name, denoise, images, sigmas, lambda *_: None, fresh)
    found = samplers.draw(name, denoise, images.view(shape), sigmas, lambda *_: None, lambda n: fresh(n).view(shape))
    torch.testing.assert_close(found, wanted.view(shape))


@pytest.mark.parametrize("name", sorted(SAMPLERS))
def test_one_level_is_one_answer(name):
    x = unit(1, 3, 4, 4) * 80
    found = samplers.draw(name, gaussian(0.2, 0.5), x, [80.0], lambda *_: None, noise_like(x))
    torch.testing.assert_close(found, gaussian(0.2, 0.5)(x, 80.0))


@given(steps=st.integers(1, 60), kind=st.sampled_from(sorted(samplers.SPACINGS)),
       name=st.sampled_from(["linear", "cosine", "exponential", "log_normal", "logit_normal"]))  # fmt: skip
def test_levels_fall_from_end_to_end(steps, kind, name):
    known = schedule(name)
    sigmas = samplers.spaced(kind, steps, known)
    assert len(sigmas) == steps
    assert all(one > two for one, two in itertools.pairwise(sigmas))
    assert sigmas[0] == pytest.approx(min(known.high, 80), rel=1e-5)
    assert steps == 1 or sigmas[-1] == pytest.approx(max(known.low, 0.02), rel=1e-5)


def test_levels_are_equally_spaced_in_what_they_say():
    known = schedule("cosine")
    logs = torch.tensor(samplers.spaced("log", 9, known)).log().diff()
    torch.testing.assert_close(logs, logs[:1].expand(8), rtol=1e-4, atol=0)
    roots = (torch.tensor(samplers.spaced("karras", 9, known)) ** (1 / 7)).diff()
    torch.testing.assert_close(roots, roots[:1].expand(8), rtol=1e-4, atol=0)
    times = known.timestep(torch.tensor(samplers.spaced("time", 9, known))).diff()
    torch.testing.assert_close(times, times[:1].expand(8), rtol=1e-3, atol=0)
