"""What a change of the recipe is worth: every variant trained by stage `train` itself, on one core, one after another.

    python benchmarks/recipe.py --pixels data/pixels --splits data/splits --images 8000 \\
      network.skip_sigma=1.0 learning_rate=0.002,batch=8

The first row is section `train` of params.yaml; each argument is one more variant, settings joined by commas
(key=value with dots for sections, values as in YAML).  x0 errors are those of `validate_images` validation images
with the averaged weights, `ratio` is to that of the first row; several --seeds give their mean and range.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import peers

from components.base import config
from components.networks import registry
from components.train.params import TrainParams

RUN = """
import json, sys
from pathlib import Path
from components.train.params import TrainParams
from components.train.stage import train
job = json.loads(sys.argv[1])
params = TrainParams.model_validate_json(json.dumps(job["params"]))
paths = {name: Path(job[name]) for name in ("pixels", "splits", "model", "scratch")}
train(params, **paths)
"""


def main() -> int:
    """Train the variants and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pixels", type=Path, default=peers.ROOT / "data/pixels", help="a finished data/pixels")
    parser.add_argument("--splits", type=Path, default=peers.ROOT / "data/splits", help="its data/splits")
    parser.add_argument("--images", type=int, default=8000, help="shown to each variant that names no number")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="of weights, order and noise")
    parser.add_argument("variants", nargs="*", metavar="KEY=VALUE[,KEY=VALUE]", help="what differs from params.yaml")
    options = parser.parse_args()
    base = config.read(peers.ROOT / config.FILE)["train"] | {"images": options.images, "ranks": 1}
    print("| variant | parameters | images | images/CPU-s | CPU s | x0 error | ratio | range | by sigma |")
    print("|---|---|---|---|---|---|---|---|---|", flush=True)
    first: list[dict[str, Any]] = []
    for variant in ["", *options.variants]:
        params = changed(base, variant)
        found = [trained(params | {"seed": seed}, options.pixels, options.splits) for seed in options.seeds]
        first = first or found
        print(row(variant or "params.yaml", params, found, first), flush=True)
    print(f"\n{peers.machine()}")
    return 0


def changed(base: dict[str, Any], variant: str) -> dict[str, Any]:
    """``base`` with the settings of ``variant``."""
    params = copy.deepcopy(base)
    for setting in filter(None, variant.split(",")):
        name, _, text = setting.partition("=")
        *path, last = name.split(".")
        part = params
        for step in path:
            part = part[step]
        part[last] = config.parse(f"value: {text.replace(';', ',')}", name)["value"]
    TrainParams.model_validate_json(json.dumps(params))
    return params


def trained(params: dict[str, Any], pixels: Path, splits: Path) -> dict[str, Any]:
    """CPU seconds of one training in a process of its own, and its last validation."""
    few = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    paths = {"pixels": str(pixels.resolve()), "splits": str(splits.resolve())}
    with tempfile.TemporaryDirectory(prefix="stillroom-recipe-") as name, contextlib.chdir(name):
        spec = {"params": params, **paths, "model": "model", "scratch": "scratch"}
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-W", "ignore", "-c", RUN, json.dumps(spec)], check=True,
                       env=os.environ | few | {"PYTHONPATH": str(peers.ROOT)})  # fmt: skip
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        lines = [json.loads(line) for line in Path("model/history.jsonl").read_text("utf-8").splitlines()]
        size = (registry.folder(Path("model")) / registry.WEIGHTS).stat().st_size / 4
    check = [line for line in lines if "x0_error" in line][-1]
    errors_at = [value for key, value in check.items() if key.startswith("x0_error/sigma")]
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"cpu": cpu, "error": check["x0_error"], "errors": errors_at, "parameters": size}


def row(variant: str, params: dict[str, Any], found: list[dict[str, Any]], first: list[dict[str, Any]]) -> str:
    """One row of the table; ``first`` are the trainings of params.yaml, with which it is compared."""
    images = params["images"] // params["batch"] * params["batch"]
    cpu = statistics.mean(one["cpu"] for one in found)
    errors, base = [one["error"] for one in found], statistics.mean(one["error"] for one in first)
    errors_at = [statistics.mean(column) for column in zip(*(one["errors"] for one in found), strict=True)]
    spread = f"{min(errors):.4f} to {max(errors):.4f}" if len(errors) > 1 else ""
    shown = " ".join(f"{error:.2g}" for error in errors_at)
    size = found[0]["parameters"] / 1e6
    cells = [f"`{variant}`", f"{size:.2f} M", f"{images:,}", f"{images / cpu:.0f}", f"{cpu:.0f}",
             f"{statistics.mean(errors):.4f}", f"{statistics.mean(errors) / base:.2f}", spread, shown]  # fmt: skip
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    sys.exit(main())
