"""All verbs against a plain model: a table is a set of (generation, label), a commit a dict of tables, a ref a name."""

from __future__ import annotations

from collections.abc import Mapping

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from repo_tables import raw_part

from pyfactory.core.digest import Digest
from pyfactory.errors import ConflictError, MergeConflictError, NotFoundError
from pyfactory.repo.objects import TableState
from pyfactory.repo.repository import Repository
from pyfactory.shard.layout import raw_schema, schema_to_value
from pyfactory.shard.manifest import Entry, Manifest, new_batch, write_manifest
from pyfactory.store.content import Objects
from pyfactory.store.memory import MemoryStore

BRANCHES = st.sampled_from(["main", "dev", "exp"])
TABLES = st.sampled_from(["raw", "eval"])
LABELS = st.integers(0, 3)
SCHEMA = tuple((name, type_, nullable) for name, type_, nullable in schema_to_value(raw_schema()))

_MADE = MemoryStore()
PARTS = [raw_part(Objects(_MADE), [f"text {label}"]) for label in range(4)]

Table = frozenset[tuple[int, int]]
Tables = dict[str, Table]


def added(base: Table, side: Table, label: int) -> list[int]:
    """Return the generations at which a side added a label."""
    return sorted(generation for generation, each in side - base if each == label)


def settled(base: Table, ours: Table, theirs: Table) -> tuple[Table, Table]:
    """Let a label that both sides added stand at the earlier generation, the first with the first, and so on."""
    sides = [set(ours), set(theirs)]
    for label in range(4):
        for mine, other in zip(added(base, ours, label), added(base, theirs, label), strict=False):
            for side, generation in zip(sides, (mine, other), strict=True):
                side.discard((generation, label))
                side.add((min(mine, other), label))
    return frozenset(sides[0]), frozenset(sides[1])


def gone(base: Table, side: Table) -> Table:
    """Return what a side removed, without labels that it added again elsewhere."""
    kept = {label for _, label in side - base}
    return frozenset((generation, label) for generation, label in base - side if label not in kept)


def merged(base: Mapping[str, Table], ours: Mapping[str, Table], theirs: Mapping[str, Table]) -> Tables | None:
    """Return the three-way merge by the rules of the docs, None if there is a conflict."""
    result: Tables = {}
    for name in {*base, *ours, *theirs}:
        b, o, t = base.get(name), ours.get(name), theirs.get(name)
        if o == t or t == b:
            found = o
        elif o == b:
            found = t
        elif b is None or o is None or t is None:
            return None
        else:
            o, t = settled(b, o, t)
            if gone(b, o) & gone(b, t) and o != t:
                return None
            found = (o | (t - b)) - (b - t)
        if found is not None:
            result[name] = found
    return result


