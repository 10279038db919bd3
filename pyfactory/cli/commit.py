"""The command of whole tables: commit."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape

from pyfactory.cli.committing import Branch, Message, told
from pyfactory.cli.keys import Key
from pyfactory.cli.output import emit, line
from pyfactory.cli.repository import Json, Repo

__all__ = ["register"]

Take = Annotated[
    list[str] | None, typer.Option("--take", metavar="TABLE@REF", help="A table as it is at REF; may be repeated.")
]
Remove = Annotated[list[str] | None, typer.Option("--remove", metavar="TABLE", help="A table to remove.")]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(commit)


def commit(
    repo: Repo,
    take: Take = None,
    remove: Remove = None,
    branch: Branch = "main",
    message: Message = "",
    key: Key = None,
    as_json: Json = False,
) -> None:
    """Set tables of a branch to what they are elsewhere, or remove them: all in one commit."""
    from pyfactory.factory import take_tables
    from pyfactory.repo.repository import Repository

    report = take_tables(Repository.open(repo), take or (), remove or (), **told(branch, message, key))
    if emit(report.to_value(), as_json=as_json):
        return
    if not report.created:
        line(f"nothing to do: [green]{escape(branch)}[/] has just that")
        return
    for each in report.took:
        line(f"took {escape(each.table)} from {escape(each.resolved)} (commit [yellow]{each.commit[:12]}[/])")
    for table in report.removed:
        line(f"removed {escape(table)}")
    line(f"[green]{escape(branch)}[/] [yellow]{report.commit[:12]}[/]")
