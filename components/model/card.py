"""The model card (README.md of a model): what it is, how it was trained, how to sample from it, and its limits."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from components.diffusion.objective import Objective
from components.model import schedulers
from components.samples.spec import SampleSpec


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The facts on training and sampling that the card states; shares are 0..1."""

    network: str
    """unet, compact or dit."""
    objective: Objective
    images: int
    """Training images seen in all, repeats counted."""
    batch: int
    learning_rate: float
    """Of AdamW."""
    muon_rate: float | None
    """Of Muon, None where AdamW trains everything."""
    warmup_images: int
    """Images over which the learning rate rises."""
    constant_until: float
    """Share of the images after which the learning rate falls in a line."""
    final_rate: float
    fall: str
    """Share of the learning rate at the end."""
    weight_decay: float
    gradient_clip: float
    precision: str
    label_dropout: float
    """Share of images trained on without their label."""
    ema_half_life: float
    """Of the moving average of the weights, as a share of the images seen so far."""
    seed: int
    steps: int
    guidance: float
    onnx: bool
    """Whether the model folder holds the network as ONNX too."""


@dataclass(frozen=True)
class _Kind:
    """What the card says of one kind of network.

    ``module``: its class in diffusers, None where diffusers has none; ``folder``: where the model folder holds it.
    """

    words: str
    library: str
    module: str | None = None
    folder: str = "unet"


_KINDS = {
    "unet": _Kind("A `UNet2DModel` of diffusers", "diffusers", "UNet2DModel"),
    "compact": _Kind("A compact U-Net of Stillroom, for CPUs and small devices, handed out as ONNX", "onnx"),
    "dit": _Kind("A `DiTTransformer2DModel` of diffusers", "diffusers", "DiTTransformer2DModel", "transformer"),
}

_PREDICTS = {
    "eps": "the noise", "x0": "the clean image", "v": 'the velocity ("v")',
    "edm": "what the preconditioning of Karras et al. 2022 leaves of the clean image", "flow": "noise minus image",
}  # fmt: skip

_SCHEDULES = {
    "linear": "linear", "cosine": "cosine", "exponential": "variance-exploding", "log_normal": "EDM",
    "logit_normal": "rectified-flow",
}  # fmt: skip

_CARD = """---
library_name: {library}
{pipeline}tags: [diffusion, denoiser, stillroom{tag}]
---

# A denoiser for {what}

{words} with {millions:.2f} M parameters that predicts {predicts} on the {schedule}
schedule. Its samples take {steps} steps at guidance {guidance:g}; the sampler saved beside it is diffusers' {sampler}.
The weights are the moving average over training.

## Data

{train} images to train on and {val} to watch the training by; {test} more are held out for the scores. {classes}
The images' sources and licences are in the data report of the same version of the data.

## Recipe

{images} images seen ({epochs:.1f} passes), batches of {batch}, {optimiser}
(rising over {warmup} images, constant up to {constant:.0%}, falling {fall} to {final:.0%}), weight decay {decay:g},
gradient norm at most {clip:g}, precision {precision}, labels dropped for {dropout:.0%}, half-life of the average
{ema:.0%} of the images seen, seed {seed}.
At the end the x0 error on validation images is {error} (mean squared error of the predicted clean {one}
{unit}, geometric mean over 8 noise levels from sigma 0.05 to 20).

## How to sample

{code}

## Limits

It was trained for minutes on small images: it draws what resembles its data, at that size, and nothing else. It must
not be taken for a source of facts about what it draws. Training images that repeat can come back nearly as they
were: see the nearest training images in the model report.
"""

_LABELS = "labels, none = {of}, {none}  # the classes by number; {classes} stands for no label\n"

