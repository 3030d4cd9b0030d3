"""Batches of images in random order: ImageFolder with a DataLoader of two workers, MosaicML's raw shards, and ours.

    python benchmarks/loader.py ../shared/data/cifar10-jpg.tar

The tar's JPEGs at 32 px, and enlarged (bicubic, JPEG 90) at 64 and 256 px.  Each side goes once over the same images
in an order of its own, in batches of 256 (64 at 256 px), to float32 (B, 3, H, W) in [-1, 1]; ours also as uint8.
Rates are images a second of processor time (workers counted), and by the clock; the ratio is of processor time.
MosaicML's raw shards hold uint8 arrays, read by a DataLoader of two workers too.
"""

from __future__ import annotations

import argparse
import io
import sys
import tarfile
import tempfile
import time
from pathlib import Path

import numpy as np
import peers
import torch
from PIL import Image

from components.dataset import order, tensors
from components.resize import scaling
from components.samples import pack
from components.samples.spec import image

COUNTS = {32: 6_000, 64: 3_000, 256: 500}  # images at each size
IMAGE_FOLDER = """
import json, os, sys, time
import torch
from torch.utils.data import DataLoader
from torchvision import datasets, transforms

def main(folder, batch):
    torch.set_num_threads(1)
    to_network = transforms.Compose([transforms.ToTensor(), transforms.Normalize([0.5] * 3, [0.5] * 3)])
    loader = DataLoader(datasets.ImageFolder(folder, to_network), int(batch), shuffle=True, num_workers=2)
    started, clock, seen = os.times(), time.monotonic(), 0
    for images, _ in loader:
        seen += len(images)
    ended = os.times()
    print(json.dumps([seen, sum(ended[:4]) - sum(started[:4]), time.monotonic() - clock]))

main(*sys.argv[1:])
"""
MOSAIC = """
import json, os, sys, time
import numpy as np, torch
from streaming import MDSWriter, StreamingDataset
from torch.utils.data import DataLoader

class Images(StreamingDataset):
    def __getitem__(self, at):
        image = torch.from_numpy(super().__getitem__(at)["image"].copy())
        return image.permute(2, 0, 1).float().div_(127.5).sub_(1)

def main(array, folder, batch):
    torch.set_num_threads(1)
    pixels = np.load(array, mmap_mode="r")
    shape = ",".join(map(str, pixels.shape[1:]))
    with MDSWriter(out=folder, columns={"image": f"ndarray:uint8:{shape}"}) as writer:
        for image in pixels:
            writer.write({"image": np.ascontiguousarray(image)})
    loader = DataLoader(Images(local=folder, shuffle=True, batch_size=int(batch)), int(batch), num_workers=2)
    started, clock, seen = os.times(), time.monotonic(), 0
    for images in loader:
        seen += len(images)
    ended = os.times()
    print(json.dumps([seen, sum(ended[:4]) - sum(started[:4]), time.monotonic() - clock]))

main(*sys.argv[1:])
"""
Measured = tuple[int, float, float]  # images, seconds of processor time, seconds by the clock


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tar", type=Path, help="a tar of JPEGs of 32 x 32 px")
    parser.add_argument("--without-mosaicml", action="store_true", help="do not install that peer (5 GB)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print("| px | loader | images / CPU s | images / s | ratio |\n|---|---|---|---|---|")
    for side, count in COUNTS.items():
        with tempfile.TemporaryDirectory() as folder:
            rows = _rows(options.tar, side, count, Path(folder), mosaic=not options.without_mosaicml)
        base = rows[0][1]
        for name, (seen, processor, clock) in rows:
            ratio = (seen / processor) / (base[0] / base[1])
            print(f"| {side} | {name} | {seen / processor:,.0f} | {seen / clock:,.0f} | {ratio:.1f} |", flush=True)
    print(f"\n{peers.machine()}")


def _rows(tar: Path, side: int, count: int, folder: Path, *, mosaic: bool) -> list[tuple[str, Measured]]:
    batch = 256 if side < 256 else 64
    _make(tar, side, count, folder)
    found = peers.run(Path(sys.executable), IMAGE_FOLDER, str(folder / "files"), str(batch))
    rows = [("ImageFolder, two workers", found)]
    if mosaic:
        interpreter = peers.python("mosaicml", "mosaicml-streaming", "torchvision")
        found = peers.run(interpreter, MOSAIC, str(folder / "pixels.npy"), str(folder / "mds"), str(batch))
        rows.append(("MosaicML, raw", found))
    pixels = tensors.Pixels(folder / "pack")
    rows.append(("here, float32", _ours(pixels, batch, widened=True)))
    rows.append(("here, uint8", _ours(pixels, batch, widened=False)))
    return rows


def _make(tar: Path, side: int, count: int, folder: Path) -> None:
    """The same images three times below ``folder``: JPEGs, one array, and a pack."""
    target = folder / "files" / "all"
    target.mkdir(parents=True)
    (folder / "pack").mkdir()
    files = []
    with tarfile.open(tar) as archive:
        for member in archive:
            if len(files) < count and member.isfile() and member.name.lower().endswith((".jpg", ".jpeg")):
                files.append(_enlarged(archive.extractfile(member).read(), side))
                (target / f"{len(files):06d}.jpg").write_bytes(files[-1])
    pictures = scaling.scale([(blob, "#ffffff") for blob in files], side=side, fit="crop")
    keys = [f"{number:064x}" for number in range(count)]
    shape = (3, side, side)
    pack.write(folder / "pack", pictures, spec=image(shape), keys=keys, classes=(), class_ids=[-1] * count)
    np.save(folder / "pixels.npy", np.frombuffer(b"".join(pictures), np.uint8).reshape(count, side, side, 3))


def _enlarged(blob: bytes, side: int) -> bytes:
    if side == 32:
        return blob
    stream = io.BytesIO()
    Image.open(io.BytesIO(blob)).convert("RGB").resize((side, side), Image.Resampling.BICUBIC).save(
        stream, "JPEG", quality=90
    )
    return stream.getvalue()


def _ours(pixels: tensors.Pixels, batch: int, *, widened: bool) -> Measured:
    """Five times over the images, since once is over too soon to measure."""
    count, seen = pixels.header.rows, 0
    started, clock = time.process_time(), time.monotonic()
    for epoch in range(5):
        places = order.positions(0, torch.arange(epoch * count, (epoch + 1) * count), count)
        for at in range(0, count, batch):
            rows = places[at : at + batch]
            seen += len(pixels.batch(rows) if widened else pixels.gather(rows))
    return seen, time.process_time() - started, time.monotonic() - clock


if __name__ == "__main__":
    main()
