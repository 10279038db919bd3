"""Commands about data: import, build, sample."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from pyfactory.cli.committing import Branch, Message, Workers, told
from pyfactory.cli.keys import Key
from pyfactory.cli.output import emit, progress
from pyfactory.cli.repository import Json, Repo, author

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
    app.command()(sample)


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


def sample(
    repo: Repo,
    table: Annotated[str, typer.Argument(metavar="TABLE[@REF]", help="Token table, at a branch, tag or commit.")],
    seed: Annotated[int, typer.Option("--seed", help="Seed of the stream.")],
    position: Annotated[int, typer.Option("--position", help="Position in the stream.")] = 0,
    sequence_length: Annotated[int, typer.Option("--sequence-length", help="Tokens of a sample.")] = 2048,
    block_size: Annotated[int, typer.Option("--block-size", help="Samples that stay together.")] = 1,
    window: Annotated[int, typer.Option("--window", help="Blocks among which samples are shuffled.")] = 1,
    require: Annotated[str, typer.Option("--require", help="What the data must be: signed, gated or both.")] = "",
    as_json: Json = False,
) -> None:
    """Show the text at a position of a stream, and where it comes from."""
    from pyfactory.cli.tables_view import show_sample
    from pyfactory.repo.repository import Repository
    from pyfactory.repo.requirement import require as check
    from pyfactory.stream.sample import describe_sample
    from pyfactory.stream.stream import Stream

    name, _, ref = table.partition("@")
    opened = Repository.open(repo)
    version = opened.version(name, ref or "main")
    if require:
        check(opened, opened.view(), version.resolved, require, author(), table=name)
    stream = Stream(version, seed=seed, sequence_length=sequence_length, block_size=block_size, window=window)
    shown = describe_sample(stream, position)
    if not emit(shown, as_json=as_json):
        show_sample(shown)
