"""The diffusion transformer: trained here, loaded by diffusers alone, with the same answers."""

import json

import pytest
import torch
from safetensors.torch import load_file
from train_fixtures import DIT, by_a_stranger, contents, make_pack, tiny

from components.base.errors import UserError
from components.diffusion import objective as objectives
from components.diffusion.names import SCHEDULES
from components.model import sampling
from components.networks import registry
from components.train.stage import train

pytestmark = pytest.mark.numeric

OBJECTIVES = [(kind, name) for kind, names in SCHEDULES.items() for name in names if name != "exponential"]


def network(side=8, channels=3, classes=3, **changes):
    params = tiny(network=DIT | changes).network
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return registry.build(params, schedule_name="cosine", shape=(channels, side, side), classes=classes)


def shaken(net):
    """Weights whose answer depends on all of the input."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        for weight in net.parameters():
            torch.nn.init.normal_(weight, std=0.2)
    return net.requires_grad_(False)


@pytest.mark.parametrize(("side", "channels", "patch"), [(8, 3, 2), (8, 1, 8), (12, 3, 4), (4, 2, 1)])
@pytest.mark.parametrize("classes", [0, 1, 5])
def test_its_answer_has_the_shape_of_the_image(side, channels, patch, classes):
    net = network(side, channels, classes, patch=patch)
    labels = torch.tensor([0, classes]) if classes else None
    assert net(torch.randn(2, channels, side, side), torch.tensor([1.0, 999.0]), labels).sample.shape == (
        2, channels, side, side,
    )  # fmt: skip
    assert registry.labels(net) == (classes + 1 if classes else 0)


def test_it_begins_as_the_paper_does():
    net = network()
    x = torch.randn(2, 3, 8, 8)
    assert not net(x, torch.tensor(5.0), torch.tensor([0, 1])).sample.any()
    tokens = torch.randn(1, 16, 16)
    same = net.transformer_blocks[0](tokens, timestep=torch.tensor([3.0]), class_labels=torch.tensor([0]))
    torch.testing.assert_close(same, tokens)


def test_it_hears_fractions_of_timesteps_and_every_label_and_drops_none_of_its_own_accord():
    net = shaken(network()).train()
    x = torch.randn(1, 3, 8, 8).expand(4, -1, -1, -1)
    every = net(x, torch.tensor(7.0), torch.arange(4)).sample
    assert torch.equal(every, net(x, torch.full((4,), 7.0), torch.arange(4)).sample)
    assert len({row.numpy().tobytes() for row in every}) == 4
    torch.testing.assert_close(net(x, torch.tensor(7.0)).sample, every[3].expand(4, -1, -1, -1))
    times = net(x, torch.tensor([7.0, 7.25, 7.5, 8.0]), torch.zeros(4, dtype=torch.int64)).sample
    gaps = [(times[at] - times[0]).abs().mean().item() for at in (1, 2, 3)]
    assert 0 < gaps[0] < gaps[1] < gaps[2]


@pytest.mark.parametrize(("kind", "schedule"), OBJECTIVES)
def test_a_few_steps_of_every_objective_lower_its_loss(kind, schedule):
    objective, net = objectives.objective(kind, schedule), network(width=32)
    optimiser = torch.optim.AdamW(net.parameters(), lr=3e-3)
    source = torch.Generator().manual_seed(2)
    images = 0.5 * torch.randn(32, 3, 1, 1, generator=source).expand(-1, -1, 8, 8)
    noise, share = torch.randn(32, 3, 8, 8, generator=source), torch.rand(32, generator=source)
    sigma = objective.own_distribution().sigma(share, objective.schedule)
    losses = []
    for _ in range(25):
        loss = objective.loss(net, images, noise, sigma, {"label": torch.arange(32) % 4}, "plain").mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0], losses[::6]


@pytest.mark.parametrize(
    ("changes", "line"),
    [({"patch": 3}, "train.network.patch: need a side that 3 divides, not 8 pixels"),
     ({"width": 18}, "train.network.width: 18 is not a multiple of 4 and of heads, 2"),
     ({"heads": 3}, "train.network.width: 16 is not a multiple of 4 and of heads, 3")],
)  # fmt: skip
def test_what_does_not_fit_is_one_line(changes, line):
    with pytest.raises(UserError, match=line):
        network(**changes)


def test_sigma_itself_is_too_fine_for_its_timesteps():
    with pytest.raises(ValueError, match="cannot tell the noise levels of schedule exponential apart"):
        tiny(network=DIT, objective="eps", schedule="exponential")


# --- trained ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    pixels, splits = make_pack(folder)
    params = tiny(images=400, network=DIT | {"width": 32}, validations=4, guide=0.25, autoguidance=1.5)
    numbers = train(params, pixels=pixels, splits=splits, model=folder / "model", scratch=folder / "scratch")
    assert numbers["x0_error"] > 0
    return folder / "model"


def test_it_learns(model):
    lines = [json.loads(line) for line in (model / "history.jsonl").read_text().splitlines()]
    errors = [line["x0_error"] for line in lines if "x0_error" in line]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.9 * errors[0]


def test_the_folder_is_one_of_diffusers_but_for_the_pipeline_that_wants_an_autoencoder(model):
    assert {"transformer/config.json", "transformer/diffusion_pytorch_model.safetensors"} <= set(contents(model))
    assert not (model / "model_index.json").exists() and not (model / "unet").exists()


@pytest.mark.slow
def test_diffusers_alone_gives_the_same_answers_and_the_card_s_lines_draw(model, tmp_path):
    ours = sampling.load(model)
    x, timesteps, labels = torch.randn(3, 3, 8, 8), torch.tensor([0.5, 300.0, 999.0]), torch.tensor([0, 2, 3])
    torch.save([x, timesteps, labels], tmp_path / "given.pt")
    card = (model / "README.md").read_text()
    code = card.split("```python\n")[1].split("```")[0].replace("FOLDER", str(model))
    assert "weak = guide(" in code and "free = network(" in code
    code += """
from safetensors.torch import save_file
answer = network(*torch.load("given.pt", weights_only=True)[:1], timestep=torch.load("given.pt")[1],
                 class_labels=torch.load("given.pt")[2]).sample
save_file({"answer": answer.detach().contiguous(), "images": images.contiguous()}, "answers.safetensors")
"""
    by_a_stranger(code, tmp_path)
    found = load_file(tmp_path / "answers.safetensors")
    assert torch.equal(found["answer"], ours.network(x, timesteps, labels).sample)
    assert found["images"].shape == (4, 3, 8, 8) and found["images"].dtype == torch.uint8
    assert sampling.sample(ours, [0, 1, -1], seed=0).shape == (3, 8, 8, 3)
