"""The networks that can be trained: how each is built and read again."""

from __future__ import annotations

import functools
import importlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from components.base import files
from components.base.errors import UserError
from components.networks import fit
from components.networks.params import CompactParams, DitParams, NetworkParams, UnetParams

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

CONFIG = "config.json"
WEIGHTS = "diffusion_pytorch_model.safetensors"
"""The file of a network's weights, as diffusers names it."""

GUIDE = "guide"
"""Subfolder of a model folder with the weaker network that its samples are led away from, laid out as the folder is."""


PIPELINES_NULL = 1000
"""The label for none in diffusers' DiTPipeline, whose first model had the classes of ImageNet."""


def build(
    params: NetworkParams, *, schedule_name: str, shape: tuple[int, ...], classes: int, augment_labels: int = 0,
    text_width: int = 0, text_tokens: int = 0,
) -> nn.Module:  # fmt: skip
    """A fresh network for images of ``shape`` (C, H, W); with ``classes`` > 0 it takes labels 0..classes (last: none).

    ``augment_labels``: how many numbers say what augmentation did (:class:`components.dataset.augment.Drawn`); only
    a compact network takes them, 0 for none.  ``text_width``: numbers in the vector of a caption, and in each of its
    ``text_tokens`` tokens; as above, but for the tokens, which a U-Net of diffusers reads too.
    """
    chosen = TOLD.get(params.kind, NETWORKS[params.kind]) if text_width else NETWORKS[params.kind]
    if text_width and params.kind == "dit":
        raise UserError("train.network.kind dit: takes no captions: take compact or unet, or train.conditions [label]")
    if len(shape) != 3:
        raise UserError(
            f"train.network.kind {params.kind}: takes samples of shape (C, H, W), not {shape}, as all networks do"
        )
    fit.check(params, shape[1:])
    if text_width:
        fit.check_told(params, shape[1:], tokens=text_tokens, labels=classes > 0, schedule=schedule_name)
    return chosen.build(params, schedule_name, shape, classes, augment_labels, text_width, text_tokens)


def null_class(kind: str, classes: int, *, latents: bool) -> int | None:
    """The label that stands for none in a network for ``classes`` labels; None: it takes none.

    The one after them, but diffusers' DiTPipeline, which draws latents, knows one alone: :data:`PIPELINES_NULL`.
    """
    if kind == "dit" and latents and 0 < classes <= PIPELINES_NULL:
        return PIPELINES_NULL
    return classes or None


def params(network: nn.Module) -> dict[str, Any]:
    """Section ``train.network`` of params.yaml for a network as ``network``, as plain data."""
    own, config = kind(network), cast(Any, network).config
    if own == "unet":
        return {"kind": own, "widths": [*config.block_out_channels], "layers_per_block": config.layers_per_block}
    if own == "dit":
        heads, width = config.num_attention_heads, config.attention_head_dim
        return {"kind": own, "patch": config.patch_size, "width": heads * width, "depth": config.num_layers,
                "heads": heads}  # fmt: skip
    return {"kind": own, "widths": [*config.widths], "layers": config.layers, "fold": config.fold,
            "skip_sigma": config.skip_sigma}  # fmt: skip


def read(config: dict[str, Any]) -> nn.Module:
    """The network, weights unset, that a config.json describes; ValueError when its class is none of ours."""
    name = config.get("_class_name")
    found = _of_class(name)
    if found is None:
        raise ValueError(f"{name!r} is no network that can be sampled here")
    network: nn.Module = getattr(importlib.import_module(found.module), found.class_name).from_config(config)
    return network


def load(config: Path) -> nn.Module:
    """The network of a config.json, with the weights beside it; any exception when either is damaged or hostile."""
    from safetensors.torch import load_file

    network = read(files.read_json_object(config, "train or pull the model again"))
    network.load_state_dict(load_file(config.with_name(WEIGHTS)))
    return network


def kind(network: nn.Module) -> str:
    """``train.network.kind`` of ``network``."""
    return next(kind for kind, each in _every() if each.class_name == type(network).__name__)


def entry(kind: str, *, told: bool) -> Network:
    """What the network of ``train.network.kind`` is; ``told``: that it takes captions."""
    return TOLD.get(kind, NETWORKS[kind]) if told else NETWORKS[kind]


def _every() -> list[tuple[str, Network]]:
    return [*NETWORKS.items(), *TOLD.items()]


def modules(model: Path) -> list[str]:
    """The module that the network of a model folder needs, to import ahead of time; none if the folder is damaged."""
    try:
        config = json.loads((folder(model) / CONFIG).read_text("utf-8"))
    except (OSError, ValueError):
        return []
    found = _of_class(config.get("_class_name")) if isinstance(config, dict) else None
    return [found.module] if found else []


def _of_class(name: object) -> Network | None:
    return next((each for _, each in _every() if each.class_name == name), None)


def folder(model: Path) -> Path:
    """Where a model folder holds its network: in ``transformer`` (a DiT, as in pipelines of diffusers) or ``unet``."""
    return model / "transformer" if (model / "transformer").is_dir() else model / "unet"


