"""Consistency: what is exactly known of Gaussians, where a path is x - mean growing as sqrt(std**2 + sigma**2)."""

from types import SimpleNamespace

import pytest
import torch

from components.diffusion import consistency, objective, samplers
from components.diffusion.objective import along

pytestmark = pytest.mark.numeric

MEAN, STD = 0.3, 0.5
OBJECTIVE = objective.objective("v", "cosine")


def network(answers):
    """A network whose D(x, sigma) is ``answers``."""

    def predict(entry, timestep, class_labels=None):
        sigma = along(OBJECTIVE.schedule.sigma_of(timestep), entry)
        x = entry / OBJECTIVE.c_in(sigma)
        return SimpleNamespace(sample=(answers(x, sigma) - OBJECTIVE.c_skip(sigma) * x) / OBJECTIVE.c_out(sigma))

    return predict


def mean(x, sigma):
    """What a denoiser answers: the mean of the images behind x."""
    return (MEAN * sigma**2 + STD**2 * x) / (STD**2 + sigma**2)


def end(x, sigma):
    """What a student answers: the end of the path through x."""
    return MEAN + (x - MEAN) * STD / (STD**2 + sigma**2).sqrt()


def noisy(*sigmas):
    sigma = torch.tensor(sigmas).repeat_interleave(64)
    noise = torch.randn(len(sigma), 3, 4, 4, generator=torch.Generator().manual_seed(0))
    return MEAN + along((STD**2 + sigma**2).sqrt(), noise) * noise, sigma


def loss(of, target, gap):
    """At three noise levels, of a network that answers ``of``; the denoiser leads from one point to the other."""
    x, sigma = noisy(0.3, 2.0, 40.0)
    lower = consistency.earlier(sigma, gap)
    before = torch.lerp(mean(x, along(sigma, x)), x, along(lower / sigma, x))
    aim = consistency.answer(OBJECTIVE, network(target), before, lower, {})
    found = consistency.losses(OBJECTIVE, network(of), x, sigma, aim, lower, {})
    return (found * (sigma - lower) / (1 + sigma)).view(3, -1).mean(1)


@pytest.mark.parametrize("gap", [0.02, 0.01])
def test_the_end_of_the_path_is_consistent_and_a_denoiser_is_not(gap):
    assert (loss(end, end, gap) < 3 * gap**1.5).all()
    assert (loss(mean, mean, gap)[:2] > 10 * loss(end, end, gap)[:2]).all()


def test_the_lower_level_of_a_pair_nears_the_upper_one_and_ends_in_the_clean_image():
    sigma = torch.tensor([80.0, 1.0, 0.3, 0.02])
    far, near = (consistency.earlier(sigma, gap) for gap in (0.5, 1 / 64))
    assert far.tolist() == pytest.approx([40.0, 0.0, 0.0, 0.0])
    assert near[:3].tolist() == pytest.approx([78.75, 0.950763, 0.27935], rel=1e-4)
    assert near[3] == 0, "below the last level that is visited the image is done"


def test_at_no_noise_the_answer_is_the_image_itself():
    x, _ = noisy(0.0, 1.0)
    found = consistency.answer(OBJECTIVE, network(end), x, torch.tensor([0.0, 1.0]).repeat_interleave(64), {})
    torch.testing.assert_close(found[:64], x[:64], rtol=0, atol=0)
    torch.testing.assert_close(found[64:], end(x[64:], torch.tensor(1.0)), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_a_perfect_student_draws_the_gaussian_in_any_number_of_jumps(steps):
    levels, source = consistency.sigmas(steps, OBJECTIVE.schedule), torch.Generator().manual_seed(1)
    assert len(levels) == steps and levels[0] == pytest.approx(80)

    def fresh(step):
        return torch.randn(4000, 3, 2, 2, generator=source)

    x = fresh(0) * levels[0]
    found = samplers.draw("consistency", lambda x, s: end(x, torch.tensor(s)), x, levels, lambda *_: None, fresh)
    assert float(found.mean()) == pytest.approx(MEAN, abs=0.01)
    assert float(found.std()) == pytest.approx(STD, rel=0.01)


def test_two_jumps_meet_in_the_middle_of_the_seventh_roots():
    assert consistency.sigmas(2, OBJECTIVE.schedule) == pytest.approx([80, 4.04565], rel=1e-5)
