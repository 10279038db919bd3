"""Commits, trees and table states: the values a repository stores, and their canonical bytes.

A tree says what every table is; a commit says which tree, what came before, and who made it from what. Both are named
by the digest of their bytes, so a commit digest vouches for every byte of every table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pyfactory.core.canonical import Value, decode, digest_of_value
from pyfactory.core.digest import Digest, parse_digest
from pyfactory.errors import CorruptError, InvalidInputError, NotFoundError
from pyfactory.repo.fields import digests_by_name, read_fields, read_versioned
from pyfactory.repo.made_by import check_made_by, check_verdict
from pyfactory.repo.names import check_table_name
from pyfactory.shard.layout import schema_from_value
from pyfactory.store.content import Objects

__all__ = ["Commit", "TableState", "Tree", "load_commit", "load_tree"]


@dataclass(frozen=True, slots=True)
class TableState:
    """What one table is in one tree.

    Attributes:
        manifest: Digest of the root of its manifest.
        schema: Its columns as (name, type, nullable), in order; see `shard.layout.schema_to_value`.
        rows: Rows in all shards.
        tokens: Tokens in all shards; 0 for a raw table.
        nbytes: Bytes of all content shards.
        shards: Content shards.
        artifacts: Objects that belong to the table, by name, such as its tokenizer.
        attributes: Facts about the table, by name: integers and texts.
    """

    manifest: Digest
    schema: tuple[tuple[str, str, bool], ...]
    rows: int
    tokens: int
    nbytes: int
    shards: int
    artifacts: Mapping[str, Digest]
    attributes: Mapping[str, int | str]

    def to_value(self) -> Value:
        """Return the canonical value."""
        return {
            "artifacts": dict(self.artifacts),
            "attributes": dict(self.attributes),
            "bytes": self.nbytes,
            "manifest": self.manifest,
            "rows": self.rows,
            "schema": [list(column) for column in self.schema],
            "shards": self.shards,
            "tokens": self.tokens,
        }

    @property
    def digest(self) -> Digest:
        """The version digest: names the table's content, schema and attributes, whatever commit it stands in."""
        return digest_of_value(self.to_value())

    @classmethod
    def from_value(cls, value: Value, what: str) -> TableState:
        """Return the state that a stored value describes; `what` names it in a CorruptError."""
        names = ("artifacts", "attributes", "bytes", "manifest", "rows", "schema", "shards", "tokens")
        fields = read_fields(value, names, what)
        attributes = fields.mapping("attributes")
        for name, attribute in attributes.items():
            if type(attribute) not in (int, str):
                raise CorruptError(f"{what}: the attribute {name!r} is neither an integer nor text")
        columns = fields.items("schema")
        schema_from_value(columns, what)
        return cls(
            manifest=fields.digest("manifest"),
            schema=tuple((name, type_, nullable) for name, type_, nullable in columns),
            rows=fields.count("rows"),
            tokens=fields.count("tokens"),
            nbytes=fields.count("bytes"),
            shards=fields.count("shards"),
            artifacts=digests_by_name(fields.mapping("artifacts"), f"{what}: artifacts"),
            attributes=attributes,
        )


@dataclass(frozen=True, slots=True)
class Tree:
    """All tables at one moment.

    Attributes:
        tables: The state of each table, by name.
    """

    tables: Mapping[str, TableState]

    def to_value(self) -> Value:
        """Return the canonical value."""
        tables = {name: state.to_value() for name, state in self.tables.items()}
        return {"kind": "tree", "tables": tables, "v": 1}

    @classmethod
    def from_value(cls, value: Value, what: str) -> Tree:
        """Return the tree that a stored value describes; `what` names it in a CorruptError."""
        tables = read_versioned(value, ["tables"], what, kind="tree").mapping("tables")
        for name in tables:
            try:
                check_table_name(name)
            except InvalidInputError as error:
                raise CorruptError(f"{what}: {error.message}") from error
        return cls({name: TableState.from_value(state, f"{what}: table {name!r}") for name, state in tables.items()})


@dataclass(frozen=True, slots=True)
class Commit:
    """One state of all tables, and where it came from.

    Attributes:
        tree: Digest of its tree.
        parents: Commits it follows: none for the first, one as a rule, two for a merge; the first is of its branch.
        author: Who made it.
        time: When, in UTC, ISO 8601, whole seconds, `Z`.
        message: Why.
        made_by: What made it (job or import, inputs, code), or None.
        gates: Verdicts of the checks it passed.

    Raises:
        InvalidInputError: `made_by` or a verdict is not what docs/format.md says: nobody could read it.
    """

    tree: Digest
    parents: tuple[Digest, ...]
    author: str
    time: str
    message: str
    made_by: Mapping[str, Any] | None = None
    gates: tuple[Mapping[str, Any], ...] = ()

    def __post_init__(self) -> None:
        try:
            if self.made_by is not None:
                check_made_by(self.made_by, "what made it")
            for number, verdict in enumerate(self.gates):
                check_verdict(verdict, f"verdict {number}")
        except CorruptError as error:
            raise InvalidInputError(f"no commit can hold this: {error.message}") from error

    def to_value(self) -> Value:
        """Return the canonical value."""
        return {
            "author": self.author,
            "gates": [dict(verdict) for verdict in self.gates],
            "kind": "commit",
            "made_by": None if self.made_by is None else dict(self.made_by),
            "message": self.message,
            "parents": list(self.parents),
            "time": self.time,
            "tree": self.tree,
            "v": 1,
        }

    @property
    def digest(self) -> Digest:
        """The name of the commit."""
        return digest_of_value(self.to_value())

    @classmethod
    def from_value(cls, value: Value, what: str) -> Commit:
        """Return the commit that a stored value describes; `what` names it in a CorruptError."""
        names = ("author", "gates", "made_by", "message", "parents", "time", "tree")
        fields = read_versioned(value, names, what, kind="commit")
        made_by, gates = fields.value("made_by"), fields.items("gates")
        if made_by is not None:
            check_made_by(made_by, f"{what}: made_by")
        for number, verdict in enumerate(gates):
            check_verdict(verdict, f"{what}: verdict {number}")
        try:
            parents = tuple(parse_digest(parent) for parent in fields.items("parents"))
        except InvalidInputError as error:
            raise CorruptError(f"{what}: 'parents' is not a list of digests") from error
        if len(set(parents)) != len(parents):
            raise CorruptError(f"{what} names a parent twice")
        return cls(
            tree=fields.digest("tree"),
            parents=parents,
            author=fields.text("author"),
            time=fields.time("time"),
            message=fields.text("message"),
            made_by=made_by,
            gates=tuple(gates),
        )


def load_commit(objects: Objects, digest: Digest, named_by: str) -> Commit:
    """Return a commit that something stored refers to; `named_by` says what, in the CorruptError when it is missing."""
    return _load(objects, digest, f"commit {digest}", named_by, Commit)


def load_tree(objects: Objects, digest: Digest, named_by: str) -> Tree:
    """Return a tree that something stored refers to; `named_by` says what, in the CorruptError when it is missing."""
    return _load(objects, digest, f"tree {digest}", named_by, Tree)


_Stored = TypeVar("_Stored", Commit, Tree)


def _load(objects: Objects, digest: Digest, what: str, named_by: str, type_: type[_Stored]) -> _Stored:
    try:
        content = objects.get(digest)
    except NotFoundError as error:
        raise CorruptError(
            f"{objects.store.url}: {what}, named by {named_by}, is missing",
            hint="put the object back from a copy of the repository; pyfactory verify lists what else is wrong",
        ) from error
    return type_.from_value(decode(content, what), what)
