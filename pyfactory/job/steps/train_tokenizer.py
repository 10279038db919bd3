"""train_tokenizer: a byte-level BPE tokenizer, made by the library `tokenizers` from the rows kept so far.

The vocabulary starts with the special tokens and the 256 bytes, so that no text is ever unknown. The library counts
words and merges pairs with ties broken by id, so the outcome depends on the texts alone, not on threads or batches
(tested).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import pyarrow as pa
from pydantic import Field, model_validator
from tokenizers import models, pre_tokenizers, trainers

from pyfactory.core.canonical import Value
from pyfactory.errors import CorruptError
from pyfactory.job.pieces import Piece, kept_rows, open_text
from pyfactory.job.steps.base import Bench, Parameters, Report, State
from pyfactory.job.steps.split_text import split_text
from pyfactory.job.steps.tokenizer_file import MAX_VOCAB, byte_level, from_tokenizer
from pyfactory.job.task import Result, Task, library_versions
from pyfactory.store.content import Objects

__all__ = ["VERSION", "Train", "TrainParameters"]

VERSION = 1

_BYTES = 256
_BATCH_ROWS = 1024
_SPLIT_CHARS = 1 << 20


class TrainParameters(Parameters):
    """Parameters of `train_tokenizer`.

    Attributes:
        vocab_size: Number of tokens, special ones and bytes included; fewer if the texts give no more.
        special_tokens: Tokens that no text gives, such as <|endoftext|>; they have the ids 0, 1, ...
    """

    vocab_size: Annotated[int, Field(ge=_BYTES, le=MAX_VOCAB)]
    special_tokens: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(strict=False)] = ()

    @model_validator(mode="after")
    def _enough_room(self) -> TrainParameters:
        if len(set(self.special_tokens)) < len(self.special_tokens):
            raise ValueError("a special token occurs twice")
        symbols = sorted(set(self.special_tokens) & set(pre_tokenizers.ByteLevel.alphabet()))
        if symbols:
            raise ValueError(f"{symbols[0]!r} stands for a byte and cannot be a special token")
        least = _BYTES + len(self.special_tokens)
        if self.vocab_size < least:
            raise ValueError(f"vocab_size is {self.vocab_size}; bytes and special tokens alone are {least}")
        return self

    def bind(self, folder: Path) -> Train:
        """Return the step."""
        return Train(self.vocab_size, self.special_tokens)


@dataclass(frozen=True, slots=True)
class Train:
    """The step `train_tokenizer`; see the module."""

    vocab_size: int
    special_tokens: tuple[str, ...]
    name = "train_tokenizer"

    def value(self) -> Value:
        """Return the parameters as a canonical value."""
        return {"vocab_size": self.vocab_size, "special_tokens": list(self.special_tokens)}

    def run(self, bench: Bench, state: State) -> tuple[State, Report]:
        """Train, as one task; the library uses all CPUs."""
        (result,) = bench.perform(self.name, [TrainWork(self, state.pieces)])
        return replace(state, tokenizer=result.objects[0]), Report(self.name, VERSION, state.rows, state.rows)


@dataclass(frozen=True, slots=True)
class TrainWork:
    """The tokenizer.json trained on the texts of pieces."""

    step: Train
    pieces: tuple[Piece, ...]

    def task(self) -> Task:
        """Return the task."""
        inputs = tuple(digest for piece in self.pieces for digest in piece.inputs(side=False))
        return Task(self.step.name, VERSION, self.step.value(), inputs, library_versions("tokenizers"))

    def run(self, objects: Objects) -> Result:
        """Train. Memory: the distinct words of the texts."""
        tokenizer = byte_level(models.BPE())
        trainer = trainers.BpeTrainer(
            vocab_size=self.step.vocab_size,
            min_frequency=0,
            special_tokens=list(self.step.special_tokens),
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        tokenizer.train_from_iterator(self._batches(objects), trainer)
        return Result(objects=(objects.put(from_tokenizer(tokenizer).content),))

    def _batches(self, objects: Objects) -> Iterator[list[str]]:
        for piece in self.pieces:
            text = open_text(objects, piece.part)
            rows = kept_rows(objects, piece)
            kept = text if rows is None else text.take(pa.array(rows))
            for start in range(0, len(kept), _BATCH_ROWS):
                try:
                    texts = kept.slice(start, _BATCH_ROWS).to_pylist()
                except UnicodeDecodeError as error:
                    raise CorruptError(f"shard {piece.part.shard} holds text that is not valid UTF-8") from error
                yield [part for whole in texts for part in split_text(whole, _SPLIT_CHARS)]
