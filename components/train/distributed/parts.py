"""Checkpoints of a sharded training: each rank writes its own parts, and reads those that it needs.

By torch.distributed.checkpoint in its form of safetensors files (its own form has a pickle in it), of which any number
of ranks reads its parts: a training goes on with more of them, with fewer, or with one that shards nothing.

``tree`` is plain data and tensors in dicts and lists; a tensor's name is its place there, ``network/enter.weight``.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from components.train.distributed import sharding


def write(folder: Path, tree: Any) -> Any:
    """Write what is sharded in ``tree`` to ``folder``; the rest of it, with a meta tensor for each that was written.

    A collective call: every rank has to make it.
    """
    from torch.distributed import checkpoint

    own: dict[str, Tensor] = {}
    rest = _apart(tree, "", own)
    checkpoint.save(own, storage_writer=checkpoint.HuggingFaceStorageWriter(str(folder), save_distributed=True))
    return rest


def read(folder: Path, rest: Any, like: Any = None) -> Any:
    """The tree that :func:`write` left ``rest`` of: each tensor sharded as its counterpart in ``like`` is, or whole."""
    from torch.distributed import checkpoint

    wanted: dict[str, Tensor] = {}
    tree = _joined(rest, like, "", wanted)
    if wanted:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "torch.distributed is disabled")  # no rank needs another one to read
            checkpoint.load(wanted, storage_reader=checkpoint.HuggingFaceStorageReader(str(folder)), no_dist=True)
    return tree


def _apart(tree: Any, name: str, own: dict[str, Tensor]) -> Any:
    if sharding.is_cut(tree):
        own[name] = tree.detach()
        return torch.empty(tree.shape, dtype=tree.dtype, device="meta")
    if isinstance(tree, dict):
        return {key: _apart(part, f"{name}/{key}" if name else str(key), own) for key, part in tree.items()}
    if isinstance(tree, list | tuple):
        return type(tree)(_apart(part, f"{name}/{at}", own) for at, part in enumerate(tree))
    return tree


def _joined(tree: Any, like: Any, name: str, wanted: dict[str, Tensor]) -> Any:
    if isinstance(tree, Tensor) and tree.is_meta:
        wanted[name] = torch.empty_like(like) if sharding.is_cut(like) else torch.empty(tree.shape, dtype=tree.dtype)
        return wanted[name]
    if isinstance(tree, dict):
        known = like if isinstance(like, dict) else {}
        return {
            key: _joined(part, known.get(key), f"{name}/{key}" if name else str(key), wanted)
            for key, part in tree.items()
        }
    if isinstance(tree, list | tuple):
        others = like if isinstance(like, list | tuple) else [None] * len(tree)
        return type(tree)(
            _joined(part, other, f"{name}/{at}", wanted)
            for at, (part, other) in enumerate(zip(tree, others, strict=True))
        )
    return tree
