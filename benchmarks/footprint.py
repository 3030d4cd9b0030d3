"""What an environment of `make setup` takes on disk, by who needs it.

    PYTHONPATH=. python benchmarks/footprint.py

Reads the installed packages' own lists of files and requirements. A row holds what its packages and all that these
require take; a package counts in every row that needs it.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
CONSUMER = ("mlflow", "onnxruntime", "pillow")
"""What the README asks of one who only draws with a registered model."""
GPU_ONLY = re.search(r"^GPU_ONLY := (.*)$", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)[1].split()
"""What `make setup WITHOUT=gpu` leaves out: torch neither links nor imports it at its start."""
LARGEST = 12


def main() -> None:
    """Print the tables."""
    sizes = {name(one): size(one) for one in metadata.distributions()}
    core = needed(["stillroom"])
    stages = needed(imported(ROOT / "components") & core - {"stillroom"})
    cuda = {one for one in core if one.startswith(("nvidia-", "cuda-", "triton"))}
    rows = {
        f"draw with a registered model, without torch ({', '.join(CONSUMER)})": needed(CONSUMER),
        "run stages by hand, no GPU, without what only a GPU needs": stages - set(GPU_ONLY),
        "run stages by hand, GPU": stages,
        "the whole pipeline, no GPU, without what only a GPU needs": core - set(GPU_ONLY),
        "the whole pipeline": core,
        "everything: with the tests, as `make setup` does": set(sizes),
    }
    print("| for | packages | MiB |\n|---|---|---|")
    for title, names in rows.items():
        print(f"| {title} | {len(names)} | {sum(sizes[one] for one in names):,.0f} |")
    parts = {
        "CUDA, linked by torch (imports fail without it)": cuda - set(GPU_ONLY),
        "CUDA and triton, only used on a GPU": cuda & set(GPU_ONLY),
        "torch and torchvision themselves": {"torch", "torchvision"},
        "only for the tests and linters": set(sizes) - core - {"pip"},
    }
    print("\n| of it | packages | MiB |\n|---|---|---|")
    for title, names in parts.items():
        print(f"| {title} | {len(names)} | {sum(sizes[one] for one in names):,.0f} |")
    print(f"\nthe {LARGEST} largest:", ", ".join(f"{one} {sizes[one]:,.0f}" for one in largest(sizes)))
    print(f"Python {sys.version_info.major}.{sys.version_info.minor}, {sum(sizes.values()):,.0f} MiB in all")


def name(distribution: metadata.Distribution) -> str:
    """The name as requirements spell it."""
    return re.sub(r"[-_.]+", "-", distribution.metadata["Name"]).lower()


def size(distribution: metadata.Distribution) -> float:
    """MiB on disk."""
    paths = {Path(distribution.locate_file(file)) for file in distribution.files or ()}
    return sum(path.stat().st_blocks for path in paths if path.is_file()) * 512 / 2**20


def needed(roots: Iterable[str]) -> set[str]:
    """Names of ``roots`` and of all that they require here, at any depth, as far as they are installed."""
    here = {name(one) for one in metadata.distributions()}
    todo, done = [(root, "") for root in roots], set()
    while todo:
        one = todo.pop()
        if one in done or one[0] not in here:
            continue
        done.add(one)
        for text in metadata.requires(one[0]) or ():
            wanted = Requirement(text)
            if wanted.marker is None or wanted.marker.evaluate({"extra": one[1]}):
                found = re.sub(r"[-_.]+", "-", wanted.name).lower()
                todo += [(found, extra) for extra in ("", *wanted.extras)]
    return {found for found, _ in done}


def imported(folder: Path) -> set[str]:
    """Names of the packages that some module of ``folder`` imports."""
    tops = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                tops |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                tops.add((node.module or "").split(".")[0])
    owners = metadata.packages_distributions()
    return {re.sub(r"[-_.]+", "-", owner).lower() for top in tops for owner in owners.get(top, ())}


def largest(sizes: dict[str, float]) -> list[str]:
    """Names of the largest packages, largest first."""
    return sorted(sizes, key=sizes.__getitem__, reverse=True)[:LARGEST]


if __name__ == "__main__":
    main()
