"""Imported tokens in a repository: the stream gives what the file holds, and an import may be run again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pyfactory.errors import BadRecordError, InvalidInputError
from pyfactory.factory import import_tokens, query
from pyfactory.loader.loader import DataLoader
from pyfactory.repo.repository import Repository
from pyfactory.store.memory import MemoryStore
from pyfactory.stream.sample import describe_sample
from pyfactory.stream.stream import Stream
from tests.corpora import documents_of, token_repository
from tests.raw_files import TOKENIZE, TRAIN, small_repository, write_job

LENGTH = 7


def write_tokens(path: Path, seed: int, count: int = 1000, eos: int = 99) -> np.ndarray:
    rng = np.random.default_rng(seed)
    tokens = rng.integers(0, 99, count).astype(np.uint16)
    tokens[rng.integers(0, count, count // 20)] = eos
    np.save(path, tokens)
    return tokens


def test_the_loader_delivers_the_files(tmp_path: Path) -> None:
    """Catches: tokens that are lost, doubled or reordered between shards, files or imports.

    The order of the loader is undone by the positions that it reports, not by asking the stream for tokens.
    """
    flat = np.concatenate([write_tokens(tmp_path / f"{name}.npy", seed) for seed, name in enumerate("abc")])
    repo = Repository.create(tmp_path / "repository")
    import_tokens(repo, "corpus", [tmp_path / "a.npy", tmp_path / "b.npy"], format="npy", eos=99)
    report = import_tokens(repo, "corpus", [tmp_path / "c.npy"], format="npy", eos=99)
    assert (report.tokens, report.all_tokens, report.width, report.vocab_size) == (1000, 3000, 1, 100)
    repo.tag("v1")
    version = repo.version("corpus", "v1")
    assert dict(version.attributes) == {"append": 99, "vocab_size": 100, "width": 1}
    stream = Stream(version, seed=5, sequence_length=LENGTH)
    assert len(stream) == (3000 - 1) // LENGTH
    loader = DataLoader(stream, batch_size=4)
    received: dict[int, np.ndarray] = {}
    ends: dict[int, np.ndarray] = {}
    for batch in loader:
        for row, index in enumerate(batch["indices"].tolist()):
            received.setdefault(index, batch["input_ids"][row].numpy().copy())
            ends.setdefault(index, np.flatnonzero(batch["position_ids"][row].numpy()[1:] == 0))
        if len(received) >= len(stream):
            break
    positions = np.arange(len(stream))
    addresses = stream.addresses(positions)
    heads = addresses.offsets[:-1]
    firsts = version.manifest.token_starts(addresses.shard[heads]) + addresses.first[heads]
    assert sorted(firsts.tolist()) == [*range(0, len(stream) * LENGTH, LENGTH)]
    for position, first in zip(positions.tolist(), firsts.tolist(), strict=True):
        expected = flat[first : first + LENGTH]
        assert received[position].tolist() == expected.tolist()
        last = (flat == 99) | np.isin(np.arange(3000), [999, 1999])
        assert ends[position].tolist() == np.flatnonzero(last[first : first + LENGTH - 1]).tolist()


def test_an_import_of_tokens_may_be_run_again(tmp_path: Path) -> None:
    """Catches: a rerun that appends everything twice; options, files or an index that do not count."""
    write_tokens(tmp_path / "a.npy", 1)
    write_tokens(tmp_path / "b.npy", 2)
    repo = Repository.create(MemoryStore())
    first = import_tokens(repo, "corpus", [tmp_path / "a.npy"], format="npy", eos=99)
    more = import_tokens(repo, "corpus", [tmp_path / "b.npy"], format="npy", eos=99)
    again = import_tokens(repo, "corpus", [tmp_path / "a.npy"], format="npy", eos=99, workers=1)
    assert (first.created, more.created, again.created) == (True, True, False)
    assert (again.commit, again.documents, again.all_tokens) == (first.commit, first.documents, 2000)
    write_tokens(tmp_path / "a.npy", 3)
    other = import_tokens(repo, "corpus", [tmp_path / "a.npy"], format="npy", eos=99)
    assert (other.created, other.all_tokens) == (True, 3000)
    doubled = import_tokens(repo, "corpus", [tmp_path / "a.npy"], format="npy", eos=99, vocab_size=120)
    assert (doubled.created, doubled.vocab_size) == (True, 120)
    ids = query(repo, "select count(*), count(distinct _id) from corpus").read_all().to_pylist()[0]
    assert len(set(ids.values())) == 1


def test_the_same_shards_with_any_number_of_workers(tmp_path: Path) -> None:
    versions = set()
    for workers in (1, 2, 5):
        for name in "ab":
            write_tokens(tmp_path / f"{name}.npy", ord(name), 5000)
        repo = Repository.create(MemoryStore())
        import_tokens(repo, "corpus", [tmp_path], format="npy", eos=99, workers=workers)
        versions.add(repo.version("corpus").digest)
    assert len(versions) == 1


def test_what_contradicts_the_table_is_refused(tmp_path: Path) -> None:
    """Catches: tokens beyond the vocabulary, or of another eos, in a table that promises otherwise."""
    repo = small_repository(tmp_path, 20)
    write_tokens(tmp_path / "a.npy", 1)
    (tmp_path / "big.npy").write_bytes((tmp_path / "a.npy").read_bytes())
    np.save(tmp_path / "big.npy", np.array([1, 99, 70_000], np.uint32))
    with pytest.raises(InvalidInputError, match="holds no tokens"):
        import_tokens(repo, "raw", [tmp_path / "a.npy"], format="npy")
    end = int(repo.version("corpus").attributes["append"])
    with pytest.raises(InvalidInputError, match=f"ends with the token {end}"):
        import_tokens(repo, "corpus", [tmp_path / "a.npy"], format="npy", eos=99)
    import_tokens(repo, "mine", [tmp_path / "a.npy"], format="npy", eos=99)
    head = repo.head()
    for options, said in (
        ({"eos": 99}, "token 2, at byte 136, is not below 100: 70000"),
        ({"eos": 99, "vocab_size": 50}, "has a vocabulary of 100"),
        ({"eos": 99, "vocab_size": 80_000}, "choose 100 to 256"),
        ({"eos": 99, "doc_lengths": tmp_path / "a.npy"}, "not by both"),
        ({"vocab_size": 0}, "cannot be"),
    ):
        with pytest.raises(InvalidInputError, match=said):
            import_tokens(repo, "mine", [tmp_path / "big.npy"], format="npy", **options)  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="no format"):
        import_tokens(repo, "mine", [tmp_path / "a.npy"], format="csv")
    with pytest.raises(BadRecordError):
        import_tokens(repo, "other", [tmp_path / "big.npy"], format="npy", vocab_size=70_000)
    assert repo.head() == head and "other" not in repo.tables()


def test_tokens_with_their_tokenizer(tmp_path: Path) -> None:
    """What a job tokenised, taken out of its shards and imported again with its tokenizer, is the same table."""
    from pyfactory.factory import build

    repo = small_repository(tmp_path, 20)
    build(repo, write_job(tmp_path / "plain.yaml", (TRAIN, TOKENIZE), output="plain"))
    plain = repo.version("plain")
    digest = plain.artifacts["tokenizer"]
    (tmp_path / "tokenizer.json").write_bytes(repo.objects.get(digest))
    column = plain.to_arrow().column("tokens").combine_chunks()
    tokens = column.flatten().to_numpy()
    (tmp_path / "tokens.bin").write_bytes(tokens.astype("<u4").tobytes())
    report = import_tokens(
        repo,
        "again",
        [tmp_path / "tokens.bin"],
        format="bin",
        dtype="uint32",
        eos=int(plain.attributes["append"]),
        tokenizer=tmp_path / "tokenizer.json",
    )
    again = repo.version("again")
    assert (report.documents, report.tokens) == (plain.rows, plain.tokens)
    assert (dict(again.attributes), dict(again.artifacts)) == (dict(plain.attributes), dict(plain.artifacts))
    assert again.to_arrow().column("tokens").to_pylist() == plain.to_arrow().column("tokens").to_pylist()
    sample = describe_sample(Stream(again, seed=1, sequence_length=16), 0)
    assert 0 < sample["targets"] <= 16
    assert sample["records"] and all(record["id"].startswith("b3:") for record in sample["records"])
    with pytest.raises(InvalidInputError, match="more than vocab_size 5"):
        import_tokens(
            repo, "x", [tmp_path / "tokens.bin"], format="bin", tokenizer=tmp_path / "tokenizer.json", vocab_size=5
        )


def test_a_table_keeps_its_width(tmp_path: Path) -> None:
    """Catches: tokens appended in the least width, beside wider ones."""
    repo = token_repository(MemoryStore(), documents_of([3, 4]), width=2)
    np.save(tmp_path / "a.npy", np.array([1, 2, 3], np.int64))
    assert import_tokens(repo, "corpus", [tmp_path / "a.npy"], format="npy").width == 2
    assert repo.version("corpus").to_arrow().column("tokens").to_pylist()[-1] == [1, 2, 3]
