"""The stochastic differential equations behind the schedules, held against their own marginals by differences."""

import itertools

import pytest
import torch

from components import sde
from components.diffusion.schedule import schedule

TIMES = torch.linspace(0.02, 0.97, 20, dtype=torch.float64)


def slope(function, t, step=1e-6):
    """df / dt by a central difference."""
    return (function(t + step) - function(t - step)) / (2 * step)


@pytest.mark.parametrize("name", sde.PROCESSES)
def test_drift_and_diffusion_are_the_slopes_of_the_marginals(name):
    """d alpha / dt = f alpha and d std**2 / dt = 2 f std**2 + g**2 (Särkkä and Solin 2019, equation 5.51)."""
    process = sde.PROCESSES[name]
    f, alpha = process.drift(TIMES), process.alpha(TIMES)
    variance = (alpha * process.sigma(TIMES)) ** 2
    torch.testing.assert_close(slope(process.alpha, TIMES), f * alpha, rtol=1e-6, atol=1e-8)
    found = slope(lambda t: (process.alpha(t) * process.sigma(t)) ** 2, TIMES)
    torch.testing.assert_close(found, 2 * f * variance + process.diffusion2(TIMES), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("name", "within"), [("linear", 0.06), ("cosine", 1e-3), ("exponential", 0.01)])
def test_each_process_passes_through_the_steps_of_its_schedule(name, within):
    """The linear one is the limit of many small steps, so it differs by beta, 2 % a step, at the end."""
    times = torch.arange(1, 1000, dtype=torch.float64) / 1000  # the cosine's last step is cut off at 0.999
    torch.testing.assert_close(
        sde.PROCESSES[name].sigma(times), schedule(name).sigmas[:-1].double(), rtol=within, atol=1e-3
    )


@pytest.mark.parametrize("noise", [False, True])
@pytest.mark.parametrize("name", sde.PROCESSES)
def test_the_way_back_ends_in_the_gaussian_that_it_came_from(name, noise):
    process, mean, std = sde.PROCESSES[name], 0.3, 0.2
    source = torch.Generator().manual_seed(0)
    times = torch.linspace(0.999, 1e-4, 2000, dtype=torch.float64)
    alpha, sigma = process.alpha(times[:1]), process.sigma(times[:1])
    x = alpha * (mean + (std**2 + sigma**2).sqrt() * torch.randn(20000, generator=source, dtype=torch.float64))
    for t, after in itertools.pairwise(times):
        alpha, sigma = process.alpha(t), process.sigma(t)
        clean = (mean * sigma**2 + std**2 * x / alpha) / (std**2 + sigma**2)
        step = after - t
        x = x + step * sde.reverse_drift(process, x, sde.score(clean, x, alpha, sigma), t, noise=noise)
        if noise:
            moved = torch.randn(len(x), generator=source, dtype=torch.float64)
            x = x + (-step * process.diffusion2(t)).sqrt() * moved
    assert float(x.mean()) == pytest.approx(mean, abs=0.01)
    assert float(x.std()) == pytest.approx(std, rel=0.04)
