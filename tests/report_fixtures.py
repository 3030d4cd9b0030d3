"""Small data and model states in exactly the formats of the stages, made from a seed, with hostile names in them."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
from browser import Browser, Shown
from PIL import Image

from components.samples import drawn, looks, manifest, pack
from components.samples.spec import image, sizes

SCRIPT = "<script>document.title='stolen';alert(1)</script>"
BREAKOUT = "</style></title></details></svg>\"'><img src=x onerror=alert(2)>"
OVERRIDE = "photo\u202egnp.exe\u0000\u2066\ud7ff\u200b\n\ttail"
ZALGO = "z" + "\u0301\u0322\u0489" * 60
LONG = "caption " * 1250  # 10,000 characters
HOSTILE = (
    SCRIPT,
    BREAKOUT,
    OVERRIDE,
    ZALGO,
    LONG,
    "&lt;b&gt; &amp; ' \"",
    "x" * 300,
    "--><!--",
    "javascript:alert(3)",
    "",
)

DESCRIBE = {
    "thumbnails": 40, "thumbnail_side": 48, "group_members": 6, "seen_per_class": 4, "map_points": 20, "rows": 50,
    "characters": 120,
}  # fmt: skip
REPORT = {"samples_per_class": 6, "films": 3, "neighbours": 6, "magnify": 3, "characters": 120}
SIDE = 16


def png(seed: int, size: tuple[int, int] = (24, 20)) -> bytes:
    """A picture of coloured blocks."""
    blocks = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(blocks).resize(size, Image.Resampling.NEAREST).save(stream, "PNG")
    return stream.getvalue()


def record(schema: pa.Schema, **values: object) -> dict:
    """A row of ``schema``: of ``values`` what it has a column for, nothing for what may be missing."""
    return {
        field.name: values.get(field.name) if field.nullable or field.name in values else values[field.name]
        for field in schema
    }


def data_states(
    root: Path,
    *,
    images: int = 30,
    labels: bool = True,
    drop: bool = True,
    hostile: bool = True,
    leak: bool = False,
    shape: tuple[int, int] = (SIDE, SIDE),
) -> dict[str, Path]:
    """Write raw, clean, pixels (of ``shape``, height and width), splits and profile; the keywords of ``describe``.

    With ``drop`` every fifth image is rejected, groups of two exist, one image is in quarantine, one is gone from
    its source and one was withdrawn by hand.
    """
    names = {"raw": "raw", "verdicts": "clean", "pixels": "pixels", "splits": "splits", "profile": "profile"}
    paths = {key: root / "data" / name for key, name in names.items()}
    for path in paths.values():
        path.mkdir(parents=True)
    shard, index, verdicts, pairs, splits, kept = [], [], [], [], [], []
    for at in range(images):
        data = png(at)
        key = hashlib.sha256(data).hexdigest()
        name = f"folder/{at:03d}-{HOSTILE[(at + at // 5) % len(HOSTILE)]}" if hostile else f"picture-{at:03d}.png"
        annotation = {
            "text": HOSTILE[(at + 3) % len(HOSTILE)] if hostile else f"caption {at}",
            "label": (["birds", "fish", BREAKOUT][at % 3] if hostile else ["birds", "fish"][at % 2])
            if labels
            else None,
            "licence": "CC0-1.0" if at % 2 else "Apache-2.0",
        }
        common = {"sha256": key, "source": SCRIPT if hostile else "pictures", "source_key": name, **annotation}
        verdict = _verdict(at, drop)
        by_hand = verdict == ("withdrawn", "withdrawn")
        lies = {"shard": "", "row": -1} if by_hand else {"shard": "shard-00000.parquet", "row": len(shard)}
        common |= {"arrival": at, "matte": "#ffffff", "size": len(data), "member": verdict[0] != "withdrawn"}
        index.append(record(manifest.INDEX, **common, **lies, withdrawn=by_hand))
        if not by_hand:
            shard.append(record(manifest.SHARD, bytes=data, **common))
        founder = at - 1 if drop and at % 10 == 2 else at
        group = hashlib.sha256(png(founder)).hexdigest()
        twin = {
            "twin": hashlib.sha256(png(abs(at - 1))).hexdigest(),
            "twin_arrival": abs(at - 1),
            "distance": 3 if at < 40 else 7,
            "difference": 0.0123,
        }
        twin = twin if verdict[1] in ("duplicate", "near_duplicate") else {}
        verdicts.append(record(
            manifest.VERDICTS, **common, **twin, verdict=verdict[0], reason=verdict[1],
            detail=f"detail {name}" if verdict[1] else None, width=24, height=20, mode="RGB", format="PNG",
            pixel_sha256=key, phash=f"{at:064x}", group=group, position=at % 7 == 3,
        ))  # fmt: skip
        if leak and at == 4:  # alike, and one trains while the other tests
            pairs.append(_pair(1, at))
        if drop and at == 7:  # alike one that trains and one that validates
            pairs += [_pair(1, at, distance=9), _pair(3, at, distance=8)]
        if founder != at:
            pairs.append(_pair(founder, at))
        row = -1
        if verdict[0] == "kept":
            row = len(kept)
            kept.append((key, data, annotation["label"]))
        split = "quarantine" if drop and at == 7 else ("train", "train", "train", "val", "test")[founder % 5]
        splits.append({"arrival": at, "sha256": key, "group": group, "split": split, "row": row})
    tables = {"shard": shard, "index": index, "verdicts": verdicts, "pairs": pairs, "splits": splits,
              "decisions": _decisions(verdicts) if drop else []}  # fmt: skip
    _write_tables(paths, tables, refuse=drop)
    _pack(paths["pixels"], kept, shape)
    places = [{"row": row, "x": row / images, "y": 1 - row / images} for row in range(len(kept))]
    manifest.write(paths["profile"] / "map.parquet", manifest.rows(places, manifest.MAP))
    flags = {"row": list(range(6)), "flag": ["dark", "blurred", "dark", "long", "small", "label"],
             "label": [*[None] * 5, SCRIPT]}  # fmt: skip
    manifest.write(paths["profile"] / looks.TABLE, manifest.table(flags, manifest.LOOKS))
    return {**paths, "page": root / "reports" / "data.html"}


def _decisions(verdicts: list[dict]) -> list[dict]:
    """A label given by hand, a picture kept by hand, and two decisions that change nothing; all hostile."""
    common = {"reason": SCRIPT, "who": SCRIPT}
    about = [{name: verdicts[at % len(verdicts)][name] for name in ("sha256", "arrival", "source", "source_key")}
             for at in (1, 3, 20)]  # fmt: skip
    return [record(manifest.DECISIONS, **row, **common) for row in (
        {**about[0], "decision": "label", "before": BREAKOUT, "after": SCRIPT},
        {**about[1], "decision": "keep", "before": "rejected (near duplicate)", "after": "kept"},
        {**about[2], "decision": "keep", "fault": "it was withdrawn"},
        {"sha256": "e" * 64, "decision": "reject", "fault": "it never came from a source of this data"},
    )]  # fmt: skip


def _pair(a: int, b: int, *, distance: int = 5) -> dict:
    return record(manifest.PAIRS, a=a, b=b, same=False, how="orb", orientation="turn 90", distance=distance,
                  difference=0.31, correlation=0.87, inliers=41)  # fmt: skip


def _write_tables(paths: dict[str, Path], tables: dict[str, list[dict]], *, refuse: bool) -> None:
    refused = [
        {"source": "zip", "source_key": f"../{SCRIPT}", "reason": "unsafe_name", "detail": "climbs out of the source"}
    ] if refuse else []  # fmt: skip
    manifest.write(paths["raw"] / "shard-00000.parquet", manifest.rows(tables["shard"], manifest.SHARD))
    manifest.write(paths["raw"] / "index.parquet", manifest.rows(tables["index"], manifest.INDEX))
    manifest.write(paths["raw"] / "refused.parquet", manifest.rows(refused, manifest.REFUSED))
    manifest.write(paths["verdicts"] / "verdicts.parquet", manifest.rows(tables["verdicts"], manifest.VERDICTS))
    manifest.write(paths["verdicts"] / "pairs.parquet", manifest.rows(tables["pairs"], manifest.PAIRS))
    manifest.write(paths["verdicts"] / manifest.OUTCOMES, manifest.rows(tables["decisions"], manifest.DECISIONS))
    manifest.write(paths["splits"] / "splits.parquet", manifest.rows(tables["splits"], manifest.SPLITS))
    for name in pack.SPLITS:
        rows = [entry["row"] for entry in tables["splits"] if entry["split"] == name and entry["row"] >= 0]
        pack.write_int32(paths["splits"] / f"{name}.i32", rows)


def _verdict(at: int, drop: bool) -> tuple[str, str | None]:
    if not drop or at % 5:
        return "kept", None
    if at in (20, 25):
        return "withdrawn", "withdrawn" if at == 20 else "gone"
    return "rejected", ("damaged", "near_duplicate", "duplicate", "too_large")[(at // 5) % 4]


def _pack(folder: Path, kept: list[tuple[str, bytes, str | None]], shape: tuple[int, int]) -> None:
    classes = sorted({label for _, _, label in kept if label is not None})
    pixels = [Image.open(io.BytesIO(data)).convert("RGB").resize(shape[::-1]).tobytes() for _, data, _ in kept]
    ids = [classes.index(label) if label is not None else -1 for _, _, label in kept]
    keys = [key for key, _, _ in kept]
    pack.write(folder, pixels, spec=image((3, *shape)), keys=keys, classes=classes, class_ids=ids)


class Views(dict[str, Shown]):
    """``page`` in Chromium: wide, narrow and dark, each when it is asked for, with the results of two expressions."""

    def __init__(self, page: Path, *, wide: str = "", dark: str = "") -> None:
        super().__init__()
        self._page = page
        self._how = {"wide": {"evaluate": wide}, "narrow": {"width": 400}, "dark": {"dark": True, "evaluate": dark}}

    def __missing__(self, view: str) -> Shown:
        with Browser() as browser:
            self[view] = browser.open(self._page, **self._how[view])
        return self[view]


def model_states(
    root: Path, *, hostile: bool = True, classes: int = 3, shape: tuple[int, int] = (SIDE, SIDE)
) -> dict[str, Path]:
    """Write pixels, candidate and evaluation below ``root``; the keywords of stage ``report``."""
    data = data_states(root, drop=False, hostile=hostile, labels=classes > 0, shape=shape)
    names = json.loads((data["pixels"] / "header.json").read_text("utf-8"))["classes"]
    model, evaluation = root / "models" / "candidate", root / "models" / "evaluation"
    model.mkdir(parents=True)
    evaluation.mkdir()
    _candidate(model, names, hostile, {"side": shape[0]} if shape[0] == shape[1] else {})
    _evaluation(evaluation, names, pack.read_keys(data["pixels"]), (*shape, 3))
    return {"pixels": data["pixels"], "model": model, "evaluation": evaluation, "page": root / "reports" / "model.html"}


def _candidate(model: Path, names: list[str], hostile: bool, square: dict[str, int]) -> None:
    settings = {"format": 1, "classes": names, "null_class": len(names) or None, **square, "steps": 12,
                "guidance": 2.5, "images_seen": 20000, "train_images": 24}  # fmt: skip
    _json(model / "stillroom.json", settings)
    card = f"---\nlicense: apache-2.0\n---\n\n# A denoiser\n\nIt was trained on {SCRIPT if hostile else 'pictures'}.\n"
    (model / "README.md").write_text(card, "utf-8")
    lines = []
    for step in range(1000, 20001, 1000):
        losses = {f"loss/level_{level}": 1.0 / (level + 1) + 100 / step for level in range(8)}
        lines.append({"step": step, "loss": 0.1 + 500 / step, **losses, "learning_rate": 2e-3, "grad_norm": 0.4})
        if step % 5000 == 0:
            errors = {f"x0_error/sigma_{sigma}": 0.01 * sigma for sigma in (0.05, 0.2, 1.0, 20.0)}
            lines.append({"step": step, "x0_error": 0.02 + 100 / step, **errors})
    (model / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")


def _evaluation(folder: Path, names: list[str], keys: list[str], shape: tuple[int, int, int]) -> None:
    random = np.random.default_rng(5)
    ids = [at % len(names) if names else -1 for at in range(18)]
    scores = {
        "x0_error": {"value": 0.02345, "low": 0.0221, "high": 0.0249},
        "kid_efficientnet_lite0": {"value": 0.1234, "low": 0.11, "high": 0.14,
                                   "floor": {"value": 0.0021, "low": -0.001, "high": 0.004}},
        "fd_efficientnet_lite0": {"value": 87.6, "low": 80.0, "high": 95.5,
                                  "floor": {"value": 31.5, "low": 30.0, "high": 33.0}},
        "coverage_efficientnet_lite0": {"value": 0.71, "low": 0.66, "high": 0.75, "images": 18, "against": 6,
                                        "ceiling": {"value": 0.93, "low": 0.9, "high": 0.96}},
    }  # fmt: skip
    sigmas = [0.05, 0.1, 0.3, 0.7, 1.7, 4.0, 9.0, 20.0]
    whole = {
        "format": 1, "confidence": 0.95, "counts": {"train": 24, "test": 3, "samples": len(ids)}, "scores": scores,
        "x0_error_by_sigma": [{"sigma": s, "value": 0.001 + 0.01 * s, "low": 0.0009 + 0.009 * s,
                               "high": 0.0012 + 0.011 * s}
                              for s in sigmas],
        "loss_by_level": [{"level": at, "sigma_low": 0.002 * 4**at, "sigma_high": 0.008 * 4**at,
                           "value": 0.4 / (at + 1),
                           "low": 0.3 / (at + 1), "high": 0.5 / (at + 1)} for at in range(8)],
        "sampler": {"steps": 12, "guidance": 2.5, "autoguidance": 1.0, "seed": 7},
    }  # fmt: skip
    _json(folder / "scores.json", whole)
    (folder / "samples.u8").write_bytes(random.integers(0, 256, (len(ids), *shape), np.uint8).tobytes())
    _json(folder / "samples.json", {"rows": len(ids), **sizes(shape), "classes": names})
    drawn.write(folder, *tables(ids, names, keys))
    per = len(ids) // max(1, len(names))  # three samples of each label less: those are extra
    labels = [{"class_id": number, "samples": [at for at, each in enumerate(ids) if each == number][: per - 3],
               "extra": range(at * 3, at * 3 + 3), "real": range(at, 20, 5)}
              for at, number in enumerate(sorted(set(ids)))]  # fmt: skip
    extra = 3 * len(labels)
    _json(folder / "gallery.json", {"rows": extra, **sizes(shape),
                                    "labels": [{**each, "extra": list(each["extra"]), "real": list(each["real"])}
                                               for each in labels]})  # fmt: skip
    (folder / "gallery.u8").write_bytes(random.integers(0, 256, (extra, *shape), np.uint8).tobytes())
    (folder / "film.u8").write_bytes(random.integers(0, 256, (4, 5, *shape), np.uint8).tobytes())
    _json(
        folder / "film.json",
        {
            "rows": 4,
            "frames": 5,
            **sizes(shape),
            "sigmas": [80.0, 10.0, 2.0, 0.3, 0.0],
            "class_ids": [at % len(names) if names else -1 for at in range(4)],
        },
    )
    random.random((3, 8), np.float32).astype("<f4").tofile(folder / "errors.f32")


def tables(ids: list[int], names: list[str], keys: list[str], *, limit: float = 0.061) -> tuple[dict, dict]:
    """Columns of both tables: samples further and further from their training image, six held-out images."""
    columns = _rows_of(ids, names, [0.05 + 0.01 * at for at in range(len(ids))], keys, limit)
    near = {f"held_out_{name}": columns[f"train_{name}"] for name in ("row", "sha256", "rmse", "similarity")}
    samples = {"sample": range(len(ids)), "seed": [7] * len(ids), "features": [[1.0, 2.0]] * len(ids), **near}
    some = [at % len(names) if names else -1 for at in range(6)]
    held_out = {"row": range(24, 30), "sha256": keys[24:30]}
    return {**samples, **columns}, {**held_out, **_rows_of(some, names, [0.06, *[0.2] * 5], keys, limit)}


def _rows_of(ids: list[int], names: list[str], rmse: list[float], keys: list[str], limit: float) -> dict:
    count = range(len(ids))
    return {
        "class_id": ids, "label": [names[number] if number >= 0 else None for number in ids],
        "train_row": count, "train_sha256": keys[: len(ids)], "train_rmse": rmse,
        "train_similarity": [0.9 - 0.02 * at for at in count], "copy_limit": [limit] * len(ids),
        "copy": [far <= limit for far in rmse],
        "predicted": [names[at // 2 % len(names)] if names else None for at in count],
    }  # fmt: skip


def add_augmented(evaluation: Path, shape: tuple[int, int, int] = (SIDE, SIDE, 3)) -> None:
    """A sheet of three augmented images, six draws each, as stage ``evaluate`` writes it."""
    words = [["mirrored, turned +12°, cut by 20 %, brightness +10 %", "as it is", SCRIPT, "hue -20°", "a", "b"]] * 3
    _json(evaluation / "augmented.json", {"rows": 3, "draws": 6, **sizes(shape), "of": [0, 3, 5], "done": words})
    random = np.random.default_rng(6).integers(0, 256, (3, 6, *shape), np.uint8)
    (evaluation / "augmented.u8").write_bytes(random.tobytes())


def _json(path: Path, content: dict) -> None:
    path.write_text(json.dumps(content), "utf-8")
