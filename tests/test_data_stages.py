"""The data side as a whole: the same bytes from any folder, and no tables where they are only looked at."""

from pathlib import Path

import starting
from data_fixtures import (
    clean_params,
    collect_params,
    digests,
    encoded,
    pixels,
    png,
    resize_params,
    split_params,
    zipped,
)

from components import pipeline
from components.collect.look import look
from components.collect.memory import MEMORY

PARAMS = {"collect": collect_params, "clean": clean_params, "resize": resize_params, "split": split_params}


def members():
    rows = "".join(f"images/{n:02d}.png,picture {n},{'xyz'[n % 3]}\n" for n in range(24))
    files = {f"images/{n:02d}.png": png(n) for n in range(20)}
    files |= {f"images/{n:02d}.png": encoded(pixels(n - 20), "JPEG", quality=95) for n in range(20, 24)}
    return {"metadata.csv": b"file_name,text,label\n" + rows.encode(), **files, "LICENSE": b"free", "odd.pdf": b"%"}


def build(root: Path, working: Path, monkeypatch) -> dict[str, str]:
    root.mkdir()
    working.mkdir(exist_ok=True)
    zipped(root / "source", members())
    monkeypatch.chdir(working)
    (root / "data").mkdir()
    for name in ("withdrawn", "decisions"):
        (root / f"data/{name}.jsonl").touch()
    look(collect_params(), root=root, page=root / "data/source.json", cache=root / ".stillroom/collect" / MEMORY)
    for name, params in PARAMS.items():
        pipeline.stage(name).run(params(), root)
    return outputs(root)


def outputs(root: Path) -> dict[str, str]:
    return {name: digest for name, digest in digests(root).items() if not name.startswith(".stillroom/")}


def test_the_same_inputs_give_the_same_bytes_from_two_working_directories(tmp_path, monkeypatch):
    one = build(tmp_path / "one", tmp_path / "one", monkeypatch)
    two = build(tmp_path / "somewhere else", tmp_path / "there", monkeypatch)
    assert one == two
    names = {Path(name).name for name in one}
    assert {"source.json", "index.parquet", "verdicts.parquet", "pairs.parquet", "header.json", "train.i32"} <= names
    again = outputs(tmp_path / "one")
    monkeypatch.chdir(tmp_path)
    for name, params in PARAMS.items():
        pipeline.stage(name).run(params(), tmp_path / "one")
    assert outputs(tmp_path / "one") == again


def test_no_output_holds_a_path_of_the_machine(tmp_path, monkeypatch):
    build(tmp_path / "one", tmp_path / "one", monkeypatch)
    for name in outputs(tmp_path / "one"):
        assert str(tmp_path).encode() not in (tmp_path / "one" / name).read_bytes(), name


def test_looking_starts_without_tables():
    assert starting.first_with({"pandas", "pyarrow", "numpy", "PIL"}, ["import components.collect.look"]) is None
