"""Commands about the past and about this machine: trace, doctor, demo."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from pyfactory.cli.output import emit, line, progress
from pyfactory.cli.repository import Json

__all__ = ["register"]

_MARKS = {"ok": "[green]ok[/]  ", "absent": "[dim]none[/]", "wrong": "[bold red]bad[/] "}


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(trace)
    app.command()(doctor)
    app.command()(demo)


def trace(
    checkpoint: Annotated[Path, typer.Argument(help="A checkpoint that a run recorded, or its pyfactory.json.")],
    repo: Annotated[str | None, typer.Option("--repo", help="The repository, if it has moved since.")] = None,
    as_json: Json = False,
) -> None:
    """Tell which data trained a checkpoint."""
    from pyfactory.audit import trace as find
    from pyfactory.cli.trace_view import show_trace
    from pyfactory.repo.repository import Repository

    found = find(checkpoint, repository=None if repo is None else Repository.open(repo))
    if not emit(found.to_value(), as_json=as_json):
        show_trace(found)


def doctor(
    repo: Annotated[str | None, typer.Argument(metavar="[REPO]", help="A repository to look at as well.")] = None,
    as_json: Json = False,
) -> None:
    """Report versions, and the state of extension, GPU, Ray and store."""
    from dataclasses import asdict

    from pyfactory.cli.checks import examine

    checks = examine(repo)
    if not emit([asdict(check) for check in checks], as_json=as_json):
        for check in checks:
            line(f"{_MARKS[check.state]} {check.name:<10} {escape(check.detail)}")
    if any(check.state == "wrong" for check in checks):
        raise typer.Exit(1)


def demo(
    keep: Annotated[Path | None, typer.Option("--keep", metavar="DIR", help="Keep everything in this folder.")] = None,
    as_json: Json = False,
) -> None:
    """The whole line on this machine: import, build, train, kill, resume, compare, trace."""
    from pyfactory.cli.demo_view import show_result
    from pyfactory.demo.story import play

    def say(text: str) -> None:
        if not as_json:
            line(escape(text))

    with progress(as_json=as_json) as shown:
        result = play(keep, say=say, progress=shown)
    if not emit(result.to_value(), as_json=as_json):
        show_result(result)
    if not result.identical:
        raise typer.Exit(1)
