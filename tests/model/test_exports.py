"""What is handed out is sampled right by diffusers alone: known distributions through the saved pipelines.

A network that a perfect training of an objective would end in stands in for the UNet of the saved folder; the pipeline
and the scheduler are those that diffusers makes of the folder.  Pixels are independent draws of a known distribution
in [-1, 1]; 24,576 of them are compared with as many true draws.
"""

import json

import pytest
import torch
from train_fixtures import make_pack, tiny

from components.diffusion import consistency
from components.diffusion import objective as objectives
from components.diffusion.names import SCHEDULES
from components.diffusion.objective import Objective
from components.model import denoiser, sampling, schedulers
from components.networks import registry
from components.train.stage import train

pytestmark = pytest.mark.numeric

ALL = [(kind, name) for kind, names in SCHEDULES.items() for name in names]
STEPS = {"ScoreSdeVePipeline": 100, "DDPMPipeline": 40, "ConsistencyModelPipeline": 40}

KNOWN = {"Gaussian": [(1.0, 0.3, 0.12)], "two components": [(0.3, -0.5, 0.1), (0.7, 0.4, 0.15)]}
"""Weight, mean and standard deviation of each component."""

MEAN, SPREAD, ENERGY = 0.01, 0.03, 1.5e-4
"""Tolerances: of the mean; relative, of the standard deviation; of the energy distance, whose noise is 4e-5 here."""


def draws(known, count):
    source = torch.Generator().manual_seed(5)
    weights, means, stds = torch.tensor(known).T
    which = torch.multinomial(weights, count, replacement=True, generator=source)
    return means[which] + stds[which] * torch.randn(count, generator=source)


def energy_distance(one, two):
    """2 E|X - Y| - E|X - X'| - E|Y - Y'| of two sets of numbers: twice the integral of (F - G)**2."""
    one, two = (some.double().flatten().sort().values for some in (one, two))
    every = torch.cat([one, two]).sort().values
    gap = (torch.searchsorted(some, every, right=True) / len(some) for some in (one, two))
    return float(2 * ((next(gap) - next(gap)).square()[:-1] * every.diff()).sum())


def expected(known, x, sigma):
    """D(x, sigma): the mean of the clean pixel given the noisy one."""
    logs = [w.log() - (s**2 + sigma**2).log() / 2 - (x - m) ** 2 / (s**2 + sigma**2) / 2 for w, m, s in known]
    means = [(m * sigma**2 + s**2 * x) / (s**2 + sigma**2) for _, m, s in known]
    return (torch.stack(logs).softmax(0) * torch.stack(means)).sum(0)


def perfect(pipe, objective, what):
    """``pipe`` with the answers that a perfect training of ``objective`` ends in, in place of its network's."""
    known = torch.tensor(KNOWN[what], dtype=torch.float64)

    from diffusers.models.unets.unet_2d import UNet2DOutput

    def answer(sample, timestep, class_labels=None, return_dict=True):
        sigma = objective.schedule.sigma_of(timestep.reshape(-1)).double().view(-1, 1, 1, 1)
        x = (sample.double() - objective.c_shift) / objective.c_in(sigma)
        found = ((expected(known, x, sigma) - objective.c_skip(sigma) * x) / objective.c_out(sigma)).float()
        return UNet2DOutput(sample=found) if return_dict else (found,)

    pipe.unet.forward = answer
    return pipe


def drawn(pipe, steps, count=128, **more):
    """Pixels in [-1, 1] of ``count`` pictures."""
    pipe.set_progress_bar_config(disable=True)
    source = torch.Generator().manual_seed(0)
    images = pipe(batch_size=count, num_inference_steps=steps, generator=source, output_type="np", **more).images
    return torch.as_tensor(images).float() * 2 - 1


def check(pixels, known):
    true = draws(known, pixels.numel())
    assert float(pixels.mean()) == pytest.approx(float(true.mean()), abs=MEAN)
    assert float(pixels.std()) == pytest.approx(float(true.std()), rel=SPREAD)
    assert energy_distance(pixels, true) < ENERGY


def loaded(folder):
    """The pipeline that diffusers, imported here because it takes seconds, makes of ``folder``."""
    import diffusers

    return diffusers.DiffusionPipeline.from_pretrained(folder, local_files_only=True)


def exported(folder, kind, name, classes=0):
    unet = registry.build(tiny().network, schedule_name=name, shape=(3, 8, 8), classes=classes)
    denoiser.save(folder, unet, objectives.objective(kind, name), {})
    return loaded(folder)


@pytest.mark.parametrize("what", KNOWN)
@pytest.mark.parametrize(("kind", "name"), ALL)
def test_the_exported_pipeline_draws_what_a_perfect_network_knows(tmp_path, kind, name, what):
    pipe = perfect(exported(tmp_path, kind, name), objectives.objective(kind, name), what)
    check(drawn(pipe, STEPS[type(pipe).__name__]), KNOWN[what])


