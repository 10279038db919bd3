"""Where records are: the index compared with a look at every row, after all that happens to tables and to itself."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyfactory.core.digest import NO_DIGEST, Buffer, digest_of
from pyfactory.errors import NotFoundError, ReadOnlyError
from pyfactory.repo.forget import forget
from pyfactory.repo.home import Home
from pyfactory.repo.index_files import INDEX, index_sides
from pyfactory.repo.objects import TableState
from pyfactory.repo.proof import prove
from pyfactory.repo.record_index import rows_of_record, tokens_of_rows
from pyfactory.repo.repository import Repository
from pyfactory.repo.segments import segments_of
from pyfactory.repo.stats import stats
from pyfactory.repo.sweep import gc
from pyfactory.repo.version import Version
from pyfactory.shard.blank import forgotten_id
from pyfactory.shard.manifest import Entry, Part
from pyfactory.shard.reader import open_shard, open_side, token_buffers
from pyfactory.store.base import Store
from pyfactory.store.memory import MemoryStore
from pyfactory.store.wrap import Counted
from tests.erasure_tables import raw_part, table_of, token_part

Places = dict[str, list[tuple[int, int]]]


def scanned(version: Version) -> Places:
    """The rows of every id, by looking at all of them."""
    found: Places = {}
    for shard, part in enumerate(version.parts()):
        if part.side != NO_DIGEST:
            ids = open_side(version.repository.objects.map(part.side), "side").ids.to_pylist()
            for row, record in enumerate(ids):
                found.setdefault(record, []).append((shard, row))
    return found


def answered(version: Version, *more: str) -> Places:
    """The same from the index, for all ids that there are and some more."""
    names = [*scanned(version), *more]
    return {name: places for name in names if (places := rows_of_record(version, name))}


def corpus(where: Path | Store, batches: Sequence[Sequence[Sequence[int]]]) -> Repository:
    """A table `corpus` of batches of shards of documents, by number."""
    repo = Repository.create(where)
    state: TableState | None = None
    for batch in batches:
        parts = [token_part(repo.objects, numbers) for numbers in batch]
        state = table_of(repo.objects, parts, tokens=True, after=state)
    assert state is not None
    repo.commit({"corpus": state}, message="corpus")
    return repo


def indexes(repo: Repository) -> list[str]:
    return [key for key, _ in repo.store.list(INDEX)]


numbers = st.lists(st.integers(0, 40), min_size=1, max_size=6)


@settings(max_examples=25, deadline=None)
@given(batches=st.lists(st.lists(numbers, min_size=1, max_size=3), min_size=1, max_size=24))
def test_rows_are_those_of_a_scan(batches: list[list[list[int]]]) -> None:
    """Catches: rows of an id that stands more than once, shards counted from the wrong segment, folded batches."""
    version = corpus(MemoryStore(), batches).version("corpus")
    assert answered(version, "nobody", "doc-41") == scanned(version)


def test_tokens_are_those_of_the_rows() -> None:
    """Catches: the token behind a document taken for its own, tokens counted from the start of the shard."""
    repo = corpus(MemoryStore(), [[range(5), range(5, 9)], [[3, 20]]])
    version, start, wanted = repo.version("corpus"), 0, {}
    for shard, part in enumerate(version.parts()):
        bounds = token_buffers(open_shard(repo.objects.map(part.shard), "shard"))[1].tolist()
        for row in range(part.rows):
            wanted[shard, row] = start + bounds[row], start + bounds[row + 1]
        start += part.tokens
    assert dict(zip(wanted, tokens_of_rows(version, wanted), strict=True)) == wanted


def test_warm_it_is_two_reads_and_a_side() -> None:
    """Catches: an index that is read whole, or opened again for each question, where there are no files."""
    store = Counted(MemoryStore())
    version = corpus(store, [[range(low, low + 20) for low in range(0, 200, 20)]]).version("corpus")
    assert version.record_index.build() == 1
    rows_of_record(version, "doc-7")
    store.calls.clear()
    assert rows_of_record(version, "doc-133") == [(6, 13)]
    assert store.calls == {"get_range": 2, "path": 1, "get": 1}
    assert rows_of_record(version, "doc-200") == []


@pytest.mark.parametrize("where", ["disk", "memory"])
@pytest.mark.parametrize("harm", ["gone", "short", "long", "flipped", "empty"])
@pytest.mark.parametrize("opened", [False, True])
def test_a_damaged_index_is_made_again(tmp_path: Path, where: str, harm: str, opened: bool) -> None:
    """Catches: an index that is believed, or an error for what is only advice."""
    store: Path | Store = tmp_path / "repo" if where == "disk" else MemoryStore()
    repo = corpus(store, [[range(5), range(5, 9)]])
    version = repo.version("corpus")
    wanted = answered(version)
    (key,) = indexes(repo)
    good = repo.store.get(key)
    harmed = {"short": good[:-1], "long": good + b"0", "empty": b"", "gone": b""}
    harmed["flipped"] = b"".join(bytes([octet ^ (at > 200)]) for at, octet in enumerate(good))
    if harm == "gone":
        repo.store.delete(key)
    else:
        repo.store.replace(key, harmed[harm])
    again = version if opened else repo.version("corpus")
    assert answered(again) == wanted == scanned(version)
    assert answered(repo.version("corpus"), "nobody") == wanted
    assert answered(repo.version("corpus")) == wanted
    if harm != "flipped":  # of that only the blocks that were asked for
        assert repo.store.get(key) == good or (harm == "long" and opened)


class ReadOnly(MemoryStore):
    """A store that one may not write to."""

    locked = False

    def create_from_file(self, key: str, path: Path) -> bool:
        """Refuse."""
        if self.locked:
            raise ReadOnlyError(f"{key} may not be written")
        return super().create_from_file(key, path)

    def replace(self, key: str, content: Buffer, *, durable: bool = True) -> None:
        """Refuse."""
        if self.locked:
            raise ReadOnlyError(f"{key} may not be written")
        super().replace(key, content, durable=durable)


@pytest.mark.parametrize("damaged", [False, True])
def test_without_leave_to_write_it_is_only_slower(damaged: bool) -> None:
    """Catches: readers of other people's data that cannot ask where a record is."""
    store = ReadOnly()
    repo = corpus(store, [[range(5), range(5, 9)]])
    if damaged:
        answered(repo.version("corpus"))
        (key,) = indexes(repo)
        store.replace(key, b"rubbish")
    store.locked = True
    version = repo.version("corpus")
    assert answered(version) == scanned(version)
    assert len(indexes(repo)) == damaged


