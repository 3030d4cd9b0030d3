"""Guidance beside autoguidance: what each pull and push gives, and what it costs.

    PYTHONPATH=. python benchmarks/guidance.py PIXELS SPLITS MODEL [MODEL ...] [--images 320]

PIXELS and SPLITS are the data that the models were trained on (data/pixels, data/splits), each MODEL a model folder
with a guide: one network and budget, another seed. The peer is label guidance alone (Ho and Salimans 2022), as every
script has it. KID is the kernel distance of the pictures to the held-out images; agreement the share that a classifier
takes for the label that they were drawn for, as in stage evaluate. Means over the models, and the range. The last row
is the paper's own guide (Karras et al. 2024), which gets the label; ours gets none.
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import peers
import torch
from torch import Tensor

from components.dataset import tensors
from components.diffusion import conditions, samplers
from components.embed import features
from components.evaluate import classifier, scores
from components.evaluate.shapes import mix
from components.evaluate.sweep import Way
from components.model import sampling
from components.samples import pack

STEPS = 16
WAYS = [
    Way(steps=STEPS, sampler=sampler, guidance=pull, autoguidance=push)
    for sampler, pull, push in (
        ("dpmpp_2m", 2.5, 1.0), ("dpmpp_2m", 1.0, 2.5), ("dpmpp_2m", 1.0, 2.0), ("dpmpp_2m", 1.5, 2.0),
        ("dpmpp_2m_sde", 1.0, 2.5), ("dpmpp_2m", 1.0, 3.0),
    )
]  # fmt: skip
"""The first is the peer."""

LABELLED = 2.0
"""The autoguidance of the last row."""


class Judge:
    """The held-out images, the classifier and the labels to draw."""

    def __init__(self, pixels: Path, splits: Path, count: int) -> None:
        held, rows = tensors.Pixels(pixels), {name: list(pack.read_split(splits, name)) for name in pack.SPLITS}
        self.net = features.network()
        self.real = features.of(self.net, held.gather(sorted(rows["val"] + rows["test"])))
        train_ids = held.class_ids[rows["train"]]
        moments = classifier.Moments(len(held.header.classes), self.real.shape[1])
        moments.add(features.of(self.net, held.gather(rows["train"])), train_ids)
        self.scorer = moments.scorer()
        self.ids = mix(train_ids.tolist(), count)

    def of(self, model: Path, way: Way) -> tuple[float, float]:
        """(KID, agreement) of pictures 0, 1, ... of seed 0."""
        return self.judged(sampling.sample(model, self.ids, seed=0, **asdict(way)))

    def labelled(self, folder: Path) -> tuple[float, float]:
        """The same with a guide that gets the label."""
        model = sampling.load(folder)
        planned = sampling.plan(model, steps=STEPS, guidance=1.0, autoguidance=LABELLED)
        drawn = []
        for first in range(0, len(self.ids), sampling.BATCH):
            ids = self.ids[first : first + sampling.BATCH]
            condition = conditions.of_classes(torch.tensor(ids), model.null_class)
            x = sampling.noise(model, 0, range(first, first + len(ids))) * planned.sigmas[0]
            denoise = functools.partial(_pushed, model, condition)
            drawn.append(samplers.draw(planned.sampler, denoise, x, planned.sigmas, _ignore, _ignore))
        return self.judged(tensors.to_pixels(torch.cat(drawn)))

    def judged(self, pictures: Tensor) -> tuple[float, float]:
        """(KID, agreement) of ``pictures``, drawn for the labels in their order."""
        found = features.of(self.net, pictures)
        ones = [torch.ones(1, count, dtype=torch.float64) for count in (len(found), len(self.real))]
        right = [one == label for one, label in zip(classifier.predict(self.scorer, found), self.ids, strict=True)]
        return float(scores.kid(found, self.real)(*ones)), sum(right) / len(right)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("pixels", "splits"):
        parser.add_argument(name, type=Path)
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--images", type=int, default=320, help="pictures behind each number")
    options = parser.parse_args()
    torch.set_num_threads(1)
    judge = Judge(options.pixels, options.splits, options.images)
    print(f"{len(options.models)} models, {options.images} pictures each, {STEPS} steps\n")
    print("| sampler | guidance | autoguidance | calls a picture | KID | of the peer's | agreement |")
    print("|---|---|---|---|---|---|---|")
    peer = 0.0
    for way in WAYS:
        kid, right = zip(*(judge.of(model, way) for model in options.models), strict=True)
        peer = peer or _mean(kid)
        print(f"| `{way.sampler}` | {way.guidance:g} | {way.autoguidance:g} | {way.calls} | {_range(kid, 2)} | "
              f"{_mean(kid) / peer:.2f} | {_range(right, 3)} |", flush=True)  # fmt: skip
    kid, right = zip(*(judge.labelled(model) for model in options.models), strict=True)
    print(f"| `dpmpp_2m` | 1 | {LABELLED:g}, the guide with the label | {2 * STEPS} | {_range(kid, 2)} | "
          f"{_mean(kid) / peer:.2f} | {_range(right, 3)} |")  # fmt: skip
    print(f"\n{peers.machine()}")


@torch.no_grad()
def _pushed(model: sampling.Denoiser, condition: conditions.Condition, x: Tensor, sigma: float) -> Tensor:
    at = torch.full((len(x),), sigma)
    strong, weak = (model.objective.denoise(each, x, at, condition) for each in (model.network, model.guide))
    return torch.lerp(weak, strong, LABELLED)


def _ignore(*_: object) -> Tensor:
    """In the place of what watches, and of the noise that this sampler does not ask for."""
    return torch.empty(0)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _range(values: Sequence[float], digits: int) -> str:
    return f"{_mean(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


if __name__ == "__main__":
    main()
