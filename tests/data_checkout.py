"""A checkout whose data stages are up to date, made once for all processes; tests copy it to change it."""

from __future__ import annotations

import atexit
import contextlib
import csv
import functools
import io
import shutil
import tempfile
from pathlib import Path

from checkouts import git, make
from data_fixtures import encoded, pixels, png, zipped
from PIL import Image
from shared import once

from components.base import config, files
from components.pipeline import PIPELINE
from components.pipeline import stage as pipeline_stage
from components.samples import manifest, pack, shards
from components.samples.spec import image
from flows.data import look
from flows.dvc.freshness import Freshness
from flows.workspace.paths import State

HOSTILE = "<script>alert(1)</script>"
LABELS = ("cats & dogs", HOSTILE, "=cmd()")
SPLIT = {"train": 0.5, "val": 0.25, "test": 0.25}


def members(count: int = 24) -> dict[str, bytes]:
    """A source: PNGs with captions and labels, a JPEG, a copy, a damaged one; names and texts are hostile."""
    found = {f"{HOSTILE.replace('/', '')}-{seed:02d}.png": png(seed) for seed in range(count)}
    found["photo.jpg"] = encoded(pixels(100), "JPEG", quality=95)
    found["copy.png"] = png(3)
    found["damaged.png"] = png(101)[:-40]
    return {**found, "metadata.csv": metadata(sorted(found))}


def metadata(names: list[str]) -> bytes:
    """metadata.csv for ``names``, without a label for each fifth."""
    stream = io.StringIO()
    table = csv.writer(stream)
    table.writerow(["file_name", "text", "label", "base_codepoint"])
    for at, name in enumerate(names):
        table.writerow([name, f'caption {at}, "quoted"\nnext line <b>', "" if at % 5 == 4 else LABELS[at % 3], ""])
    return stream.getvalue().encode()


@functools.cache
def built() -> Path:
    """This process's copy of the checkout, committed with its dvc.lock; not to be changed."""
    place = Path(tempfile.mkdtemp(prefix="stillroom-test-"))
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    made = once("built", lambda folder: _build(folder / "checkout")) / "checkout"
    root = Path(shutil.copytree(made, place / "checkout", symlinks=True))
    State(root).enter()
    return root


def _build(root: Path) -> None:
    make(root, pictures=1, changes={"split": SPLIT})
    zipped(root / "source.zip", members())
    refresh(root)
    git(root, "add", "--force", "dvc.lock", "metrics", "data/source.json")
    commit(root, "first state")


def refresh(root: Path) -> None:
    """Bring the data stages up to date, in this process, and tell DVC."""
    from dvc.repo import Repo, lock_repo

    state = State(root)
    state.enter()
    look.look_at_sources(state, say=lambda line: None)
    sections = config.read(root / config.FILE)
    names = Freshness(root, state.folder / "fresh.json").stale()
    stale = [stage for stage in PIPELINE[: PIPELINE.index(pipeline_stage("train"))] if stage.name in names]
    for stage in stale:
        if stage.name == "resize":
            _pack(root, sections["resize"]["side"])
        else:
            stage.run(config.section(sections, stage.name, stage.params), root)
    with contextlib.chdir(root), Repo(str(root)) as repo, lock_repo(repo):
        # As `dvc commit` of each, which would read and write the lock anew each time: half a second.
        found = [one.stage for stage in stale for one in repo.stage.collect_granular(stage.name)]
        for each in found:
            each.save()
            each.commit()
        if found:
            found[0].dvcfile.dump_stages(found, update_pipeline=False)


def _pack(root: Path, side: int) -> None:
    """What `resize` would write, from Pillow: importing torch in its workers takes longer than all else here."""
    rows = manifest.read(root / "data/clean/verdicts.parquet", manifest.VERDICTS, stage="clean").to_pylist()
    kept = [row for row in rows if row["verdict"] == "kept"]
    index = shards.read_index(root / "data/raw").to_pylist()
    places = [(index[row["arrival"]]["shard"], index[row["arrival"]]["row"]) for row in kept]
    held = dict(shards.read_bytes(root / "data/raw", places))
    small = [Image.open(io.BytesIO(held[at])).convert("RGB").resize((side, side)).tobytes() for at in range(len(kept))]
    classes = sorted({row["label"] for row in kept} - {None})
    ids = [classes.index(row["label"]) if row["label"] is not None else -1 for row in kept]
    with files.replacing_folder(root / "data/pixels") as folder:
        pack.write(folder, small, spec=image((3, side, side)), keys=[row["sha256"] for row in kept], classes=classes,
                   class_ids=ids)  # fmt: skip
    files.write_text(root / "metrics/resize.json", f'{{"rows": {len(kept)}}}\n')


def commit(root: Path, words: str) -> str:
    """Commit what is staged; the commit."""
    git(root, "-c", "user.name=t", "-c", "user.email=t@localhost", "commit", "--all", "--quiet", "-m", words)
    return git(root, "rev-parse", "HEAD").strip()


def copied(folder: Path) -> Path:
    """A copy of the checkout, to change."""
    shutil.copytree(built(), folder, symlinks=True)
    return folder
