"""The trainers that benchmarks/train.py compares, each in a process that works on request.

    python benchmarks/contenders.py SPEC    # SPEC: JSON, see :class:`Recipe` and :class:`Ours`

Orders come as JSON lines on standard input, answers leave as JSON lines on standard output.  ``Recipe`` follows
examples/unconditional_image_generation/train_unconditional.py of Hugging Face's diffusers (September 2026) with the
options of its README (batch 16, --use_ema, AdamW 1e-4, 500 steps of warm-up, cosine), written anew on accelerate,
datasets and torchvision; what it spends on its tracker, progress bar, checkpoints and samples is left out.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from components.dataset import tensors
from components.diffusion import conditions, objective, x0_error
from components.embed import features
from components.evaluate import scores, shapes
from components.model import denoiser, sampling
from components.networks import registry
from components.samples import pack
from components.train import state
from components.train.distributed.ranks import Group
from components.train.feed import Feed
from components.train.params import TrainParams
from components.train.step import Step

BATCH, SAMPLER_STEPS = 16, 16


def unet(side: int, channels: int, classes: int, widths: tuple[int, ...]) -> nn.Module:
    """The script's `UNet2DModel` at these widths: two layers a resolution, attention at the last but one."""
    from diffusers import UNet2DModel

    attends = len(widths) - 2
    down = ["AttnDownBlock2D" if at == attends else "DownBlock2D" for at in range(len(widths))]
    return UNet2DModel(
        sample_size=side, in_channels=channels, out_channels=channels, layers_per_block=2, block_out_channels=widths,
        down_block_types=down, up_block_types=[name.replace("Down", "Up") for name in reversed(down)],
        num_class_embeds=classes + 1 if classes else None,
    )  # fmt: skip


def build(layout: str, params: TrainParams, header: pack.Header) -> nn.Module:
    """The network for ``layout``: "script 32 64 128" is :func:`unet`, anything else that of ``params``."""
    name, *widths = layout.split()
    if name == "script":
        return unet(header.spec.shape[1], header.spec.channels, len(header.classes), tuple(map(int, widths)))
    return registry.build(
        params.network, schedule_name=params.schedule, shape=header.spec.shape,
        classes=len(header.classes),
    )  # fmt: skip


class Recipe:
    """Hugging Face's recipe: eps, linear betas, no labels; ``spec``: files, mixed_precision, steps, seed, ..."""

    labels = False

    def __init__(self, spec: dict[str, Any], params: TrainParams, header: pack.Header) -> None:
        from accelerate import Accelerator
        from datasets import load_dataset
        from diffusers import DDPMScheduler, UNet2DModel
        from diffusers.optimization import get_scheduler
        from diffusers.training_utils import EMAModel

        torch.manual_seed(spec["seed"])
        self.accelerator = Accelerator(mixed_precision=spec["mixed_precision"], cpu=True)
        model = build(spec["layout"], params, header)
        self.average = EMAModel(
            model.parameters(), decay=0.9999, use_ema_warmup=True, inv_gamma=1.0, power=0.75, model_cls=UNet2DModel,
            model_config=model.config,
        )  # fmt: skip
        self.dtype = torch.bfloat16 if spec["mixed_precision"] == "bf16" else torch.float32
        self.noise_scheduler = DDPMScheduler(num_train_timesteps=1000, beta_schedule="linear")
        optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.95, 0.999), weight_decay=1e-6, eps=1e-8)
        found = load_dataset("imagefolder", data_dir=spec["files"], cache_dir=spec["cache"], split="train")
        found.set_transform(_transform(header.spec.shape[1]))
        loader = torch.utils.data.DataLoader(found, batch_size=BATCH, shuffle=True, num_workers=0)
        scheduler = get_scheduler(
            "cosine", optimizer=optimiser, num_warmup_steps=500, num_training_steps=spec["images"] // BATCH
        )
        self.model, self.optimiser, self.loader, self.lr = self.accelerator.prepare(model, optimiser, loader, scheduler)
        self.batches = itertools.chain.from_iterable(self.loader for _ in itertools.count())

    def step(self) -> int:
        """One optimiser step; the images it showed."""
        clean = next(self.batches)["input"].to(self.dtype)
        noise = torch.randn(clean.shape, dtype=self.dtype)
        timesteps = torch.randint(0, 1000, (len(clean),))
        noisy = self.noise_scheduler.add_noise(clean, noise, timesteps)
        with self.accelerator.accumulate(self.model):
            predicted = self.model(noisy, timesteps).sample
            loss = nn.functional.mse_loss(predicted.float(), noise.float())
            self.accelerator.backward(loss)
            self.accelerator.clip_grad_norm_(self.model.parameters(), 1.0)
            self.optimiser.step()
            self.lr.step()
            self.optimiser.zero_grad()
        self.average.step(self.model.parameters())
        loss.detach().item()  # its logs want it in every step
        return len(clean)

    def averaged(self) -> tuple[nn.Module, objective.Objective]:
        """The averaged network and what it predicts."""
        network = self.accelerator.unwrap_model(self.model)
        self.average.copy_to(network.parameters())
        return network, objective.objective("eps", "linear")


