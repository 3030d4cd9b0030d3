"""Ray gives what the local pool gives: the same results in the same order, with one item lost where a decoder dies."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from data_fixtures import WHITE, png

from components.base import on_ray, parallel
from components.base.errors import UserError
from components.clean import fingerprints

LOOPBACK = {"node_ip_address": "127.0.0.2", "object_store_memory": 80 * 2**20}


DEADLY = b"crash"


def examined(batch):
    """Fingerprints by a decoder that crashes on one item."""
    if DEADLY in batch:
        os.kill(os.getpid(), signal.SIGSEGV)
    return [row.tobytes() for row in fingerprints.examine([(data, WHITE) for data in batch], max_pixels=10**6)]


def wrong(batch):
    raise KeyError(batch[0])


def lost(item, loss):
    return f"lost {item.decode()}: {loss.why}"


@pytest.fixture(scope="module")
def cluster():
    """The address of two raylets of one core each, on loopback."""
    import ray
    from ray.cluster_utils import Cluster

    # This module is none that the stages ship to other machines.
    os.environ["PYTHONPATH"] = os.pathsep.join([*map(str, Path(__file__).parents[:2]), os.environ["PYTHONPATH"]])
    head = {**LOOPBACK, "num_cpus": 1, "include_dashboard": False}
    made = Cluster(initialize_head=True, head_node_args=head)
    made.add_node(num_cpus=1, **LOOPBACK)
    yield made.address
    ray.shutdown()
    for node in made.list_all_nodes():
        node.kill_all_processes(check_alive=False, allow_graceful=False)


@pytest.mark.slow
@pytest.mark.timeout(900)  # 60 to 90 s on two cores, and several times that beside other tests
def test_several_raylets_give_what_the_local_pool_gives(cluster, monkeypatch):
    batches = [[png(at), DEADLY if at == 6 else b"no image"] for at in range(12)]
    monkeypatch.setenv(parallel.ENGINE, "local")
    local = list(parallel.ordered(examined, batches, lost=lost))
    monkeypatch.setenv(parallel.ENGINE, "ray")
    monkeypatch.setenv(parallel.ADDRESS, cluster)
    there = list(parallel.ordered(examined, iter(batches), lost=lost))
    assert there == local and [len(batch) for batch in there] == [2] * 12
    assert there[6][1].startswith("lost crash: the decoder crashed") and len({batch[0] for batch in there}) == 12

    with pytest.raises(KeyError):  # while the thread that feeds waits for room: it is ended too
        list(parallel.ordered(wrong, ([at] for at in range(1000))))
    with pytest.raises(UserError, match="half a shard"):
        list(parallel.ordered(examined, broken_off()))


def broken_off():
    yield [b"no image"]
    raise UserError("half a shard")


def test_nothing_to_do_starts_nothing(monkeypatch):
    monkeypatch.setattr(on_ray, "_connected", lambda address: pytest.fail("connected"))
    monkeypatch.setenv(parallel.ENGINE, "ray")
    assert list(parallel.ordered(examined, [])) == []


def test_without_the_package_one_line_names_the_extra(monkeypatch):
    monkeypatch.setattr(on_ray.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setenv(parallel.ENGINE, "ray")
    with pytest.raises(UserError, match=r"pip install 'stillroom\[ray\]'"):
        list(parallel.ordered(examined, [[b""]]))


def test_an_engine_that_is_none_is_one_line(monkeypatch):
    monkeypatch.setenv(parallel.ENGINE, "spark")
    with pytest.raises(UserError, match="STILLROOM_ENGINE=spark: not an engine"):
        list(parallel.ordered(examined, [[b""]]))
