"""The program that the soak kills: random verbs on one repository, each told before it begins and after it ended."""

from __future__ import annotations

import random
import traceback
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa

from pyfactory.errors import ConflictError, CorruptError, InvalidInputError, NotFoundError, RefusedError
from pyfactory.repo.forget import forget
from pyfactory.repo.objects import TableState
from pyfactory.repo.repository import Repository
from pyfactory.repo.rules import BranchRule, GateRule
from pyfactory.repo.ruling import set_rule, trust_key
from pyfactory.repo.signing import Signer
from pyfactory.repo.sweep import gc
from pyfactory.shard.blank import is_forgotten
from pyfactory.shard.layout import raw_schema, schema_to_value, token_schema
from pyfactory.shard.manifest import Manifest, Part, extend_manifest, new_batch, write_manifest
from pyfactory.shard.reader import open_side
from pyfactory.shard.writer import encode_shard, make_side, token_batch

__all__ = ["Told", "make", "tokens_of", "work"]

Told: TypeAlias = dict[str, Any]
"""How an act ended: `end` (done, nothing, or the name of an error), `moves` ([ref, new] of its log entries), `entries`
(fewest and most of them, where that is not 1), `forgot` (ids)."""

BRANCHES = ("main", "exp", "checked", "signed", *(f"b{number}" for number in range(5)))
EXPECTED = (ConflictError, NotFoundError, InvalidInputError, RefusedError)
MOST_SHARDS = 10
AGAIN = "again-"
ADDRESS = "mail Ada.Lovelace@analytical-engine.com"


def text_of(name: str) -> str:
    """The text of a record, which no other record has."""
    return f"what {name} says"


def tokens_of(name: str) -> np.ndarray:
    """The tokens of a record: 12 that no other record has, as good as surely."""
    return np.random.default_rng([*name.encode()]).integers(1, 60_000, 12).astype(np.uint16)


def make(place: str, key: str) -> None:
    """Make the repository that the acts begin with: rules for two branches, a trusted key, two tables."""
    Signer.generate(Path(key))
    signer = Signer.load(Path(key))
    repo = Repository.create(place, author="make")
    names = [f"start-{number}" for number in range(3)]
    states: dict[str, TableState | None] = {table: grown(repo, table, None, [names]) for table in ("raw", "corpus")}
    repo.commit(states, message="start", author="make", signer=signer)
    for branch in ("exp", "checked", "signed"):
        repo.branch(branch, "main", author="make")
    trust_key(repo, "ada", signer.public, "make")
    gates = (GateRule("counts"), GateRule("pii", "raw"), GateRule("duplicates", options={"max_share": "0.5"}))
    set_rule(repo, "checked", BranchRule(gates=gates), "make", signer=signer)
    set_rule(repo, "signed", BranchRule(signed=True), "make", signer=signer)


def grown(repo: Repository, table: str, state: TableState | None, shards: Iterable[list[str]]) -> TableState:
    """Return a table with shards of records behind those that it has."""
    objects = repo.objects
    parts = [_part(repo, table, names) for names in shards]
    if state is None:
        root = write_manifest(objects, new_batch(parts, 0))
    else:
        generation = Manifest(objects, state.manifest).last_generation + 1
        root = extend_manifest(objects, state.manifest, new_batch(parts, generation))
    after = Manifest(objects, root)
    schema = schema_to_value(raw_schema() if table == "raw" else token_schema(2))
    columns = tuple((name, type_, nullable) for name, type_, nullable in schema)
    attributes = {} if table == "raw" else {"width": 2, "append": -1, "vocab_size": 60_000}
    return TableState(root, columns, after.rows, after.tokens, after.nbytes, after.shards, {}, attributes)


def _part(repo: Repository, table: str, names: list[str]) -> Part:
    if table == "raw":
        texts = pa.array([text_of(name) for name in names], pa.large_string())
        batch, tokens = pa.record_batch([texts], schema=raw_schema()), 0
    else:
        values = np.concatenate([tokens_of(name) for name in names])
        offsets = np.arange(0, len(values) + 1, 12, dtype=np.int64)
        batch, tokens = token_batch(values, offsets), len(values)
    shard, side = encode_shard(batch), make_side(pa.array(names, pa.large_string()))
    put = repo.objects.put
    return Part(put(memoryview(shard)), put(memoryview(side)), len(names), tokens, shard.size)