_DIFFUSERS = """With torch and diffusers:

```python
import torch
from diffusers import {module}, {sampler}

network = {module}.from_pretrained("FOLDER", subfolder="{folder}")
scheduler = {sampler}.from_pretrained("FOLDER", subfolder="scheduler")
scheduler.set_timesteps({steps})
{labels}x = torch.randn(4, {shape}) * scheduler.init_noise_sigma
for t in scheduler.timesteps:
    given, at = scheduler.scale_model_input(x, t), t.expand(4)
    with torch.no_grad():
        labelled = network(given, at{label}).sample
        {free}
    x = scheduler.step({guided}, t, x).prev_sample
{result}  # 4 x {size}
```"""

_PIPELINE = """With torch and diffusers:

```python
from diffusers import DiffusionPipeline

images = DiffusionPipeline.from_pretrained("FOLDER")(batch_size=4, num_inference_steps={steps}).images
```"""

_ONNX = """With numpy and onnxruntime, and nothing else:

```python
import json, os
os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # no telemetry; before the import
import numpy, onnxruntime

network = onnxruntime.InferenceSession("FOLDER/onnx/model.onnx")
with open("FOLDER/onnx/levels.json") as file:
    levels = json.load(file)  # noise levels, equally spaced in log sigma, and what a prediction means at each
{labels}x, before = numpy.random.randn(4, {shape}) * levels[0]["sigma"], None
for one, after in zip(levels, [*levels[1:], levels[-1]]):
    sample = (one["c_in"] * x + one["c_shift"]).astype("f4")
    given = {{"sample": sample, "timestep": numpy.full(4, one["timestep"], "f4")}}
    labelled = network.run(None, {onnx_given})[0]
    {free}
    clean = one["c_skip"] * x + one["c_out"] * {guided}
    ahead = clean if before is None else 1.5 * clean - 0.5 * before  # DPM-Solver++(2M)
    x, before = ahead + (x - ahead) * (after["sigma"] / one["sigma"]), clean
{result}  # 4 x {size}
```{served}"""

_SERVED = """

As a server that answers with PNGs (in base64), with mlflow, numpy and onnxruntime; a label by its name, "" for none:

```sh
mlflow models serve --env-manager local --port 5001 --model-uri FOLDER
curl http://127.0.0.1:5001/invocations -H 'Content-Type: application/json' \\
  -d '{"inputs": [""], "params": {"seed": 0, "count": 4}}'
```"""


def text(
    recipe: Recipe, *, spec: SampleSpec, classes: Sequence[str], counts: dict[str, int],
    parameters: int, error: float | None,
) -> str:  # fmt: skip
    """The card in Markdown.

    ``spec`` says what a sample is, ``counts`` how many are in train, val and test, ``parameters`` the number of
    weights, ``error`` the x0 error on validation images or None where it is not known.
    """
    kind, objective = _KINDS[recipe.network], recipe.objective
    numbered = [f"{at} {' '.join(name.split())}" for at, name in enumerate(classes)]
    named = f"Labels: {', '.join(numbered)}." if classes else "They have no labels."
    return _CARD.format(
        library=kind.library, tag=", onnx" if recipe.onnx else "", words=kind.words,
        predicts=_PREDICTS[objective.kind], schedule=_SCHEDULES[objective.schedule.name],
        sampler=type(schedulers.stock(objective)).__name__,
        **_of_samples(spec), millions=parameters / 1e6, classes=named, steps=recipe.steps,
        guidance=recipe.guidance,
        images=recipe.images, epochs=recipe.images / max(1, counts["train"]),
        batch=recipe.batch, optimiser=_optimiser(recipe), warmup=recipe.warmup_images, seed=recipe.seed,
        constant=recipe.constant_until, final=recipe.final_rate,
        fall={"linear": "in a line", "cosine": "by half a cosine"}[recipe.fall], decay=recipe.weight_decay,
        clip=recipe.gradient_clip, precision=recipe.precision, dropout=recipe.label_dropout,
        ema=recipe.ema_half_life, error="not known" if error is None else f"{error:.4g}",
        code="\n\n".join(_blocks(recipe, kind, spec, len(classes))),
        **{name: counts[name] for name in ("train", "val", "test")},
    )  # fmt: skip


