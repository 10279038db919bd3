"""The answer of `trace`, for people."""

from __future__ import annotations

from rich.markup import escape

from pyfactory.audit import Trace
from pyfactory.cli.output import amount, line

__all__ = ["show_trace"]

_FILES_SHOWN = 5


def show_trace(found: Trace) -> None:
    """Print which data trained a checkpoint."""
    tags = f" (tag {', '.join(found.tags)})" if found.tags else ""
    line(f"this checkpoint saw [bold]{amount(found.tokens)} tokens[/] in {amount(found.samples)} samples of")
    line(f"  {escape(found.table)}@{escape(found.asked)} = commit [yellow]{found.commit}[/]{tags}")
    line(f"  version {found.version}, in {escape(found.repository)}")
    recipe = ", ".join(f"{name} {value}" for name, value in found.recipe.items())
    line(f"  seed {found.seed}, {escape(recipe)}")
    for span in found.seen:
        line(f"  positions [{amount(span.start)}, {amount(span.stop)}) by run {span.run} on {span.world_size} ranks")
    for span in found.abandoned:
        line(f"  [dim]abandoned: run {span.run} handed out at most [{amount(span.start)}, {amount(span.stop)}) after its last checkpoint here; no model saw it[/]")
    if found.job is not None:
        steps = ", ".join(next(iter(step)) for step in found.job["steps"])
        line(f"built by job {str(found.job_digest)[:12]}: {escape(steps)}")
    if found.code:
        line(f"  with {escape(', '.join(f'{name} {version}' for name, version in sorted(found.code.items())))}")
    line(f"from {amount(len(found.raw_files))} raw files")
    for file in found.raw_files[:_FILES_SHOWN]:
        line(f"  {file.digest[:12]} {escape(file.name)} ({amount(file.records)} records)")
    if len(found.raw_files) > _FILES_SHOWN:
        line(f"  and {amount(len(found.raw_files) - _FILES_SHOWN)} more; --json lists all")
