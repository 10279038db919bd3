"""Commands that keep a repository in order: gc, verify, stats, upgrade."""

from __future__ import annotations

import re
import secrets
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pyfactory.cli.output import emit, progress
from pyfactory.cli.repository import Json, Repo, author
from pyfactory.errors import InvalidInputError

if TYPE_CHECKING:
    from pyfactory.repo.repository import Repository

__all__ = ["register"]

_GRACE = re.compile(r"(\d{1,6})([dhm]?)", re.ASCII)
_UNITS = {"": "days", "d": "days", "h": "hours", "m": "minutes"}


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (gc, verify, stats, upgrade):
        app.command()(command)


def gc(
    repo: Repo,
    grace: Annotated[
        str, typer.Option(metavar="TIME", help="How long what nothing leads to stays: 14d, 36h, 0.")
    ] = "14d",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be freed.")] = False,
    as_json: Json = False,
) -> None:
    """Free the space of what no branch, tag, run or reader needs any more."""
    from pyfactory.cli.sweep_view import show_gc
    from pyfactory.repo.sweep import gc as sweep

    opened = _opened(repo)
    with progress(as_json=as_json) as shown:
        report = sweep(opened, who=author(), grace=_grace(grace), dry_run=dry_run, progress=shown)
    if not emit(asdict(report), as_json=as_json):
        show_gc(report)


def verify(
    repo: Repo,
    sample: Annotated[str, typer.Option(metavar="SHARE", help="Read only a part of the shards: 1% or 0.01.")] = "",
    seed: Annotated[int | None, typer.Option(help="Which part; without it, another one each time.")] = None,
    resume: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Keep in FILE what was read; cut off, it goes on there.")
    ] = None,
    signatures: Annotated[bool, typer.Option("--signatures", help="Check all signatures, too.")] = False,
    workers: Annotated[int | None, typer.Option(min=1, help="Shards read at a time; default all cores.")] = None,
    as_json: Json = False,
) -> None:
    """Read every object and check its bytes against its digest."""
    from pyfactory.cli.sweep_view import show_verification
    from pyfactory.repo.verify import Check, Sample
    from pyfactory.repo.verify import verify as scrub

    opened = _opened(repo)
    chosen = Sample.parse(sample, secrets.randbits(32) if seed is None else seed) if sample else None
    checks: list[Check] = []
    if signatures:
        from pyfactory.repo.verify_signatures import check_signatures

        checks.append(check_signatures)
    with progress(as_json=as_json) as shown:
        report = scrub(opened, shown, workers=workers, sample=chosen, resume=resume, checks=checks)
    value = asdict(report)
    value["bytes"] = value.pop("nbytes")
    value["seed"] = None if chosen is None else chosen.seed
    if not emit(value, as_json=as_json):
        show_verification(report, chosen)
    if report.problems:
        raise typer.Exit(1)


def stats(
    repo: Repo,
    ref: Annotated[str, typer.Argument(help="Branch, tag or commit whose tables are counted.")] = "main",
    as_json: Json = False,
) -> None:
    """Show how much of what a repository holds."""
    from pyfactory.cli.sweep_view import show_stats
    from pyfactory.repo.stats import stats as counted

    opened = _opened(repo)
    with progress(as_json=as_json) as shown:
        found = counted(opened, ref, progress=shown)
    tables = {
        name: {**asdict(table), "bytes": table.nbytes, "mean_shard": table.mean_shard}
        for name, table in found.tables.items()
    }
    if not emit({**asdict(found), "tables": tables}, as_json=as_json):
        show_stats(found, ref)


def upgrade(
    repo: Repo,
    undo: Annotated[bool, typer.Option("--undo", help="Take the last upgrade back, while nothing needs it.")] = False,
    as_json: Json = False,
) -> None:
    """Let a repository of an older pyfactory have what this one can do."""
    from pyfactory.cli.sweep_view import show_upgrade
    from pyfactory.repo.upgrade import undo_upgrade
    from pyfactory.repo.upgrade import upgrade as improve

    opened = _opened(repo)
    report = (undo_upgrade if undo else improve)(opened, author())
    value = {"added": report.added, "removed": report.removed, "features": report.after.to_value()}
    if not emit(value, as_json=as_json):
        show_upgrade(report)


def _opened(repo: str) -> Repository:
    from pyfactory.repo.repository import Repository

    return Repository.open(repo)


def _grace(text: str) -> timedelta:
    found = _GRACE.fullmatch(text)
    if found is None:
        raise InvalidInputError(f"{text!r} is not a time", hint="say 14d, 36h or 0")
    return timedelta(**{_UNITS[found[2]]: int(found[1])})
