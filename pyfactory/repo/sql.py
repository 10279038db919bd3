"""DuckDB, the only home of it: a connection that can read nothing by itself, and its errors as ours."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from pyfactory.errors import InternalError, InvalidInputError, PyfactoryError, UnavailableError

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection, DuckDBPyRelation

    from pyfactory.repo.version import Version

__all__ = ["closed_connection", "named_tables", "relation", "sql_errors"]

_CLOSED = (
    "SET enable_external_access = false",
    "SET autoload_known_extensions = false",
    "SET autoinstall_known_extensions = false",
    "SET allow_community_extensions = false",
    "SET python_enable_replacements = false",
    "SET lock_configuration = true",
)


def closed_connection(folder: Path | None) -> DuckDBPyConnection:
    """Return a connection in memory whose queries reach no file, no network and no variable of the program.

    Args:
        folder: Where DuckDB may put what does not fit into memory; the caller removes it. None: nowhere.
    """
    import duckdb

    connection = duckdb.connect(":memory:", config={"temp_directory": "" if folder is None else str(folder)})
    for setting in _CLOSED:
        connection.execute(setting)
    return connection


def named_tables(connection: DuckDBPyConnection, sql: str) -> list[str]:
    """Return the names that a query reads from, as it writes them, each once: tables, and maybe names it gives itself.

    The parser of DuckDB reads the query, so that no text in quotes is taken for a name.

    Raises:
        InvalidInputError: It is not exactly one query, or not valid SQL.
    """
    try:
        sql.encode()
        with sql_errors():
            (found,) = connection.execute("SELECT json_serialize_sql(?)", [sql]).fetchall()
        parsed = json.loads(found[0])
    except UnicodeEncodeError as error:
        raise InvalidInputError("the SQL is not valid Unicode text", hint="type it again") from error
    except RecursionError as error:
        raise InvalidInputError("the SQL is nested too deeply", hint="cut the query into parts") from error
    if parsed["error"]:
        if parsed["error_type"] == "parser":
            raise InvalidInputError(f"SQL: {parsed['error_message']}{_place(sql, parsed)}", hint="check the query")
        raise InvalidInputError("this SQL is not a query", hint="versions can only be read: write a SELECT")
    if len(parsed["statements"]) != 1:
        raise InvalidInputError(f"there are {len(parsed['statements'])} SQL statements", hint="write one SELECT")
    return list(dict.fromkeys(_walk(parsed["statements"])))


def _place(sql: str, parsed: dict[str, Any]) -> str:
    position = str(parsed.get("position", ""))
    if not position.isdecimal():
        return ""
    before = sql.encode()[: int(position)].decode(errors="replace")
    return f" (line {before.count(chr(10)) + 1}, column {len(before) - before.rfind(chr(10))})"


def _walk(root: Any) -> Iterator[str]:
    # By a list of what is to come: queries may be nested deeper than Python's calls.
    waiting = [root]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            if value.get("type") == "BASE_TABLE" and not value.get("schema_name") and not value.get("catalog_name"):
                yield value["table_name"]
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)


def relation(version: Version, connection: DuckDBPyConnection | None) -> DuckDBPyRelation:
    """Return a version as a relation of a connection; see `Version.to_duckdb`."""
    import duckdb

    from pyfactory.repo.tables import TableScan

    scan: Any = TableScan(version)
    return (connection or duckdb.connect(":memory:")).from_arrow(scan)


@contextmanager
def sql_errors() -> Iterator[None]:
    """Turn what DuckDB raises inside the block, itself or by a stream of Arrow, into an error that says what to do."""
    import duckdb

    try:
        yield
    except PyfactoryError:
        raise
    except (duckdb.Error, pa.ArrowException, OSError) as error:
        raise _translated(str(error)) from error


def _translated(said: str) -> PyfactoryError:
    # By the text, which is all that a stream keeps of an error.
    text, _, rest = said.partition("\n")
    if text.startswith(("Out of Memory Error", "IO Error")):
        return UnavailableError(f"SQL: {text}", hint="free memory and disk, or ask for less at a time")
    if text.startswith(("INTERNAL Error", "FATAL Error")):
        return InternalError(f"SQL: {text}", hint="a bug in DuckDB: write the query in another way")
    return InvalidInputError(f"SQL: {text}", hint=_hint(rest))


def _hint(rest: str) -> str:
    """Return the line after the first, if it is a proposal and not the query itself."""
    line = rest.partition("\n")[0].strip()
    return line if line.startswith(("Candidate", "Did you mean")) and not line.endswith(":") else "check the query"
