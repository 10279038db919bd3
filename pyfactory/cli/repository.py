"""Commands about versions: init, log, show, branch, tag, verify."""

from __future__ import annotations

import getpass
import os
from typing import Annotated, Any

import typer
from rich.markup import escape

from pyfactory.cli.output import amount, emit, line, progress, size

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


def log(repo: Repo, ref: Ref = "main", limit: int = typer.Option(50, "-n", help="Show at most so many."), as_json: Json = False) -> None:
    """Show a commit and those before it."""
    from itertools import islice

    from pyfactory.repo.repository import Repository

    opened = Repository.open(repo)
    names = _names(opened)
    commits = [{"digest": commit.digest, **commit.to_value()} for commit in islice(opened.log(ref), limit)]
    if emit(commits, as_json=as_json):
        return
    for commit in commits:
        marks = f" [green]({', '.join(names[commit['digest']])})[/]" if commit["digest"] in names else ""
        line(f"[yellow]{commit['digest'][:12]}[/]{marks} {commit['time']} {escape(commit['author'])}")
        line(f"    {escape(commit['message'])}")


def show(repo: Repo, ref: Ref = "main", as_json: Json = False) -> None:
    """Show a commit and the tables at it."""
    from pyfactory.repo.repository import Repository

    opened = Repository.open(repo)
    resolved = opened.resolve(ref)
    commit = opened.load(resolved.commit)
    tables = {name: {"version": state.digest, **state.to_value()} for name, state in opened.tables(resolved.commit).items()}
    if emit({"commit": resolved.commit, "ref": resolved.ref, **commit.to_value(), "tables": tables}, as_json=as_json):
        return
    line(f"[yellow]commit {resolved.commit}[/] ({escape(resolved.ref)})")
    line(f"tree   {commit.tree}")
    line(f"author {escape(commit.author)}, {commit.time}")
    line(f"\n    {escape(commit.message)}\n")
    for name, table in tables.items():
        columns = ", ".join(f"{column} {kind}" for column, kind, _ in table["schema"])
        tokens = f", {amount(table['tokens'])} tokens" if table["tokens"] else ""
        line(f"[bold]{name}[/] {table['version'][:12]}  {amount(table['rows'])} rows{tokens}, {table['shards']} shards, {size(table['bytes'])}")
        line(f"    {escape(columns)}")
    _show_maker(commit.made_by)


def branch(
    repo: Repo,
    name: Annotated[str | None, typer.Argument(help="The new branch; without it, all branches are listed.")] = None,
    at: Annotated[str, typer.Argument(help="Where it begins.")] = "main",
    as_json: Json = False,
) -> None:
    """Make a branch, or list them."""
    from pyfactory.repo.repository import Repository

    opened = Repository.open(repo)
    if name is not None:
        opened.branch(name, at, author=author())
    _show_refs(opened.branches(), name, as_json)


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
    if name is not None:
        opened.tag(name, at, message, author=author())
    _show_refs(opened.tags(), name, as_json)


def verify(repo: Repo, as_json: Json = False) -> None:
    """Read every object and check its bytes against its digest."""
    from pyfactory.repo.repository import Repository

    with progress(as_json=as_json) as shown:
        report = Repository.open(repo).verify(shown)
    problems = [
        {"kind": p.kind, "object": p.object, "tables": list(p.tables), "where": p.where, "message": p.message}
        for p in report.problems
    ]
    if not emit({"objects": report.objects, "bytes": report.nbytes, "problems": problems}, as_json=as_json):
        for problem in report.problems:
            line(f"[bold red]{problem.kind}[/] {escape(problem.message)}")
        verdict = f"[bold red]{len(problems)} problems[/]" if problems else "[green]all is well[/]"
        line(f"{amount(report.objects)} objects, {size(report.nbytes)} read: {verdict}")
    if problems:
        raise typer.Exit(1)


def _names(opened: Any) -> dict[str, list[str]]:
    names: dict[str, list[str]] = {}
    for kind, refs in (("", opened.branches()), ("tag ", opened.tags())):
        for name, commit in refs.items():
            names.setdefault(commit, []).append(f"{kind}{name}")
    return names


def _show_refs(refs: dict[str, str], only: str | None, as_json: bool) -> None:
    shown = refs if only is None else {only: refs[only]}
    if not emit(shown, as_json=as_json):
        for name, commit in shown.items():
            line(f"[green]{name}[/] [yellow]{commit[:12]}[/]")


def _show_maker(made_by: Any) -> None:
    if made_by is None:
        return
    line()
    if made_by["kind"] == "import":
        line(f"imported into {made_by['table']}: {amount(made_by['records'])} records, {amount(made_by['skipped'])} skipped")
        return
    inputs = ", ".join(f"{used['table']}@{used['resolved']} ({used['version'][:12]})" for used in made_by["inputs"])
    line(f"built by job {made_by['job'][:12]} from {escape(inputs)}")
    for step in made_by["steps"]:
        dropped = ", ".join(f"{amount(count)} {reason}" for reason, count in step["dropped"].items())
        line(f"    {step['step']}: {amount(step['rows_in'])} -> {amount(step['rows_out'])} rows{f' (dropped: {escape(dropped)})' if dropped else ''}")
