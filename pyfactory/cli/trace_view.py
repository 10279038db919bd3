"""The answer of `trace`, for people."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from rich.markup import escape

from pyfactory.audit import Consumed, Trace, TracedSource
from pyfactory.cli.output import amount, counted, line

__all__ = ["show_trace"]

_FILES_SHOWN = 5


def show_trace(found: Trace) -> None:
    """Print which data trained a checkpoint."""
    tokens, samples = _tokens(found.tokens), counted(found.samples, "sample")
    line(f"this checkpoint saw [bold]{tokens}[/] in {samples} of")
    for source in found.sources:
        _show_source(source, several=len(found.sources) > 1)
    line(f"  seed {found.seed}, {_recipe(found.recipe)}")
    recipe = found.recipe
    for phase in found.phases:
        changed = {name: value for name, value in phase["recipe"].items() if recipe.get(name) != value}
        changed |= {name: "as by default" for name in recipe if name not in phase["recipe"]}
        recipe = phase["recipe"]
        sources = ", ".join(_phase_source(source, found.sources) for source in phase["sources"])
        line(f"  from position {amount(phase['at'])} on: {sources}{'; ' * bool(changed)}{_recipe(changed)}")
    for span in found.seen:
        line(f"  positions {_positions(span)} by run {span.run} on {counted(span.world_size, 'rank')}")
    for span in found.abandoned:
        line(f"  [dim]abandoned: at most {_positions(span)}, handed out by run {span.run}[/]")
        line("  [dim]           after the checkpoint that training went on from; no model saw them[/]")
    _show_origin(found)


def _show_source(source: TracedSource, *, several: bool) -> None:
    tags = f" (tag {escape(', '.join(source.tags))})" if source.tags else ""
    table = f"{escape(source.table)}@{escape(source.asked)}"
    if several:
        samples = "" if source.samples is None else f" in {counted(source.samples, 'sample')}"
        line(f"  source [bold]{escape(source.name)}[/]: {_tokens(source.tokens)}{samples} of")
    line(f"  {table} = commit [yellow]{source.commit}[/]{tags}")
    line(f"  version {source.version}, in {escape(_place(source.repository))}")


def _phase_source(source: dict[str, Any], known: Sequence[TracedSource]) -> str:
    asked = [each.asked for each in known if (each.name, each.version) == (source["name"], source["version"])]
    weight = f", weight {amount(source['weight'])}" if "weight" in source else ""
    unseen = ", what is unseen first" if "unseen_since" in source else ""
    ref = f"@{asked[0]}" if asked else ""
    return escape(f"{source['name']}{ref} (version {source['version'][:12]}{weight}{unseen})")


def _place(url: str) -> str:
    """Return a URL without steps to and fro, such as `..`."""
    return Path(unquote(urlsplit(url).path)).resolve().as_uri() if url.startswith("file:///") else url


def _tokens(tokens: int | None) -> str:
    return "an unknown number of tokens" if tokens is None else counted(tokens, "token")


def _recipe(recipe: dict[str, Any]) -> str:
    return escape(", ".join(f"{name} {value}" for name, value in recipe.items()))


def _show_origin(found: Trace) -> None:
    for job in found.jobs:
        steps = ", ".join(next(iter(step)) for step in job.spec["steps"])
        line(f"{escape(job.output)} of commit {job.commit[:12]} was built by job {job.digest[:12]}: {escape(steps)}")
        line(f"  with {escape(', '.join(f'{name} {version}' for name, version in sorted(job.code.items())))}")
    for gap in found.unknown:
        line(f"[bold red]unknown:[/] {escape(gap)}")
    line(f"from {counted(len(found.raw_files), 'raw file')}")
    for file in found.raw_files[:_FILES_SHOWN]:
        line(f"  {file.digest[:12]} {escape(file.name)} ({counted(file.records, 'record')})")
    if len(found.raw_files) > _FILES_SHOWN:
        line(f"  and {amount(len(found.raw_files) - _FILES_SHOWN)} more; --json lists all")


def _positions(span: Consumed) -> str:
    return escape(f"[{amount(span.start)}, {amount(span.stop)})")
