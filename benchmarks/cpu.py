"""Where a training step on one CPU core spends its time, and how near each part comes to the core's peak.

    PYTHONPATH=. python benchmarks/cpu.py [--side 32] [--batch 8] [--steps 20]

With random images and section train of params.yaml; a batch of 8 is what one of its two ranks has.  Shares are those of
torch's profiler, milliseconds those shares of the processor time of a step that is not profiled, the least of five
rounds.  FLOPs are counted, two a multiply-add; the peak is that of a matrix product on the same core.
"""

from __future__ import annotations

import argparse
import copy
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import peers
import step
import torch
from torch.profiler import ProfilerActivity, profile, record_function
from torch.utils.flop_counter import FlopCounterMode

from components.networks import precision, registry
from components.train import guards, throughput
from components.train.distributed.ranks import Group
from components.train.feed import Feed
from components.train.state import start
from components.train.step import Step

OPTIMISER = "optimiser"
PARTS = {
    "convolutions, backward": ("convolution_backward",),
    "convolutions, forward": ("convolution", "conv"),
    "matrix products": ("mm", "addmm", "bmm", "baddbmm", "linear", "matmul"),
    "LayerNorm": ("layer_norm", "norm"),
    "copies and casts": ("copy", "clone", "contiguous", "to", "cat", "stack"),
    "activations": ("silu", "softmax"),
    "sums over an axis": ("sum", "mean"),
}
"""What a name of an operator has in it, the first that fits; the rest is other arithmetic, element by element."""

OTHERS = "other arithmetic, and calls themselves"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=32, help="pixels, a multiple of 8")
    parser.add_argument("--batch", type=int, default=8, help="images of a step")
    parser.add_argument("--steps", type=int, default=20, help="steps that are profiled, and timed in each round")
    options = parser.parse_args()
    torch.set_num_threads(1)
    params, group = step._params(options.batch), Group(0, 1, torch.device("cpu"))
    with tempfile.TemporaryDirectory() as folder:
        pixels = step._pixels(Path(folder), 1000, options.side)
        state = start(params, pixels, group)
        one, feed = Step(params, state, group), Feed(params, pixels, torch.arange(1000), group)
        batch = feed.batch(0)

        def work() -> None:
            guards.mean_loss(one(batch, (False, False)))
            state.images_seen += params.batch

        took = step._cost(work, 5 * options.steps)
        spent = _profiled(work, state.optimiser, options.steps)
    counted = _flops(state.network)
    chosen = precision.resolve(group.device, params.precision)
    peak = max(throughput.peak(group.device, chosen) for _ in range(20))  # a busy machine hides it from some
    whole, flops = sum(spent.values()), options.batch * sum(counted.values())
    print(f"| part of a step of {options.batch} images | ms | share | GFLOP/s | of the peak |\n|---|---|---|---|---|")
    for name, time in spent.most_common():
        milliseconds = took * time / whole
        rate = options.batch * counted[name] / milliseconds * 1e3
        cells = (f"{rate / 1e9:.1f}", f"{100 * rate / peak:.0f} %") if rate else ("", "")
        print(f"| {name} | {milliseconds:.2f} | {100 * time / whole:.0f} % | {cells[0]} | {cells[1]} |")
    rate = flops / took * 1e3
    print(f"| all of it | {took:.1f} | | {rate / 1e9:.1f} | {100 * rate / peak:.0f} % |")
    print(f"\n{options.batch / took * 1e3:.0f} images/s of one core, peak {peak / 1e9:.0f} GFLOP/s; {peers.machine()}")


def _profiled(work: Any, optimiser: Any, steps: int) -> Counter[str]:
    """Time by part, in microseconds; what the optimiser does is one."""
    own = optimiser.step

    def named() -> Any:
        with record_function(OPTIMISER):
            return own()

    optimiser.step = named
    with profile(activities=[ProfilerActivity.CPU]) as found:
        for _ in range(steps):
            work()
    optimiser.step = own
    spent: Counter[str] = Counter()
    for event in found.events():
        parent, inside = event, False
        while parent is not None and not inside:
            parent, inside = parent.cpu_parent, parent.name == OPTIMISER
        spent["the optimiser" if inside else _part(event.name)] += event.self_cpu_time_total
    return spent


def _part(name: str) -> str:
    """The part that operator ``name`` belongs to; what autograd adds to a call is none of the operator's."""
    words = name.removeprefix("aten::").removeprefix("_").split("_")
    if not name.startswith("aten::"):
        return OTHERS
    for part, found in PARTS.items():
        if any(each in words or ("_" in each and each in name) or (each == "conv" and each in name) for each in found):
            return part
    return OTHERS


def _flops(network: Any) -> Counter[str]:
    """FLOPs of one image by part, forward and backward."""
    with FlopCounterMode(display=False) as counter:
        given = registry.examples(network, torch.tensor([3.0]))
        copy.deepcopy(network).train()(**given).sample.sum().backward()
    found: Counter[str] = Counter()
    for operator, count in counter.get_flop_counts()["Global"].items():
        found[_part(f"aten::{operator.__name__}")] += count
    return found


if __name__ == "__main__":
    main()