def sample_shape(network: nn.Module) -> tuple[int, ...]:
    """The shape of one sample that ``network`` takes, channels first: (C, H, W) of an image."""
    config: Any = network.config
    size = config.sample_size
    sides = size if isinstance(size, list | tuple) else (size, size)
    return (config.in_channels, *sides)


def multiple(network: nn.Module) -> int | None:
    """Of what both sides of an image have to be multiples so that ``network`` takes it; None: it takes one shape."""
    own, config = kind(network), cast(Any, network).config
    if own == "compact":
        return int(config.fold) << (len(config.widths) - 1)
    return 1 << (len(config.block_out_channels) - 1) if own == "unet" else None


def check(network: nn.Module, shapes: Sequence[tuple[int, ...]]) -> None:
    """UserError that names the bucket unless ``network``, fresh or from a start, takes each of several ``shapes``."""
    fit.buckets(kind(network), multiple(network), [shape[1:] for shape in shapes])


def memory_format(network: nn.Module) -> torch.memory_format:
    """How the weights of ``network`` should lie on a GPU where it is not compiled.

    GroupNorm, which a U-Net of diffusers has everywhere, has no kernel for channels-last memory there: 954 images/s
    with it against 1,406 without (one H200, 64 px, batch 256, bf16); compiled it is the other way round.
    """
    import torch

    plain = type(network).__name__ in ("UNet2DModel", "UNet2DConditionModel")
    return torch.contiguous_format if plain else torch.channels_last


def recompute(network: nn.Module) -> None:
    """Have the backward pass of ``network`` compute the activations of its blocks again, in place of keeping them.

    No network here draws random numbers, whose state torch would keep; a CUDA graph cannot.
    """
    from torch.utils.checkpoint import checkpoint

    kept: Any = network
    kept.enable_gradient_checkpointing(functools.partial(checkpoint, use_reentrant=False, preserve_rng_state=False))


def called_apart(network: nn.Module) -> list[nn.Module]:
    """Parts of a block that ``network`` calls outside of it as well: the embedding of a DiT's first block."""
    if type(network).__name__ != "DiTTransformer2DModel":
        return []
    blocks: Any = network
    return [blocks.transformer_blocks[0].norm1.emb]


def labels(network: nn.Module) -> int:
    """How many class labels ``network`` takes, the one for no label among them; 0: it takes none."""
    config: Any = network.config
    if "num_embeds_ada_norm" in config:
        classes = config["num_embeds_ada_norm"]
        return classes + 1 if classes else 0
    return config["num_class_embeds"] or 0


def text_width(network: nn.Module) -> int:
    """Numbers in the vectors of captions, and in their tokens, that ``network`` takes; 0: it takes none."""
    config: Any = network.config
    return config.get("text_width") or (config["cross_attention_dim"] if _is_told_unet(network) else 0)


def text_tokens(network: nn.Module) -> int:
    """Tokens of a caption that ``network`` was made to read; 0: it reads none.

    Both kinds that read any take another number of them too, and a U-Net of diffusers does not say which it was.
    """
    config: Any = network.config
    return config.get("text_tokens") or (SOME_TOKENS if _is_told_unet(network) else 0)


def _is_told_unet(network: nn.Module) -> bool:
    return type(network).__name__ == TOLD["unet"].class_name


def captions(network: nn.Module, count: int, *, device: str | torch.device = "cpu") -> dict[str, Tensor]:
    """``count`` captions by the names of ``forward``, all numbers 1; nothing for a network that takes none."""
    import torch

    width, tokens, found = text_width(network), text_tokens(network), {}
    if width and not _is_told_unet(network):
        found["text"] = torch.ones(count, width, device=device)
    if width and tokens:
        found["tokens"] = torch.ones(count, tokens, width, device=device)
    if width and tokens and not _is_told_unet(network):
        found["mask"] = torch.ones(count, tokens, dtype=torch.bool, device=device)
    return found


def examples(network: nn.Module, timestep: Tensor, shape: tuple[int, ...] | None = None) -> dict[str, Tensor]:
    """Inputs by the names of ``forward`` for each ``timestep`` (B,): seeded noise, one label after the other.

    ``shape`` of a sample is the network's own unless given.
    """
    import torch

    shape, source = (len(timestep), *(shape or sample_shape(network))), torch.Generator().manual_seed(0)
    given = {"sample": torch.randn(shape, generator=source), "timestep": timestep.float()}
    if count := labels(network):
        given["class_labels"] = torch.arange(len(timestep)) % count
    for name, value in captions(network, len(timestep)).items():
        given[name] = value if name == "mask" else torch.randn(value.shape, generator=source)
    if "text" in given:
        given["text"][-1] = 0  # no caption
    if "mask" in given:
        given["mask"][-1, 1:] = False
    return given


def embeddings(network: nn.Module) -> list[str]:
    """The names of the weights that are tables of which each sample reads a row."""
    from torch import nn

    return [f"{name}.weight" for name, module in network.named_modules() if isinstance(module, nn.Embedding)]


