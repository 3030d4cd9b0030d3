"""The compact U-Net: for CPUs, laptops and the edge, as fast per image as the arithmetic allows.

It works on squares of ``fold`` x ``fold`` pixels as channels, in channels-last memory, where LayerNorm over channels
and 3 x 3 convolutions need no copy; attention is two plain products.  It has the signature of diffusers' networks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn
from torch.nn import functional

from components.schedule import Name, schedule


@dataclass
class Predicted:
    """What the network returns, as diffusers' networks do."""

    sample: Tensor


class CompactUNet(ModelMixin, ConfigMixin):
    """U-Net over folded pixels that predicts v; see :meth:`forward`."""

    @register_to_config
    def __init__(
        self, sample_size: int, in_channels: int, widths: Sequence[int], layers: Sequence[int],
        num_class_embeds: int | None = None, fold: int = 2, heads_from: int = 8, skip_sigma: float = 0.1,
        schedule_name: Name = "cosine", num_augment_labels: int | None = None,
    ) -> None:  # fmt: skip
        """``widths`` and ``layers`` (residual blocks) of each resolution, the first of sample_size / fold pixels.

        Resolutions of ``heads_from`` pixels and below attend. ``skip_sigma``: see :meth:`forward`.
        ``num_augment_labels``: numbers that say what augmentation did, 0 for nothing.
        """
        super().__init__()
        self.schedule = schedule(schedule_name)
        self.schedule.sigma_of(torch.ones(1))  # its table is made here and kept, not while a tracer watches
        self.out_channels = in_channels
        folded, inner = in_channels * fold**2, widths[0]
        embed = 4 * inner
        self.time = nn.Sequential(nn.Linear(inner, embed), nn.SiLU(), nn.Linear(embed, embed))
        self.label = nn.Embedding(num_class_embeds, embed) if num_class_embeds else None
        self.augment = nn.Linear(num_augment_labels, embed, bias=False) if num_augment_labels else None
        if self.augment is not None:
            nn.init.zeros_(self.augment.weight)
        self.enter = nn.Conv2d(folded, inner, 3, padding=1)
        sides = [sample_size // fold >> level for level in range(len(widths))]
        self.down, self.up, self.shrink, self.grow = (nn.ModuleList() for _ in range(4))
        kept, width = [inner], inner
        for level, (wide, count, side) in enumerate(zip(widths, layers, sides, strict=True)):
            for _ in range(count):
                self.down.append(Block(width, wide, embed, attends=side <= heads_from))
                width = wide
                kept.append(width)
            if level < len(widths) - 1:
                self.shrink.append(nn.Conv2d(4 * width, width, 1))
                kept.append(width)
        self.middle = Block(width, width, embed, attends=True)
        for level, (wide, count, side) in reversed(list(enumerate(zip(widths, layers, sides, strict=True)))):
            for _ in range(count + 1):
                self.up.append(Block(width + kept.pop(), wide, embed, attends=side <= heads_from))
                width = wide
            if level:
                self.grow.append(nn.Conv2d(width, 4 * width, 1))
        self.norm = Norm(width)
        self.leave = nn.Conv2d(width, folded, 3, padding=1)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)
        self.to(memory_format=torch.channels_last)

    def forward(
        self, sample: Tensor, timestep: Tensor, class_labels: Tensor | None = None, augment_labels: Tensor | None = None
    ) -> Predicted:
        """v for ``sample`` BCHW at ``timestep``, (B,) or one for all; ``class_labels`` (B,).

        ``augment_labels`` (B, num_augment_labels): what was done to the images; left out, as if nothing was.

        Inside, D(x, sigma) = c_skip x + c_out F with c_skip = s**2 / (sigma**2 + s**2) and c_out = sigma /
        sqrt(sigma**2 + s**2), s = skip_sigma: F draws the clean image above s and corrects the noisy one below.
        """
        timestep = torch.as_tensor(timestep, device=sample.device).expand(sample.shape[0])
        sigma = self.schedule.sigma_of(timestep).view(-1, 1, 1, 1)
        drawn = self._network(sample, sigma.flatten(), class_labels, augment_labels).float()
        narrow = sigma**2 + self.config.skip_sigma**2
        skipped = sigma * (1 - self.config.skip_sigma**2) / narrow
        return Predicted(skipped * sample.float() - ((1 + sigma**2) / narrow).sqrt() * drawn)

    def _network(self, sample: Tensor, sigma: Tensor, labels: Tensor | None, done: Tensor | None) -> Tensor:
        config = self.config
        told = self.time(_waves(sigma.log() / 4, config.widths[0]).to(sample.dtype))
        if self.label is not None:
            told = told + self.label(labels)
        if self.augment is not None and done is not None:
            told = told + self.augment(done)
        told = functional.silu(told)
        x = functional.pixel_unshuffle(sample, config.fold).contiguous(memory_format=torch.channels_last)
        x = self.enter(x)
        kept, down, shrink = [x], iter(self.down), iter(self.shrink)
        for level, count in enumerate(config.layers):
            for _ in range(count):
                x = next(down)(x, told)
                kept.append(x)
            if level < len(config.layers) - 1:
                x = next(shrink)(functional.pixel_unshuffle(x, 2).contiguous(memory_format=torch.channels_last))
                kept.append(x)
        x = self.middle(x, told)
        up, grow = iter(self.up), iter(self.grow)
        for level, count in reversed(list(enumerate(config.layers))):
            for _ in range(count + 1):
                x = next(up)(torch.cat([x, kept.pop()], 1), told)
            if level:
                x = functional.pixel_shuffle(next(grow)(x), 2).contiguous(memory_format=torch.channels_last)
        return functional.pixel_shuffle(self.leave(functional.silu(self.norm(x))), config.fold)


