"""Texts to token ids: those of the library `tokenizers`, at the speed of gigatoken.

gigatoken tokenises whole Arrow buffers; documents on which it would differ go to `tokenizers` (see `unicode_gap`).
Tokenizers of a kind that gigatoken is not known to follow exactly go to `tokenizers` altogether.
"""

from __future__ import annotations

import json
import re
import threading
from functools import cached_property
from itertools import pairwise
from typing import Any

import awkward
import gigatoken
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from awkward.contents import ListOffsetArray, NumpyArray
from awkward.index import Index64
from numpy.typing import NDArray
from tokenizers import Tokenizer

from pyfactory.core.digest import Digest
from pyfactory.errors import InternalError, InvalidInputError
from pyfactory.job.steps import unicode_gap
from pyfactory.job.steps.split_text import split_text
from pyfactory.job.steps.tokenizer_file import TokenizerFile, from_stored
from pyfactory.job.task import library_versions
from pyfactory.store.content import Objects

__all__ = ["Encoder", "check_versions", "fast_form", "warm_encoder"]

Ids = NDArray[np.uint32]
Offsets = NDArray[np.int64]

_PIECE_CHARS = 1 << 14  # of a text with a character of the gap: so much around it goes to `tokenizers`
_BATCH_CHARS = 1 << 20  # that go to `tokenizers` at a time: it takes some hundred bytes of memory for each
_RENEW_AFTER = 2 << 30  # bytes of text, after which gigatoken's cache of words, which only grows, is dropped
_FAST_MODEL = {
    "type": "BPE",
    "dropout": (None, 0),
    "unk_token": None,
    "continuing_subword_prefix": (None, ""),
    "end_of_word_suffix": (None, ""),
    "fuse_unk": False,
    "byte_fallback": False,
    "ignore_merges": False,
}
_FAST_WORDS = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}
_GAP = "[" + "".join(rf"\x{{{first:X}}}-\x{{{last:X}}}" for first, last in unicode_gap.RANGES) + "]"
_SECONDS: dict[int, NDArray[np.bool_]] = {
    lead: np.isin(np.arange(256), [prefix[1] for prefix in unicode_gap.PREFIXES if prefix[0] == lead])
    for lead in sorted({prefix[0] for prefix in unicode_gap.PREFIXES})
}
"""For each first byte of a character of the gap: bool[256], which bytes may come second."""


class Encoder:
    """One tokenizer, ready; for one thread.

    Args:
        file: The tokenizer.
        special_text: keep: text that looks like a special token becomes it; otherwise it stays text.
    """

    def __init__(self, file: TokenizerFile, special_text: str) -> None:
        self._file = file
        self._escapes = special_text != "keep"
        added = file.value["added_tokens"]
        live = [token for token in added if special_text == "keep" or not token["special"]]
        plain = not any(token["single_word"] or token["lstrip"] or token["rstrip"] for token in live)
        form = fast_form(file, live if plain else [])
        self._fast = None if form is None else gigatoken.Tokenizer.from_json(form)
        self._odd = None if plain else _any_of(token["content"] for token in live)
        # A cut must not fall into a token that has white space in it, or that swallows some.
        whole = any(re.search(r"\s", token["content"]) for token in live) or not plain
        self._may_cut = form is not None and not whole
        self._special = _any_of(token["content"] for token in added if token["special"])

    def encode(self, texts: pa.LargeStringArray) -> tuple[Offsets, Ids]:
        """Tokenise texts.

        Returns:
            offsets: int64[texts + 1], where the ids of each text start.
            ids: uint32[tokens], of all texts one after the other.
        """
        if self._fast is None:
            return _joined(self._exact(texts))
        offsets, ids = self._by_gigatoken(self._fast, texts)
        differing = self._differing(texts)
        if not len(differing):
            return offsets, ids
        some = texts.take(pa.array(differing))
        exact = self._by_pieces(self._fast, some) if self._may_cut else self._exact(some)
        return _spliced(offsets, ids, differing, exact)

    def with_special_text(self, texts: pa.LargeStringArray) -> NDArray[np.int64]:
        """Return the indices of the texts that contain the text of a special token."""
        return _matching(texts, self._special)

    def _differing(self, texts: pa.LargeStringArray) -> NDArray[np.int64]:
        """Return the indices of the texts on which gigatoken may differ."""
        odd = _matching(texts, self._odd)
        if not _may_hold_gap(_octets(texts)):
            return odd
        return np.union1d(odd, _matching(texts, _GAP))

    def _by_gigatoken(self, fast: gigatoken.Tokenizer, texts: pa.LargeStringArray) -> tuple[Offsets, Ids]:
        offsets = _offsets(texts)
        # Made by hand: awkward and gigatoken refuse Arrow's own arrays. Nothing is copied but the offsets.
        characters = NumpyArray(_octets(texts), parameters={"__array__": "char"})
        content = ListOffsetArray(Index64(offsets - offsets[0]), characters, parameters={"__array__": "string"})
        layout = fast.encode_batch(awkward.Array(content), parallel=False).layout
        ids = np.asarray(layout.content.data)
        starts = np.asarray(layout.offsets.data)
        if ids.dtype != np.uint32 or len(starts) != len(texts) + 1 or starts[0] != 0 or starts[-1] != len(ids):
            raise InternalError(f"gigatoken returned {ids.dtype} for {len(starts) - 1} of {len(texts)} texts")
        return starts, ids

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        tokenizer = self._file.open()
        tokenizer.encode_special_tokens = self._escapes
        return tokenizer

    def _by_pieces(self, fast: gigatoken.Tokenizer, texts: pa.LargeStringArray) -> list[Ids]:
        """Return the ids of texts of which only the pieces around characters of the gap go to `tokenizers`."""
        split = [split_text(text, _PIECE_CHARS) for text in texts.to_pylist()]
        pieces = pa.array([piece for pieces in split for piece in pieces], pa.large_string())
        gap = _matching(pieces, _GAP)
        offsets, ids = _spliced(*self._by_gigatoken(fast, pieces), gap, self._exact(pieces.take(pa.array(gap))))
        ends = np.cumsum([0, *(len(pieces) for pieces in split)])
        return [ids[low:high] for low, high in pairwise(offsets[ends].tolist())]

    def _exact(self, texts: pa.LargeStringArray) -> list[Ids]:
        ids: list[Ids] = []
        batch: list[str] = []
        chars = 0
        for text in texts:
            batch.append(text.as_py())
            chars += len(batch[-1])
            if chars >= _BATCH_CHARS:
                ids += self._exact_batch(batch)
                batch, chars = [], 0
        return ids + self._exact_batch(batch)

    def _exact_batch(self, texts: list[str]) -> list[Ids]:
        # In a batch, since then, and only then, the library releases the GIL.
        encodings = self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        return [np.array(encoding.ids, np.uint32) for encoding in encodings]