class Acts:
    """The verbs. Each returns what it did, or raises one of `EXPECTED`; `who` names it in the log."""

    def __init__(
        self,
        repo: Repository,
        signer: Signer,
        chance: random.Random,
        now: datetime,
        tell: Callable[[list[str]], None],
    ) -> None:
        self.repo = repo
        self.tell = tell
        self.signer = signer
        self.chance = chance
        self.now = now

    def commit(self, who: str) -> Told:
        """Append to a table, or make it anew: signed or not, with personal data or without."""
        branch, table = self.chance.choice(self._branches()), self.chance.choice(["raw", "corpus"])
        head = self.repo.head(branch)
        state = self.repo.tables(branch).get(table)
        if state is not None and state.shards >= MOST_SHARDS:
            state = None
        ending = f" {ADDRESS}" if self.chance.random() < 0.2 else ""
        shards = [[f"{who}-{shard}-{row}{ending}" for row in range(3)] for shard in range(self.chance.randint(1, 2))]
        if self.chance.random() < 0.4:  # bytes that were there before, and that a sweep may be about to delete
            shards = [[f"{AGAIN}{self.chance.randrange(4)}-{row}" for row in range(3)]]
        signer = self.signer if self.chance.random() < 0.6 else None
        changed = {table: grown(self.repo, table, state, shards)}
        done = self.repo.commit(changed, branch, message=who, author=who, expected_head=head, signer=signer)
        return moved((f"branch/{branch}", done.digest)) if done.created else nothing()

    def drop(self, who: str) -> Told:
        branch = self.chance.choice(self._branches())
        tables = [name for name in self.repo.tables(branch) if name != "raw"]
        if not tables:
            return nothing()
        done = self.repo.commit({tables[0]: None}, branch, message=who, author=who, signer=self.signer)
        return moved((f"branch/{branch}", done.digest))

    def branch(self, who: str) -> Told:
        name = self.chance.choice(BRANCHES)
        return moved((f"branch/{name}", self.repo.branch(name, self._any(), author=who)))

    def delete(self, who: str) -> Told:
        name = self.chance.choice(BRANCHES[4:])
        self.repo.delete_branch(name, author=who)
        return moved((f"branch/{name}", None))

    def tag(self, who: str) -> Told:
        if len(self.repo.tags()) > 12:
            return nothing()
        signer = self.signer if self.chance.random() < 0.5 else None
        return moved((f"tag/{who}", self.repo.tag(who, self._any(), author=who, signer=signer)))

    def merge(self, who: str) -> Told:
        into = self.chance.choice(self._branches())
        choices = {"*": self.chance.choice(["ours", "theirs"])} if self.chance.random() < 0.3 else {}
        done = self.repo.merge(self._any(), into, choices=choices, author=who, signer=self.signer)
        return moved((f"branch/{into}", done.digest)) if done.created else nothing()

    def rollback(self, who: str) -> Told:
        branch = self.chance.choice(self._branches())
        earlier = [commit.digest for commit in self.repo.log(branch)]
        self.repo.rollback(branch, self.chance.choice(earlier[:6]), author=who)
        return {"end": "done", "moves": [], "entries": [0, 1]}  # none if the branch was there already

    def revert(self, who: str) -> Told:
        branch = self.chance.choice(self._branches())
        commit = self.chance.choice([commit.digest for commit in self.repo.log(branch)][:4])
        self.repo.revert(commit, branch, author=who, signer=self.signer)
        return {"end": "done", "moves": [], "entries": [0, 1]}  # none if it was taken back already

    def undo(self, who: str) -> Told:
        done = self.repo.undo(self.repo.view().n - self.chance.randint(0, 5), author=who)
        return moved(*((change.ref, change.old) for change in done.changes))

    def rule(self, who: str) -> Told:
        name = self.chance.choice(BRANCHES[4:])
        rules = [None, BranchRule(protected=True), BranchRule(gates=(GateRule("lengths"),))]
        made = set_rule(self.repo, name, self.chance.choice(rules), who, signer=self.signer)
        return {"end": "done", "moves": [], "entries": [1, 1]} if made else nothing()

    def forget(self, who: str) -> Told:
        """Forget one or two records of a shard."""
        refs = [*self._branches(), *self.repo.tags()]
        ref = self.chance.choice(refs)
        tables = [*self.repo.tables(ref)]
        if not tables:  # the first commit was reverted
            return nothing()
        version = self.repo.version(self.chance.choice(tables), ref)
        part = self.chance.choice([*version.parts()])
        ids = open_side(self.repo.objects.map(part.side), "a side").ids.to_pylist()
        known = [name for name in ids if not is_forgotten(name) and not name.startswith(AGAIN)]
        if not known:
            return nothing()
        names = self.chance.sample(known, min(len(known), self.chance.randint(1, 2)))
        self.tell(names)  # killed while it forgets, the log says whether it did, and not what
        done = forget(self.repo, names, who, who=who, signer=self.signer)
        return {
            "end": "done",
            "moves": [["redaction/last", digest] for digest in done.redactions],
            "entries": [len(done.redactions)] * 2,
            "forgot": names,
        }

    def gc(self, who: str) -> Told:
        report = gc(self.repo, grace=timedelta(0), who=who, now=self.now)
        return {"end": "done", "moves": [], "entries": [0, 9], "freed": report.freed}

    def verify(self, who: str) -> Told:
        return nothing(problems=[problem.message for problem in self.repo.verify().problems])

    def _branches(self) -> list[str]:
        return sorted(self.repo.branches())

    def _any(self) -> str:
        """Return a branch, a tag or an earlier commit."""
        names = [*self._branches(), *self.repo.tags()]
        if self.chance.random() < 0.2:
            return self.chance.choice([commit.digest for commit in self.repo.log(self.chance.choice(names))])
        return self.chance.choice(names)


