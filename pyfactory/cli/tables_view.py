"""What import, build and sample have done, for people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from rich.markup import escape

from pyfactory.cli.output import amount, counted, line, size
from pyfactory.cli.packing import show_packing

if TYPE_CHECKING:
    from pyfactory.factory import BuildReport, ImportReport

__all__ = ["show_build", "show_import", "show_steps"]

_BAD_SHOWN = 20


def show_import(report: ImportReport, table: str, branch: str) -> None:
    """Print what an import took, and what it left out."""
    if not report.created:
        line(f"[green]nothing to do[/]: commit [yellow]{report.commit[:12]}[/] imported exactly these files")
        return
    records, files = counted(report.records, "record"), counted(report.files, "file")
    line(f"[green]imported[/] {records} from {files} into {table}")
    for bad in report.bad[:_BAD_SHOWN]:
        line(f"  skipped {escape(bad['file'])}:{bad['line']}: {escape(bad['reason'])}")
    if report.skipped > _BAD_SHOWN:
        line(f"  and {amount(report.skipped - _BAD_SHOWN)} more")
    if report.skipped:
        line(f"  skipped {counted(report.skipped, 'bad record')}; the commit lists them")
    holds = f"{table} has {counted(report.rows, 'row')}, {size(report.nbytes)}"
    line(f"commit [yellow]{report.commit[:12]}[/] on {branch}: {holds}")


def show_build(report: BuildReport, branch: str) -> None:
    """Print what each step of a job did, and what came of it."""
    line(f"input {escape(report.input_table)}@{escape(report.resolved)} = {report.input_version[:12]}")
    show_steps(report.steps)
    line(f"{counted(report.computed, 'task')} computed, {amount(report.reused)} reused")
    tokens = f"{counted(report.tokens, 'token')}, " if report.tokens else ""
    holds = f"{counted(report.rows, 'row')}, {tokens}{size(report.nbytes)}"
    line(f"[green]{report.table}[/] {report.version[:12]}: {holds}")
    if report.packing is not None:
        show_packing(report.packing)
    line(f"commit [yellow]{report.commit[:12]}[/] on {branch}{'' if report.created else ' (nothing changed)'}")
    if not report.rows:
        line("[yellow]the table is empty:[/] the steps dropped every row")


def show_steps(steps: Iterable[Mapping[str, Any]]) -> None:
    """Print how many rows each step took, passed on and dropped."""
    for step in steps:
        reasons = ", ".join(f"{amount(count)} {escape(reason)}" for reason, count in step["dropped"].items() if count)
        dropped = f" (dropped: {reasons})" if reasons else ""
        line(f"  {step['step']}: {amount(step['rows_in'])} -> {counted(step['rows_out'], 'row')}{dropped}")