class VerbsAgainstModel(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.store = MemoryStore()
        for key, _ in _MADE.list(""):
            self.store.create(key, _MADE.get(key))
        self.repo = Repository.create(self.store)
        self.branches: dict[str, Digest] = {}
        self.commits: dict[Digest, Tables] = {}
        self.parents: dict[Digest, tuple[Digest, ...]] = {}
        self.times: dict[Digest, str] = {}
        self.moves: dict[int, tuple[str, Digest | None, Digest | None]] = {}

    # What the model knows of history.

    def ancestors(self, commit: Digest) -> set[Digest]:
        found, waiting = set(), [commit]
        while waiting:
            each = waiting.pop()
            if each not in found:
                found.add(each)
                waiting += self.parents[each]
        return found

    def base(self, a: Digest, b: Digest) -> Digest | None:
        common = self.ancestors(a) & self.ancestors(b)
        best = [each for each in common if not any(each in self.ancestors(other) - {other} for other in common)]
        latest = max((self.times[each] for each in best), default="")
        return min((each for each in best if self.times[each] == latest), default=None)

    def state(self, table: Table) -> TableState:
        entries = [
            Entry(generation, entry.batch, entry.ordinal, entry.part)
            for generation, label in table
            for entry in new_batch([PARTS[label]], generation)
        ]
        entries.sort(key=lambda entry: (entry.generation, entry.batch, entry.ordinal))
        manifest = Manifest(self.repo.objects, write_manifest(self.repo.objects, entries))
        counts = (manifest.rows, manifest.tokens, manifest.nbytes, manifest.shards)
        return TableState(manifest.root, SCHEMA, *counts, artifacts={}, attributes={})

    def moved(self, branch: str, commit: Digest | None) -> None:
        """Note a move that the newest operation made."""
        old = self.branches.get(branch)
        self.moves[self.repo.view().n] = (branch, old, commit)
        if commit is None:
            del self.branches[branch]
        else:
            self.branches[branch] = commit

    def made(self, branch: str, commit: Digest, tables: Tables, *others: Digest) -> None:
        head = self.branches.get(branch)
        self.commits[commit] = tables
        self.parents[commit] = (*(() if head is None else (head,)), *others)
        self.times[commit] = self.repo.load(commit).time
        assert self.repo.load(commit).parents == self.parents[commit]
        self.moved(branch, commit)

    # Verbs.

    def change(self, branch: str, name: str, table: Table | None) -> None:
        head = self.branches.get(branch)
        before = {} if head is None else self.commits[head]
        after = {**before, name: table} if table is not None else {k: v for k, v in before.items() if k != name}
        state = None if table is None else self.state(table)
        try:
            done = self.repo.commit({name: state}, branch, message="change")
        except NotFoundError:
            assert (head is None and branch != "main") or (table is None and name not in before)
            return
        assert done.created == (head is None or after != before)
        if done.created:
            self.made(branch, done.digest, {k: v for k, v in after.items() if v is not None})

    @rule(branch=BRANCHES, name=TABLES, label=LABELS)
    def append(self, branch: str, name: str, label: int) -> None:
        table = self.commits[self.branches[branch]].get(name) if branch in self.branches else None
        generation = max((generation for generation, _ in table or ()), default=0) + 1
        self.change(branch, name, (table or frozenset()) | {(generation, label)})

    @rule(branch=BRANCHES, name=TABLES, label=LABELS)
    def replace(self, branch: str, name: str, label: int) -> None:
        self.change(branch, name, frozenset({(1, label)}))

    @rule(branch=BRANCHES, name=TABLES)
    def drop(self, branch: str, name: str) -> None:
        self.change(branch, name, None)

    @rule(name=BRANCHES, at=BRANCHES)
    def branch(self, name: str, at: str) -> None:
        try:
            commit = self.repo.branch(name, at)
        except (ConflictError, NotFoundError):
            assert name in self.branches or at not in self.branches
            return
        assert commit == self.branches[at]
        self.moved(name, commit)

    @rule(source=BRANCHES, into=BRANCHES)
    def merge(self, source: str, into: str) -> None:
        if source not in self.branches or into not in self.branches:
            return
        ours, theirs = self.branches[into], self.branches[source]
        base = self.base(ours, theirs)
        expected = merged(self.commits[base] if base else {}, self.commits[ours], self.commits[theirs])
        try:
            done = self.repo.merge(source, into)
        except MergeConflictError as error:
            assert expected is None and theirs not in self.ancestors(ours)
            assert error.conflicts
            return
        assert done.created == (theirs not in self.ancestors(ours))
        if done.created:
            assert expected is not None
            assert done.base == base
            self.made(into, done.digest, expected, theirs)
        else:
            assert done.digest == ours

    @rule(source=BRANCHES, into=BRANCHES, side=st.sampled_from(["ours", "theirs"]))
    def merge_with_a_choice(self, source: str, into: str, side: str) -> None:
        """Of all conflicts one side wins; what is in no conflict is merged as ever."""
        if source not in self.branches or into not in self.branches:
            return
        ours, theirs = self.branches[into], self.branches[source]
        if theirs in self.ancestors(ours):
            return
        base = self.base(ours, theirs)
        b, o, t = self.commits[base] if base else {}, self.commits[ours], self.commits[theirs]
        names = {*b, *o, *t}
        conflicting = {
            name for name in names if merged(*({k: v for k, v in x.items() if k == name} for x in (b, o, t))) is None
        }
        if not conflicting:
            return
        done = self.repo.merge(source, into, choices=dict.fromkeys(conflicting, side))
        result = merged(*({k: v for k, v in x.items() if k not in conflicting} for x in (b, o, t))) or {}
        chosen = o if side == "ours" else t
        self.made(into, done.digest, result | {k: v for k, v in chosen.items() if k in conflicting}, theirs)

    @rule(branch=BRANCHES, back=st.integers(0, 3))
    def rollback(self, branch: str, back: int) -> None:
        if branch not in self.branches:
            return
        line = [commit.digest for commit in self.repo.log(branch)]
        commit = self.repo.rollback(branch, line[min(back, len(line) - 1)])
        if commit != self.branches[branch]:
            self.moved(branch, commit)

    @rule(branch=BRANCHES, back=st.integers(0, 3))
    def revert(self, branch: str, back: int) -> None:
        if branch not in self.branches:
            return
        line = [commit.digest for commit in self.repo.log(branch)]
        bad = line[min(back, len(line) - 1)]
        before = self.commits[self.parents[bad][0]] if self.parents[bad] else {}
        head = self.branches[branch]
        expected = merged(self.commits[bad], self.commits[head], before)
        try:
            commit = self.repo.revert(bad, branch)
        except MergeConflictError:
            assert expected is None
            return
        assert expected is not None
        if expected == self.commits[head]:
            assert commit == head, "nothing was left of it"
        else:
            self.made(branch, commit, expected)

    @rule(back=st.integers(0, 5))
    def undo(self, back: int) -> None:
        number = self.repo.view().n - back
        if number not in self.moves:
            return
        branch, old, new = self.moves[number]
        try:
            self.repo.undo(number)
        except ConflictError:
            assert self.branches.get(branch) != new
            return
        assert self.branches.get(branch) == new
        self.moved(branch, old)

    @rule(branch=BRANCHES)
    def delete(self, branch: str) -> None:
        try:
            was = self.repo.delete_branch(branch)
        except NotFoundError:
            assert branch not in self.branches
            return
        assert was == self.branches[branch]
        self.moved(branch, None)

    @rule(a=BRANCHES, b=BRANCHES)
    def diff(self, a: str, b: str) -> None:
        if a not in self.branches or b not in self.branches:
            return
        before, after = self.commits[self.branches[a]], self.commits[self.branches[b]]
        found = {table.name: table for table in self.repo.diff(a, b).tables}
        assert found.keys() == {name for name in {*before, *after} if before.get(name) != after.get(name)}
        for name, table in found.items():
            old, new = before.get(name, frozenset()), after.get(name, frozenset())
            assert (table.shards_added, table.shards_removed) == (len(new - old), len(old - new))
            assert table.kind == ("added" if name not in before else "changed" if name in after else "removed")

    @invariant()
    def everything_is_as_the_model_says(self) -> None:
        assert self.repo.branches() == self.branches
        for name, commit in self.branches.items():
            states = self.repo.tables(name)
            assert states == {table: self.state(parts) for table, parts in self.commits[commit].items()}

    def teardown(self) -> None:
        assert Repository.open(self.store).verify().problems == []


VerbsAgainstModel.TestCase.settings = settings(
    max_examples=40, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)
TestVerbs = VerbsAgainstModel.TestCase
TestVerbs.__doc__ = "Catches a merge that doubles appends, an undo that forgets, a diff that counts wrong."
