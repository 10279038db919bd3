"""tokenize: each text as the ids of its tokens, exactly those of the library `tokenizers`.

One task per piece: its kept texts become a part of a token table, with the ids of their records. Documents without a
token (empty texts, unless a token is appended) are dropped and counted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import model_validator

from pyfactory.core.canonical import Value
from pyfactory.core.digest import Digest, digest_of
from pyfactory.errors import BadRecordError, InternalError, InvalidInputError
from pyfactory.job.pieces import Piece, kept_rows, open_ids, open_text, store_part, whole_pieces
from pyfactory.job.steps.base import Bench, FieldError, Parameters, Report, State, read_beside
from pyfactory.job.steps.encoder import check_versions, fast_form, warm_encoder
from pyfactory.job.steps.tokenizer_file import TokenizerFile, from_tokenizer_json, from_vocab_and_merges
from pyfactory.job.task import Result, Task, library_versions
from pyfactory.shard.layout import token_schema
from pyfactory.shard.writer import token_batch
from pyfactory.store.content import Objects

__all__ = ["VERSION", "Tokenize", "TokenizeParameters"]

VERSION = 1

_BLOCK_BYTES = 4 << 20  # of text at a time: what is copied and widened on the way stays small
_NO_APPEND = -1
_EMPTY = "empty"

Rows = NDArray[np.int64]


class TokenizeParameters(Parameters):
    """Parameters of `tokenize`. Without a tokenizer, that of `train_tokenizer` is taken.

    Attributes:
        vocab: vocab.json of a byte-level BPE tokenizer such as GPT-2's, with `merges`.
        merges: Its merges.txt.
        tokenizer: A tokenizer.json instead of the two.
        append: A token of the vocabulary that ends every document.
        special_text: What text that looks like a special token becomes. escape: it stays text; keep: it becomes that
            token; reject: it stops the job.
    """

    vocab: str | None = None
    merges: str | None = None
    tokenizer: str | None = None
    append: str | None = None
    special_text: Literal["escape", "keep", "reject"] = "escape"

    @model_validator(mode="after")
    def _one_tokenizer(self) -> TokenizeParameters:
        if (self.vocab is None) != (self.merges is None):
            raise ValueError("vocab and merges belong together: give both")
        if self.vocab is not None and self.tokenizer is not None:
            raise ValueError("give vocab and merges, or tokenizer, not both")
        return self

    def bind(self, folder: Path) -> Tokenize:
        """Return the step, with its tokenizer read."""
        step = Tokenize(self.append, self.special_text, None, {})
        if self.vocab is not None and self.merges is not None:
            vocab, merges = read_beside(folder, "vocab", self.vocab), read_beside(folder, "merges", self.merges)
            file = from_vocab_and_merges(vocab, merges, str(folder / self.vocab), str(folder / self.merges))
            step = replace(step, file=file, sources={"vocab": digest_of(vocab), "merges": digest_of(merges)})
        elif self.tokenizer is not None:
            content = read_beside(folder, "tokenizer", self.tokenizer)
            file = from_tokenizer_json(content, str(folder / self.tokenizer))
            step = replace(step, file=file, sources={"tokenizer": digest_of(content)})
        if step.file is not None:
            step.ending(step.file)
        return step


@dataclass(frozen=True, slots=True)
class Tokenize:
    """The step `tokenize`; see the module.

    Attributes:
        append: Text of the token that ends each document, or None.
        special_text: escape, keep or reject.
        file: The tokenizer, unless it is the one trained before.
        sources: Digests of the files that it was read from, by parameter.
    """

    append: str | None
    special_text: str
    file: TokenizerFile | None
    sources: dict[str, Digest]
    name = "tokenize"

    def value(self) -> Value:
        """Return the parameters as a canonical value, with digests in place of paths."""
        append = {} if self.append is None else {"append": self.append}
        return {**self.sources, **append, "special_text": self.special_text}

    def ending(self, file: TokenizerFile) -> tuple[TokenizerFile, int]:
        """Return the tokenizer with the appended token in it, and that token's id, -1 for none."""
        if self.append is None:
            return file, _NO_APPEND
        try:
            return file.with_append(self.append)
        except InvalidInputError as error:
            raise FieldError("append", error.message, hint=error.hint) from error

    def run(self, bench: Bench, state: State) -> tuple[State, Report]:
        """Tokenise, one task per piece."""
        file, append = self.ending(self._tokenizer(bench, state))
        exact_only = fast_form(file, []) is None
        if not exact_only:
            check_versions()
        digest = bench.objects.put(file.content)
        works = [TokenizeWork(piece, digest, append, self.special_text, file.vocab_size) for piece in state.pieces]
        results = bench.perform(f"{self.name} (by tokenizers)" if exact_only else self.name, works)
        pieces = whole_pieces(part for result in results for part in result.parts)
        empty = sum(result.counts[_EMPTY] for result in results)
        attributes = {"width": file.width, "append": append, "vocab_size": file.vocab_size}
        after = replace(state, pieces=pieces, schema=token_schema(file.width), tokenizer=digest, attributes=attributes)
        return after, Report(self.name, VERSION, state.rows, after.rows, {_EMPTY: empty})

    def _tokenizer(self, bench: Bench, state: State) -> TokenizerFile:
        if self.file is not None:
            return self.file
        if state.tokenizer is None:
            raise InternalError("a job without a tokenizer passed its checks")
        return from_tokenizer_json(bench.objects.get(state.tokenizer), f"the trained tokenizer {state.tokenizer}")


