"""Tasks: work named by the digest of all that decides its outcome, done once and then remembered.

The name of a task is the digest of its step, the step's version, its parameters, the digests of its inputs and the
versions of the libraries that decide its bytes. What came out is a small object under `memo/`, created after the
objects it names: it is the completion mark. A killed job leaves either no mark or a true one, so running it again
repeats only what was not complete.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from pyfactory.core import canonical
from pyfactory.core.canonical import Value
from pyfactory.core.digest import NO_DIGEST, Digest, parse_digest
from pyfactory.core.versions import code_versions
from pyfactory.errors import CorruptError, InvalidInputError, NotFoundError
from pyfactory.shard.manifest import Part
from pyfactory.store.content import Objects

__all__ = ["Result", "Task", "Work", "library_versions", "memo_key", "perform"]

_FIELDS = ("v", "task", "parts", "objects", "counts", "numbers")
_MAX_COUNT = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Task:
    """All that decides the outcome of a piece of work.

    Attributes:
        step: Name of the step.
        version: Version of the step's output: another output for the same task is another version.
        params: Parameters, a canonical value.
        inputs: Digests of what is read, in a fixed order; NO_DIGEST stands for what is absent.
        library: Versions of the libraries that decide bytes of the outcome.
    """

    step: str
    version: int
    params: Value
    inputs: tuple[Digest, ...]
    library: Mapping[str, str]

    def name(self) -> Digest:
        """Return the digest that names the task."""
        value = {"step": self.step, "version": self.version, "params": self.params}
        return canonical.digest_of_value({**value, "inputs": list(self.inputs), "library": dict(self.library)})


@dataclass(frozen=True, slots=True)
class Result:
    """What came out of a task.

    Attributes:
        parts: Parts written, in order.
        objects: Other objects written; NO_DIGEST stands for "none here".
        counts: Numbers by name, such as rows dropped by reason.
        numbers: A list of numbers whose meaning the step knows.
    """

    parts: tuple[Part, ...] = ()
    objects: tuple[Digest, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    numbers: tuple[int, ...] = ()


class Work(Protocol):
    """A task together with the means to do it: a function of its inputs, whoever runs it, whenever and wherever."""

    def task(self) -> Task:
        """Return the task that this is."""

    def run(self, objects: Objects) -> Result:
        """Do it, and store durably every object that the result names."""


def library_versions(*names: str) -> dict[str, str]:
    """Return the installed versions of some libraries, by name."""
    return {name: found for name, found in code_versions(*names).items() if name in names}


def memo_key(name: Digest) -> str:
    """Return the key of the completion mark of a task."""
    return f"memo/{name[:2]}/{name[2:]}"


def perform(objects: Objects, work: Work) -> tuple[Result, bool]:
    """Return the result of a task and whether it was remembered rather than computed."""
    name = work.task().name()
    remembered = _recall(objects, name)
    if remembered is not None:
        return remembered, True
    return _remember(objects, name, work.run(objects)), False


def _recall(objects: Objects, name: Digest) -> Result | None:
    """Return the result of a task if it was done and all its objects are still there.

    A mark that cannot be read costs the work once more, and is then replaced; it is never believed.
    """
    try:
        result = _decode(objects.store.get(memo_key(name)), name)
    except (NotFoundError, CorruptError):
        return None
    shards = (digest for part in result.parts for digest in (part.shard, part.side))
    wanted = (digest for digest in (*shards, *result.objects) if digest != NO_DIGEST)
    return result if all(objects.exists(digest) for digest in wanted) else None


def _remember(objects: Objects, name: Digest, result: Result) -> Result:
    content = _encode(result, name)
    if objects.store.create(memo_key(name), content):
        return result
    # Somebody was faster: all then go on with the first outcome, even if a filter function gives several. Or the mark
    # names objects that are gone, and the new one takes its place.
    earlier = _recall(objects, name)
    if earlier is None:
        objects.store.replace(memo_key(name), content)
        return result
    return earlier


def _encode(result: Result, name: Digest) -> bytes:
    parts = [[part.shard, part.side, part.rows, part.tokens, part.nbytes] for part in result.parts]
    counts, numbers = dict(result.counts), list(result.numbers)
    value = [1, name, parts, list(result.objects), counts, numbers]
    return canonical.encode(dict(zip(_FIELDS, value, strict=True)))


def _decode(content: bytes, name: Digest) -> Result:
    what = f"the completion mark {memo_key(name)}"
    value = canonical.decode(content, what)
    if not isinstance(value, dict) or value.keys() != set(_FIELDS) or value["v"] != 1 or value["task"] != name:
        raise CorruptError(f"{what} is not one of this task")
    try:
        return Result(
            tuple(_part(part) for part in value["parts"]),
            tuple(parse_digest(digest) for digest in value["objects"]),
            {reason: _count(number) for reason, number in value["counts"].items()},
            tuple(_count(number) for number in value["numbers"]),
        )
    except (InvalidInputError, TypeError, ValueError, AttributeError) as error:
        raise CorruptError(f"{what} does not hold what it should: {error}") from error


def _part(value: Value) -> Part:
    shard, side, rows, tokens, nbytes = value
    return Part(parse_digest(shard), parse_digest(side), _count(rows), _count(tokens), _count(nbytes))


def _count(value: Value) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MAX_COUNT:
        raise ValueError(f"{value!r} is not a count")
    return value
