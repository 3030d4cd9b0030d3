"""Training on one core: Hugging Face's recipe, a tuned `UNet2DModel` and ours, in turn.

    python benchmarks/train.py                                    # speed: images a CPU second
    python benchmarks/train.py --quality 60 --seeds 0 1 2         # and error and KID after so many CPU seconds

Every contender (benchmarks/contenders.py) is a process of one thread below this one; they take short turns, so that a
busy machine is busy for all, and each ratio is the median over the rounds of ours over the peer's.  All of them see
the same pixels at 32 px: the embedded sample through the stages (or --pixels and --splits), for Hugging Face's recipe
as PNG files.  The quality table draws all pictures with the same sampler.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import peers
import torch
from PIL import Image

from components.base import config
from components.collect import look
from components.dataset import tensors
from components.pipeline import PIPELINE
from components.samples import pack

CONTENDERS = str(peers.ROOT / "benchmarks" / "contenders.py")
SCRIPT = "script 32 64 128"
UNET = {
    "network": {"kind": "unet", "widths": [32, 32, 64, 128], "layers_per_block": 1}, "objective": "v",
    "schedule": "cosine", "levels": "schedule", "weighting": "plain", "learning_rate": 2e-3,
    "muon_rate": 0.0,
}  # fmt: skip
"""A peer: it has the optimiser that it was tuned with; the quality table shows it with ours as well."""
COMPACT = {
    "network": {"kind": "compact", "widths": [32, 64, 128], "layers": 2, "fold": 2, "skip_sigma": 0.1},
    "objective": "v", "schedule": "cosine", "levels": "uniform", "weighting": "velocity", "learning_rate": 2e-3,
    "onnx": True,
}  # fmt: skip
"""A compact network as wide as the script's; what is handed out is that of params.yaml."""

ROUNDS, TURN, WARM_UP = 5, 4, 2
"""Rounds, steps of a turn, steps before the first."""

Answer = dict[str, float]


class Contender:
    """A process of contenders.py."""

    def __init__(
        self, folder: Path, kind: str, params: dict[str, Any], *, images: int | None = None, **spec: Any
    ) -> None:
        if images is None:  # without an end to its budget it would compile, which pays after a quarter of an hour
            images, params = 10**6, params | {"compile": False}
        spec = {
            "kind": kind, "params": params | {"images": images}, "pixels": str(folder / "pixels"), "images": images,
            "splits": str(folder / "splits"), "files": str(folder / "files"), "cache": str(folder / "cache"),
            "layout": "", "labels": True, "seed": params["seed"], "mixed_precision": "no", **spec,
        }  # fmt: skip
        few = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        more = {
            "PYTHONPATH": str(peers.ROOT), "PYTHONWARNINGS": "ignore", "HF_HUB_OFFLINE": "1",
            "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
        }  # fmt: skip
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self._process = subprocess.Popen(
            [sys.executable, CONTENDERS, json.dumps(spec)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=self._log, text=True, env=os.environ | few | more,
        )  # fmt: skip

    def ask(self, **order: int) -> Answer:
        """The answer to ``order``."""
        try:
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass
        line = self._process.stdout.readline()
        if not line:
            self._log.seek(0)
            raise RuntimeError(f"a contender ended:\n{self._log.read()[-3000:]}")
        return json.loads(line)

    def rate(self, steps: int) -> float:
        """Images a CPU second over ``steps``."""
        answer = self.ask(steps=steps)
        return answer["images"] / answer["seconds"]

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
        self._log.close()


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pixels", type=Path, help="a finished data/pixels; the embedded sample when not given")
    parser.add_argument("--splits", type=Path, help="its data/splits")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="rounds of the speed table; 0 leaves it out")
    parser.add_argument("--quality", type=float, metavar="SECONDS", help="CPU seconds of training for each contender")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="of the quality table")
    parser.add_argument("--samples", type=int, default=320, help="pictures behind each KID; 0: none")
    parser.add_argument("--test-images", type=int, default=128, help="about so many behind each x0 error")
    options = parser.parse_args()
    if (options.pixels is None) != (options.splits is None):
        parser.error("--pixels and --splits go together")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="stillroom-train-") as name:
        folder = Path(name)
        _data(folder, options.pixels, options.splits)
        params = config.read(peers.ROOT / "params.yaml")["train"] | {"ranks": 1}
        if options.rounds:
            speed(folder, params | UNET, params, options.rounds)
        if options.quality:
            score = {"samples": options.samples, "test": options.test_images}
            quality(folder, params | UNET, params, options.quality, options.seeds, score)
    print(f"\n{peers.machine()}")


