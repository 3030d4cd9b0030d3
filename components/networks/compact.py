"""The compact U-Net, for CPUs, laptops and small devices.

It is built to be fast.  Memory is channels-last, in which convolutions and a LayerNorm over channels need no copy.
Skip connections add, where other U-Nets concatenate.  Attention is two plain matrix products.

``forward`` has the signature of diffusers' networks.  Shapes: B images, C channels, H and W pixels, L tokens of a
caption.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from components.diffusion import names
from components.diffusion.schedule import schedule
from components.networks.hf import diffusers

register_to_config = diffusers.configuration_utils.register_to_config

WAVES = 64
"""Cosines and sines that stand for a noise level."""

EMBED = 128
"""Channels of the embedding of noise level, label and augmentation that every block gets."""


@dataclass
class Predicted:
    """What the network returns, as diffusers' networks do."""

    sample: Tensor


Read = tuple[Tensor, Tensor] | None
"""Tokens of captions (B, L, D) and which of them are read (B, L); None for a network that reads none."""


class CompactUNet(diffusers.ModelMixin, diffusers.ConfigMixin):
    """U-Net that predicts v (Salimans and Ho 2022, arXiv:2202.00512); see :meth:`forward`."""

    _supports_gradient_checkpointing = True
    _gradient_checkpointing_func: Any

    to: Any = nn.Module.to
    """That of diffusers looks for weights kept on another device, and imports torch's compiler for it."""

    @register_to_config
    def __init__(
        self, sample_size: int | Sequence[int], in_channels: int, widths: Sequence[int], layers: int,
        num_class_embeds: int | None = None, fold: int = 1, attends_from: int = 8, skip_sigma: float = 0.4,
        schedule_name: names.Schedule = "cosine", num_augment_labels: int | None = None, text_width: int | None = None,
        text_tokens: int | None = None,
    ) -> None:  # fmt: skip
        """Build it with ``layers`` blocks down and as many up at each resolution.

        ``sample_size``: pixels, the side of a square or (height, width).  ``widths``: channels of each resolution, the
        finest first; each next one has half the side.  ``fold``: squares of fold x fold pixels enter as channels, so
        the first resolution is sample_size / fold.  ``attends_from``: resolutions of so many pixels or fewer have
        attention.  ``skip_sigma``: see :meth:`forward`.  ``num_class_embeds``: labels, the one for no label among them.
        ``num_augment_labels``: numbers in an augmentation label (components/dataset/augment.py).  ``text_width``:
        numbers in the vector of a caption.  ``text_tokens``: tokens of a caption that it is trained with, each of as
        many numbers, which every block with attention reads; it takes any other number of them too.
        """
        super().__init__()
        self.gradient_checkpointing = False  # what enable_gradient_checkpointing of ModelMixin sets
        self.schedule = schedule(schedule_name)
        # Makes and keeps its table now, and not during an ONNX or compile trace.
        self.schedule.sigma_of(torch.ones(1, device="cpu"))
        self.out_channels = in_channels
        longest = sample_size if isinstance(sample_size, int) else max(sample_size)
        folded = in_channels * fold**2
        self.time = nn.Sequential(nn.Linear(WAVES, EMBED), nn.SiLU(), nn.Linear(EMBED, EMBED))
        self.label = nn.Embedding(num_class_embeds, EMBED) if num_class_embeds else None
        self.augment = nn.Linear(num_augment_labels, EMBED, bias=False) if num_augment_labels else None
        if self.augment is not None:
            nn.init.zeros_(self.augment.weight)
        self.text = Caption(text_width) if text_width else None
        self.reads = bool(text_width and text_tokens)
        self.enter = nn.Conv2d(folded, widths[0], 3, padding=1)
        self.down, self.up, self.shrink, self.grow = (nn.ModuleList() for _ in range(4))
        for level, width in enumerate(widths):
            attends = longest // fold >> level <= attends_from
            for blocks in (self.down, self.up):
                blocks.append(nn.ModuleList(Block(width, attends=attends) for _ in range(layers)))
        for width, below in itertools.pairwise(widths):
            self.shrink.append(nn.Conv2d(width, below, 2, stride=2))
            self.grow.append(nn.ConvTranspose2d(below, width, 2, stride=2))
        self.norm = Norm(widths[0])
        self.leave = nn.Conv2d(widths[0], 2 * folded, 3, padding=1)
        for weight in self.leave.parameters():
            nn.init.zeros_(weight)
        if text_width and self.reads:  # last, so that all other weights begin as they do without
            for block in self._attending():
                block.reading = Reading(block.one.in_channels, text_width)
        self.to(memory_format=torch.channels_last)

    def register_to_config(self, **config: Any) -> None:
        """Leave out what only a network with captions has: the file of every other one is as it always was."""
        rare = ("text_width", "text_tokens")
        super().register_to_config(**{name: each for name, each in config.items() if name not in rare or each})

    def forward(
        self, sample: Tensor, timestep: Tensor, class_labels: Tensor | None = None,
        augment_labels: Tensor | None = None, text: Tensor | None = None, tokens: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Predicted:  # fmt: skip
        """v for ``sample`` BCHW at ``timestep``, (B,) or one for all; ``class_labels`` (B,).

        ``augment_labels`` (B, num_augment_labels): what augmentation did; None is the same as zeros, nothing.
        ``text`` (B, text_width): vectors of captions; zeros, and None, stand for none.  ``tokens`` (B, L, text_width):
        the states of their tokens, of which those count where ``mask`` (B, L) is true; a network with ``text_tokens``
        needs both, and those of the empty caption stand for none.

        Two heads predict the clean image X and the noise N.  With s = skip_sigma, the denoiser is
        D(x, sigma) = far X + near (x - sigma N), far = sigma**2 / (sigma**2 + s**2), near = 1 - far.
        So it draws the image where sigma is above s, and takes the noise out of x where sigma is below.
        """
        timestep = torch.as_tensor(timestep, device=sample.device).expand(sample.shape[0])
        sigma = self.schedule.sigma_of(timestep).view(-1, 1, 1, 1)
        config: Any = self.config
        read: Read = None
        if self.reads:
            if tokens is None or mask is None:
                raise ValueError("this network reads the tokens of captions: give tokens and their mask")
            read = tokens.to(sample.dtype), mask
        embedding = self._embedding(sample, sigma.flatten(), class_labels, augment_labels, text)
        image, noise = self._network(sample, embedding, read).float().chunk(2, 1)
        narrow = sigma**2 + config.skip_sigma**2
        near = config.skip_sigma**2 / narrow
        # v = (alpha entry - D) / beta, where entry = alpha x.  The division by beta, which a small sigma makes small,
        # is done on paper: in floating point it would lose digits.
        skipped = sigma * (1 - config.skip_sigma**2) / narrow
        drawn = sigma / narrow * image - near * noise
        return Predicted(skipped * sample.float() - (1 + sigma**2).sqrt() * drawn)

    def _embedding(
        self, sample: Tensor, sigma: Tensor, labels: Tensor | None, done: Tensor | None, text: Tensor | None
    ) -> Tensor:
        embedding = self.time(_waves(sigma).to(sample.dtype))
        if self.label is not None:
            embedding = embedding + self.label(labels)
        if self.augment is not None and done is None and self.training:
            done = sample.new_zeros(len(sample), self.augment.in_features)  # DDP waits for a gradient of each weight
        if self.augment is not None and done is not None:
            embedding = embedding + self.augment(done.to(sample.dtype))
        if self.text is not None:
            embedding = embedding + self.text(len(sample), text)
        return functional.silu(embedding)

    def _network(self, sample: Tensor, embedding: Tensor, read: Read) -> Tensor:
        config: Any = self.config
        blocks: Any  # ModuleLists within a ModuleList
        fold, kept = config.fold, []
        sample = functional.pixel_unshuffle(sample, fold) if fold > 1 else sample
        x = self.enter(sample.contiguous(memory_format=torch.channels_last))
        for level, blocks in enumerate(self.down):
            for block in blocks:
                x = self._through(block, x, embedding, read)
            if level < len(self.shrink):
                kept.append(x)
                x = self.shrink[level](x)
        for level in reversed(range(len(self.up))):
            if level < len(self.grow):
                x = self.grow[level](x) + kept[level]
            blocks = self.up[level]
            for block in blocks:
                x = self._through(block, x, embedding, read)
        x = self.leave(functional.silu(self.norm(x)))
        return functional.pixel_shuffle(x, fold) if fold > 1 else x  # the channels of each head stay together

    def _through(self, block: nn.Module, x: Tensor, embedding: Tensor, read: Read) -> Tensor:
        if self.gradient_checkpointing and torch.is_grad_enabled():
            return self._gradient_checkpointing_func(block, x, embedding, read)
        return block(x, embedding, read)

    def _attending(self) -> list[Block]:
        """The blocks with attention, on the way down first."""
        every = [block for blocks in (*self.down, *self.up) for block in blocks]
        return [block for block in every if block.attention is not None]


class Caption(nn.Module):
    """The part of the embedding that a caption has: of its vector, or one that is learnt for no caption."""

    HIDDEN = 256

    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(width, self.HIDDEN), nn.Linear(self.HIDDEN, EMBED)
        self.none = nn.Parameter(torch.zeros(EMBED))

    def forward(self, count: int, text: Tensor | None) -> Tensor:
        """(B, EMBED) for ``text`` (B, width), in which zeros stand for no caption; None: ``count`` times none."""
        if text is None:
            text = self.none.new_zeros(count, self.inner.in_features)
        found = self.outer(functional.silu(self.inner(text.to(self.inner.weight.dtype))))
        return torch.where((text != 0).any(1, keepdim=True), found, self.none.to(found.dtype))


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
    """Residual block: two convolutions, then attention where asked.

    The embedding of noise level and label scales and shifts the channels between the convolutions.
    """

    def __init__(self, width: int, *, attends: bool) -> None:
        super().__init__()
        self.first, self.second = Norm(width), Norm(width)
        self.one, self.two = (nn.Conv2d(width, width, 3, padding=1) for _ in range(2))
        self.told = nn.Linear(EMBED, 2 * width)  # gives scale and shift; its name is a key of saved weights
        self.attention = Attention(width) if attends else None
        self.reading: Reading | None = None
        for weight in self.two.parameters():
            nn.init.zeros_(weight)

    def forward(self, x: Tensor, embedding: Tensor, read: Read = None) -> Tensor:
        """BCHW to BCHW; ``embedding`` (B, EMBED) of noise level, label and augmentation."""
        scale, shift = self.told(embedding)[:, :, None, None].chunk(2, 1)
        y = self.one(functional.silu(self.first(x)))
        y = self.two(functional.silu(torch.addcmul(shift, self.second(y), 1 + scale)))
        x = x + y if self.attention is None else self.attention(x + y)
        return x if self.reading is None or read is None else self.reading(x, *read)


class Attention(nn.Module):
    """Self-attention over all pixels, with heads of 32 channels, added to its input."""

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
        if x.is_cuda:
            seen = functional.scaled_dot_product_attention(query, key, value)
        else:  # in plain products, which are as fast there, and what ONNX Runtime gets
            seen = (query @ key.transpose(2, 3) * (width // self.heads) ** -0.5).softmax(-1) @ value
        tokens = tokens + self.outer(seen.transpose(1, 2).reshape(batch, high * wide, width))
        return tokens.view(batch, high, wide, width).permute(0, 3, 1, 2)


class Reading(nn.Module):
    """Attention of each pixel to the tokens of its picture's caption, added to its input; it begins as nothing."""

    def __init__(self, width: int, text_width: int) -> None:
        super().__init__()
        self.heads = max(1, width // Attention.HEAD)
        self.norm, self.query = nn.LayerNorm(width), nn.Linear(width, width)
        self.norm_text, self.inner = nn.LayerNorm(text_width), nn.Linear(text_width, 2 * width)
        self.outer = nn.Linear(width, width)
        nn.init.zeros_(self.outer.weight)
        nn.init.zeros_(self.outer.bias)

    def forward(self, x: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
        """BCHW to BCHW; ``tokens`` (B, L, D), read where ``mask`` (B, L) is true."""
        batch, width, high, wide = x.shape
        pixels = x.permute(0, 2, 3, 1).reshape(batch, high * wide, width)
        size = width // self.heads
        query = self.query(self.norm(pixels)).view(batch, high * wide, self.heads, size).transpose(1, 2)
        parts = self.inner(self.norm_text(tokens)).view(batch, tokens.shape[1], 2, self.heads, size)
        key, value = parts.permute(2, 0, 3, 1, 4).unbind(0)
        here = mask[:, None, None, :]
        if x.is_cuda:
            seen = functional.scaled_dot_product_attention(query, key, value, attn_mask=here)
        else:  # as in Attention
            likeness = query @ key.transpose(2, 3) * size**-0.5
            seen = likeness.masked_fill(~here, -1e4).softmax(-1) @ value
        pixels = pixels + self.outer(seen.transpose(1, 2).reshape(batch, high * wide, width))
        return pixels.view(batch, high, wide, width).permute(0, 3, 1, 2)


def _waves(sigma: Tensor) -> Tensor:
    """Cosines and sines of log(sigma) / 4 at geometric rates of 1 to 16, (B, WAVES).

    Smooth ones: rates up to 1,000, as for timesteps, cost 3 % of the x0 error (docs/recipe.md).
    """
    rates = torch.exp(torch.linspace(0, math.log(16), WAVES // 2, device=sigma.device))
    turned = (sigma.float().log() / 4)[:, None] * rates
    return torch.cat([turned.cos(), turned.sin()], 1)
