"""Commits, tables and what a verification found, for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.markup import escape

from pyfactory.cli.output import counted, line, size
from pyfactory.cli.tables_view import show_steps

if TYPE_CHECKING:
    from pyfactory.repo.findings import Problem
    from pyfactory.repo.objects import Commit, TableState
    from pyfactory.repo.resolve import Resolved
    from pyfactory.repo.verify import VerifyReport

__all__ = ["show_commit", "show_log", "show_verification"]


def show_log(commits: Sequence[Commit], names: Mapping[str, Sequence[str]]) -> None:
    """Print commits, with the branches and tags at them."""
    for commit in commits:
        marks = f" [green]({escape(', '.join(names[commit.digest]))})[/]" if commit.digest in names else ""
        line(f"[yellow]{commit.digest[:12]}[/]{marks} {commit.time} {escape(commit.author)}")
        line(_indented(commit.message))


def show_commit(commit: Commit, resolved: Resolved, tables: Mapping[str, TableState]) -> None:
    """Print a commit, its tables and what made them."""
    line(f"[yellow]commit {resolved.commit}[/] ({escape(resolved.ref)})")
    line(f"tree   {commit.tree}")
    line(f"author {escape(commit.author)}, {commit.time}")
    line(f"\n{_indented(commit.message)}\n")
    for name, state in tables.items():
        tokens = f", {counted(state.tokens, 'token')}" if state.tokens else ""
        holds = f"{counted(state.rows, 'row')}{tokens}, {counted(state.shards, 'shard')}, {size(state.nbytes)}"
        line(f"[bold]{name}[/] {state.digest[:12]}  {holds}")
        line(f"    {escape(', '.join(f'{column} {kind}' for column, kind, _ in state.schema))}")
    if commit.made_by is not None:
        line()
        _show_maker(commit.made_by)


def show_verification(report: VerifyReport) -> None:
    """Print what a verification read, and all that it found wrong."""
    for problem in report.problems:
        line(f"[bold red]{problem.kind}[/]{_tables(problem)}: {escape(problem.message)}")
    found = counted(len(report.problems), "problem")
    verdict = f"[bold red]{found}[/]" if report.problems else "[green]all is well[/]"
    line(f"{counted(report.objects, 'object')}, {size(report.nbytes)} read: {verdict}")


def _tables(problem: Problem) -> str:
    if not problem.tables:
        return ""
    return f" ({'table' if len(problem.tables) == 1 else 'tables'} {', '.join(problem.tables)})"


def _indented(message: str) -> str:
    return "\n".join(f"    {text}" if text else "" for text in escape(message).split("\n"))


def _show_maker(made_by: Mapping[str, Any]) -> None:
    if made_by["kind"] == "import":
        records, skipped = counted(made_by["records"], "record"), counted(made_by["skipped"], "bad record")
        line(f"imported into {made_by['table']}: {records}; skipped {skipped}")
        return
    inputs = ", ".join(f"{used['table']}@{used['resolved']} ({used['version'][:12]})" for used in made_by["inputs"])
    line(f"built by job {made_by['job'][:12]} from {escape(inputs)}")
    show_steps(made_by["steps"])
