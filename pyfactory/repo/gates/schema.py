"""The gate `schema`: the columns of a table stay what they are, or are those of a list."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pyfactory.errors import CorruptError, InvalidInputError
from pyfactory.repo.gates.answer import answer
from pyfactory.repo.gates.base import Proposal, Verdict
from pyfactory.repo.gates.options import TEXTS, option
from pyfactory.repo.objects import TableState
from pyfactory.shard.layout import schema_from_value

__all__ = ["Schema"]

_NOT_NULL = " not null"


@dataclass(frozen=True)
class Schema:
    """Columns must equal those of the target's table, or those of an explicit list; their order counts too."""

    name: ClassVar[str] = "schema"
    version: ClassVar[int] = 1

    columns: tuple[str, ...] = option(
        (), TEXTS, 'the columns, as "name: type" or "name: type not null"; without it, those of the target'
    )

    def __post_init__(self) -> None:
        for column in self.columns:
            name, _, type_ = column.partition(": ")
            try:
                schema_from_value([[name, type_.removesuffix(_NOT_NULL), not type_.endswith(_NOT_NULL)]])
            except CorruptError as error:
                raise InvalidInputError(
                    f"the gate schema: {column!r} is not a column",
                    hint='write "name: type" or "name: type not null", such as "text: large_string not null"',
                ) from error

    def obstacle(self, proposal: Proposal) -> str:
        """Return "": any table has columns, and one that is removed loses them."""
        return ""

    def judge(self, proposal: Proposal) -> Verdict:
        """Return the verdict; nothing is read."""
        wanted = list(self.columns) if self.columns else _columns(proposal.before)
        got = _columns(proposal.after)
        if not wanted:
            reason = f"the table is new, with {_several(len(got))}"
            return answer(self, proposal, reason, {"columns": len(got)}, passed=True)
        faults = _faults(_by_name(wanted), _by_name(got))
        if not faults and wanted != got:
            faults = [f"the order is {', '.join(_by_name(got))}"]
        against = "the list of the rule" if self.columns else "the target"
        reason = f"{_several(len(got))}, as in {against}" if not faults else f"unlike {against}: {'; '.join(faults)}"
        return answer(self, proposal, reason, {"columns": len(got), "faults": len(faults)}, passed=not faults)


def _columns(state: TableState | None) -> list[str]:
    schema = () if state is None else state.schema
    return [f"{name}: {type_}{'' if nullable else _NOT_NULL}" for name, type_, nullable in schema]


def _by_name(columns: list[str]) -> dict[str, str]:
    split = (column.rpartition(": ") for column in columns)
    return {name: type_ for name, _, type_ in split}


def _faults(wanted: dict[str, str], got: dict[str, str]) -> list[str]:
    removed = [f"{name!r} is removed" for name in wanted if name not in got]
    changed = [
        f"{name!r} is {got[name]} instead of {type_}" for name, type_ in wanted.items() if got.get(name, type_) != type_
    ]
    return removed + changed + [f"{name!r} is added" for name in got if name not in wanted]


def _several(columns: int) -> str:
    return f"{columns} column{'' if columns == 1 else 's'}"
