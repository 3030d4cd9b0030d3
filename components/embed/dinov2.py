"""DINOv2 for weights that a user has: the class token of a picture (Oquab et al. 2023, arXiv:2304.07193).

A vision transformer of patches of 14 pixels, S, B or L, without registers, by the names of weights in the authors'
files for torch.hub; how large it is follows from them.  Preprocessing: uint8 RGB, bilinear to 224 x 224 pixels as
TensorFlow 1 resized, ImageNet's mean and deviation: what torch-fidelity feeds it.

Shapes: N pictures, T tokens, D features.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from components.embed.resizing import as_tensorflow_1

SIDE, PATCH, HEAD = 224, 14, 64
"""Pixels of a picture and of a patch; channels of an attention head."""

_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_OFFSET = 0.1  # that the authors add to the size before they stretch the places of patches; kept, as are its results


class _Attention(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        count, tokens, width = x.shape
        query, key, value = self.qkv(x).view(count, tokens, 3, width // HEAD, HEAD).permute(2, 0, 3, 1, 4)
        found = functional.scaled_dot_product_attention(query, key, value)
        return self.proj(found.transpose(1, 2).reshape(count, tokens, width))


class _Mlp(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(functional.gelu(self.fc1(x)))


class _Scale(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


class _Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.attn, self.ls1 = nn.LayerNorm(width, 1e-6), _Attention(width), _Scale(width)
        self.norm2, self.mlp, self.ls2 = nn.LayerNorm(width, 1e-6), _Mlp(width), _Scale(width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.ls1(self.attn(self.norm1(x)))
        return x + self.ls2(self.mlp(self.norm2(x)))


class _Patches(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, PATCH, PATCH)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x).flatten(2).transpose(1, 2)


class DinoV2(nn.Module):
    """Uint8 pictures NCHW of 3 channels to features, float32 (N, D)."""

    def __init__(self, width: int, depth: int, patches: int) -> None:
        """``patches``: of the pictures that it was trained on, for which its weights hold places."""
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + patches, width))
        self.patch_embed = _Patches(width)
        self.blocks = nn.ModuleList([_Block(width) for _ in range(depth)])
        self.norm = nn.LayerNorm(width, 1e-6)

    def forward(self, pictures: Tensor) -> Tensor:
        """The class token after the last norm."""
        mean, deviation = (255 * pictures.new_tensor(each, dtype=torch.float32)[:, None, None]
                           for each in (_MEAN, _DEVIATION))  # fmt: skip
        x = self.patch_embed((as_tensorflow_1(pictures.float(), SIDE) - mean) / deviation)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], 1) + self._places()
        for block in self.blocks:
            x = block(x)
        return self.norm(x)[:, 0]

    def _places(self) -> Tensor:
        """What each token is given for its place, (1, T, D)."""
        own, side = round((self.pos_embed.shape[1] - 1) ** 0.5), SIDE // PATCH
        if own == side:
            return self.pos_embed
        grid = self.pos_embed[:, 1:].view(1, own, own, -1).permute(0, 3, 1, 2)
        scale = (side + _OFFSET) / own
        found = functional.interpolate(grid, scale_factor=(scale, scale), mode="bicubic")
        return torch.cat([self.pos_embed[:, :1], found.flatten(2).transpose(1, 2)], 1)


def network(weights: dict[str, Tensor]) -> nn.Module:
    """The network with ``weights``; an exception when they are of another one."""
    _, tokens, width = weights["pos_embed"].shape
    depth = len({name.split(".")[1] for name in weights if name.startswith("blocks.")})
    with torch.device("meta"):  # no time is spent on weights that are replaced
        found = DinoV2(width, depth, tokens - 1)
    own = {name: value for name, value in weights.items() if name != "mask_token"}
    found.load_state_dict(own, assign=True)
    return found.float()
