"""Tokenizers as files: read, checked, and brought into the one form that is stored.

That form is the tokenizer.json that `tokenizers` writes, with the special tokens in it, so that whoever has the object
can decode a table. Truncation and padding are taken out of it: here a document is never cut.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from pyfactory.errors import InvalidInputError

__all__ = [
    "MAX_VOCAB",
    "TokenizerFile",
    "byte_level",
    "from_stored",
    "from_tokenizer",
    "from_tokenizer_json",
    "from_vocab_and_merges",
]

MAX_VOCAB = 2**24
"""Token ids must be less: both libraries need memory for every id up to the greatest."""

_SAVED = "take what Tokenizer.save() of the library tokenizers wrote"
_RESTORE = "restore or download the file again"

_BYTE_SYMBOLS = frozenset(pre_tokenizers.ByteLevel.alphabet())


@dataclass(frozen=True, slots=True)
class TokenizerFile:
    """A tokenizer in its stored form.

    Attributes:
        content: The tokenizer.json.
        vocab_size: One more than the greatest token id.
        value: `content`, parsed.
    """

    content: bytes = field(repr=False)
    vocab_size: int
    value: dict[str, Any] = field(repr=False)

    @property
    def width(self) -> int:
        """Bytes per token that hold every id: 1, 2 or 4."""
        return next(width for width in (1, 2, 4) if self.vocab_size <= 256**width)

    def open(self) -> Tokenizer:
        """Return a new tokenizer of the library `tokenizers`."""
        return Tokenizer.from_str(self.content.decode())

    def with_append(self, text: str) -> tuple[TokenizerFile, int]:
        """Return the tokenizer in which `text` is one token, and the token's id.

        An entry of the vocabulary that no text gives, such as <|endoftext|> in GPT-2, is made a special token.

        Raises:
            InvalidInputError: `text` is not one token of the vocabulary.
        """
        added = {token["content"]: int(token["id"]) for token in self.value["added_tokens"]}
        if text in added:
            return self, added[text]
        tokenizer = self.open()
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        if len(ids) == 1 and tokenizer.decode(ids, skip_special_tokens=False) == text:
            return self, ids[0]
        entry = tokenizer.token_to_id(text)
        if entry is None:
            raise InvalidInputError(
                f"{text!r} is not one token of the vocabulary: it is {len(ids)} tokens",
                hint="choose a token of the vocabulary, or train a tokenizer with it among special_tokens",
            )
        tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False)])
        return from_tokenizer(tokenizer), entry


def from_tokenizer(tokenizer: Tokenizer) -> TokenizerFile:
    """Return the stored form of a tokenizer of the library `tokenizers`, which is changed by it."""
    tokenizer.no_truncation()
    tokenizer.no_padding()
    content = tokenizer.to_str().encode()
    return from_stored(content)


def from_stored(content: bytes) -> TokenizerFile:
    """Return a tokenizer whose stored form is at hand, which is not checked again."""
    value = json.loads(content)
    vocab = value["model"]["vocab"]
    ids = vocab.values() if isinstance(vocab, dict) else range(len(vocab))
    greatest = max((*ids, *(token["id"] for token in value["added_tokens"])), default=-1)
    return TokenizerFile(content, greatest + 1, value)


def from_tokenizer_json(content: bytes, what: str) -> TokenizerFile:
    """Read a tokenizer.json; `what` names it in errors.

    Raises:
        InvalidInputError: It is none, its ids are too large, or its tokens would not be the same each time.
    """
    value = _parse_json(content, what)
    model = value.get("model")
    if not isinstance(model, dict):
        raise InvalidInputError(f"{what} is not a tokenizer.json: it has no model", hint=_SAVED)
    if model.get("dropout"):
        raise InvalidInputError(f"{what} has dropout, so its tokens are random", hint="set model.dropout to null")
    if isinstance(model.get("vocab"), dict):
        _check_ids(model["vocab"], what)
    added = value.get("added_tokens")
    if isinstance(added, list):
        _check_ids({str(token.get("content")): token.get("id") for token in added if isinstance(token, dict)}, what)
    try:
        file = from_tokenizer(Tokenizer.from_str(content.decode()))
    except Exception as error:  # the library raises nothing more special
        raise InvalidInputError(f"{what} is not a tokenizer.json: {error}", hint=_SAVED) from error
    if _is_byte_level(file.value):
        _check_bytes(file.value["model"]["vocab"], what)
    return file


def from_vocab_and_merges(vocab: bytes, merges: bytes, vocab_name: str, merges_name: str) -> TokenizerFile:
    """Build the byte-level BPE tokenizer of a vocab.json and a merges.txt; the names are for errors.

    Raises:
        InvalidInputError: A file is malformed, or the two do not fit.
    """
    entries = _parse_json(vocab, vocab_name)
    _check_ids(entries, vocab_name)
    _check_bytes(entries, vocab_name)
    pairs = _parse_merges(merges, merges_name)
    for line, (left, right) in pairs:
        for token in (left, right, left + right):
            if token not in entries:
                raise InvalidInputError(
                    f"{merges_name}:{line}: merging {left!r} and {right!r} needs {token!r}, which {vocab_name} lacks",
                    hint="take both files from the same tokenizer",
                )
    return from_tokenizer(byte_level(models.BPE(vocab=entries, merges=[pair for _, pair in pairs])))


def byte_level(model: models.BPE) -> Tokenizer:
    """Return a tokenizer that splits and decodes as GPT-2 does."""
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _parse_json(content: bytes, what: str) -> dict[str, Any]:
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise InvalidInputError(f"{what} is not JSON: {error}", hint=_RESTORE) from error
    if not isinstance(value, dict):
        raise InvalidInputError(f"{what} does not hold a JSON object", hint=_RESTORE)
    return value


def _parse_merges(content: bytes, what: str) -> list[tuple[int, tuple[str, str]]]:
    """Return the merges and their lines. Only LF ends a line: whatever else ends one in Unicode may be in a token."""
    try:
        lines = content.decode().removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        raise InvalidInputError(f"{what} is not UTF-8 text", hint=_RESTORE) from error
    pairs: list[tuple[int, tuple[str, str]]] = []
    for number, line in enumerate(lines, 1):
        if line.startswith("#version") or not (line or pairs):
            continue
        left, space, right = line.removesuffix("\r").partition(" ")
        if not (left and space and right) or " " in right:
            raise InvalidInputError(
                f"{what}:{number}: {line[:80]!r} is not two tokens with a space between them", hint=_RESTORE
            )
        pairs.append((number, (left, right)))
    return pairs


def _check_ids(entries: dict[str, Any], what: str) -> None:
    by_id: dict[int, str] = {}
    for token, number in entries.items():
        if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < MAX_VOCAB:
            raise InvalidInputError(
                f"{what}: the id of {token!r} is {number!r}", hint=f"ids go from 0 to {MAX_VOCAB - 1}"
            )
        if number in by_id:
            raise InvalidInputError(
                f"{what}: {by_id[number]!r} and {token!r} have the same id {number}", hint="give each token an id"
            )
        by_id[number] = token


def _check_bytes(entries: dict[str, Any], what: str) -> None:
    missing = sorted(_BYTE_SYMBOLS - entries.keys())
    if missing:
        raise InvalidInputError(
            f"{what} lacks {len(missing)} of the 256 byte symbols ({missing[0]!r} is one): some text would vanish",
            hint="take a byte-level BPE vocabulary; when training, start from initial_alphabet=ByteLevel.alphabet()",
        )


def _is_byte_level(value: dict[str, Any]) -> bool:
    model, words = value["model"], value["pre_tokenizer"] or {}
    return model["type"] == "BPE" and words.get("type") == "ByteLevel" and model.get("unk_token") is None
