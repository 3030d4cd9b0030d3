"""The U-Net of diffusers that reads captions: its ``UNet2DConditionModel`` with the signature of the others.

It looks at all tokens of a caption, those of the padding among them, as the Stable Diffusion pipeline of diffusers has
it look, which hands it no mask.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from components.networks import hf

_Stock: Any = hf.network("unets.unet_2d_condition").UNet2DConditionModel


class UNet2DConditionModel(_Stock):
    """That of diffusers, and of the same name, so that what is saved is a stock one; only the call differs."""

    def forward(
        self, sample: Tensor, timestep: Tensor, class_labels: Tensor | None = None, text: Tensor | None = None,
        tokens: Tensor | None = None, mask: Tensor | None = None,
    ) -> Any:  # fmt: skip
        """The prediction for ``sample`` BCHW at ``timestep``, (B,) or one for all, told ``tokens`` (B, L, D).

        ``text`` and ``mask``, which other networks take, are not looked at; labels it has none.
        """
        assert tokens is not None and class_labels is None, "asked for with captions, and without labels"
        return super().forward(sample, timestep, encoder_hidden_states=tokens.to(sample.dtype))