@pytest.mark.slow
@pytest.mark.parametrize("coefficient", ["c_in", "c_out", "c_skip"])
@pytest.mark.parametrize(("kind", "name"), ALL)
def test_a_coefficient_that_is_a_tenth_off_is_seen(tmp_path, monkeypatch, kind, name, coefficient):
    true = getattr(Objective, coefficient)
    if (kind, coefficient) == ("x0", "c_skip"):
        pytest.skip("it is 0")
    monkeypatch.setattr(Objective, coefficient, lambda self, sigma: 0.9 * true(self, sigma))
    pipe = perfect(exported(tmp_path, kind, name), objectives.objective(kind, name), "two components")
    with pytest.raises(AssertionError):
        check(drawn(pipe, STEPS[type(pipe).__name__]), KNOWN["two components"])


@pytest.mark.parametrize("steps", [1, 2, 4])
@pytest.mark.parametrize(
    ("kind", "name", "classes"), [("v", "cosine", 2), ("v", "linear", 0), ("x0", "cosine", 0), ("eps", "linear", 0)]
)
def test_the_exported_pipeline_of_a_perfect_student_draws_in_few_jumps(tmp_path, kind, name, classes, steps):
    """It answers the end of the path through x, which a Gaussian has exactly."""
    objective, (mean, std) = objectives.objective(kind, name), (0.2, 0.2)
    unet = registry.build(tiny().network, schedule_name=name, shape=(3, 8, 8), classes=classes)
    denoiser.save(tmp_path, unet, objective, {}, schedulers.jumping(objective))
    pipe = loaded(tmp_path)

    def answer(sample, timestep, class_labels, return_dict):
        sigma = objective.schedule.sigma_of(timestep.reshape(-1)).double().view(-1, 1, 1, 1)
        x = sample.double() / objective.c_in(sigma)
        found = mean + (x - mean) * std / (std**2 + sigma**2).sqrt()
        return (((found - objective.c_skip(sigma) * x) / objective.c_out(sigma)).float(),)

    pipe.unet.forward = answer
    jumps = schedulers.timesteps(objective, consistency.sigmas(steps, objective.schedule))
    assert len(jumps) == steps and jumps[0] == 999
    pixels = drawn(pipe, None, timesteps=jumps, class_labels=[0] * 128 if classes else None)
    assert float(pixels.mean()) == pytest.approx(mean, abs=MEAN)
    assert float(pixels.std()) == pytest.approx(std, rel=SPREAD)
    config = json.loads((tmp_path / "scheduler/scheduler_config.json").read_text())
    assert schedulers.derived(config) == objective, "a student is a start like any model"


def test_labels_pass_through_the_exported_pipeline(tmp_path):
    """Each class is a distribution of its own."""
    objective, pipe = objectives.objective("edm", "log_normal"), exported(tmp_path, "edm", "log_normal", classes=2)
    answers = [perfect(pipe, objective, what).unet.forward for what in KNOWN]
    pipe.unet.forward = lambda sample, timestep, class_labels, return_dict: answers[int(class_labels[0])](
        sample, timestep, return_dict=return_dict
    )
    for label, what in enumerate(KNOWN):
        check(drawn(pipe, 40, class_labels=[label] * 128), KNOWN[what])


@pytest.mark.parametrize("steps", [31, 100])
def test_a_flow_goes_through_the_flow_schedulers_of_diffusers_too(tmp_path, steps):
    import diffusers

    pipe = perfect(
        exported(tmp_path, "flow", "logit_normal"), objectives.objective("flow", "logit_normal"), "two components"
    )
    kind = diffusers.FlowMatchHeunDiscreteScheduler if steps == 31 else diffusers.FlowMatchEulerDiscreteScheduler
    pipe.scheduler = kind(num_train_timesteps=1000)
    check(drawn(pipe, steps), KNOWN["two components"])


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder for each objective, after two steps of training; one of them with labels."""
    root = tmp_path_factory.mktemp("trained")
    plain, labelled = make_pack(root / "plain", classes=()), make_pack(root / "labelled")
    wanted = {f"{kind}-{name}": (plain, kind, name) for kind, name in ALL} | {"labelled": (labelled, "v", "cosine")}
    for folder, ((pixels, splits), kind, name) in wanted.items():
        params = tiny(images=16, validations=1, objective=kind, schedule=name)
        train(params, pixels=pixels, splits=splits, model=root / "models" / folder, scratch=root / "scratch")
    return root / "models"


@pytest.mark.slow(6)
def test_what_was_trained_is_sampled_here(trained):
    for folder in sorted(trained.iterdir()):
        model = sampling.load(folder)
        pictures = sampling.sample(model, [0 if model.classes else -1] * 2, seed=0)
        assert pictures.shape == (2, 8, 8, 3), folder.name
        assert pictures.float().std() > 0, folder.name


@pytest.mark.slow(6)
def test_what_was_trained_is_sampled_by_diffusers(trained):
    found = {}
    for folder in sorted(trained.iterdir()):
        pipe = loaded(folder)
        pixels = drawn(pipe, 4, 2)
        assert pixels.shape == (2, 8, 8, 3) and pixels.std() > 0
        found[folder.name] = type(pipe).__name__
    assert len(found) == len(ALL) + 1
    assert found.pop("eps-exponential") == "ScoreSdeVePipeline"
    assert found.pop("labelled") == found.pop("edm-log_normal") == "ConsistencyModelPipeline"
    assert set(found.values()) == {"DDPMPipeline"}
