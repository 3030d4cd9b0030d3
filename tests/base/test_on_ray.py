"""Ray gives what the local pool gives: the same results in the same order, with one item lost where a decoder dies."""

from __future__ import annotations

import os
import signal
from functools import partial
from pathlib import Path

import pytest
from data_fixtures import WHITE, png

from components.base import on_ray, parallel
from components.base.errors import UserError
from components.clean import fingerprints

LOOPBACK = {"node_ip_address": "127.0.0.2", "object_store_memory": 80 * 2**20}


def deadly(batch):
    """A decoder that crashes on one item; who did it is told."""
    if 13 in batch:
        os.kill(os.getpid(), signal.SIGSEGV)
    return [(item * 10, os.getpid()) for item in batch]


def wrong(batch):
    raise KeyError(batch[0])


def lost(item, why):
    return f"lost {item}: {why}", 0


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


def both(monkeypatch, cluster, function, batches, **options):
    """What the local pool makes of ``batches``, and what the cluster makes of them."""
    batches = list(batches)
    monkeypatch.setenv(parallel.ENGINE, "local")
    local = list(parallel.ordered(function, batches, **options))
    monkeypatch.setenv(parallel.ENGINE, "ray")
    monkeypatch.setenv(parallel.ADDRESS, cluster)
    return local, list(parallel.ordered(function, iter(batches), **options))


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_several_raylets_give_what_the_local_pool_gives(cluster, monkeypatch):
    fingerprint = partial(fingerprints.examine, max_pixels=10**6)
    batches = [[(png(at), WHITE), (b"no image", WHITE)] for at in range(12)]
    local, there = both(monkeypatch, cluster, fingerprint, batches)
    assert [each.tobytes() for each in there] == [each.tobytes() for each in local] and len(there) == 12

    local, there = both(monkeypatch, cluster, deadly, [[at, at + 1] for at in range(0, 40, 2)], lost=lost)
    assert [result for batch in there for result, _ in batch] == [result for batch in local for result, _ in batch]
    found = [result for batch in there for result, _ in batch]
    assert found[12] == 120 and str(found[13]).startswith("lost 13: the decoder crashed") and len(found) == 40

    monkeypatch.setenv(parallel.ENGINE, "ray")
    with pytest.raises(KeyError):
        list(parallel.ordered(wrong, [[1], [2]]))
    with pytest.raises(UserError, match="half a shard"):
        list(parallel.ordered(deadly, broken_off()))
    results = parallel.ordered(deadly, ([at] for at in range(20, 1000)))
    assert next(results)[0][0] == 200
    results.close()  # leaves nothing that waits


def broken_off():
    yield [1]
    raise UserError("half a shard")


def test_nothing_to_do_starts_nothing(monkeypatch):
    monkeypatch.setattr(on_ray, "_connected", lambda address: pytest.fail("connected"))
    monkeypatch.setenv(parallel.ENGINE, "ray")
    assert list(parallel.ordered(deadly, [])) == []


def test_without_the_package_one_line_names_the_extra(monkeypatch):
    monkeypatch.setattr(on_ray.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setenv(parallel.ENGINE, "ray")
    with pytest.raises(UserError, match=r"pip install 'stillroom\[ray\]'"):
        list(parallel.ordered(deadly, [[1]]))


def test_an_engine_that_is_none_is_one_line(monkeypatch):
    monkeypatch.setenv(parallel.ENGINE, "spark")
    with pytest.raises(UserError, match="STILLROOM_ENGINE=spark: not an engine"):
        list(parallel.ordered(deadly, [[1]]))
