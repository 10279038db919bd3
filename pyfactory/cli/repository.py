"""Commands about versions: init, log, show, branch, tag, verify."""

from __future__ import annotations

import getpass
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from pyfactory.cli.output import emit, line, note, progress

if TYPE_CHECKING:
    from pyfactory.repo.repository import Repository

__all__ = ["Json", "Repo", "author", "register"]

Repo = Annotated[str, typer.Argument(metavar="REPO", help="Folder or URL of the repository.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Ref = Annotated[str, typer.Argument(help="Branch, tag or commit digest.")]


def author() -> str:
    """Return who is typing: PYFACTORY_AUTHOR, else the login name."""
    try:
        return os.environ.get("PYFACTORY_AUTHOR") or getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (init, log, show, branch, tag, verify):
        app.command()(command)


def init(repo: Repo, as_json: Json = False) -> None:
    """Make an empty repository."""
    from pyfactory.repo.repository import Repository

    made = Repository.create(repo, author=author())
    if not emit({"repository": made.url}, as_json=as_json):
        line(f"made an empty repository at [bold]{escape(made.url)}[/]")
        line(f"next: pyfactory import {escape(repo)} raw FILES…")


def log(
    repo: Repo,
    ref: Ref = "main",
    limit: Annotated[int, typer.Option("-n", "--limit", min=1, help="Show at most so many.")] = 50,
    as_json: Json = False,
) -> None:
    """Show a commit and those before it."""
    from itertools import islice

    from pyfactory.cli.version_view import show_log
    from pyfactory.repo.repository import Repository

    opened = Repository.open(repo)
    commits = list(islice(opened.log(ref), limit))
    if not emit([{"digest": commit.digest, **commit.to_value()} for commit in commits], as_json=as_json):
        show_log(commits, _names(opened))


def show(repo: Repo, ref: Ref = "main", as_json: Json = False) -> None:
    """Show a commit and the tables at it."""
    from pyfactory.cli.version_view import show_commit
    from pyfactory.repo.repository import Repository

    opened = Repository.open(repo)
    resolved = opened.resolve(ref)
    commit = opened.load(resolved.commit)
    states = opened.tables(resolved.commit)
    tables = {name: {"version": state.digest, **state.to_value()} for name, state in states.items()}
    value = {"commit": resolved.commit, "ref": resolved.ref, **commit.to_value(), "tables": tables}
    if not emit(value, as_json=as_json):
        show_commit(commit, resolved, states)


def branch(
    repo: Repo,
    name: Annotated[str | None, typer.Argument(help="The new branch; without it, all branches are listed.")] = None,
    at: Annotated[str, typer.Argument(help="Where it begins.")] = "main",
    as_json: Json = False,
) -> None:
    """Make a branch, or list them."""
    from pyfactory.repo.repository import Repository

    opened = Repository.open(repo)
    made = None if name is None else {name: opened.branch(name, at, author=author())}
    _show_refs(opened.branches() if made is None else made, "branch", as_json)


def tag(
    repo: Repo,
    name: Annotated[str | None, typer.Argument(help="The new tag; without it, all tags are listed.")] = None,
    at: Annotated[str, typer.Argument(help="What it names, for ever.")] = "main",
    message: Annotated[str, typer.Option("-m", "--message", help="Why.")] = "",
    as_json: Json = False,
) -> None:
    """Give a commit a name that never moves, or list the tags."""
    from pyfactory.repo.repository import Repository

    opened = Repository.open(repo)
    made = None if name is None else {name: opened.tag(name, at, message, author=author())}
    _show_refs(opened.tags() if made is None else made, "tag", as_json)


def verify(repo: Repo, as_json: Json = False) -> None:
    """Read every object and check its bytes against its digest."""
    from dataclasses import asdict

    from pyfactory.cli.version_view import show_verification
    from pyfactory.repo.repository import Repository

    with progress(as_json=as_json) as shown:
        report = Repository.open(repo).verify(shown)
    problems = [asdict(problem) for problem in report.problems]
    if not emit({"objects": report.objects, "bytes": report.nbytes, "problems": problems}, as_json=as_json):
        show_verification(report)
    if problems:
        raise typer.Exit(1)


def _names(opened: Repository) -> dict[str, list[str]]:
    """Return the branches and tags at each commit."""
    names: dict[str, list[str]] = {}
    for kind, refs in (("", opened.branches()), ("tag ", opened.tags())):
        for name, commit in refs.items():
            names.setdefault(commit, []).append(f"{kind}{name}")
    return names


def _show_refs(refs: Mapping[str, Any], kind: str, as_json: bool) -> None:
    if emit(dict(refs), as_json=as_json):
        return
    for name, commit in refs.items():
        line(f"[green]{escape(name)}[/] [yellow]{commit[:12]}[/]")
    if not refs:
        note(f"there is no {kind} yet")
