"""Which stream a command speaks of: a table and a recipe on the command line, or a training file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pyfactory.cli.repository import author
from pyfactory.errors import NotFoundError

if TYPE_CHECKING:
    from pyfactory.stream.stream import Stream

__all__ = [
    "BlockSize",
    "Packing",
    "Require",
    "Seed",
    "SequenceLength",
    "Table",
    "Where",
    "Window",
    "is_training",
    "opened",
]

Where = Annotated[
    str, typer.Argument(metavar="REPO|FILE", help="The repository, or a training file that describes the stream.")
]
Table = Annotated[str | None, typer.Argument(metavar="[TABLE[@REF]]", help="Token table, at a branch, tag or commit.")]
Seed = Annotated[int | None, typer.Option("--seed", help="Seed of the stream.")]
SequenceLength = Annotated[int, typer.Option("--sequence-length", help="Tokens of a sample.")]
BlockSize = Annotated[int, typer.Option("--block-size", help="Samples that stay together.")]
Window = Annotated[int, typer.Option("--window", help="Blocks among which samples are shuffled.")]
Packing = Annotated[str, typer.Option("--packing", help="concat, best_fit, padded or documents.")]
Require = Annotated[str, typer.Option("--require", help="What the data must be: signed, gated or both.")]


def is_training(where: str) -> bool:
    """Tell whether the first argument is a training file and no repository.

    Raises:
        NotFoundError: It is named like a file, and there is nothing.
    """
    if not where.endswith((".yaml", ".yml")) or "://" in where:
        return False
    path = Path(where)
    if not path.exists():
        raise NotFoundError(f"no such file: {where}", hint="check the path: a training file ends in .yaml or .yml")
    return path.is_file()


def opened(
    where: str,
    table: str | None,
    seed: int | None,
    *,
    sequence_length: int,
    block_size: int,
    window: int,
    packing: str,
    require: str,
) -> Stream:
    """Open the stream that a command line names.

    Raises:
        typer.BadParameter: A table without a seed or the other way round, or a training file with either.
    """
    from pyfactory.factory import open_stream
    from pyfactory.repo.repository import Repository
    from pyfactory.repo.requirement import require as check
    from pyfactory.stream.stream import Stream

    if is_training(where):
        if table is not None or seed is not None:
            raise typer.BadParameter(f"{where} tells the stream whole: leave out the table and --seed")
        return open_stream(where, require=require)
    if table is None or seed is None:
        missing = "the table" if table is None else "--seed"
        raise typer.BadParameter(f"{missing} is missing: give REPO TABLE@REF --seed N, or a training file")
    name, _, ref = table.partition("@")
    repo = Repository.open(where)
    version = repo.version(name, ref or "main")
    if require:
        check(repo, repo.view(), version.resolved, require, author(), table=name)
    return Stream(
        version, seed=seed, sequence_length=sequence_length, block_size=block_size, window=window, packing=packing
    )
