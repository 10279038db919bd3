"""Commands about versions: log, show, diff, branch, tag, merge, rollback, revert, undo, ops."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from pyfactory.cli.committing import Message, told
from pyfactory.cli.keys import Key, signer_of
from pyfactory.cli.output import emit, line, note
from pyfactory.cli.repository import Json, Repo, author

if TYPE_CHECKING:
    from pyfactory.repo.repository import Repository

__all__ = ["register"]

Ref = Annotated[str, typer.Argument(help="Branch, tag or commit digest.")]
Limit = Annotated[int, typer.Option("-n", "--limit", min=1, help="Show at most so many.")]
Choices = Annotated[list[str] | None, typer.Option(metavar="TABLE[:KEY]", help="Decide conflicts; `*` for all.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (log, show, diff, branch, tag, merge, rollback, revert, undo, ops):
        app.command()(command)


def log(repo: Repo, ref: Ref = "main", limit: Limit = 50, as_json: Json = False) -> None:
    """Show a commit and those before it."""
    from pyfactory.cli.version_view import show_log

    opened = _opened(repo)
    commits = list(islice(opened.log(ref), limit))
    if not emit([{"digest": commit.digest, **commit.to_value()} for commit in commits], as_json=as_json):
        show_log(commits, _names(opened))


def show(repo: Repo, ref: Ref = "main", as_json: Json = False) -> None:
    """Show a commit and the tables at it."""
    from pyfactory.cli.version_view import show_commit

    opened = _opened(repo)
    resolved = opened.resolve(ref)
    commit = opened.load(resolved.commit)
    states = opened.tables(resolved.commit)
    tables = {name: {"version": state.digest, **state.to_value()} for name, state in states.items()}
    value = {"commit": resolved.commit, "ref": resolved.ref, **commit.to_value(), "tables": tables}
    if not emit(value, as_json=as_json):
        show_commit(commit, resolved, states)


def diff(
    repo: Repo,
    a: Annotated[str, typer.Argument(help="Branch, tag or commit: before.")],
    b: Annotated[str, typer.Argument(help="Branch, tag or commit: after.")] = "main",
    records: Annotated[bool, typer.Option("--records", help="List the ids of records that came and went.")] = False,
    as_json: Json = False,
) -> None:
    """Show what is different at B: tables, shards, rows, tokens, columns."""
    from dataclasses import asdict

    from pyfactory.cli.version_view import show_diff

    opened = _opened(repo)
    found = opened.diff(a, b)
    value = asdict(found)
    changed = opened.diff_records(a, b) if records else iter(())
    if as_json:
        listed = {"records": [dict(zip(("change", "table", "id"), each, strict=True)) for each in changed]}
        emit(value | (listed if records else {}), as_json=True)
        return
    show_diff(found)
    for change, table, record in changed:
        line(f"{'[green]+[/]' if change == 'added' else '[red]-[/]'} {escape(table)} {escape(record)}")


def branch(
    repo: Repo,
    name: Annotated[str | None, typer.Argument(help="The new branch; without it, all branches are listed.")] = None,
    at: Annotated[str, typer.Argument(help="Where it begins.")] = "main",
    delete: Annotated[bool, typer.Option("-d", "--delete", help="Delete it instead; its commits stay.")] = False,
    as_json: Json = False,
) -> None:
    """Make a branch, delete one, or list them."""
    opened = _opened(repo)
    if delete and name is None:
        raise typer.BadParameter("name the branch to delete")
    if name is None:
        _show_refs(opened.branches(), "branch", as_json)
    elif delete:
        was = opened.delete_branch(name, author=author())
        if not emit({"deleted": name, "was": was}, as_json=as_json):
            line(f"deleted [green]{escape(name)}[/], which named [yellow]{was[:12]}[/]; undo brings it back")
    else:
        _show_refs({name: opened.branch(name, at, author=author())}, "branch", as_json)


def tag(
    repo: Repo,
    name: Annotated[str | None, typer.Argument(help="The new tag; without it, all tags are listed.")] = None,
    at: Annotated[str, typer.Argument(help="What it names, for ever.")] = "main",
    message: Message = "",
    key: Key = None,
    as_json: Json = False,
) -> None:
    """Give a commit a name that never moves, or list the tags."""
    opened = _opened(repo)
    made = None if name is None else {name: opened.tag(name, at, message, author=author(), signer=signer_of(key))}
    _show_refs(opened.tags() if made is None else made, "tag", as_json)


def merge(
    repo: Repo,
    source: Annotated[str, typer.Argument(help="Branch, tag or commit to merge.")],
    into: Annotated[str, typer.Argument(help="Branch that takes it.")] = "main",
    ours: Choices = None,
    theirs: Choices = None,
    message: Message = "",
    key: Key = None,
    as_json: Json = False,
) -> None:
    """Merge SOURCE into a branch; --ours keeps what the branch has, --theirs takes what SOURCE has."""
    from dataclasses import asdict

    from pyfactory.cli.version_view import show_conflicts
    from pyfactory.errors import MergeConflictError

    choices = {what: "ours" for what in ours or ()} | {what: "theirs" for what in theirs or ()}
    if both := sorted(set(ours or ()) & set(theirs or ())):
        raise typer.BadParameter(f"{both[0]} cannot be both --ours and --theirs")
    who: dict[str, Any] = {"message": message, "author": author(), "signer": signer_of(key)}
    try:
        done = _opened(repo).merge(source, into, choices=choices, **who)
    except MergeConflictError as error:
        if not as_json:
            show_conflicts(error.conflicts)
        raise
    if emit(asdict(done), as_json=as_json):
        return
    if done.created:
        line(f"merged {escape(source)} into [green]{escape(into)}[/]: commit [yellow]{done.digest[:12]}[/]")
    else:
        line(f"{escape(into)} contains {escape(source)} already")


def rollback(
    repo: Repo,
    to: Annotated[str, typer.Argument(help="An earlier commit or a tag of it.")],
    branch_: Annotated[str, typer.Option("--branch", help="The branch that goes back.")] = "main",
    message: Message = "",
    as_json: Json = False,
) -> None:
    """Let a branch name an earlier commit again, at once; undo leads back."""
    commit = _opened(repo).rollback(branch_, to, author=author(), message=message)
    _show_refs({branch_: commit}, "branch", as_json)


def revert(
    repo: Repo,
    commit: Annotated[str, typer.Argument(help="The commit whose changes are taken back.")],
    branch_: Annotated[str, typer.Option("--branch", help="The branch that takes the new commit.")] = "main",
    message: Message = "",
    key: Key = None,
    as_json: Json = False,
) -> None:
    """Take back what one commit changed, by a new commit that keeps everything since."""
    made = _opened(repo).revert(commit, **told(branch_, message, key))
    _show_refs({branch_: made}, "branch", as_json)


def undo(
    repo: Repo,
    number: Annotated[int, typer.Argument(help="Number of the operation: see ops.")],
    message: Message = "",
    as_json: Json = False,
) -> None:
    """Take back one operation on branches."""
    undone = _opened(repo).undo(number, author=author(), message=message)
    moved = [{"ref": change.ref, "now": change.old} for change in undone.changes]
    if not emit({"undone": undone.n, "refs": moved}, as_json=as_json):
        for change in undone.changes:
            now = "gone" if change.old is None else f"at [yellow]{change.old[:12]}[/]"
            line(f"undid operation {undone.n}: {escape(change.ref)} is {now}")


def ops(repo: Repo, limit: Limit = 50, as_json: Json = False) -> None:
    """Show the operation log, newest first: who moved what, when and why."""
    from dataclasses import asdict

    from pyfactory.cli.version_view import show_operations

    operations = list(islice(_opened(repo).operations(), limit))
    if not emit([asdict(operation) for operation in operations], as_json=as_json):
        show_operations(operations)


def _opened(repo: str) -> Repository:
    from pyfactory.repo.repository import Repository

    return Repository.open(repo)


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
