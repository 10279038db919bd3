"""Commands about repositories: init; and what all commands take."""

from __future__ import annotations

import getpass
import os
from typing import Annotated

import typer
from rich.markup import escape

from pyfactory.cli.output import emit, line

__all__ = ["Json", "Repo", "author", "register"]

Repo = Annotated[str, typer.Argument(metavar="REPO", help="Folder or URL of the repository.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def author() -> str:
    """Return who is typing: PYFACTORY_AUTHOR, else the login name."""
    try:
        return os.environ.get("PYFACTORY_AUTHOR") or getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(init)


def init(repo: Repo, as_json: Json = False) -> None:
    """Make an empty repository."""
    from pyfactory.repo.repository import Repository

    made = Repository.create(repo, author=author())
    if not emit({"repository": made.url}, as_json=as_json):
        line(f"made an empty repository at [bold]{escape(made.url)}[/]")
        line(f"next: pyfactory import {escape(repo)} raw FILES…")
