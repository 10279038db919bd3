"""Tables as they are at other refs, taken into a branch together: one commit, so that no reader sees half of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from pyfactory.core.digest import Digest
from pyfactory.errors import InvalidInputError
from pyfactory.repo.objects import TableState
from pyfactory.repo.repository import Repository
from pyfactory.repo.version import Version

if TYPE_CHECKING:
    from pyfactory.repo.signing import Signer

__all__ = ["TakeReport", "Took", "take_tables"]

_HINT = "pyfactory commit REPO --take TABLE@REF --remove TABLE -m WHY"


@dataclass(frozen=True, slots=True)
class Took:
    """A table that was taken, and where from; the fields are those of `made_by.took` in the commit."""

    table: str
    asked: str
    resolved: str
    commit: Digest
    version: Digest


@dataclass(frozen=True, slots=True)
class TakeReport:
    """What became of a commit of whole tables.

    Attributes:
        commit: The commit that the branch now names.
        created: False if the branch had exactly that already, and nothing was written.
        took: What was taken.
        removed: Tables that were removed.
    """

    commit: Digest
    created: bool
    took: tuple[Took, ...]
    removed: tuple[str, ...]

    def to_value(self) -> dict[str, Any]:
        """Return plain dicts and lists."""
        return asdict(self)


def take_tables(
    repo: Repository,
    take: Sequence[str] = (),
    remove: Sequence[str] = (),
    *,
    branch: str = "main",
    message: str = "",
    author: str = "unknown",
    signer: Signer | None = None,
) -> TakeReport:
    """Set tables of a branch to what they are elsewhere, and remove others, as one commit. No shard is copied.

    Args:
        repo: The repository.
        take: Tables as `TABLE@REF`, where REF is a branch, a tag or a commit.
        remove: Tables that the branch shall no longer have; its earlier commits keep them.
        branch: Where to commit.
        message: Why.
        author: Who.
        signer: Signs the commit; needed where the rule of the branch asks for it.

    Raises:
        InvalidInputError: Nothing is named, a table has no REF, or one is named twice.
        NotFoundError: There is no such branch, ref or table.
        RefusedError: A rule of the branch forbids it; the refusal is in the log.
        ConflictError: Somebody else changed the same tables meanwhile.
    """
    named = [_split(each) for each in take]
    tables = [*(table for table, _ in named), *remove]
    if not tables:
        raise InvalidInputError("no table is named", hint=_HINT)
    for table in tables:
        if tables.count(table) > 1:
            raise InvalidInputError(f"table {table!r} is named twice", hint="name each table once")
    versions = [repo.version(table, ref) for table, ref in named]
    took = tuple(map(_told, versions))
    changes: dict[str, TableState | None] = {version.table: version.state for version in versions}
    done = repo.commit(
        changes | dict.fromkeys(remove),
        branch,
        message=message or _why(took, remove),
        author=author,
        made_by={"kind": "commit", "took": [asdict(each) for each in took], "removed": list(remove)},
        signer=signer,
    )
    return TakeReport(done.digest, done.created, took, tuple(remove))


def _split(named: str) -> tuple[str, str]:
    table, at, ref = named.partition("@")
    if not (table and at and ref):
        raise InvalidInputError(f"{named!r} does not say which table, and from where", hint=_HINT)
    return table, ref


def _told(version: Version) -> Took:
    return Took(version.table, version.asked, version.ref, version.commit, version.digest)


def _why(took: Sequence[Took], removed: Sequence[str]) -> str:
    taken = [f"take {each.table} from {each.asked}" for each in took]
    return ", ".join([*taken, *(f"remove {table}" for table in removed)])
