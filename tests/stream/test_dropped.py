"""Why a record is not in a stream: the filter that refused it, or the record that dedup kept in its place."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pyfactory.errors import NotFoundError
from pyfactory.factory import build
from pyfactory.repo.repository import Repository
from pyfactory.shard.manifest import new_batch, write_manifest
from pyfactory.stream.find import find
from pyfactory.stream.stream import Stream
from tests.erasure_tables import table_of
from tests.job.job_tables import text_part, write_job, write_vocab_and_merges
from tests.stream.scans import scanned

TEXTS = ["alpha beta gamma", "no", "alpha beta gamma", "delta epsilon zeta", "bad words in here", "delta epsilon zeta"]


@pytest.fixture
def built(tmp_path: Path) -> Repository:
    """`corpus` from `raw`, id-0 to id-9, by filter and dedup: id-0, id-3, id-6 and id-7 are left."""
    repo = Repository.create(tmp_path / "repo")
    texts = [*TEXTS, "eta theta iota", "kappa lambda mu", "eta theta iota", "refused by a function"]
    ids = [f"id-{row}" for row in range(len(texts))]
    parts = [text_part(repo.objects, texts[low:high], ids[low:high]) for low, high in ((0, 4), (4, 8), (8, 10))]
    repo.commit({"raw": raw_table(repo, parts)}, message="raw")
    write_vocab_and_merges(tmp_path)
    (tmp_path / "judge.py").write_text("def judge(text: str) -> bool:\n    return 'function' not in text\n")
    tokenize = "tokenize: {vocab: vocab.json, merges: merges.txt}"
    steps = ("filter: {min_chars: 4, rejects: bad}", "dedup: {method: exact}", 'filter: {function: "judge:judge"}')
    build(repo, write_job(tmp_path, *steps, tokenize, "shuffle: {seed: 1}"))
    repo.tag("v1")
    return repo


def raw_table(repo: Repository, parts: list[Any]) -> Any:
    state = table_of(repo.objects, parts)
    assert state.manifest == write_manifest(repo.objects, new_batch(parts, 1))
    return replace(state, schema=(("text", "large_string", False),))


def test_what_was_dropped_is_told_with_the_reason(built: Repository) -> None:
    """Catches: a twin that is not the one kept, a filter that did not decide it, a step counted wrong."""
    stream = Stream(built.version("corpus", "v1"), seed=1, sequence_length=4)
    left = {f"id-{row}" for row in (0, 3, 6, 7)}
    assert set(scanned(stream, 0, len(stream))) <= left
    twins = {"id-2": "id-0", "id-5": "id-3", "id-8": "id-6"}
    refused = {"id-1": (0, "min_chars: 4"), "id-4": (0, "rejects: bad"), "id-9": (2, "function: judge:judge")}
    for row in range(10):
        record = f"id-{row}"
        answer = find(stream, record)
        if record in left:
            assert answer.dropped == ()
            continue
        (reason,) = answer.dropped
        assert (reason.record, reason.table, reason.output) == (record, "raw", "corpus")
        if record in twins:
            twin = twins[record]
            assert (reason.by, reason.step, reason.twin) == ("dedup", 1, twin)
            assert answer.found == find(stream, twin).found and {one.record for one in answer.found} <= {twin}
        else:
            assert (reason.by, reason.step, reason.detail, reason.twin) == ("filter", *refused[record], "")
            assert answer.found == ()
    with pytest.raises(NotFoundError, match="no record 'id-10'"):
        find(stream, "id-10")


def test_a_function_before_dedup_may_have_refused_both(tmp_path: Path) -> None:
    """Catches: a twin that is not in the table either; a function blamed for what dedup dropped."""
    repo = Repository.create(tmp_path / "repo")
    texts = ["a function here", "b c d e f g", "a function here", "b c d e f g"]
    part = text_part(repo.objects, texts, [f"id-{row}" for row in range(4)])
    repo.commit({"raw": raw_table(repo, [part])}, message="raw")
    write_vocab_and_merges(tmp_path)
    (tmp_path / "judge.py").write_text("def judge(text: str) -> bool:\n    return 'function' not in text\n")
    steps = ('filter: {function: "judge:judge"}', "dedup: {}", "tokenize: {vocab: vocab.json, merges: merges.txt}")
    build(repo, write_job(tmp_path, *steps))
    stream = Stream(repo.version("corpus"), seed=1, sequence_length=2)
    reasons = {row: [(one.by, one.step, one.twin) for one in find(stream, f"id-{row}").dropped] for row in range(4)}
    refused = [("filter", 0, "")]
    assert reasons == {0: refused, 1: [], 2: refused, 3: [("dedup", 1, "id-1")]}


def test_what_a_job_further_back_dropped_is_told_too(built: Repository, tmp_path: Path) -> None:
    """Catches: only the last job asked; a twin that a later job dropped taken for the end of the story."""
    first = tmp_path / "first.yaml"
    first.write_text("input: raw\noutput: clean\nsteps:\n  - dedup: {method: exact}\n")
    build(built, first)
    second = tmp_path / "second.yaml"
    second.write_text(
        "input: clean\noutput: small\nsteps:\n  - filter: {rejects: alpha}\n"
        "  - tokenize: {vocab: vocab.json, merges: merges.txt}\n"
    )
    build(built, second)
    built.branch("side")
    built.merge("side")
    stream = Stream(built.version("small"), seed=1, sequence_length=2)
    reasons = find(stream, "id-2").dropped
    assert [(one.record, one.by, one.twin, one.table) for one in reasons] == [
        ("id-2", "dedup", "id-0", "raw"),
        ("id-0", "filter", "", "clean"),
    ]
    assert [one.record for one in find(stream, "id-5").found][:1] == ["id-3"]
