"""One GPU in at most eight minutes: the default training, Hugging Face's recipe and ours on one network, sampling.

    PYTHONPATH=. python benchmarks/gpu.py                  # on a GPU, one Markdown table
    PYTHONPATH=. python benchmarks/gpu.py --minutes 4      # what matters most, as far as four minutes go
    PYTHONPATH=. python benchmarks/gpu.py --smoke          # that it runs: tiny, on the CPU; its figures mean nothing

The peer (gpu_script.py) is the loop of examples/unconditional_image_generation/train_unconditional.py of diffusers: its
network, batch 16, AdamW 1e-4, DDPM with linear betas, fp32 by default, written anew on accelerate, with its data
loader: PIL images, torchvision transforms, no workers.  Ours is a step of components/train on that network.  Everything
waits for the device at both ends of a timing, and nowhere else.  Each part has its own time, and what it found is
printed at once, most important first.  One part trains by `python -m components train` for a minute, on data/pixels and
data/splits where the checkout has them, else on random pictures, leaves samples in --sheet, and draws and describes
10,000 more as `evaluate` does.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gpu_counts
import gpu_script
import gpu_stage
import peers
import torch
from torch import Tensor, nn

from components.base import config
from components.dataset import counters, tensors
from components.model import denoiser, sampling
from components.networks import precision, registry
from components.samples import pack
from components.samples import spec as specs
from components.train import captured, throughput
from components.train.distributed.ranks import Group, _device
from components.train.feed import Batch, Feed, Given
from components.train.params import TrainParams
from components.train.state import start
from components.train.step import Step

WIDTHS = (128, 128, 256, 256, 512, 512)
"""Of the script's network; attention at the last but one."""

DIT = {"kind": "dit", "patch": 4, "width": 768, "depth": 12, "heads": 12}
SAMPLE_STEPS, PEER_STEPS = 16, 1000


class Bench:
    """The device, the size of everything, and the time that is left."""

    def __init__(self, minutes: float, smoke: bool) -> None:
        self.smoke, self.end = smoke, time.monotonic() + 60 * minutes
        self.group = Group(0, 1, torch.device("cpu") if smoke else _device(0))
        self.seconds, self.warm = (0.1, 1) if smoke else (4.0, 8)
        self.widths = (32, 32) if smoke else WIDTHS
        self.rows: list[str] = []
        self.rates: dict[str, float] = {}
        self.first = 0.0

    @property
    def device(self) -> torch.device:
        """Where everything runs."""
        return self.group.device

    def rate(self, step: Callable[[], int]) -> float:
        """Images a second of ``step``, which returns its images; ``first`` is how long the first took, in seconds."""
        began = time.perf_counter()
        step()
        self._wait()
        self.first = time.perf_counter() - began
        for _ in range(self.warm - 1):
            step()
        self._wait()
        began, images = time.perf_counter(), 0
        while time.perf_counter() - began < self.seconds or not images:
            images += sum(step() for _ in range(1 if self.smoke else 4))
        self._wait()
        return images / (time.perf_counter() - began)

    def add(self, name: str, rate: float, note: str = "") -> None:
        """One row of the table."""
        self.rates[name] = rate
        self.rows.append(f"| {name} | {rate:,.1f} | {note} |")
        print(self.rows[-1], flush=True)

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()


