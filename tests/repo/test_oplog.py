"""Reading the log: finding its end, folding it, and not being fooled."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from pyfactory.core.canonical import decode, encode
from pyfactory.core.digest import Digest, digest_of
from pyfactory.errors import CorruptError, NotFoundError, PyfactoryError, UnavailableError
from pyfactory.repo.operation import Change, View
from pyfactory.repo.oplog import HINT, SUMMARY_EVERY, OperationLog, log_key, summary_bytes, summary_key, summary_view
from pyfactory.repo.transaction import initialise, publish
from pyfactory.store.memory import MemoryStore
from pyfactory.store.wrap import Counted, Faulty


def moved(n: int) -> Digest:
    return digest_of(str(n).encode())


def log_of(operations: int) -> tuple[MemoryStore, list[View]]:
    """Return a store whose log moves branch/0 to branch/9 in turn, and all its views."""
    store = MemoryStore()
    log = OperationLog(store)
    views = [initialise(log, "Ada")]
    for n in range(1, operations + 1):
        ref = f"branch/{n % 10}"
        change = Change(ref, views[-1].refs.get(ref), moved(n))
        views.append(publish(log, views[-1], [change], "Ada", f"move {n}"))
    return store, views


@pytest.fixture(scope="module")
def long_log() -> tuple[dict[str, bytes], View]:
    store, views = log_of(2 * SUMMARY_EVERY + 9)
    return {key: store.get(key) for key, _ in store.list("")}, views[-1]


def store_of(objects: dict[str, bytes]) -> MemoryStore:
    store = MemoryStore()
    for key, content in objects.items():
        store.create(key, content)
    return store


def test_keys_ascend_with_numbers() -> None:
    assert log_key(42) == "log/00000000000000000042"
    assert summary_key(64) == "summary/00000000000000000064"


def test_no_log_is_not_found() -> None:
    with pytest.raises(NotFoundError):
        OperationLog(MemoryStore()).view()


@pytest.mark.parametrize("operations", [*range(9), 63, 64, 65, 100])
def test_every_reader_finds_the_end(operations: int) -> None:
    """With the hint, without it, and with the hint of every earlier moment."""
    store, views = log_of(operations)
    assert OperationLog(store).view() == views[-1]
    store.delete(HINT)
    assert OperationLog(store).view() == views[-1]
    for earlier in views:
        store.replace(HINT, summary_bytes(earlier))
        assert OperationLog(store).view() == views[-1]


ABSURD: list[Callable[[View], bytes]] = [
    lambda view: b"",
    lambda view: b"\x00" * 1000,
    lambda view: b"[" * 100_000,
    lambda view: b"7",
    lambda view: encode({"n": 7}),
    lambda view: encode({"n": 10**18, "v": 1}),
    lambda view: summary_bytes(View(2**63 - 1, view.digest, view.refs)),
    lambda view: summary_bytes(View(view.n + 1, view.digest, view.refs)),
    lambda view: summary_bytes(View(view.n - 1, view.digest, view.refs)),
    lambda view: summary_bytes(View(view.n, moved(0), view.refs)),
    lambda view: summary_bytes(view)[:-1],
    lambda view: encode(decode(summary_bytes(view), "x") | {"refs": {"branch/0": moved(1)}}),
    lambda view: encode(decode(summary_bytes(view), "x") | {"n": -1}),
    lambda view: encode(decode(summary_bytes(view), "x") | {"n": True}),
    lambda view: encode(decode(summary_bytes(view), "x") | {"v": 99}),
    lambda view: encode({"n": 2**64, "entry": "x", "refs": [], "check": None, "v": 1}),
]


@pytest.mark.parametrize("absurd", range(len(ABSURD)))
def test_absurd_hints_and_summaries_cost_time_only(absurd: int, long_log: tuple[dict[str, bytes], View]) -> None:
    """Fails if a hint is believed: a reader would show other refs, another end, or none at all."""
    objects, view = long_log
    store = store_of(objects)
    store.replace(HINT, ABSURD[absurd](view))
    assert OperationLog(store).view() == view
    for n in (SUMMARY_EVERY, 2 * SUMMARY_EVERY):
        store.replace(summary_key(n), ABSURD[absurd](view))
    assert OperationLog(store).view() == view
    store.delete(HINT)
    assert OperationLog(store).view() == view


def test_a_hint_read_while_it_is_overwritten_is_not_believed() -> None:
    """A local store writes it in place. Catches: the check sum is not looked at, or does not cover the refs."""
    store = MemoryStore()
    log, hints = OperationLog(store), []
    view = initialise(log, "Ada")
    for n in range(3):
        view = publish(log, view, [Change("branch/b", view.refs.get("branch/b"), moved(n))], "Ada", "")
        hints.append(store.get(HINT))
    assert len(hints[1]) == len(hints[2])
    for before, after in ((hints[1], hints[2]), (hints[2], hints[1])):
        for at in range(len(before)):
            store.replace(HINT, after[:at] + before[at:])
            assert OperationLog(store).view() == view


def test_a_hint_that_cannot_be_read_or_written_is_nobodys_loss() -> None:
    def refuse(_: int, method: str, key: str) -> None:
        if key.startswith(("hint/", "summary/")):
            raise UnavailableError(f"{method} {key}")

    store = Faulty(MemoryStore(), before=refuse)
    log = OperationLog(store)
    view = initialise(log, "Ada")
    for n in range(SUMMARY_EVERY + 2):
        view = publish(log, view, [Change(f"branch/{n}", None, moved(n))], "Ada", "")
    assert OperationLog(store).view() == view


def test_looking_again_costs_one_request_and_opening_three(long_log: tuple[dict[str, bytes], View]) -> None:
    objects, view = long_log
    store = Counted(store_of(objects))
    log = OperationLog(store)
    assert log.view() == view
    assert store.calls == {"get": 2, "size": 1}, "the hint, its entry, and nothing after it"
    store.calls.clear()
    assert log.view() is not None
    assert store.calls == {"size": 1}


def test_a_lost_hint_costs_logarithmic_search_and_a_summary(long_log: tuple[dict[str, bytes], View]) -> None:
    objects, view = long_log
    store = Counted(store_of(objects))
    store.delete(HINT)
    assert OperationLog(store).view() == view
    assert store.calls["size"] <= 16
    assert store.calls["get"] <= 2 + 2 + 9, "hint and entry 0, summary and its entry, the 9 entries since"
    assert store.calls["list"] == 0


def test_a_reader_follows_other_writers(long_log: tuple[dict[str, bytes], View]) -> None:
    objects, view = long_log
    store = store_of(objects)
    reader, writer = OperationLog(store), OperationLog(store)
    assert reader.view() == view
    for n in range(1, 6):
        newer = publish(writer, writer.view(), [Change(f"tag/{n}", None, moved(n))], "Ada", "")
        assert reader.view() == newer


def test_history_is_the_log_backwards_and_proves_itself(long_log: tuple[dict[str, bytes], View]) -> None:
    objects, view = long_log
    store = store_of(objects)
    history = list(OperationLog(store).history(view))
    assert [operation.n for operation in history] == list(range(view.n, -1, -1))
    store.replace(log_key(5), objects[log_key(5)].replace(b"move 5", b"move 6"))
    with pytest.raises(CorruptError, match="entry 5"):
        list(OperationLog(store).history(view))


def test_summaries_are_read_as_they_were_written(long_log: tuple[dict[str, bytes], View]) -> None:
    objects, view = long_log
    stored = summary_view(objects[summary_key(2 * SUMMARY_EVERY)], "x")
    assert stored.n == 2 * SUMMARY_EVERY
    assert digest_of(objects[log_key(stored.n)]) == stored.digest
    assert summary_view(objects[HINT], "x") == view


def tampered(change: Callable[[MemoryStore], None]) -> MemoryStore:
    """Return a store of 20 entries without hints, changed."""
    store, _ = log_of(20)
    store.delete(HINT)
    change(store)
    return store


def test_no_flipped_bit_of_an_entry_goes_unseen() -> None:
    """In any entry but the last, whose follower would tell: catches a chain that is written and not compared."""
    store, _ = log_of(3)
    store.delete(HINT)
    whole = store.get(log_key(2))
    for at in range(len(whole)):
        hostile = bytearray(whole)
        hostile[at] ^= 1 << random.Random(at).randrange(8)
        store.replace(log_key(2), bytes(hostile))
        with pytest.raises(CorruptError, match=r"log entry [23]"):
            OperationLog(store).view()


def test_a_missing_entry_is_corruption() -> None:
    """The search for the end may stop before the gap or behind it: behind it, the reader says what is missing."""
    store = tampered(lambda store: store.delete(log_key(6)))
    with pytest.raises(CorruptError, match="log entry 6 is missing"):
        OperationLog(store).view()


def test_swapped_entries_are_corruption() -> None:
    def swap(store: MemoryStore) -> None:
        five, six = store.get(log_key(5)), store.get(log_key(6))
        store.replace(log_key(5), six)
        store.replace(log_key(6), five)

    with pytest.raises(CorruptError, match="log entry 5 says that it is entry 6"):
        OperationLog(tampered(swap)).view()


def test_an_entry_of_another_repository_is_corruption() -> None:
    other, _ = log_of(20)
    with pytest.raises(CorruptError, match="log entry 20"):
        OperationLog(tampered(lambda store: store.replace(log_key(20), other.get(log_key(20))))).view()


def test_a_failing_store_is_not_an_empty_log() -> None:
    """A reader that took a failure for "absent" would show an old view as the newest."""
    store, views = log_of(5)

    def fail(_: int, method: str, key: str) -> None:
        if method == "size" and key == log_key(6):
            raise UnavailableError("the network is gone")

    log = OperationLog(Faulty(store, before=fail))
    with pytest.raises(UnavailableError):
        log.view()
    with pytest.raises(PyfactoryError):
        log.view()
    assert OperationLog(store).view() == views[-1]
