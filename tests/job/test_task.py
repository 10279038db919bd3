"""Tasks: done once, believed only if whole, and never in the way of a rerun."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from pyfactory.core import canonical
from pyfactory.core.digest import NO_DIGEST, Digest, digest_of
from pyfactory.errors import UnavailableError
from pyfactory.job.task import Result, Task, library_versions, memo_key, perform
from pyfactory.shard.manifest import Part
from pyfactory.store.content import Objects
from pyfactory.store.local import LocalStore
from pyfactory.store.memory import MemoryStore
from pyfactory.store.wrap import Counted, Faulty

TASK = Task("step", 1, {"a": 1}, (digest_of(b"in"),), {"lib": "1.0"})


@dataclass
class Note:
    """Work that stores some objects and counts how often it is done."""

    contents: tuple[bytes, ...] = (b"shard", b"side", b"more")
    done: int = 0
    made: Task = field(default=TASK)

    def task(self) -> Task:
        return self.made

    def run(self, objects: Objects) -> Result:
        self.done += 1
        shard, side, *more = (objects.put(content) for content in self.contents)
        return Result((Part(shard, side, 3, 4, 5),), (*more, NO_DIGEST), {"dropped": self.done}, (0, 2**62))


@pytest.fixture
def objects(tmp_path: Path) -> Objects:
    return Objects(LocalStore(tmp_path / "store", create=True))


def test_the_name_covers_everything() -> None:
    others = [
        replace(TASK, step="steps"),
        replace(TASK, version=2),
        replace(TASK, params={"a": 2}),
        replace(TASK, inputs=(digest_of(b"other"),)),
        replace(TASK, inputs=()),
        replace(TASK, library={"lib": "1.1"}),
    ]
    assert len({TASK.name(), *(other.name() for other in others)}) == 7


def test_the_name_is_frozen() -> None:
    """A change of the encoding would silently forget all work ever done."""
    inputs = f'{{"inputs":["{digest_of(b"in")}"],'
    text = inputs + '"library":{"lib":"1.0"},"params":{"a":1},"step":"step","version":1}'
    assert TASK.name() == digest_of(text.encode())


def test_work_is_done_once(objects: Objects) -> None:
    work = Note()
    first, remembered = perform(objects, work)
    assert not remembered and work.done == 1
    again, remembered = perform(Objects(LocalStore(Path(objects.store.url.removeprefix("file://")))), work)
    assert remembered and work.done == 1
    assert again == first


def test_remembering_costs_one_read_and_one_look_per_object() -> None:
    counted = Counted(MemoryStore())
    perform(Objects(counted), Note())
    counted.calls.clear()
    perform(Objects(counted), Note())
    assert counted.calls == {"get": 1, "size": 3}


@pytest.mark.parametrize("lost", [b"shard", b"side", b"more"])
def test_a_lost_object_costs_the_work_again(objects: Objects, lost: bytes) -> None:
    work = Note()
    perform(objects, work)
    objects.store.delete(objects.key(digest_of(lost)))
    result, remembered = perform(objects, work)
    assert not remembered and work.done == 2
    assert objects.exists(digest_of(lost))
    # The counts differ from those of the mark, whose objects are all back: the first outcome stays.
    assert result.counts == {"dropped": 1}


def marks() -> list[bytes]:
    good = {"v": 1, "task": TASK.name(), "parts": [], "objects": [], "counts": {}, "numbers": []}
    part = [digest_of(b"a"), digest_of(b"b"), 1, 1, 1]
    bad = [
        good | {"v": 2},
        good | {"task": digest_of(b"another")},
        good | {"more": 1},
        {name: value for name, value in good.items() if name != "counts"},
        good | {"parts": [part[:4]]},
        good | {"parts": [[*part[:4], -1]]},
        good | {"parts": [["x", *part[1:]]]},
        good | {"parts": 3},
        good | {"objects": ["../../etc/passwd"]},
        good | {"objects": [None]},
        good | {"counts": []},
        good | {"counts": {"a": True}},
        good | {"numbers": [2**63]},
        good | {"numbers": ["1"]},
        [],
        None,
    ]
    return [*(canonical.encode(value) for value in bad), b"", b"{", b" " + canonical.encode(good), b"\xff"]


@pytest.mark.parametrize("mark", marks())
def test_a_mark_that_is_none_is_not_believed_and_replaced(objects: Objects, mark: bytes) -> None:
    objects.store.create(memo_key(TASK.name()), mark)
    work = Note()
    first, remembered = perform(objects, work)
    assert not remembered and work.done == 1
    assert perform(objects, work) == (first, True)


def test_the_mark_comes_last() -> None:
    """Catches a mark that is created before the objects it names, which a kill between them would leave untrue."""
    store = MemoryStore()
    order: list[str] = []
    faulty = Faulty(store, before=lambda _, method, key: order.append(key) if method == "create" else None)
    perform(Objects(faulty), Note())
    assert [key.startswith("memo/") for key in order] == [False, False, False, True]


def test_a_failed_mark_is_an_error() -> None:
    def fail(_: int, method: str, key: str) -> None:
        if method == "create" and key.startswith("memo/"):
            raise UnavailableError("no space left")

    with pytest.raises(UnavailableError):
        perform(Objects(Faulty(MemoryStore(), before=fail)), Note())


def test_of_two_workers_the_first_outcome_is_taken_by_both() -> None:
    """Work whose outcome is not always the same, such as a careless filter function, does not split a job."""
    store = MemoryStore()
    faster = Note((b"1", b"2", b"3"))

    def overtake(_: int, method: str, key: str) -> None:
        if method == "create" and not faster.done:
            perform(Objects(store), faster)

    slower = Note((b"4", b"5", b"6"))
    result, remembered = perform(Objects(Faulty(store, before=overtake)), slower)
    assert (remembered, faster.done, slower.done) == (False, 1, 1)
    assert result.parts[0].shard == digest_of(b"1")


def test_versions_of_libraries() -> None:
    versions = library_versions("numpy", "surely-not-installed")
    assert set(versions) == {"numpy", "surely-not-installed"}
    assert versions["numpy"][0].isdigit()


def test_keys_spread_over_folders() -> None:
    assert memo_key(Digest("ab" + "0" * 62)) == "memo/ab/" + "0" * 62