class Ours:
    """The step of components/train/step.py on ``model``, or on the network of ``changes``."""

    def __init__(
        self, bench: Bench, images: Tensor, batch: int, folder: Path, model: nn.Module | None = None, **changes: Any
    ) -> None:
        side, pixels = images.shape[1], folder / "pixels"
        if not pixels.is_dir():
            pixels.mkdir()
            blobs = [image.numpy().tobytes() for image in images]
            keys = [f"{at:064x}" for at in range(len(blobs))]
            spec = specs.image((3, side, side))
            pack.write(pixels, blobs, spec=spec, keys=keys, classes=(), class_ids=[-1] * len(blobs))
        self.pixels = tensors.Pixels(pixels)
        values = config.read(peers.ROOT / "params.yaml")["train"]
        # The network of params.yaml may want options of its own; the one that is built is another.
        plain = {"kind": "unet", "widths": [32], "layers_per_block": 1}
        values |= {
            "precision": "fp32" if bench.smoke else "auto", "batch": batch, "images": 10**7, "ranks": 1,
            "network": plain, "objective": "v", "schedule": "cosine", "levels": "schedule", "weighting": "plain",
            "compile": False, "onnx": False, "muon_rate": 0.0, **changes,
        }  # fmt: skip
        self.params = TrainParams.model_validate_json(json.dumps(values))
        built = registry.build
        if model is not None:
            registry.build = lambda *_, **__: model
        try:
            self.state = start(self.params, self.pixels, bench.group)
        finally:
            registry.build = built
        self.feed: Any = Feed(self.params, self.pixels, torch.arange(len(images)), bench.group)
        self.steps = captured.Steps(Step(self.params, self.state, bench.group), self.feed)

    def step(self) -> int:
        """One optimiser step; the images it showed."""
        self.steps(self.state.images_seen, None, (False, False))
        self.state.images_seen += self.params.batch
        return self.params.batch

    def unfed(self) -> None:
        """From now on show one batch again and again."""
        self.steps.feed = Still(self.feed)
        self.steps.forget()


class Still:
    """Stands for a feed that costs nothing."""

    def __init__(self, source: Feed) -> None:
        one = source.batch(0)
        self.group, self.one = source.group, one._replace(image=one.image.clone())

    def given(self, *_: object) -> Given:
        """What :meth:`made` needs."""
        return Given(self.one.sigma, self.one.sigma, self.one.sigma, {})

    def made(self, _: Given) -> Batch:
        """The batch."""
        return self.one

    def batch(self, *_: object) -> Batch:
        """The same, of any place."""
        return self.one


def default(bench: Bench, batch: int, *, compile: bool = False) -> None:
    """The training of params.yaml on images of 32 px, what the feed and Muon take of a step, and what is launched."""
    values = config.read(peers.ROOT / "params.yaml")["train"]
    chosen = {name: values[name] for name in ("network", "objective", "schedule", "levels", "weighting", "onnx")}
    side, rates = 16 if bench.smoke else 32, {}
    with tempfile.TemporaryDirectory() as name:
        images = gpu_stage.pictures(64 if bench.smoke else 4096, side)
        for rate in (values["muon_rate"], 0.0):
            mine = Ours(bench, images, batch, Path(name), **chosen, muon_rate=rate, compile=compile)
            rates[rate > 0] = bench.rate(mine.step)
            if rate:
                first, (launches, waits) = bench.first, gpu_counts.counts(mine.step)
                mine.unfed()
                still = bench.rate(mine.step)
    fed, plain = rates[True], rates[False]
    note = f"feed {1 - fed / still:.1%} of a step, Muon {1 - fed / plain:.1%}; first step {first:.1f} s"
    label = f"default{', compiled' if compile else ''}, {side} px, batch {batch}"
    bench.add(label, fed, f"{note}, {launches:.0f} launches, {waits:.1f} waits")


def trained(bench: Bench, sheet: Path) -> None:
    """The stage itself, from its start to its end, and what evaluating 10,000 of its samples takes."""
    known = bench.rates.get("default, 32 px, batch 128", 0.0)
    images, count = int(known * gpu_stage.SECONDS) // 128 * 128 or 256, 16 if bench.smoke else 10_000
    with tempfile.TemporaryDirectory() as name:
        found = gpu_stage.train(Path(name), images, smoke=bench.smoke)
        ids = gpu_stage.drawn(Path(name), bench.device, sheet)
        bench.add("stage train, from its start", images / found.took, f"{found.note()}; samples in {sheet}")
        took = gpu_stage.evaluated(Path(name), ids, count)
    bench.add(f"draw and describe {count}, as evaluate does", count / took, f"{took:.1f} s")


def noise(bench: Bench) -> None:
    """Whether the device's noise has the bits of the CPU's, and what a batch of it costs."""
    count, side = (4, 16) if bench.smoke else (256, 64)
    places = torch.arange(count, device=bench.device)

    def draw() -> int:
        counters.normal(0, places, (3, side, side), bench.device)
        return count

    bench.add(f"noise, {side} px, batch {count}", bench.rate(draw), f"bits: {gpu_counts.noise_bits(bench.device)}")


