"""Publishing over a store that loses answers, refuses, delays and goes dark."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from repo_tables import Treacherous

from pyfactory.core.digest import Digest, digest_of
from pyfactory.errors import ConflictError, InternalError, ReadOnlyError, UnavailableError, UnknownOutcomeError
from pyfactory.repo.operation import Change, View
from pyfactory.repo.oplog import HINT, OperationLog, log_key
from pyfactory.repo.transaction import initialise, publish
from pyfactory.store.memory import MemoryStore
from pyfactory.store.wrap import Faulty

A, B, C = (Digest(letter * 64) for letter in "abc")


def fresh(store: MemoryStore) -> tuple[OperationLog, View]:
    log = OperationLog(store)
    return log, initialise(log, "Ada")


def truth(store: MemoryStore) -> View:
    """Return the view of a reader that knows nothing."""
    return OperationLog(store).view()


@pytest.mark.parametrize(
    "faults",
    [
        ["ok"],
        ["lost"],
        ["unsent", "ok"],
        ["refused", "ok"],
        ["late", "ok"],
        ["refused", "lost"],
        ["unsent", "late", "refused", "lost"],
        ["unsent", "unsent", "refused", "refused", "lost"],
    ],
    ids="-".join,
)
def test_an_entry_that_lands_is_acknowledged_once(faults: list[str]) -> None:
    """Catches believing a refusal or a failure: the ref would be said not to have moved, though it has."""
    store = Treacherous()
    log, view = fresh(store)
    store.faults = list(faults)
    published = publish(log, view, [Change("branch/main", None, A)], "Ada", "first")
    assert published == truth(store)
    assert (published.n, dict(published.refs)) == (1, {"branch/main": A})
    assert store.size(log_key(2)) is None, "it was written once"


@pytest.mark.parametrize("fault", ["unsent", "refused"])
def test_a_store_that_takes_nothing_is_unavailable(fault: str) -> None:
    store = Treacherous()
    log, view = fresh(store)
    store.faults = [fault] * 100
    with pytest.raises(UnavailableError, match="5 tries") as caught:
        publish(log, view, [Change("branch/main", None, A)], "Ada", "first")
    assert not isinstance(caught.value, UnknownOutcomeError)
    assert truth(store).n == 0
    store.faults = []
    assert publish(log, view, [Change("branch/main", None, A)], "Ada", "again").n == 1


@pytest.mark.parametrize(("fault", "landed"), [("blind", 1), ("dark", 0)])
def test_an_outcome_that_nobody_can_see_is_never_guessed(fault: str, landed: int) -> None:
    store = Treacherous()
    log, view = fresh(store)
    store.faults = [fault]
    with pytest.raises(UnknownOutcomeError, match=r"nobody knows whether log/0*1 was written"):
        publish(log, view, [Change("branch/main", None, A)], "Ada", "first")
    assert truth(store).n == landed


def test_no_permission_is_said_at_once() -> None:
    def refuse(_: int, method: str, key: str) -> None:
        if method == "create" and key == log_key(1):
            attempts.append(key)
            raise ReadOnlyError("no permission")

    attempts: list[str] = []
    log = OperationLog(Faulty(MemoryStore(), before=refuse))
    view = initialise(log, "Ada")
    with pytest.raises(ReadOnlyError):
        publish(log, view, [Change("branch/main", None, A)], "Ada", "")
    assert len(attempts) == 1


def test_another_writer_on_other_refs_is_no_obstacle() -> None:
    store = MemoryStore()
    log, view = fresh(store)
    other = OperationLog(store)
    for n in range(3):
        publish(other, other.view(), [Change(f"tag/{n}", None, B)], "Bob", "tags")
    published = publish(log, view, [Change("branch/main", None, A)], "Ada", "first")
    assert published.n == 4
    assert dict(published.refs) == {"tag/0": B, "tag/1": B, "tag/2": B, "branch/main": A}
    assert published == truth(store)


def test_another_writer_on_the_same_ref_is_a_conflict_that_says_who() -> None:
    store = MemoryStore()
    log, view = fresh(store)
    other = OperationLog(store)
    publish(other, view, [Change("branch/main", None, B)], "Bob", "import of corpus")
    publish(other, other.view(), [Change("tag/x", None, B)], "Eve", "tag")
    with pytest.raises(ConflictError, match=r"branch/main exists already.*last changed by Bob at 20.*import of corpus"):
        publish(log, view, [Change("branch/main", None, A)], "Ada", "first")
    with pytest.raises(ConflictError, match=f"branch/main no longer names {A}, it names {B}; last changed by Bob"):
        publish(log, truth(store), [Change("branch/main", A, C)], "Ada", "second")
    with pytest.raises(ConflictError, match=r"branch/gone no longer names .*it is gone"):
        publish(log, truth(store), [Change("branch/gone", A, C)], "Ada", "third")
    assert truth(store).n == 2


def test_two_writers_of_the_same_words_are_two() -> None:
    """The same change, by the same person, for the same reason, in the same second: still only one was first.

    Catches a transaction id that is not random: the second writer would take the first one's entry for its own.
    """
    store = MemoryStore()
    log, view = fresh(store)
    change = [Change("branch/main", None, A)]
    publish(log, view, change, "Ada", "same")
    with pytest.raises(ConflictError):
        publish(OperationLog(store), view, change, "Ada", "same")
    assert truth(store).n == 1


def test_all_refs_of_an_operation_move_or_none() -> None:
    store = MemoryStore()
    log, view = fresh(store)
    publish(OperationLog(store), view, [Change("tag/v1", None, B)], "Bob", "")
    with pytest.raises(ConflictError, match="tag/v1"):
        publish(log, view, [Change("tag/v1", None, A), Change("branch/main", None, A)], "Ada", "")
    assert dict(truth(store).refs) == {"tag/v1": B}
    published = publish(log, view, [Change("tag/v2", None, A), Change("branch/main", None, A)], "Ada", "")
    assert dict(published.refs) == {"tag/v1": B, "tag/v2": A, "branch/main": A}
    assert published.n == 2, "one entry"


def test_only_one_log_starts() -> None:
    store = MemoryStore()
    fresh(store)
    with pytest.raises(ConflictError, match="already"):
        initialise(OperationLog(store), "Bob")


@pytest.mark.parametrize("faults", [["lost"], ["refused", "ok"], ["late", "ok"]], ids="-".join)
def test_a_log_starts_over_a_bad_line(faults: list[str]) -> None:
    store = Treacherous(faults)
    assert fresh(store)[1] == truth(store)


FAULTS = st.sampled_from(["ok", "ok", "lost", "unsent", "refused", "late", "blind", "dark"])


@settings(deadline=None, max_examples=150)
@given(st.lists(FAULTS, max_size=40), st.lists(st.tuples(st.integers(0, 1), st.integers(0, 2)), max_size=14))
def test_whatever_the_store_does_the_log_holds_what_was_acknowledged(
    faults: list[str], moves: list[tuple[int, int]]
) -> None:
    """Two writers and a store of every fault: acknowledged is there once, refused is not, unknown is either.

    Catches a lost acknowledged move, a move that is there twice, and one that is there though it was refused.
    """
    store = Treacherous()
    writers = [OperationLog(store), OperationLog(store)]
    initialise(writers[0], "Ada")
    store.faults = list(faults)
    acknowledged, refused = [], []
    for step, (writer, branch) in enumerate(moves):
        log, ref, new = writers[writer], f"branch/{branch}", digest_of(str(step).encode())
        try:
            view = log.view()
            publish(log, view, [Change(ref, view.refs.get(ref), new)], "Ada", str(step))
            acknowledged.append(str(step))
        except ConflictError:
            refused.append(str(step))
        except UnavailableError:
            continue  # unknown, or not taken: a late entry of an earlier try may still arrive
    store.faults, store._unreadable = [], 0
    store.delete(HINT)
    end = truth(store)
    logged = [operation.why for operation in OperationLog(store).history(end)][:-1][::-1]
    assert [why for why in logged if why in acknowledged] == acknowledged, (
        "in the order in which they were acknowledged"
    )
    assert not set(refused) & set(logged)
    assert len(set(logged)) == len(logged)


def test_what_nobody_could_read_is_not_written() -> None:
    """Catches an entry that is well made by its writer's lights and stops every reader for ever."""
    store = MemoryStore()
    log = OperationLog(store)
    view = initialise(log, "Ada")
    with pytest.raises(InternalError, match="nobody could read"):
        publish(log, view, [Change("branch/" + "/".join(["a"] * 60), None, digest_of(b"x"))], "Ada", "why")
    assert log.view() == view
