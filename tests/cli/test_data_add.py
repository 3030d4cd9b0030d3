"""`stillroom data add`: what it writes, what it guesses and what it refuses."""

import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from checkouts import ROOT
from data_fixtures import folder, png, tarred, zipped

from components.base import config
from components.base.errors import UserError
from components.collect.params import CollectParams
from flows.data import add, detect
from flows.workspace.paths import State


@pytest.fixture
def root(tmp_path):
    shutil.copyfile(ROOT / "params.yaml", tmp_path / "params.yaml")
    return tmp_path


def added(root, location: str, *, dry_run: bool = False, **changes: object) -> list[str]:
    defaults = {"name": "mine", "licence": "CC0-1.0", "matte": "#ffffff", "kind": None, "text_column": None,
                "label_column": None, "group_column": None, "url_column": None, "image_column": None}  # fmt: skip
    return add.add(State(root), add.Request(location=location, **{**defaults, **changes}), dry_run=dry_run)


def collect_section(root):
    return config.section(config.read(root / "params.yaml"), "collect", CollectParams)


def test_a_source_is_appended_and_every_other_character_stays(root):
    before = (root / "params.yaml").read_text("utf-8")
    told = b"file_name,label\nb.png,x\na/c.png,y\n"
    folder(root, {"b.png": png(1), "a/c.png": png(2), "notes.doc": b"x", "metadata.csv": told}, "pictures")
    lines = added(root, "pictures", matte="#00ff00", licence="on: # no comment", label_column="label")
    after = (root / "params.yaml").read_text("utf-8")
    at = before.index("clean:\n")
    assert after.startswith(before[:at])
    assert after.endswith(before[at:])
    source = collect_section(root).sources[-1]
    assert (source.name, source.kind, source.location) == ("mine", "files", "pictures")
    assert (source.licence, source.matte, source.label_column) == ("on: # no comment", "#00ff00", "label")
    assert "2 images, kind files (detected:" in lines[0]
    assert lines[1] == "  first: a/c.png, b.png"
    assert "  refused: 1 not an image" in lines
    assert "stillroom run" in lines[-1]


def test_a_comment_that_follows_the_last_source_still_stands_before_what_it_speaks_of(root):
    path = root / "params.yaml"
    text = path.read_text("utf-8").replace("clean:\n", "# what is kept\nclean:\n", 1)
    path.write_text(text.replace("group_column: base_codepoint\n", "group_column: base_codepoint  # tones\n\n", 1))
    folder(root, {"a.png": png(1)}, "one")
    added(root, "one")
    assert "  # tones\n    - name: mine\n" in path.read_text("utf-8")
    assert "# what is kept\nclean:\n" in path.read_text("utf-8")


def test_two_are_added_one_after_the_other_and_a_name_is_taken_once(root):
    for at, name in enumerate(("one", "two", "three")):
        folder(root, {"a.png": png(at)}, name)
    added(root, "one")
    added(root, "two", name="other")
    assert [source.name for source in collect_section(root).sources[1:]] == ["mine", "other"]
    with pytest.raises(UserError, match=r"--name MINE: params\.yaml has a source 'mine'"):
        added(root, "three", name="MINE")


def test_a_place_that_is_a_source_already_is_said_whatever_it_is_called(root, monkeypatch):
    folder(root, {"a.png": png(1)}, "one")
    (root / "link").symlink_to("one")
    added(root, "one")
    before = (root / "params.yaml").read_bytes()
    monkeypatch.chdir(root.parent)
    for location in ("one/", str(root / "one"), f"{root.name}/one", "link", "./one"):
        with pytest.raises(UserError, match=r": source 'mine' reads it already: `stillroom run` takes in what is new"):
            added(root, location, name="other")
    assert (root / "params.yaml").read_bytes() == before