def _data(folder: Path, pixels: Path | None, splits: Path | None) -> None:
    """``folder`` with pixels, splits, and the training images as PNG files."""
    if pixels is None:
        values = config.read(peers.ROOT / "params.yaml")
        (folder / "data").mkdir()
        (folder / "data" / "samples").symlink_to(peers.ROOT / "data" / "samples")
        for name in ("withdrawn", "decisions"):
            (folder / "data" / f"{name}.jsonl").touch()
        collected = config.section(values, "collect", PIPELINE[0].params)
        look.look(collected, root=folder, page=folder / "data" / "source.json", cache=folder / "looked.json")
        for stage in PIPELINE:
            if stage.name in ("collect", "clean", "resize", "split"):
                section = config.section(values, stage.name, stage.params)
                stage.run(section, folder)
        pixels, splits = folder / "data" / "pixels", folder / "data" / "splits"
    (folder / "pixels").symlink_to(pixels.resolve())
    (folder / "splits").symlink_to(splits.resolve())
    files = folder / "files"
    files.mkdir()
    rows = list(pack.read_split(splits, "train"))
    for at, image in enumerate(tensors.Pixels(pixels).gather(rows)):
        Image.fromarray(image.numpy().squeeze()).save(files / f"{at:06d}.png")


@contextlib.contextmanager
def _together(contenders: dict[str, Contender]) -> Iterator[dict[str, Contender]]:
    try:
        yield contenders
    finally:
        for contender in contenders.values():
            contender.close()


def speed(folder: Path, tuned: dict[str, Any], default: dict[str, Any], rounds: int) -> None:
    """Print images a CPU second of one optimiser step."""
    pairs = [
        ("same `UNet2DModel`, (32, 32, 64, 128)", "own", "ours on own", 1.7),
        ("same `UNet2DModel`, the script's layout at (32, 64, 128)", "script", "ours on script", 1.7),
        ("same widths, (32, 64, 128), compact network", "script", "compact", 6.0),
        (f"the script's (32, 64, 128), the default {default['network']['kind']}", "script", "default", ""),
    ]
    group = {
        "own": Contender(folder, "recipe", tuned, layout="own"),
        "ours on own": Contender(folder, "ours", tuned, labels=False),
        "script": Contender(folder, "recipe", tuned, layout=SCRIPT),
        "ours on script": Contender(folder, "ours", tuned, layout=SCRIPT, labels=False),
        "compact": Contender(folder, "ours", default | COMPACT),
        "default": Contender(folder, "ours", default),
    }
    if torch.ops.mkldnn._is_mkldnn_bf16_supported():
        for name, layout in (("own", "own"), ("script", SCRIPT)):
            group[f"{name}, bf16"] = Contender(folder, "recipe", tuned, layout=layout, mixed_precision="bf16")
    with _together(group):
        found = _rounds(group, rounds)
        images, fed = (group["default"].ask(load=300, **more)["seconds"] / 300 for more in ({}, {"all": 1}))
    print("| what | Hugging Face's recipe, images/CPU-s | ours, images/CPU-s | ratio | wanted |\n|---|---|---|---|---|")
    for what, peer, own, wanted in pairs:
        for name in (peer, f"{peer}, bf16"):
            if name in found:
                ratio = statistics.median(b / a for a, b in zip(found[name], found[own], strict=True))
                rates = [statistics.median(found[each]) for each in (name, own)]
                flag = ", its bf16 flag" if "bf16" in name else ""
                print(
                    f"| {what}{flag} | {rates[0]:.1f} | {rates[1]:.1f} | {ratio:.2f} | {wanted if not flag else ''} |"
                )
    step = default["batch"] / statistics.median(found["default"])
    print(f"| loader's share of the default step | | {images / step:.2%} | | below 2 % |")
    print(f"| the same with noise, levels and labels | | {fed / step:.2%} | | |")