def test_an_append_adds_a_small_index() -> None:
    """Catches: a table that is indexed anew with every batch, or has as many indexes as batches."""
    repo = corpus(MemoryStore(), [[range(4)]])
    objects, made = repo.objects, []
    state = repo.tables()["corpus"]
    for number in range(1, 20):
        state = table_of(objects, [token_part(objects, [number, number + 1])], tokens=True, after=state)
        repo.commit({"corpus": state}, message="more")
        version, before = repo.version("corpus"), set(indexes(repo))
        assert version.record_index.build() <= 7
        made.append(sum(len(index_sides(repo.store, key)) for key in set(indexes(repo)) - before))
        assert rows_of_record(version, f"doc-{number + 1}")[-1] == (number, 1)
    assert made.count(1) >= 16


def entry_of(number: int, rows: int) -> Entry:
    digest = digest_of(number.to_bytes(4, "little"))
    return Entry(number + 1, digest, 0, Part(digest, digest, rows, 0, 0))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 10**6), max_size=300))
def test_segments_are_few_and_hold_every_shard_once(rows: list[int]) -> None:
    """Catches: a segment lost or doubled when they are joined, and tables with a segment for each batch."""
    entries = [entry_of(number, count) for number, count in enumerate(rows)]
    found = segments_of(entries, lambda side: side)
    assert b"".join(segment.packed for segment in found) == b"".join(
        bytes.fromhex(entry.part.side) for entry in entries
    )
    assert [segment.first for segment in found] == np.cumsum([0, *(one.shards for one in found)])[:-1].tolist()
    assert sum(segment.rows for segment in found) == sum(rows)
    assert len(found) <= 7 * 6
    shorter = segments_of(entries[:-1], lambda side: side)
    assert all(one in shorter for one in found[:-1]) or len(found) < len(shorter)


