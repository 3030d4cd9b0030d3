"""What is worth a look: planted defects and planted wrong labels, found here and by cleanvision and cleanlab.

    PYTHONPATH=. python benchmarks/looks.py TAR_OF_SMALL_IMAGES

2,000 of the images as they are, and 100 others with each defect; the stages `collect` to `profile` run with the
sections of params.yaml.  Then 3 % of 4,000 images get a wrong label, drawn evenly from the others; both sides see the
same vectors, of each embedding that `profile` has.  Precision is the share of what was flagged that had been planted:
CIFAR-10 has images that are dark, and labels that are wrong, of its own.
"""

from __future__ import annotations

import hashlib
import io
import json
import sys
import tarfile
import tempfile
import time
from pathlib import Path

import numpy as np
import peers
import stages
from PIL import Image, ImageFilter

from components.embed import vectors
from components.profile.doubts import doubtful
from components.samples import manifest, pack

SOUND, PLANTED, LABELLED, WRONG = 2000, 100, 4000, 0.03
DEFECTS = {
    "dark": lambda x: x.point(lambda value: value // 6),
    "bright": lambda x: x.point(lambda value: 243 + value // 22),
    "flat": lambda x: x.point(lambda value: 120 + value // 40),
    "blurred": lambda x: x.filter(ImageFilter.GaussianBlur(3)),
    "long": lambda x: x.crop((0, 11, 32, 20)),
}  # fmt: skip
THEIR_NAMES = {
    "dark": "dark", "bright": "light", "flat": "low_information", "blurred": "blurry", "long": "odd_aspect_ratio",
}  # fmt: skip
LOOKS = """
import contextlib, io, json, sys, time
from cleanvision import Imagelab
issues = json.loads(sys.argv[2])
began = time.process_time()
with contextlib.redirect_stdout(io.StringIO()):
    lab = Imagelab(data_path=sys.argv[1], verbose=False)
    lab.find_issues({name: {} for name in issues}, n_jobs=1, verbose=False)
found = {name: [path.split("/")[-1] for path in lab.issues.index[lab.issues[f"is_{name}_issue"]]] for name in issues}
print(json.dumps([found, time.process_time() - began]))
"""
LABELS = """
import json, sys, time, warnings
import numpy as np
warnings.simplefilter("ignore")
from cleanlab.filter import find_label_issues
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict
from sklearn.preprocessing import StandardScaler
held = np.load(sys.argv[1])
began = time.process_time()
scaled = StandardScaler().fit_transform(held["vectors"].astype(np.float32))
chances = cross_val_predict(LogisticRegression(max_iter=200), scaled, held["labels"], cv=5, method="predict_proba")
found = find_label_issues(held["labels"], chances, n_jobs=1)
print(json.dumps([np.flatnonzero(found).tolist(), time.process_time() - began]))
"""


def main() -> None:
    """Print the tables."""
    pictures, labels = _pictures(Path(sys.argv[1]), max(LABELLED, SOUND + len(DEFECTS) * PLANTED))
    interpreter = peers.python("cleanlab", "cleanvision", "cleanlab", "scikit-learn")
    _defects(pictures, interpreter)
    for name in vectors.ALGORITHMS:
        _labels(pictures[:LABELLED], labels[:LABELLED], name, interpreter)
    print(peers.machine())


def _pictures(path: Path, count: int) -> tuple[list[Image.Image], list[str]]:
    """``count`` pictures of the tar in the order of their names' hashes, and the folder that each lies in."""
    with tarfile.open(path) as tar:
        members = sorted((each for each in tar if each.isfile()),
                         key=lambda each: hashlib.sha256(each.name.encode()).digest())[:count]  # fmt: skip
        found = {each.name: Image.open(io.BytesIO(tar.extractfile(each).read())).convert("RGB")
                 for each in sorted(members, key=lambda each: each.offset)}  # fmt: skip
    return [found[each.name] for each in members], [each.name.split("/")[-2] for each in members]


def _defects(pictures: list[Image.Image], interpreter: Path) -> None:
    made = {f"{at:05d}.png": ("", picture) for at, picture in enumerate(pictures[:SOUND])}
    for kind, (defect, edit) in enumerate(DEFECTS.items()):
        start = SOUND + kind * PLANTED
        made |= {f"{start + at:05d}.png": (defect, edit(picture))
                 for at, picture in enumerate(pictures[start : start + PLANTED])}  # fmt: skip
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        (root / "source").mkdir()
        for file, (_, picture) in made.items():
            picture.save(root / "source" / file, compress_level=1)
        ours = _ours(root)
        theirs, seconds = peers.run(interpreter, LOOKS, str(root / "source"), json.dumps(list(THEIR_NAMES.values())))
    print(f"{SOUND:,} images as they are, {PLANTED} more with each defect: found, and flagged of those as they are\n")
    print("| defect | cleanvision | here | found: here / peer |\n|---|---|---|---|")
    sound = {file for file, (what, _) in made.items() if not what}
    for defect in DEFECTS:
        planted = {file for file, (what, _) in made.items() if what == defect}
        mine, peer = {file for file, flag in ours.items() if flag == defect}, set(theirs[THEIR_NAMES[defect]])
        found, other = len(mine & planted) / PLANTED, len(peer & planted) / PLANTED
        ratio = f"{found / other:.2f}" if other else "–"
        print(f"| {defect} | {other:.2f}, {len(peer & sound)} | {found:.2f}, {len(mine & sound)} | {ratio} |")
    print(f"\ncleanvision {seconds:.1f} CPU s\n", flush=True)


def _ours(root: Path) -> dict[str, str]:
    """The flag of each file that stage `profile` gives one."""
    stages.run(root, ("collect", "clean", "resize", "split", "profile"))
    rows = manifest.read_any(root / "data/clean/verdicts.parquet", ("sha256", "source_key"))
    names, keys = {row["sha256"]: row["source_key"] for row in rows}, pack.read_keys(root / "data/pixels")
    found = manifest.read_any(root / "data/profile/looks.parquet", ("row", "flag"))
    return {names[keys[row["row"]]]: row["flag"] for row in found}


def _labels(pictures: list[Image.Image], labels: list[str], name: str, interpreter: Path) -> None:
    rng = np.random.default_rng(0)
    classes = sorted(set(labels))
    true = np.array([classes.index(label) for label in labels])
    wrong = rng.choice(len(true), round(WRONG * len(true)), replace=False)
    said = true.copy()
    said[wrong] = (true[wrong] + rng.integers(1, len(classes), len(wrong))) % len(classes)
    arrays = [np.asarray(picture) for picture in pictures]
    found = np.concatenate([vectors.embed(arrays[at : at + 64], name=name) for at in range(0, len(arrays), 64)])
    began = time.process_time()
    ours = doubtful(found, [classes[one] for one in said])
    seconds = time.process_time() - began
    with tempfile.NamedTemporaryFile(suffix=".npz") as held:
        np.savez(held, vectors=found, labels=said)
        held.flush()
        theirs, their_seconds = peers.run(interpreter, LABELS, held.name)
    print(f"{len(wrong)} wrong labels in {len(true):,}, embedding {name}\n")
    print("| | flagged | precision | recall | right label proposed | CPU s |\n|---|---|---|---|---|---|")
    peer = "cleanlab, logistic regression in 5 folds"
    for who, flagged, took in ((peer, set(theirs), their_seconds), ("here", set(ours), seconds)):
        hits = flagged & set(wrong.tolist())
        right = [ours[at] == classes[true[at]] for at in hits] if who == "here" else []
        print(f"| {who} | {len(flagged)} | {len(hits) / max(1, len(flagged)):.2f} | {len(hits) / len(wrong):.2f} "
              f"| {f'{np.mean(right):.2f}' if right else '–'} | {took:.1f} |")  # fmt: skip
    print(flush=True)


if __name__ == "__main__":
    main()
