"""What a query found, and what an export and an import of tokens have done, for people."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

from rich import box
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from pyfactory.cli.output import amount, counted, line, note, rendered, size

if TYPE_CHECKING:
    import pyarrow as pa

    from pyfactory.factory import TokensReport
    from pyfactory.factory.exporting import ExportReport

__all__ = ["show_export", "show_rows", "show_tokens"]

_ROWS_SHOWN = 40
_LONGEST_CELL = 60


def show_rows(rows: pa.RecordBatchReader) -> None:
    """Print the first rows of a query as a table, and say if there are more."""
    from pyfactory.factory.exporting import plain_rows

    first = list(islice((row for batch in rows for row in plain_rows(batch)), _ROWS_SHOWN + 1))
    table = Table(box=box.SIMPLE_HEAD)
    for field in rows.schema:
        # Numbers, and nothing else, are easier to compare when their ends meet.
        number = str(field.type).startswith(("int", "uint", "float", "double", "decimal"))
        table.add_column(_cell(field.name), justify="right" if number else "left", overflow="fold")
    for row in first[:_ROWS_SHOWN]:
        table.add_row(*(_cell(value) for value in row))
    for text in rendered(table):
        line(escape(text))
    if len(first) > _ROWS_SHOWN:
        note(f"the first {_ROWS_SHOWN} rows; --json, --csv FILE and --parquet FILE give all of them")
    else:
        note(counted(len(first), "row"))


def _cell(value: Any) -> Text:
    shown = "NULL" if value is None else amount(value) if type(value) is int else str(value)
    shown = shown.replace("\n", "\\n").replace("\t", "\\t")
    return Text(shown if len(shown) <= _LONGEST_CELL else f"{shown[: _LONGEST_CELL - 1]}…")


def show_export(report: ExportReport) -> None:
    """Print what an export wrote."""
    rows, files = counted(report.rows, "row"), counted(report.files, "file")
    line(f"[green]exported[/] {rows} of {report.table} to {escape(report.path)}: {files}, {size(report.nbytes)}")
    line(f"commit [yellow]{report.commit[:12]}[/], version {report.version[:12]}")


def show_tokens(report: TokensReport, table: str, branch: str) -> None:
    """Print what an import of tokens took."""
    if not report.created:
        line(f"[green]nothing to do[/]: commit [yellow]{report.commit[:12]}[/] imported exactly these files")
        return
    documents, files = counted(report.documents, "document"), counted(report.files, "file")
    line(f"[green]imported[/] {counted(report.tokens, 'token')} in {documents} from {files} into {table}")
    if report.whole_files:
        line("  nothing says where documents end, so each file is one; --eos or --doc-lengths would")
    if report.empty:
        line(f"  left out {counted(report.empty, 'document')} without a token")
    vocabulary = f"vocabulary of {amount(report.vocab_size)} in {counted(report.width, 'byte')} each"
    line(f"{table} has {counted(report.all_tokens, 'token')}, {size(report.nbytes)}, {vocabulary}")
    line(f"commit [yellow]{report.commit[:12]}[/] on {branch}")