class Norm(nn.Module):
    """LayerNorm over the channels of BCHW in channels-last memory."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        """BCHW to BCHW."""
        x = functional.layer_norm(x.permute(0, 2, 3, 1), self.weight.shape, self.weight, self.bias)
        return x.permute(0, 3, 1, 2)


class Block(nn.Module):
    """Two convolutions beside a shortcut, told of noise and label by scale and shift; then attention where asked."""

    def __init__(self, into: int, width: int, embed: int, *, attends: bool) -> None:
        super().__init__()
        self.first, self.second = Norm(into), Norm(width)
        self.one, self.two = nn.Conv2d(into, width, 3, padding=1), nn.Conv2d(width, width, 3, padding=1)
        self.told = nn.Linear(embed, 2 * width)
        self.shortcut = nn.Conv2d(into, width, 1) if into != width else nn.Identity()
        self.attention = Attention(width) if attends else None
        nn.init.zeros_(self.two.weight)
        nn.init.zeros_(self.two.bias)

    def forward(self, x: Tensor, told: Tensor) -> Tensor:
        """BCHW to BCHW; ``told`` (B, embed)."""
        scale, shift = self.told(told)[:, :, None, None].chunk(2, 1)
        y = self.one(functional.silu(self.first(x)))
        y = self.two(functional.silu(torch.addcmul(shift, self.second(y), 1 + scale)))
        y = self.shortcut(x) + y
        return y if self.attention is None else self.attention(y)


class Attention(nn.Module):
    """Every pixel looks at every other; heads of 32 channels."""

    HEAD = 32

    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = max(1, width // self.HEAD)
        self.norm, self.inner = nn.LayerNorm(width), nn.Linear(width, 3 * width)
        self.outer = nn.Linear(width, width)
        nn.init.zeros_(self.outer.weight)
        nn.init.zeros_(self.outer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """BCHW to BCHW."""
        batch, _, high, wide = x.shape
        width = self.outer.in_features
        tokens = x.permute(0, 2, 3, 1).reshape(batch, high * wide, width)
        parts = self.inner(self.norm(tokens)).view(batch, high * wide, 3, self.heads, width // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4).unbind(0)
        seen = (query @ key.transpose(2, 3) * (width // self.heads) ** -0.5).softmax(-1) @ value
        tokens = tokens + self.outer(seen.transpose(1, 2).reshape(batch, high * wide, width))
        return tokens.view(batch, high, wide, width).permute(0, 3, 1, 2)


def _waves(value: Tensor, width: int) -> Tensor:
    """Cosines and sines of ``value`` (B,), of the order of 1, at ``width`` / 2 geometric rates, (B, width)."""
    rates = torch.exp(torch.linspace(0, math.log(1000), width // 2, device=value.device))
    turned = value.float()[:, None] * rates
    return torch.cat([turned.cos(), turned.sin()], 1)
