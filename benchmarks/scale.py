"""Time, bytes, cost and what breaks first at 1e6, 1e8 and 1e9 images: python benchmarks/scale.py FOLDER

FOLDER is what `python benchmarks/refresh.py ARCHIVE --keep FOLDER` has left: CPU seconds, bytes and memory of each
stage on one real data set.  The search, hashing and the decoding of photographs are measured here, on random codes and
a made-up photograph.  Everything printed is worked out from these rates and the inputs below (options); nothing else.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import math
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import peers
import pyarrow.compute as pc
import pyarrow.parquet as pq
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from components.base import parallel
from components.clean import lists, search, windows
from components.decode import images

COUNTS = (10**6, 10**8, 10**9)
RADIUS = 40  # bits of 256: only the work matters here, and it hardly depends on this
MILLION = 1  # the level at which a million codes are searched
SETTLED = ("look", "collect", "clean", "resize", "split")
DAY = 86_400
NIGHT = 8 * 3600


@dataclass(frozen=True)
class Inputs:
    """What is assumed, and not measured."""

    core_hour: float
    gigabyte_month: float
    cores: int
    memory: float


def main() -> None:
    """Measure, work out, print."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("folder", type=Path, help="left by benchmarks/refresh.py --keep")
    options.add_argument("--core-hour", type=float, default=0.04, help="price of a core for an hour (%(default)s)")
    options.add_argument("--gigabyte-month", type=float, default=0.02, help="price of 1e9 bytes kept (%(default)s)")
    options.add_argument("--cores", type=int, default=64, help="of one machine (%(default)s)")
    options.add_argument("--memory", type=float, default=256e9, help="bytes of one machine (%(default)s)")
    given = options.parse_args()
    inputs = Inputs(given.core_hour, given.gigabyte_month, given.cores, given.memory)
    rates = json.loads((given.folder / "rates.json").read_text("utf-8"))
    index = pq.read_table(given.folder / "data/raw/index.parquet", columns=["source", "size"])
    rates["encoded"] = pc.sum(index.filter(pc.equal(index["source"], "old"))["size"]).as_py()
    print(f"Inputs: a core-hour {inputs.core_hour:g}, 1e9 bytes for a month {inputs.gigabyte_month:g}, "
          f"a machine of {inputs.cores} cores and {inputs.memory / 1e9:.0f} GB.\n")  # fmt: skip
    start, found, decode, photo = _starts(), _search(), *_decoding()
    md5 = _seconds(lambda: hashlib.md5(bytes(10**8), usedforsecurity=False).digest()) / 1e8
    _print_rates(rates, start, found, decode, photo, md5)
    _print_scale(rates, start, found, decode, photo, md5, inputs)
    print(f"\n{peers.machine()}")


def _starts() -> dict[str, float]:
    """CPU seconds of a stage that does nothing, and the bytes that it holds then."""
    code = "import resource, components.clean.stage, components.split.stage, components.resize.stage as r; "
    code += "u = resource.getrusage(0); print([u.ru_utime + u.ru_stime, u.ru_maxrss * 1024])"
    root = Path(__file__).resolve().parent.parent
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    seconds, held = json.loads(done.stdout)
    return {"seconds": seconds, "bytes": held}


def _search() -> dict[str, float]:
    """CPU seconds of the search: ``look`` for one code against one code, exactly, ``probe`` the same in the lists of a
    million codes, and ``window`` for one photograph against one before it among the first 100,000."""
    parallel.ordered = lambda work, batches, **_: map(work, batches)  # in this process, so that all of it is counted
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 256, (10**6, 32), np.uint8)
    queries = codes[:512]
    exact = _seconds(lambda: search.within(queries, codes[:100_000], RADIUS)) / (len(queries) * 100_000)
    middles = lists.centres(codes, MILLION)
    (where,) = lists.nearest([(codes, middles)])
    (looked,) = lists.asked([(queries, middles)])
    every = lists.Lists(codes, where[:, 0], len(middles), np.arange(len(codes)))
    probing = _seconds(lambda: [lists.within([task], radius=RADIUS)
                                for task in every.tasks(queries, looked, np.arange(len(queries)))])  # fmt: skip
    count, new = 60_000, 4_096
    waves = rng.normal(0, 127 / 35**0.5, (count, *windows.RECORD["waves"].shape)).round().astype(np.int8)
    by_windows = _seconds(lambda: windows._searched(np.arange(count), lambda at, one: waves[at, one], count - new, 0))
    return {"look": exact, "probe": probing / (len(queries) * len(codes)), "window": by_windows / (new * count)}