def with_knee(card: str, own: int, knee: int) -> str:
    """``card`` of a model that takes ``own`` steps, when it is registered to take ``knee``, which a sweep found."""
    about, heading, lines = card.partition("\n## How to sample\n")
    took = f"Its samples take {own} steps at"
    about = about.replace(took, f"Its samples take {knee} steps (the knee of the sweep in `scores.json`) at", 1)
    for word in ("scheduler.set_timesteps(", "num_inference_steps="):
        lines = lines.replace(f"{word}{own})", f"{word}{knee})")
    return about + heading + lines


def _of_samples(spec: SampleSpec) -> dict[str, str]:
    """What the card calls samples, and the unit of their error."""
    if not spec.pixels:
        numbers = " x ".join(map(str, spec.shape))
        return {
            "pipeline": "", "what": f"samples of kind {spec.kind}, each {numbers} numbers", "one": "sample, values",
            "unit": f"with a standard deviation of {spec.sigma_data:g}",
        }  # fmt: skip
    return {
        "pipeline": "pipeline_tag: unconditional-image-generation\n", "one": "image, pixels", "unit": "in [-1, 1]",
        "what": f"images of {spec.shape[2]} x {spec.shape[1]} pixels",
    }  # fmt: skip


def _optimiser(recipe: Recipe) -> str:
    adamw = f"AdamW at {recipe.learning_rate:g}"
    if recipe.muon_rate is None:
        return adamw
    return f"Muon at {recipe.muon_rate:g} for kernels and matrices in the blocks and {adamw} for the rest"


def _blocks(recipe: Recipe, kind: _Kind, spec: SampleSpec, classes: int) -> list[str]:
    """The ways to sample without this project, each with the lines that do it."""
    sizes = [*map(str, spec.shape)]
    numbers = {"steps": recipe.steps, "shape": ", ".join(sizes), "size": " x ".join(sizes)}
    means = f"stored numbers * {spec.scale:g} + {spec.shift:g}"
    results = [f"samples = {name}  # {means}" for name in ("x", "clean")]
    if spec.pixels:
        results = ["images = ((x.clamp(-1, 1) + 1) * 127.5).round().byte()",
                   'images = ((clean.clip(-1, 1) + 1) * 127.5).round().astype("u1")']  # fmt: skip
    guided = f"(free + {recipe.guidance:g} * (labelled - free))" if classes else "labelled"
    blocks = []
    if kind.module and recipe.objective.schedule.name == "exponential":
        blocks += [_PIPELINE.format(**numbers)] if spec.pixels else []  # it draws images alone
    elif kind.module:
        labels = _LABELS.format(of=f"torch.arange(4) % {classes}", none=f"torch.full((4,), {classes})", classes=classes)
        blocks.append(_DIFFUSERS.format(
            **numbers, result=results[0], module=kind.module, folder=kind.folder,
            sampler=type(schedulers.stock(recipe.objective)).__name__,
            labels=labels if classes else "", label=", class_labels=labels" if classes else "",
            free="free = network(given, at, class_labels=none).sample", guided=guided,
        ))  # fmt: skip
    if recipe.onnx:
        labels = _LABELS.format(of=f"numpy.arange(4) % {classes}", none=f"numpy.full(4, {classes})", classes=classes)
        blocks.append(_ONNX.format(
            **numbers, result=results[1], labels=labels if classes else "", guided=guided,
            served=_SERVED if spec.pixels else "",
            onnx_given='given | {"class_labels": labels}' if classes else "given",
            free='free = network.run(None, given | {"class_labels": none})[0]',
        ))  # fmt: skip
    return blocks if classes else [re.sub(r" +free = .*\n", "", block) for block in blocks]
