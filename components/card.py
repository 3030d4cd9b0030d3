"""The model card: what the model is, how it was made, how to sample from it, where it ends."""

from __future__ import annotations

from collections.abc import Sequence

from components.recipe import TrainParams

_CARD = """---
library_name: diffusers
pipeline_tag: unconditional-image-generation
tags: [diffusion, denoiser, stillroom]
---

# A denoiser for images of {side} x {side} pixels

A `UNet2DModel` of diffusers with {millions:.2f} M parameters that predicts the velocity ("v") of the cosine
schedule, with the sampler saved beside it (DPM-Solver++(2M), {steps} steps, guidance {guidance:g}). The weights are the
moving average over training.

## Data

{train} images to train on and {val} to watch the training by; {test} more are held out for the scores. {classes}
The images' sources and licences are in the data report of the same version of the data.

## Recipe

{images} images seen ({passes:.1f} passes), batches of {batch}, AdamW at {rate:g} (rising over {warmup} images, constant
up to {constant:.0%}, falling in a line to {final:.0%}), weight decay {decay:g}, gradient norm at most {clip:g},
precision {precision}, labels dropped for {dropout:.0%}, half-life of the average {ema:.0%} of the images seen,
seed {seed}.
At the end the x0 error on validation images is {error} (mean squared error of the predicted clean image, pixels
in [-1, 1], geometric mean over 8 noise levels from sigma 0.05 to 20).

## How to sample

```python
{code}
```

## Limits

It was trained for minutes on small images: it draws what resembles its data, at that size, and nothing else. It must
not be taken for a source of facts about what it draws. Training images that repeat can come back nearly as they
were: see the nearest training images in the model report.
"""

_LABELLED = """import torch
from diffusers import DPMSolverMultistepScheduler, UNet2DModel

unet = UNet2DModel.from_pretrained("FOLDER", subfolder="unet")
scheduler = DPMSolverMultistepScheduler.from_pretrained("FOLDER", subfolder="scheduler")
scheduler.set_timesteps({steps})
labels = torch.tensor([0, 1, 2, 3]) % {classes}  # see "classes" in stillroom.json; {classes} stands for no label
x = torch.randn(4, {channels}, {side}, {side})
for t in scheduler.timesteps:
    with torch.no_grad():
        v, v_free = unet(x, t, labels).sample, unet(x, t, torch.full_like(labels, {classes})).sample
    x = scheduler.step(v_free + {guidance:g} * (v - v_free), t, x).prev_sample
images = ((x.clamp(-1, 1) + 1) * 127.5).round().byte()  # 4 x {channels} x {side} x {side}"""

_UNLABELLED = """from diffusers import DiffusionPipeline

images = DiffusionPipeline.from_pretrained("FOLDER")(batch_size=4, num_inference_steps={steps}).images"""


def text(
    params: TrainParams, *, side: int, channels: int, classes: Sequence[str], counts: dict[str, int],
    parameters: int, error: float | None,
) -> str:  # fmt: skip
    """The card in Markdown; ``counts`` holds images in train, val and test."""
    code = _LABELLED if classes else _UNLABELLED
    numbered = [f"{at} {' '.join(name.split())}" for at, name in enumerate(classes)]
    named = f"Labels: {', '.join(numbered)}." if classes else "They have no labels."
    return _CARD.format(
        side=side, millions=parameters / 1e6, classes=named, steps=params.steps, guidance=params.guidance,
        images=params.total_steps * params.batch, passes=params.images / max(1, counts["train"]),
        batch=params.batch, rate=params.learning_rate, warmup=params.warmup_images, seed=params.seed,
        constant=params.constant_until, final=params.final_rate, decay=params.weight_decay,
        clip=params.gradient_clip, precision=params.precision, dropout=params.label_dropout,
        ema=params.ema_half_life, error="not known" if error is None else f"{error:.4g}",
        code=code.format(
            steps=params.steps, guidance=params.guidance, classes=len(classes), channels=channels, side=side
        ),
        **{name: counts[name] for name in ("train", "val", "test")},
    )  # fmt: skip