def test_a_record_is_written_again_a_few_times_only() -> None:
    """Catches: all segments joined whenever there are some, which costs each append the whole table."""
    entries = [entry_of(number, 5000) for number in range(300)]
    written, known = 0, set()
    for count in range(1, len(entries) + 1):
        found = segments_of(entries[:count], lambda side: side)
        written += sum(one.shards for one in found if one.packed not in known)
        known |= {one.packed for one in found}
        assert len(found) <= 7 * 3
    assert written < 4 * len(entries)


@pytest.mark.parametrize("where", ["disk", "memory"])
def test_after_a_redaction_it_is_another_index(tmp_path: Path, where: str) -> None:
    """Catches: an index named by the sides as they were, which still finds what was forgotten; one that gc leaves."""
    repo = corpus(tmp_path / "repo" if where == "disk" else MemoryStore(), [[range(5), range(5, 9)], [[20, 21]]])
    opened = repo.version("corpus")
    before = answered(opened)
    (old, other) = sorted(indexes(repo), key=lambda key: -len(index_sides(repo.store, key)))
    forget(repo, ["doc-6"], "asked to", who="Ada")
    for version in (opened, repo.version("corpus")):
        gone = {"doc-6": forgotten_id("doc-6")}
        assert answered(version, "doc-6") == {gone.get(name, name): rows for name, rows in before.items()}
    assert len(indexes(repo)) == 3
    assert "a record index tells" in " ".join(failure.message for failure in prove(repo).failures)
    report = gc(repo, grace=timedelta())
    assert report.by_kind["record indexes"][0] == 1
    assert old not in indexes(repo) and other in indexes(repo) and len(indexes(repo)) == 2
    assert not prove(repo).failures
    assert rows_of_record(opened, forgotten_id("doc-6")) == before["doc-6"]


def test_who_opened_it_before_learns_of_a_redaction(tmp_path: Path) -> None:
    """Catches: an error for a record that stands beside one that another process has forgotten and swept."""
    repo = corpus(tmp_path / "repo", [[range(5), range(5, 9)]])
    version = repo.version("corpus")
    assert rows_of_record(version, "doc-6") == [(1, 1)]
    other = Repository.open(tmp_path / "repo")
    forget(other, ["doc-6"], "asked to", who="Ada")
    gc(other, grace=timedelta())
    assert rows_of_record(version, "doc-7") == [(1, 2)]
    assert rows_of_record(version, "doc-6") == []


def test_gc_keeps_the_indexes_of_what_it_keeps(tmp_path: Path) -> None:
    """Catches: a sweep that makes everybody index everything again, or leaves indexes of what is gone."""
    repo = corpus(tmp_path / "repo", [[range(5), range(5, 9)]])
    repo.branch("side")
    state = table_of(repo.objects, [raw_part(repo.objects, range(30, 35))])
    repo.commit({"raw": state}, "side", message="raw")
    for name, table, ref in (("corpus", "corpus", "main"), ("raw", "raw", "side")):
        assert answered(repo.version(table, ref)), name
    kept = {key for key in indexes(repo) if len(index_sides(repo.store, key)) == 2}
    assert stats(repo).kinds["index"][0] == 2
    repo.store.create("index/records/strange", b"?")
    repo.delete_branch("side")
    gc(repo, grace=timedelta())
    assert {*indexes(repo)} == kept | {"index/records/strange"}


def test_a_side_that_is_gone_is_an_error(tmp_path: Path) -> None:
    repo = corpus(tmp_path / "repo", [[range(5)]])
    home: Home = repo
    version = repo.version("corpus")
    (part,) = version.parts()
    repo.store.delete(home.objects.key(part.side))
    with pytest.raises(NotFoundError):
        rows_of_record(version, "doc-1")


def test_rows_without_ids_are_no_records() -> None:
    """Catches: an index of imported tokens, which have no ids, that cannot be made."""
    repo = Repository.create(MemoryStore())
    parts = [token_part(repo.objects, [1, 2]), token_part(repo.objects, [3])]
    parts[0] = Part(parts[0].shard, NO_DIGEST, parts[0].rows, parts[0].tokens, parts[0].nbytes)
    for chosen in (parts, parts[:1]):
        repo.commit({"corpus": table_of(repo.objects, chosen, tokens=True)}, message="tokens")
        version = repo.version("corpus")
        assert answered(version, "doc-1") == scanned(version) == ({"doc-3": [(1, 0)]} if chosen == parts else {})