WEIGHTS = {
    "commit": 30,
    "drop": 3,
    "branch": 8,
    "delete": 4,
    "tag": 3,
    "merge": 14,
    "rollback": 5,
    "revert": 5,
    "undo": 5,
    "rule": 4,
    "forget": 8,
    "gc": 8,
    "verify": 2,
}


def moved(*moves: tuple[str, str | None]) -> Told:
    return {"end": "done", "moves": [list(move) for move in moves]}


def nothing(**more: Any) -> Told:
    return {"end": "nothing", "moves": [], **more}


def work(place: str, key: str, name: str, seed: str, now: str, alone: bool, pipe: Connection) -> None:
    """Act until killed; tells ("begin", who, verb) and ("end", who, verb, told), or ("bug", who, verb, trace)."""
    chance = random.Random(seed)
    moment = datetime.fromisoformat(now).astimezone(UTC)
    number, who = 0, ""

    def tell(names: list[str]) -> None:
        pipe.send(("forgets", who, names))

    acts = Acts(Repository.open(place), Signer.load(Path(key)), chance, moment, tell)
    while True:
        number += 1
        who = f"{name}-{number}"
        verb = chance.choices([*WEIGHTS], [*WEIGHTS.values()])[0]
        pipe.send(("begin", who, verb))
        act: Callable[[str], Told] = getattr(acts, verb)
        try:
            told = act(who)
        except EXPECTED as error:
            told = {"end": type(error).__name__, "moves": []}
        except CorruptError as error:
            # What a sweep takes while another reads it on the way to a new entry is missing; alone, nothing may be.
            if alone:
                pipe.send(("bug", who, verb, traceback.format_exc()))
                return
            told = {"end": "CorruptError", "moves": [], "message": error.message}
        except BaseException:
            pipe.send(("bug", who, verb, traceback.format_exc()))
            return
        pipe.send(("end", who, verb, told))
