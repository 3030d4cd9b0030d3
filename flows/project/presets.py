"""The presets of `stillroom init`: each is the params.yaml of the demo and what is different from it.

So a preset has every parameter that there is, and a test loads each by the stages' own models.  What a preset says of
its speed or its quality was measured by a command that it names; most were not measured, and say so.
"""

from __future__ import annotations

import io
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

from components.base.config import FILE
from components.base.errors import UserError, nearest

PICTURES = "pictures"
"""The folder of a new project that its pictures are looked for in."""
UNKNOWN = "unknown"
"""The licence of pictures until somebody says what it is."""
SAMPLES = ("noto-emoji-64.zip", "noto-emoji-64.LICENSE.txt")
"""The pictures of the demo, which come with the package."""
_WIDTH = 120  # of a line in params.yaml
_NULL = "tag:yaml.org,2002:null"

Changes = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Preset:
    """``changes`` of the demo's params.yaml, by section; ``samples``: it trains on the demo's pictures, not yours."""

    line: str
    measured: str
    changes: Changes = field(default_factory=dict)
    samples: bool = False


def _merged(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """``old`` with ``new`` in it, at any depth; what has a kind, as a network, is replaced whole."""
    return {**old, **{key: _merged(old.get(key, {}), value) if isinstance(value, Mapping) and "kind" not in value
                      else value for key, value in new.items()}}  # fmt: skip


def _own(side: int, *changes: Changes) -> dict[str, dict[str, Any]]:
    """What pictures of one's own want, whatever trains on them, and then ``changes``, the later the stronger."""
    photographs: Changes = {
        "clean": {"min_side": side // 2},  # what would be enlarged by more than two is too coarse to learn from
        "resize": {"side": side, "fit": "crop"},
        "train": {"augment": {"horizontal_flip": 0.5}},
    }
    found: dict[str, dict[str, Any]] = {}
    for each in (photographs, *changes):
        for section, values in each.items():
            found[section] = _merged(found.get(section, {}), values)
    return found


def _cpu(images: int, fold: int, widths: list[int]) -> Changes:
    """The recipe of the demo for longer; ``fold`` puts the pixels of a square into channels, so that the network works
    at 32 px (at 256 at 64), where the demo's rate was measured."""
    network = {"kind": "compact", "widths": widths, "layers": 1, "fold": fold, "skip_sigma": 0.4}
    return {"train": {"images": images, "network": network, "warmup_images": 2000, "checkpoint_images": 20000,
                      "validate_images": 256, "validations": 20}, **_student(images)}  # fmt: skip


def _student(images: int) -> dict[str, dict[str, Any]]:
    """The demo's share of the training, an eleventh, for `stillroom distil`; measured nowhere else."""
    return {"distil": {"images": images // 11}}


def _gpu(network: Mapping[str, Any], *, images: int, batch: int, rate: float, muon: float = 0.0) -> Changes:
    """One GPU: bf16 where it has it, as large pieces as fit, compiled where that pays."""
    train = {
        "images": images, "batch": batch, "ranks": 1, "precision": "auto", "micro_batch": "auto", "compile": "auto",
        "sharding": "none", "network": network, "learning_rate": rate, "muon_rate": muon,
        "warmup_images": 20 * batch, "loaders": 2, "checkpoint_images": images // 40, "validate_images": 1024,
        "validations": 40, "steps": 24,
    }  # fmt: skip
    return {"train": train, "evaluate": {"samples": 2000}, **_student(images)}


def _eight(batch: int, rate: float) -> Changes:
    """Eight GPUs of one machine: a rank each, four times the batch at twice the rate, twice the images."""
    return {"train": {"ranks": 8, "batch": batch, "learning_rate": rate, "warmup_images": 20 * batch}}


def _high(mean: float) -> Changes:
    """Noise levels for large pictures: the same noise hides less of them, so training moves to more of it by the
    logarithm of side / 64 (Hoogeboom et al. 2023, arXiv:2301.11093), from EDM2's choice for 64 px, a mean of -0.8."""
    return {"train": {"levels": "normal", "level_mean": mean, "level_std": 1.6}}


def _unet(*widths: int) -> dict[str, Any]:
    return {"kind": "unet", "widths": list(widths), "layers_per_block": 2}


_COMPACT_32 = _gpu({"kind": "compact", "widths": [64, 128, 256, 256], "layers": 2, "fold": 1, "skip_sigma": 0.4},
                   images=10_000_000, batch=256, rate=0.001, muon=0.005)  # fmt: skip
_UNET_64 = _gpu(_unet(128, 256, 256, 512), images=10_000_000, batch=256, rate=0.0002)
_UNET_128 = _gpu(_unet(128, 128, 256, 256, 512), images=8_000_000, batch=128, rate=0.0002)
_UNET_256 = _gpu(_unet(128, 128, 256, 256, 512, 512), images=5_000_000, batch=64, rate=0.0001)
_NOT_ON_A_GPU = (
    "Not measured: nothing has been trained with it. Its values follow what the field uses for this size "
    "(docs/training.md of Stillroom); look at the first sheet of samples before you leave it alone."
)
_NOT_ON_A_CPU = (
    "Not measured as a whole: the demo's recipe, measured at 32 px by `stillroom run` of preset emoji-cpu, for longer."
)

_TOLD = {"horizontal_flip": 0.3, "rotate": 10.0, "crop": 0.1, "probability": 0.4, "label": True,
         "colour": {"brightness": 0.05, "contrast": 0.05, "saturation": 0.05, "hue": 0.02}}  # fmt: skip


def _emoji(images: int, *widths: int) -> dict[str, dict[str, Any]]:
    """A minute of a GPU: 3,000 pictures are soon known by heart, so the network is told of what is done to them."""
    network = {"kind": "compact", "widths": list(widths), "layers": 1, "fold": 1, "skip_sigma": 0.4}
    train = {"images": images, "batch": 256, "ranks": 1, "network": network, "augment": _TOLD}
    return {"train": train, **_student(images)}


_MINILM = {
    "encoder": "minilm",
    "template": "a picture of {label}",
    "separator": None,
    "characters": 300,
    "tokens": None,
}
_TOLD_IN_WORDS = {"images": 104_000, "conditions": ["text"], "autoguidance": 1.0, "guidance": 2.5}
"""Twice the demo's images: a caption is harder to learn than one of 23 labels.  Guidance of 2.5 was the best of a trial
outside of this code, with this network and these captions."""

PRESETS = {
    "emoji-cpu": Preset(
        line="the demo: 3,786 emoji at 32 px that come with the package, on two CPU cores, 7 to 14 minutes",
        measured="Measured by `stillroom run` (docs/training.md of Stillroom, Measured).", samples=True,
    ),
    "emoji-text": Preset(
        line="the demo's emoji at 32 px, drawn by what is said (`stillroom sample --prompt`), on two CPU cores; needs "
        "the extra `text`", samples=True, changes={"encode": {"text": _MINILM}, "train": _TOLD_IN_WORDS},
        measured="Measured by `stillroom run`, once: x0 error 0.0211, KID 2.89; of 320 captions never "
        "seen 0.21 have their own image among the ten nearest to what is drawn (chance 0.03; median place 58).",
    ),
    "emoji-gpu": Preset(
        line="the demo's emoji at 32 px on one GPU, a minute", samples=True, changes=_emoji(358_400, 32, 64, 128, 256),
        measured="Measured by `python benchmarks/gpu_quality.py` on one H200: x0 error 0.0176 after 59 s (docs/gpu.md "
        "of Stillroom).",
    ),
    "emoji-64-gpu": Preset(
        line="the demo's emoji at 64 px on one GPU, a minute", samples=True,
        changes={"resize": {"side": 64}, **_emoji(230_400, 32, 64, 128, 256, 256)},
        measured="Measured by `python benchmarks/gpu_quality.py` on one H200: x0 error 0.0108 after 65 s (docs/gpu.md "
        "of Stillroom).",
    ),
    "image-32-cpu": Preset(
        line="your pictures at 32 px on two CPU cores, an hour or two", measured=_NOT_ON_A_CPU,
        changes=_own(32, _cpu(500_000, 1, [16, 32, 64, 128])),
    ),
    "image-64-cpu": Preset(
        line="your pictures at 64 px on two CPU cores, an hour or two", measured=_NOT_ON_A_CPU,
        changes=_own(64, _cpu(500_000, 2, [16, 32, 64, 128])),
    ),
    "image-128-cpu": Preset(
        line="your pictures at 128 px on two CPU cores, coarse, a few hours", measured=_NOT_ON_A_CPU,
        changes=_own(128, _cpu(500_000, 4, [32, 48, 64, 128]), _high(-0.1)),
    ),
    "image-256-cpu": Preset(
        line="your pictures at 256 px on two CPU cores, coarse, a day: to try the way out, not for results",
        measured=_NOT_ON_A_CPU, changes=_own(256, _cpu(500_000, 4, [32, 48, 64, 64, 128]), _high(0.6)),
    ),
    "image-32-gpu": Preset(
        line="your pictures at 32 px on one GPU, compact network", measured=_NOT_ON_A_GPU,
        changes=_own(32, _COMPACT_32),
    ),
    "image-64-gpu": Preset(
        line="your pictures at 64 px on one GPU, U-Net of diffusers", measured=_NOT_ON_A_GPU,
        changes=_own(64, _UNET_64),
    ),
    "image-128-gpu": Preset(
        line="your pictures at 128 px on one GPU, U-Net of diffusers", measured=_NOT_ON_A_GPU,
        changes=_own(128, _UNET_128, _high(-0.1)),
    ),
    "image-256-gpu": Preset(
        line="your pictures at 256 px on one GPU, U-Net of diffusers", measured=_NOT_ON_A_GPU,
        changes=_own(256, _UNET_256, _high(0.6)),
    ),
    "image-32-8gpu": Preset(
        line="your pictures at 32 px on eight GPUs of one machine, compact network", measured=_NOT_ON_A_GPU,
        changes=_own(32, _COMPACT_32, _eight(1024, 0.002)),
    ),
    "image-64-8gpu": Preset(
        line="your pictures at 64 px on eight GPUs of one machine", measured=_NOT_ON_A_GPU,
        changes=_own(64, _UNET_64, _eight(1024, 0.0004)),
    ),
    "image-128-8gpu": Preset(
        line="your pictures at 128 px on eight GPUs of one machine", measured=_NOT_ON_A_GPU,
        changes=_own(128, _UNET_128, _high(-0.1), _eight(512, 0.0004)),
    ),
    "image-256-8gpu": Preset(
        line="your pictures at 256 px on eight GPUs of one machine", measured=_NOT_ON_A_GPU,
        changes=_own(256, _UNET_256, _high(0.6), _eight(256, 0.0002)),
    ),
}  # fmt: skip
"""By the name that `--preset` takes."""


def named(name: str) -> Preset:
    """The preset called ``name``; UserError with the nearest name when there is none."""
    if name not in PRESETS:
        raise UserError(f"--preset {name}: not a preset (they are {', '.join(PRESETS)}){nearest(name, PRESETS)}")
    return PRESETS[name]


def params(name: str, *, location: str = PICTURES, licence: str = UNKNOWN) -> str:
    """The text of params.yaml for the preset ``name``; its pictures, unless it brings its own, lie at ``location``."""
    from ruamel.yaml import YAML

    preset = named(name)
    editor = YAML()
    editor.width, editor.preserve_quotes = _WIDTH, True
    editor.representer.add_representer(type(None), lambda writer, _: writer.represent_scalar(_NULL, "null"))
    editor.indent(mapping=2, sequence=4, offset=2)
    values = editor.load((resources.files(__package__) / FILE).read_text("utf-8"))
    for section, changed in preset.changes.items():
        _change(values[section], changed)
    if not preset.samples:
        values["collect"]["sources"] = [_source(values["collect"]["sources"][0], location, licence)]
    stream = io.StringIO()
    editor.dump(values, stream)
    first, rest = stream.getvalue().split("\n", 1)
    words = (f"Preset {name} of `stillroom init`: {preset.line}.", preset.measured)
    own = [f"# {line}" for each in words for line in textwrap.wrap(each, _WIDTH - 2)]
    return "\n".join([first, *own, rest])


def _source(demo: Mapping[str, Any], location: str, licence: str) -> dict[str, Any]:
    own = {"name": "pictures", "location": location, "licence": licence}
    return {**demo, **own, "text_column": None, "label_column": None, "group_column": None}


def _change(values: Any, changes: Mapping[str, Any]) -> None:
    """Put ``changes`` into the round-trip ``values``, whose comments and order stay."""
    from ruamel.yaml.comments import CommentedMap, CommentedSeq

    for key, value in changes.items():
        if isinstance(value, Mapping) and "kind" not in value and values[key] is not None:
            _change(values[key], value)
            continue
        if isinstance(value, Mapping):
            value = CommentedMap(value)
            for inner in [name for name, one in value.items() if isinstance(one, list)]:
                value[inner] = CommentedSeq(value[inner])
                value[inner].fa.set_flow_style()
        values[key] = value