def _transform(side: int) -> Any:
    from torchvision import transforms

    each = transforms.Compose([
        transforms.Resize(side, interpolation=transforms.InterpolationMode.BILINEAR), transforms.RandomCrop(side),
        transforms.Lambda(lambda image: image), transforms.ToTensor(), transforms.Normalize([0.5], [0.5]),
    ])  # fmt: skip
    return lambda examples: {"input": [each(image.convert("RGB")) for image in examples["image"]]}


class Ours:
    """The step of components/train/step.py with ``params`` as they are; ``spec``: pixels, splits, layout, labels."""

    def __init__(self, spec: dict[str, Any], params: TrainParams, header: pack.Header) -> None:
        self.labels, self.params = spec["labels"], params
        group, pixels = Group(0, 1, torch.device("cpu")), tensors.Pixels(Path(spec["pixels"]))
        pixels.header = header
        rows = torch.tensor(list(pack.read_split(Path(spec["splits"]), "train")))
        built = registry.build
        registry.build = lambda *_, **__: build(spec["layout"], params, header) if spec["layout"] else built(*_, **__)
        self.state = state.start(params, pixels, group)
        registry.build = built
        self.feed, self.one = Feed(params, pixels, rows, group), Step(params, self.state, group)

    def step(self) -> int:
        """One optimiser step; the images it showed."""
        self.one(self.feed.batch(self.state.place), (False, False))
        self.state.images_seen += self.params.batch
        self.state.place += self.params.batch
        return self.params.batch

    def load(self, count: int, *, all_of_it: bool) -> None:
        """The images of ``count`` steps, or all that a step is fed: noise, levels and labels too."""
        for place in range(0, count * self.params.batch, self.params.batch):
            if all_of_it:
                self.feed.batch(place)
            else:
                self.feed._image(place, None)

    def averaged(self) -> tuple[nn.Module, objective.Objective]:
        """The averaged network and what it predicts."""
        return self.state.average, self.state.objective


def score(
    contender: Recipe | Ours, params: TrainParams, spec: dict[str, Any], order: dict[str, int]
) -> dict[str, float]:
    """``geo``: x0 error on ``test`` test images; ``kid`` of ``samples`` pictures from validation and test images."""
    pixels = tensors.Pixels(Path(spec["pixels"]))
    rows = {name: list(pack.read_split(Path(spec["splits"]), name)) for name in pack.SPLITS}
    classes = pixels.header.classes if contender.labels else ()
    with tempfile.TemporaryDirectory() as folder:
        denoiser.save(Path(folder), *contender.averaged(), {
            "format": 2, "classes": list(classes), "null_class": len(classes) or None,
            "side": pixels.header.spec.shape[1],
            "weighting": params.weighting, "sampler": params.sampler, "steps": SAMPLER_STEPS,
            "guidance": params.guidance, "images_seen": 0,
            "train_images": len(rows["train"]),
        })  # fmt: skip
        model = sampling.load(Path(folder))
    keys, samples = pack.read_keys(Path(spec["pixels"])), order["samples"]
    test = rows["test"][:: max(1, len(rows["test"]) // order["test"])]
    images, condition = pixels.gather(test), conditions.of_classes(pixels.class_ids[test], model.null_class)
    errors = x0_error.measure(
        functools.partial(model.objective.denoise, model.network),
        lambda which: tensors.to_network(images[which]),
        condition,
        [keys[row] for row in test],
        seed=0,
    )
    found = {"geo": x0_error.geo(torch.cat(list(errors)).view(len(test), -1))}
    if samples:
        mix = shapes.mix(pixels.class_ids[rows["train"]].tolist(), samples)
        drawn = sampling.sample(model, mix if classes else [-1] * samples, seed=0)
        found["kid"] = _kid(drawn, pixels.gather(rows["val"] + rows["test"]))
    return found


def _kid(drawn: Tensor, real: Tensor) -> float:
    net = features.network()
    one, other = features.of(net, drawn), features.of(net, real)
    each = [torch.ones(1, len(part), dtype=torch.float64) for part in (one, other)]
    return float(scores.kid(one, other)(*each))


def main() -> None:
    """Obey: {"steps": N} or {"seconds": S} of training, {"load": N} batches, {"samples": N, "test": N}
    for the scores."""
    answers, sys.stdout = sys.stdout, sys.stderr  # libraries print what they like elsewhere
    torch.set_num_threads(1)
    spec = json.loads(sys.argv[1])
    params = TrainParams.model_validate_json(json.dumps(spec["params"]))
    header = pack.read_header(Path(spec["pixels"]))
    if spec["kind"] == "recipe" or not spec["labels"]:
        header = dataclasses.replace(header, classes=())
    contender = {"recipe": Recipe, "ours": Ours}[spec["kind"]](spec, params, header)
    for line in sys.stdin:
        order, images, began = json.loads(line), 0, _cpu()
        if "steps" in order:
            images = sum(contender.step() for _ in range(order["steps"]))
        elif "load" in order:
            contender.load(order["load"], all_of_it="all" in order)
        answer = {"images": images, "seconds": _cpu() - began}
        if "samples" in order:
            answer = score(contender, params, spec, order)
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _cpu() -> float:
    """Processor seconds of this process, its threads and what it has waited for."""
    return time.process_time() + sum(os.times()[2:4])


if __name__ == "__main__":
    main()
