"""Packing tables in a repository: committed, merged, dropped with the rows they fit, swept, verified, proven."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace as with_fields
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import pyfactory as pf
from pyfactory.cli import app
from pyfactory.cli.packing import show_packing
from pyfactory.core.digest import Digest
from pyfactory.errors import ConflictError, CorruptError, InvalidInputError, NotFoundError
from pyfactory.factory import build, forget_records, pack, take_tables
from pyfactory.factory.tables import appended, publish, replaced
from pyfactory.native.reference import batch_of
from pyfactory.order.permutation import SourceOrder
from pyfactory.repo.objects import TableState
from pyfactory.repo.proof import prove
from pyfactory.repo.reachable import Reachable
from pyfactory.repo.repository import Repository
from pyfactory.repo.sweep import gc
from pyfactory.shard.manifest import Manifest, Part
from pyfactory.shard.packing_format import packing_artifacts
from pyfactory.shard.packing_table import load_index, open_packing
from pyfactory.shard.writer import encode_shard, make_side, token_batch
from pyfactory.store.memory import MemoryStore
from tests.corpora import documents_of, token_repository
from tests.raw_files import STEPS, small_repository, write_job

NAME = "packing/best_fit/8"
LENGTHS = [3, 5, 30, 8, 1, 1, 9, 4, 10, 2]


def repository(where: object = None, lengths: Sequence[int] = LENGTHS) -> Repository:
    return token_repository(where or MemoryStore(), documents_of(lengths), [4, 7])


def packings(repo: Repository, ref: str = "main") -> dict[str, Digest]:
    return packing_artifacts(repo.tables(ref)["corpus"].artifacts)


def grown(repo: Repository, lengths: Sequence[int], seed: int, branch: str = "main") -> tuple[TableState, TableState]:
    """The table of a branch, and what it is with a shard more."""
    state = repo.tables(branch)["corpus"]
    offsets = np.cumsum([0, *lengths], dtype=np.int64)
    shard = encode_shard(token_batch(np.concatenate(documents_of(lengths, seed)).astype(np.uint16), offsets))
    side = make_side(pa.array([f"more-{seed}-{row}" for row in range(len(lengths))], pa.large_string()))
    digests = repo.objects.put(memoryview(shard)), repo.objects.put(memoryview(side))
    part = Part(*digests, len(lengths), sum(lengths), shard.size)
    facts = state.schema, state.artifacts, state.attributes
    return state, appended(repo, Manifest(repo.objects, state.manifest), [part], *facts)


def append(repo: Repository, lengths: Sequence[int], seed: int, branch: str = "main") -> None:
    before, after = grown(repo, lengths, seed, branch)
    publish(repo, "corpus", before, after, repo.head(branch), branch, message="more")


def ranges(repo: Repository, digest: Digest) -> list[Digest]:
    return [entry.digest for entry in load_index(repo.objects, digest, "it").ranges]


def check_fits(repo: Repository, ref: str = "main") -> None:
    """Every packing of the table reads each of its tokens."""
    version = repo.version("corpus", ref)
    for name, digest in packings(repo, ref).items():
        table = open_packing(repo.objects, digest, name)
        first, length, _ = table.pieces(np.arange(table.samples))
        read = {t for f, n in zip(first.tolist(), length.tolist(), strict=True) for t in range(f, f + n)}
        assert read == set(range(version.tokens)), name


def test_pack_commits_once() -> None:
    repo = repository()
    before = repo.tables()["corpus"]
    done = pf.pack(repo, "corpus", sequence_length=8, author="Ada")
    assert done.created and packings(repo) == {NAME: done.packing}
    assert repo.tables()["corpus"] == with_fields(before, artifacts={NAME: done.packing})
    assert repo.tables()["corpus"].digest == done.version
    commit = repo.load(repo.head())
    told = {name: value for name, value in (commit.made_by or {}).items() if name != "code"}
    assert told == {"kind": "pack", "table": "corpus", "packing": "best_fit", "sequence_length": 8}
    assert done.report.documents == len(LENGTHS) and done.report.tokens == sum(LENGTHS)
    head = repo.head()
    again = pack(repo, "corpus", sequence_length=8)
    assert (again.created, again.ranges_computed, again.ranges_reused, repo.head()) == (False, 0, 1, head)
    for method, length in (("padded", 8), ("documents", 8), ("best_fit", 9)):
        assert pack(repo, "corpus", sequence_length=length, packing=method).created
    assert len(packings(repo)) == 4
    check_fits(repository_without_documents(repo))
    assert not repo.verify().problems


def repository_without_documents(repo: Repository) -> Repository:
    """`documents` reads the beginnings only."""
    state = repo.tables()["corpus"]
    kept = {name: digest for name, digest in state.artifacts.items() if "documents" not in name}
    repo.commit({"corpus": with_fields(state, artifacts=kept)}, message="fewer")
    return repo


def test_what_cannot_be_packed(tmp_path: Path) -> None:
    repo = small_repository(tmp_path, 30)
    with pytest.raises(InvalidInputError, match="no tokens"):
        pack(repo, "raw", sequence_length=8)
    with pytest.raises(NotFoundError, match="'corpos'"):
        pack(repo, "corpos", sequence_length=8)
    with pytest.raises(NotFoundError):
        pack(repo, "corpus", sequence_length=8, branch="other")
    with pytest.raises(InvalidInputError, match="concat"):
        pack(repo, "corpus", sequence_length=8, packing="concat")


def test_an_append_drops_the_packing() -> None:
    """Mutant: the artifact is kept, and streams read the wrong tokens."""
    repo = repository()
    pack(repo, "corpus", sequence_length=8)
    append(repo, [5, 6], 1)
    assert packings(repo) == {}
    done = pack(repo, "corpus", sequence_length=8)
    assert done.created
    check_fits(repo)
    assert packings(repo, "v1") == {}


def test_an_append_to_what_was_packed_meanwhile() -> None:
    """Somebody packs between the reading and the commit of an append, and the other way round."""
    repo = repository()
    head = repo.head()
    before, after = grown(repo, [5, 6], 1)
    pack(repo, "corpus", sequence_length=8)
    publish(repo, "corpus", before, after, head, "main", message="more")
    assert packings(repo) == {} and repo.version("corpus").rows == len(LENGTHS) + 2
    pack(repo, "corpus", sequence_length=8)
    # The same append once more, by somebody who saw neither: nothing is added, and the packing stays.
    publish(repo, "corpus", before, after, head, "main", message="more")
    assert len(packings(repo)) == 1 and repo.version("corpus").rows == len(LENGTHS) + 2
    check_fits(repo)


class Interfering(Repository):
    """Lets somebody append just before the first commit."""

    def commit(self, *arguments: Any, **told: Any) -> Any:
        if not getattr(self, "done", False):
            self.done = True
            append(Repository.open(self.store), [7, 7], 5)
        return super().commit(*arguments, **told)


def test_rows_that_come_while_packing_are_packed() -> None:
    """Mutant: the packing of the rows before is committed with the rows after."""
    repo = repository()
    other = Interfering.open(repo.store)
    done = pack(other, "corpus", sequence_length=8)
    assert done.report.documents == len(LENGTHS) + 2
    assert packings(repo) == {NAME: done.packing}
    check_fits(repo)


@pytest.mark.parametrize("side", ["main", "work"])
def test_a_merge_of_packing_and_rows(side: str) -> None:
    """Mutants: an artifact that one side added is taken though the other changed the rows; a conflict by name."""
    repo = repository()
    repo.branch("work")
    other = "work" if side == "main" else "main"
    pack(repo, "corpus", sequence_length=8, branch=side)
    append(repo, [5, 6], 1, other)
    repo.merge("work")
    assert packings(repo) == {} and repo.version("corpus").rows == len(LENGTHS) + 2
    assert not repo.verify().problems


def test_a_merge_of_rows_on_both_sides_with_packings() -> None:
    """Mutant: two packing tables of the same name are a conflict."""
    repo = repository()
    pack(repo, "corpus", sequence_length=8)
    repo.branch("work")
    for seed, branch in ((1, "main"), (2, "work")):
        append(repo, [5, 6], seed, branch)
        pack(repo, "corpus", sequence_length=8, branch=branch)
    repo.merge("work")
    assert packings(repo) == {} and repo.version("corpus").rows == len(LENGTHS) + 4


def test_a_merge_of_two_packings_keeps_both() -> None:
    repo = repository()
    repo.branch("work")
    pack(repo, "corpus", sequence_length=8)
    pack(repo, "corpus", sequence_length=9, branch="work")
    pack(repo, "corpus", sequence_length=8, branch="work")
    repo.merge("work")
    assert set(packings(repo)) == {NAME, "packing/best_fit/9"}
    check_fits(repo)


def test_rows_made_anew_merge_with_an_append_as_before() -> None:
    """A packing that goes with the rows is no other way of making rows, and so no conflict."""
    repo = repository()
    pack(repo, "corpus", sequence_length=8)
    repo.branch("work")
    append(repo, [5, 6], 1, "work")
    base = repo.tables()["corpus"]
    parts = [*Manifest(repo.objects, base.manifest).parts()][1:]
    repo.commit({"corpus": replaced(repo, parts, base.schema, {}, base.attributes)}, message="made anew")
    repo.merge("work")
    assert packings(repo) == {}


def test_revert_and_take_keep_packings_that_fit() -> None:
    repo = repository()
    done = pack(repo, "corpus", sequence_length=8)
    append(repo, [5, 6], 1)
    repo.revert("main")
    assert packings(repo) == {NAME: done.packing}
    repo.branch("work", "v1")
    take_tables(repo, ["corpus@main"], branch="work")
    assert packings(repo, "work") == {NAME: done.packing}
    check_fits(repo, "work")


def test_a_packing_of_other_rows_is_not_committed() -> None:
    """Mutant: nobody looks."""
    repo = repository()
    pack(repo, "corpus", sequence_length=8)
    before, after = grown(repo, [5, 6], 1)
    digest = before.artifacts[NAME]
    wrong = ((after, NAME), (before, "packing/best_fit/9"), (before, "packing/padded/8"), (before, "packing/x"))
    for state, name in wrong:
        artifacts = {name: digest}
        with pytest.raises(InvalidInputError, match="packing"):
            repo.commit({"corpus": with_fields(state, artifacts=artifacts)}, message="wrong")


def test_a_sweep_keeps_what_packings_need() -> None:
    """Mutant: ranges are not reachable, and the sweep deletes them."""
    repo = repository()
    done = pack(repo, "corpus", sequence_length=8)
    repo.tag("packed")
    append(repo, [5, 6], 1)
    newer = pack(repo, "corpus", sequence_length=8, packing="padded")
    lost = repo.objects.put(b"PFPACK01 of nobody")
    for minutes in (1, 2):
        gc(repo, who="Ada", grace=timedelta(0), now=datetime.now(UTC) + timedelta(days=minutes))
    assert not repo.objects.exists(lost)
    for digest in (Digest(done.packing), Digest(newer.packing)):
        assert all(repo.objects.exists(each) for each in (digest, *ranges(repo, digest)))
    assert not repo.verify().problems
    check_fits(repo, "packed")


class Sweeping(Repository):
    """Loses the ranges of packings just before a commit, as to a sweep that began before they were found again."""

    def commit(self, *arguments: Any, **told: Any) -> Any:
        for digest in packing_artifacts(arguments[0]["corpus"].artifacts).values():
            for each in ranges(self, digest):
                self.store.delete(self.objects.key(each))
        return super().commit(*arguments, **told)


def test_what_was_swept_while_packing_is_not_committed() -> None:
    """Mutant: only the index is looked for."""
    repo = repository()
    repo.objects.put(b"of nobody")
    gc(repo, who="Ada", now=datetime.now(UTC) + timedelta(minutes=1))  # there is a list of a sweep from now on
    head = repo.head()
    with pytest.raises(ConflictError, match="run it again"):
        pack(Sweeping.open(repo.store), "corpus", sequence_length=8)
    assert repo.head() == head
    assert pack(repo, "corpus", sequence_length=8).ranges_computed == 1
    assert not repo.verify().problems


def test_reachable_tells_ranges_as_artifacts() -> None:
    repo = repository()
    done = pack(repo, "corpus", sequence_length=8)
    found = Reachable(repo.store)
    found.mark_view(repo.view())
    kinds = {bytes.fromhex(digest) for digest in (done.packing, *ranges(repo, Digest(done.packing)))}
    assert kinds <= set(found.of_kind("artifacts").tolist())


@pytest.mark.parametrize("which", ["index", "range"])
@pytest.mark.parametrize("harm", ["missing", "damaged"])
def test_verify_finds_harm(which: str, harm: str) -> None:
    """Mutant: only the index is read."""
    repo = repository()
    done = pack(repo, "corpus", sequence_length=8)
    digest = Digest(done.packing) if which == "index" else ranges(repo, Digest(done.packing))[0]
    key = repo.objects.key(digest)
    content = repo.store.get(key)
    repo.store.delete(key)
    if harm == "damaged":
        repo.store.create(key, content[:-1] + bytes([content[-1] ^ 1]))
    (problem,) = repo.verify().problems
    assert (problem.kind, problem.object) == ({"missing": "missing", "damaged": "corrupt"}[harm], digest)
    assert problem.tables == ("corpus",)


def test_a_forgotten_record_moves_nothing() -> None:
    repo = repository()
    done = pack(repo, "corpus", sequence_length=8)
    forget_records(repo, ["doc-2"], reason="asked to", who="Ada")
    assert packings(repo) == {NAME: done.packing}
    gc(repo, who="Ada", now=datetime.now(UTC) + timedelta(minutes=1))
    assert prove(repo).failures == ()
    assert not repo.verify().problems
    assert open_packing(repo.objects, Digest(done.packing), "it").samples == done.report.samples
    again = pack(repo, "corpus", sequence_length=8, packing="best_fit")
    assert not again.created
    # What is packed anew is packed alike: the lengths are still there.
    for key, _ in [*repo.store.list("memo")]:
        repo.store.delete(key)
    anew = pack(repo, "corpus", sequence_length=8)
    assert (anew.created, anew.ranges_computed, anew.packing) == (False, 1, done.packing)


def test_a_job_may_pack(tmp_path: Path) -> None:
    """Mutants: building again drops the packing that a person has made; the job of old has another digest."""
    repo = small_repository(tmp_path, 30)
    job = write_job(tmp_path / "job.yaml", STEPS)
    first = build(repo, job)
    assert first.packing is None
    by_hand = pack(repo, "corpus", sequence_length=16, packing="padded")
    assert not build(repo, job).created
    job.write_text(job.read_text() + "\npack: {packing: best_fit, sequence_length: 32}\n")
    done = build(repo, job)
    assert done.created and done.packing is not None and done.packing.sequence_length == 32
    assert set(packings(repo)) == {"packing/best_fit/32", "packing/padded/16"}
    assert packings(repo)["packing/padded/16"] == by_hand.packing
    assert not build(repo, job).created
    check_fits(repo)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = tmp_path / "repository"
    repo = repository(place)
    assert app.run(["pack", str(place), "corpus", "--sequence-length", "8", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["created"] and shown["packing"] == packings(repo)[NAME]
    assert shown["report"]["documents"] == len(LENGTHS)
    assert app.run(["pack", str(place), "corpus", "--sequence-length", "8"]) == 0
    out = capsys.readouterr().out
    assert "nothing changed" in out and "10 documents" in out and "0 ranges packed, 1 reused" in out
    assert app.run(["pack", str(place), "corpus", "--packing", "documents", "--sequence-length", "8"]) == 0
    assert f"{21 + 1} tokens in no sample, 3 tokens only a target" in capsys.readouterr().out
    assert app.run(["pack", str(place), "corpus", "--sequence-length", "0", "--json"]) == 1
    assert "sequence_length" in json.loads(capsys.readouterr().err)["error"]["message"]
    assert app.run(["show", str(place), "main"]) == 0
    assert "packed corpus: documents for 8 tokens" in capsys.readouterr().out


@pytest.mark.parametrize("packing", ["best_fit", "padded", "documents"])
def test_a_stream_delivers_the_samples_of_the_packing(packing: str) -> None:
    """Every element, against the reference; and back from addresses to positions."""
    lengths = np.random.default_rng(1).integers(1, 40, 60).tolist()
    repo = repository(lengths=lengths)
    with pytest.raises(InvalidInputError, match="pyfactory pack"):
        pf.Stream(repo.version("corpus"), seed=3, sequence_length=16, packing=packing)
    pack(repo, "corpus", sequence_length=16, packing=packing)
    stream = pf.Stream(repo.version("corpus"), seed=3, sequence_length=16, packing=packing, fill=9)
    positions = np.arange(2 * len(stream))
    addresses = stream.addresses(positions)
    kinds = {"input_ids": np.int64, "targets": np.int64, "position_ids": np.int64, "doc_ids": np.int32}
    outputs = {name: np.full((len(positions), 16), -7, kind) for name, kind in kinds.items()}
    bounds, longest = stream.fill(addresses, cu_seqlens=True, **outputs)
    table = open_packing(repo.objects, packings(repo)[f"packing/{packing}/16"], "it")
    order = SourceOrder(table.samples, 3, "corpus")
    first, length, offsets = (part.tolist() for part in table.pieces(order.samples_at(positions)))
    samples = [[*zip(first[a:b], length[a:b], strict=True)] for a, b in pairwise(offsets)]
    starts = set(np.cumsum([0, *lengths[:-1]]).tolist())
    expected = batch_of(np.concatenate(documents_of(lengths)), starts, samples, 16, fill=9)
    for name, array in outputs.items():
        np.testing.assert_array_equal(array, expected[name], err_msg=name)
    assert bounds.tolist() == expected["cu_seqlens"].tolist() and longest == expected["max_seqlen"]
    assert stream.position_of(addresses).tolist() == positions.tolist()


def test_a_packed_table_leads_back_to_its_raw_files(tmp_path: Path) -> None:
    """Mutant: whoever asks where the data of a model came from ends at the commit that packed it."""
    repo = small_repository(tmp_path, 30)
    pack(repo, "corpus", sequence_length=16)
    stream = pf.Stream(repo.version("corpus"), seed=3, sequence_length=16, packing="best_fit")
    loader = pf.DataLoader(stream, global_batch=4)
    with pf.Run(repo, loader) as run:
        next(iter(loader))
        (tmp_path / "a.pt").write_bytes(b"weights")
        run.checkpoint(tmp_path / "a.pt")
    found = pf.trace(tmp_path / "a.pt")
    assert found.unknown == [] and len(found.jobs) == 1
    assert {file.name for file in found.raw_files} == {"raw-1.jsonl", "raw-2.jsonl"}


def test_a_packing_that_is_gone_is_made_again(tmp_path: Path) -> None:
    """Catches: an error that names an object, and not what to do."""
    repo = repository(tmp_path / "repo")
    done = pack(repo, "corpus", sequence_length=8)
    shape: dict[str, Any] = {"seed": 3, "sequence_length": 8, "packing": "best_fit"}
    before = pf.Stream(repo.version("corpus"), **shape).tokens([0, 1])
    for digest in (Digest(done.packing), *ranges(repo, Digest(done.packing))):
        path = repo.objects.path(digest)
        assert path is not None
        path.unlink()
        with pytest.raises(NotFoundError, match=rf"{digest}.* is missing: .*pyfactory pack .*again"):
            pf.Stream(repo.version("corpus"), **shape).tokens([0, 1])
        assert not pack(repo, "corpus", sequence_length=8).created
        assert (pf.Stream(repo.version("corpus"), **shape).tokens([0, 1]) == before).all()


@pytest.mark.parametrize("lengths", [[*LENGTHS, 3], [*LENGTHS[:-1], 3], LENGTHS[::-1]])
def test_a_packing_of_other_rows_is_refused(lengths: list[int]) -> None:
    """Catches: samples of tokens that are not there. Equal counts with other lengths: only the ranges can tell."""
    repo, other = repository(), repository(lengths=lengths)
    pack(repo, "corpus", sequence_length=8)
    taken = {name: other.objects.put(repo.objects.get(digest)) for name, digest in packings(repo).items()}
    forged = with_fields(other.version("corpus"), state=with_fields(other.tables()["corpus"], artifacts=taken))
    shape: dict[str, Any] = {"seed": 3, "sequence_length": 8, "packing": "best_fit"}
    if lengths == LENGTHS[::-1]:
        pf.Stream(forged, **shape)
    else:
        with pytest.raises(CorruptError, match="made for other rows"):
            pf.Stream(forged, **shape)


@pytest.mark.parametrize(("length", "truncated"), [(2, 6), (3, 5), (8, 2), (9, 1), (29, 0)])
def test_truncated_documents_are_counted(capsys: pytest.CaptureFixture[str], length: int, truncated: int) -> None:
    repo = repository(lengths=[0, *LENGTHS, 0])
    done = pack(repo, "corpus", sequence_length=length, packing="documents")
    assert done.truncated_documents == truncated == sum(n > length + 1 for n in LENGTHS)
    show_packing(done.report, done.truncated_documents)
    said = f"{truncated} document{'s' * (truncated != 1)} truncated"
    assert said in capsys.readouterr().out
    assert pack(repo, "corpus", sequence_length=length).truncated_documents == 0
