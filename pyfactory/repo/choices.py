"""Who is right where both sides of a merge changed the same thing."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from pyfactory.errors import InvalidInputError
from pyfactory.repo.names import check_table_name, suggestion

__all__ = ["OURS", "THEIRS", "Choices"]

OURS, THEIRS = "ours", "theirs"
"""The branch that takes the changes, and what is merged into it."""

_EVERYTHING = "*"
_KEY = re.compile(r"\d{1,20}/[0-9a-f]{12}/\d{1,20}", re.ASCII)


class Choices:
    """Choices that a person made before the merge; a nearer one counts more: `table:key`, then `table`, then `*`.

    Args:
        given: "ours" or "theirs" by `table:key`, `table` or `*`.

    Raises:
        InvalidInputError: One is not of that form.

    Attributes:
        used: Those that decided something.
    """

    def __init__(self, given: Mapping[str, str]) -> None:
        self.used: dict[str, str] = {}
        self._given = dict(given)
        for where, side in self._given.items():
            if side not in (OURS, THEIRS):
                raise InvalidInputError(f"{side!r} decides no conflict", hint="choose ours or theirs")
            table, colon, key = where.partition(":")
            if where != _EVERYTHING:
                check_table_name(table)
            if colon and not _KEY.fullmatch(key):
                raise InvalidInputError(
                    f"{where!r} is no place of a conflict",
                    hint="say TABLE, or TABLE:KEY as the conflict is listed, or *",
                )

    def of_key(self, table: str, key: str) -> str | None:
        """Return who is right about one shard, None if nobody said."""
        return self._first(f"{table}:{key}", table, _EVERYTHING)

    def of_table(self, table: str) -> str | None:
        """Return who is right about a table as a whole, None if nobody said."""
        return self._first(table, _EVERYTHING)

    def check_used(self, conflicts: Iterable[str]) -> None:
        """Raise InvalidInputError for a choice about what was no conflict; `*` may decide nothing.

        Args:
            conflicts: Places of the conflicts that are left, for the hint.
        """
        for where in self._given:
            if where not in self.used and where != _EVERYTHING:
                raise InvalidInputError(
                    f"there is no conflict about {where} to decide",
                    hint=suggestion(where, conflicts, otherwise="leave the choice out"),
                )

    def _first(self, *places: str) -> str | None:
        for place in places:
            if place in self._given:
                self.used[place] = self._given[place]
                return self._given[place]
        return None
