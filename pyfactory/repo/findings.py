"""What a verification finds: problems, gathered one by one, since the search goes on after each."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from types import TracebackType

from pyfactory.errors import NotFoundError, PyfactoryError

__all__ = ["Findings", "Problem", "VerifyReport"]


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        kind: `missing`, `corrupt` (not the bytes that were written, or not readable), `count` (two places disagree on
            a number), `log` (the chain of operations is broken), `run` (the chain of a training run is), `unreadable`
            (no permission, or disk or network fail: it may be whole), or the kind of the error that reading ended in.
        object: Digest of the object, or the key of what is not named by digest.
        tables: Tables that need it, ascending; empty if it belongs to none.
        where: The first commit found that needs it, "" if none does.
        message: What is wrong and where.
    """

    kind: str
    object: str
    tables: tuple[str, ...]
    where: str
    message: str


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """The result of a verification.

    Attributes:
        operations: Entries of the log that were read.
        commits: Commits that were read.
        objects: Objects that were read and compared with their digest, commits included.
        nbytes: Their bytes.
        problems: All that is wrong; empty when the repository is whole.
        runs: Entries of training runs that were read.
        resumed: Shards and sides that an earlier verification had read, which this one continued.
        skipped: Shards and sides that are not in the sample.
        redacted: Shards and sides that are gone as a redaction says, their replacements being there.
        advice: Completion marks that cannot be read: they cost work that is done again, and nothing else.
    """

    operations: int
    commits: int
    objects: int
    nbytes: int
    problems: list[Problem]
    runs: int = 0
    resumed: int = 0
    skipped: int = 0
    redacted: int = 0
    advice: list[Problem] = field(default_factory=list)


class Findings:
    """Problems by object, so that one damaged object that many tables share is one problem."""

    def __init__(self) -> None:
        self._problems: dict[str, list[Problem]] = {}

    def add(self, kind: str, name: str, message: str, tables: Iterable[str] = (), where: str = "") -> None:
        """Note a problem of an object (a digest or a key)."""
        self._problems.setdefault(name, []).append(Problem(kind, name, tuple(sorted(tables)), where, message))

    def noting(self, name: str, tables: Iterable[str] = (), where: str = "", *, required: bool = True) -> _Noting:
        """Return a context that turns an error inside it into a problem of an object, and goes on after it.

        What is not `required` may be missing.
        """
        return _Noting(self, name, tables, where, required)

    def absorb(self, other: Findings) -> None:
        """Add the problems of another search."""
        for name, problems in other._problems.items():
            self._problems.setdefault(name, []).extend(problems)

    def names(self) -> set[str]:
        """Return the objects that have problems."""
        return set(self._problems)

    def attribute(self, name: str, tables: Iterable[str]) -> None:
        """Add tables to the problems of an object."""
        self._problems[name] = [
            replace(problem, tables=tuple(sorted({*problem.tables, *tables}))) for problem in self._problems[name]
        ]

    def all(self) -> list[Problem]:
        """Return the problems, object by object, in the order in which these were found."""
        return [problem for problems in self._problems.values() for problem in problems]


class _Noting:
    def __init__(self, findings: Findings, name: str, tables: Iterable[str], where: str, required: bool) -> None:
        self._findings = findings
        self._required = required
        self._needed = (name, tables, where)

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, type_: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if not isinstance(error, PyfactoryError):
            return False
        name, tables, where = self._needed
        missing = isinstance(error, NotFoundError) or isinstance(error.__cause__, NotFoundError)
        if missing and not self._required:
            return True
        # No permission and a disk that fails are OSErrors.
        kind = "missing" if missing else "unreadable" if isinstance(error, OSError) else error.kind
        message = error.message if name in error.message else f"{name}: {error.message}"
        self._findings.add(kind, name, message, tables, where)
        return True
