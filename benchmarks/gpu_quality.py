"""What so many images of training on a GPU come to: a row of the x0 errors, and a sheet of samples.

    PYTHONPATH=. python benchmarks/gpu_quality.py --images 360000 --set '{"batch": 256}' --sheet .stillroom/a.png

It trains by `python -m components train` with params.yaml's recipe and the changes of --set, on the pack in --data
(a folder with pixels/ and splits/); it runs on a CPU as well.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import gpu_stage
import peers

from components.train.distributed.ranks import _device


def main() -> None:
    """Print a row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, required=True, help="shown in training")
    parser.add_argument("--set", type=json.loads, default={}, help="changes of section train, as a JSON object")
    parser.add_argument("--data", type=Path, default=peers.ROOT / "data", help="a folder with pixels/ and splits/")
    parser.add_argument("--sheet", type=Path, default=Path(".stillroom/quality.png"), help="where samples go")
    parser.add_argument("--profile", type=Path, help="where cProfile's numbers of the stage go")
    parser.add_argument("--evaluate", type=int, default=0, help="so many samples are drawn and described, and timed")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder, data = Path(name), options.data.absolute()
        found = gpu_stage.train(folder, options.images, data=data, profile=options.profile, **options.set)
        ids = gpu_stage.drawn(folder, _device(0), options.sheet)
        took = gpu_stage.evaluated(folder, ids, options.evaluate) if options.evaluate else 0.0
    rate = options.images / found.took
    print(f"| {json.dumps(options.set)} | {rate:,.0f} images/s, {found.took:.1f} s | {found.note()} |", flush=True)
    if options.evaluate:
        print(f"| {options.evaluate} drawn and described | {took:.1f} s | |", flush=True)


if __name__ == "__main__":
    main()
