"""A text encoder that is made in a moment, in a folder as transformers saves one, and captions beside a small pack."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch

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
    vectors = torch.randn(len(found.captions), WIDTH, generator=torch.Generator().manual_seed(seed))
    vectors = torch.nn.functional.normalize(vectors, dim=1) * WIDTH**0.5
    made = texts.Encoder(name="folder", sha256="0" * 64, width=WIDTH, longest=12)
    texts.write(folder, texts.Texts(captions=found.captions, starts=found.starts, numbers=found.numbers, encoder=made),
                pixels)  # fmt: skip
    (folder / texts.POOLED).write_bytes(vectors.half().numpy().tobytes())
    assert len(pack.read_keys(pixels)) == len(captions)
    return folder