@dataclass(frozen=True, slots=True)
class TokenizeWork:
    """The token part of one piece (no part if no row has a token), and the number of rows without one."""

    piece: Piece
    tokenizer: Digest
    append: int
    special_text: str
    vocab_size: int

    def task(self) -> Task:
        """Return the task."""
        params = {"append": self.append, "special_text": self.special_text}
        inputs = (*self.piece.inputs(side=True), self.tokenizer)
        return Task("tokenize", VERSION, params, inputs, library_versions("gigatoken", "pyarrow", "tokenizers"))

    def run(self, objects: Objects) -> Result:
        """Tokenise block by block and store the part."""
        text = open_text(objects, self.piece.part)
        side = open_ids(objects, self.piece.part)
        kept = kept_rows(objects, self.piece)
        rows = np.arange(len(text)) if kept is None else kept
        ids, counts = self._tokens(objects, text, rows)
        tokens = np.concatenate([np.zeros(0, self._dtype()), *ids])
        lengths = np.concatenate(counts)
        full = lengths > 0
        result_counts = {_EMPTY: int(np.count_nonzero(~full))}
        if not full.any():
            return Result(counts=result_counts)
        batch = token_batch(tokens, np.concatenate([[0], np.cumsum(lengths[full])]).astype(np.int64))
        part = store_part(objects, batch, side.ids.take(pa.array(rows[full])))
        return Result(parts=(part,), counts=result_counts)

    def _tokens(self, objects: Objects, text: pa.LargeStringArray, rows: Rows) -> tuple[list[NDArray[Any]], list[Rows]]:
        """Return tokens and tokens per row, block by block."""
        tokens, counts = [], []
        for block in _blocks(text, rows):
            texts = text.take(pa.array(block))
            encoder = warm_encoder(objects, self.tokenizer, self.special_text, texts.nbytes)
            if self.special_text == "reject":
                self._reject(objects, block[encoder.with_special_text(texts)])
            offsets, ids = encoder.encode(texts)
            if len(ids) and ids.max() >= self.vocab_size:
                raise InternalError(f"token {ids.max()} is not in a vocabulary of {self.vocab_size}")
            ended, lengths = _ended(ids, np.diff(offsets), self.append, self._dtype())
            tokens.append(ended)
            counts.append(lengths)
        return tokens, counts

    def _reject(self, objects: Objects, rows: Rows) -> None:
        if len(rows):
            record = open_ids(objects, self.piece.part).id(int(rows[0]))
            raise BadRecordError(
                f"record {record!r} contains the text of a special token",
                hint="drop it with a filter (rejects: ...), or choose special_text: escape or keep",
            )

    def _dtype(self) -> type[np.unsignedinteger[Any]]:
        if self.vocab_size <= 2**8:
            return np.uint8
        return np.uint16 if self.vocab_size <= 2**16 else np.uint32


def _blocks(text: pa.LargeStringArray, rows: Rows) -> Iterator[Rows]:
    """Cut rows into runs of about `_BLOCK_BYTES` of text, at least one row each."""
    offsets = np.frombuffer(text.buffers()[1], np.int64)[text.offset : text.offset + len(text) + 1]
    ends = np.cumsum(np.diff(offsets)[rows])
    start = 0
    while start < len(rows):
        done = int(ends[start - 1]) if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, done + _BLOCK_BYTES, side="right")))
        yield rows[start:stop]
        start = stop


def _ended(ids: NDArray[np.uint32], lengths: Rows, append: int, dtype: Any) -> tuple[NDArray[Any], Rows]:
    """Return the ids in their stored width, with the appended token after each document, and the new lengths."""
    if append == _NO_APPEND:
        return ids.astype(dtype), lengths
    tokens = np.full(len(ids) + len(lengths), append, dtype)
    inside = np.ones(len(tokens), np.bool_)
    inside[np.cumsum(lengths + 1) - 1] = False
    tokens[inside] = ids
    return tokens, lengths + 1
