"""The lines by which a stranger samples from a model folder: with diffusers, or with numpy and onnxruntime."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from components.diffusion.objective import Objective
from components.model import schedulers
from components.networks import registry
from components.samples import latents, texts
from components.samples.spec import SampleSpec


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """What the lines depend on."""

    network: str
    """unet, compact or dit."""
    objective: Objective
    spec: SampleSpec
    classes: int
    steps: int
    guidance: float
    autoguidance: float
    """Away from the guide; 1 where there is none."""
    onnx: bool
    """Whether the model folder holds the network as ONNX too."""
    text: texts.Encoder | None = None
    """What makes the vectors of captions; None where it takes none."""
    autoencoder: latents.Autoencoder | None = None
    """What its samples are latents of; None where they are pictures."""

    @property
    def pipeline(self) -> str | None:
        """The class of diffusers that draws with it; None where there is none."""
        if self.network == "unet" and self.text is not None:
            return "StableDiffusionPipeline"
        labelled = 0 < self.classes <= registry.PIPELINES_NULL if self.network == "dit" else self.classes > 0
        return schedulers.pipeline(
            self.objective, self.network, labelled=labelled, latents=self.autoencoder is not None
        )  # fmt: skip


_LABELS = "labels, none = {of}, {none}  # the classes by number; {null} stands for no label\n"

_TEXT = """text = numpy.zeros((4, {width}), "f4")  # vectors of captions; zeros stand for none
"""

_TOKENS = """nothing = numpy.fromfile("FOLDER/nothing.f16", "<f2").astype("f4")  # the tokens of the empty caption
nothing = nothing.reshape(1, {tokens}, {width}).repeat(4, 0)
tokens = nothing
"""

_MASK = """silent = numpy.arange({tokens})[None].repeat(4, 0) < {nothing}
mask = silent  # the first tokens are the caption's, the others padding
"""

_DIFFUSERS = """With torch and diffusers:

```python
import torch
from diffusers import {module}, {sampler}{vae_module}

network = {module}.from_pretrained("FOLDER", subfolder="{folder}")
vae = {vae}.from_pretrained("FOLDER", subfolder="{vae_folder}")
guide = {module}.from_pretrained("FOLDER/guide", subfolder="{folder}")  # a weaker one
scheduler = {sampler}.from_pretrained("FOLDER", subfolder="scheduler")
scheduler.set_timesteps({steps})
{labels}x = torch.randn(4, {shape}) * scheduler.init_noise_sigma
for t in scheduler.timesteps:
    given, at = scheduler.scale_model_input(x, t), t.expand(4)
    with torch.no_grad():
        found = network(given, at{label}).sample
        free = network(given, at, class_labels=none).sample
        weak = guide(given, at{no_label}).sample
    found = free + {guidance:g} * (found - free)  # towards the label
    found = weak + {autoguidance:g} * (found - weak)  # away from what the guide says
    x = scheduler.step(found, t, x).prev_sample
{result}  # 4 x {size}
```"""

_PIPELINE = """With torch and diffusers:

```python
from diffusers import DiffusionPipeline

images = DiffusionPipeline.from_pretrained("FOLDER")(batch_size=4, num_inference_steps={steps}).images
```"""

_TOLD_PIPELINE = """With torch, diffusers and transformers:

```python
from diffusers import DiffusionPipeline

draw = DiffusionPipeline.from_pretrained("FOLDER")
images = draw(["a red fish"] * 4, num_inference_steps={steps}, guidance_scale={guidance:g}).images
```"""

_ONNX = """With numpy and onnxruntime, and nothing else:

```python
import json, os
os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # no telemetry; before the import
import numpy, onnxruntime

network = onnxruntime.InferenceSession("FOLDER/onnx/model.onnx")
guide = onnxruntime.InferenceSession("FOLDER/onnx/guide.onnx")  # a weaker one
decoder = onnxruntime.InferenceSession("FOLDER/onnx/decoder.onnx")
with open("FOLDER/onnx/levels.json") as file:
    levels = json.load(file)  # noise levels, equally spaced in log sigma, and what a prediction means at each
{labels}x, before = numpy.random.randn(4, {shape}) * levels[0]["sigma"], None
for one, after in zip(levels, [*levels[1:], levels[-1]]):
    sample = (one["c_in"] * x + one["c_shift"]).astype("f4")
    given = {{"sample": sample, "timestep": numpy.full(4, one["timestep"], "f4")}}
    found = network.run(None, {onnx_given})[0]
    free = network.run(None, {onnx_none})[0]
    found = free + {guidance:g} * (found - free)  # towards the {towards}
    weak = guide.run(None, {onnx_free})[0]
    found = weak + {autoguidance:g} * (found - weak)  # away from what the guide says
    clean = one["c_skip"] * x + one["c_out"] * found
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


def text(drawing: Drawing) -> str:
    """The ways to sample without this project, in Markdown: each a sentence and a block of Python."""
    spec, objective, made = drawing.spec, drawing.objective, drawing.autoencoder
    sizes, drawn = ([*map(str, each.shape)] for each in (spec, made.picture(spec) if made else spec))
    network = registry.entry(drawing.network, told=drawing.text is not None)
    known = {
        "steps": drawing.steps, "shape": ", ".join(sizes), "size": " x ".join(drawn), "module": network.class_name,
        "vae": made.kind if made else "", "vae_module": f", {made.kind}" if made else "",
        "vae_folder": latents.VQVAE if drawing.pipeline == "LDMPipeline" else latents.VAE,
        "folder": network.folder, "guidance": drawing.guidance, "autoguidance": drawing.autoguidance,
        "sampler": type(schedulers.stock(objective)).__name__,
    }  # fmt: skip
    blocks = []
    of_diffusers = drawing.network != "compact"
    if of_diffusers and drawing.text:
        blocks += [_TOLD_PIPELINE.format(**known)] if spec.pixels else []
    elif of_diffusers and objective.schedule.name == "exponential":
        blocks += [_PIPELINE.format(**known)] if spec.pixels else []  # it draws images alone
    elif of_diffusers:
        blocks.append(_block(_DIFFUSERS, drawing, known, "torch.arange(4) % {0}", "torch.full((4,), {0})",
                             "images = ((x.clamp(-1, 1) + 1) * 127.5).round().byte()", "x",
                             "with torch.no_grad():\n    x = vae.decode(x / vae.config.scaling_factor).sample\n",
                             ))  # fmt: skip
    if drawing.onnx:
        blocks.append(_block(_ONNX, drawing, known, "numpy.arange(4) % {0}", "numpy.full(4, {0})",
                             'images = ((clean.clip(-1, 1) + 1) * 127.5).round().astype("u1")', "clean",
                             'clean = decoder.run(None, {"latents": clean.astype("f4")})[0]\n'))  # fmt: skip
    return "\n\n".join(blocks)


def _with(more: Mapping[str, str]) -> str:
    """The inputs of the network, in Python, with ``more``."""
    return "given | {" + ", ".join(f'"{name}": {each}' for name, each in more.items()) + "}" if more else "given"


def _inputs(drawing: Drawing) -> dict[str, tuple[str, str]]:
    """By the names of a caption's inputs: the lines that make an empty one, and what is given for none."""
    if drawing.text is None:
        return {}
    words, found = asdict(drawing.text), {}
    compact = drawing.network == "compact"
    if compact:
        found["text"] = (_TEXT.format(**words), "0 * text")
    if drawing.text.tokens:
        found["tokens"] = (_TOKENS.format(**words), "nothing")
    if drawing.text.tokens and compact:
        found["mask"] = (_MASK.format(**words), "silent")
    return found


def _block(
    template: str, drawing: Drawing, known: Mapping[str, object], of: str, none: str, images: str, last: str,
    decoded: str,
) -> str:  # fmt: skip
    """``template`` without the lines for what this model has not: labels, a pull towards them, a guide."""
    classes, spec = drawing.classes, drawing.spec
    if drawing.autoencoder:
        images = decoded + images
    else:
        template = re.sub(r"(vae|decoder) = .*\n", "", template)
    null = registry.null_class(drawing.network, classes, latents=drawing.autoencoder is not None)
    labels = _LABELS.format(of=of.format(classes), none=none.format(null), null=null) if classes else ""
    told = {"class_labels": "labels"} if classes else {}
    free = {"class_labels": "none"} if classes else {}
    for name, (lines, nothing) in _inputs(drawing).items():
        labels += lines
        told, free = told | {name: name}, free | {name: nothing}
    if not told or drawing.guidance == 1:
        template = re.sub(r" +(free = .*|found = free .*)\n", "", template)
    if drawing.autoguidance == 1:
        template = re.sub(r"(guide = .*| +weak = .*| +found = weak .*)\n", "", template)
    return template.format(
        **known, labels=labels, label=", class_labels=labels" if classes else "",
        no_label=", class_labels=none" if classes else "",
        onnx_free=_with(free), onnx_none=_with(free), onnx_given=_with(told),
        towards=" and the ".join(name for name, there in (("label", classes), ("caption", drawing.text)) if there),
        result=images if spec.pixels or drawing.autoencoder
        else f"samples = {last}  # stored numbers * {spec.scale:g} + {spec.shift:g}",
        served=_SERVED if spec.pixels and not drawing.text else "",
    )  # fmt: skip
