"""The Inception network of FID, for weights that a user has: 2048 features of a picture.

It is the network that the TensorFlow graph of 2015-12-05 holds (Heusel et al. 2017, arXiv:1706.08500), which differs
from that of torchvision in its pools: averages leave the padding out, and the last block takes maxima.  Its weights are
those that pytorch-fid and torch-fidelity hand out, by the same names.  Preprocessing: uint8 RGB, bilinear to 299 x 299
pixels as TensorFlow 1 resized (:func:`components.embed.resizing.as_tensorflow_1`), (x - 128) / 128.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from components.embed.resizing import as_tensorflow_1

SIDE = 299

_Row = tuple[str, str, int, int | tuple[int, int]]
"""Name, where its input comes from (a name, "x": the block's input, "pool": its pool), channels, kernel."""


class _Conv(nn.Module):
    def __init__(
        self, channels: int, out: int, kernel: int | tuple[int, int], stride: int = 1,
        padding: tuple[int, int] = (0, 0),
    ) -> None:  # fmt: skip
        super().__init__()
        self.conv = nn.Conv2d(channels, out, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(out, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.bn(self.conv(x)), inplace=True)


class _Block(nn.Module):
    """Convolutions by ``rows``; those of ``ends`` are the output, one after the other.

    ``pool``: average or maximum of 3 x 3 with stride 1.  With ``halve`` the last convolution of each path has stride 2,
    no convolution of 3 x 3 there is padded, and maxima with stride 2 are the last part of the output.
    """

    def __init__(
        self, channels: int, rows: Sequence[_Row], ends: str, *, pool: str = "mean", halve: bool = False
    ) -> None:  # fmt: skip
        super().__init__()
        self._rows, self._ends, self._pool, self._halve = [row[:2] for row in rows], ends.split(), pool, halve
        widths = {"x": channels, "pool": channels}
        for name, source, out, kernel in rows:
            sides = (kernel, kernel) if isinstance(kernel, int) else kernel
            last = halve and name in self._ends
            padding = (0, 0) if last else (sides[0] // 2, sides[1] // 2)
            self.add_module(name, _Conv(widths[source], out, kernel, 2 if last else 1, padding))
            widths[name] = out

    def forward(self, x: Tensor) -> Tensor:
        found = {"x": x}
        if not self._halve:
            found["pool"] = (
                functional.max_pool2d(x, 3, 1, 1) if self._pool == "max"
                else functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
            )  # fmt: skip
        for name, source in self._rows:
            found[name] = self.get_submodule(name)(found[source])
        parts = [found[end] for end in self._ends]
        return torch.cat([*parts, functional.max_pool2d(x, 3, 2)] if self._halve else parts, 1)


def _a(channels: int, pooled: int) -> _Block:
    return _Block(channels, [
        ("branch1x1", "x", 64, 1), ("branch5x5_1", "x", 48, 1), ("branch5x5_2", "branch5x5_1", 64, 5),
        ("branch3x3dbl_1", "x", 64, 1), ("branch3x3dbl_2", "branch3x3dbl_1", 96, 3),
        ("branch3x3dbl_3", "branch3x3dbl_2", 96, 3), ("branch_pool", "pool", pooled, 1),
    ], "branch1x1 branch5x5_2 branch3x3dbl_3 branch_pool")  # fmt: skip


def _b(channels: int) -> _Block:
    return _Block(channels, [
        ("branch3x3", "x", 384, 3), ("branch3x3dbl_1", "x", 64, 1), ("branch3x3dbl_2", "branch3x3dbl_1", 96, 3),
        ("branch3x3dbl_3", "branch3x3dbl_2", 96, 3),
    ], "branch3x3 branch3x3dbl_3", halve=True)  # fmt: skip


def _c(channels: int, inner: int) -> _Block:
    across, down = (1, 7), (7, 1)
    return _Block(channels, [
        ("branch1x1", "x", 192, 1), ("branch7x7_1", "x", inner, 1), ("branch7x7_2", "branch7x7_1", inner, across),
        ("branch7x7_3", "branch7x7_2", 192, down), ("branch7x7dbl_1", "x", inner, 1),
        ("branch7x7dbl_2", "branch7x7dbl_1", inner, down), ("branch7x7dbl_3", "branch7x7dbl_2", inner, across),
        ("branch7x7dbl_4", "branch7x7dbl_3", inner, down), ("branch7x7dbl_5", "branch7x7dbl_4", 192, across),
        ("branch_pool", "pool", 192, 1),
    ], "branch1x1 branch7x7_3 branch7x7dbl_5 branch_pool")  # fmt: skip


def _d(channels: int) -> _Block:
    return _Block(channels, [
        ("branch3x3_1", "x", 192, 1), ("branch3x3_2", "branch3x3_1", 320, 3), ("branch7x7x3_1", "x", 192, 1),
        ("branch7x7x3_2", "branch7x7x3_1", 192, (1, 7)), ("branch7x7x3_3", "branch7x7x3_2", 192, (7, 1)),
        ("branch7x7x3_4", "branch7x7x3_3", 192, 3),
    ], "branch3x3_2 branch7x7x3_4", halve=True)  # fmt: skip


def _e(channels: int, pool: str) -> _Block:
    across, down = (1, 3), (3, 1)
    return _Block(channels, [
        ("branch1x1", "x", 320, 1), ("branch3x3_1", "x", 384, 1), ("branch3x3_2a", "branch3x3_1", 384, across),
        ("branch3x3_2b", "branch3x3_1", 384, down), ("branch3x3dbl_1", "x", 448, 1),
        ("branch3x3dbl_2", "branch3x3dbl_1", 384, 3), ("branch3x3dbl_3a", "branch3x3dbl_2", 384, across),
        ("branch3x3dbl_3b", "branch3x3dbl_2", 384, down), ("branch_pool", "pool", 192, 1),
    ], "branch1x1 branch3x3_2a branch3x3_2b branch3x3dbl_3a branch3x3dbl_3b branch_pool", pool=pool)  # fmt: skip


class Inception(nn.Module):
    """Uint8 pictures NCHW of 3 channels to features, float32 (N, 2048)."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = _Conv(3, 32, 3, 2)
        self.Conv2d_2a_3x3 = _Conv(32, 32, 3)
        self.Conv2d_2b_3x3 = _Conv(32, 64, 3, 1, (1, 1))
        self.Conv2d_3b_1x1 = _Conv(64, 80, 1)
        self.Conv2d_4a_3x3 = _Conv(80, 192, 3)
        self.Mixed_5b, self.Mixed_5c, self.Mixed_5d = _a(192, 32), _a(256, 64), _a(288, 64)
        self.Mixed_6a = _b(288)
        self.Mixed_6b, self.Mixed_6c, self.Mixed_6d, self.Mixed_6e = (_c(768, inner) for inner in (128, 160, 160, 192))
        self.Mixed_7a, self.Mixed_7b, self.Mixed_7c = _d(768), _e(1280, "mean"), _e(2048, "max")

    def forward(self, pictures: Tensor) -> Tensor:
        """The means over space before the classifier."""
        x = (as_tensorflow_1(pictures.float(), SIDE) - 128) / 128
        stem = list(self.children())
        for layer in stem[:3]:
            x = layer(x)
        x = functional.max_pool2d(x, 3, 2)
        for layer in stem[3:5]:
            x = layer(x)
        x = functional.max_pool2d(x, 3, 2)
        for layer in stem[5:]:
            x = layer(x)
        return x.mean((2, 3))


def network(weights: dict[str, Tensor]) -> nn.Module:
    """The network with ``weights``; an exception when they are of another one."""
    with torch.device("meta"):  # no time is spent on weights that are replaced
        found = Inception()
    own = {name: value for name, value in weights.items() if not name.startswith("fc.")}
    found.load_state_dict(own, assign=True)
    return found.float()
