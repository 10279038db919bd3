"""Commands that look into a stream: sample, stream stats."""

from __future__ import annotations

from typing import Annotated

import typer

from pyfactory.cli import stream_options as options
from pyfactory.cli.output import emit
from pyfactory.cli.repository import Json

__all__ = ["register"]


def sample(
    where: options.Where,
    table: options.Table = None,
    seed: options.Seed = None,
    position: Annotated[int, typer.Option("--position", help="Position in the stream.")] = 0,
    sequence_length: options.SequenceLength = 2048,
    block_size: options.BlockSize = 1,
    window: options.Window = 1,
    packing: options.Packing = "concat",
    require: options.Require = "",
    as_json: Json = False,
) -> None:
    """Show the text at a position of a stream, and where it comes from."""
    from pyfactory.cli.streams_view import show_sample
    from pyfactory.stream.sample import describe_sample

    shape = {"sequence_length": sequence_length, "block_size": block_size, "window": window}
    stream = options.opened(where, table, seed, **shape, packing=packing, require=require)
    shown = describe_sample(stream, position)
    if not emit(shown, as_json=as_json):
        show_sample(shown)


def stats(
    where: options.Where,
    table: options.Table = None,
    seed: options.Seed = None,
    stop: Annotated[int | None, typer.Option("--until", help="Count the positions before this one.")] = None,
    sequence_length: options.SequenceLength = 2048,
    block_size: options.BlockSize = 1,
    window: options.Window = 1,
    packing: options.Packing = "concat",
    require: options.Require = "",
    as_json: Json = False,
) -> None:
    """Show what a stream delivers by phase and source: shares, epochs, tokens, padding."""
    from pyfactory.cli.streams_view import show_stats
    from pyfactory.stream.stats import stream_stats

    shape = {"sequence_length": sequence_length, "block_size": block_size, "window": window}
    stream = options.opened(where, table, seed, **shape, packing=packing, require=require)
    found = stream_stats(stream, stop)
    if not emit(found, as_json=as_json):
        show_stats(found)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(sample)
    streams = typer.Typer(name="stream", help="What a stream delivers.", no_args_is_help=True)
    streams.command()(stats)
    app.add_typer(streams)
