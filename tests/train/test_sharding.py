"""Sharded networks; two real processes under torchrun: what they learn together is what one learns, sharded or not."""

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from checkouts import python_path
from forked import in_pairs
from safetensors.torch import load_file
from torch import distributed, nn
from train_fixtures import COMPACT, DIT, UNET, make_pack, tiny

from components.dataset import tensors
from components.networks import precision as arithmetic
from components.networks import registry
from components.train import state
from components.train.distributed import sharding
from components.train.distributed.ranks import Group
from components.train.stage import train

ROOT = Path(__file__).resolve().parents[2]
CHILD = """
import logging
import sys
from pathlib import Path
from components.train import loop
from components.train.params import TrainParams
from components.train.stage import train
pixels, splits, folder = map(Path, sys.argv[1:4])
if len(sys.argv) > 5:
    loop.Training._finished = lambda self: sys.exit(7)
logging.basicConfig(level=logging.INFO)
train(TrainParams.model_validate_json(sys.argv[4]), pixels=pixels, splits=splits, model=folder / "model",
      scratch=folder / "scratch")
"""
WEIGHTS = "model/unet/diffusion_pytorch_model.safetensors"


def torchrun(folder, params, packs, *more):
    script = folder / "child.py"
    folder.mkdir(exist_ok=True)
    script.write_text(CHILD, "utf-8")
    own = {"PYTHONPATH": python_path(ROOT), "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1",
        "--nproc-per-node", "2", str(script), *map(str, packs), str(folder), params.model_dump_json(), *more,
    ]  # fmt: skip
    return subprocess.run(command, env=os.environ | own, capture_output=True, text=True, timeout=300)


def weights(folder):
    return load_file(folder / WEIGHTS)


def checks(folder):
    lines = map(json.loads, (folder / "model" / "history.jsonl").read_text("utf-8").splitlines())
    return [line["x0_error"] for line in lines if "x0_error" in line]


class Blocks(nn.Module):
    """A block in a list, and a layer of the root."""

    def __init__(self):
        super().__init__()
        self.blocks, self.last = nn.ModuleList([nn.Linear(4, 4)]), nn.Linear(4, 4)

    def forward(self, x):
        return self.last(self.blocks[0](x))


KINDS = [UNET, COMPACT, DIT | {"width": 32}]


@pytest.fixture
def alone():
    """A group of one rank, whose collective calls are real."""
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    yield Group(0, 1, torch.device("cpu"))
    distributed.destroy_process_group()


def test_an_averaged_network_computes_with_the_weights_that_it_has_now(alone):
    average = Blocks().eval().requires_grad_(False)
    sharding.shard(average, alone, learns=False)
    kept = list(average.parameters())  # the averages hold them for the whole training
    with torch.no_grad():
        assert average(torch.ones(1, 4)).any()
        for weight in kept:
            weight.to_local().zero_()
        assert not average(torch.ones(1, 4)).any()


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind["kind"])
@pytest.mark.parametrize("learns", [True, False])
def test_a_sharded_network_computes_what_it_computed_whole(alone, kind, learns):
    """Also where it calls a part of a block by itself, as a DiT does."""
    params = tiny(network=kind, onnx=kind is COMPACT)
    network = registry.build(params.network, schedule_name="cosine", shape=(3, 8, 8), classes=3)
    for weight in network.parameters():
        torch.nn.init.normal_(weight, std=0.05)
    given = registry.examples(network, torch.tensor([3.0, 500.0]))
    with torch.no_grad():
        wanted = network(**given).sample
    sharding.shard(network.requires_grad_(learns), alone, learns=learns)
    found = network(**given).sample
    torch.testing.assert_close(found.detach(), wanted)
    if learns:
        found.square().mean().backward()
        assert all(weight.grad is not None for weight in network.parameters())


def test_whole_tensors_are_cut_into_memory_of_their_own(alone):
    network = Blocks()
    whole = {name: weight.detach().clone() for name, weight in network.named_parameters()}
    sharding.shard(network, alone)
    tree = {"weights": [network.state_dict()], "name": "x"}
    found = {"weights": [whole], "step": torch.tensor(3.0), "name": "x"}
    back = sharding.cut(found, tree)
    for name, weight in tree["weights"][0].items():
        part = back["weights"][0][name]
        assert part.placements == weight.placements and part.shape == weight.shape
        torch.testing.assert_close(part.to_local(), weight.to_local(), rtol=0, atol=0)
        assert part.to_local().untyped_storage().data_ptr() != whole[name].untyped_storage().data_ptr()
    assert back["step"].data_ptr() != found["step"].data_ptr(), "else it keeps a file mapped"
    assert sharding.cut(tree, tree)["weights"][0]["last.weight"] is tree["weights"][0]["last.weight"]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind["kind"])
