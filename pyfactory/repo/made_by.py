"""What a commit says of how it was made and of who judged it: checked as it is written and as it is read.

`made_by` of a kind that is listed here has all fields of that kind, each of its type, and may have more. Of another
kind, which another program may have written, nothing is known but the kind.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pyfactory.core.canonical import Value
from pyfactory.errors import CorruptError
from pyfactory.repo.fields import Fields, read_fields

__all__ = ["check_made_by", "check_verdict"]

Check = Callable[[Fields, str], object]

_VERDICT = ("code", "evidence", "found", "gate", "passed", "reason", "table", "threshold")


def check_made_by(value: Value, what: str) -> None:
    """Raise CorruptError unless a value is what a commit may say of how it was made; `what` names it."""
    if not isinstance(value, Mapping):
        raise CorruptError(f"{what} is not an object")
    fields = Fields(value, what)
    required, optional = _KINDS.get(fields.text("kind"), ({}, {}))
    _check(fields, {**required, **{name: check for name, check in optional.items() if name in value}})


def check_verdict(value: Value, what: str) -> None:
    """Raise CorruptError unless a value is the verdict of a gate; `what` names it."""
    fields = read_fields(value, _VERDICT, what)
    checks = {"code": Fields.text, "gate": Fields.text, "reason": Fields.text, "table": Fields.text}
    _check(fields, {**checks, "evidence": _texts, "found": _numbers, "threshold": _numbers})
    if type(fields.value("passed")) is not bool:
        raise CorruptError(f"{what}: 'passed' is neither true nor false")


def _check(fields: Fields, checks: Mapping[str, Check]) -> None:
    for name, check in checks.items():
        check(fields, name)


def _texts(fields: Fields, name: str) -> None:
    if not all(isinstance(text, str) for text in fields.items(name)):
        raise CorruptError(f"{fields.what}: {name!r} is not a list of texts")


def _named_texts(fields: Fields, name: str) -> None:
    if not all(isinstance(text, str) for text in fields.mapping(name).values()):
        raise CorruptError(f"{fields.what}: {name!r} does not map names to texts")


def _numbers(fields: Fields, name: str) -> None:
    if not all(type(number) in (int, str) for number in fields.mapping(name).values()):
        raise CorruptError(f"{fields.what}: {name!r} does not map names to numbers and texts")


def _counts(fields: Fields, name: str) -> None:
    counts = Fields(fields.mapping(name), f"{fields.what}: {name}")
    for reason in fields.mapping(name):
        counts.count(reason)


def _choices(fields: Fields, name: str) -> None:
    if not all(choice in ("ours", "theirs") for choice in fields.mapping(name).values()):
        raise CorruptError(f"{fields.what}: {name!r} does not map places to ours and theirs")


def _each(checks: Mapping[str, Check]) -> Check:
    """Return the check of a list of objects."""

    def check(fields: Fields, name: str) -> None:
        for number, item in enumerate(fields.items(name)):
            what = f"{fields.what}: {name} {number}"
            if not isinstance(item, dict):
                raise CorruptError(f"{what} is not an object")
            _check(Fields(item, what), checks)

    return check


_USED: Mapping[str, Check] = {
    "asked": Fields.text,
    "commit": Fields.digest,
    "resolved": Fields.text,
    "table": Fields.text,
    "version": Fields.digest,
}

_STEP: Mapping[str, Check] = {
    "dropped": _counts,
    "rows_in": Fields.count,
    "rows_out": Fields.count,
    "step": Fields.text,
    "version": Fields.count,
}

_IMPORT: Mapping[str, Check] = {
    "code": _named_texts,
    "options": Fields.mapping,
    "records": Fields.count,
    "skipped": Fields.count,
    "skipped_list": Fields.digest_or_none,
    "sources": Fields.digest,
    "table": Fields.text,
}

_JOB: Mapping[str, Check] = {
    "code": _named_texts,
    "inputs": _each(_USED),
    "job": Fields.digest,
    "output": Fields.text,
    "steps": _each(_STEP),
}

_MERGE: Mapping[str, Check] = {
    "asked": Fields.text,
    "base": Fields.digest_or_none,
    "choices": _choices,
    "commit": Fields.digest,
    "resolved": Fields.text,
}

_PACK: Mapping[str, Check] = {
    "code": _named_texts,
    "packing": Fields.text,
    "sequence_length": Fields.count,
    "table": Fields.text,
}

# What each kind must say, and what it may.
_KINDS: Mapping[str, tuple[Mapping[str, Check], Mapping[str, Check]]] = {
    "import": (_IMPORT, {"tokens": Fields.count, "dataset": _named_texts}),
    "job": (_JOB, {}),
    "merge": (_MERGE, {}),
    "revert": ({"commit": Fields.digest, "parent": Fields.digest_or_none}, {}),
    "pack": (_PACK, {}),
    "commit": ({"took": _each(_USED), "removed": _texts}, {}),
}
