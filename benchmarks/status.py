"""No-op `stillroom data status` beside DVC on single files, at the images of a tar.

    python benchmarks/status.py ../shared/data/cifar10-jpg.tar

Builds (once, some minutes) a checkout whose data stages are up to date, and a DVC project that tracks the same
images as single files, below .stillroom/benchmarks; then asks each whether anything changed, five times, warm.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import peers
from commands import ROUNDS, call, measure
from ruamel.yaml import YAML

WORK = peers.ROOT / ".stillroom" / "benchmarks" / "status"


def main() -> None:
    """Build both sides if they are not there, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tar", type=Path, help="a tar of images, each in a folder that names its label")
    tar = parser.parse_args().tar.resolve()
    ours, single = WORK / "ours", WORK / "single"
    if not (WORK / "built").is_file():
        shutil.rmtree(WORK, ignore_errors=True)
        images = build_single(single, tar)
        build_ours(ours, tar)
        (WORK / "built").write_text(str(images))
    images = int((WORK / "built").read_text())
    dvc, stillroom = [sys.executable, "-m", "dvc"], [sys.executable, "-m", "flows.cli.app"]
    rows = {
        "`dvc status`, single files": measure(single, *dvc, "status", code=single),
        "`dvc status`, our shards": measure(ours, *dvc, "status", code=ours),
        "`stillroom data status`": measure(ours, *stillroom, "data", "status", code=ours),
    }
    base = rows["`dvc status`, single files"]
    print(f"| nothing to do, {images:,} images | wall s | CPU s | times faster (wall) | (CPU) |\n|---|---|---|---|---|")
    for name, (wall, cpu) in rows.items():
        print(f"| {name} | {wall:.2f} | {cpu:.2f} | {base[0] / wall:.1f} | {base[1] / cpu:.1f} |")
    print(f"\nMedian of {ROUNDS}, interpreter start included, warm. {peers.machine()}")


def build_single(folder: Path, tar: Path) -> int:
    """Track the tar's images as single files with DVC; how many."""
    images = folder / "images"
    images.mkdir(parents=True)
    count = 0
    with tarfile.open(tar) as archive:
        for member in archive:
            if member.isfile() and member.name.endswith((".jpg", ".png")):
                (images / f"{count:06d}{Path(member.name).suffix}").write_bytes(archive.extractfile(member).read())
                count += 1
    call(folder, "git", "init", "-q", code=folder)
    for arguments in (["init", "-q"], ["config", "core.autostage", "false"], ["add", "-q", "images"]):
        call(folder, sys.executable, "-m", "dvc", *arguments, code=folder)
    return count


def build_ours(folder: Path, tar: Path) -> None:
    """A checkout of this repository with the tar as its one source, its data stages up to date."""
    listed = subprocess.run(
        ["git", "ls-files", "-coz", "--exclude-standard"], cwd=peers.ROOT, capture_output=True, text=True, check=True
    )
    for name in filter(None, listed.stdout.split("\0")):
        if not name.startswith("data/samples"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(peers.ROOT / name, folder / name)
    yaml = YAML()
    params = yaml.load(folder / "params.yaml")
    source = params["collect"]["sources"][0]
    source.update(name="images", location=str(tar), text_column=None, label_column=None, group_column=None)
    params["profile"]["embedding"] = "colours"  # no matter for this question, and it takes no network
    yaml.dump(params, folder / "params.yaml")
    call(folder, "git", "init", "-q", code=folder)
    call(folder, sys.executable, "-m", "flows.cli.app", "data", "report", code=folder)


if __name__ == "__main__":
    main()
