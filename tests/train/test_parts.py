"""Checkpoints in parts: any number of ranks reads them, damage and a kill lose nothing, and no pickle is in them."""

import shutil

import pytest
import torch
from forked import import_sharding, in_pairs
from killing import killed_at
from torch import distributed, nn

from components.train import checkpoint
from components.train.distributed import sharding
from components.train.distributed.ranks import Group

ALONE = Group(0, 1, torch.device("cpu"))


class Uneven(nn.Module):
    """Rows that two ranks cannot share evenly, and one row that one of them has."""

    def __init__(self):
        super().__init__()
        self.blocks, self.last = nn.ModuleList([nn.Linear(4, 5)]), nn.Linear(5, 1)


def built():
    torch.manual_seed(5)
    return Uneven()


def moment(weight):
    return weight.detach().full_tensor() if sharding.is_cut(weight) else weight.detach()


def state(network, images=16):
    """As a training's: weights, a moment that is sharded like one, and what is not sharded."""
    weights = network.state_dict()
    moments = {0: {"exp_avg": weights["last.weight"] * 2, "step": torch.tensor(3.0)}}
    return {"network": weights, "optimiser": {"state": moments, "param_groups": [{"lr": 0.1, "params": [0]}]},
            "images_seen": images, "history": [{"step": images, "loss": None}], "betas": (0.9, 0.99)}  # fmt: skip


def leaves(tree, name=""):
    """Tensors and values by their places, sharded tensors as this rank's rows."""
    if isinstance(tree, dict | list | tuple):
        parts = tree.items() if isinstance(tree, dict) else enumerate(tree)
        return {place: leaf for key, part in parts for place, leaf in leaves(part, f"{name}/{key}").items()}
    return {name: tree.to_local() if sharding.is_cut(tree) else tree}


def same(found, wanted):
    torch.testing.assert_close(
        {name: leaf for name, leaf in leaves(found).items() if leaf is not None},
        {name: leaf for name, leaf in leaves(wanted).items() if leaf is not None}, rtol=0, atol=0,
    )  # fmt: skip
    assert leaves(found).keys() == leaves(wanted).keys()


def zeroed(tree):
    if isinstance(tree, dict):
        return {name: zeroed(part) for name, part in tree.items()}
    return torch.zeros_like(tree) if isinstance(tree, torch.Tensor) else tree


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder with the whole checkpoint of 8 images and one of 16 in the parts of two ranks."""
    folder = tmp_path_factory.mktemp("saved")
    checkpoint.save(folder / "kept", 8, state(built(), 8), keep=9)

    def work(group):
        wanted = state(sharding.begun(built, group, precision="fp32"))
        checkpoint.save_parts(folder / "kept", 16, wanted, group, keep=9)
        like = zeroed(wanted)
        same(checkpoint.load(folder / "kept", group=group, like=lambda saved: like), wanted)
        whole = checkpoint.load(folder / "kept", most=8, group=group, mapped=True)
        same(sharding.cut(whole, like), wanted | {"images_seen": 8, "history": [{"step": 8, "loss": None}]})

    in_pairs(work, folder)
    return folder / "kept"


@pytest.fixture
def kept(saved, tmp_path):
    shutil.copytree(saved, tmp_path / "kept")
    return tmp_path / "kept"


def parts(folder):
    (found,) = (path for path in folder.iterdir() if path.is_dir())
    return found


def test_what_two_ranks_wrote_one_reads_whole(saved):
    same(checkpoint.load(saved), state(built()))
    same(checkpoint.load(saved, most=15), state(built(), 8))


def test_each_rank_writes_its_own_rows_as_safetensors(saved):
    files = {path.name: path.stat().st_size for path in parts(saved).iterdir() if path.suffix != ".sha256"}
    assert files.keys() == {"rest.pt", *(f"shard-0000{at}-model-00001-of-00001.safetensors" for at in (1, 2))}
    held = {}
    for at in (1, 2):
        blob = (parts(saved) / f"shard-0000{at}-model-00001-of-00001.safetensors").read_bytes()
        held[at] = len(blob) - 8 - int.from_bytes(blob[:8], "little")
    numbers = {1: 3 * 4 + 3 + 5 + 1 + 5, 2: 2 * 4 + 2}
    assert held == {at: 4 * count for at, count in numbers.items()}


@pytest.mark.parametrize("name", ["rest.pt", "shard-00002-model-00001-of-00001.safetensors", "rest.pt.sha256"])
@pytest.mark.parametrize("how", ["flip", "gone"])
def test_a_damaged_part_falls_back_to_the_checkpoint_before(kept, name, how, caplog):
    path = parts(kept) / name
    blob = bytearray(path.read_bytes())
    blob[len(blob) // 2] ^= 1
    path.write_bytes(blob) if how == "flip" else path.unlink()
    assert checkpoint.load(kept)["images_seen"] == 8
    assert "damaged: going back" in caplog.text
    assert [path.suffix for path in kept.iterdir()] == [".pt"], "it is gone"


def test_only_the_last_are_kept_and_later_ones_are_forgotten(kept):
    checkpoint.save(kept, 24, state(built(), 24), keep=2)
    assert [int(path.name[:12]) for path in sorted(kept.iterdir())] == [16, 24]
    checkpoint.forget(kept, 15)
    assert not list(kept.iterdir())


@pytest.mark.slow(8)
def test_a_kill_at_any_moment_leaves_a_whole_checkpoint(tmp_path):
    folder = tmp_path / "kept"
    checkpoint.save(folder, 8, state(built(), 8), keep=1)

    def save():
        distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
        torch.set_num_threads(1)
        wanted = state(sharding.begun(built, ALONE, precision="fp32"))
        checkpoint.save_parts(folder, 16, wanted, ALONE, keep=1)

    import_sharding()
    found, step = [], 1
    while killed_at(step, folder, save):
        back = checkpoint.load(folder)
        same(back, state(built(), back["images_seen"]))
        found.append(back["images_seen"])
        step += 1
    assert found == sorted(found), "the old one until the new one is there"
    assert {8, 16} == set(found), "moments before and after"
    assert [int(path.name[:12]) for path in folder.iterdir()] == [16]
