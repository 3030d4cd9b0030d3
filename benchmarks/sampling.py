"""Drawing pictures: DDPMPipeline of diffusers at 1,000 steps against ours at equal quality, with the same network.

    PYTHONPATH=. python benchmarks/sampling.py MODEL PIXELS SPLITS [--images 128]

MODEL is a model folder, PIXELS and SPLITS the data it was trained on (models/candidate, data/pixels, data/splits). The
peer draws without a label, so ours does too where the two are timed. Equal quality: the kernel distance (KID) to the
held-out images is no worse than that of the converged flow by more than its own interval, and the pictures are those
of 1,000 steps of DDIM from the same noise, to within 2 % of the range of a pixel (root mean square). Rates are images
a CPU-second of this process; the peer is timed over 50 of its 1,000 steps, which all cost the same.
"""

from __future__ import annotations

import argparse
import functools
import time
from collections.abc import Callable
from pathlib import Path

import peers
import torch
from torch import Tensor

from components.dataset import tensors
from components.embed import features
from components.evaluate import scores
from components.evaluate.shapes import mix
from components.model import sampling
from components.samples import pack

STEPS = (6, 8, 10, 12, 16, 20)
CONVERGED = 40
"""Steps of DPM-Solver++(2M) whose kernel distance the others are held against."""
TIMED, OF = 50, 1000
CALLS = 16
CLOSE = 0.02
LABELLED = (
    ("dpmpp_2m", 16, 2.5), ("dpmpp_2m", 16, 1.5), ("dpmpp_2m_sde", 16, 2.5), ("dpmpp_2m_sde", 16, 2.0),
    ("dpmpp_2m_sde", 16, 1.5), ("dpmpp_2m", 4, 2.5), ("dpmpp_2m", 3, 2.5), ("dpmpp_2m", 2, 2.5), ("dpmpp_2m", 4, 1.0),
)  # fmt: skip
"""Samplers, steps and guidance beside each other; the short ones are what a student has to beat."""


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("model", "pixels", "splits"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--images", type=int, default=128, help="pictures behind each distance")
    parser.add_argument("--labelled", type=int, default=320, help="pictures with labels for each sampler; 0: none")
    parser.add_argument("--exact", type=int, default=4, help="pictures drawn in 1,000 steps of DDIM too")
    options = parser.parse_args()
    torch.set_num_threads(1)
    bench = Bench(options.model, options.pixels, options.splits, options.images, options.exact)
    peer = bench.peer()
    rates = {engine: bench.rate(engine) for engine in bench.engines}
    fastest = max(rates, key=rates.__getitem__)
    print("| network | calls a CPU-s, one image each | of DDPMPipeline's |\n|---|---|---|")
    for name, rate in (("DDPMPipeline, torch", peer), *((f"ours, {name}", rate) for name, rate in rates.items())):
        print(f"| {name} | {rate:.1f} | {rate / peer:.2f} |", flush=True)
    enough = bench.steps()
    bench.samplers()
    if options.labelled and bench.model.classes:
        bench.labelled(options.labelled)
    ours = rates[fastest] / enough
    print(f"\nDDPMPipeline, {OF:,} steps: {peer / OF:.4f} images a CPU-s. Ours at equal quality, {enough} steps by "
          f"{fastest}: {ours:.2f}. Ratio {ours * OF / peer:.0f}.  {peers.machine()}")  # fmt: skip


class Bench:
    """One model and the images it is held against."""

    def __init__(self, model: Path, pixels: Path, splits: Path, images: int, exact: int) -> None:
        self.folder, self.model = model, sampling.load(model)
        self.engines = ["torch"] + ["onnx"] * (model / sampling.engines.ONNX).is_file()
        self.fast = sampling.load(model, engine=self.engines[-1])
        held, rows = tensors.Pixels(pixels), {name: list(pack.read_split(splits, name)) for name in pack.SPLITS}
        self.net = features.network()
        self.real = features.of(self.net, held.gather(sorted(rows["val"] + rows["test"])))
        self.mix = functools.partial(mix, held.class_ids[rows["train"]].tolist())
        self.ids = self.mix(images)
        self.exact = self.drawn([-1] * exact, sampler="ddim", steps=OF, spacing="log")

    def drawn(self, ids: list[int], **wishes: object) -> Tensor:
        """Pictures 0, 1, ... of seed 0, by the network alone (benchmarks/guidance.py has its guide)."""
        return sampling.sample(self.fast, ids, seed=0, autoguidance=1.0, **wishes)

    def peer(self) -> float:
        """Calls a CPU-second of DDPMPipeline, a call being one step of one image."""
        from diffusers import DDPMPipeline, DDPMScheduler

        null = self.model.null_class
        network = self.model.network
        if null is not None:  # the pipeline knows no labels: every image gets the null class
            plain = network.forward
            network.forward = lambda x, t, **_: plain(x, t, class_labels=torch.full((len(x),), null))
        scheduler = DDPMScheduler(
            beta_schedule={"cosine": "squaredcos_cap_v2"}.get(self.model.objective.schedule.name, "linear"),
            prediction_type={"v": "v_prediction", "eps": "epsilon", "x0": "sample"}[self.model.objective.kind],
        )
        pipeline = DDPMPipeline(network, scheduler)
        pipeline.set_progress_bar_config(disable=True)
        pipeline(batch_size=sampling.BATCH, num_inference_steps=2)
        spent = _spent(lambda: pipeline(batch_size=sampling.BATCH, num_inference_steps=TIMED))
        if null is not None:
            del network.forward
        return sampling.BATCH * TIMED / spent

    def rate(self, engine: str) -> float:
        """The same of our sampler."""
        model = sampling.load(self.folder, engine=engine)
        ids = [-1] * sampling.BATCH
        sampling.sample(model, ids, seed=0, steps=2, autoguidance=1.0)
        return (
            sampling.BATCH * CALLS / _spent(lambda: sampling.sample(model, ids, seed=0, steps=CALLS, autoguidance=1.0))
        )

    def distance(self, pictures: Tensor) -> tuple[float, Callable[[Tensor, Tensor], Tensor]]:
        """Kernel distance to the held-out images, and how to get it for replicates."""
        found = features.of(self.net, pictures)
        distance = scores.kid(found, self.real)
        ones = [torch.ones(1, count, dtype=torch.float64) for count in (len(found), len(self.real))]
        return float(distance(*ones)), distance

    def steps(self) -> int:
        """The table of step counts of the default sampler; the least that is of equal quality."""
        print(f"\nDPM-Solver++(2M), guidance {self.model.guidance:g} for KID ({len(self.ids)} pictures, less is "
              "better; the difference with its 95 % interval, from the same noise), without a label for the distance "
              f"to {OF:,} steps of DDIM ({len(self.exact)} pictures)\n")  # fmt: skip
        print(f"| steps | KID | less that of {CONVERGED} steps | distance, % of the range |\n|---|---|---|---|")
        source = torch.Generator().manual_seed(0)
        weights = [scores.replicates(count, 200, source) for count in (len(self.ids), len(self.real))]
        base, base_of = self.distance(self.drawn(self.ids, sampler="dpmpp_2m", steps=CONVERGED, spacing="log"))
        base_spread = base_of(*weights)
        enough = CONVERGED
        for steps in (*STEPS, CONVERGED):
            wishes = {"sampler": "dpmpp_2m", "steps": steps, "spacing": "log"}
            kid, of = (base, base_of) if steps == CONVERGED else self.distance(self.drawn(self.ids, **wishes))
            low, high = scores.interval(of(*weights) - base_spread, 0.95, around=kid - base)
            far = self._far(self.drawn([-1] * len(self.exact), **wishes))
            print(
                f"| {steps} | {kid:.2f} | {kid - base:+.2f} ({low:+.2f} to {high:+.2f}) | {100 * far:.2f} |", flush=True
            )
            if low <= 0 and far <= CLOSE:
                enough = min(enough, steps)
        return enough

    def samplers(self) -> None:
        """The table of samplers at equal calls of the network."""
        print(f"\nAll samplers at about {CALLS} calls of D, without a label, {len(self.ids) // 2} pictures\n")
        print("| sampler | steps | KID | distance, % of the range |\n|---|---|---|---|")
        for name, sampler in sampling.samplers.SAMPLERS.items():
            if name in ("consistency", "euler", "euler_ancestral"):  # for students; the same as ddim and ddpm
                continue
            steps = CALLS if sampler.calls == 1 else CALLS // 2 + 1
            wishes = {"sampler": name, "steps": steps, "spacing": "log"}
            kid, _ = self.distance(self.drawn([-1] * (len(self.ids) // 2), **wishes))
            drawn = "" if sampler.draws and sampler.eta != 0 else f"{100 * self._far(self._same(wishes)):.2f}"
            print(f"| {name} | {steps} | {kid:.2f} | {drawn} |", flush=True)

    def labelled(self, count: int) -> None:
        """The table of samplers with labels and guidance."""
        print(f"\nWith labels, {count} pictures\n")
        print("| sampler | steps | guidance | calls a picture | KID |\n|---|---|---|---|---|")
        for name, steps, guidance in LABELLED:
            wishes = {"sampler": name, "steps": steps, "guidance": guidance, "spacing": "log"}
            kid, _ = self.distance(self.drawn(self.mix(count), **wishes))
            print(
                f"| {name} | {steps} | {guidance:g} | {steps * (1 if guidance == 1 else 2)} | {kid:.2f} |", flush=True
            )

    def _same(self, wishes: dict[str, object]) -> Tensor:
        return self.drawn([-1] * len(self.exact), **wishes)

    def _far(self, pictures: Tensor) -> float:
        return float((pictures.double() - self.exact.double()).square().mean().sqrt()) / 255


def _spent(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


if __name__ == "__main__":
    main()
