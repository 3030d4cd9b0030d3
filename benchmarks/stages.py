"""The data stages on a folder of pictures that a benchmark has written, with the sections of params.yaml."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from components import pipeline
from components.base import config
from components.collect.look import look
from components.collect.params import CollectParams

ROOT = Path(__file__).resolve().parent.parent


def run(root: Path, names: Sequence[str]) -> None:
    """Look at ``root``/source and run the stages ``names`` into ``root``/data; ``clean.min_side`` is 8, so that small
    pictures are looked at and not dropped."""
    sections = config.read(ROOT / config.FILE)
    sections["clean"]["min_side"] = 8
    sections["collect"]["sources"] = [{
        "name": "pictures", "kind": "files", "location": "source", "licence": "unknown", "matte": "#ffffff",
        "text_column": None, "label_column": None, "group_column": None,
    }]  # fmt: skip
    (root / "data").mkdir(exist_ok=True)
    for name in ("withdrawn", "decisions"):
        (root / f"data/{name}.jsonl").touch()
    look(config.section(sections, "collect", CollectParams), root=root, page=root / "data/source.json", cache=None)
    for name in names:
        stage = pipeline.stage(name)
        stage.run(config.section(sections, name, stage.params), root)
