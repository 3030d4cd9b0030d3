"""Sources of kind parquet and webdataset, and sources in a store: what is taken in, and what is refused."""

import io
import json
import tarfile
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from data_fixtures import TOLD, collect_params, folder, gather, png, refused, tarred, zipped
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from components.base.errors import UserError
from components.collect.look import fingerprint
from components.collect.memory import MEMORY
from components.samples import shards

PARQUET = {"name": "hf", "kind": "parquet", "location": "hf", "image_column": "image", **TOLD}
WEB = {"name": "wds", "kind": "webdataset", "location": "wds", "text_column": "txt", "label_column": "json.kind.name"}
IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def rows(root, *names):
    return [tuple(row[name] for name in names) for row in shards.read_index(root / "data/raw").to_pylist()]


def bytes_of(root):
    table = shards.read_index(root / "data/raw").to_pylist()
    found = dict(shards.read_bytes(root / "data/raw", [(row["shard"], row["row"]) for row in table]))
    return {row["source_key"]: found[at] for at, row in enumerate(table)}


def error_of(root, *sources):
    with pytest.raises(UserError) as caught:
        gather(root, *sources)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500
    assert not (root / "data/raw").exists()
    return str(caught.value)


# Parquet.


def table(path: Path, images: list, metadata: dict | None = None, **columns: list) -> None:
    """A Parquet file with column ``image`` (a struct, unless it is binary already) and ``columns``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    made = pa.table({"image": pa.array(images, IMAGE) if not isinstance(images, pa.Array) else images, **columns})
    pq.write_table(made.replace_schema_metadata(metadata), path)


def test_a_data_set_as_hugging_face_writes_it_comes_in_with_names_for_labels(tmp_path):
    import datasets

    (tmp_path / "hf").mkdir()
    features = datasets.Features(
        {
            "image": datasets.Image(),
            "label": datasets.ClassLabel(names=["cat", "dog"]),
            "text": datasets.Value("string"),
        }
    )
    images = [{"bytes": png(at), "path": f"{at}.png"} for at in range(3)]
    made = datasets.Dataset.from_dict(
        {"image": images, "label": [1, 0, 1], "text": ["a", "b", None]}, features=features
    )
    made.to_parquet(tmp_path / "hf/train-00000-of-00001.parquet")
    gather(tmp_path, PARQUET)
    shard = "train-00000-of-00001.parquet"
    assert rows(tmp_path, "source_key", "label", "text") == [
        (f"{shard}/0.png", "dog", "a"), (f"{shard}/1.png", "cat", "b"), (f"{shard}/2.png", "dog", None),
    ]  # fmt: skip
    assert bytes_of(tmp_path) == {f"{shard}/{at}.png": png(at) for at in range(3)}


def test_plain_binary_columns_and_paths_that_name_nothing_use_the_row_number(tmp_path):
    table(tmp_path / "hf/a.parquet", pa.array([png(1), png(2)]), text=["x", "y"], label=[3, 4])
    images = [{"bytes": png(at), "path": path} for at, path in enumerate(["same.png", "same.png", None, "../up.png"])]
    table(tmp_path / "hf/b.parquet", images, text=[None] * 4, label=[None] * 4)
    gather(tmp_path, {**PARQUET, "group_column": "label"})
    assert rows(tmp_path, "source_key", "label", "group_key") == [
        ("a.parquet/0", "3", "3"), ("a.parquet/1", "4", "4"), *((f"b.parquet/{at}", None, None) for at in range(4))
    ]  # fmt: skip


def test_what_a_row_lacks_or_has_too_much_of_is_refused_by_its_name(tmp_path):
    images = [{"bytes": png(1), "path": "ok.png"}, {"bytes": None, "path": "/etc/passwd"}, None,
              {"bytes": b"x" * 5000, "path": "big.png"}, {"bytes": png(2), "path": "long.png"},
              {"bytes": png(3), "path": "nul.png"}, {"bytes": png(4), "path": "label.png"}]  # fmt: skip
    info = {"info": {"features": {"label": {"names": ["only"], "_type": "ClassLabel"}}}}
    table(tmp_path / "hf/a.parquet", images, {"huggingface": json.dumps(info)},
          text=["t", "t", "t", "t", "x" * 200_000, "a\0b", "t"], label=[0, 0, 0, 0, -1, 0, 7])  # fmt: skip
    folder(tmp_path, {"README.md": b"hi", "notes.csv": b"x"}, "hf")
    metrics = gather(tmp_path, PARQUET, max_bytes=4096)
    assert refused(tmp_path) == {
        "a.parquet/1": "no_bytes", "a.parquet/2": "no_bytes", "a.parquet/big.png": "too_big", "notes.csv": "not_read",
        "a.parquet/long.png": "bad_text", "a.parquet/nul.png": "bad_text", "a.parquet/label.png": "bad_text",
    }  # fmt: skip
    assert rows(tmp_path, "source_key", "label") == [("a.parquet/ok.png", "only")] and metrics["ignored"] == 1


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"image_column": "img"}, "no column 'img'"),
        ({"image_column": "imagee"}, "did you mean 'image'?"),
        ({"text_column": "txet"}, "did you mean 'text'?"),
        ({"image_column": "text"}, "column 'text' holds string, wanted binary"),
        ({"location": "none"}, "holds no .parquet"),
        ({"location": "gone"}, "not there"),
        ({"location": "bad.parquet"}, "damaged, or no Parquet"),
    ],
)
def test_parquet_that_cannot_be_understood_is_one_line(tmp_path, change, line):
    table(tmp_path / "hf/a.parquet", [{"bytes": png(1), "path": None}], text=["x"], label=["y"])
    folder(tmp_path, {"x.txt": b"x"}, "none")
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 nothing of it PAR1")
    assert line in error_of(tmp_path, {**PARQUET, **change})


def test_a_column_that_unpacks_to_a_bomb_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("components.collect.sources.parquet._BOMB", (1024, 200))
    table(tmp_path / "hf/a.parquet", pa.array([bytes(2**20)]), text=["x"], label=["y"])
    made = pq.read_table(tmp_path / "hf/a.parquet")
    pq.write_table(made, tmp_path / "hf/a.parquet", compression="ZSTD", use_dictionary=False, write_statistics=False)
    assert "a bomb" in error_of(tmp_path, PARQUET)


@pytest.mark.parametrize("byte", [b"\xf4", b"\n"], ids=["no UTF-8", "a new line"])
def test_a_damaged_name_of_a_column_is_told_in_one_line(tmp_path, byte):
    table(tmp_path / "hf/a.parquet", [{"bytes": png(1), "path": None}], text=["x"], label=["y"])
    blob = (tmp_path / "hf/a.parquet").read_bytes()
    (tmp_path / "hf/a.parquet").write_bytes(blob.replace(b"text", b"t" + byte + b"xt"))
    assert "\n" not in error_of(tmp_path, PARQUET)


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 10**6), st.integers(0, 255))
def test_a_damaged_byte_in_a_parquet_file_is_one_line_or_other_pixels(tmp_path, at, value):
    """Never a traceback, a crash or a hang; what the file still says is taken."""
    table(tmp_path / "hf/a.parquet", [{"bytes": png(seed, 8), "path": None} for seed in range(3)], text=["x"] * 3,
          label=["y"] * 3)  # fmt: skip
    blob = bytearray((tmp_path / "hf/a.parquet").read_bytes())
    blob[at % len(blob)] ^= value
    (tmp_path / "hf/a.parquet").write_bytes(blob)
    try:
        gather(tmp_path, PARQUET)
    except UserError as error:
        assert "\n" not in str(error)


def test_only_a_shard_that_changed_is_read_again(tmp_path, monkeypatch):
    table(tmp_path / "hf/a.parquet", [{"bytes": png(1), "path": None}, None], text=["x"] * 2, label=["y"] * 2)
    gather(tmp_path, PARQUET)
    table(tmp_path / "hf/b.parquet", [{"bytes": png(2), "path": None}], text=["x"], label=["y"])
    read = []
    monkeypatch.setattr("components.collect.sources.parquet.ParquetRows.survey", spy(read))
    gather(tmp_path, PARQUET)
    assert read == ["b.parquet"]
    assert rows(tmp_path, "source_key", "member") == [("a.parquet/0", True), ("b.parquet/0", True)]
    assert refused(tmp_path) == {"a.parquet/1": "no_bytes"}
    (tmp_path / "hf/a.parquet").unlink()
    gather(tmp_path, PARQUET)
    assert rows(tmp_path, "source_key", "member") == [("a.parquet/0", False), ("b.parquet/0", True)]
    assert refused(tmp_path) == {} and read == ["b.parquet"]


def spy(read):
    from components.collect.sources.parquet import ParquetRows

    real = ParquetRows.survey

    def survey(self, memory):
        read.append(self._key)
        return real(self, memory)

    return survey


# WebDataset.


def test_samples_of_a_webdataset_come_in_with_their_texts(tmp_path):
    (tmp_path / "wds").mkdir()
    kind = [json.dumps({"kind": {"name": name}}).encode() for name in ("cat", "dog")]
    tarred(tmp_path / "wds/0.tar", {"a/1.jpg": png(1), "a/1.txt": b"one\n", "a/1.json": kind[0], "a/1.cls": b"5"})
    tarred(
        tmp_path / "wds/1.tar.gz", {"2.png": png(2), "2.txt": b"two", "2.json": kind[1], "2.seg.png": png(3)}, "w:gz"
    )
    metrics = gather(tmp_path, {**WEB, "group_column": "txt"})
    assert rows(tmp_path, "source_key", "text", "label", "group_key") == [
        ("0.tar/a/1.jpg", "one", "cat", "one"), ("1.tar.gz/2.png", "two", "dog", "two")
    ]  # fmt: skip
    assert bytes_of(tmp_path) == {"0.tar/a/1.jpg": png(1), "1.tar.gz/2.png": png(2)}
    assert refused(tmp_path) == {"1.tar.gz/2.seg.png": "not_an_image"} and metrics["ignored"] == 1


def test_a_hostile_shard_gives_only_what_is_safe(tmp_path):
    (tmp_path / "wds").mkdir()
    label = b'{"kind": {"name": "x"}}'
    with tarfile.open(tmp_path / "wds/0.tar", "w") as archive:

        def add(name, data=b"", **fields):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            for key, value in fields.items():
                setattr(info, key, value)
            archive.addfile(info, io.BytesIO(data))

        for name, data in {"1.png": png(1), "1.txt": b"t", "1.json": label, "../up.png": png(2),
                           "big.png": bytes(2**21),
                           "alone.txt": b"t", "bad.png": png(3), "bad.json": b"{nope", "list.png": png(4),
                           "list.json": b'{"kind": {"name": []}}', "odd.png": png(5), "odd.txt": b"\xff",
                           "long.txt": bytes(2**20 + 1), "x.npy": b"", ".png": png(6), "1.txt ": b"",
                           "deep.png": png(7), "deep.json": b"[" * 100_000}.items():  # fmt: skip
            add(name, data)
        add("1.png", png(8))
        add("link.png", type=tarfile.SYMTYPE, linkname="/etc/passwd")
        add("fifo.txt", type=tarfile.FIFOTYPE)
    gather(tmp_path, WEB)
    assert {key.removeprefix("0.tar/"): reason for key, reason in refused(tmp_path).items()} == {
        "../up.png": "unsafe_name", "big.png": "too_big", "alone": "file_missing", "bad.png": "bad_text",
        "list.png": "bad_text", "odd.png": "bad_text", "long.txt": "too_big", "1.png": "duplicate_name",
        "x.npy": "not_an_image",
        ".png": "litter", "1.txt ": "not_an_image", "deep.png": "bad_text", "link.png": "link",
        "fifo.txt": "device",
    }  # fmt: skip
    assert [key for (key,) in rows(tmp_path, "source_key")] == ["0.tar/1.png"]


@pytest.mark.parametrize(
    ("members", "cut", "line"),
    [
        ({"1.png": png(1), "1.cls": b"3"}, 0, "no member ends in '.json'"),
        ({"1.png": png(1), "1.txt": b"x", "1.json": b"{}"}, 600, "damaged or cut off"),
        ({"1.pdf": b"x", "1.txt": b"x", "1.json": b"{}"}, 0, "no images in it"),
    ],
)
def test_a_shard_that_cannot_be_understood_is_one_line(tmp_path, members, cut, line):
    (tmp_path / "wds").mkdir()
    path = tarred(tmp_path / "wds/0.tar", members)
    data = path.read_bytes()
    path.write_bytes(data[: len(png(1)) + cut] if cut else data)
    assert line in error_of(tmp_path, WEB)


# Stores.


FILES = {"a/1.png": png(1), "b/2.png": png(2), "odd.pdf": b"x", "LICENSE": b"free", "metadata.csv":
         b"file_name,text,label\na/1.png,one,x\nb/2.png,two,y\n"}  # fmt: skip


def test_a_prefix_of_a_store_is_a_folder(memory, tmp_path):
    for key, data in FILES.items():
        memory.pipe(f"/bucket/set/{key}", data)
    folder(tmp_path, FILES, "local")
    gather(tmp_path, {"location": "memory://bucket/set", **TOLD})
    far = rows(tmp_path, "source_key", "sha256", "text", "label"), refused(tmp_path)
    gather(tmp_path / "other", {"location": str(tmp_path / "local"), **TOLD})
    assert far == (rows(tmp_path / "other", "source_key", "sha256", "text", "label"), refused(tmp_path / "other"))


@pytest.mark.parametrize("pack", [zipped, tarred, lambda path, files: tarred(path, files, "w:gz")])
def test_an_object_of_a_store_is_an_archive(memory, tmp_path, pack):
    memory.pipe("/bucket/archive", pack(tmp_path / "here", FILES).read_bytes())
    gather(tmp_path, {"location": "memory://bucket/archive", **TOLD})
    assert rows(tmp_path, "source_key", "text") == [("a/1.png", "one"), ("b/2.png", "two")]


def test_shards_in_a_store_are_read_there(memory, tmp_path):
    table(tmp_path / "a.parquet", [{"bytes": png(1), "path": None}], text=["x"], label=["y"])
    memory.pipe("/hf/a.parquet", (tmp_path / "a.parquet").read_bytes())
    memory.pipe("/wds/0.tar", tarred(tmp_path / "0.tar", {"1.png": png(2)}).read_bytes())
    none = {"text_column": None, "label_column": None}
    gather(tmp_path, {**PARQUET, "location": "memory://hf"}, {**WEB, **none, "location": "memory://wds"})
    assert bytes_of(tmp_path) == {"a.parquet/0": png(1), "0.tar/1.png": png(2)}


def test_content_that_changes_in_a_store_without_marks_is_seen(memory, tmp_path):
    memory.pipe("/bucket/a.png", png(1))
    params = collect_params(location="memory://bucket")
    before = fingerprint(params, root=tmp_path)
    memory.pipe("/bucket/a.png", png(1)[:-1] + b"x")
    assert fingerprint(params, root=tmp_path) != before


@pytest.mark.parametrize(
    ("location", "line"),
    [
        ("memory://nothing", "not there"),
        ("nosuch://bucket", "nosuch"),
        ("https://example.org/a.zip", "kind urls"),
        ("file:///etc", "a plain path"),
        ("zip://a.png::memory://bucket", "wanted one address"),
    ],
)
def test_an_address_that_leads_nowhere_is_one_line(memory, tmp_path, location, line):
    assert line in error_of(tmp_path, {"location": location})


@pytest.fixture(scope="module")
def bucket():
    """An S3 server on this machine, its address and credentials in the environment."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "visitor")
        patch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        fs = fsspec.filesystem("s3", skip_instance_cache=True)
        fs.mkdir("pictures")
        yield fs
    server.stop()


