"""Forgetting: every reader of every commit sees nothing where the record was, and everything else as before."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyfactory.core.digest import Buffer
from pyfactory.errors import ConflictError, InvalidInputError, NotFoundError, RefusedError
from pyfactory.repo.forget import forget
from pyfactory.repo.forgotten import missing_record, refuse_forgotten
from pyfactory.repo.leases import all_leases
from pyfactory.repo.listing import Listing, digests_of
from pyfactory.repo.operation import Change
from pyfactory.repo.redaction import LAST, load_redaction, overlay_of
from pyfactory.repo.refusal import list_refusals
from pyfactory.repo.repository import Repository
from pyfactory.repo.sweep import gc
from pyfactory.repo.transaction import publish
from pyfactory.shard.blank import blanked_content, forgotten_id
from pyfactory.shard.layout import key_of_id
from pyfactory.shard.manifest import Part
from pyfactory.shard.reader import open_shard
from pyfactory.store.content import Objects
from pyfactory.store.memory import MemoryStore
from tests.erasure_tables import delete_replaced, messages, raw_part, rows_of, shared_repository, table_of, text_of

TABLES = (("raw", "v1"), ("raw", "main"), ("docs", "v1"), ("corpus", "main"), ("gone", "side"))


@pytest.fixture
def repo() -> Repository:
    return shared_repository(MemoryStore())


def everything(repo: Repository) -> dict[tuple[str, str], dict[str, object]]:
    return {(table, ref): rows_of(repo, table, ref) for table, ref in TABLES}


def emptied(rows: dict[str, object], records: set[str]) -> dict[str, object]:
    """What rows must be after records were forgotten; the order of rows counts."""
    expected: dict[str, object] = {}
    for name, row in rows.items():
        if name not in records:
            expected[name] = row
        elif "tokens" in row:
            expected[forgotten_id(name)] = {"tokens": [0] * len(row["tokens"])}
        else:
            expected[forgotten_id(name)] = {"text": "", "n": None, "kept": False}
    return expected


def stored(repo: Repository) -> dict[str, bytes]:
    return {key: repo.store.get(key) for key, _ in repo.store.list("") if not key.startswith("hint/")}


@settings(max_examples=15, deadline=None)
@given(
    numbers=st.lists(st.integers(0, 23), min_size=1, max_size=6),
    again=st.lists(st.integers(0, 23), max_size=3),
    cuts=st.sets(st.integers(1, 23), max_size=4),
)
def test_all_commits_read_as_if_the_records_had_been_empty(
    numbers: list[int], again: list[int], cuts: set[int]
) -> None:
    """Catches: rows that move, a table or tag that is left out, a second redaction of a shard that loses the first."""
    repo = shared_repository(MemoryStore(), cuts=sorted(cuts))
    before = everything(repo)
    commits = {ref: repo.resolve(ref).commit for ref in ("v1", "main", "side")}
    records = {f"doc-{number}" for number in numbers}
    forget(repo, [f"doc-{number}" for number in numbers], "asked to", who="Ada")
    later = {f"doc-{number}" for number in again} - records
    if later:
        forget(repo, sorted(later), "asked to as well", who="Ada")
    expected = {place: emptied(rows, records | later) for place, rows in before.items()}
    for reader in (repo, Repository.open(repo.store)):
        assert everything(reader) == expected
        assert [list(rows) for rows in everything(reader).values()] == [list(rows) for rows in expected.values()]
        assert {ref: reader.resolve(ref).commit for ref in commits} == commits


def test_what_was_forgotten_is_said(repo: Repository) -> None:
    done = forget(repo, ["doc-4", "doc-4"], "a request of 3 May", who="Ada")
    assert [(place.id, place.holder, place.rows) for place in done.places] == [
        ("doc-4", "corpus", 1),
        ("doc-4", "docs", 1),
        ("doc-4", "raw", 1),
    ]
    assert (done.shards, done.sides, done.tokens) == (3, 3, 9)
    (redaction,) = done.redactions
    found = load_redaction(repo, redaction)
    assert (found.reason, found.who, found.previous) == ("a request of 3 May", "Ada", None)
    assert found.keys == (key_of_id("doc-4").hex(),)
    assert len(found.content) == 1 and found.to_bytes() == repo.objects.get(redaction)
    operation = next(repo.operations())
    assert (operation.why, operation.who) == ("a request of 3 May", "Ada")
    assert {change.ref for change in operation.changes} == {LAST, f"redaction/{redaction[:16]}"}
    assert b"doc-4" not in found.to_bytes() and text_of(4).encode() not in found.to_bytes()


def test_a_table_of_the_past_alone_is_searched(repo: Repository) -> None:
    """Catches: a search of branches and tags alone, after which an undo brings the record back."""
    repo.tag("before", "side")
    head = repo.head("side")
    view = repo.view()
    older = repo.load(head).parents[0]
    publish(repo.oplog, view, [Change("branch/side", head, older)], "Bob", "roll side back")
    publish(repo.oplog, repo.view(), [Change("tag/before", head, None)], "Bob", "for the test")
    done = forget(repo, ["doc-200"], "asked to", who="Ada")
    assert [place.holder for place in done.places] == ["gone"]
    publish(repo.oplog, repo.view(), [Change("branch/side", older, head)], "Bob", "undo")
    assert "doc-200" not in rows_of(repo, "gone", "side")


@pytest.mark.parametrize("records", [["nobody"], ["doc-1", "nobody"], []])
def test_an_unknown_record_writes_nothing(repo: Repository, records: list[str]) -> None:
    before = stored(repo)
    with pytest.raises(NotFoundError if records else InvalidInputError):
        forget(repo, records, "asked to", who="Ada")
    assert stored(repo) == before


def test_what_stands_for_a_forgotten_record_is_not_forgotten_again(repo: Repository) -> None:
    """Catches a redaction of the placeholder, whose key no record has: the proof could then never hold."""
    forget(repo, ["doc-1"], "asked to", who="Ada")
    before = stored(repo)
    for dry_run in (False, True):
        with pytest.raises(InvalidInputError, match="was forgotten already"):
            forget(repo, ["doc-2", forgotten_id("doc-1")], "again", who="Ada", dry_run=dry_run)
    assert stored(repo) == before


def test_a_reason_is_needed(repo: Repository) -> None:
    before = stored(repo)
    with pytest.raises(InvalidInputError, match="reason"):
        forget(repo, ["doc-1"], " ", who="Ada")
    assert stored(repo) == before


def test_a_dry_run_says_the_same_and_writes_nothing(repo: Repository) -> None:
    """Catches: replacements that are stored before anybody agreed."""
    before = stored(repo)
    dry = forget(repo, ["doc-1", "doc-8"], "asked to", who="Ada", dry_run=True)
    assert stored(repo) == before and dry.redactions == ()
    done = forget(repo, ["doc-1", "doc-8"], "asked to", who="Ada")
    assert (dry.places, dry.shards, dry.sides, dry.nbytes, dry.tokens) == (
        done.places,
        done.shards,
        done.sides,
        done.nbytes,
        done.tokens,
    )


def test_whoever_looks_for_it_learns_when_and_why(repo: Repository) -> None:
    forget(repo, ["doc-1"], "a request", who="Ada")
    assert "forgotten on 20" in str(missing_record(repo, "doc-1")) and "a request" in str(missing_record(repo, "doc-1"))
    assert "there is no record 'doc-99' in raw" in str(missing_record(repo, "doc-99", "raw"))
    with pytest.raises(NotFoundError, match="forgotten on"):
        forget(repo, ["doc-1"], "again", who="Ada")


def test_a_record_that_shares_its_bytes_must_be_named_too(repo: Repository) -> None:
    """Catches: a record that nobody named losing its text because another table holds the very same shard."""
    other = table_of(repo.objects, [raw_part(repo.objects, range(7), "other")])
    repo.commit({"other": other}, message="the same texts under other ids")
    before = stored(repo)
    with pytest.raises(InvalidInputError, match="also record 'other-3'"):
        forget(repo, ["doc-3"], "asked to", who="Ada")
    assert stored(repo) == before
    forget(repo, ["doc-3", "other-3"], "asked to", who="Ada")
    assert rows_of(repo, "other", "main")[forgotten_id("other-3")] == {"text": "", "n": None, "kept": False}
    assert rows_of(repo, "other", "main")["other-2"]["text"] == text_of(2)


def test_what_is_left_of_a_shard_may_not_be_what_is_gone() -> None:
    """Two shards that differ in forgotten records alone. Catches: a replacement that brings forgotten bytes back."""
    repo = Repository.create(MemoryStore())
    whole = raw_part(repo.objects, [1, 2])
    one = table_of(repo.objects, [whole])
    repo.commit({"one": one}, message="one")
    forget(repo, ["doc-1"], "asked to", who="Ada")
    left = repo.objects.map(whole.shard)
    # Another table, imported with an empty text where the first has none left.
    digest = repo.objects.put(bytes(left))
    side = raw_part(repo.objects, [11, 12]).side
    two = table_of(repo.objects, [type(whole)(digest, side, 2, 0, len(left))])
    repo.commit({"two": two}, message="two")
    with pytest.raises(InvalidInputError, match="also record 'doc-12'"):
        forget(repo, ["doc-2"], "asked to", who="Ada")
    forget(repo, ["doc-2", "doc-12"], "asked to", who="Ada")
    assert text_of(2) not in str(rows_of(repo, "one", "main")) + str(rows_of(repo, "two", "main"))


@pytest.mark.parametrize("together", [False, True])
def test_a_replacement_may_not_be_a_shard_that_was_redacted(together: bool) -> None:
    """Catches: forgotten bytes that come back as what is left of another shard."""
    repo = Repository.create(MemoryStore())
    whole = raw_part(repo.objects, [1, 2])
    left = blanked_content(open_shard(repo.objects.map(whole.shard), "it"), np.array([0]))
    half = Part(repo.objects.put(memoryview(left)), raw_part(repo.objects, [11, 12]).side, 2, 0, left.size)
    repo.commit({"one": table_of(repo.objects, [whole]), "two": table_of(repo.objects, [half])}, message="both")
    if not together:
        forget(repo, ["doc-12"], "asked to", who="Ada")
    records = ["doc-1", "doc-12"] if together else ["doc-1"]
    with pytest.raises(InvalidInputError, match="also record 'doc-2'"):
        forget(repo, records, "asked to", who="Ada")
    forget(repo, [*records, "doc-2"], "asked to", who="Ada")
    assert text_of(2) not in str(rows_of(repo, "one", "main")) + str(rows_of(repo, "two", "main"))
    delete_replaced(repo)
    assert messages(repo) == []


def test_imports_may_not_bring_it_back(repo: Repository) -> None:
    parts = [raw_part(repo.objects, [0, 1, 30])]
    refuse_forgotten(repo, parts, "Eve", "import to raw")
    forget(repo, ["doc-1"], "a request", who="Ada")
    with pytest.raises(RefusedError, match="'doc-1' must not come back"):
        refuse_forgotten(repo, parts, "Eve", "import to raw")
    # Written down, but not by the id: that would keep what is to be forgotten. Catches both.
    (refusal,) = list_refusals(repo, repo.view(), 9)
    assert (refusal.who, refusal.what) == ("Eve", "import to raw")
    assert refusal.details == {"records": [forgotten_id("doc-1")]} and "doc-1" not in str(refusal)
    refuse_forgotten(repo, [raw_part(repo.objects, [0, 31])], "Eve", "import to raw")
    # The very shards that were redacted, stored once more. Catches: a look at what is read in their place.
    with pytest.raises(RefusedError, match="'doc-1' must not come back"):
        refuse_forgotten(repo, [raw_part(repo.objects, range(7))], "Eve", "import to raw")


def meanwhile(repo: Repository, act: Callable[[Repository], object]) -> list[str]:
    """Let somebody else act just before the next entry of the log; return a list that then has its key."""
    other, create = Repository.open(repo.store), repo.store.create
    raced: list[str] = []

    def slow(key: str, content: Buffer) -> bool:
        if key.startswith("log/") and not raced:
            raced.append(key)
            act(other)
        return create(key, content)

    repo.store.create = slow  # type: ignore[method-assign]
    return raced


def test_of_two_at_once_none_is_lost() -> None:
    """Catches: redactions of one shard that do not know of each other, of which one would be ignored."""
    repo = shared_repository(MemoryStore())
    raced = meanwhile(repo, lambda other: forget(other, ["doc-2"], "the faster one", who="Bob"))
    forget(repo, ["doc-3"], "the slower one", who="Ada")
    assert raced
    rows = rows_of(Repository.open(repo.store), "raw", "v1")
    assert not {"doc-2", "doc-3"} & set(rows) and {forgotten_id("doc-2"), forgotten_id("doc-3")} < set(rows)
    assert len(overlay_of(repo, repo.view()).redactions) == 2


def test_a_commit_made_meanwhile_is_searched_too() -> None:
    """Catches: a record that an import brought while the repository was being searched."""
    repo = shared_repository(MemoryStore())
    late = table_of(repo.objects, [raw_part(repo.objects, [2, 90])])
    raced = meanwhile(repo, lambda other: other.commit({"late": late}, message="late"))
    done = forget(repo, ["doc-2"], "asked to", who="Ada")
    assert raced and len(done.redactions) == 2
    assert list(rows_of(repo, "late", "main")) == [forgotten_id("doc-2"), "doc-90"]


def test_a_sweep_at_work_is_not_crossed(repo: Repository) -> None:
    """Catches: a replacement that was stored, and swept, before and is deleted once more under a new redaction."""
    copy = MemoryStore()
    for key, content in stored(repo).items():
        copy.create(key, content)
    other = Repository.open(copy)
    forget(other, ["doc-2"], "asked to", who="Ada")
    doomed = digests_of(bytes.fromhex("".join(other.objects.redirect.values())))
    listing = repo.objects.put(Listing(1, "2026-05-04T03:02:01Z", 9, doomed).to_bytes())
    publish(repo.oplog, repo.view(), [Change("gc/sweep", None, listing)], "Bob", "sweep")
    with pytest.raises(ConflictError, match="sweep is deleting"):
        forget(repo, ["doc-2"], "asked to", who="Ada")
    assert LAST not in repo.view().refs


def test_after_a_real_sweep_the_proof_holds(repo: Repository) -> None:
    before = everything(repo)
    forget(repo, ["doc-2"], "asked to", who="Ada")
    forget(repo, ["doc-3"], "asked to", who="Ada")
    assert messages(repo)
    gc(repo, who="Ada", now=datetime.now(UTC) + timedelta(minutes=1))
    assert messages(repo) == [] and repo.verify().problems == []
    assert everything(repo) == {place: emptied(rows, {"doc-2", "doc-3"}) for place, rows in before.items()}
    forget(repo, ["doc-4"], "asked to", who="Ada")
    gc(repo, who="Ada", now=datetime.now(UTC) + timedelta(minutes=2))
    assert messages(repo) == [] and repo.verify().problems == []


def test_a_repository_of_an_older_format_is_upgraded_first(repo: Repository) -> None:
    repo.store.replace("format.json", b'{"format":1,"reader":[],"writer":[]}')
    before = stored(repo)
    with pytest.raises(InvalidInputError, match="redactions"):
        forget(repo, ["doc-2"], "asked to", who="Ada")
    assert stored(repo) == before


def test_a_writers_lease_is_held_while_it_works(repo: Repository) -> None:
    """Catches a sweep that takes what was found or stored before the redaction names it."""
    seen: list[tuple[str, str]] = []

    def look(stage: str, done: int, total: int | None) -> None:
        seen.extend((lease.purpose, lease.who) for lease in all_leases(repo))

    forget(repo, ["doc-2"], "asked to", who="Ada", dry_run=True, progress=look)
    assert seen == []
    forget(repo, ["doc-2"], "asked to", who="Ada", progress=look)
    assert set(seen) == {("writer", "forget by Ada")}
    assert list(all_leases(repo)) == []


def test_where_keys_are_trusted_one_must_sign(repo: Repository, tmp_path: Path) -> None:
    from pyfactory.core.canonical import encode
    from pyfactory.repo.rules import KEYS, keys_value
    from pyfactory.repo.signatures import change_statement, signed_by
    from pyfactory.repo.signing import Signer

    mine, foreign = Signer.generate(tmp_path / "mine"), Signer.generate(tmp_path / "foreign")
    keys = {"ada": mine.public}
    publish(repo.oplog, repo.view(), [Change(KEYS, None, repo.objects.put(encode(keys_value(keys))))], "Ada", "trust")
    before = everything(repo)
    for signer in (None, foreign):
        with pytest.raises(RefusedError, match="trusted key"):
            forget(repo, ["doc-2"], "asked to", who="Eve", signer=signer)
    assert everything(repo) == before and LAST not in repo.view().refs
    assert [(each.who, each.what) for each in list_refusals(repo, repo.view(), 9)] == [("Eve", "forget")] * 2
    forget(repo, ["doc-2"], "asked to", who="Ada", signer=mine)
    change = next(change for change in next(repo.operations()).changes if change.ref == LAST)
    assert signed_by(repo, change_statement(repo, change), keys) == "ada"


def test_the_raw_face_sees_what_is_stored(repo: Repository) -> None:
    part = next(repo.version("raw", "v1").parts())
    old = repo.objects.get(part.shard)
    forget(repo, ["doc-2"], "asked to", who="Ada")
    assert repo.objects.get(part.shard) != old
    assert repo.objects.raw.get(part.shard) == old == Objects(repo.store).get(part.shard)
    assert repo.objects.exists(part.shard)
    repo.store.delete(repo.objects.key(part.shard))
    assert repo.objects.exists(part.shard) and not repo.objects.raw.exists(part.shard)
    assert bytes(repo.objects.map(part.shard, verify=True)) == repo.objects.get(part.shard)
