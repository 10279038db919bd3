"""Merge and revert: a branch takes what another state of the tables has and it has not.

Both are three-way merges over the trees. Revert is the one that leads from a commit back to its parent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from pyfactory.core.digest import Digest
from pyfactory.errors import ConflictError, InvalidInputError, MergeConflictError, NotFoundError
from pyfactory.repo.history import is_ancestor, merge_base
from pyfactory.repo.home import Home
from pyfactory.repo.merge import Merged, merge_trees
from pyfactory.repo.names import BRANCH, suggestion
from pyfactory.repo.objects import Tree, load_commit, load_tree
from pyfactory.repo.operation import View
from pyfactory.repo.publishing import Proposed, propose
from pyfactory.repo.resolve import Resolved, resolve

if TYPE_CHECKING:
    from pyfactory.repo.signing import Signer

__all__ = ["MergeResult", "head_of", "merge", "revert"]

_TRIES = 20
_EMPTY = Tree({})


@dataclass(frozen=True, slots=True)
class MergeResult:
    """What a merge did.

    Attributes:
        digest: The commit that the branch now names.
        created: False when there was nothing to merge.
        base: The commit from which both sides came; None if they share none.
        source: The commit that was merged.
        decided: The choices that decided conflicts, by `table` or `table:key`.
    """

    digest: Digest
    created: bool
    base: Digest | None
    source: Digest
    decided: Mapping[str, str]


def merge(
    home: Home,
    source: str,
    into: str,
    *,
    choices: Mapping[str, str] = MappingProxyType({}),
    message: str = "",
    author: str = "unknown",
    signer: Signer | None = None,
) -> MergeResult:
    """Merge a branch, tag or commit into a branch, as one commit with two parents.

    Time and requests grow with what the two sides changed since they parted, not with what is there.

    Args:
        home: The repository.
        source: What is merged; it stays as it is.
        into: The branch that takes it.
        choices: "ours" (the branch) or "theirs" (the source) for conflicts, by `table`, `table:key` or `*`.
        message: Why.
        author: Who.
        signer: Signs the commit.

    Raises:
        MergeConflictError: Both sides changed the same thing in different ways; all conflicts are listed.
        RefusedError: A gate failed, or another rule of the branch forbids it; the refusal is in the log.
        ConflictError: The branch keeps moving.
    """
    for _ in range(_TRIES):
        view = home.view()
        head = _known_head(home, view, into)
        other = resolve(home.oplog, home.objects, view, source, strict=False)
        if is_ancestor(home.objects, other.commit, head):
            return MergeResult(head, False, other.commit, other.commit, {})
        base = merge_base(home.objects, head, other.commit)
        merged = _merged(home, into, (base, head, other.commit), choices)
        proposal = Proposed(
            branch=into,
            head=head,
            before=_tree(home, head).tables,
            tables=merged.tree.tables,
            since=max(load_commit(home.objects, each, home.url).time for each in (head, other.commit)),
            others=(other.commit,),
            message=message or f"merge {source} into {into}",
            author=author,
            made_by=_made_by(other, base, merged),
            verb="merge",
        )
        try:
            done = propose(home, view, proposal, signer)
        except ConflictError:
            if home.view().refs.get(BRANCH + into) == head:
                raise
        else:
            return MergeResult(done.digest, True, base, other.commit, merged.used)
    raise ConflictError(f"{home.url}: {into} moves faster than {source} can be merged", hint="run it again")


def revert(
    home: Home, commit: str, branch: str, *, message: str = "", author: str = "unknown", signer: Signer | None = None
) -> Digest:
    """Take back what one commit changed, keeping everything since, and return the new commit.

    Of a merge, what it brought to its first parent is taken back. If nothing is left of it, nothing is written.

    Raises:
        MergeConflictError: Later commits changed the same things.
        InvalidInputError: The branch does not contain the commit.
        RefusedError: See `merge`.
    """
    for _ in range(_TRIES):
        view = home.view()
        head = _known_head(home, view, branch)
        bad = resolve(home.oplog, home.objects, view, commit, strict=False).commit
        if not is_ancestor(home.objects, bad, head):
            hint = f"pyfactory log REPO {branch}"
            raise InvalidInputError(f"{home.url}: {branch} does not contain {commit}", hint=hint)
        parents = load_commit(home.objects, bad, commit).parents
        merged = _merged(home, branch, (bad, head, parents[0] if parents else None), {}, reverting=True)
        before = _tree(home, head).tables
        if merged.tree.tables == before:
            return head  # it was taken back already
        proposal = Proposed(
            branch=branch,
            head=head,
            before=before,
            tables=merged.tree.tables,
            message=message or f"revert {bad[:12]}",
            author=author,
            since=load_commit(home.objects, head, branch).time,
            made_by={"kind": "revert", "commit": bad, "parent": parents[0] if parents else None},
            verb="revert",
        )
        try:
            return propose(home, view, proposal, signer).digest
        except ConflictError:
            if home.view().refs.get(BRANCH + branch) == head:
                raise
    raise ConflictError(f"{home.url}: {branch} moves faster than {commit} can be taken back", hint="run it again")


def head_of(home: Home, view: View, branch: str) -> Digest | None:
    """Return the commit that a branch names, None for `main` before its first; NotFoundError if there is none."""
    head = view.refs.get(BRANCH + branch)
    if head is None and branch != "main":
        names = [ref.removeprefix(BRANCH) for ref in view.refs if ref.startswith(BRANCH)]
        raise NotFoundError(
            f"{home.url}: there is no branch {branch}",
            hint=suggestion(branch, names, otherwise="only main is made by its first commit"),
        )
    return head


def _known_head(home: Home, view: View, branch: str) -> Digest:
    head = head_of(home, view, branch)
    if head is None:
        raise NotFoundError(f"{home.url}: {branch} has no commit yet", hint="import a table first")
    return head


def _merged(
    home: Home,
    branch: str,
    commits: tuple[Digest | None, Digest, Digest | None],
    choices: Mapping[str, str],
    *,
    reverting: bool = False,
) -> Merged:
    """Merge the trees of (base, ours, theirs), or raise with all conflicts."""
    base, ours, theirs = (None if commit is None else _tree(home, commit) for commit in commits)
    merged = merge_trees(
        home.objects,
        base,
        ours or _EMPTY,
        theirs or _EMPTY,
        choices,
        ours_commit=str(commits[1]),
        theirs_commit=str(commits[2] or "nothing"),
    )
    if merged.conflicts:
        first, more = merged.conflicts[0], len(merged.conflicts) - 1
        where = first.table + (f" {first.key}" if first.key else "")
        also = f", and {more} more" if more else ""
        what = f"{branch} and what is merged into it disagree about {where} ({first.reason}{also}): "
        what += f"commits {first.ours_commit[:12]} and {first.theirs_commit[:12]}"
        hint = "decide with --ours TABLE or --theirs TABLE; for one shard TABLE:KEY"
        if reverting:
            what = f"{str(commits[0])[:12]} cannot be taken back: {where} was changed since then, or taken back already"
            hint = "revert the later commits first, or roll the branch back"
        raise MergeConflictError(f"{home.url}: {what}", hint=hint, conflicts=merged.conflicts)
    return merged


def _tree(home: Home, commit: Digest) -> Tree:
    return load_tree(home.objects, load_commit(home.objects, commit, home.url).tree, f"commit {commit}")


def _made_by(source: Resolved, base: Digest | None, merged: Merged) -> dict[str, Any]:
    return {
        "kind": "merge",
        "asked": source.asked,
        "resolved": source.ref,
        "commit": source.commit,
        "base": base,
        "choices": dict(merged.used),
    }