SECRET = "open-sesame-0123"


@pytest.mark.slow  # the server and the client take seconds to import
def test_a_bucket_is_read_once_and_then_known_by_its_marks(bucket, tmp_path, monkeypatch):
    for key, data in {**FILES, "a/[x]*.png": png(5), "empty.png": b"", "a/../up.png": png(6)}.items():
        bucket.pipe_file(f"pictures/set/{key}", data)
    source = {"location": "s3://pictures/set", "text_column": None, "label_column": None}
    cache = tmp_path / ".stillroom/collect" / MEMORY
    bucket.rm_file("pictures/set/metadata.csv")
    gather(tmp_path, source, cache=cache)
    keys = [key for (key,) in rows(tmp_path, "source_key")]
    assert keys == ["a/1.png", "a/[x]*.png", "b/2.png", "empty.png"]
    assert bytes_of(tmp_path)["a/[x]*.png"] == png(5)
    bucket.pipe_file("pictures/set/c.png", png(7))
    asked = []
    from components.collect.sources.remote import RemoteFolder

    real = RemoteFolder._whole
    monkeypatch.setattr(RemoteFolder, "_whole", lambda self, item: asked.append(item.key) or real(self, item))
    assert gather(tmp_path, source, cache=cache)["items"] == 5
    assert asked == ["c.png"], "what is known by its mark is not fetched again"
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or SECRET.encode() not in path.read_bytes(), path


@pytest.mark.slow
def test_credentials_that_are_wrong_or_missing_are_one_line_without_them(bucket, tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    line = error_of(tmp_path, {"location": "s3://elsewhere/set"})
    assert "s3://elsewhere/set: cannot be read" in line and SECRET not in line
