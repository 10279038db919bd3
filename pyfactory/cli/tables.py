"""Commands about data: import, build."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from pyfactory.cli.committing import Branch, Message, Workers, told
from pyfactory.cli.keys import Key
from pyfactory.cli.output import emit, progress
from pyfactory.cli.repository import Json, Repo

__all__ = ["register"]

Table = Annotated[str, typer.Argument(help="Table to add the records to; made if it is new.")]
Sources = Annotated[list[Path], typer.Argument(help="JSONL (.gz, .zst), Parquet or text files, or folders of them.")]
Columns = Annotated[str, typer.Option("--columns", help="More fields to keep: NAME or NAME:TYPE, by commas.")]


class OnBadRecord(StrEnum):
    """What to do with a record that cannot be taken."""

    stop = "stop"
    skip = "skip"


OnBad = Annotated[OnBadRecord, typer.Option(help="Stop with nothing committed, or skip and count.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("import")(import_)
    app.command()(build)


def import_(
    repo: Repo,
    table: Table,
    sources: Sources,
    text: Annotated[str, typer.Option("--text", help="Field that holds the text.")] = "text",
    id_: Annotated[str | None, typer.Option("--id", help="Field that names a record; default its content.")] = None,
    columns: Columns = "",
    glob: Annotated[str, typer.Option("--glob", help="Which files of a folder.")] = "*",
    on_bad_record: OnBad = OnBadRecord.stop,
    branch: Branch = "main",
    message: Message = "",
    key: Key = None,
    workers: Workers = None,
    as_json: Json = False,
) -> None:
    """Import raw files into a table."""
    from pyfactory.cli.tables_view import show_import
    from pyfactory.factory import import_files
    from pyfactory.repo.repository import Repository

    with progress(as_json=as_json) as shown:
        report = import_files(
            Repository.open(repo),
            table,
            sources,
            text=text,
            id=id_,
            columns=[column.strip() for column in columns.split(",") if column.strip()],
            glob=glob,
            on_bad_record=on_bad_record.value,
            workers=workers,
            progress=shown,
            **told(branch, message, key),
        )
    if not emit(report.to_value(), as_json=as_json):
        show_import(report, table, branch)


def build(
    repo: Repo,
    job: Annotated[Path, typer.Argument(help="The job, a YAML file.")],
    branch: Branch = "main",
    message: Message = "",
    key: Key = None,
    workers: Workers = None,
    as_json: Json = False,
) -> None:
    """Run a job and commit its output table."""
    from pyfactory.cli.tables_view import show_build
    from pyfactory.factory import build as run_build
    from pyfactory.repo.repository import Repository

    with progress(as_json=as_json) as shown:
        report = run_build(Repository.open(repo), job, workers=workers, progress=shown, **told(branch, message, key))
    if not emit(report.to_value(), as_json=as_json):
        show_build(report, branch)