def _compact(
    params: CompactParams, schedule_name: str, shape: tuple[int, ...], classes: int, augment_labels: int,
    text_width: int, text_tokens: int,
) -> nn.Module:  # fmt: skip
    from components.networks.compact import CompactUNet

    return CompactUNet(
        sample_size=_size(shape), in_channels=shape[0], widths=list(params.widths), layers=params.layers,
        num_class_embeds=classes + 1 if classes else None, fold=params.fold, skip_sigma=params.skip_sigma,
        schedule_name=schedule_name, num_augment_labels=augment_labels or None,
        text_width=text_width or None, text_tokens=text_tokens or None,
    )  # fmt: skip


def _unet(params: UnetParams, schedule_name: str, shape: tuple[int, ...], classes: int, *_more: int) -> nn.Module:
    from components.networks.unet import UNet2DModel

    widths = params.widths
    attends = [side <= fit.ATTENTION_SIDE for side in fit.sides(params, shape[1:])]
    network: Any = UNet2DModel(  # mypy sees the stand-in that diffusers has for machines without torch
        sample_size=_size(shape),
        in_channels=shape[0],
        out_channels=shape[0],
        # On the exponential schedule the timestep is sigma.  Its logarithm is embedded, the output is divided by it,
        # and pixels come in [0, 1].
        time_embedding_type="fourier" if schedule_name == "exponential" else "positional",
        center_input_sample=schedule_name == "exponential",
        block_out_channels=tuple(widths),
        layers_per_block=params.layers_per_block,
        down_block_types=tuple("AttnDownBlock2D" if here else "DownBlock2D" for here in attends),
        up_block_types=tuple("AttnUpBlock2D" if here else "UpBlock2D" for here in reversed(attends)),
        attention_head_dim=fit.HEAD,
        norm_num_groups=fit.NORM_GROUPS,
        num_class_embeds=classes + 1 if classes else None,
    )
    return network


def _told_unet(
    params: UnetParams, _schedule: str, shape: tuple[int, ...], _classes: int, _augment: int, text_width: int,
    _tokens: int,
) -> nn.Module:  # fmt: skip
    from components.networks.told_unet import UNet2DConditionModel

    reads = [side <= fit.ATTENTION_SIDE for side in fit.sides(params, shape[1:])]
    network: nn.Module = UNet2DConditionModel(
        sample_size=_size(shape),
        in_channels=shape[0],
        out_channels=shape[0],
        block_out_channels=tuple(params.widths),
        layers_per_block=params.layers_per_block,
        down_block_types=tuple("CrossAttnDownBlock2D" if here else "DownBlock2D" for here in reads),
        up_block_types=tuple("CrossAttnUpBlock2D" if here else "UpBlock2D" for here in reversed(reads)),
        # How many there are, in spite of the name, which diffusers cannot change any more (its issue 2011).
        attention_head_dim=tuple(max(1, width // fit.HEAD) for width in params.widths),
        norm_num_groups=fit.NORM_GROUPS,
        cross_attention_dim=text_width,
    )
    return network


def _dit(params: DitParams, _schedule: str, shape: tuple[int, ...], classes: int, *_more: int) -> nn.Module:
    from components.networks import dit

    channels, side, _ = shape
    network = dit.DiTTransformer2DModel(
        sample_size=side, patch_size=params.patch, in_channels=channels, out_channels=channels,
        num_layers=params.depth, num_attention_heads=params.heads, attention_head_dim=params.width // params.heads,
        num_embeds_ada_norm=classes,  # and one more label, for none
    )  # fmt: skip
    dit.begin(network)
    return network


def _size(shape: tuple[int, ...]) -> int | tuple[int, ...]:
    """As diffusers has it in configs: the side of a square, or height and width."""
    return shape[1] if shape[1] == shape[2] else shape[1:]


@dataclass(frozen=True)
class Network:
    """One kind of network: its parameters, how it is built, and where the class is that reads its config.json."""

    params: type[CompactParams | UnetParams | DitParams]
    build: Callable[[Any, str, tuple[int, ...], int, int, int, int], nn.Module]
    """Of its parameters, the name of the schedule, (C, H, W), classes, the numbers that tell of augmentation and those
    of a caption's vector, and the tokens of a caption."""
    class_name: str
    module: str
    folder: str
    """Of a model folder, as pipelines of diffusers have it."""


NETWORKS = {
    "compact": Network(CompactParams, _compact, "CompactUNet", "components.networks.compact", "unet"),
    "unet": Network(UnetParams, _unet, "UNet2DModel", "components.networks.unet", "unet"),
    "dit": Network(DitParams, _dit, "DiTTransformer2DModel", "components.networks.dit", "transformer"),
}
"""By ``train.network.kind``."""

TOLD = {
    "unet": Network(UnetParams, _told_unet, "UNet2DConditionModel", "components.networks.told_unet", "unet"),
}
"""By ``train.network.kind``, where captions make it another network."""

SOME_TOKENS = 16
