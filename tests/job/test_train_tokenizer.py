"""train_tokenizer: the same tokenizer from the same texts, however they are fed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from job_tables import END, library_texts, rows_of, run, text_table, write_job
from tokenizers import Tokenizer

import pyfactory
from pyfactory.core.digest import digest_of
from pyfactory.job.pieces import whole_pieces
from pyfactory.job.steps import train_tokenizer
from pyfactory.job.steps.train_tokenizer import VERSION, TrainParameters, TrainWork
from pyfactory.store.content import Objects
from pyfactory.store.memory import MemoryStore

GOLDEN_MERGES = [["a", "b"], ["Ġ", "ab"]]
GOLDEN = {1: "908451d626bb4b4c81a7fe54cf0cfed4b2d40ff7b8766f4f46900b33d51ad5d5"}


def trained(texts: list[str], cuts: list[int], **parameters: object) -> bytes:
    objects = Objects(MemoryStore())
    pieces = whole_pieces(text_table(objects, texts, cuts).parts())
    step = TrainParameters.model_validate(parameters).bind(Path())
    return objects.get(TrainWork(step, pieces).run(objects).objects[0])


def test_golden() -> None:
    """Fails when the output of the step changes without a new VERSION.

    The merges are by hand: "ab" is the most frequent pair, then " " before it.
    """
    content = trained(["ab ab ab", "ab c"], [1], vocab_size=259, special_tokens=[END])
    value = json.loads(content)
    vocab = value["model"]["vocab"]
    assert value["model"]["merges"] == GOLDEN_MERGES
    assert (vocab[END], vocab["!"], vocab["ab"], vocab["Ġab"]) == (0, 1, 257, 258)
    assert [token["content"] for token in value["added_tokens"] if token["special"]] == [END]
    assert digest_of(content) == GOLDEN[VERSION]


def test_batches_and_parts_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [line for text in library_texts() for line in text.splitlines(keepends=True)]
    contents = set()
    for rows, chars, cuts in ((1024, 1 << 20, []), (7, 100, [5, 500]), (1, 5, [1, 2, 3]), (10**6, 30, [2000])):
        monkeypatch.setattr(train_tokenizer, "_BATCH_ROWS", rows)
        monkeypatch.setattr(train_tokenizer, "_SPLIT_CHARS", chars)
        contents.add(trained(texts, cuts, vocab_size=700, special_tokens=[END]))
    assert len(contents) == 1


PROGRAM = """
import sys
from test_train_tokenizer import library_texts, trained, digest_of
print(digest_of(trained(library_texts(), [1], vocab_size=900)))
"""


@pytest.mark.parametrize("environment", [{"RAYON_NUM_THREADS": "1"}, {"RAYON_NUM_THREADS": "8", "PYTHONHASHSEED": "7"}])
def test_processes_and_threads_do_not_matter(environment: dict[str, str]) -> None:
    """Hash maps of the library are seeded anew in each process: catches ties that are broken by their order."""
    here = Path(__file__).parent
    path = os.pathsep.join([str(here), str(Path(pyfactory.__file__).parents[1])])
    env = os.environ | {"PYTHONPATH": path} | environment
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=100, env=env)
    assert done.stdout.strip() == digest_of(trained(library_texts(), [1], vocab_size=900)), done.stderr


def test_only_rows_kept_so_far_are_learnt_from(tmp_path: Path) -> None:
    objects = Objects(MemoryStore())
    texts = ["keep xyxyxy", "drop qwqwqwqwqw", "keep xyxy", "keep xyxy"]
    job = write_job(tmp_path, "filter: {matches: keep}", "dedup:", "train_tokenizer: {vocab_size: 300}")
    result = run(objects, job, text_table(objects, texts, [2]))
    tokenizer = Tokenizer.from_str(objects.get(result.artifacts["tokenizer"]).decode())
    assert tokenizer.token_to_id("xy") is not None
    assert tokenizer.token_to_id("qw") is None
    assert [text for _, text in rows_of(objects, result)] == ["keep xyxyxy", "keep xyxy"]
    assert result.attributes == {} and result.schema.names == ["text"]


def test_no_text_at_all(tmp_path: Path) -> None:
    objects = Objects(MemoryStore())
    job = write_job(tmp_path, "train_tokenizer: {vocab_size: 300}", "tokenize: {}")
    result = run(objects, job, text_table(objects, []))
    tokenizer = Tokenizer.from_str(objects.get(result.artifacts["tokenizer"]).decode())
    assert tokenizer.get_vocab_size() == 256
    assert result.parts == [] and result.attributes == {"width": 1, "append": -1, "vocab_size": 256}