def training(bench: Bench, side: int, batch: int, *, largest: bool) -> None:
    """The script at its defaults and in bf16, then ours; with ``largest`` the script at our batch and ours compiled."""
    images = gpu_stage.pictures(64 if bench.smoke else max(256, 2**23 // side**2), side)
    small = 4 if bench.smoke else 16
    with tempfile.TemporaryDirectory() as name:
        network, label = gpu_script.unet(side, bench.widths), "ours, compiled" if largest else "ours"
        if not largest:
            kinds = [("bf16", batch)] if side > 200 else [("fp32", small), ("bf16", small), ("bf16", batch)]
            for kind, size in kinds:
                arithmetic = "fp32" if bench.smoke else kind
                peer = gpu_script.Script(images, bench.widths, arithmetic, size, cpu=bench.smoke)
                rate = bench.rate(peer.step)
                bench.add(f"script, {side} px, {kind}, batch {size}", rate)
            bench.add(f"the network alone, {side} px, bf16, batch {batch}", alone(bench, network, side, batch))
        mine = Ours(bench, images, batch, Path(name), network, compile=largest and not bench.smoke)
        rate = bench.rate(mine.step)
        peers_of = {
            "of the script in fp32": f"script, {side} px, fp32, batch {small}",
            "of the script in bf16": f"script, {side} px, bf16, batch {small}",
            "of it at this batch": f"script, {side} px, bf16, batch {batch}",
            "of the network alone": f"the network alone, {side} px, bf16, batch {batch}",
        }
        shares = [f"{rate / bench.rates[row]:.2f} {what}" for what, row in peers_of.items() if row in bench.rates]
        bench.add(f"{label}, {side} px, bf16, batch {batch}", rate, "; ".join([*shares, used(bench, mine, rate)]))
        if not largest and side < 200:
            launches, waits = gpu_counts.counts(mine.step)
            mine.unfed()
            still = bench.rate(mine.step)
            note = f"feed: {100 * (1 - rate / still):.1f} % of a step; {launches:.0f} launches, {waits:.1f} waits"
            bench.add(f"the same without a feed, {side} px", still, note)
            del mine
            moved = Ours(bench, images, batch, Path(name), gpu_script.unet(side, bench.widths), muon_rate=0.01)
            with_muon = bench.rate(moved.step)
            bench.add(f"the same with Muon, {side} px", with_muon, f"Muon: {100 * (1 - with_muon / rate):.1f} %")


def alone(bench: Bench, network: nn.Module, side: int, batch: int) -> float:
    """Images a second of the forward and backward pass of ``network``, fed with one batch of noise."""
    network = network.to(bench.device, memory_format=torch.contiguous_format)
    given = torch.randn(batch, 3, side, side, device=bench.device)
    timesteps = torch.ones(batch, device=bench.device)

    def turn() -> int:
        with precision.autocast(bench.device, "auto"):
            loss = network(given, timesteps).sample.float().square().mean()
        loss.backward()
        network.zero_grad()
        return batch

    return bench.rate(turn)


def used(bench: Bench, mine: Ours, rate: float) -> str:
    """The share of the measured peak that ``rate`` images a second are, and how long the first step took."""
    network = mine.state.network
    each = throughput.flops(network, registry.sample_shape(network), labels=False)
    peak = throughput.peak(bench.device, "fp32" if bench.smoke else "bf16")
    share = f"{each * rate / 1e12:.3g} TFLOP/s, {100 * each * rate / peak:.0f} % of the measured {peak / 1e12:.3g}"
    return f"{share}; first step {bench.first:.1f} s"


def transformer(bench: Bench) -> None:
    """A DiT of 12 blocks at 64 px."""
    side, batch = (16, 4) if bench.smoke else (64, 256)
    chosen = DIT | ({"width": 32, "depth": 1, "heads": 2} if bench.smoke else {})
    with tempfile.TemporaryDirectory() as name:
        mine = Ours(bench, gpu_stage.pictures(64, side), batch, Path(name), network=chosen, compile=not bench.smoke)
        rate = bench.rate(mine.step)
        bench.add(
            f"DiT {chosen['depth']} x {chosen['width']}, {side} px, bf16, batch {batch}", rate, used(bench, mine, rate)
        )


def drawing(bench: Bench) -> None:
    """Pictures a second: `DDPMPipeline`'s loop with 1,000 steps in fp32 (from a few) and `sampling.sample`."""
    from diffusers import DDPMScheduler

    side, count, steps = (16, 4, 2) if bench.smoke else (64, 64, 20)
    network = gpu_script.unet(side, bench.widths)
    with tempfile.TemporaryDirectory() as name:
        images = gpu_stage.pictures(16, side)
        mine = Ours(bench, images, 4, Path(name), network)
        denoiser.save(Path(name) / "model", network, mine.state.objective, {
            "format": 2, "classes": [], "null_class": None, "side": side, "weighting": "plain", "steps": SAMPLE_STEPS,
            "guidance": 1.0, "images_seen": 0, "train_images": 0,
        })  # fmt: skip
        model = sampling.load(Path(name) / "model", bench.device)
        network, schedule = network.to(bench.device).eval(), DDPMScheduler(num_train_timesteps=PEER_STEPS)

        @torch.no_grad()
        def walk() -> int:
            x = torch.randn(count, 3, side, side, device=bench.device)
            for timestep in schedule.timesteps[:steps]:
                x = schedule.step(network(x, timestep).sample, timestep, x).prev_sample
            return count

        base = bench.rate(walk) * steps / PEER_STEPS
        bench.add(f"DDPMPipeline, {PEER_STEPS} steps, {side} px", base, f"from {steps} steps")
        rate = bench.rate(lambda: len(sampling.sample(model, [-1] * count, seed=0)))
        bench.add(f"ours, {SAMPLE_STEPS} steps of {model.sampler}, {side} px", rate, f"{rate / base:.1f} times")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=8.0, help="that it may take; the last rows are left out first")
    parser.add_argument("--parts", default="", help="names of parts, with commas; all when not given")
    parser.add_argument("--sheet", type=Path, default=Path(".stillroom/gpu.png"), help="where its samples go")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes on the CPU, to see that it runs")
    options = parser.parse_args()
    if not options.smoke and not torch.cuda.is_available():
        parser.error("no CUDA device: --smoke runs it in small on the CPU")
    bench = Bench(options.minutes, options.smoke)
    small, large = (16, 32) if options.smoke else (64, 256)
    # Seconds that each may take, in order of worth.
    plan = [
        ("noise", 5, lambda: noise(bench)),
        ("default", 20, lambda: default(bench, 8 if options.smoke else 128)),
        ("stage", gpu_stage.SECONDS + 40, lambda: trained(bench, options.sheet.absolute())),
        ("large", 60, lambda: default(bench, 16 if options.smoke else 1024, compile=not options.smoke)),
        ("unet", 60, lambda: training(bench, small, 8 if options.smoke else 256, largest=False)),
        ("dit", 50, lambda: transformer(bench)),
        ("sampling", 30, lambda: drawing(bench)),
        ("256", 50, lambda: training(bench, large, 8 if options.smoke else 32, largest=False)),
        ("unet-compiled", 110, lambda: training(bench, small, 8 if options.smoke else 256, largest=True)),
        ("256-compiled", 110, lambda: training(bench, large, 8 if options.smoke else 32, largest=True)),
    ]
    chosen = set(filter(None, options.parts.split(",")))
    if unknown := chosen - {name for name, *_ in plan}:
        parser.error(f"--parts {', '.join(sorted(unknown))}: wanted some of {', '.join(name for name, *_ in plan)}")
    print("| what | images/s | |\n|---|---|---|", flush=True)
    for name, seconds, work in plan[:7] if options.smoke else plan:
        if chosen and name not in chosen:
            continue
        if time.monotonic() + seconds > bench.end and not options.smoke:
            print(f"| {name}: left out, the time was short | | |", flush=True)
            continue
        try:
            work()
        except Exception as error:  # one row that fails must not cost a lent GPU's other rows
            first = str(error).splitlines()[0] if str(error) else ""
            print(f"| {name}: failed, {type(error).__name__}: {first[:200]} | | |", flush=True)
            traceback.print_exc()
            if options.smoke:
                raise
        if bench.device.type == "cuda":
            torch.cuda.empty_cache()
    device = torch.cuda.get_device_name() if bench.device.type == "cuda" else f"smoke on {peers.machine()}"
    print(f"\n{device}, torch {torch.__version__}")


if __name__ == "__main__":
    main()