def _decoding() -> tuple[float, int]:
    """CPU seconds to decode a photograph of 0.2 megapixels, and its bytes."""
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (24, 32, 3), np.uint8)).resize((512, 384), Image.Resampling.BICUBIC)
    noisy = np.clip(np.asarray(coarse).astype(int) + rng.normal(0, 8, (384, 512, 3)), 0, 255).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(noisy).save(stream, "JPEG", quality=85)
    data = stream.getvalue()
    images.decode(data, "#ffffff", max_pixels=10**6)
    return _seconds(lambda: [images.decode(data, "#ffffff", max_pixels=10**6) for _ in range(20)]) / 20, len(data)


def _seconds(work: Callable[[], object]) -> float:
    """CPU seconds of this process for ``work``."""
    start = time.process_time()
    work()
    return time.process_time() - start


def _print_rates(
    rates: dict, start: dict[str, float], found: dict[str, float], decode: float, photo: int, md5: float
) -> None:
    count = rates["images"]
    print(f"| rate, measured on {count:,} images of {rates['encoded'] / count:,.0f} bytes | |\n|---|---|")
    for name, seconds in rates["seconds"].items():
        print(f"| {name}, CPU µs an image (start-up of {start['seconds']:.1f} s taken off) | "
              f"{1e6 * max(0, seconds - start['seconds']) / count:,.0f} |")  # fmt: skip
    for path, size in rates["bytes"].items():
        print(f"| {path}, bytes an image | {size / count:,.0f} |")
    worst, held = _worst(rates, start)
    print(f"| memory of the greediest stage ({worst}), bytes an image | {held:,.0f} |")
    print(f"| decode a photograph of 0.2 megapixels ({photo:,} bytes), CPU µs | {1e6 * decode:,.0f} |")
    print(f"| compare two codes of 256 bits, exact / in the lists of a million, CPU ns | {1e9 * found['look']:.2f} / "
          f"{1e9 * found['probe']:.3f} |")  # fmt: skip
    print(f"| compare two photographs by windows, CPU ns | {1e9 * found['window']:.1f} |")
    print(f"| hash for DVC (MD5), CPU s for 1e9 bytes | {1e9 * md5:.1f} |\n")


def _worst(rates: dict, start: dict[str, float]) -> tuple[str, float]:
    """The stage of the data side whose own process holds most, and its bytes an image."""
    name = max(("collect", "clean", "resize", "split"), key=lambda each: rates["memory"][each])
    return name, max(0, rates["memory"][name] - start["bytes"]) / rates["images"]


def _print_scale(
    rates: dict, start: dict[str, float], found: dict[str, float], decode: float, photo: int, md5: float, inputs: Inputs
) -> None:
    count = rates["images"]
    searched = _searching(0, count, found) / count  # CPU s an image that the search took there
    small = {name: max(0.0, rates["seconds"][name] - start["seconds"]) / count for name in SETTLED}
    each = {
        "read and clean": small["look"] + small["collect"] + max(0, small["clean"] - searched) + decode,
        "scale and pack": small["resize"] + decode,
        "split": small["split"],
    }
    raw = photo + max(0, rates["bytes"]["data/raw"] - rates["encoded"]) / count
    derived = (sum(rates["bytes"].values()) - rates["bytes"]["data/raw"]) / count
    held = _worst(rates, start)[1]
    columns: list[dict[str, str]] = []
    for total in COUNTS:
        hours = {name: seconds * total / 3600 for name, seconds in each.items()}
        hours["search for duplicates"] = _searching(0, total, found) / 3600
        hours["DVC's hashing"] = md5 * (raw + derived) * total / 3600
        cpu, kept = sum(hours.values()), (raw + derived) * total
        spread = cpu / inputs.cores
        columns.append({
            **{f"{name}, core-hours": _number(value) for name, value in hours.items()},
            "share of the search": f"{hours['search for duplicates'] / cpu:.0%}",
            f"first build on {inputs.cores} cores, perfectly spread": _days(spread * 3600),
            "split, which is one process": _days(each["split"] * total),
            "refresh with 1 % new, core-hours": _number(_refresh(total, each, found, md5, raw + derived)),
            "data/raw": _bytes(raw * total), "everything derived from it": _bytes(derived * total),
            "memory of the greediest stage": f"{_bytes(held * total)} ({held * total / inputs.memory:,.1f} machines)",
            "first build, price": _number(cpu * inputs.core_hour),
            "kept for a month, price": _number(kept / 1e9 * inputs.gigabyte_month),
        })  # fmt: skip
    print(f"| photographs of 0.2 megapixels | {' | '.join(f'{total:.0e}'.replace('e+0', 'e') for total in COUNTS)} |")
    print(f"|---{'|---' * len(COUNTS)}|")
    for name in columns[0]:
        print(f"| {name} | {' | '.join(column[name] for column in columns)} |")
    _print_limits(each, found, md5 * (raw + derived), held, inputs)


