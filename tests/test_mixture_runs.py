"""Runs over several tables, repositories and phases: the ledger's answers against what the loops received."""

from __future__ import annotations

import shutil
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import islice
from pathlib import Path

import pytest

from pyfactory.audit import runs_that_saw, trace
from pyfactory.cli.trace_view import show_trace
from pyfactory.ledger import Run, read_run
from pyfactory.loader.loader import DataLoader
from pyfactory.repo.forget import forget
from pyfactory.repo.repository import Repository
from pyfactory.repo.sweep import gc
from pyfactory.stream.mixture import Mixture, Source
from pyfactory.stream.phase import WholeLeaf
from pyfactory.stream.stream import Stream
from tests.stream.stream_model import Document, commit_tokens, named_documents

BATCH, L, LONG, FILL = 4, 5, 9, 7
LENGTHS = [4, 9, 2, 13, 3, 3, 8, 6, 2, 5, 7, 21, 4, 10, 2]
OLD = named_documents("o", LENGTHS, 1_000)
ADDED = named_documents("n", [6, 11, 3, 14, 7], 10_000)
REMOVED = [OLD[0], OLD[2], OLD[4], OLD[8], OLD[12]]  # short: no sample is masked whole
NEW = [document for document in OLD if document not in REMOVED] + ADDED
CODE = named_documents("x", [7, 3, 16, 9, 12, 4, 8], 50_000)
RESUMED, LAST = 44, 160  # positions: where the second run begins, where training stops


def flat(documents: list[Document]) -> list[int]:
    return [token for _, tokens in documents for token in tokens]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    repo = Repository.create(tmp_path / "data")
    commit_tokens(repo, "web", [OLD[:6], OLD[6:]])
    repo.tag("old")
    kept = [document for document in OLD[:6] if document not in REMOVED]
    commit_tokens(repo, "web", [kept, [one for one in OLD[6:] if one not in REMOVED], ADDED])
    repo.tag("new")
    other = Repository.create(tmp_path / "other")
    commit_tokens(other, "snippets", [CODE[:3], CODE[3:]])
    other.tag("v7")
    return tmp_path


def the_stream(folder: Path) -> Stream:
    """Two tables in two repositories, a cap; other weights, a new version without repeats, longer samples."""
    repo, other = Repository.open(folder / "data"), Repository.open(folder / "other")
    sources = {
        "web": Source(repo.version("web", "old"), "0.7"),
        "code": Source(other.version("snippets", "v7"), "0.3", epochs="2.5"),
    }
    stream = Stream(Mixture(sources), seed=5, sequence_length=L, fill=FILL, block_size=2, window=2)
    stream = stream.then(at=12, weights={"web": 1, "code": 1})
    stream = stream.then(at=24, versions={"web": repo.version("web", "new")}, unseen_only=True)
    return stream.then(at=120, sequence_length=LONG)


@dataclass
class Received:
    """What training loops were handed: the row of each position, by the run that received it."""

    rows: dict[str, dict[int, list[int]]] = field(default_factory=lambda: defaultdict(dict))

    def take(self, run: str, batch: dict) -> None:
        for position, row in zip(batch["indices"].tolist(), batch["input_ids"].tolist(), strict=True):
            self.rows[run][position] = row


def train(folder: Path, got: Received, steps: int, resume: str = "", world: int = 1) -> str:
    """Train on `world` ranks, save `a.pt` (or `b.pt`, resumed) and go on for two steps that no model keeps."""
    repo = Repository.open(folder / "data")
    where = {"global_batch": BATCH, "world_size": world}
    loaders = [DataLoader(the_stream(folder), rank=rank, **where) for rank in range(world)]
    model = folder / ("b.pt" if resume else "a.pt")
    runs = [Run(repo, loader, resume=folder / resume if resume else None) for loader in loaders]
    steps_of = [forever(loader) for loader in loaders]
    for run in runs:
        run.__enter__()
    for done in range(1, steps + 3):
        for batches in steps_of:
            got.take(runs[0].id, next(batches))
        if done == steps:
            model.write_bytes(b"weights")
            for run in runs:
                run.checkpoint(model)
    for run in runs:
        run.__exit__(None, None, None)
    for loader in loaders:
        loader.close()
    return runs[0].id


def forever(loader: DataLoader) -> Iterator[dict]:
    while True:
        yield from loader


def read_by(row: list[int], changes: int, position: int) -> set[int]:
    """The tokens that a sample read, its last one, only a target, included: from what was received of it."""
    if max(row) >= 50_000:
        table = flat(CODE)
    elif position < 24:
        table = flat(OLD)
    elif position >= changes:
        table = flat(NEW)
    else:
        table = flat(ADDED) if max(row) >= 10_000 else flat(OLD)
    at = next(at for at, token in enumerate(row) if token != FILL)
    first = table.index(row[at]) - at
    assert all(token in (FILL, table[first + at]) for at, token in enumerate(row))
    read = set(table[first : first + len(row) + 1])
    return read - set(flat(REMOVED)) if 24 <= position < changes else read


