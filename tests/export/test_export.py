"""`stillroom data export`: what is written is read by the tools it is for, and comes back as it was."""

import hashlib
import json
import re
import tarfile
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from checkouts import tree
from data_checkout import HOSTILE, built
from data_fixtures import TOLD, digests, gather
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from components.base.errors import UserError
from components.decode.images import decode
from components.decode.stripped import stripped
from components.export import formats, writer
from components.samples import manifest, shards
from flows.data import export
from flows.workspace.paths import State

EVERY = ("train", "val", "test", "quarantine")


def write(target, layout, **changes):
    asked = {"to": target, "layout": layout, "splits": EVERY, "rev": "now", "size": "original", "overwrite": False}
    return export.export(State(built()), export.Request(**{**asked, **changes}), dry_run=False)


@pytest.fixture(scope="module")
def kept():
    """What must come out: (label, caption) of each kept image by SHA-256."""
    rows = manifest.read(built() / "data/clean/verdicts.parquet", manifest.VERDICTS, stage="clean").to_pylist()
    return {row["sha256"]: (row["label"], row["text"]) for row in rows if row["verdict"] == "kept"}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("export")
    for layout in writer.LAYOUTS:
        write(folder / layout, layout)
    return folder


@pytest.fixture(scope="module")
def datasets(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setenv("HF_HOME", str(tmp_path_factory.mktemp("hf")))
        import datasets

        patch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
        datasets.disable_progress_bars()
        yield datasets


def test_hugging_face_reads_the_parquet_with_images_and_classes(written, kept, datasets):
    found = datasets.load_dataset("parquet", data_dir=str(written / "parquet"))
    assert sum(len(split) for split in found.values()) == len(kept)
    train = found["train"]
    assert isinstance(train.features["image"], datasets.Image)
    names = train.features["label"].names
    assert names == sorted({label for label, _ in kept.values() if label})
    for split in found.values():
        for row in split:
            assert row["image"].size[0] >= 32
            label = names[row["label"]] if row["label"] is not None else None
            assert (label, row["text"]) == kept[row["sha256"]]


@pytest.mark.slow(3)
def test_hugging_face_reads_the_imagefolder(written, kept, datasets):
    found = datasets.load_dataset("imagefolder", data_dir=str(written / "imagefolder"))
    rows = [row for split in found.values() for row in split]
    assert {row["sha256"]: (row["label"], row["text"]) for row in rows} == kept
    assert all(row["image"].size[0] >= 32 for row in rows)
    assert isinstance(found["train"].class_encode_column("label").features["label"], datasets.ClassLabel)


def test_torchvision_finds_the_labels_of_a_split_of_the_imagefolder(written, kept):
    from torchvision.datasets import ImageFolder

    found = Counter()
    for split in ("train", "val", "test"):
        folder = ImageFolder(written / "imagefolder" / split)
        named = {
            formats.label_folders([label])[label]: label
            for label in sorted({text for text, _ in kept.values() if text})
        }
        assert set(folder.classes) <= set(named)
        for path, at in folder.samples:
            label = named[folder.classes[at]]
            found[label] += 1
            assert kept[Path(path).stem][0] == label
    assert found == Counter(label for label, _ in kept.values() if label is not None)


@pytest.mark.parametrize(
    ("labels", "folders"),
    [
        (["cat", "dog house", "Vögel", "鳥"], ["cat", "dog house", "Vögel", "鳥"]),
        (["..", "a/b", "/etc", ".hidden"], ["%2E%2E", "a%2Fb", "%2Fetc", "%2Ehidden"]),
        (["100%", "100%25", "\x1b[31m", " ", "a "], ["100%25", "100%2525", "%1B%5B31m", "%20", "a"]),
        (["CON:", "tab\t"], ["CON%3A", "tab%09"]),
    ],
)
def test_a_label_becomes_a_name_that_every_file_system_takes(labels, folders):
    assert list(formats.label_folders(labels).values()) == folders


@given(st.lists(st.text(min_size=1, max_size=300), max_size=8, unique=True))
def test_no_two_labels_share_a_folder(labels):
    names = list(formats.label_folders(labels).values())
    assert len({name.casefold() for name in names}) == len(labels)
    assert all("/" not in name and name not in ("", ".", "..") and len(name.encode()) <= 255 for name in names)


def test_webdataset_reads_the_shards(written, kept):
    import webdataset

    paths = sorted(str(path) for path in (written / "webdataset").glob("*.tar"))
    found = {sample["__key__"]: sample for sample in webdataset.WebDataset(paths, shardshuffle=False).decode("pil")}
    assert set(found) == set(kept)
    for name, sample in found.items():
        assert (sample["json"]["label"], sample.get("txt")) == kept[name]
        image = next(sample[suffix] for suffix in ("png", "jpg") if suffix in sample)
        assert isinstance(image, Image.Image)


def test_originals_are_byte_for_byte_and_called_by_their_hash(written, kept):
    found = {}
    for name, data in tree(written / "imagefolder").items():
        if name.endswith((".png", ".jpg")):
            found[name.split("/")[-1].split(".")[0]] = hashlib.sha256(data).hexdigest()
            assert (data[:2] == b"\xff\xd8") == name.endswith(".jpg")
    assert found == {name: name for name in kept}
    names = [path.name for layout in writer.LAYOUTS for path in (written / layout).rglob("*")]
    assert all(re.fullmatch(r"[\w %.-]+", name, re.ASCII) for name in names)


BACK = {
    "imagefolder": TOLD,
    "parquet": {"kind": "parquet", "image_column": "image", **TOLD},
    "webdataset": {"kind": "webdataset", "text_column": "txt", "label_column": "json.label"},
}


@pytest.mark.parametrize("layout", BACK)
def test_what_was_exported_comes_back_as_it_was(written, kept, tmp_path, layout):
    (tmp_path / "source").symlink_to(written / layout)
    gather(tmp_path, **BACK[layout])
    index = shards.read_index(tmp_path / "data/raw").to_pylist()
    assert {row["sha256"]: (row["label"], row["text"]) for row in index} == kept


@pytest.mark.parametrize("layout", writer.LAYOUTS)
def test_the_same_state_gives_the_same_bytes(written, layout, tmp_path):
    write(tmp_path / layout, layout)
    assert digests(tmp_path / layout) == digests(written / layout)


def test_shards_end_when_they_are_full_and_names_say_how_many(kept, tmp_path, monkeypatch):
    monkeypatch.setattr(formats, "SHARD_BYTES", 4000)
    write(tmp_path / "parquet", "parquet", splits=("train",))
    write(tmp_path / "tar", "webdataset", splits=("train",))
    parts = sorted(path.name for path in (tmp_path / "parquet/data").iterdir())
    assert len(parts) > 2
    assert parts[-1] == f"train-{len(parts) - 1:05d}-of-{len(parts):05d}.parquet"
    rows = [name for part in parts for name in pq.read_table(tmp_path / "parquet/data" / part)["sha256"].to_pylist()]
    in_tars = []
    for path in sorted((tmp_path / "tar").glob("*.tar")):
        with tarfile.open(path) as archive:
            members = archive.getmembers()
            assert {(member.mtime, member.uid, member.gid, member.uname) for member in members} == {(0, 0, 0, "")}
            in_tars += [member.name.split(".")[0] for member in members if member.name.endswith(".json")]
    assert rows == in_tars
    assert len(set(rows)) == len(rows)


def test_pixels_are_what_training_sees(kept, tmp_path):
    write(tmp_path / "out", "imagefolder", size="pixels", splits=("val",))
    images = sorted((tmp_path / "out/val").rglob("*.png"))
    assert images
    assert {Image.open(path).size for path in images} == {(16, 16)}
    assert {path.stem for path in images} <= set(kept)


def test_a_target_that_holds_something_is_refused_and_left_alone(tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "full")
    for name in ("full", "file", "link"):
        with pytest.raises(UserError, match="new or an empty"):
            write(tmp_path / name, "parquet")
    assert (tmp_path / "full/mine.txt").read_text() == "mine"
    for name in ("full", "file", "link"):
        with pytest.raises(UserError, match="new or an empty"):
            write(tmp_path / name, "parquet", overwrite=True)
    assert (tmp_path / "full/mine.txt").read_text() == "mine"
    (tmp_path / "empty").mkdir()
    assert "wrote now" in write(tmp_path / "empty", "webdataset", splits=("test",))


def test_an_earlier_export_is_replaced_when_that_is_asked_for(tmp_path):
    write(tmp_path / "out", "parquet")
    with pytest.raises(UserError, match="add --overwrite to replace this export"):
        write(tmp_path / "out", "imagefolder")
    write(tmp_path / "out", "imagefolder", overwrite=True)
    assert not (tmp_path / "out/data").exists() and (tmp_path / "out/train/metadata.csv").is_file()
    for layout in writer.LAYOUTS:
        write(tmp_path / "out", layout, overwrite=True)


@pytest.mark.parametrize("mine", [".git/HEAD", "notes.md", "train/notes.md", "train/cats/mine.png"])
def test_what_is_no_export_s_is_not_removed_with_it(tmp_path, mine):
    write(tmp_path / "out", "imagefolder")
    (tmp_path / "out" / mine).parent.mkdir(exist_ok=True)
    (tmp_path / "out" / mine).write_text("mine")
    with pytest.raises(UserError, match=f"replaces an export and nothing else, and {mine} is of none"):
        write(tmp_path / "out", "imagefolder", overwrite=True)
    assert (tmp_path / "out" / mine).read_text() == "mine"


@pytest.mark.parametrize("place", ["data/clean/out", "data", "models/out", ".stillroom/out", "reports"])
def test_no_export_lies_where_a_stage_would_remove_it(place):
    before = tree(built() / "data")
    with pytest.raises(UserError, match="of the project, which is its own: name a folder elsewhere"):
        write(built() / place, "parquet")
    assert tree(built() / "data") == before


def test_what_fails_half_way_leaves_nothing(tmp_path, monkeypatch):
    def broken(*arguments):
        raise OSError("no more")

    monkeypatch.setattr(formats, "card", broken)
    with pytest.raises(OSError, match="no more"):
        write(tmp_path / "out", "parquet")
    assert list(tmp_path.iterdir()) == []


def test_dry_run_writes_nothing(tmp_path):
    asked = export.Request(
        to=tmp_path / "out", layout="parquet", splits=("train",), rev="HEAD", size="original", overwrite=False
    )
    assert "would write HEAD" in export.export(State(built()), asked, dry_run=True)
    assert list(tmp_path.iterdir()) == []


def test_the_card_names_sources_licences_and_classes_as_text(written, kept):
    text = (written / "parquet/README.md").read_text("utf-8")
    assert "Apache-2.0" in text
    classes = json.loads(text.split("```json\n")[1].split("```")[0])
    assert HOSTILE in classes
    assert Counter(label for label, _ in kept.values() if label).keys() == set(classes)


def test_stripped_files_show_what_the_originals_show(written, tmp_path):
    write(tmp_path / "bare", "imagefolder", size="stripped")
    names = sorted(path.relative_to(tmp_path / "bare") for path in (tmp_path / "bare").rglob("*.[jp][pn]g"))
    assert names == sorted(
        path.relative_to(written / "imagefolder") for path in (written / "imagefolder").rglob("*.[jp][pn]g")
    )
    for name in names:
        old, new = ((folder / name).read_bytes() for folder in (written / "imagefolder", tmp_path / "bare"))
        assert new == stripped(old) and (decode(new, "#ffffff", max_pixels=10**6).pixels
                                         == decode(old, "#ffffff", max_pixels=10**6).pixels).all()  # fmt: skip