def _print_limits(
    each: dict[str, float], found: dict[str, float], hashing: float, held: float, inputs: Inputs
) -> None:  # fmt: skip
    """What breaks, in order: the number of images at which each part takes a night, or more than there is."""
    night = inputs.cores * NIGHT
    limits = {
        f"memory of the greediest stage is {inputs.memory / 1e9:.0f} GB": inputs.memory / held if held else math.inf,
        f"search on {inputs.cores} cores: a first build takes a night":
            _reached(lambda total: _searching(0, total, found) >= night),
        f"search on {inputs.cores} cores: a refresh with 1 % new takes a night":
            _reached(lambda total: _searching(total * 99 // 100, total, found) >= night),
        "search takes as long as all else together":
            _reached(lambda total: _searching(0, total, found) >= total * sum(each.values())),
        "DVC, in one process: hashing a first build takes a night": NIGHT / hashing,
        "split, in one process, takes a night": NIGHT / each["split"] if each["split"] else math.inf,
        f"clean and resize take a night on {inputs.cores} cores":
            inputs.cores * NIGHT / (each["read and clean"] + each["scale and pack"]),
        "row numbers (int32) of the pack run out": 2**31,
    }  # fmt: skip
    print(f"\n| what breaks (a night has {NIGHT // 3600} hours) | at so many images |\n|---|---|")
    for name, reached in sorted(limits.items(), key=lambda item: item[1]):
        print(f"| {name} | {float(f'{reached:.2g}'):,.0f} |")


def _reached(enough: Callable[[int], bool]) -> float:
    """The number of images from which it is ``enough``, to two digits."""
    return next((digits * 10**zeros for zeros in range(3, 12) for digits in range(10, 100)
                 if enough(digits * 10**zeros)), math.inf)  # fmt: skip


def _searching(first: int, total: int, found: dict[str, float]) -> float:
    """CPU seconds to find the pairs of photographs that come after ``first`` others, up to ``total``.

    The share of the earlier ones that are compared halves with each level (components/clean/windows.py).
    """
    return sum(
        found["window"] / 2 ** max(level + 1, 0) * (end**2 - start**2) / 2
        for level, start, end in lists.levels(first, total)
    )


def _refresh(total: int, each: dict[str, float], found: dict[str, float], md5: float, size: float) -> float:
    """Core-hours when one image in a hundred is new: its own work, its search, and the hashing of new files."""
    new = total // 100
    settled = each["split"] * total  # decided over all places again
    work = (each["read and clean"] + each["scale and pack"]) * new + settled + md5 * size * new
    return (work + _searching(total - new, total, found)) / 3600


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def _days(seconds: float) -> str:
    return f"{seconds / DAY:,.1f} days" if seconds >= DAY else f"{seconds / 3600:,.1f} hours"


def _bytes(size: float) -> str:
    for unit, one in (("PB", 1e15), ("TB", 1e12), ("GB", 1e9)):
        if size >= one:
            return f"{size / one:,.1f} {unit}"
    return f"{size / 1e6:,.0f} MB"


if __name__ == "__main__":
    main()
