"""Random numbers by name: equal names give equal numbers, whatever was drawn before."""

from __future__ import annotations

import hashlib

import torch


def generator(*name: object) -> torch.Generator:
    """A CPU generator whose seed is a hash of ``name``; equal names give equal numbers."""
    digest = hashlib.sha256("/".join(map(str, name)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)