def test_a_dry_run_and_an_error_write_nothing(root):
    before = (root / "params.yaml").read_bytes()
    folder(root, {"a.png": png(1)}, "one")
    folder(root, {"notes.doc": b"x"}, "none")
    assert added(root, "one", dry_run=True)[0].startswith("would add source mine")
    for location, words in (("none", "no image found as kind files .refused: not_an_image 1."),
                            ("nowhere", "nowhere: not found")):  # fmt: skip
        with pytest.raises(UserError, match=words):
            added(root, location)
    with pytest.raises(UserError, match="one: is a folder: kind urls"):
        added(root, "one", kind="urls")
    for changes in ({"name": "a/b"}, {"matte": "white"}, {"licence": ""}, {"url_column": "url"}):
        with pytest.raises(UserError):
            added(root, "one", **changes)
    assert (root / "params.yaml").read_bytes() == before


@pytest.mark.parametrize("location", ["https://me:hunter2@host/list.csv", "s3://bucket/x?X-Amz-Signature=hunter2"])
def test_credentials_are_refused_and_not_repeated(root, location):
    with pytest.raises(UserError, match="credentials") as caught:
        added(root, location)
    assert "hunter2" not in str(caught.value)


def test_a_list_of_addresses_is_counted_and_not_downloaded(root):
    (root / "list.txt").write_text("https://example.org/a.png\nhttps://example.org/b.png\nno address\n")
    lines = added(root, "list.txt")
    assert "2 addresses, downloaded by the next `stillroom look`, kind urls" in lines[0]
    assert "  refused: 1 bad url" in lines
    source = collect_section(root).sources[-1]
    assert (source.url_column, source.private, source.obey) == (None, False, True)


def test_sources_in_brackets_are_left_alone(root):
    path = root / "params.yaml"
    text = path.read_text("utf-8")
    start, end = text.index("  sources:\n"), text.index("clean:\n")
    entry = config.parse(text)["collect"]["sources"][0]
    path.write_text(f"{text[:start]}  sources: [{entry!r}]\n{text[end:]}".replace("None", "null"))
    folder(root, {"a.png": png(1)}, "one")
    with pytest.raises(UserError, match="written in brackets"):
        added(root, "one")


def test_the_kind_is_guessed_from_the_name_and_the_first_of_the_content(tmp_path):
    folder(tmp_path, {"a.png": png(1)}, "folder")
    zipped(tmp_path / "archive.zip", {"a.png": png(1)})
    tarred(tmp_path / "plain.tar", {"a.png": png(1), "b.png": png(2), "metadata.csv": b"file_name\n"})
    tarred(tmp_path / "web.tar", {"1.png": png(1), "1.json": b"{}"})
    folder(tmp_path, {"0.tar": (tmp_path / "web.tar").read_bytes()}, "shards")
    (tmp_path / "list.CSV").write_text("url\n")
    image = pa.array([{"bytes": png(1), "path": "a"}])
    (tmp_path / "tables").mkdir()
    pq.write_table(pa.table({"label": [1], "picture": image}), tmp_path / "tables/0.parquet")
    pq.write_table(pa.table({"url": ["https://example.org"]}), tmp_path / "urls.parquet")
    (tmp_path / "damaged.tar").write_bytes(b"no tar")
    wanted = {"folder": "files", "archive.zip": "files", "plain.tar": "files", "web.tar": "webdataset",
              "shards": "webdataset", "list.CSV": "urls", "tables": "parquet", "tables/0.parquet": "parquet",
              "urls.parquet": "urls", "damaged.tar": "files", "s3://bucket/prefix": "files",
              "s3://bucket/list.jsonl": "urls", "s3://bucket/x.parquet": "parquet"}  # fmt: skip
    assert {name: detect.kind(tmp_path, name)[0] for name in wanted} == wanted
    assert detect.image_column(tmp_path, "tables") == "picture"
    tables = {f"{number:03d}.parquet": b"" for number in range(100, 0, -1)}  # more than are looked at
    folder(tmp_path, {**tables, "last.png": b""}, "many")
    folder(tmp_path, {**tables, "000.png": b""}, "mixed")
    assert [detect.kind(tmp_path, name)[0] for name in ("many", "mixed")] == ["parquet", "files"]
    assert detect.image_column(tmp_path, "urls.parquet") is None
