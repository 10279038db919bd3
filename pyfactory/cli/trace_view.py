"""The answer of `trace`, for people."""

from __future__ import annotations

from rich.markup import escape

from pyfactory.audit import Consumed, Trace
from pyfactory.cli.output import amount, counted, line

__all__ = ["show_trace"]

_FILES_SHOWN = 5


def show_trace(found: Trace) -> None:
    """Print which data trained a checkpoint."""
    tags = f" (tag {escape(', '.join(found.tags))})" if found.tags else ""
    tokens, samples = counted(found.tokens, "token"), counted(found.samples, "sample")
    line(f"this checkpoint saw [bold]{tokens}[/] in {samples} of")
    line(f"  {escape(found.table)}@{escape(found.asked)} = commit [yellow]{found.commit}[/]{tags}")
    line(f"  version {found.version}, in {escape(found.repository)}")
    recipe = ", ".join(f"{name} {value}" for name, value in found.recipe.items())
    line(f"  seed {found.seed}, {escape(recipe)}")
    for span in found.seen:
        line(f"  positions {_positions(span)} by run {span.run} on {counted(span.world_size, 'rank')}")
    for span in found.abandoned:
        line(f"  [dim]abandoned: at most {_positions(span)}, handed out by run {span.run}[/]")
        line("  [dim]           after the checkpoint that training went on from; no model saw them[/]")
    _show_origin(found)


def _show_origin(found: Trace) -> None:
    for job in found.jobs:
        steps = ", ".join(next(iter(step)) for step in job.spec["steps"])
        line(f"{escape(job.output)} was built by job {job.digest[:12]}: {escape(steps)}")
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
