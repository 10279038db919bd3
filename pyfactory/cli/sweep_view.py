"""Sweeps, verifications, statistics and upgrades, for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.markup import escape

from pyfactory.cli import version_view
from pyfactory.cli.output import amount, counted, line, note, size

if TYPE_CHECKING:
    from pyfactory.repo.findings import VerifyReport
    from pyfactory.repo.scrub import Sample
    from pyfactory.repo.stats import Stats
    from pyfactory.repo.sweep_report import GcReport
    from pyfactory.repo.upgrade import UpgradeReport

__all__ = ["show_gc", "show_stats", "show_upgrade", "show_verification"]


def show_gc(report: GcReport) -> None:
    """Print what a sweep did, or would do."""
    verb = "would free" if report.dry_run else "freed"
    line(f"{verb} [bold]{counted(report.freed, 'object')}, {size(report.freed_bytes)}[/] of {_of(report)}")
    for kind, (number, nbytes) in report.by_kind.items():
        line(f"    {kind}: {amount(number)}, {size(nbytes)}")
    if report.condemned:
        what = f"{counted(report.condemned, 'object')}, {size(report.condemned_bytes)}"
        line(f"nothing leads to {what} either: to be freed by a gc after {report.due}")
    if report.blocked:
        line(f"[yellow]kept:[/] {escape(report.blocked)}")
    for lease in report.held:
        what = "writes" if lease.commit is None else f"reads {lease.commit[:12]}"
        line(f"    {escape(lease.who)} {what}, until {lease.expires} at the latest")


def show_verification(report: VerifyReport, sample: Sample | None) -> None:
    """Print what a verification read, and all that it found wrong."""
    for advice in report.advice:
        note(f"advice: {advice.message}: its work will be done again")
    parts = [
        f"{counted(report.resumed, 'shard or side', 'shards and sides')} read before" if report.resumed else "",
        f"{amount(report.skipped)} not in the sample (--seed {sample.seed})" if sample is not None else "",
        f"{counted(report.redacted, 'shard or side', 'shards and sides')} gone as a redaction says"
        if report.redacted
        else "",
    ]
    if any(parts):
        line("; ".join(part for part in parts if part))
    version_view.show_verification(report)


def show_stats(stats: Stats, ref: str) -> None:
    """Print what a repository holds."""
    heads = [counted(stats.branches, "branch", "branches"), counted(stats.tags, "tag")]
    line(", ".join([*heads, counted(stats.commits, "commit"), counted(stats.operations, "operation")]))
    for kind, (number, nbytes) in stats.kinds.items():
        if number:
            line(f"    {kind:<13} {number:>12,}  {size(nbytes)}")
    for name, table in stats.tables.items():
        tokens = f", {counted(table.tokens, 'token')}" if table.tokens else ""
        mean = f"{counted(table.shards, 'shard')} of {size(table.mean_shard)} on average"
        line(f"[bold]{name}[/] at {escape(ref)}: {counted(table.rows, 'row')}{tokens}, {size(table.nbytes)}, {mean}")
    for branch, nbytes in stats.alone.items():
        line(f"branch [green]{escape(branch)}[/] alone: {size(nbytes)}")
    if len(stats.alone) > 1:
        line(f"several branches: {size(stats.shared)}")
    number, nbytes = stats.condemned
    if number:
        line(f"condemned by the last gc: {counted(number, 'object')}, {size(nbytes)}")
    if stats.sweeping:
        note("a gc is deleting, or was cut off: pyfactory gc finishes it")


def show_upgrade(report: UpgradeReport) -> None:
    """Print what changed."""
    for verb, names in (("added", report.added), ("removed", report.removed)):
        if names:
            line(f"{verb}: [bold]{escape(', '.join(names))}[/]")
    if not report.added and not report.removed:
        line("nothing to do: this repository has all that this pyfactory knows")


def _of(report: GcReport) -> str:
    return f"{counted(report.stored, 'object')}, {size(report.stored_bytes)}"
