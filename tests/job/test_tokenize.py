"""tokenize: parts of tokens with the ids of their records."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from job_tables import END, library_texts, oracle, rows_of, run, text_table, write_job, write_vocab_and_merges
from tokenizers import Tokenizer, models, pre_tokenizers

from pyfactory.core.digest import digest_of
from pyfactory.errors import BadRecordError, InvalidInputError
from pyfactory.job.pieces import Piece, open_content, open_ids, whole_pieces
from pyfactory.job.run import JobResult
from pyfactory.job.steps import tokenize, unicode_gap
from pyfactory.job.steps.tokenize import VERSION, TokenizeWork
from pyfactory.job.steps.tokenizer_file import byte_level, from_tokenizer
from pyfactory.shard.layout import token_schema
from pyfactory.store.content import Objects
from pyfactory.store.memory import MemoryStore

VOCAB = f'vocab: vocab.json, merges: merges.txt, append: "{END}"'
GOLDEN = {
    1: (
        "0630e9e4ea0f3a234382a868267ac2963614ad52e642e0af7e60b55cbfd3369f",
        "f303e5f7f2ddb397b67f88ce4911276d1bbdad069232362f0c39d533629a7aac",
    )
}


@pytest.fixture
def objects() -> Objects:
    return Objects(MemoryStore())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_vocab_and_merges(tmp_path)
    return tmp_path


def test_golden(objects: Objects) -> None:
    """Fails when the output of the step changes without a new VERSION.

    By hand: symbols in order of code point are 33..126, 161..172, 174..255, then those of the other bytes from 256
    on. So c is 66 and the space 188 + 32; "ab" is 256, " ab" is 257, and 258 ends a document.
    """
    vocab = {token: number for number, token in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    vocab |= {"ab": 256, "Ġab": 257, END: 258}
    tokenizer = byte_level(models.BPE(vocab=vocab, merges=[("a", "b"), ("Ġ", "ab")]))
    digest = objects.put(from_tokenizer(tokenizer).content)
    piece = whole_pieces(text_table(objects, ["ab abc", "", "a "]).parts())[0]
    (part,) = TokenizeWork(piece, digest, 258, "escape", 259).run(objects).parts
    assert open_content(objects, part).column(0).to_pylist() == [[256, 257, 66, 258], [258], [64, 220, 258]]
    assert (part.rows, part.tokens) == (3, 8)
    assert (part.shard, part.side) == GOLDEN[VERSION]
    bare = TokenizeWork(piece, digest, -1, "escape", 259).run(objects)
    assert open_content(objects, bare.parts[0]).column(0).to_pylist() == [[256, 257, 66], [64, 220]]
    assert open_ids(objects, bare.parts[0]).ids.to_pylist() == ["id-0", "id-2"]
    assert bare.counts == {"empty": 1}


def test_a_job(objects: Objects, folder: Path) -> None:
    texts = ["one two", "", f"three {END} four", "żółw\u088f's", *library_texts()]
    result = run(objects, write_job(folder, f"tokenize: {{{VOCAB}}}"), text_table(objects, texts, [2]))
    assert rows_of(objects, result) == [
        (f"id-{row}", [*oracle().encode(text).ids, 999]) for row, text in enumerate(texts)
    ]
    assert result.schema == token_schema(2)
    assert result.attributes == {"width": 2, "append": 999, "vocab_size": 1000}
    assert sum(part.tokens for part in result.parts) == sum(len(tokens) for _, tokens in rows_of(objects, result))
    stored = Tokenizer.from_str(objects.get(result.artifacts["tokenizer"]).decode())
    assert stored.decode([999]) == "" and stored.decode([999], skip_special_tokens=False) == END
    assert stored.decode(rows_of(objects, result)[3][1]) == texts[3]


def test_documents_without_tokens_are_dropped_and_counted(objects: Objects, folder: Path) -> None:
    job = write_job(folder, "tokenize: {vocab: vocab.json, merges: merges.txt}")
    result = run(objects, job, text_table(objects, ["", "a", "", "", "b"], [1, 3]))
    assert [record for record, _ in rows_of(objects, result)] == ["id-1", "id-4"]
    report = result.reports[0]
    assert (report.rows_in, report.rows_out, report.dropped) == (5, 2, {"empty": 3})
    assert result.attributes["append"] == -1


@pytest.mark.parametrize("mode", ["escape", "keep"])
def test_special_text(objects: Objects, folder: Path, mode: str) -> None:
    job = write_job(folder, f"tokenize: {{{VOCAB}, special_text: {mode}}}")
    ((_, tokens),) = rows_of(objects, run(objects, job, text_table(objects, [f"a{END}b"])))
    plain = oracle().encode(END).ids
    assert tokens == ([64, *plain, 65, 999] if mode == "escape" else [64, 999, 65, 999])
    assert len(plain) > 1


def test_special_text_may_be_rejected(objects: Objects, folder: Path) -> None:
    job = write_job(folder, "filter: {rejects: drop}", f"tokenize: {{{VOCAB}, special_text: reject}}")
    texts = [f"drop {END}", "fine", "<|endoftext", f"not {END} fine", END]
    with pytest.raises(BadRecordError, match="record 'id-3' contains the text of a special token") as caught:
        run(objects, job, text_table(objects, texts, [1]))
    assert "filter" in caught.value.hint
    assert len(rows_of(objects, run(objects, job, text_table(objects, texts[:3], [1])))) == 2


def test_a_trained_tokenizer_is_taken(objects: Objects, tmp_path: Path) -> None:
    train = f'train_tokenizer: {{vocab_size: 300, special_tokens: ["{END}"]}}'
    job = write_job(tmp_path, train, f'tokenize: {{append: "{END}"}}')
    result = run(objects, job, text_table(objects, library_texts()))
    tokenizer = Tokenizer.from_str(objects.get(result.artifacts["tokenizer"]).decode())
    tokenizer.encode_special_tokens = True
    assert result.attributes == {"width": 2, "append": 0, "vocab_size": 300}
    assert [tokens for _, tokens in rows_of(objects, result)] == [
        [*tokenizer.encode(t).ids, 0] for t in library_texts()
    ]


def test_a_trained_tokenizer_without_the_token_to_append(objects: Objects, tmp_path: Path) -> None:
    job = write_job(tmp_path, "train_tokenizer: {vocab_size: 300}", "tokenize: {append: <eos>}")
    with pytest.raises(InvalidInputError, match=r"'<eos>' is not one token.*special_tokens"):
        run(objects, job, text_table(objects, ["a"]))


@pytest.mark.parametrize("block", [1, 3, 20, 1 << 20])
def test_blocks_do_not_matter(objects: Objects, folder: Path, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokenize, "_BLOCK_BYTES", block)
    texts = ["", "", "a b", "long enough for a block of its own", "", "żółw", "\u088f's", ""]
    result = run(objects, write_job(folder, f"tokenize: {{{VOCAB}}}"), text_table(objects, texts))
    assert [tokens for _, tokens in rows_of(objects, result)] == [[*oracle().encode(text).ids, 999] for text in texts]


def test_blocks_hold_every_row_once() -> None:
    text = pa.array(["x" * length for length in (3, 0, 5 << 20, 0, 1 << 20, 3 << 20, 1, 9 << 20)], pa.large_string())
    rows = np.array([0, 1, 2, 4, 5, 6, 7])
    blocks = [block.tolist() for block in tokenize._blocks(text, rows)]
    assert blocks == [[0, 1], [2], [4, 5], [6], [7]]
    assert list(tokenize._blocks(text, rows[:0])) == []


def test_other_versions_of_the_libraries_stop_the_job(
    objects: Objects, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unicode_gap, "TOKENIZERS", "0.1")
    with pytest.raises(InvalidInputError, match="never compared"):
        run(objects, write_job(folder, f"tokenize: {{{VOCAB}}}"), text_table(objects, ["a"]))


def test_tokenizers_that_gigatoken_does_not_know(objects: Objects, tmp_path: Path) -> None:
    """They are slow, and say so in the progress; the versions of the libraries do not matter to them."""
    words = Tokenizer(models.WordLevel({"the": 0, "a": 1, "?": 2}, unk_token="?"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    (tmp_path / "words.json").write_text(words.to_str())
    job = write_job(tmp_path, "tokenize: {tokenizer: words.json, append: the}")
    result = run(objects, job, text_table(objects, ["the b a", ""]))
    assert [tokens for _, tokens in rows_of(objects, result)] == [[0, 2, 1, 0], [0]]
    assert result.attributes == {"width": 1, "append": 0, "vocab_size": 3}


def test_the_vocabulary_file_is_read_once(objects: Objects, folder: Path) -> None:
    """What the job's digest was taken of is what is used, though the file changes in between."""
    from pyfactory.job.spec import load_job

    spec = load_job(write_job(folder, f"tokenize: {{{VOCAB}}}"))
    vocab = json.loads((folder / "vocab.json").read_text())
    (folder / "vocab.json").write_text(json.dumps(dict(zip(vocab, [*vocab.values()][::-1], strict=True))))
    ((_, tokens),) = rows_of(objects, run(objects, spec, text_table(objects, ["abc"])))
    assert tokens == [*oracle().encode("abc").ids, 999]


