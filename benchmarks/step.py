"""What a training step spends on being fed: order, noise, noise levels, labels, images; and what the old way cost.

    python benchmarks/step.py [--side 32] [--images 60000] [--batch 16] [--steps 12]

Processor time of one thread, the least of five rounds, with random images and the network of params.yaml.
"before" is how the same was done once: a whole permutation of the data set and the noise of the whole batch in every
step of every rank.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import peers
import torch

from components.dataset import counters, order, tensors
from components.diffusion import noise
from components.samples import pack
from components.samples.spec import image
from components.train import guards
from components.train.distributed.ranks import Group
from components.train.feed import Feed
from components.train.params import TrainParams
from components.train.state import start
from components.train.step import Step

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    """Print the table and the share."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=32, help="pixels, a multiple of 8")
    parser.add_argument("--images", type=int, default=60_000, help="in the data set")
    parser.add_argument("--batch", type=int, default=16, help="images of a step")
    parser.add_argument("--steps", type=int, default=12, help="steps of the network that are timed")
    options = parser.parse_args()
    torch.set_num_threads(1)
    params, group = _params(options.batch), Group(0, 1, torch.device("cpu"))
    with tempfile.TemporaryDirectory() as folder:
        pixels = _pixels(Path(folder), options.images, options.side)
        rows = torch.arange(options.images)
        feed, shape = Feed(params, pixels, rows, group), pixels.header.spec.shape
        places = torch.arange(options.batch)
        whole = _cost(_steps(lambda place: feed.batch(place), options.batch), 200)
        plan = order.DrawPlan(seed=0, batch=options.batch, count=options.images, label_dropout=0.1)
        parts = {
            "order, levels, labels": (
                _cost(lambda: _old_order(options.images, options.batch), 50),
                _cost(_steps(plan.at, options.batch), 2000),
            ),
            "noise": (
                _cost(lambda: torch.randn(options.batch, *shape, generator=noise.generator(0, "step", 1)), 50),
                _cost(lambda: counters.normal(0, places, shape), 50),
            ),
            "noise, one torch.Generator an image": (None, _cost(lambda: _by_image(options.batch, shape), 50)),
            "gather and normalise": (None, _cost(lambda: pixels.batch(rows[places * 37 % options.images]), 50)),
        }
        step = _network(params, pixels, feed, group, options.steps)
        adamw = _network(params.model_copy(update={"muon_rate": 0.0}), pixels, feed, group, options.steps)
    print("| part of a step | before, ms | now, ms | ratio |\n|---|---|---|---|")
    for name, (before, now) in parts.items():
        cells = ("", "") if before is None else (f"{before:.2f}", f"{before / now:.2f}")
        print(f"| {name} | {cells[0]} | {now:.2f} | {cells[1]} |")
    print(f"| all that feeds it | | {whole:.2f} | |\n| the step itself | | {step:.1f} | |")
    print(f"| of it Muon, which two ranks share | | {step - adamw:.1f} | |")
    print(
        f"\nshare of the feed: {100 * whole / (whole + step):.2f} % of the step (target: below 2 %)\n{peers.machine()}"
    )


def _cost(work: Callable[[], object], times: int) -> float:
    """Processor milliseconds of one call, the least of five rounds."""
    work()
    least = float("inf")
    for _ in range(5):
        before = time.process_time()
        for _ in range(max(1, times // 5)):
            work()
        least = min(least, (time.process_time() - before) / max(1, times // 5))
    return 1000 * least


def _steps(work: Callable[[int], object], batch: int) -> Callable[[], object]:
    """``work`` at the next place each time."""
    places = iter(range(0, 1 << 60, batch))
    return lambda: work(next(places))


def _old_order(count: int, batch: int) -> torch.Tensor:
    order = torch.randperm(count, generator=noise.generator(0, "order", 0))
    source = noise.generator(0, "step", 1)
    torch.randperm(batch, generator=source)
    torch.rand(2, batch, generator=source)
    return order[:batch]


def _by_image(batch: int, shape: tuple[int, ...]) -> torch.Tensor:
    return torch.stack([torch.randn(shape, generator=torch.Generator().manual_seed(i + 1)) for i in range(batch)])


def _network(params: TrainParams, pixels: tensors.Pixels, feed: Feed, group: Group, steps: int) -> float:
    state = start(params, pixels, group)
    step, batch = Step(params, state, group), feed.batch(0)

    def one() -> None:
        guards.mean_loss(step(batch, (False, False)))
        state.images_seen += params.batch

    return _cost(one, steps)


def _params(batch: int) -> TrainParams:
    from ruamel.yaml import YAML

    values = YAML(typ="safe", pure=True).load(ROOT / "params.yaml")["train"]
    changes = {"batch": batch, "ranks": 1, "images": 1 << 20, "compile": False}
    return TrainParams.model_validate(values | changes, strict=False)


def _pixels(folder: Path, count: int, side: int) -> tensors.Pixels:
    one = os.urandom(side * side * 3 * 100)
    keys = ["0" * 64] * count
    blobs = (one[: min(100, count - first) * side * side * 3] for first in range(0, count, 100))
    pack.write(folder, blobs, spec=image((3, side, side)), keys=keys, classes=("a", "b"),
               class_ids=[i % 2 for i in range(count)])  # fmt: skip
    return tensors.Pixels(folder)


if __name__ == "__main__":
    main()
