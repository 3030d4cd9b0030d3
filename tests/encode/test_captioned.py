"""Stage `encode`: captions of the pack's rows, and nothing where none are asked for."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from report_fixtures import record
from text_fixtures import make_encoder

from components.base import config, files
from components.base.errors import UserError
from components.encode.params import EncodeParams
from components.encode.stage import encode
from components.samples import manifest, pack, spec, texts

TEXT = {"encoder": "minilm", "template": "a picture of {label}", "separator": None, "characters": 60, "tokens": None}
SHA = [f"{at:064x}" for at in range(9)]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    folder = make_encoder(tmp_path_factory.mktemp("encoder") / "bert")
    return {"folder": str(folder), "sha256": files.sha256(folder / "model.safetensors")}


def params(**changes):
    return config.section({"encode": {"text": {**TEXT, **changes}, "latents": None}}, "encode", EncodeParams)


@pytest.fixture
def state(tmp_path):
    """Four images that are kept, and two that show the same as one of them and were rejected."""
    rows = [
        (0, "<b>red</b> fish", "sea", "kept", None, None), (1, None, "round_face", "kept", None, None),
        (2, None, None, "kept", None, None), (3, "red fish", None, "rejected", "duplicate", 0),
        (4, "a swimmer", None, "rejected", "duplicate", 0), (5, "a stone", None, "rejected", "near_duplicate", 0),
        (6, "red fish", None, "kept", None, None),
    ]  # fmt: skip
    records = [
        record(manifest.VERDICTS, arrival=at, sha256=SHA[at], source="s", source_key=str(at), text=text, label=label,
               licence="CC0-1.0", matte="#ffffff", member=True, size=1, verdict=verdict, reason=reason,
               twin=None if twin is None else SHA[twin], position=False)
        for at, text, label, verdict, reason, twin in rows
    ]  # fmt: skip
    verdicts, pixels = tmp_path / "clean", tmp_path / "pixels"
    verdicts.mkdir()
    pixels.mkdir()
    manifest.write(verdicts / "verdicts.parquet", manifest.rows(records, manifest.VERDICTS))
    keys = [SHA[at] for at, row in enumerate(rows) if row[3] == "kept"]
    pack.write(pixels, [bytes(12)] * 4, spec=spec.image((3, 2, 2)), keys=keys, classes=(), class_ids=[-1] * 4)
    made = {name: tmp_path / name for name in ("text", "latents", "facts")}
    return {"verdicts": verdicts, "pixels": pixels, "splits": tmp_path / "splits", **made}


def test_each_row_has_its_captions_and_those_of_its_doubles_or_one_of_its_label(state, encoder):
    metrics = encode(params(encoder=encoder), **state)
    found = texts.read(state["text"], state["pixels"])
    assert [found.of(row) for row in range(found.rows)] == [
        ["red fish", "a swimmer"], ["a picture of round face"], [], ["red fish"]
    ]  # fmt: skip
    assert found.captions == ("red fish", "a swimmer", "a picture of round face")
    assert metrics == {"rows": 4, "captions": 4, "distinct": 3, "of_labels": 1, "without": 1, "several": 1,
                       "long": 0, "new": 3, "truncated": 0}  # fmt: skip


def test_same_captions_same_bytes(state, encoder):
    encode(params(encoder=encoder), **state)
    first = {path.name: path.read_bytes() for path in state["text"].rglob("*") if path.is_file()}
    assert encode(params(encoder=encoder), **state)["new"] == 0, "each caption is encoded once"
    assert first == {path.name: path.read_bytes() for path in state["text"].rglob("*") if path.is_file()}
    assert set(first) == {"header.json", "captions.jsonl", "starts.i32", "numbers.i32", "pooled.f16", "config.json",
                          "tokenizer.json", "tokenizer_config.json", "model.safetensors"}  # fmt: skip


def test_tokens_are_kept_beside_the_same_vectors_and_the_empty_caption_comes_last(state, encoder):
    encode(params(encoder=encoder), **state)
    plain = {path.name: path.read_bytes() for path in state["text"].iterdir() if path.is_file()}
    assert "tokens" not in plain["header.json"].decode()
    assert encode(params(encoder=encoder, tokens=6), **state)["new"] == 0, "the vectors are known"
    first = {path.name: path.read_bytes() for path in state["text"].iterdir() if path.is_file()}
    assert set(first) - set(plain) == {"tokens.f16", "lengths.i32"}
    assert {name for name in plain if first[name] != plain[name]} == {"header.json"}
    found = texts.read(state["text"], state["pixels"])
    assert (found.encoder.tokens, found.encoder.nothing) == (6, 2)
    assert list(pack.read_int32(state["text"] / "lengths.i32")) == [4, 4, 6, 2], "CLS and SEP with them; one was cut"
    assert encode(params(encoder=encoder, tokens=6), **state)["truncated"] == 1
    assert first == {path.name: path.read_bytes() for path in state["text"].iterdir() if path.is_file()}
    assert set(map(Path, first)) >= {path.relative_to(state["text"]) for path in texts.deciding(state["text"])}


def test_without_text_there_is_one_line_and_neither_torch_nor_pyarrow(state):
    assert encode(EncodeParams(text=None, latents=None), **state) == {}
    assert [path.name for path in state["text"].iterdir()] == ["header.json"]
    assert texts.read(state["text"], state["pixels"]) is None
    heavy = {"torch", "pyarrow", "numpy", "onnxruntime"}
    code = f"import components.encode.stage, sys; sys.exit(bool({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], check=False).returncode == 0


@pytest.mark.parametrize(("changes", "said"), [
    ({"template": "a picture"}, "encode.text.template 'a picture' must have {label} in it"),
    ({"characters": 10**6}, "encode.text.characters should be less than or equal to 10000"),
    ({"separator": ""}, "encode.text.separator should have at least 1 character"),
    ({"tokens": 3}, "encode.text.tokens should be greater than or equal to 4"),
    ({"tokens": 513}, "encode.text.tokens should be less than or equal to 512"),
])  # fmt: skip
def test_a_wrong_parameter_is_one_line(changes, said):
    with pytest.raises(UserError) as raised:
        params(**changes)
    assert said in str(raised.value).replace("params.yaml: ", "") and "\n" not in str(raised.value)


def test_text_without_captions_is_one_line_with_what_to_do(state, encoder):
    rows = manifest.read(state["verdicts"] / "verdicts.parquet", manifest.VERDICTS, stage="clean").to_pylist()
    for row in rows:
        row["text"] = "<b></b>"
    manifest.write(state["verdicts"] / "verdicts.parquet", manifest.rows(rows, manifest.VERDICTS))
    with pytest.raises(UserError, match=r"^encode.text: none of 4 images has a caption: name the column .*text_column"):
        encode(params(encoder=encoder, template=None), **state)
    assert not state["text"].exists()


@pytest.mark.parametrize("harm", [
    lambda folder: (folder / "header.json").write_text("[]"),
    lambda folder: (folder / "header.json").write_text('{"format": 9}'),
    lambda folder: (folder / "captions.jsonl").write_text('"one"\n'),
    lambda folder: (folder / "captions.jsonl").write_text("1\n2\n3\n"),
    lambda folder: pack.write_int32(folder / "numbers.i32", [0, 1, 2, 7]),
    lambda folder: pack.write_int32(folder / "starts.i32", [0, 3, 2, 3, 4]),
    lambda folder: (folder / "starts.i32").unlink(),
    lambda folder: (folder / "pooled.f16").write_bytes(bytes(32)),
    lambda folder: (folder / "header.json").write_text(
        (folder / "header.json").read_text().replace('"width": 16', '"width": -1')
    ),
])  # fmt: skip
def test_a_damaged_state_is_one_line(state, encoder, harm):
    encode(params(encoder=encoder), **state)
    harm(state["text"])
    with pytest.raises(UserError, match=r"header.json: not what stage 'encode' writes \(.*\): run it again$"):
        texts.read(state["text"], state["pixels"])


@pytest.mark.parametrize("harm", [
    lambda folder: (folder / "tokens.f16").write_bytes(bytes(32)),
    lambda folder: (folder / "tokens.f16").unlink(),
    lambda folder: (folder / "lengths.i32").unlink(),
    lambda folder: pack.write_int32(folder / "lengths.i32", [4, 4, 7, 2]),
    lambda folder: pack.write_int32(folder / "lengths.i32", [4, 4, 6, 3]),
    lambda folder: pack.write_int32(folder / "lengths.i32", [4, 4, 2]),
    lambda folder: (folder / "header.json").write_text(
        (folder / "header.json").read_text().replace('"tokens": 6', '"tokens": 1e9')
    ),
    lambda folder: (folder / "header.json").write_text(
        (folder / "header.json").read_text().replace('"nothing": 2', '"nothing": 0')
    ),
])  # fmt: skip
def test_damaged_tokens_are_one_line(state, encoder, harm):
    encode(params(encoder=encoder, tokens=6), **state)
    harm(state["text"])
    with pytest.raises(UserError, match=r"header.json: not what stage 'encode' writes \(.*\): run it again$"):
        texts.read(state["text"], state["pixels"])


def test_more_tokens_than_the_encoder_takes_is_one_line(state, encoder):
    with pytest.raises(UserError, match=r"^encode.text.tokens 13: this encoder takes 12 at most: give fewer$"):
        encode(params(encoder=encoder, tokens=13), **state)


def test_another_encoder_makes_other_vectors_of_the_same_captions(state, encoder, tmp_path):
    encode(params(encoder=encoder), **state)
    first = (state["text"] / "pooled.f16").read_bytes()
    folder = make_encoder(tmp_path / "other", seed=1)
    other = {"folder": str(folder), "sha256": files.sha256(folder / "model.safetensors")}
    assert encode(params(encoder=other), **state)["new"] == 3
    assert (state["text"] / "pooled.f16").read_bytes() != first
    with pytest.raises(UserError, match=r"model\.safetensors: its SHA-256 is"):
        encode(params(encoder={**encoder, "sha256": "0" * 64}), **state)


def test_captions_of_another_pack_are_refused(state, encoder):
    encode(params(encoder=encoder), **state)
    (state["pixels"] / "keys.sha256").write_bytes(bytes(128))
    with pytest.raises(UserError, match="of another pack"):
        texts.read(state["text"], state["pixels"])


def test_the_header_of_no_text_is_as_small_as_can_be(state):
    encode(EncodeParams(text=None, latents=None), **state)
    assert json.loads((state["text"] / "header.json").read_text()) == {"captions": None, "format": 1}
