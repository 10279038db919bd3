"""Small tables of text, small tokenizers and jobs over them, for the tests of the job engine."""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from pyfactory.job.executors.open import open_executor
from pyfactory.job.pieces import open_content, open_ids
from pyfactory.job.run import JobResult, run_job
from pyfactory.job.spec import JobSpec, load_job
from pyfactory.job.steps.tokenizer_file import byte_level
from pyfactory.shard.manifest import Manifest, Part, new_batch, write_manifest
from pyfactory.shard.writer import encode_shard, make_side
from pyfactory.store.content import Objects

END = "<|endoftext|>"


def text_part(objects: Objects, texts: Sequence[str], ids: Sequence[str], **columns: pa.Array) -> Part:
    """Store one part of a raw table."""
    fields = [pa.field("text", pa.large_string(), nullable=False)]
    fields += [pa.field(name, column.type) for name, column in columns.items()]
    batch = pa.record_batch([pa.array(texts, pa.large_string()), *columns.values()], schema=pa.schema(fields))
    content, side = encode_shard(batch), make_side(pa.array(ids, pa.large_string()))
    return Part(objects.put(content), objects.put(side), len(texts), 0, content.size)


def text_table(objects: Objects, texts: Sequence[str], cuts: Sequence[int] = (), ids: Sequence[str] = ()) -> Manifest:
    """Store a raw table whose parts end before the rows `cuts`; record r has the id id-r."""
    names = list(ids) or [f"id-{row}" for row in range(len(texts))]
    bounds = sorted({0, len(texts), *(cut for cut in cuts if cut < len(texts))})
    parts = [text_part(objects, texts[low:high], names[low:high]) for low, high in pairwise(bounds)]
    return Manifest(objects, write_manifest(objects, new_batch(parts, 1)))


def write_job(folder: Path, *steps: str, target: str = "64MB") -> Path:
    """Write a job file; each step is one line of YAML."""
    lines = ["input: raw", "output: corpus", "steps:", *(f"  - {step}" for step in steps)]
    path = folder / "job.yaml"
    path.write_text("\n".join([*lines, f"shards: {{target_bytes: {target}}}", ""]))
    return path


def run(objects: Objects, job: Path | JobSpec, table: Manifest, workers: int = 2) -> JobResult:
    """Run a job over a table."""
    spec = job if isinstance(job, JobSpec) else load_job(job)
    with open_executor(workers) as executor:
        return run_job(objects, spec, table, executor)


def shards_of(objects: Objects, result: JobResult) -> list[list[tuple[str, Any]]]:
    """Return (id, text or list of tokens) of every row, shard by shard."""
    shards = []
    for part in result.parts:
        ids = open_ids(objects, part).ids.to_pylist()
        shards.append(list(zip(ids, open_content(objects, part).column(0).to_pylist(), strict=True)))
    return shards


def rows_of(objects: Objects, result: JobResult) -> list[tuple[str, Any]]:
    """Return (id, text or list of tokens) of every row."""
    return [row for shard in shards_of(objects, result) for row in shard]


@cache
def library_texts() -> list[str]:
    """Return some sources of the standard library: text that every machine has."""
    return [Path(module.__file__ or "").read_text() for module in (argparse, statistics, json)]


@cache
def small_tokenizer_json() -> str:
    """Return a byte-level BPE tokenizer of 1,000 tokens, <|endoftext|> the last of them, without added tokens."""
    tokenizer = byte_level(models.BPE())
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=999, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator([*library_texts(), "żółw 春 😀 " * 50], trainer)
    value = json.loads(tokenizer.to_str())
    value["model"]["vocab"][END] = 999
    return json.dumps(value)


def write_vocab_and_merges(folder: Path) -> None:
    """Write vocab.json and merges.txt of that tokenizer."""
    model = json.loads(small_tokenizer_json())["model"]
    (folder / "vocab.json").write_text(json.dumps(model["vocab"]))
    (folder / "merges.txt").write_text(
        "\n".join(["#version: 0.2", *(" ".join(merge) for merge in model["merges"]), ""])
    )


@cache
def oracle() -> Tokenizer:
    """Return that tokenizer, <|endoftext|> special and, inside texts, escaped."""
    tokenizer = Tokenizer.from_str(small_tokenizer_json())
    tokenizer.add_special_tokens([END])
    tokenizer.encode_special_tokens = True
    return tokenizer


@cache
def pair_tokenizer() -> Tokenizer:
    """Return a tokenizer in which every pair of bytes is a token: its ids show where the words of a text end."""
    symbols = sorted(pre_tokenizers.ByteLevel.alphabet())
    pairs = [(left, right) for left in symbols for right in symbols]
    # Not in alphabetical order, so that which pair comes first changes along a word.
    pairs.sort(key=lambda pair: (ord(pair[0]) * 7919 + ord(pair[1]) * 104729) % 65521)
    vocab = {token: number for number, token in enumerate([*symbols, *map("".join, pairs)])}
    return byte_level(models.BPE(vocab=vocab, merges=pairs))
