"""The command that packs documents: pack."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from pyfactory.cli.committing import Branch, Message, Workers, told
from pyfactory.cli.keys import Key
from pyfactory.cli.output import amount, counted, emit, line, progress
from pyfactory.cli.repository import Json, Repo

if TYPE_CHECKING:
    from pyfactory.shard.packing_table import PackingReport

__all__ = ["register", "show_packing"]


class Packing(StrEnum):
    """A way to make samples of documents that needs a table."""

    best_fit = "best_fit"
    padded = "padded"
    documents = "documents"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(pack)


def pack(
    repo: Repo,
    table: Annotated[str, typer.Argument(help="Token table; its rows stay as they are.")],
    sequence_length: Annotated[int, typer.Option("--sequence-length", help="Tokens of a sample.")] = 2048,
    packing: Annotated[Packing, typer.Option("--packing", help="How documents become samples.")] = Packing.best_fit,
    branch: Branch = "main",
    message: Message = "",
    key: Key = None,
    workers: Workers = None,
    as_json: Json = False,
) -> None:
    """Pack the documents of a table into samples, and commit how."""
    from pyfactory.factory import pack as run_pack
    from pyfactory.repo.repository import Repository

    with progress(as_json=as_json) as shown:
        report = run_pack(
            Repository.open(repo),
            table,
            sequence_length=sequence_length,
            packing=packing.value,
            workers=workers,
            progress=shown,
            **told(branch, message, key),
        )
    if not emit(report.to_value(), as_json=as_json):
        show_packing(report.report, report.truncated_documents)
        line(f"{counted(report.ranges_computed, 'range')} packed, {amount(report.ranges_reused)} reused")
        unchanged = "" if report.created else " (nothing changed)"
        line(f"commit [yellow]{report.commit[:12]}[/] on {branch}{unchanged}: {table} {report.version[:12]}")


def show_packing(report: PackingReport, truncated: int | None = None) -> None:
    """Print what a packing makes of a table; `truncated`: documents of which it reads the beginning only, if known."""
    line(
        f"[green]{report.packing}[/] for {counted(report.sequence_length, 'token')}: "
        f"{counted(report.documents, 'document')} in {counted(report.samples, 'sample')}"
    )
    share = f"{100 * report.useful_share:.2f}% of the inputs are tokens"
    line(f"  {share}, {amount(report.padding)} are padding")
    if report.packing != "documents":
        said = f"{counted(report.split_documents, 'document')} cut, being longer than a sample"
    elif truncated is None:
        said = "documents longer than a sample are truncated"
    else:
        said = f"{counted(truncated, 'document')} truncated, being longer than a sample"
    line(f"  {said}; {_lost(report)}")


def _lost(report: PackingReport) -> str:
    targets = f"{counted(report.target_only_tokens, 'token')} only a target" if report.target_only_tokens else ""
    truncated = f"{counted(report.truncated_tokens, 'token')} in no sample" if report.truncated_tokens else ""
    return ", ".join(filter(None, (truncated, targets))) or "every token is an input"
