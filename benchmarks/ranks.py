"""Two ranks on two cores beside one rank on one core: training steps at the same global batch; and what they exchange.

    PYTHONPATH=. python benchmarks/ranks.py [--rounds 5] [--batch 32]

One rank and two take turns, each as processes of their own, pinned to their cores; the best round of each counts, and
the ratio of the two bests is printed.  A busy machine makes the second rank wait for a core that is not there: run it
when nothing else runs (the load is printed).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import peers
import torch
from torch import distributed as dist

from components.base import config
from components.dataset import tensors
from components.samples import pack
from components.samples.spec import image
from components.train.distributed.ranks import together
from components.train.feed import Feed
from components.train.params import TrainParams
from components.train.state import start
from components.train.step import Step

NETWORKS = {
    "UNet2DModel": {"network": {"kind": "unet", "widths": [32, 64, 128], "layers_per_block": 2}, "muon_rate": 0.0},
    "default": {},
}
"""What differs from section `train` of params.yaml."""

NUMBERS, EXCHANGES = 1_200_000, 60
"""About the weights of the default network, and how often they are added up."""

STEPS, WARM_UP = {"UNet2DModel": 4, "default": 10}, 2


def work(job: dict) -> None:
    """Be a rank: train, and print the seconds of a step (rank 0)."""
    params = TrainParams.model_validate_json(json.dumps(job["params"]))
    pixels, steps = tensors.Pixels(Path(job["pixels"])), job["steps"]
    with together(params.ranks, Path(job["scratch"]), [__file__, "--work", json.dumps(job)]) as group:
        os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[group.rank]})
        state = start(params, pixels, group)
        step, feed = Step(params, state, group), Feed(params, pixels, torch.arange(pixels.header.rows), group)
        best = float("inf")
        for at in range(WARM_UP + steps):
            group.wait()
            began = time.perf_counter()
            step(feed.batch(at * params.batch), (False, False))
            group.wait()
            state.images_seen += params.batch
            if at >= WARM_UP:
                best = min(best, time.perf_counter() - began)
        if group.rank == 0:
            print(json.dumps(best), flush=True)


def exchange(job: dict) -> None:
    """Be a rank: print the median milliseconds of adding up gradients in shared memory and by gloo (rank 0)."""
    with together(2, Path(job["scratch"]), [__file__, "--exchange", json.dumps(job)]) as group:
        os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[group.rank]})
        numbers, medians = torch.ones(job["numbers"]), []
        for add in (group.pool, dist.all_reduce):
            spent = []
            for _ in range(EXCHANGES):
                group.wait()
                began = time.perf_counter()
                add(numbers)
                spent.append(1000 * (time.perf_counter() - began))
            medians.append(statistics.median(spent))
        if group.rank == 0:
            print(json.dumps(medians), flush=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="turns of each")
    parser.add_argument("--batch", type=int, default=32, help="images of a step over all ranks")
    parser.add_argument("--work", type=json.loads, help=argparse.SUPPRESS)
    parser.add_argument("--exchange", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work or options.exchange:
        work(options.work) if options.work else exchange(options.exchange)
        return
    print("| network | one rank, images/s | two ranks, images/s | ratio | target |\n|---|---|---|---|---|")
    for name, changes in NETWORKS.items():
        best = {1: float("inf"), 2: float("inf")}
        for _ in range(options.rounds):
            for ranks in best:
                best[ranks] = min(best[ranks], _seconds(changes, ranks, options.batch, STEPS[name]))
        rates = {ranks: options.batch / seconds for ranks, seconds in best.items()}
        print(f"| {name} | {rates[1]:.1f} | {rates[2]:.1f} | {rates[2] / rates[1]:.2f} | 1.8 |", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        shared, gloo = _answer("--exchange", {"numbers": NUMBERS, "scratch": folder})
    print(f"\n{NUMBERS:,} numbers added up over two ranks: {shared:.1f} ms in shared memory, {gloo:.1f} ms by gloo")
    print(f"\nload {os.getloadavg()[0]:.1f} (2 is this alone), global batch {options.batch}. {peers.machine()}")


def _seconds(changes: dict, ranks: int, batch: int, steps: int) -> float:
    """Of the best step."""
    same = {"ranks": ranks, "batch": batch, "images": 10**6, "precision": "fp32", "compile": False}
    values = config.read(peers.ROOT / "params.yaml")["train"] | same | changes
    with tempfile.TemporaryDirectory() as folder:
        pixels = Path(folder) / "pixels"
        pixels.mkdir()
        blobs = [os.urandom(32 * 32 * 3) for _ in range(512)]
        keys = [f"{at:064x}" for at in range(512)]
        pack.write(pixels, blobs, spec=image((3, 32, 32)), keys=keys, classes=(), class_ids=[-1] * 512)
        job = {"params": values, "pixels": str(pixels), "scratch": folder, "steps": steps}
        return _answer("--work", job)


def _answer(order: str, job: dict) -> Any:
    """What rank 0 of the ranks that get ``order`` prints."""
    done = subprocess.run(
        [sys.executable, __file__, order, json.dumps(job)], stdout=subprocess.PIPE, text=True, check=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "PYTHONPATH": str(peers.ROOT)},
    )  # fmt: skip
    return json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    main()