def _rounds(group: dict[str, Contender], rounds: int) -> dict[str, list[float]]:
    """Images a CPU second of each contender in each round."""
    for contender in group.values():
        contender.ask(steps=WARM_UP)
    found: dict[str, list[float]] = {name: [] for name in group}
    for _ in range(rounds):
        for name, contender in group.items():
            found[name].append(contender.rate(TURN))
    return found


def quality(
    folder: Path, tuned: dict[str, Any], default: dict[str, Any], seconds: float, seeds: Sequence[int],
    score: dict[str, int],
) -> None:  # fmt: skip
    """Print x0 error and KID of each contender after ``seconds`` of processor time, the mean over ``seeds``."""
    kinds = {
        "Hugging Face's recipe": ("recipe", tuned, {"layout": SCRIPT}),
        "a tuned `UNet2DModel`": ("ours", tuned, {}),
        "the same with Muon": ("ours", tuned | {"muon_rate": default["muon_rate"]}, {}),
        "ours": ("ours", default, {}),
    }
    found: dict[str, list[Answer]] = {name: [] for name in kinds}
    for seed in seeds:
        for name, (kind, params, spec) in kinds.items():
            found[name].append(_trained(folder, kind, params | {"seed": seed}, spec, seconds, score))
            print(name, seed, found[name][-1], file=sys.stderr, flush=True)
    shown_seeds = " ".join(map(str, seeds))
    print(f"\nAfter {seconds:.0f} CPU seconds each, seeds {shown_seeds}: means, spread of the seeds\n")
    print("| trainer | images | CPU s | x0 error | of it, ours | KID | of it, ours |\n|---|---|---|---|---|---|---|")
    for name, runs in found.items():
        cells = [f"{_mean(runs, 'images'):,.0f}", f"{_mean(runs, 'seconds'):.1f}"]
        for key, digits in (("geo", 4), ("kid", 2)):
            if key in runs[0]:
                spread = max(run[key] for run in runs) - min(run[key] for run in runs)
                ratio = _mean(found["ours"], key) / _mean(runs, key)
                cells += [f"{_mean(runs, key):.{digits}f} ± {spread / 2:.{digits}f}", f"{ratio:.2f}"]
            else:
                cells += ["", ""]
        print(f"| {name} | {' | '.join(cells)} |")


def _mean(runs: Sequence[Answer], key: str) -> float:
    return statistics.mean(run[key] for run in runs)


def _trained(
    folder: Path, kind: str, params: dict[str, Any], spec: dict[str, Any], seconds: float, score: dict[str, int]
) -> Answer:
    """The scores of a training as long as its first steps say that ``seconds`` allow."""
    with _together({"one": Contender(folder, kind, params, **spec)}) as group:
        group["one"].ask(steps=WARM_UP)
        rate = group["one"].rate(2 * TURN)
    images = max(1, round(rate * seconds / params["batch"])) * params["batch"]
    with _together({"one": Contender(folder, kind, params, images=images, **spec)}) as group:
        trained = group["one"].ask(steps=images // params["batch"])
        return {**trained, **group["one"].ask(**score)}


if __name__ == "__main__":
    main()
