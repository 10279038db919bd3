"""Kills a verb before and after each of its calls of the store; started by test_verbs_kill as a program of its own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from repo_tables import raw_part, raw_state, state_of

from pyfactory.core.canonical import encode
from pyfactory.errors import ConflictError, InvalidInputError, NotFoundError
from pyfactory.repo.forget import forget
from pyfactory.repo.objects import TableState
from pyfactory.repo.operation import View, follow
from pyfactory.repo.oplog import log_key
from pyfactory.repo.repository import Repository
from pyfactory.repo.rules import BranchRule, GateRule
from pyfactory.repo.ruling import set_rule, trust_key
from pyfactory.repo.signing import Signer
from pyfactory.repo.sweep import gc
from pyfactory.repo.upgrade import upgrade
from pyfactory.shard.manifest import Manifest, extend_manifest, new_batch
from pyfactory.store.local import LocalStore
from pyfactory.store.wrap import Faulty

Act = Callable[[Repository, Path], object]


def commits(repo: Repository) -> list[str]:
    return [commit.digest for commit in repo.log("main")]


ACTS: dict[str, Act] = {
    "merge": lambda repo, place: repo.merge("exp", "main"),
    "judged": lambda repo, place: repo.merge("exp", "checked"),
    "signed": lambda repo, place: repo.merge("exp", "main", signer=Signer.load(place / "key")),
    "tag": lambda repo, place: repo.tag("v2", "main", "two", signer=Signer.load(place / "key")),
    "revert": lambda repo, place: repo.revert("v1", "main"),
    "rollback": lambda repo, place: repo.rollback("main", "start"),
    "undo": lambda repo, place: repo.undo(json.loads((place / "undone").read_text())),
    "delete": lambda repo, place: repo.delete_branch("gone"),
    "rule": lambda repo, place: set_rule(repo, "main", BranchRule(protected=True), "Ada"),
    "trust": lambda repo, place: trust_key(repo, "ada", Signer.load(place / "key").public, "Ada"),
    "forget": lambda repo, place: forget(repo, [(place / "record").read_text()], reason="asked", who="Ada"),
    "upgrade": lambda repo, place: upgrade(repo, "Ada"),
    "sweep": lambda repo, place: gc(repo, grace=timedelta(0), who="gc"),
}
LATER: dict[str, Act] = {
    # A killed sweep has left its lease, which ends some time.
    "sweep": lambda repo, place: gc(repo, grace=timedelta(0), who="gc", now=datetime.now(UTC) + timedelta(hours=2)),
}
REPEATED = (ConflictError, NotFoundError, InvalidInputError)
"""What an act may say when it was done already."""


def prepared(name: str, place: Path) -> Path:
    """Make the repository that an act begins with: main and exp have parted, some garbage lies about."""
    repo = Repository.create(place / "base")
    start = state_of(repo.objects, [raw_part(repo.objects, ["start", "go"])])
    repo.commit({"raw": start}, message="start")
    repo.tag("start")
    for branch in ("exp", "checked", "gone"):
        repo.branch(branch, "main")
    set_rule(repo, "checked", BranchRule(gates=(GateRule("counts", options={"max_rows": 9}),)), "Ada")
    repo.commit({"raw": grown(repo, start, "theirs")}, "exp", message="theirs")
    (place / "record").write_text(f"{raw_part(repo.objects, ['ours']).shard[:8]}-0")
    repo.commit({"raw": grown(repo, start, "ours")}, message="ours")
    (place / "undone").write_text(json.dumps(repo.view().n))
    repo.tag("v1")
    repo.objects.put(b"garbage")
    raw_state(repo.objects, "more garbage")
    Signer.generate(place / "key")
    if name == "upgrade":
        repo.store.replace("format.json", encode({"format": 1, "reader": [], "writer": []}))
    return place / "base"


def grown(repo: Repository, state: TableState, label: str) -> TableState:
    part = raw_part(repo.objects, [label])
    manifest = Manifest(repo.objects, state.manifest)
    root = extend_manifest(repo.objects, state.manifest, new_batch([part], manifest.last_generation + 1))
    after = Manifest(repo.objects, root)
    counts = (after.rows, after.tokens, after.nbytes, after.shards)
    return TableState(root, state.schema, *counts, artifacts={}, attributes={})


def looks(repo: Repository, view: View) -> dict[str, str]:
    """Return what refs name, without what two runs of one act never share: times, and so the digests of commits."""
    found = {}
    for ref, digest in view.refs.items():
        kind = ref.partition("/")[0]
        if kind in ("branch", "tag"):
            found[ref] = repo.load(digest).tree
        else:
            found[ref if kind == "rule" else kind] = digest if kind == "rule" else "something"
    return found


def stages(repo: Repository, first: int) -> list[dict[str, str]]:
    """Return how the refs looked after entry `first` and after each later one."""
    seen, view = [], None
    for n in range(repo.view().n + 1):
        view = follow(view, [repo.store.get(log_key(n))], repo.url)
        if n >= first:
            seen.append(looks(repo, view))
    return seen


def killed_at_every_call(name: str, place: Path) -> list[str]:
    """Return, for each kill, whether it left the repository as it was, as it shall be, or (a sweep) between."""
    base = prepared(name, place)
    first = Repository.open(base).view().n
    calls = 0

    def count(number: int, method: str, key: str) -> None:
        nonlocal calls
        calls = number + 1

    shutil.copytree(base, place / "whole")
    ACTS[name](Repository.open(Faulty(LocalStore(place / "whole"), before=count)), place)
    expected = stages(Repository.open(place / "whole"), first)
    outcomes = []
    for call in range(calls):
        for when in ("before", "after"):
            copy = place / f"{call}-{when}"
            shutil.copytree(base, copy)
            kill(name, place, copy, call, when)
            outcomes.append(judged(name, place, copy, expected))
            shutil.rmtree(copy)
    return outcomes


def kill(name: str, place: Path, copy: Path, call: int, when: str) -> None:
    def stop(number: int, method: str, key: str) -> None:
        if number == call:
            os.kill(os.getpid(), signal.SIGKILL)

    child = os.fork()
    if child == 0:
        try:
            ACTS[name](Repository.open(Faulty(LocalStore(copy), **{when: stop})), place)
        finally:
            os._exit(3)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, (name, call, when, status)


def judged(name: str, place: Path, copy: Path, expected: list[dict[str, str]]) -> str:
    """Check what a kill left, run the act again, and check that too."""
    repo = Repository.open(copy)
    found = looks(repo, repo.view())
    assert found in expected, (name, found, expected)
    assert repo.verify().problems == []
    try:
        LATER.get(name, ACTS[name])(repo, place)
    except REPEATED:
        assert found == expected[-1] or name == "undo"
    again = Repository.open(copy)
    assert again.verify().problems == []
    if name != "revert":  # which, done twice, takes back nothing more or brings back
        assert looks(again, again.view()) == expected[-1]
    assert again.commit({"more": raw_state(again.objects, "more")}, "exp", message="more").created
    return "old" if found == expected[0] else "new" if found == expected[-1] else "between"


if __name__ == "__main__":
    print(json.dumps(killed_at_every_call(sys.argv[1], Path(sys.argv[2]))))
