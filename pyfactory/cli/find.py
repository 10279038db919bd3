"""The command that finds a record: in tables, and in a stream."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from pyfactory.cli import stream_options as options
from pyfactory.cli.output import amount, counted, emit, line, progress
from pyfactory.cli.repository import Json
from pyfactory.errors import InvalidInputError, NotFoundError

if TYPE_CHECKING:
    from pyfactory.core.progress import Progress
    from pyfactory.repo.version import Version
    from pyfactory.stream.stream import Stream

__all__ = ["register"]

_SHOWN = 50
_SPANS_SHOWN = 8

Record = Annotated[str, typer.Argument(metavar="RECORD", help="Id of the record.")]
Table = Annotated[str, typer.Option("--table", metavar="TABLE[@REF]", help="Only this table; default all of main.")]
Start = Annotated[int | None, typer.Option("--start", help="First position; default 0.")]
Stop = Annotated[int | None, typer.Option("--stop", help="One past the last; default each source's epoch.")]
GlobalBatch = Annotated[
    int | None,
    typer.Option("--global-batch", min=1, help="Tell train steps and lanes, too; default the training file's."),
]
World = Annotated[int | None, typer.Option("--world-size", min=1, help="Lanes that share a train step; default 1.")]
Strided = Annotated[bool, typer.Option("--strided", help="Lanes are strided.")]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(find)


def find(
    where: options.Where,
    record: Record,
    table: Table = "",
    seed: options.Seed = None,
    sequence_length: options.SequenceLength = 2048,
    block_size: options.BlockSize = 1,
    window: options.Window = 1,
    packing: options.Packing = "concat",
    require: options.Require = "",
    start: Start = None,
    stop: Stop = None,
    global_batch: GlobalBatch = None,
    world_size: World = None,
    strided: Strided = False,
    as_json: Json = False,
) -> None:
    """Tell where a record stands, or why it was dropped; with a seed or a training file, also where it is delivered."""
    from pyfactory.repo.repository import Repository

    name, _, ref = table.partition("@")
    shape = {"sequence_length": sequence_length, "block_size": block_size, "window": window}
    recipe: dict[str, Any] = {**shape, "packing": packing, "require": require}
    span = {"start": start, "stop": stop}
    lanes = {"global_batch": global_batch, "world_size": world_size, "strided": strided or None}
    asked = {**span, **_lanes(where, lanes, streamed=seed is not None, span=span)}
    with progress(as_json=as_json) as shown:
        stream = None
        if options.is_training(where):
            stream = options.opened(where, table or None, seed, **recipe)
            versions = list({id(feed.version): feed.version for feed in stream.feeds}.values())
        else:
            repo = Repository.open(where)
            versions = [repo.version(one, ref or "main") for one in ([name] if name else repo.tables(ref or "main"))]
            if seed is not None:
                stream = options.opened(where, _streamed(versions, ref or "main"), seed, **recipe)
        told = _told(versions, record, stream, shown, {key: value for key, value in asked.items() if value is not None})
    if not emit(told, as_json=as_json):
        _show(told, more=stop is None)


def _lanes(where: str, lanes: Mapping[str, Any], *, streamed: bool, span: Mapping[str, Any]) -> dict[str, Any]:
    """Return how lanes share train steps: as asked, else as a training file says; refuse what would say nothing."""
    from pyfactory.config import load_training

    if options.is_training(where):
        training = load_training(where)
        lanes = {**lanes, "global_batch": lanes["global_batch"] or training.global_batch}
        return {**lanes, "strided": lanes["strided"] or training.strided}
    idle = [] if streamed else [name for name, value in {**span, **lanes}.items() if value is not None]
    if idle:
        raise typer.BadParameter(f"{_option(idle[0])} speaks of a stream: give --seed N, or a training file")
    if lanes["global_batch"] is None:
        idle = [name for name, value in lanes.items() if value is not None]
        if idle:
            raise typer.BadParameter(f"{_option(idle[0])} speaks of train steps: give --global-batch N as well")
    return {**lanes}


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _told(
    versions: Sequence[Version], record: str, stream: Stream | None, shown: Progress, asked: Mapping[str, Any]
) -> dict[str, Any]:
    """Return in which rows a record stands, what dropped it from tables that lack it, and where it is delivered."""
    from pyfactory.repo.forgotten import missing_record
    from pyfactory.repo.whereabouts import standings
    from pyfactory.stream.dropped import why_dropped
    from pyfactory.stream.find import find as find_in

    places = standings(versions, record, shown)
    told: dict[str, Any] = {"record": record, "places": [asdict(place) for place in places]}
    if stream is not None:
        try:
            finding = find_in(stream, record, progress=shown, **asked)
        except NotFoundError:
            if not places:
                raise
            return {**told, "dropped": [], "found": [], "searched": []}
        found = {"found": [asdict(one) for one in finding.found], "searched": finding.searched}
        return {**told, **found, "dropped": [asdict(reason) for reason in finding.dropped]}
    there = {place.table for place in places}
    reasons = [why_dropped(version, record, shown) for version in versions if version.table not in there]
    dropped = [asdict(reason) for reason in reasons if reason is not None]
    if not places and not dropped:
        tables = ", ".join(version.table for version in versions) or "no tables at all"
        raise missing_record(versions[0].repository, record, f"{tables}, nor in what they were made from")
    return {**told, "dropped": dropped}


def _streamed(versions: Sequence[Version], ref: str) -> str:
    """Return which table a stream is of, as `table@ref`: the only one of tokens, if none was named."""
    tables = [version.table for version in versions if "width" in version.attributes] or [versions[0].table]
    if len(tables) > 1:
        raise InvalidInputError(
            f"there are several tables of tokens: {', '.join(tables)}", hint="name one with --table"
        )
    return f"{tables[0]}@{ref}"


def _show(told: Mapping[str, Any], *, more: bool) -> None:
    line(f"record [yellow]{escape(told['record'])}[/]")
    for place in told["places"]:
        tokens = (
            "" if place["tokens"] is None else f", tokens {amount(place['tokens'][0])} to {amount(place['tokens'][1])}"
        )
        came = f", from {escape(place['file'])}:{place['line']}" if place["line"] else ""
        where = f"shard {amount(place['shard'])} ({place['digest'][:12]}) row {amount(place['row'])}"
        line(f"  [green]{escape(place['table'])}[/]: {where}{tokens}{came}")
    for reason in told["dropped"]:
        by = f"dropped by {reason['by']}, step {reason['step']} of its job" if reason["by"] else "not there"
        line(f"  [green]{escape(reason['output'])}[/]: {by}: {escape(reason['detail'])}")
    found = told.get("found")
    if found is None:
        return
    line(f"delivered at {counted(len(found), 'position')}")
    for one in found[:_SHOWN]:
        step = "" if one["step"] is None else f", train step {amount(one['step'])}, lane {one['lane']}"
        twin = "" if one["record"] == told["record"] else f" (record {escape(one['record'])})"
        line(
            f"  position {amount(one['position'])}: epoch {amount(one['epoch'])} of {escape(one['source'])}{step}{twin}"
        )
    if len(found) > _SHOWN:
        line(f"  and {amount(len(found) - _SHOWN)} more; --json tells all")
    _show_searched(told["searched"], more=more)


def _show_searched(searched: Sequence[tuple[int, int]], *, more: bool) -> None:
    """Print which positions were looked through, since there may be more of a record elsewhere."""
    if searched:
        shown = [f"[{amount(first)}, {amount(stop)})" for first, stop in searched[:_SPANS_SHOWN]]
        if len(searched) > _SPANS_SHOWN:
            shown.append(f"{amount(len(searched) - _SPANS_SHOWN)} spans more")
        line(f"searched positions {escape(', '.join(shown))}{'; --stop N for more' if more else ''}")
