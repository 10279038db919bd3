"""Mixtures, phases and unseen samples over real repositories, against the program that knows only the specification."""

from __future__ import annotations

import hashlib
import json
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pyfactory.core import canonical
from pyfactory.factory.packing import pack
from pyfactory.loader.loader import DataLoader
from pyfactory.repo.forget import forget
from pyfactory.repo.repository import Repository
from pyfactory.stream.mixture import Mixture, Source
from pyfactory.stream.stream import Stream
from tests.erasure_tables import delete_replaced
from tests.replay.tables import state_of

REPLAY = Path(__file__).parent / "replay.py"
TYPES = {"input_ids": "<u4", "targets": "<i4", "position_ids": "<i4", "doc_ids": "<i4"}


def some(records: range, more: int = 0) -> list[tuple[str, Any]]:
    """Documents of 1 to 150 tokens, none of them 0."""
    chances = [(record, np.random.default_rng([record, more])) for record in records]
    return [(f"doc-{record}", chance.integers(1, 1000, 1 + more + record * 67 % 150)) for record, chance in chances]


@pytest.fixture(scope="module")
def repo(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """`corpus` at v1, and at v2 with other records, some longer, in other shards; `plain.e` is another table."""
    repository = Repository.create(tmp_path_factory.mktemp("replayed") / "repository")
    tables = {
        "corpus": state_of(repository, some(range(100))),
        "plain.e": state_of(repository, some(range(300, 380)), 99),
    }
    repository.commit(tables, message="first")
    repository.tag("v1")
    later = [*some(range(150, 160)), *some(range(5, 40)), *some(range(40, 45), 3), *some(range(50, 140))]
    repository.commit({"corpus": state_of(repository, later, 11)}, message="second")
    repository.tag("v2")
    for packing in ("best_fit", "padded", "documents"):
        for table in ("corpus", "plain.e"):
            pack(repository, table, sequence_length=48, packing=packing)
    repository.tag("packed")
    return repository


def replay(folder: Path, described: dict[str, Any], *options: str) -> str:
    """What the independent program prints of a described stream."""
    file = folder / "stream.json"
    file.write_text(json.dumps(described))
    command = [sys.executable, str(REPLAY), "--stream", str(file), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=True).stdout


def delivered(stream: Stream, position: int) -> list[str]:
    """SHA-256 of each array of a position, as replay.py prints them."""
    addresses = stream.addresses([position])
    shape = 1, stream.phase_at(position).recipe.sequence_length
    arrays = {name: np.empty(shape, np.int32 if name == "doc_ids" else np.int64) for name in TYPES}
    stream.fill(addresses, **arrays)
    assert stream.position_of(addresses).tolist() == [position]
    return [hashlib.sha256(arrays[name].astype(kind).tobytes()).hexdigest() for name, kind in TYPES.items()]


def check(stream: Stream, described: dict[str, Any], stop: int, folder: Path) -> list[list[str]]:
    """Compare every position below `stop`, the digest and the identity; return what was printed."""
    *printed, digest, identity = replay(folder, described, f"--stop={stop}", "--digest", "--identity").splitlines()
    lines = [line.split() for line in printed]
    assert [int(line[0]) for line in lines] == list(range(stop))
    for position, _, source, _, epoch, _, *hashes in lines:
        addresses = stream.addresses([int(position)])
        assert stream.feeds[int(addresses.feed[0])].source == source
        assert addresses.epoch.tolist() == [int(epoch)]
        assert delivered(stream, int(position)) == hashes, position
    assert digest == stream.digest(0, stop)
    assert identity.encode() == canonical.encode(stream.identity)
    return lines


def described(repo: Repository, seed: int, *phases: tuple[int, dict[str, Any], dict[str, str]]) -> dict[str, Any]:
    """The same for replay.py: each source is "table ref weight [cap] [old ref]"."""
    folder, found = repo.url.removeprefix("file://"), []
    for at, recipe, sources in phases:
        said = []
        for name, text in sources.items():
            table, ref, weight, *more = text.split()
            source = {"name": name, "repo": folder, "table": table, "ref": ref, "weight": weight}
            for one in more:
                source |= {"unseen_since": one} if one[0] == "v" else {"cap": int(one)}
            said.append(source)
        found.append({"at": at, "recipe": recipe, "sources": said})
    return {"seed": seed, "phases": found}


def test_a_mixture_with_phases(repo: Repository, tmp_path: Path) -> None:
    """Catches sources shuffled by the table's name, a phase that begins a source anew, targets that know no recipe."""
    corpus, plain = repo.version("corpus", "v1"), repo.version("plain.e", "v2")
    n = (plain.tokens - 1) // 48
    mixture = Mixture({"web": (corpus, "0.7"), "other": Source(plain, "0.2", epochs="0.25"), "again": (corpus, "0.1")})
    shape = {"sequence_length": 48, "block_size": 3, "window": 4, "fill": 7}
    stream = Stream(mixture, seed=5, **shape)
    stream = stream.then(at=100, weights={"web": 1, "other": 3, "again": 0}, across_documents=True)
    stream = stream.then(at=210, sequence_length=31, block_size=1)
    first = {"web": "corpus v1 0.7", "other": f"plain.e v2 0.2 {n // 4}", "again": "corpus v1 0.1"}
    second = {"web": "corpus v1 1", "other": f"plain.e v2 3 {n // 4}"}
    third = {"web": "corpus v1 1"}  # the other one has come as often as it may
    across = shape | {"across_documents": True}
    shorter = across | {"sequence_length": 31, "block_size": 1}
    asked = described(repo, 5, (0, shape, first), (100, across, second), (210, shorter, third))
    lines = check(stream, asked, 250, tmp_path)
    assert {line[2] for line in lines[:100]} == {"web", "other", "again"}
    assert [phase.start for phase in stream.phases][::3] == [0, 210], f"a cap of {n // 4} was not reached"


@pytest.mark.parametrize("across", [False, True])
@pytest.mark.parametrize("packing", ["best_fit", "padded", "documents"])
def test_packed_tables(repo: Repository, tmp_path: Path, packing: str, across: bool) -> None:
    """Catches pieces of another sample, padding that counts as input, targets in the prompt, a border seen across."""
    shape: dict[str, Any] = {"sequence_length": 48, "packing": packing, "fill": 1000, "block_size": 2, "window": 3}
    if across:
        shape["across_documents"] = True
    if packing == "documents":
        shape["response_template"] = [int(some(range(17, 18))[0][1][4])]  # of one document at least
    first, second = (repo.version(table, "packed") for table in ("corpus", "plain.e"))
    stream = Stream(Mixture({"web": (first, 3), "code": (second, 2)}), seed=6, **shape)
    stream = stream.then(at=60, weights={"web": 1, "code": 1})
    sources = [{"web": f"corpus packed {a}", "code": f"plain.e packed {b}"} for a, b in ((3, 2), (1, 1))]
    check(stream, described(repo, 6, (0, shape, sources[0]), (60, shape, sources[1])), 80, tmp_path)


@pytest.mark.parametrize("weights", [("1", "0"), ("0.6", "0.4")])
def test_a_new_version_without_repeats(repo: Repository, tmp_path: Path, weights: tuple[str, str]) -> None:
    """Catches other documents taken for added, a tail that is shuffled anew, removed ones that are not masked."""
    old, new, plain = repo.version("corpus", "v1"), repo.version("corpus", "v2"), repo.version("plain.e", "v2")
    stream = Stream(
        Mixture({"web": (old, weights[0]), "code": (plain, weights[1])}), seed=9, sequence_length=64, fill=3
    )
    stream = stream.then(at=100, versions={"web": new}, unseen_only=True)
    code = {"code": f"plain.e v2 {weights[1]}"}
    shape = {"sequence_length": 64, "fill": 3}
    then = {"web": f"corpus v2 {weights[0]} v1"}
    asked = described(repo, 9, (0, shape, {"web": f"corpus v1 {weights[0]}"} | code), (100, shape, then | code))
    stop = stream.phases[-1].start + 20
    lines = check(stream, asked, stop, tmp_path)
    assert {line[3] for line in lines} == {"-", "old", "added"}
    assert [phase.start for phase in stream.phases] == sorted({0, 100, stop - 20})


def test_strided_lanes(repo: Repository) -> None:
    """Catches a lane that takes what is another's: both shapes, against section 8."""
    steps = runpy.run_path(str(REPLAY.parent / "delivery.py"))["steps"]
    stream = Stream(repo.version("corpus", "v1"), seed=5, sequence_length=64)
    for strided in (False, True):
        for rank in range(3):
            loader = DataLoader(stream, global_batch=12, rank=rank, world_size=3, strided=strided)
            for step, batch in zip(range(4), loader, strict=False):
                expected = steps(step * 12, 12, 3, rank, strided)
                assert batch["indices"].tolist() == list(expected)
            loader.close()


def test_what_was_forgotten_is_masked_in_a_mixture(repo: Repository, tmp_path: Path) -> None:
    """Catches a redaction that changes what is unseen, masks of one table put on another, an identity without it."""
    changed = Repository.open(shutil.copytree(repo.url.removeprefix("file://"), tmp_path / "repository"))
    recipe = {"seed": 7, "sequence_length": 64, "fill": 5}
    stream = Stream(changed.version("corpus", "v1"), **recipe)
    for position in (0, 150):
        forget(changed, [next(stream.records(position, position + 1)).id], "asked to", who="Ada")
    delete_replaced(changed)
    changed = Repository.open(tmp_path / "repository")
    stream = Stream(changed.version("corpus", "v1"), **recipe)
    stream = stream.then(at=100, version=changed.version("corpus", "v2"), unseen_only=True)
    shape = {"sequence_length": 64, "fill": 5}
    asked = described(changed, 7, (0, shape, {"corpus": "corpus v1 1"}), (100, shape, {"corpus": "corpus v2 1 v1"}))
    check(stream, asked, stream.phases[-1].start + 10, tmp_path)
    assert "redactions" in stream.identity
