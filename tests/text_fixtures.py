"""A text encoder that is made in a moment, in a folder as transformers saves one, and captions beside a small pack."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import torch
from train_fixtures import make_pack

from components.embed import sentences
from components.encode import vectors
from components.samples import pack, texts

WORDS = ("a", "red", "blue", "green", "fish", "stone", "left", "right", "both", "of", "picture", "dark", "side", ".")
WIDTH = 16


def make_encoder(folder: Path, *, words: Sequence[str] = WORDS, longest: int = 12, seed: int = 0) -> Path:
    """A BERT of two layers and 16 channels that knows ``words``, one token each, with weights of ``seed``."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel

    folder.mkdir(parents=True)
    vocabulary = {word: at for at, word in enumerate(("[PAD]", "[UNK]", "[CLS]", "[SEP]", *words))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    ends = [(name, vocabulary[name]) for name in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"model_max_length": longest}))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = BertConfig(
            vocab_size=len(vocabulary), hidden_size=WIDTH, num_hidden_layers=2, num_attention_heads=2,
            intermediate_size=32, max_position_embeddings=longest,
        )  # fmt: skip
        BertModel(config).save_pretrained(folder)
    return folder


def tell(folder: Path, pixels: Path, captions: Sequence[Sequence[str]], seed: int = 0) -> Path:
    """Write ``captions`` of each row of ``pixels`` into ``folder``, as stage `encode` does, with random vectors."""
    folder.mkdir(parents=True)
    found = texts.collected(captions)
    pooled = torch.randn(len(found.captions), WIDTH, generator=torch.Generator().manual_seed(seed))
    pooled = torch.nn.functional.normalize(pooled, dim=1) * WIDTH**0.5
    made = texts.Encoder(name="folder", sha256="0" * 64, width=WIDTH, longest=12)
    texts.write(folder, dataclasses.replace(found, encoder=made), pixels)
    (folder / texts.POOLED).write_bytes(pooled.half().numpy().tobytes())
    assert len(pack.read_keys(pixels)) == len(captions)
    return folder


SAID = ("dark left side", "dark right side", "dark both side")


def told_pack(folder: Path, tokens: int = 0, *, side: int = 8) -> dict[str, Path]:
    """A pack, and beside it two captions a class, encoded by a small BERT; a seventh of the rows has none."""
    pixels, splits = make_pack(folder, side=side)
    said = [[SAID[kind], f"a picture of {SAID[kind]}"] if kind >= 0 else [] for kind in pack.read_classes(pixels)]
    encoder, text, collected = make_encoder(folder / "bert"), folder / "text", texts.collected(said)
    made = vectors.made("folder", encoder, collected.captions, folder / "facts", tokens)
    text.mkdir()
    texts.write(text, dataclasses.replace(collected, encoder=made.encoder), pixels)
    made.write(text)
    sentences.copy(encoder, text / texts.ENCODER)
    return {"pixels": pixels, "splits": splits, "text": text}