def fast_form(file: TokenizerFile, added: list[Any]) -> str | None:
    """Return the tokenizer.json for gigatoken with these added tokens; None if only `tokenizers` knows this kind."""
    model, words = file.value["model"], file.value["pre_tokenizer"] or {}
    allowed = all(
        model.get(name) in wanted if isinstance(wanted, tuple) else model.get(name) == wanted
        for name, wanted in _FAST_MODEL.items()
    )
    same_words = all(words.get(name) == wanted for name, wanted in _FAST_WORDS.items())
    if not allowed or not same_words or file.value["normalizer"] is not None:
        return None
    return json.dumps({**file.value, "added_tokens": added, "post_processor": None})


def check_versions() -> None:
    """Refuse versions of the libraries for which nobody has compared them: ids could differ unnoticed.

    Raises:
        InvalidInputError: Other versions are installed.
    """
    installed = library_versions("gigatoken", "tokenizers")
    wanted = {"gigatoken": unicode_gap.GIGATOKEN, "tokenizers": unicode_gap.TOKENIZERS}
    if installed != wanted:
        raise InvalidInputError(
            f"{_listing(installed)} cannot tokenise: they were never compared with each other",
            hint=f"install {_listing(wanted)} (constraints.txt)",
        )


_warm = threading.local()


def warm_encoder(objects: Objects, tokenizer: Digest, special_text: str, nbytes: int) -> Encoder:
    """Return this thread's encoder, made anew if it is another one or has seen enough.

    Args:
        objects: Where the tokenizer is.
        tokenizer: Object of its tokenizer.json.
        special_text: See `Encoder`.
        nbytes: Bytes of text that it will be given.
    """
    name = (tokenizer, special_text)
    if getattr(_warm, "name", None) != name or _warm.nbytes > _RENEW_AFTER:
        _warm.name = None
        _warm.encoder = Encoder(from_stored(objects.get(tokenizer)), special_text)
        _warm.name, _warm.nbytes = name, 0
    _warm.nbytes += nbytes
    encoder: Encoder = _warm.encoder
    return encoder


def _may_hold_gap(octets: NDArray[np.uint8]) -> bool:
    """Tell whether UTF-8 may hold a character of the gap. Much faster than looking for one, and nearly always False."""
    if not len(octets) or octets.max() < min(_SECONDS):
        return False
    for lead, seconds in _SECONDS.items():
        at = np.flatnonzero(octets[:-1] == lead)
        if seconds[octets[at + 1]].any():
            return True
    return False


def _any_of(contents: Any) -> str | None:
    """Return the RE2 pattern that matches any of some texts, or None if there are none."""
    quoted = [re.sub(r"([^0-9A-Za-z_\x80-\U0010FFFF])", r"\\\1", content) for content in contents if content]
    return "|".join(quoted) or None


def _matching(texts: pa.LargeStringArray, pattern: str | None) -> NDArray[np.int64]:
    if pattern is None:
        return np.zeros(0, np.int64)
    return np.flatnonzero(pc.match_substring_regex(texts, pattern).to_numpy(zero_copy_only=False))


def _offsets(texts: pa.LargeStringArray) -> Offsets:
    return np.frombuffer(texts.buffers()[1], np.int64)[texts.offset : texts.offset + len(texts) + 1]


def _octets(texts: pa.LargeStringArray) -> NDArray[np.uint8]:
    offsets, buffer = _offsets(texts), texts.buffers()[2]
    return np.frombuffer(buffer or b"", np.uint8)[offsets[0] : offsets[-1]]


def _joined(ids: list[Ids]) -> tuple[Offsets, Ids]:
    offsets = np.zeros(len(ids) + 1, np.int64)
    np.cumsum([len(part) for part in ids], out=offsets[1:])
    return offsets, np.concatenate(ids) if ids else np.zeros(0, np.uint32)


def _spliced(offsets: Offsets, ids: Ids, at: NDArray[np.int64], replaced: list[Ids]) -> tuple[Offsets, Ids]:
    """Return offsets and ids with those of the texts `at` (ascending) replaced."""
    counts = np.diff(offsets)
    counts[at] = [len(part) for part in replaced]
    pieces, start = [], 0
    for index, part in zip(at.tolist(), replaced, strict=True):
        pieces += [ids[start : offsets[index]], part]
        start = offsets[index + 1]
    pieces.append(ids[start:])
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64), np.concatenate(pieces)


def _listing(versions: dict[str, str]) -> str:
    return " and ".join(f"{name} {version}" for name, version in versions.items())
