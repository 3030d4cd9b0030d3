"""The diffusion transformer: diffusers' ``DiTTransformer2DModel`` with the signature and the start of the others.

Peebles and Xie 2022, arXiv:2212.09748: squares of pixels are tokens, and noise level and label scale, shift and gate
every block (adaLN-Zero, section 3.2).
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor, nn

from components.networks import hf

Output = hf.diffusers.models.modeling_outputs.Transformer2DModelOutput
_Stock: Any = hf.network("transformers.dit_transformer_2d").DiTTransformer2DModel


class DiTTransformer2DModel(_Stock):
    """That of diffusers, and of the same name, so that what is saved is a stock one; only the call differs."""

    # diffusers reads the names of a config from the signature; mypy knows no decorator on __init__.
    @functools.wraps(_Stock.__init__)  # type: ignore[misc]
    def __init__(self, *arguments: Any, **values: Any) -> None:
        super().__init__(*arguments, **values)
        for block in self.transformer_blocks:
            block.norm1.emb.class_embedder.dropout_prob = 0.0  # labels are dropped before, by (seed, step)

    def forward(self, sample: Tensor, timestep: Tensor, class_labels: Tensor | None = None) -> Output:
        """The prediction for ``sample`` BCHW at ``timestep``, (B,) or one for all; ``class_labels`` (B,).

        Without labels every image gets the last one, which stands for none.
        """
        count, none = sample.shape[0], self.config.num_embeds_ada_norm
        timestep = torch.as_tensor(timestep, device=sample.device).expand(count)
        if class_labels is None:
            class_labels = torch.full((count,), none, dtype=torch.int64, device=sample.device)
        return super().forward(sample, timestep=timestep, class_labels=class_labels)


def begin(network: DiTTransformer2DModel) -> None:
    """Set the first weights as the paper has them: every block is the identity and the first prediction is 0.

    diffusers leaves torch's own, for it only reads trained ones.
    """
    for module in network.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)
    enter = network.pos_embed.proj
    nn.init.xavier_uniform_(enter.weight.flatten(1))
    nn.init.zeros_(enter.bias)
    for block in network.transformer_blocks:
        embedder = block.norm1.emb.timestep_embedder
        for layer in (embedder.linear_1, embedder.linear_2):
            nn.init.normal_(layer.weight, std=0.02)
        nn.init.zeros_(block.norm1.linear.weight)
    for layer in (network.proj_out_1, network.proj_out_2):
        nn.init.zeros_(layer.weight)
