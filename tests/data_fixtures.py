"""Small seeded pictures, sources and parameters for the tests of the data stages."""

from __future__ import annotations

import hashlib
import io
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from components.clean.params import CleanParams
from components.clean.stage import clean
from components.collect.look import look
from components.collect.params import CollectParams
from components.collect.stage import collect
from components.resize.params import ResizeParams
from components.split.params import SplitParams

WHITE = "#ffffff"


def pixels(seed: int, side: int = 32, channels: int = 3) -> np.ndarray:
    """A smooth picture that looks like no other one: uint8 (side, side, channels)."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, channels), np.uint8)
    planes = [Image.fromarray(coarse[..., c]).resize((side, side), Image.Resampling.BICUBIC) for c in range(channels)]
    return np.stack([np.asarray(plane) for plane in planes], axis=-1)


def encoded(array: np.ndarray, kind: str = "PNG", **options: object) -> bytes:
    """``array`` as an image file."""
    stream = io.BytesIO()
    if kind == "HEIF":
        import pillow_heif  # here: few tests need it

        pillow_heif.register_heif_opener(decode_threads=1)
    if kind == "JXL":
        import pillow_jxl  # noqa: F401
    Image.fromarray(array).save(stream, kind, **options)
    return stream.getvalue()


def png(seed: int, side: int = 32) -> bytes:
    """A PNG that looks like no other one."""
    return encoded(pixels(seed, side))


SOURCE = {"name": "test", "kind": "files", "location": "source", "licence": "CC0-1.0", "matte": WHITE,
          "text_column": None, "label_column": None, "group_column": None}  # fmt: skip
TOLD = {"text_column": "text", "label_column": "label"}
"""What a source says that has metadata."""


def collect_params(
    *sources: dict, max_bytes: int = 2**20, notes: str = "keep", opt_outs: str = "refuse", **changes: object
) -> CollectParams:
    """Parameters of collect: ``sources`` (what differs from SOURCE), or just SOURCE with ``changes``."""
    return CollectParams(
        max_bytes=max_bytes,
        notes=notes,
        opt_outs=opt_outs,
        sources=tuple({**SOURCE, **each} for each in sources or (changes,)),
    )


def clean_params(**changes: object) -> CleanParams:
    """Parameters of clean: those for photographs, but for small pictures."""
    values = {"against": (), "min_side": 8, "max_pixels": 10**6, "max_distance": 64, "min_correlation": 0.8,
              "min_inliers": 12, "embedding": "none", "min_cosine": 0.6, "max_difference": 0.06}  # fmt: skip
    return CleanParams(**{**values, **changes})


def resize_params(**changes: object) -> ResizeParams:
    """Parameters of resize: 16 px, padded."""
    return ResizeParams(**{"side": 16, "fit": "pad", **changes})


def split_params(**changes: object) -> SplitParams:
    """Parameters of split: half of the groups to train on, so that a few images do."""
    return SplitParams(**{"train": 0.5, "val": 0.25, "test": 0.25, "salt": "test", **changes})


def folder(root: Path, members: dict[str, bytes], name: str = "source") -> Path:
    """Write ``members`` (name, bytes) below ``root / name``."""
    for key, data in members.items():
        path = root / name / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return root / name


def zipped(path: Path, members: dict[str, bytes]) -> Path:
    """Write ``members`` to a zip."""
    with zipfile.ZipFile(path, "w") as archive:
        for key, data in members.items():
            archive.writestr(zipfile.ZipInfo(key), data)
    return path


def tarred(path: Path, members: dict[str, bytes], mode: str = "w") -> Path:
    """Write ``members`` to a tar; ``mode`` w:gz for a tar.gz, w:zst for a tar.zst."""
    if mode == "w:zst":
        plain = tarred(path, members).read_bytes()
        path.write_bytes(pa.Codec("zstd").compress(plain, asbytes=True))
        return path
    with tarfile.open(path, mode) as archive:
        for key, data in members.items():
            info = tarfile.TarInfo(key)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def gather(root: Path, *sources: dict, cache: Path | None = None, **changes: object) -> dict[str, float]:
    """Look at the sources of the project at ``root`` and collect them into data/raw."""
    params = collect_params(*sources, **changes)
    page, withdrawn, scratch = root / "data/source.json", root / "data/withdrawn.jsonl", root / ".stillroom/collect"
    look(params, root=root, page=page, cache=cache, store=scratch)
    withdrawn.touch()
    return collect(params, look=page, withdrawn=withdrawn, raw=root / "data/raw", scratch=scratch)


def index(root: Path) -> list[dict[str, Any]]:
    """The rows of data/raw of the project at ``root``."""
    return pq.read_table(root / "data/raw/index.parquet").to_pylist()


def refused(root: Path) -> dict[str, str]:
    """The reason of each thing that data/raw of the project at ``root`` says was not taken in, by its key."""
    rows = pq.read_table(root / "data/raw/refused.parquet").to_pylist()
    return {row["source_key"]: row["reason"] for row in rows}


def judge(root: Path, **changes: object) -> dict[str, float]:
    """Clean what lies in data/raw of the project at ``root`` into data/clean."""
    data = root / "data"
    records = {"withdrawn": data / "withdrawn.jsonl", "decisions": data / "decisions.jsonl"}
    for each in records.values():
        each.touch()
    return clean(clean_params(**changes), raw=data / "raw", **records,
                 verdicts=data / "clean", facts=root / ".stillroom/facts")  # fmt: skip


def digests(path: Path) -> dict[str, str]:
    """SHA-256 of every file below ``path``, by name."""
    return {
        str(file.relative_to(path)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(path.rglob("*"))
        if file.is_file()
    }
