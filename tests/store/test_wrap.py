from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from pyfactory.errors import NotFoundError, UnavailableError
from pyfactory.store.base import Store
from pyfactory.store.memory import MemoryStore
from pyfactory.store.wrap import Counted, Faulty

METHODS = sorted(name for name, member in vars(Store).items() if inspect.isfunction(member) and name[0] != "_")


def call_all(store: Store, folder: Path) -> None:
    (folder / "source").write_bytes(b"x")
    store.create("a", b"1")
    store.create_from_file("b", folder / "source")
    store.replace("c", b"1")
    store.get("a")
    store.get_range("a", 0, 1)
    store.size("a")
    store.path("a")
    store.staging()
    list(store.list(""))
    store.delete("a")


def test_counted_counts_every_method_once(tmp_path: Path) -> None:
    """METHODS comes from the interface: a method added there and forgotten here fails."""
    store = Counted(MemoryStore())
    call_all(store, tmp_path)
    assert sorted(store.calls) == METHODS
    assert set(store.calls.values()) == {1}
    assert store.url == store.inner.url


def test_hooks_surround_every_call(tmp_path: Path) -> None:
    seen: list[tuple[str, int, str, str]] = []
    store = Faulty(
        MemoryStore(), lambda *call: seen.append(("before", *call)), lambda *call: seen.append(("after", *call))
    )
    call_all(store, tmp_path)
    assert [entry[1] for entry in seen] == [number for number in range(len(METHODS)) for _ in range(2)]
    assert [entry[0] for entry in seen] == ["before", "after"] * len(METHODS)
    assert sorted(method for when, _, method, _ in seen if when == "before") == METHODS
    assert seen[0] == ("before", 0, "create", "a") and seen[-1] == ("after", 9, "delete", "a")
    assert ("before", 7, "staging", "") in seen


def test_a_raise_before_is_a_request_that_never_arrived() -> None:
    def fail(number: int, method: str, key: str) -> None:
        raise UnavailableError(f"{number} {method} {key}")

    store = Faulty(MemoryStore(), before=fail)
    with pytest.raises(UnavailableError, match="0 create a"):
        store.create("a", b"1")
    assert store.inner.size("a") is None


def test_a_raise_after_is_an_answer_that_was_lost() -> None:
    def fail(number: int, method: str, key: str) -> None:
        raise UnavailableError(f"{number} {method} {key}")

    store = Faulty(MemoryStore(), after=fail)
    with pytest.raises(UnavailableError, match="0 create a"):
        store.create("a", b"1")
    assert store.inner.get("a") == b"1"
    with pytest.raises(NotFoundError):  # a call that failed has no answer to lose
        store.get("b")


def test_hooks_can_be_changed_on_the_way() -> None:
    store = Faulty(MemoryStore())
    store.create("a", b"1")
    seen: list[int] = []
    store.before = lambda number, method, key: seen.append(number)
    store.get("a")
    assert seen == [1]
