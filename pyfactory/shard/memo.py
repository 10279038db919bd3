"""What a finished task leaves: its result, as a small object under `memo/` named by the task.

The engine of jobs writes and believes these marks; whoever must know which shards are kept anywhere reads them as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from pyfactory.core import canonical
from pyfactory.core.canonical import Value
from pyfactory.core.digest import NO_DIGEST, Digest, parse_digest
from pyfactory.errors import CorruptError, InvalidInputError
from pyfactory.shard.tree import Part

__all__ = ["MEMO", "Result", "decode_result", "encode_result", "memo_key", "task_of_key"]

MEMO = "memo"
"""The folder of all completion marks."""

_FIELDS = ("v", "task", "parts", "objects", "counts", "numbers")
_MAX_COUNT = 2**63 - 1


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

    def digests(self) -> Iterator[Digest]:
        """Yield every object that the result names."""
        shards = (digest for part in self.parts for digest in (part.shard, part.side))
        yield from (digest for digest in (*shards, *self.objects) if digest != NO_DIGEST)


def memo_key(name: Digest) -> str:
    """Return the key of the completion mark of a task."""
    return f"{MEMO}/{name[:2]}/{name[2:]}"


def task_of_key(key: str) -> Digest:
    """Return the task whose completion mark has this key; CorruptError if no mark is called so."""
    try:
        return parse_digest("".join(key.split("/")[1:]))
    except InvalidInputError as error:
        raise CorruptError(f"{key} is not the key of a completion mark") from error


def encode_result(result: Result, name: Digest) -> bytes:
    """Return the completion mark of the task `name`."""
    parts = [[part.shard, part.side, part.rows, part.tokens, part.nbytes] for part in result.parts]
    counts, numbers = dict(result.counts), list(result.numbers)
    value = [1, name, parts, list(result.objects), counts, numbers]
    return canonical.encode(dict(zip(_FIELDS, value, strict=True)))


def decode_result(content: bytes, name: Digest) -> Result:
    """Return the result in hostile bytes; CorruptError if they are no completion mark of the task `name`."""
    what = f"the completion mark {memo_key(name)}"
    value = canonical.decode(content, what)
    if not isinstance(value, dict) or value.keys() != set(_FIELDS) or value["v"] != 1 or value["task"] != name:
        raise CorruptError(f"{what} is not one of this task")
    if value["v"] is True or not all(isinstance(value[field], list) for field in ("parts", "objects", "numbers")):
        raise CorruptError(f"{what} does not hold lists where it should")
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
