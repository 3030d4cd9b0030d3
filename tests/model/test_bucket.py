"""A release in a store holds what a release in a folder does, byte for byte, each file read back."""

import json

import buckets
import fsspec
import pytest
from mirrors import FILES, OLDER, mirror

from components.base.errors import UserError
from consume import pull
from flows.model import bucket, release


@pytest.fixture
def address():
    """An empty store, fsspec's own in this process."""
    fsspec.filesystem("memory").store.clear()
    return "memory://shelf/models"


@pytest.fixture
def s3():
    """An empty bucket, as moto serves it."""
    with buckets.bucket("shelf") as address:
        yield f"{address}/models"


def contents(address):
    fs, root = fsspec.core.url_to_fs(address, skip_instance_cache=True)
    return {path.removeprefix(root).lstrip("/"): fs.cat_file(path) for path in fs.find(root)}


def folder(place):
    return {each.relative_to(place).as_posix(): each.read_bytes() for each in place.rglob("*") if each.is_file()}


@pytest.mark.parametrize("store", ["address", pytest.param("s3", marks=pytest.mark.slow)])
def test_it_holds_what_a_folder_does_and_mends_what_is_damaged(registry, store, tmp_path, request):
    address = request.getfixturevalue(store)
    said = bucket.write(registry, "denoiser", {"champion": 2}, [1, 2], address)
    assert said == f"{address}: denoiser@champion is version 2; versions 1, 2, every file checked"
    (tmp_path / "mirror").mkdir()
    release.write(registry, "denoiser", {"champion": 2}, [1, 2], tmp_path / "mirror")
    assert contents(address) == folder(tmp_path / "mirror")
    fs, root = fsspec.core.url_to_fs(address, skip_instance_cache=True)
    fs.pipe_file(f"{root}/versions/{registry.resolve('denoiser', 'champion', 2)[1]}/model.onnx", b"weightz")
    bucket.write(registry, "denoiser", {"champion": 2}, [2], address)
    assert contents(address) == folder(tmp_path / "mirror"), "what is there stays, and what is damaged is mended"


def test_what_the_store_gives_back_otherwise_is_not_named(registry, address, monkeypatch):
    bucket.write(registry, "denoiser", {"champion": 1}, [1], address)
    before = contents(address)["registry.json"]
    true = bucket.Bucket.put
    monkeypatch.setattr(bucket.Bucket, "put", lambda self, place, path: [
        true(self, place, path), self._fs.pipe_file(f"{self._root}/{path}/model.onnx", b"weightz")
    ])  # fmt: skip
    with pytest.raises(pull.PullError, match=r"model\.onnx: not what MANIFEST\.json promises"):
        bucket.write(registry, "denoiser", {"champion": 2}, [2], address)
    assert contents(address)["registry.json"] == before


def test_a_number_of_another_version_and_what_is_no_mirror_are_refused(registry, address, tmp_path):
    bucket.write(registry, "denoiser", {"champion": 1}, [1, 2], address)
    (tmp_path / "swapped").mkdir()
    with pytest.raises(UserError, match="holds another version under that number"):
        bucket.write(mirror(tmp_path / "swapped", FILES, OLDER), "denoiser", {"champion": 1}, [1], address)
    fs, root = fsspec.core.url_to_fs(address, skip_instance_cache=True)
    fs.pipe_file(f"{root}/registry.json", json.dumps({"format": 2}).encode())
    with pytest.raises(UserError, match=r"registry\.json: not a mirror of format 1"):
        bucket.write(registry, "denoiser", {"champion": 1}, [1], address)


@pytest.mark.parametrize("where", ["nowhere://x", "zip://a::memory://b", "s3://no-such-bucket-here/x"])
def test_an_address_that_leads_nowhere_is_one_line(registry, where, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "visitor")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush")
    with pytest.raises(UserError, match=where.partition(":")[0]) as raised:
        bucket.write(registry, "denoiser", {"champion": 1}, [1], where)
    assert "\n" not in str(raised.value) and "hush" not in str(raised.value)
