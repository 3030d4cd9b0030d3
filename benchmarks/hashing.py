"""Fingerprints of JPEG files: images a CPU second, and recall, against imagededup and imagehash.

Here it is what `clean` computes of each image (`fingerprints.examine`): decoded in full and strictly, the SHA-256 of
its pixels, a thumbnail and the perceptual hash.  The peers compute a perceptual hash.

    PYTHONPATH=. python benchmarks/hashing.py

300 JPEGs of 0.19 megapixels (tiles of photographs that come in Python packages; benchmarks/photographs.py).  Recall:
copies (JPEG 30, half size, brighter) whose hash lies nearer to its original's than to any other's, and within 10 of
64 bits (40 of our 256).
"""

from __future__ import annotations

import io
import tempfile
import time
from pathlib import Path

import numpy as np
import peers
import photographs
from PIL import Image, ImageEnhance

from components.clean import fingerprints, search

COUNT = 300
THEIRS = """
import io, json, sys, time
from pathlib import Path
import numpy as np
from PIL import Image
import imagehash
from imagededup.methods import PHash
files = sorted(Path(sys.argv[1]).glob("*.jpg"))
hasher = PHash(verbose=False)
one = lambda path: hasher.encode_image(image_file=path)
other = lambda path: str(imagehash.phash(Image.open(path)))
out = {}
for name, work in (("imagededup", one), ("imagehash", other)):
    work(files[0])
    best = 1e9
    for _ in range(2):
        start = time.process_time()
        codes = [work(path) for path in files]
        best = min(best, time.process_time() - start)
    out[name] = {"seconds": best, "codes": codes}
print(json.dumps(out))
"""


def main() -> None:
    """Print the table."""
    pictures, owners = photographs.tiles(COUNT, per_photograph=16)
    originals = [_jpeg(picture, 90) for picture in pictures]
    copies = [_jpeg(edited, quality) for picture in pictures for edited, quality in _copies(picture)]
    with tempfile.TemporaryDirectory() as folder:
        for at, data in enumerate(originals + copies):
            (Path(folder) / f"{at:05d}.jpg").write_bytes(data)
        found = peers.run(peers.python("imagededup", "imagededup==0.3.3.post2", "imagehash"), THEIRS, folder)
        best = 1e9
        for _ in range(2):
            start = time.process_time()
            files = [path.read_bytes() for path in sorted(Path(folder).glob("*.jpg"))]
            ours = np.concatenate([
                fingerprints.examine([(data, "#ffffff") for data in files[at : at + 64]], max_pixels=10**8)["phash"]
                for at in range(0, len(files), 64)
            ])  # fmt: skip
            best = min(best, time.process_time() - start)
    rows = {name: (each["seconds"], np.frombuffer(bytes.fromhex("".join(each["codes"])), np.uint8).reshape(-1, 8))
            for name, each in found.items()}  # fmt: skip
    rows["here"] = best, ours
    slowest = rows["imagededup"][0]
    total = len(originals) + len(copies)
    print(f"{len(originals)} tiles of {len(set(owners))} photographs and {len(copies)} copies of them\n")
    print("| hash | images a CPU second | ratio | recall of copies |\n|---|---|---|---|")
    for name, (seconds, codes) in rows.items():
        recall = _recall(codes, len(originals))
        print(f"| {name} | {total / seconds:,.0f} | {slowest / seconds:.2f} | {recall:.3f} |")
    print(f"\n{peers.machine()}")


def _copies(picture: np.ndarray) -> list[tuple[np.ndarray, int]]:
    image = Image.fromarray(picture)
    half = image.resize((image.width // 2, image.height // 2), Image.Resampling.BICUBIC)
    return [(picture, 30), (np.asarray(half), 85), (np.asarray(ImageEnhance.Brightness(image).enhance(1.2)), 85)]


def _jpeg(pixels: np.ndarray, quality: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=quality)
    return stream.getvalue()


def _recall(codes: np.ndarray, count: int) -> float:
    near = codes.shape[1] * 8 * 10 // 64
    hits = []
    for at, code in enumerate(codes[count:]):
        distance = search.hamming(codes[:count], code[None])
        own = at // 3
        others = np.delete(distance, own)
        hits.append(distance[own] <= near and distance[own] < others.min())
    return float(np.mean(hits))


if __name__ == "__main__":
    main()