def trained(folder: Path) -> tuple[Received, str, str, int]:
    got = Received()
    first = train(folder, got, RESUMED // BATCH)
    second = train(folder, got, (LAST - RESUMED) // BATCH, resume="a.pt", world=2)
    leaves = [(phase.start, leaf) for phase in the_stream(folder).phases for leaf in phase.leaves if leaf.name == "web"]
    changes = next(start for start, leaf in leaves if isinstance(leaf, WholeLeaf) and leaf.feed.version.asked == "new")
    assert 24 < RESUMED < changes < LAST  # the first run ends in the middle of what is unseen
    return got, first, second, changes


def test_a_checkpoint_leads_to_all_its_sources(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches: samples times the first length; positions before a phase begins, or abandoned ones, counted for it."""
    got, first, second, changes = trained(folder)
    samples: Counter[tuple[str, str]] = Counter()
    tokens: Counter[tuple[str, str]] = Counter()
    for run, low, high in ((first, 0, RESUMED), (second, RESUMED, LAST)):
        for position in range(low, high):
            row = got.rows[run][position]
            new = position >= changes or max(row) in flat(ADDED)
            source = ("code", "v7") if max(row) >= 50_000 else ("web", "new" if new else "old")
            samples[source] += 1
            tokens[source] += len(row)
    found = trace(folder / "b.pt")
    assert [(s.run, s.start, s.stop, s.world_size) for s in found.seen] == [
        (first, 0, RESUMED, 1),
        (second, RESUMED, LAST, 2),
    ]
    assert [(s.run, s.start, s.stop) for s in found.abandoned] == [(first, RESUMED, RESUMED + 2 * BATCH)]
    assert {(s.name, s.asked): s.samples for s in found.sources} == samples
    assert {(s.name, s.asked): s.tokens for s in found.sources} == tokens
    assert (found.samples, found.tokens) == (LAST, tokens.total())
    assert found.tokens != LAST * L
    data, other = Repository.open(folder / "data"), Repository.open(folder / "other")
    assert [(s.name, s.repository, s.table, s.tags) for s in found.sources] == [
        ("code", other.url, "snippets", ["v7"]),
        ("web", data.url, "web", ["old"]),
        ("web", data.url, "web", ["new"]),
    ]
    assert [s.version for s in found.sources] == [
        other.version("snippets").digest,
        data.version("web", "old").digest,
        data.version("web", "new").digest,
    ]
    assert [phase["at"] for phase in found.phases] == [12, 24, 120]
    assert len(found.unknown) == 3  # these tables were made by hand: their commits do not say how
    show_trace(found)
    shown = capsys.readouterr().out
    for text in (f"{tokens['code', 'v7']} tokens", "snippets@v7", "web@new", "(tag old)"):
        assert text in shown
    phases = [text.strip() for text in shown.splitlines() if "from position" in text]  # each tells what has changed
    assert "web@old" in phases[0] and phases[0].count("weight 1") == 2 and "unseen" not in phases[0]
    assert "web@new" in phases[1] and "what is unseen first" in phases[1]
    assert phases[2].startswith("from position 120 on: ") and phases[2].endswith("; sequence_length 9")
    early = trace(folder / "a.pt")
    assert early.samples == RESUMED and early.tokens == RESUMED * L


@pytest.mark.parametrize("after", [False, True])
def test_every_record_is_found_where_it_was_received(folder: Path, after: bool) -> None:
    """Catches: records of a second source or an added shard that are not found; removed ones that are."""
    got, first, second, changes = trained(folder)
    wanted: dict[tuple[str, str], list[int]] = defaultdict(list)
    for run in (first, second):
        for position in sorted(got.rows[run]):
            read = read_by(got.rows[run][position], changes, position)
            for name, tokens in OLD + ADDED + CODE:
                if read & set(tokens):
                    wanted[name, run].append(position)
    names = [name for name, _ in OLD + ADDED + CODE]
    if after:  # nothing moves, and what was forgotten is found under the name it had
        forget(Repository.open(folder / "data"), [name for name, _ in (OLD + ADDED)[::2]], "asked to", who="Ada")
        forget(Repository.open(folder / "other"), [name for name, _ in CODE[::2]], "asked to", who="Ada")
        assert trace(folder / "b.pt").samples == LAST
    seen = runs_that_saw(Repository.open(folder / "data"), names)
    assert {(one.record, one.run): [*one.positions] for one in seen if one.positions} == wanted
    assert all(one.exact and not one.unknown for one in seen)
    assert all(one.steps == tuple(sorted({position // BATCH for position in one.positions})) for one in seen)
    tables = {(one.record[0], one.table) for one in seen if one.positions}
    assert tables == {("o", "web"), ("n", "web"), ("x", "snippets")}
    for one in seen:  # a checkpoint has seen what came before it, and what the one it was resumed from has seen
        before = [position for position in wanted[one.record, first] if position < RESUMED]
        if one.run == first:
            assert one.checkpoints == ((RESUMED,) if before else ())
        else:
            later = [position for position in wanted[one.record, second] if position < LAST]
            assert one.checkpoints == ((LAST,) if before or later else ())
            assert one.through == (first if before else "")


def test_the_start_of_a_run_names_all_versions(folder: Path) -> None:
    """Catches: versions of later phases that are not written down; an entry of a plain run that changes."""
    got = Received()
    repo, other = Repository.open(folder / "data"), Repository.open(folder / "other")
    start = read_run(repo.store, train(folder, got, 1))[0]
    listed = [repo.version("web", "old"), repo.version("web", "new")]
    expected = [
        {"version": v.digest, "table": "web", "commit": v.commit, "asked": v.asked, "repository": ""} for v in listed
    ]
    code = other.version("snippets", "v7")
    expected.insert(0, {"version": code.digest, "table": "snippets", "commit": code.commit, "asked": "v7"})
    expected[0]["repository"] = other.url
    assert start["versions"] == expected
    assert start["version"] == {"table": "snippets", "commit": code.commit, "asked": "v7"}
    for home, more in ((repo, set()), (other, {"versions"})):
        loader = DataLoader(Stream(repo.version("web", "old"), seed=1, sequence_length=L), global_batch=BATCH)
        with Run(home, loader) as run:
            next(iter(loader))
        keys = {"v", "n", "previous", "time", "kind", "position", "identity", "version", "global_batch", "world_size"}
        assert read_run(home.store, run.id)[0].keys() == keys | {"code", "parent", "note", "digest"} | more
        (seen,) = {one.run for one in runs_that_saw(home, [name for name, _ in OLD]) if one.run == run.id}
        assert seen == run.id


def test_what_runs_read_stays(folder: Path) -> None:
    """Catches: a sweep that keeps the first version of a run, and takes the others."""
    repo = Repository.open(folder / "data")
    for name, documents in (("left", OLD[:5]), ("right", CODE)):
        repo.branch(name, "old")
        commit_on(repo, name, documents)
    versions = {name: repo.version(name, name) for name in ("left", "right")}
    stream = Stream(Mixture({"a": versions["left"], "b": versions["left"]}), seed=1, sequence_length=L)
    stream = stream.then(at=8, mixture=Mixture({"b": versions["right"]}))
    digest = stream.digest(0, 30)
    loader = DataLoader(stream, global_batch=BATCH)
    with loader, Run(repo, loader) as run:
        [*islice(forever(loader), 8)]
        (folder / "m.pt").write_bytes(b"weights")
        run.checkpoint(folder / "m.pt")
    for name in ("left", "right"):
        repo.delete_branch(name)
    gc(repo, grace=timedelta(0), who="gc")
    gc(repo, grace=timedelta(0), who="gc")
    again = Repository.open(folder / "data")
    assert again.verify().problems == []
    found = trace(folder / "m.pt", repository=again)
    assert [(s.name, s.table) for s in found.sources] == [("a", "left"), ("b", "left"), ("b", "right")]
    opened = {name: again.version(name, version.commit) for name, version in versions.items()}
    stream = Stream(Mixture({"a": opened["left"], "b": opened["left"]}), seed=1, sequence_length=L)
    assert stream.then(at=8, mixture=Mixture({"b": opened["right"]})).digest(0, 30) == digest
    assert {one.record for one in runs_that_saw(again, ["o-0", "x-1"])} == {"o-0", "x-1"}


def commit_on(repo: Repository, branch: str, documents: list[Document]) -> None:
    """Commit a table named like its branch."""
    commit_tokens(repo, branch, [documents[:3], documents[3:]], branch=branch)


def test_a_repository_that_is_gone_is_said(folder: Path) -> None:
    """Catches: a trace that fails, or counts as if it knew; a run called clean since nobody can tell."""
    got = Received()
    run = train(folder, got, 12)
    shutil.rmtree(folder / "other")
    found = trace(folder / "a.pt")
    assert (found.samples, found.tokens) == (48, None)
    assert [(s.name, s.samples) for s in found.sources] == [("code", None), ("web", None), ("web", None)]
    assert any("cannot be counted" in gap for gap in found.unknown)
    assert any("source 'code' came from" in gap for gap in found.unknown)
    assert [s.tags for s in found.sources] == [[], ["old"], ["new"]]
    (seen,) = runs_that_saw(Repository.open(folder / "data"), ["o-3", "nobody"])
    assert (seen.record, seen.run, seen.exact, seen.checkpoints) == ("o-3", run, False, (48,))
    assert "other" in seen.unknown
