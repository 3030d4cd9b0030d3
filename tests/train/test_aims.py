"""What a step makes small: the pair of a distillation lies where the teacher's sampler goes, or is the paper's own."""

import copy

import pytest
import torch
from train_fixtures import CLASSES, COMPACT, make_pack, tiny

from components.dataset import tensors
from components.diffusion import conditions, consistency
from components.diffusion.objective import along
from components.model import sampling
from components.train import aims
from components.train.distributed.ranks import Group
from components.train.feed import Batch
from components.train.state import build, start
from components.train.step import Step

pytestmark = pytest.mark.numeric
ALONE = Group(0, 1, torch.device("cpu"))
PARAMS = tiny(network=COMPACT, onnx=True)


def tuning(**changes):
    given = {"gap": 0.5, "halvings": 2, "guidance": 2.5, "autoguidance": 1.0, "sigmas": (80.0, 1.0), "classes": CLASSES}
    return aims.Tuning(**given | changes)


@pytest.fixture(scope="module")
def pixels(tmp_path_factory):
    return tensors.Pixels(make_pack(tmp_path_factory.mktemp("pack"))[0])


def network(pixels, seed):
    """One whose answers depend on all that it gets; of a fresh one the last layers are 0."""
    found, source = build(PARAMS.model_copy(update={"seed": seed}), pixels), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in found.parameters():
            if not weight.any():
                weight.normal_(0, 0.1, generator=source)
    return found


def batch(pixels, sigma):
    image = pixels.batch(range(len(sigma))).clone()
    noise = torch.randn(image.shape, generator=torch.Generator().manual_seed(0))
    return Batch(image, noise, sigma, conditions.of_classes(pixels.class_ids[: len(sigma)], 3))


@pytest.mark.parametrize(("pull", "push"), [(2.5, 1.0), (1.0, 2.0), (1.5, 2.0)])
@pytest.mark.parametrize("sigma", [0.3, 7.0])
def test_the_pair_lies_where_the_teacher_leads_with_its_guidance(pixels, sigma, pull, push):
    objective, leads, guide = PARAMS.objective_at(0.5), network(pixels, 1), network(pixels, 3)
    some = batch(pixels, torch.full((8,), sigma))
    assert (some.condition["label"] == 3).any(), "one without a label is among them"
    aim = aims.Consistency(tuning(guidance=pull, autoguidance=push), objective, network(pixels, 2), leads, guide)
    teacher = sampling.Denoiser(
        network=leads, guide=guide, device=ALONE.device, engine="torch", objective=objective, weighting="plain",
        classes=CLASSES, null_class=3, spec=pixels.header.spec, sampler="dpmpp_2m", steps=4, guidance=pull,
        autoguidance=push, sigmas=None,
    )  # fmt: skip
    x = some.image + sigma * some.noise
    wanted = sampling.guided(teacher, pixels.class_ids[:8].tolist(), pull, push, "fp32")(x, sigma)
    torch.testing.assert_close(aim._clean(x, some), wanted, rtol=1e-4, atol=1e-5)
    assert (aim._clean(x, some) - some.image).abs().mean() > 0.1


def test_without_guidance_the_pair_is_the_image_with_less_of_the_same_noise(pixels):
    def teacher(*_, **__):
        raise AssertionError("no teacher is asked")

    objective, student = PARAMS.objective_at(0.5), network(pixels, 2)
    aim = aims.Consistency(tuning(guidance=1.0), objective, student, torch.nn.Identity())
    aim.teacher = teacher
    some = batch(pixels, torch.tensor([0.02, 0.5, 3.0, 80.0]))
    lower = consistency.earlier(some.sigma, 0.125)
    assert lower[0] == 0 and (lower[1:] > 0).all()
    before, x = (some.image + along(level, some.noise) * some.noise for level in (lower, some.sigma))
    with torch.no_grad():
        target = objective.denoise(student, before, lower.clamp(min=0.02), some.condition)
        target[0] = some.image[0]
        found = objective.denoise(student, x, some.sigma, some.condition)
    apart = ((found - target).square().flatten(1).mean(1) + 0.00054**2).sqrt() - 0.00054
    wanted = apart * (1 + some.sigma) / (some.sigma - lower)
    torch.testing.assert_close(aim.losses(student, some, 0.125), wanted, rtol=1e-3, atol=1e-4)


def test_the_lower_point_has_no_gradient_and_the_weights_of_now(pixels):
    student = network(pixels, 2)
    aim = aims.Consistency(tuning(), PARAMS.objective_at(0.5), student, network(pixels, 1))
    some = batch(pixels, torch.tensor([0.5, 3.0, 80.0]))
    upper = copy.deepcopy(student)
    losses = aim.losses(upper, some, 0.125)
    losses.sum().backward()
    assert all(weight.grad is None for weight in student.parameters())
    with torch.no_grad():
        student.leave.bias.add_(0.5)
    assert ((aim.losses(upper, some, 0.125) - losses).abs() > 1e-3).all()


def test_the_gap_halves_at_even_distances(pixels):
    aim = aims.Consistency(tuning(), PARAMS.objective_at(0.5), network(pixels, 2), network(pixels, 1))
    assert [aim.gap(done) for done in (0, 0.3, 0.34, 0.66, 0.67, 1)] == [0.5, 0.5, 0.25, 0.25, 0.125, 0.125]


def test_a_step_without_an_aim_denoises(pixels):
    begun = start(PARAMS, pixels, ALONE)
    step, some = Step(PARAMS, begun, ALONE), batch(pixels, torch.tensor([0.5, 3.0]))
    wanted = begun.objective.loss(begun.network, *some[:4], PARAMS.weighting)
    assert torch.equal(step.aim.losses(begun.network, some, 0.0), wanted)
    assert step.numbers((False, False)).gap == 0
