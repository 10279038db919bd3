"""A repository against a plain dict: whatever the order of commits, branches, tags and faults, both say the same."""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from repo_tables import Treacherous, raw_state

from pyfactory.core.digest import Digest
from pyfactory.errors import ConflictError, InvalidInputError, NotFoundError, UnavailableError
from pyfactory.repo.objects import TableState
from pyfactory.repo.oplog import HINT
from pyfactory.repo.repository import Repository
from pyfactory.store.content import Objects
from pyfactory.store.memory import MemoryStore

BRANCHES = st.sampled_from(["main", "dev", "a/b"])
TAGS = st.sampled_from(["v1", "v2", "dev"])
TABLES = st.sampled_from(["corpus", "tokens", "eval"])
LABELS = st.integers(0, 3)

# Made once: states are values, and making them is what would take the time.
_MADE = MemoryStore()
STATES = [raw_state(Objects(_MADE), str(label)) for label in range(4)]

Tables = dict[str, TableState]


class RepositoryAgainstDict(RuleBasedStateMachine):
    """The model keeps, for each commit, its tables and parent, and what each ref names; two objects share the store."""

    def __init__(self) -> None:
        super().__init__()
        self.store = Treacherous()
        for key, _ in _MADE.list(""):
            self.store.create(key, _MADE.get(key))
        self.repositories = [Repository.create(self.store), Repository.open(self.store)]
        self.refs: dict[str, Digest] = {}
        self.tables: dict[Digest, Tables] = {}
        self.parent: dict[Digest, Digest | None] = {}

    def known(self, name: str) -> Digest | None:
        """Return what a name stands for in the model; None: unknown or ambiguous."""
        found = [self.refs[kind + name] for kind in ("branch/", "tag/", "") if kind + name in self.refs]
        return found[0] if len(found) == 1 else None

    @rule(who=st.integers(0, 1), branch=BRANCHES, changes=st.dictionaries(TABLES, LABELS | st.none(), max_size=2))
    def commit(self, who: int, branch: str, changes: dict[str, int | None]) -> None:
        states = {name: None if label is None else STATES[label] for name, label in changes.items()}
        head = self.refs.get(f"branch/{branch}")
        before = self.tables[head] if head else {}
        try:
            result = self.repositories[who].commit(states, branch, message=f"{branch} {sorted(changes)}")
        except NotFoundError:
            gone = {name for name, state in states.items() if state is None} - before.keys()
            assert gone or (head is None and branch != "main")
            return
        except InvalidInputError:
            assert head is None and not changes
            return
        after = {name: state for name, state in {**before, **states}.items() if state is not None}
        assert result.created == (head is None or after != before)
        assert result.created or result.digest == head
        if result.created:
            self.refs[f"branch/{branch}"] = result.digest
            self.tables[result.digest] = after
            self.parent[result.digest] = head

    @rule(who=st.integers(0, 1), name=BRANCHES, at=BRANCHES | TAGS)
    def branch(self, who: int, name: str, at: str) -> None:
        self.point(f"branch/{name}", at, lambda: self.repositories[who].branch(name, at))

    @rule(who=st.integers(0, 1), name=TAGS, at=BRANCHES | TAGS)
    def tag(self, who: int, name: str, at: str) -> None:
        self.point(f"tag/{name}", at, lambda: self.repositories[who].tag(name, at))

    def point(self, ref: str, at: str, act: object) -> None:
        assert callable(act)
        try:
            commit = act()
        except ConflictError:
            assert ref in self.refs
        except (NotFoundError, InvalidInputError):
            assert self.known(at) is None
        else:
            assert ref not in self.refs and commit == self.known(at)
            self.refs[ref] = commit

    @precondition(lambda self: self.refs)
    @rule(who=st.integers(0, 1), name=BRANCHES | TAGS, table=TABLES)
    def read(self, who: int, name: str, table: str) -> None:
        commit = self.known(name)
        try:
            version = self.repositories[who].version(table, name)
        except (NotFoundError, InvalidInputError):
            assert commit is None or table not in self.tables[commit]
            return
        assert commit is not None
        assert (version.commit, version.digest) == (commit, self.tables[commit][table].digest)
        assert version.rows == sum(part.rows for part in version.parts()) == 2
        assert self.repositories[who].tables(name) == self.tables[commit]

    @rule(faults=st.lists(st.sampled_from(["lost", "unsent", "refused", "late"]), max_size=3))
    def worsen(self, faults: list[str]) -> None:
        """Let the next publishings meet faults that a writer must get over."""
        self.store.faults = list(faults)

    @rule()
    def publish_nothing_over_a_dead_line(self) -> None:
        self.store.faults = ["unsent"] * 5
        try:
            self.repositories[0].commit({"dead": STATES[0]}, message="dead")
        except UnavailableError:
            pass
        else:
            raise AssertionError("it was acknowledged")
        self.store.faults = []

    @rule(who=st.integers(0, 1), lose_hint=st.booleans())
    def reopen(self, who: int, lose_hint: bool) -> None:
        if lose_hint:
            self.store.delete(HINT)
        self.repositories[who] = Repository.open(self.store)

    @invariant()
    def both_say_the_same(self) -> None:
        for repository in self.repositories:
            assert dict(repository.view().refs) == self.refs
        assert self.repositories[0].branches() == {
            ref[7:]: commit for ref, commit in sorted(self.refs.items()) if ref.startswith("branch/")
        }

    def teardown(self) -> None:
        self.store.faults = []
        repository = Repository.open(self.store)
        for ref, commit in self.refs.items():
            chain: list[Digest] = []
            at: Digest | None = commit
            while at is not None:
                chain.append(at)
                at = self.parent[at]
            assert [entry.digest for entry in repository.log(ref)] == chain
        report = repository.verify()
        assert report.problems == []
        assert report.commits == len(self.parent)


RepositoryAgainstDict.TestCase.settings = settings(
    max_examples=60, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestRepositoryAgainstDict = RepositoryAgainstDict.TestCase
