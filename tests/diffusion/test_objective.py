"""Every objective stands for one D(x, sigma), and its losses and schedules are those of the papers."""

from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from components.diffusion import objective as objectives
from components.diffusion import samplers, schedule
from components.diffusion.names import SCHEDULES
from components.diffusion.objective import along, noted
from components.diffusion.schedule import SIGMAS, SigmaDistribution
from components.model import schedulers
from components.networks.hf import diffusers

ALL = [(kind, name) for kind, names in SCHEDULES.items() for name in names]
NAMES = ("linear", "cosine", "exponential", "log_normal", "logit_normal")
DISCRETE = {"linear": "linear", "cosine": "squaredcos_cap_v2"}


def normal(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def perfect(objective, mean=0.0, std=0.5):
    """The network that a perfect training of ``objective`` on Gaussian pixels ends in."""

    def network(entry, timestep, class_labels=None):
        sigma = along(objective.schedule.sigma_of(timestep), entry)
        x = (entry - objective.c_shift) / objective.c_in(sigma)
        clean = (mean * sigma**2 + std**2 * x) / (std**2 + sigma**2)
        return SimpleNamespace(sample=(clean - objective.c_skip(sigma) * x) / objective.c_out(sigma))

    return network


@pytest.mark.parametrize("name", DISCRETE)
def test_discrete_schedules_are_those_of_diffusers(name):
    theirs = diffusers.DDPMScheduler(beta_schedule=DISCRETE[name]).alphas_cumprod
    torch.testing.assert_close(schedule.alphas_cumprod(name), theirs, rtol=1e-6, atol=0)


@pytest.mark.parametrize("name", NAMES)
def test_what_a_network_is_told_says_its_sigma(name):
    every = schedule.schedule(name).sigmas
    timestep = schedule.schedule(name).timestep(every)
    torch.testing.assert_close(schedule.schedule(name).sigma_of(timestep), every, rtol=2e-4, atol=0)
    assert bool((timestep.diff() > 0).all())


@pytest.mark.parametrize("name", DISCRETE)
def test_a_discrete_schedule_is_told_as_timesteps(name):
    timestep = schedule.schedule(name).timestep(schedule.schedule(name).sigmas)
    torch.testing.assert_close(timestep, torch.arange(1000.0), rtol=0, atol=1e-3)


@pytest.mark.parametrize(("kind", "name"), ALL)
@pytest.mark.parametrize("sigma", [0.02, 0.5, 20.0])
def test_a_perfect_network_of_any_objective_is_the_same_denoiser(kind, name, sigma):
    objective, x, at = objectives.objective(kind, name), normal(0, 2, 3, 4, 4), torch.tensor([sigma, sigma])
    found = objective.denoise(perfect(objective), x * (1 + sigma), at, {})
    torch.testing.assert_close(found, 0.25 * x * (1 + sigma) / (0.25 + sigma**2), rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("weighting", ["plain", "velocity", "min_snr", "edm", "soft"])
@pytest.mark.parametrize(("kind", "name"), ALL)
def test_the_loss_is_the_weighted_error_of_the_clean_image(kind, name, weighting):
    objective, image, noise = objectives.objective(kind, name), normal(1, 4, 3, 4, 4) / 2, normal(2, 4, 3, 4, 4)
    sigma = torch.tensor([0.05, 0.3, 2.0, 20.0])
    network = perfect(objective)
    loss = objective.loss(network, image, noise, sigma, {}, weighting)
    clean = objective.denoise(network, image + sigma.view(-1, 1, 1, 1) * noise, sigma, {})
    error = (clean - image).square().mean((1, 2, 3))
    torch.testing.assert_close(loss, objective.weight(sigma, weighting) * error, rtol=2e-2, atol=1e-5)


@pytest.mark.parametrize("shape", [(6, 8), (3, 4, 4), (2, 3, 4, 2)], ids=["3-D", "4-D", "5-D"])
@pytest.mark.parametrize(("kind", "name"), ALL)
def test_samples_of_any_rank_have_the_exact_answer_of_gaussians(kind, name, shape):
    objective, image, noise = objectives.objective(kind, name), normal(1, 4, *shape) / 2, normal(2, 4, *shape)
    sigma = torch.tensor([0.05, 0.3, 2.0, 20.0])
    noisy = image + along(sigma, image) * noise
    exact = noisy * along(0.25 / (0.25 + sigma**2), image)
    torch.testing.assert_close(objective.denoise(perfect(objective), noisy, sigma, {}), exact, rtol=2e-3, atol=2e-3)
    loss = objective.loss(perfect(objective), image, noise, sigma, {}, "edm")
    error = (exact - image).square().flatten(1).mean(1)
    torch.testing.assert_close(loss, objective.weight(sigma, "edm") * error, rtol=2e-2, atol=1e-5)


@pytest.mark.parametrize("std", [0.1, 0.25, 2.0])
def test_edm_is_scaled_by_the_measured_deviation_of_the_data(std):
    """At sigma = sigma_data its input and its target have unit variance: Karras et al. 2022, section 5."""
    objective = objectives.objective("edm", "log_normal", std)
    image, noise, sigma = std * normal(1, 1, 100_000), normal(2, 1, 100_000), torch.tensor([std])
    noisy = image + std * noise
    assert float((objective.c_in(sigma) * noisy).std()) == pytest.approx(1, rel=0.02)
    wanted = (image - objective.c_skip(sigma) * noisy) / objective.c_out(sigma)
    assert float(wanted.std()) == pytest.approx(1, rel=0.02)
    assert noted(objective.note()) == objective
    stock = schedulers.stock(objective)
    assert schedulers.derived({"_class_name": type(stock).__name__, **stock.config}) == objective


@pytest.mark.parametrize(("kind", "name"), [("edm", "log_normal"), ("eps", "exponential")])
def test_a_schedule_between_other_ends_is_that_in_every_way(kind, name):
    """In training, in sampling, in what is written for us and for diffusers."""
    own, usual = objectives.objective(kind, name, ends=(0.05, 160.0)), objectives.objective(kind, name)
    assert own != usual
    named = own.schedule
    assert (named.low, named.high) == pytest.approx((0.05, 160.0))
    shares = torch.tensor([0.0005, 0.9995])
    for distribution in (SigmaDistribution("schedule"), SigmaDistribution("normal", 0.0, 9.0)):
        torch.testing.assert_close(distribution.sigma(shares, named), torch.tensor([0.05, 160.0]))
    for spacing in samplers.SPACINGS:
        sigmas = samplers.spaced(spacing, 4, named)
        assert (sigmas[0], sigmas[-1]) == pytest.approx((160.0, 0.05), rel=1e-5), spacing
    assert noted(own.note()) == own
    stock = schedulers.stock(own)
    assert schedulers.derived({"_class_name": type(stock).__name__, **stock.config}) == own
    assert objectives.objective(kind, name, ends=usual.schedule.ends) == usual
    assert "sigmas" not in usual.note()


def test_below_what_samplers_visit_other_ends_do_not_pull_them_down():
    assert schedule.schedule("log_normal", (0.001, 20.0)).visited == pytest.approx((0.02, 20.0))
    assert schedule.schedule("exponential").visited == pytest.approx((0.02, 80.0))


@pytest.mark.parametrize("ends", [(1.0, 0.5), (0.0, 80.0), (0.02, float("inf")), (0.02, float("nan"))])
def test_ends_that_are_none_are_refused(ends):
    with pytest.raises(ValueError, match="noise levels of a schedule log_normal from"):
        schedule.schedule("log_normal", ends)
    with pytest.raises(ValueError, match="noise levels of a schedule cosine from"):
        schedule.schedule("cosine", (0.02, 80.0))


@pytest.mark.parametrize("found", [[1.0], "ab", [0.5, "x"], {"0": 1, "1": 2}])
def test_a_note_of_ends_that_are_none_is_refused(found):
    with pytest.raises(ValueError, match="sigmas"):
        noted({"kind": "edm", "schedule": "log_normal", "sigmas": found})


def test_a_note_from_before_it_was_measured_means_a_half():
    assert noted({"kind": "edm", "schedule": "log_normal"}).sigma_data == 0.5


def test_a_condition_that_no_network_takes_is_refused():
    with pytest.raises(ValueError, match="no network takes control"):
        objective = objectives.objective("v", "cosine")
        objective.denoise(perfect(objective), normal(0, 2, 3, 4, 4), torch.ones(2), {"control": torch.zeros(2, 4)})


def test_v_is_that_of_diffusers():
    theirs = diffusers.DDPMScheduler(beta_schedule="squaredcos_cap_v2")
    image, noise, t = normal(1, 3, 3, 4, 4), normal(2, 3, 3, 4, 4), torch.tensor([3, 500, 990])
    objective = objectives.objective("v", "cosine")
    sigma = objective.schedule.sigmas[t]
    seen = []

    def network(entry, timestep, class_labels=None):
        seen.append((entry, timestep))
        return SimpleNamespace(sample=theirs.get_velocity(image, noise, t))

    assert float(objective.loss(network, image, noise, sigma, {}, "plain").max()) < 1e-6
    torch.testing.assert_close(seen[0][0], theirs.add_noise(image, noise, t), rtol=1e-4, atol=1e-4)


def test_an_objective_on_a_schedule_that_no_scheduler_samples_is_refused():
    with pytest.raises(ValueError, match="objective flow needs schedule logit_normal, not cosine"):
        objectives.objective("flow", "cosine")


@given(st.floats(1e-6, 1 - 1e-6), st.floats(-2, 2), st.floats(0.2, 2))
def test_levels_fall_where_their_distribution_says(share, mean, std):
    named = schedule.schedule("log_normal")
    sigma = SigmaDistribution("normal", mean, std).sigma(torch.tensor([share]), named)
    expected = torch.special.ndtr((sigma.double().log() - mean) / std)
    inside = named.low < float(sigma) < named.high
    assert not inside or float(expected) == pytest.approx(share, abs=1e-4)
    time = SigmaDistribution("uniform").sigma(torch.tensor([share]), named)
    assert not named.low < float(time) < named.high or float(time / (1 + time)) == pytest.approx(share, abs=1e-5)


@pytest.mark.parametrize("name", ["cosine", "logit_normal"])
def test_a_schedule_first_asked_for_on_the_meta_device_has_its_numbers(name):
    """It is kept for the whole process, and networks are built there without memory for their weights."""
    schedule.alphas_cumprod.cache_clear()
    with torch.device("meta"):
        found = schedule.Schedule(name).sigmas
    assert torch.equal(found, schedule.Schedule(name).sigmas)


def test_a_schedules_own_levels_are_its_steps_alike():
    named = schedule.schedule("cosine")
    shares = (torch.arange(1000) + 0.5) / 1000
    assert torch.equal(SigmaDistribution("schedule").sigma(shares, named), named.sigmas)


def test_levels_are_centred_on_the_measured_sigmas():
    assert schedule.band_of(torch.tensor(SIGMAS)).tolist() == list(range(8))
    assert schedule.band_of(torch.tensor([1e-4, 1e4])).tolist() == [0, 7]


@pytest.mark.parametrize(("mean", "std"), [(0.0, 0.25), (0.5, 0.1), (-0.3, 0.5)])
@pytest.mark.parametrize("steps", [12, 16, 30])
def test_the_saved_sampler_draws_the_gaussian_that_a_perfect_denoiser_knows(mean, std, steps):
    objective = objectives.objective("v", "cosine")
    scheduler, network = schedulers.stock(objective), perfect(objective, mean, std)
    scheduler.set_timesteps(steps)
    x = normal(0, 256, 3, 8, 8)
    for t in scheduler.timesteps:
        x = scheduler.step(network(x, t[None].float()).sample, t, x).prev_sample
    assert float(x.mean()) == pytest.approx(mean, abs=0.02)
    assert float(x.std()) == pytest.approx(std, rel=0.05)


@pytest.mark.parametrize(("kind", "name"), ALL)
def test_our_sampler_draws_it_for_every_objective(kind, name):
    objective = objectives.objective(kind, name)
    network = perfect(objective, 0.5, 0.1)
    sigmas = samplers.log_spaced(16, *objective.schedule.visited)

    def denoise(x, sigma):
        return objective.denoise(network, x, torch.full((len(x),), sigma), {})

    x = samplers.dpmpp_2m(denoise, normal(0, 256, 3, 8, 8) * sigmas[0], sigmas, lambda *_: None)
    assert float(x.mean()) == pytest.approx(0.5, abs=0.02)
    assert float(x.std()) == pytest.approx(0.1, rel=0.06)
