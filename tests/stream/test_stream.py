"""The stream: addresses and their inverse, content, digest, records; against plain concatenation."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import blake3
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyfactory.errors import CorruptError, InvalidInputError
from pyfactory.native import reference
from pyfactory.order.permutation import SourceOrder
from pyfactory.repo.repository import Repository
from pyfactory.store.local import LocalStore
from pyfactory.stream.shards import OpenShards
from pyfactory.stream.stream import Stream
from tests.corpora import documents_of, memory_stream, token_repository

LENGTHS = [3, 1, 40, 7, 1, 1, 25, 60, 2, 18, 33]


def joined(documents: list[np.ndarray]) -> np.ndarray:
    return np.concatenate(documents)


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 30), min_size=2, max_size=30),
    cut_bits=st.integers(0, 2**29 - 1),
    length=st.integers(1, 40),
    block=st.integers(1, 9),
    window=st.integers(1, 5),
    seed=st.integers(0, 2**64 - 1),
    width=st.sampled_from([1, 2, 4]),
)
def test_content_is_that_of_the_joined_documents(lengths, cut_bits, length, block, window, seed, width):
    """Catches: a wrong piece at a shard border, a document bound off by one, a token read at another width."""
    documents = documents_of(lengths)
    tokens = joined(documents)
    if len(tokens) <= length:
        return
    cuts = [i for i in range(1, len(documents)) if cut_bits >> i & 1]
    recipe = {"seed": seed, "sequence_length": length, "block_size": block, "window": window}
    stream = memory_stream(documents, cuts, width, **recipe)
    n = (len(tokens) - 1) // length
    assert len(stream) == n
    order = SourceOrder(n, seed, "corpus", block_size=block, window=window)
    positions = np.arange(2 * n + 1)
    ordinals = order.samples_at(positions)
    addresses = stream.addresses(positions)
    assert (stream.position_of(addresses) == positions).all()
    assert (np.diff(addresses.offsets) >= 1).all()
    rows = stream.tokens(positions)
    for position, ordinal in zip(positions, ordinals, strict=True):
        assert (rows[position] == tokens[ordinal * length : (ordinal + 1) * length]).all()
    starts = set(np.cumsum([0, *lengths[:-1]]).tolist())
    expected = reference.batch_of(tokens, starts, [[(int(o) * length, length + 1)] for o in ordinals], length)
    outputs = {
        name: np.full((len(positions), length), -7, np.int32 if name == "doc_ids" else np.int64)
        for name in ("input_ids", "targets", "position_ids", "doc_ids")
    }
    bounds, longest = stream.fill(addresses, cu_seqlens=True, **outputs)
    for name, array in outputs.items():
        assert (array == expected[name]).all(), name
    assert (bounds == expected["cu_seqlens"]).all()
    assert longest == expected["max_seqlen"]


def test_shards_do_not_matter():
    """Catches: an order or a digest that depends on shards or on digests of them."""
    documents = documents_of(LENGTHS)
    recipe = {"seed": 3, "sequence_length": 8}
    whole = memory_stream(documents, **recipe)
    digests = {
        memory_stream(documents, cuts, width, **recipe).digest(0, 100)
        for cuts in ((), (1,), (2, 5, 9), range(1, 11))
        for width in (1, 2, 4)
    }
    assert digests == {whole.digest(0, 100)}


def test_digest_is_what_a_receiver_computes():
    stream = memory_stream(documents_of(LENGTHS), (4,), seed=1, sequence_length=8)
    hasher = blake3.blake3()
    for position in range(5, 70):
        for token in stream.tokens([position])[0]:
            hasher.update(int(token).to_bytes(4, "little"))
    assert stream.digest(5, 70) == hasher.hexdigest()
    assert stream.digest(5, 5) == blake3.blake3().hexdigest()
    assert stream.digest(5, 70) != stream.digest(6, 71)


def test_seed_and_epoch_are_mixed_not_added():
    """Catches: an epoch seed of seed + epoch."""
    documents = documents_of([50] * 40)
    seven = memory_stream(documents, seed=7, sequence_length=4)
    eight = memory_stream(documents, seed=8, sequence_length=4)
    n = len(seven)
    firsts = [seven.addresses(np.arange(e * n, (e + 1) * n)).first.tolist() for e in range(3)]
    others = [eight.addresses(np.arange(e * n, (e + 1) * n)).first.tolist() for e in range(3)]
    different = [*firsts, *others]
    assert len({tuple(order) for order in different}) == 6
    assert all(sorted(order) == sorted(firsts[0]) for order in different)


def test_records_of_a_sample():
    documents = documents_of(LENGTHS)
    stream = memory_stream(documents, (3, 8), seed=5, sequence_length=16)
    tokens = joined(documents)
    ends = np.cumsum(LENGTHS)
    for position in range(len(stream)):
        spans = list(stream.records(position, position + 1))
        first = int(
            stream.version.manifest.token_starts(stream.addresses([position]).shard[:1])[0]
            + stream.addresses([position]).first[0]
        )
        wanted = []
        for number, end in enumerate(ends):
            begin = end - LENGTHS[number]
            low, high = max(begin, first), min(end, first + 17)
            if low < high:
                wanted.append((f"doc-{number}", low - begin, high - begin, LENGTHS[number]))
        assert [(s.id, s.start, s.stop, s.tokens) for s in spans] == wanted
        assert len(tokens)


def test_bad_input():
    documents = documents_of(LENGTHS)
    total = sum(LENGTHS)
    for length in (0, -1, total, total + 5, 2**40, True, 1.5):
        with pytest.raises(InvalidInputError):
            memory_stream(documents, seed=1, sequence_length=length)
    assert len(memory_stream(documents, seed=1, sequence_length=total - 1)) == 1
    for seed in (-1, 2**64, "7", True):
        with pytest.raises(InvalidInputError, match="seed"):
            memory_stream(documents, seed=seed, sequence_length=8)
    stream = memory_stream(documents, seed=1, sequence_length=8)
    for positions in ([-1], [1.5], np.array([[1]]), np.array([2**63], np.uint64)):
        with pytest.raises(InvalidInputError):
            stream.addresses(positions)
    assert len(stream.addresses([])) == 0
    with pytest.raises(InvalidInputError):
        stream.digest(5, 4)
    shifted = stream.addresses([3])
    shifted.first[0] += 1
    with pytest.raises(InvalidInputError, match="start of a sample"):
        stream.position_of(shifted)


def test_a_damaged_or_missing_shard_is_named(tmp_path):
    """Catches: reading past a truncated shard; an error that does not say which shard."""
    repo = token_repository(tmp_path / "r", documents_of(LENGTHS), (4,))
    part = repo.version("corpus").manifest.part(1)
    path = repo.store.path(repo.objects.key(part.shard))
    whole = path.read_bytes()
    for damaged in (whole[:-40], whole[:200], b"", b"x" * len(whole)):
        path.unlink()
        path.write_bytes(damaged)
        stream = Stream(Repository.open(LocalStore(tmp_path / "r")).version("corpus"), seed=1, sequence_length=8)
        with pytest.raises(CorruptError, match=part.shard[:12]):
            stream.digest(0, len(stream))


def test_more_shards_than_may_stay_open():
    """Catches: evicting a shard that a batch still needs, and not evicting at all."""
    stream = memory_stream(documents_of([9] * 60), range(1, 60), seed=2, sequence_length=20)
    shards = OpenShards(stream.tables, most_shards=3)
    with ThreadPoolExecutor(4) as threads:

        def read(position: int) -> bool:
            rows = np.empty((1, 20), np.int64)
            shards.fill(stream.addresses([position]), stream.recipe, input_ids=rows)
            return bool((rows == stream.tokens([position])).all())

        assert all(threads.map(read, [p % 50 for p in range(400)]))
    assert len(shards._held) <= 4


def test_a_shard_that_is_evicted_meanwhile_is_opened_again():
    """Catches: a batch that fails because another thread's shards took the place of its own just before the copy."""
    stream = memory_stream(documents_of([9] * 6), range(1, 6), seed=2, sequence_length=8)
    shards = stream._shards
    opened = []

    class Evicting:
        """The native set, with another thread's eviction in the worst place."""

        def __init__(self, native):
            self._native = native

        def fill(self, shard, *arguments, **outputs):
            if not opened:
                opened.append(int(shard[0]))
                self._native.remove(opened[0])
                del shards._held[opened[0]]
            return self._native.fill(shard, *arguments, **outputs)

        def __getattr__(self, name):
            return getattr(self._native, name)

    expected = stream.tokens([0])
    shards._native = Evicting(shards._native)
    assert (stream.tokens([0]) == expected).all()
    assert opened
