"""What must not change a stream of several sources and phases: shards, redactions, processes, the way of asking."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pyfactory.errors import InvalidInputError
from pyfactory.loader.batch import FIELDS
from pyfactory.loader.loader import DataLoader
from pyfactory.repo.forget import forget
from pyfactory.repo.repository import Repository
from pyfactory.store.memory import MemoryStore
from pyfactory.stream.mixture import Mixture, Source
from pyfactory.stream.stream import Stream
from tests.stream.stream_model import Document, commit_tokens, named_documents

L, COUNT = 6, 150
OLD = named_documents("o", [7, 30, 2, 55, 11, 4, 9, 40], 0)
NEW = named_documents("n", [25, 3, 61], 10_000)
OTHER = named_documents("x", [20, 33, 8, 50], 20_000)


def cut(documents: list[Document], bits: int) -> list[list[Document]]:
    shards: list[list[Document]] = [[]]
    for number, document in enumerate(documents):
        if shards[-1] and bits >> number & 1:
            shards.append([])
        shards[-1].append(document)
    return shards


def opened(repo: Repository) -> Stream:
    """Return a stream with two sources and four phases: weights, a cap, a new version without repeats."""
    old, new, other = repo.version("t", "old"), repo.version("t", "new"), repo.version("x", "new")
    stream = Stream(
        Mixture({"t": (old, "0.7"), "x": Source(other, "0.3", epochs=2)}), seed=5, sequence_length=L, fill=3
    )
    return stream.then(at=9, weights={"t": 1, "x": 2}).then(at=20, versions={"t": new}, unseen_only=True)


def made(where: object, bits: tuple[int, int, int]) -> Repository:
    """Return a repository of three tables cut into shards somehow; the new version lacks the second document."""
    repo = Repository.create(where)  # type: ignore[arg-type]
    commit_tokens(repo, "t", cut(OLD, bits[0]))
    repo.tag("old")
    commit_tokens(repo, "t", cut([OLD[0], *OLD[2:], *NEW], bits[1]))
    commit_tokens(repo, "x", cut(OTHER, bits[2]))
    repo.tag("new")
    return repo


def listed(value: object) -> object:
    return value.tolist() if isinstance(value, torch.Tensor) else value


def batches(stream: Stream) -> list[dict[str, object]]:
    loader = DataLoader(stream, batch_size=5, fields=FIELDS)
    found: list[dict[str, object]] = []
    while len(found) * 5 < COUNT:
        found += [{name: listed(value) for name, value in batch.items()} for batch in loader]
    return found


@settings(max_examples=15, deadline=None)
@given(bits=st.tuples(*[st.integers(0, 2**12)] * 3))
def test_shards_do_not_matter(bits: tuple[int, int, int]) -> None:
    """Catches: an order, an added run or a mask that depends on how rows are cut into shards."""
    whole, parts = opened(made(MemoryStore(), (0, 0, 0))), opened(made(MemoryStore(), bits))
    assert [phase.start for phase in parts.phases] == [phase.start for phase in whole.phases]
    assert parts.digest(0, COUNT) == whole.digest(0, COUNT)
    assert batches(parts)[:20] == batches(whole)[:20]


@settings(max_examples=12, deadline=None)
@given(gone=st.sets(st.sampled_from([name for name, _ in (*OLD, *NEW, *OTHER)]), min_size=1, max_size=5))
def test_what_is_forgotten_moves_nothing(gone: set[str]) -> None:
    """Catches: added samples that are counted anew, or a removed record that is looked for by its tokens."""
    repo = made(MemoryStore(), (5, 9, 2))
    before, rows = opened(repo), opened(repo).tokens(np.arange(COUNT))
    forget(repo, sorted(gone), "asked to", who="Ada")
    after = opened(Repository.open(repo.store))
    dead = {token for name, tokens in (*OLD, *NEW, *OTHER) if name in gone for token in tokens}
    expected = [[3 if token in dead else token for token in row] for row in rows.tolist()]
    assert after.tokens(np.arange(COUNT)).tolist() == expected
    assert [phase.start for phase in after.phases] == [phase.start for phase in before.phases]
    loader = DataLoader(after, batch_size=5)
    loader.load_state_dict(DataLoader(opened(repo), batch_size=5).state_dict())


def test_two_processes_agree(tmp_path: Path) -> None:
    """Catches: an order that depends on a process: hash seeds, threads, what was asked for before."""
    made(tmp_path / "r", (5, 9, 2))
    program = (
        "import sys; from tests.stream.test_stream_invariants import opened; "
        "from pyfactory.repo.repository import Repository; import json; "
        "s = opened(Repository.open(sys.argv[1])); print(json.dumps([s.digest(0, 150), s.identity]))"
    )
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", program, str(tmp_path / "r")]
    shown = [
        subprocess.run(command, cwd=root, check=True, capture_output=True, text=True, env={"PYTHONHASHSEED": seed})
        for seed in ("1", "2")
    ]
    here = opened(Repository.open(tmp_path / "r"))
    here.tokens([140, 3])
    for one in shown:
        assert json.loads(one.stdout) == [here.digest(0, 150), here.identity]


@settings(max_examples=40, deadline=None)
@given(asked=st.lists(st.integers(0, COUNT), min_size=1, max_size=40))
def test_any_order_of_asking(asked: list[int]) -> None:
    """Catches: a window or a phase kept from the position before."""
    stream = opened(made(MemoryStore(), (5, 9, 2)))
    one_by_one = np.concatenate([stream.tokens([position]) for position in asked])
    assert (stream.tokens(asked) == one_by_one).all()
    assert (stream.position_of(stream.addresses(asked)) == asked).all()


def test_records_are_those_that_are_received() -> None:
    """Catches: a record of another source, or of the version before."""
    stream = opened(made(MemoryStore(), (5, 9, 2)))
    by_token = {token: name for name, tokens in (*OLD, *NEW, *OTHER) for token in tokens}
    rows = stream.tokens(np.arange(COUNT))
    for position in range(COUNT):
        spans = [span for span in stream.records(position, position + 1) if span.start < span.stop]
        listed = [(span.id, at) for span in spans for at in range(span.start, span.stop)]
        for token, (name, at) in zip(rows[position].tolist(), listed, strict=False):
            document = dict((*OLD, *NEW, *OTHER))[name]
            removed = stream.tables[stream.feeds[int(stream.addresses([position]).feed[0])].table].removed is not None
            assert token == 3 if removed and name == "o-1" else (by_token[token], token) == (name, document[at])


def test_tables_of_two_tokenizers_do_not_mix() -> None:
    """Catches: token 17 of one vocabulary fed to a model as that of another."""
    repo = Repository.create(MemoryStore())
    commit_tokens(repo, "a", [OLD], tokenizer=b"one")
    commit_tokens(repo, "b", [OTHER], tokenizer=b"two")
    repo.tag("v")
    with pytest.raises(InvalidInputError, match="tokenizer"):
        Stream(Mixture({"a": repo.version("a", "v"), "b": repo.version("b", "v")}), seed=1, sequence_length=L)
    alone = Stream(repo.version("a", "v"), seed=1, sequence_length=L)
    with pytest.raises(InvalidInputError, match="tokenizer"):
        alone.then(at=5, version=repo.version("b", "v"))
