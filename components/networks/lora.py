"""Low-rank adapters: W + (alpha / rank) B A in place of W, only A and B trained: Hu et al. 2021, arXiv:2106.09685, (3).

They are merged before a model is written, so that what is handed out is a plain denoiser; A and B lie beside it in
peft's form, for those who have the model that training started from.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from components.base.errors import UserError, nearest
from components.networks.params import LoraParams

FOLDER = "lora"
_PREFIX = "base_model.model."  # of the names in peft's files


def added(network: nn.Module, params: LoraParams | None, seed: int) -> nn.Module:
    """``network`` with fresh adapters, B = 0, and everything else frozen; as it is when ``params`` is None."""
    if params is None:
        return network
    from peft import LoraConfig, inject_adapter_in_model

    layers = [name for name, layer in network.named_modules() if isinstance(layer, (nn.Linear, nn.Conv2d))]
    for target in params.targets:
        if not any(name == target or name.endswith(f".{target}") for name in layers):
            ends = sorted({end for name in layers for end in (name.rsplit(".", 1)[-1], name)})
            known = [end for end in ends if "." not in end and not end.isdigit()]
            raise UserError(f"train.lora.targets: {target!r} is no layer of the network ({', '.join(known)})"
                            f"{nearest(target, ends)}")  # fmt: skip
    # peft writes "int", and divides it by the rank: any number does.
    config = LoraConfig(r=params.rank, lora_alpha=cast("int", params.alpha), target_modules=list(params.targets))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return inject_adapter_in_model(config, network)


def size_when_merged(network: nn.Module) -> int:
    """How many weights ``network`` has without its adapters."""
    return sum(weight.numel() for name, weight in network.named_parameters() if ".lora_" not in name)


def merge(network: nn.Module) -> dict[str, Tensor]:
    """Put the adapters of ``network`` into its weights and take them out; what they were, by peft's names."""
    found = {
        _PREFIX + name.replace(".default.", "."): weight.detach().cpu().contiguous().clone()
        for name, weight in network.state_dict().items()
        if ".lora_" in name
    }
    if found:
        from peft.tuners.lora import LoraLayer

        for name, layer in list(network.named_modules()):
            if isinstance(layer, LoraLayer):
                layer.merge()
                above, _, last = name.rpartition(".")
                setattr(network.get_submodule(above), last, layer.get_base_layer())
        # peft leaves its mark, which save_pretrained would take for adapters.
        vars(network).pop("peft_config", None)
    return found


def exchanged(folder: Path, weights: dict[str, Tensor], found: dict[str, Tensor]) -> dict[str, Tensor]:
    """Merged ``weights`` by name with the adapters in ``folder`` taken out and those of ``found`` put in.

    ``found`` has the names of a network in training; ``folder`` gets these adapters in place of its own.  ValueError
    when they are those of other layers.
    """
    from safetensors.torch import load_file, save_file

    path = folder / "adapter_model.safetensors"
    old = load_file(path)
    new = {_PREFIX + name.replace(".default.", "."): weight for name, weight in found.items()}
    if {name: weight.shape for name, weight in new.items()} != {name: weight.shape for name, weight in old.items()}:
        raise ValueError("other adapters")
    config = json.loads((folder / "adapter_config.json").read_text("utf-8"))
    factor, out = config["lora_alpha"] / config["r"], dict(weights)
    for name in old:
        layer, right, _ = name.removeprefix(_PREFIX).partition(".lora_A.")
        if right:
            weight = out[f"{layer}.weight"]
            change = _product(new, layer) - _product(old, layer)
            out[f"{layer}.weight"] = (weight.double() + factor * change.view(weight.shape)).to(weight.dtype)
    save_file(new, path)
    return out


def _product(adapters: dict[str, Tensor], layer: str) -> Tensor:
    """B A of ``layer`` as a matrix, float64; a kernel is A's, B's is 1 x 1."""
    left, right = (adapters[f"{_PREFIX}{layer}.lora_{part}.weight"].double().flatten(1) for part in "BA")
    return left @ right


def save(folder: Path, adapters: dict[str, Tensor], params: LoraParams) -> None:
    """Write ``adapters`` as peft reads them."""
    from safetensors.torch import save_file

    folder.mkdir()
    save_file(adapters, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": params.rank, "lora_alpha": params.alpha, "lora_dropout": 0.0, "bias": "none",
              "target_modules": sorted(params.targets), "inference_mode": True}  # fmt: skip
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", "utf-8")