def rows_array(objects: Objects, result: JobResult, row: int) -> np.ndarray:
    """Return the tokens of a row, which Python lists would be too large for."""
    columns = [open_content(objects, part).column(0) for part in result.parts]
    tokens: np.ndarray = pa.chunked_array(columns)[row].values.to_numpy()
    return tokens


def test_tasks_are_named_by_all_that_decides_them(objects: Objects) -> None:
    parts = [next(text_table(objects, ["a", "b"], ids=ids).parts()) for ids in (["x", "y"], ["x", "z"])]
    keep, other = digest_of(b"selection"), digest_of(b"another tokenizer")
    piece = Piece(parts[0], None, 2)
    first = TokenizeWork(piece, keep, 1, "escape", 300)
    works = [
        first,
        replace(first, piece=Piece(parts[1], None, 2)),
        replace(first, piece=Piece(parts[0], keep, 1)),
        replace(first, tokenizer=other),
        replace(first, append=2),
        replace(first, special_text="keep"),
    ]
    assert len({work.task().name() for work in works}) == len(works)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["words", "gap", "one word"])
def test_a_document_of_200_megabytes(objects: Objects, folder: Path, kind: str) -> None:
    unit = {"words": "some words, and 'quotes' żółw\n", "gap": "\u088f's word\n", "one word": "ab" * 20}[kind]
    times = 200_000_000 // len(unit.encode()) if kind != "one word" else 500_000
    text = unit * times
    result = run(objects, write_job(folder, f"tokenize: {{{VOCAB}}}"), text_table(objects, ["x", text, "y"]), 1)
    tokens = rows_array(objects, result, 1)
    if kind == "one word":
        assert len(tokens) > len(text) // 8 and tokens[-1] == 999
        return
    unit_ids, twice = oracle().encode(unit).ids, oracle().encode(unit * 3).ids
    assert twice == unit_ids * 3, "the unit repeats token by token"
    assert len(tokens) == len(unit_ids) * times + 1
    assert (tokens[:-1].reshape(times, -1) == unit_ids).all()


def test_pieces_are_cut_by_part_alone(objects: Objects, folder: Path) -> None:
    """One task per part, with the same names for any number of workers: what one run did, the other finds done."""
    texts = [f"text {row}" for row in range(40)]
    table = text_table(objects, texts, range(0, 40, 5))
    job = write_job(folder, f"tokenize: {{{VOCAB}}}")
    first, again = run(objects, job, table, 1), run(objects, job, table, 8)
    assert (first.computed, first.reused) == (8 + 2, 0)
    assert (again.computed, again.reused) == (0, 8 + 2)
    assert again.parts == first.parts
    assert len(first.parts) == 1, "all fit into one shard"
