"""Commits, tables and what a verification found, for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.markup import escape

from pyfactory.cli.graph import drawn
from pyfactory.cli.output import amount, counted, line, size
from pyfactory.cli.tables_view import show_steps

if TYPE_CHECKING:
    from pyfactory.repo.diff import Diff
    from pyfactory.repo.findings import Problem
    from pyfactory.repo.merge import Conflict
    from pyfactory.repo.objects import Commit, TableState
    from pyfactory.repo.operation import Operation
    from pyfactory.repo.resolve import Resolved
    from pyfactory.repo.verify import VerifyReport

__all__ = [
    "show_commit",
    "show_conflicts",
    "show_diff",
    "show_log",
    "show_operations",
    "show_verification",
]


def show_log(commits: Sequence[Commit], names: Mapping[str, Sequence[str]]) -> None:
    """Print commits, with the branches and tags at them; lines lead to their parents where histories meet."""
    straight = all(len(commit.parents) < 2 for commit in commits)
    for commit, first, rest, after in drawn(commits):
        star, bar = ("", "") if straight else (f"[cyan]{escape(first)}[/]", f"[cyan]{escape(rest)}[/]")
        marks = f" [green]({escape(', '.join(names[commit.digest]))})[/]" if commit.digest in names else ""
        line(f"{star}[yellow]{commit.digest[:12]}[/]{marks} {commit.time} {escape(commit.author)}")
        for text in _indented(commit.message).split("\n"):
            line(bar + text)
        for drawing in () if straight else after:
            line(f"[cyan]{escape(drawing)}[/]")


def show_diff(found: Diff) -> None:
    """Print what a diff found, table by table."""
    for table in found.tables:
        line(f"[bold]{escape(table.name)}[/] {table.kind}")
        for what in ("shards", "rows", "tokens", "bytes"):
            came, went = getattr(table, f"{what}_added"), getattr(table, f"{what}_removed")
            if came or went:
                show = size if what == "bytes" else amount
                line(f"    {what}: [green]+{show(came)}[/] [red]-{show(went)}[/]")
        if table.schema_before != table.schema_after:
            line(f"    columns: {escape(_columns(table.schema_before))} -> {escape(_columns(table.schema_after))}")
    if not found.tables:
        line("no table is different")


def show_conflicts(conflicts: Sequence[Conflict]) -> None:
    """Print what a merge cannot decide."""
    for conflict in conflicts:
        where = f"{conflict.table}:{conflict.key}" if conflict.key else conflict.table
        line(f"[bold red]conflict[/] {escape(where)}: {escape(conflict.reason)}")
        line(f"    ours   {_short(conflict.ours)} in commit {conflict.ours_commit[:12]}")
        line(f"    theirs {_short(conflict.theirs)} in commit {conflict.theirs_commit[:12]}")


def show_operations(operations: Sequence[Operation]) -> None:
    """Print operations: number, when, who, why, and the refs that moved."""
    for operation in operations:
        line(f"[yellow]{operation.n}[/] {operation.time} {escape(operation.who)}: {escape(operation.why)}")
        for change in operation.changes:
            line(f"    [green]{escape(change.ref)}[/] {_short(change.old)} -> {_short(change.new)}")


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
    for verdict in commit.gates:
        mark = "[green]passed[/]" if verdict["passed"] else "[bold red]failed[/]"
        line(f"gate {escape(verdict['gate'])} on {escape(verdict['table'])} {mark}: {escape(verdict['reason'])}")


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


def _short(digest: str | None) -> str:
    return "nothing" if digest is None else digest[:12]


def _columns(schema: Sequence[tuple[str, str, bool]] | None) -> str:
    return "none" if schema is None else ", ".join(f"{name} {kind}" for name, kind, _ in schema)


def _indented(message: str) -> str:
    return "\n".join(f"    {text}" if text else "" for text in escape(message).split("\n"))


def _show_maker(made_by: Mapping[str, Any]) -> None:
    match made_by["kind"]:
        case "import":
            records, skipped = counted(made_by["records"], "record"), counted(made_by["skipped"], "bad record")
            line(f"imported into {escape(made_by['table'])}: {records}; skipped {skipped}")
        case "merge":
            line(f"merged {escape(made_by['asked'])} ({made_by['commit'][:12]}), parted at {_short(made_by['base'])}")
        case "revert":
            line(f"took back commit {made_by['commit'][:12]}")
        case "commit":
            removed = "".join(f", removed {table}" for table in made_by["removed"])
            line(f"took {escape((_used(made_by['took']) or 'nothing') + removed)}")
        case "pack":
            how = f"{escape(made_by['packing'])} for {made_by['sequence_length']} tokens"
            line(f"packed {escape(made_by['table'])}: {how}")
        case "job":
            line(f"built by job {made_by['job'][:12]} from {escape(_used(made_by['inputs']))}")
            show_steps(made_by["steps"])
        case other:
            line(f"made by {escape(other)}")


def _used(tables: Sequence[Mapping[str, Any]]) -> str:
    return ", ".join(f"{used['table']}@{used['resolved']} ({used['version'][:12]})" for used in tables)
