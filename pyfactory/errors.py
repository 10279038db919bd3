"""The exception tree, grouped by what a caller can do about it.

    PyfactoryError
    |-- ConflictError        somebody else moved first: look again, then retry
    |   `-- MergeConflictError two commits changed the same thing: decide which one holds
    |-- NotFoundError        no such table, ref, record or object (also a LookupError)
    |-- InvalidInputError    the request is wrong: change it (also a ValueError)
    |   |-- BadRecordError   a raw record cannot be taken: mend the file or skip the record
    |   `-- NewerFormatError stored by a newer pyfactory: upgrade pyfactory
    |-- CorruptError         stored bytes are not what was written: restore them
    |-- UnavailableError     disk full, network, device: mend the machine, then rerun (also an OSError)
    |   `-- UnknownOutcomeError  a write may or may not have landed, and reading back failed
    |-- ReadOnlyError        no permission to write here (also a PermissionError)
    |-- RefusedError         a rule of the repository forbids it: mend the data, or change the rule
    `-- InternalError        a bug in pyfactory: report it

Each class has a stable `kind`, for programs; the message says what is wrong and where, `hint` the way out.
"""

from __future__ import annotations

from typing import Any

__all__ = [
    "BadRecordError",
    "ConflictError",
    "CorruptError",
    "InternalError",
    "InvalidInputError",
    "MergeConflictError",
    "NewerFormatError",
    "NotFoundError",
    "PyfactoryError",
    "ReadOnlyError",
    "RefusedError",
    "UnavailableError",
    "UnknownOutcomeError",
]


class PyfactoryError(Exception):
    """Base of all errors that pyfactory raises on purpose.

    Args:
        message: What is wrong and where, one sentence.
        hint: The way out, one sentence, or empty.
    """

    kind = "error"

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message

    def __reduce__(self) -> tuple[object, ...]:
        # Exceptions with keyword arguments do not survive a process border otherwise.
        return (_rebuild, (type(self), self.message, self.hint))


def _rebuild(cls: type[PyfactoryError], message: str, hint: str) -> PyfactoryError:
    return cls(message, hint=hint)


class ConflictError(PyfactoryError):
    """Somebody else changed the same thing first."""

    kind = "conflict"


class MergeConflictError(ConflictError):
    """Two commits changed the same thing in different ways.

    Args:
        message: The first conflict, and how many there are.
        hint: The way out.
        conflicts: All of them: `repo.merge.Conflict`.
    """

    kind = "merge_conflict"

    def __init__(self, message: str, *, hint: str = "", conflicts: tuple[Any, ...] = ()) -> None:
        super().__init__(message, hint=hint)
        self.conflicts = conflicts


class NotFoundError(PyfactoryError, LookupError):
    """What was named does not exist."""

    kind = "not_found"


class InvalidInputError(PyfactoryError, ValueError):
    """The request, file or parameter is wrong."""

    kind = "invalid_input"


class BadRecordError(InvalidInputError):
    """A raw record cannot be imported."""

    kind = "bad_record"


class NewerFormatError(InvalidInputError):
    """The repository or state was written by a newer pyfactory."""

    kind = "newer_format"


class CorruptError(PyfactoryError):
    """Stored bytes are not what was written."""

    kind = "corrupt"


class UnavailableError(PyfactoryError, OSError):
    """The machine, the disk or the network does not let us."""

    kind = "unavailable"


class UnknownOutcomeError(UnavailableError):
    """A write failed and reading back failed as well: it may or may not have landed."""

    kind = "unknown_outcome"


class ReadOnlyError(PyfactoryError, PermissionError):
    """There is no permission to write here."""

    kind = "read_only"


class RefusedError(PyfactoryError):
    """A rule of the repository forbids it: a protected branch, a gate, a missing signature, a forgotten record."""

    kind = "refused"


class InternalError(PyfactoryError):
    """An invariant of pyfactory itself is broken."""

    kind = "internal"