def test_in_bf16_weights_are_gathered_as_such_and_what_is_computed_is_the_same(alone, kind):
    """As autocast alone computes it, but for norms and tables, whose weights are rounded too."""
    params = tiny(network=kind, onnx=kind is COMPACT)

    def learned(network):
        source = torch.Generator().manual_seed(1)
        image, noise = (torch.randn(4, 3, 8, 8, generator=source) for _ in range(2))
        sigma, condition = torch.rand(4, generator=source) + 0.1, {"label": torch.tensor([0, 1, 2, 3])}
        with arithmetic.autocast(alone.device, "bf16"):
            losses = params.objective_at(0.5).loss(network, image, noise, sigma, condition, "plain")
        losses.mean().backward()
        return losses.detach(), {name: weight.grad for name, weight in network.named_parameters()}

    plain, sharded = (
        registry.build(params.network, schedule_name="cosine", shape=(3, 8, 8), classes=3) for _ in range(2)
    )
    for weight in plain.parameters():  # what starts at zero has no gradient behind it
        torch.nn.init.normal_(weight, std=0.05)
    sharded.load_state_dict(plain.state_dict())
    seen = []
    table = next(part for part in sharded.modules() if isinstance(part, nn.Embedding))
    table.register_forward_hook(lambda part, given, came: seen.append((given[0].dtype, came.dtype)))
    sharding.shard(sharded, alone, precision="bf16")
    (wanted, theirs), (found, ours) = learned(plain), learned(sharded)
    assert set(seen) == {(torch.int64, torch.bfloat16)}, "gathered in half as many bytes"
    torch.testing.assert_close(found, wanted, rtol=0.02, atol=0.02)
    assert {gradient.dtype for gradient in ours.values()} == {torch.float32}, "the optimiser's own weights stay exact"
    whole = torch.stack([gradient.norm() for gradient in theirs.values()]).norm()
    for name, gradient in ours.items():
        assert float((gradient.full_tensor() - theirs[name]).norm() / whole) < 0.01, name


class Uneven(nn.Module):
    """A block whose rows two ranks cannot share evenly, one row that one of them has, and a buffer."""

    def __init__(self):
        super().__init__()
        self.blocks, self.last = nn.ModuleList([nn.Linear(4, 5)]), nn.Linear(5, 1)
        self.register_buffer("shift", torch.randn(3), persistent=False)

    def forward(self, x):
        return self.last(self.blocks[0](x)) + self.shift


def uneven():
    torch.manual_seed(5)
    return Uneven()


def begins(group):
    """The first rank builds it once with weights, the second never does."""
    with_weights = []

    def build():
        network = uneven()
        with_weights.append(not network.last.weight.is_meta)
        return network

    network = sharding.begun(build, group, precision="fp32")
    average = sharding.averaged(network, build, group)
    assert with_weights == [True, False, False][group.rank :]
    for sharded in (network, average):
        rows = [weight.to_local().shape[0] for weight in sharded.parameters()]
        assert rows == [[3, 3, 1, 1], [2, 2, 0, 0]][group.rank]
        whole = sharding.gathered(sharded, build, keep=group.rank == 0)
        assert whole.last.weight.is_meta == bool(group.rank)
        if group.rank == 0:
            torch.testing.assert_close(whole.state_dict(), uneven().state_dict(), rtol=0, atol=0)
        assert torch.equal(sharded.shift, uneven().shift)
        x = torch.ones(2, 4)
        torch.testing.assert_close(sharded(x), uneven()(x))


def test_the_first_rank_alone_ever_holds_a_network_whole(tmp_path):
    in_pairs(begins, tmp_path)


def test_a_rank_alone_is_told_that_it_shares_with_nobody(packs, caplog):
    params = tiny(images=8, validations=1, sharding="full")
    with caplog.at_level(logging.INFO):
        begun = state.start(params, tensors.Pixels(packs[0]), Group(0, 1, torch.device("cpu")))
    assert "one rank has nobody to share weights with" in caplog.text
    assert not begun.sharded
    assert not any(group["muon"] for group in begun.optimiser.param_groups), "AdamW moves all, as with more ranks"


@pytest.mark.slow(40)
@pytest.mark.parametrize(("kind", "sharding"), [(COMPACT, "none"), (UNET, "full")])
def test_two_ranks_under_torchrun_learn_what_one_learns(tmp_path, kind, sharding):
    packs = make_pack(tmp_path / "packs")
    changes = {"images": 48, "validations": 3, "checkpoint_images": 1000, "micro_batch": 3}
    changes |= {"network": kind, "onnx": kind is COMPACT}
    changes |= {"muon_rate": 0.0} if sharding == "full" else {}  # there AdamW moves all
    done = torchrun(tmp_path / "two", tiny(**changes, ranks=2, sharding=sharding), packs)
    assert done.returncode == 0, done.stderr[-3000:]
    one = tmp_path / "one"
    train(tiny(**changes), pixels=packs[0], splits=packs[1], model=one / "model", scratch=one / "scratch")
    wanted = weights(one)
    for name, weight in weights(tmp_path / "two").items():
        torch.testing.assert_close(weight, wanted[name], rtol=0.05, atol=4e-3, msg=name)
    assert checks(tmp_path / "two") == pytest.approx(checks(one), rel=0.01)
