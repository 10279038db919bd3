"""What a merge would bring, made without writing anything."""

from __future__ import annotations

from collections.abc import Sequence

from pyfactory.core.digest import Buffer, Digest, digest_of
from pyfactory.errors import ConflictError
from pyfactory.repo.gates.base import Proposal, Verdict
from pyfactory.repo.gates.open import make_gate
from pyfactory.repo.gates.run import judge
from pyfactory.repo.gates.sketch import Sketches
from pyfactory.repo.history import merge_base
from pyfactory.repo.home import Home
from pyfactory.repo.merge import merge_trees
from pyfactory.repo.names import BRANCH, check_ref_name
from pyfactory.repo.objects import Tree, load_commit, load_tree
from pyfactory.repo.resolve import resolve
from pyfactory.repo.rules import GateRule, branch_rule
from pyfactory.store.content import Objects

__all__ = ["judge_merge", "unsuited"]


def judge_merge(home: Home, source: str, into: str) -> list[Verdict]:
    """Return what the gates of a branch would say of merging another state into it. Writes nothing, not even sketches.

    Args:
        home: The repository.
        source: Branch, tag or commit digest that would be merged.
        into: The branch, whose rule decides; `main` may have no commit yet.

    Raises:
        ConflictError: The two cannot be merged without choices.
        NotFoundError: There is no such source or branch.
    """
    check_ref_name(into, "branch")
    view = home.view()
    theirs = resolve(home.oplog, home.objects, view, source, strict=False).commit
    head = view.refs.get(BRANCH + into)
    if head is None and into != "main":
        head = resolve(home.oplog, home.objects, view, BRANCH + into, strict=False).commit  # which says what there is
    rules = branch_rule(home, view, into).gates
    objects = _Unwritten(home.objects)
    before, after = _merged(objects, head, theirs, f"{home.url}: {source} and {into}")
    return judge(objects, rules, before, after, keep=False)


def unsuited(home: Home, branch: str, rules: Sequence[GateRule]) -> list[tuple[str, str, str]]:
    """Return why gates cannot judge tables of a branch that they name, such as one of tokens without any text.

    Args:
        home: The repository.
        branch: The branch; without it, or without the table, nothing is known yet.
        rules: The gates.

    Returns:
        Gate, table, and what the table lacks: "has no text column 'text'".
    """
    head = home.view().refs.get(BRANCH + branch)
    tables = {} if head is None else _tree(home.objects, head).tables
    sketches = Sketches(home.objects, keep=False)
    found = []
    for rule in rules:
        if (state := tables.get(rule.table)) is not None:
            proposal = Proposal(home.objects, rule.table, state, state, (), (), tables, sketches)
            found.append((rule.gate, rule.table, make_gate(rule).obstacle(proposal)))
    return [each for each in found if each[-1]]


def _merged(objects: Objects, head: Digest | None, theirs: Digest, what: str) -> tuple[Tree | None, Tree]:
    source = _tree(objects, theirs)
    if head is None:
        return None, source
    base = merge_base(objects, head, theirs)
    ours = _tree(objects, head)
    merged = merge_trees(objects, None if base is None else _tree(objects, base), ours, source, {})
    if merged.conflicts:
        number = len(merged.conflicts)
        raise ConflictError(
            f"{what} changed the same {number} thing{'' if number == 1 else 's'} in different ways",
            hint="pyfactory merge lists them; merge the target into the source first, then judge that",
        )
    return ours, merged.tree


def _tree(objects: Objects, commit: Digest) -> Tree:
    return load_tree(objects, load_commit(objects, commit, commit).tree, f"commit {commit}")


class _Unwritten(Objects):
    """Objects whose new ones stay in memory: a merge makes a few nodes of manifests."""

    def __init__(self, stored: Objects) -> None:
        super().__init__(stored.store)
        self.redact(stored.redirect, stored.masks)
        self._unwritten: dict[Digest, bytes] = {}

    def put(self, content: Buffer) -> Digest:
        """Keep bytes in memory and return their digest."""
        digest = digest_of(content)
        self._unwritten[digest] = bytes(content)
        return digest

    def get(self, digest: Digest) -> bytes:
        """Return the bytes of an object."""
        return self._unwritten[digest] if digest in self._unwritten else super().get(digest)

    def map(self, digest: Digest, *, verify: bool = False) -> memoryview:
        """Return the bytes of an object as a read-only view."""
        if digest in self._unwritten:
            return memoryview(self._unwritten[digest])
        return super().map(digest, verify=verify)

    def exists(self, digest: Digest) -> bool:
        """Tell whether an object is there."""
        return digest in self._unwritten or super().exists(digest)
