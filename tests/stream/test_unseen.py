"""A new version in the middle of a run: what was left and what was added come once each, what was removed is masked."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyfactory.errors import InvalidInputError
from pyfactory.repo.repository import Repository
from pyfactory.repo.version import Version
from pyfactory.store.memory import MemoryStore
from pyfactory.stream.mixture import Mixture
from pyfactory.stream.stream import Stream
from pyfactory.stream.unseen import compare
from tests.stream.stream_model import Document, commit_tokens, named_documents

L = 5


def two_versions(old: list[list[Document]], new: list[list[Document]], *, append: bool) -> tuple[Version, Version]:
    repo = Repository.create(MemoryStore())
    commit_tokens(repo, "t", old)
    repo.tag("old")
    commit_tokens(repo, "t", new, append=append)
    repo.tag("new")
    return repo.version("t", "old"), repo.version("t", "new")


def tokens_of(runs) -> list[tuple[int, int]]:
    return list(zip(runs.firsts.tolist(), runs.lengths.tolist(), strict=True))


def in_shards(documents: list[Document], cuts: int) -> list[list[Document]]:
    shards: list[list[Document]] = [[]]
    for number, document in enumerate(documents):
        if shards[-1] and cuts >> number & 1:
            shards.append([])
        shards[-1].append(document)
    return shards


DOCUMENTS = st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(1, 4)), min_size=1, max_size=12)


def numbered(documents: list[tuple[str, int]], first: int) -> list[Document]:
    bounds = np.cumsum([first, *(length for _, length in documents)])
    return [(name, range(bounds[i], bounds[i + 1])) for i, (name, _) in enumerate(documents)]


@settings(max_examples=150, deadline=None)
@given(old=DOCUMENTS, new=DOCUMENTS, cuts=st.tuples(st.integers(0, 2**12), st.integers(0, 2**12)))
def test_what_one_version_has_and_the_other_has_not(old, new, cuts) -> None:
    """Catches: documents paired twice, the wrong one of several of a name, runs that are cut or joined wrongly."""
    here, there = numbered(old, 0), numbered(new, 0)
    before, after = two_versions(in_shards(here, cuts[0]), in_shards(there, cuts[1]), append=False)
    found = compare(before, after)

    def alone(mine: list[Document], others: list[tuple[str, int]]) -> list[int]:
        left = Counter(others)
        tokens: list[int] = []
        for name, document in mine:
            if left[name, len(document)]:
                left[name, len(document)] -= 1
            else:
                tokens += document
        return tokens

    for runs, expected in ((found.added, alone(there, old)), (found.removed, alone(here, new))):
        listed = [token for first, length in tokens_of(runs) for token in range(first, first + length)]
        assert listed == expected
        assert all(a + n < b for (a, n), (b, _) in zip(tokens_of(runs), tokens_of(runs)[1:], strict=False))


def test_appended_shards_are_not_opened(monkeypatch) -> None:
    """Catches: a comparison whose cost is that of the table."""
    documents = named_documents("x", [3] * 40, 0)
    old, new = two_versions([documents[:10], documents[10:20]], [documents[20:30], documents[30:]], append=True)
    monkeypatch.setattr(type(new.repository.objects), "map", None)
    found = compare(old, new)
    assert tokens_of(found.added) == [(60, 60)]
    assert found.added.documents == 20
    assert len(found.removed.firsts) == 0


@settings(max_examples=60, deadline=None)
@given(
    old=st.lists(st.integers(1, 20), min_size=1, max_size=12),
    new=st.lists(st.integers(1, 20), min_size=1, max_size=12),
    removed=st.integers(0, 2**12),
    at=st.integers(1, 80),
    seed=st.integers(0, 2**64 - 1),
)
def test_each_old_and_each_added_sample_comes_once(old, new, removed, at, seed) -> None:
    """Catches: a sample that repeats or is lost, a removed record that comes or is masked too early, a wrong end."""
    first, added = named_documents("o", old, 0), named_documents("n", new, 10_000)
    total = sum(old)
    if total <= L:
        return
    kept = [document for number, document in enumerate(first) if not removed >> number & 1]
    gone = {token for number, (_, tokens) in enumerate(first) if removed >> number & 1 for token in tokens}
    before, after = two_versions([first[:3], first[3:]] if first[3:] else [first], [kept + added], append=False)
    n = (total - 1) // L
    stream = Stream(before, seed=seed, sequence_length=L, fill=7)
    shown = stream.tokens(np.arange(at)).tolist()
    left = 0 if at % n == 0 else n - at % n
    more = max(sum(new) - 1, 0) // L
    if after.tokens <= L or left + more == 0:
        with pytest.raises(InvalidInputError):
            stream.then(at=at, version=after, unseen_only=True)
        return
    longer = stream.then(at=at, version=after, unseen_only=True)
    assert longer.tokens(np.arange(at)).tolist() == shown
    assert [phase.start for phase in longer.phases] == [0, at, at + left + more]
    rows = longer.tokens(np.arange(at, at + left + more)).tolist()
    plain_old, plain_new = np.arange(total), np.concatenate([list(tokens) for _, tokens in added])
    tail = {tuple(plain_old[i * L : i * L + L]) for i in range(n)}
    tail -= {tuple(row) for row in stream.tokens(np.arange(at // n * n, at)).tolist()} if left else tail
    wanted = [[7 if token in gone else int(token) for token in row] for row in tail]
    wanted += [plain_new[i * L : i * L + L].tolist() for i in range(more)]
    assert sorted(rows) == sorted(wanted)
    positions = np.arange(at + left + more + 5)
    assert (longer.position_of(longer.addresses(positions)) == positions).all()
    # A new epoch of the new version, in an order of its own.
    epoch = -(-at // n)
    whole = Stream(after, seed=seed, sequence_length=L)
    begin = epoch * len(whole)
    end = at + left + more
    assert longer.tokens(np.arange(end, end + 3)).tolist() == whole.tokens(np.arange(begin, begin + 3)).tolist()


def test_both_end_together() -> None:
    """Catches: added samples that all come first or last."""
    old, new = named_documents("o", [501], 0), named_documents("n", [251], 10_000)
    before, after = two_versions([old], [new], append=True)
    stream = Stream(before, seed=1, sequence_length=L).then(at=1, version=after, unseen_only=True)
    rows = stream.tokens(np.arange(1, 1 + 99 + 50))
    share = np.cumsum(rows[:, 0] >= 10_000) - np.arange(1, 150) * 50 / 149
    assert np.abs(share).max() <= 1


def test_weights_may_change_while_it_lasts() -> None:
    """Catches: an unseen source that starts anew when a phase begins in the middle of it."""
    old, new = named_documents("o", [101], 0), named_documents("n", [101], 10_000)
    before, after = two_versions([old], [new], append=True)
    other = two_versions([named_documents("x", [60], 50_000)], [], append=True)[0]
    mixed = Stream(Mixture({"t": before, "x": other}), seed=1, sequence_length=L)
    stream = mixed.then(at=10, versions={"t": after}, unseen_only=True).then(at=20, weights={"t": 3, "x": 1})
    stop = stream.phases[2].stop
    assert stop is not None
    rows = stream.tokens(np.arange(stop))
    mine = [tuple(row) for row in rows.tolist() if row[0] < 50_000]
    assert len(mine) == len(set(mine)) == 40
    assert [
        source["unseen_since"]
        for phase in stream.identity["then"]
        for source in phase["sources"]
        if "unseen_since" in source
    ] == [before.digest] * 2
    # The same, said as a mixture that goes on with the new version.
    whole = mixed.then(at=10, versions={"t": after}, unseen_only=True)
    whole = whole.then(at=20, mixture=Mixture({"t": (after, 3), "x": (other, 1)}))
    assert whole.digest(0, stop + 20) == stream.digest(0, stop + 20)
    positions = np.arange(stop + 20)
    assert (stream.position_of(stream.addresses(positions)) == positions).all()
    with pytest.raises(InvalidInputError, match="still delivering"):
        mixed.then(at=10, versions={"t": after}, unseen_only=True).then(at=20, versions={"t": before}, unseen_only=True)


def test_who_comes_too_early_learns_when_to_come() -> None:
    """Catches: a position in the hint at which the phase is refused as well, or one that is too late."""
    old, new = named_documents("o", [101], 0), named_documents("n", [101], 10_000)
    before, after = two_versions([old], [new], append=True)
    stream = Stream(before, seed=1, sequence_length=L).then(at=10, version=after, unseen_only=True)
    end = stream.phases[2].start
    with pytest.raises(InvalidInputError, match="still delivering") as refused:
        stream.then(at=15, version=before, unseen_only=True)
    assert f"at position {end}: begin the phase behind it" in refused.value.hint
    with pytest.raises(InvalidInputError, match="still delivering"):
        stream.then(at=end, version=before, unseen_only=True)
    assert stream.then(at=end + 1, version=before, unseen_only=True).phases[3].start == end + 1


def test_refusals() -> None:
    documents = named_documents("o", [50], 0)
    before, after = two_versions([documents], [named_documents("n", [3], 900)], append=True)
    stream = Stream(before, seed=1, sequence_length=L)
    with pytest.raises(InvalidInputError, match="nothing is unseen"):
        stream.then(at=9, version=after, unseen_only=True)
    with pytest.raises(InvalidInputError, match="of the phase before"):
        stream.then(at=4, version=after, unseen_only=True, sequence_length=4)
    elsewhere = two_versions([documents], [documents], append=True)[1]
    with pytest.raises(InvalidInputError, match="cannot be compared"):
        stream.then(at=4, version=elsewhere, unseen_only=True)
