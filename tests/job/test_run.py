"""Whole jobs: against plain Python, with any number of workers, and again."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from job_tables import END, oracle, rows_of, run, text_table, write_job, write_vocab_and_merges
from test_write import shuffled

from pyfactory.core import canonical
from pyfactory.core.digest import digest_of
from pyfactory.errors import CorruptError, UnavailableError
from pyfactory.job.executors.open import open_executor
from pyfactory.job.run import run_job
from pyfactory.job.spec import load_job
from pyfactory.shard.manifest import Manifest
from pyfactory.store.content import Objects
from pyfactory.store.local import LocalStore
from pyfactory.store.memory import MemoryStore
from pyfactory.store.wrap import Counted, Faulty

FULL = (
    "filter: {min_chars: 2, rejects: 'q'}",
    "dedup: {method: exact}",
    f'tokenize: {{vocab: vocab.json, merges: merges.txt, append: "{END}"}}',
    "shuffle: {seed: 7}",
)
TEXTS = [f"text {row % 9} of words, żółw {'q' if row % 5 == 0 else ''}" for row in range(60)] + ["", "x", END]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("job")
    write_vocab_and_merges(folder)
    write_job(folder, *FULL, target="100B")
    return folder


letters = st.text(alphabet=st.sampled_from("aab qżé\n'st1\u088f\U00010ec6😀<|>"), max_size=8)


@settings(deadline=None, max_examples=80)
@given(
    st.lists(letters | st.sampled_from([END, "a", "b a"]), max_size=14),
    st.lists(st.integers(0, 14), max_size=4),
    st.data(),
)
def test_a_job_against_plain_python(folder: Path, texts: list[str], cuts: list[int], data: st.DataObject) -> None:
    """Any texts in any parts: filter, dedup, tokenize, shuffle as one would write them down in a few lines."""
    objects = Objects(MemoryStore())
    low, seed = data.draw(st.integers(0, 2)), data.draw(st.integers(0, 2**64 - 1))
    append = data.draw(st.booleans())
    target, workers = data.draw(st.integers(1, 200)), data.draw(st.integers(1, 3))
    ending = f', append: "{END}"' if append else ""
    steps = [
        f"filter: {{min_chars: {low}, rejects: q}}",
        "dedup:",
        f"tokenize: {{vocab: vocab.json, merges: merges.txt{ending}}}",
        f"shuffle: {{seed: {seed}}}",
    ]
    result = run(objects, write_job(folder, *steps, target=f"{target}B"), text_table(objects, texts, cuts), workers)

    rows = [(f"id-{row}", text) for row, text in enumerate(texts) if len(text) >= low and "q" not in text]
    rows = [row for at, row in enumerate(rows) if row[1] not in [text for _, text in rows[:at]]]
    tokens = [(name, oracle().encode(text).ids + ([999] if append else [])) for name, text in rows]
    kept = [row for row in tokens if row[1]]
    assert rows_of(objects, result) == shuffled(list(kept), seed)
    assert [report.rows_out for report in result.reports[-3:]] == [len(kept)] * 3


def test_the_same_with_any_number_of_workers(folder: Path, tmp_path: Path) -> None:
    write_job(folder, *FULL, target="100B")
    results = []
    for workers in (1, 2, 8):
        objects = Objects(LocalStore(tmp_path / str(workers), create=True))
        results.append(run(objects, folder / "job.yaml", text_table(objects, TEXTS, range(0, 60, 7)), workers))
        assert results[-1].reused == 0
    assert results[0] == results[1] == results[2]
    assert len(results[0].parts) > 2


def test_a_result_says_what_was_made_and_how(folder: Path) -> None:
    write_job(folder, *FULL, target="100B")
    objects = Objects(MemoryStore())
    result = run(objects, folder / "job.yaml", text_table(objects, TEXTS, [30]))
    spec = load_job(folder / "job.yaml")
    assert objects.get(result.job) == canonical.encode(result.value) and result.job == spec.digest()
    assert result.value == spec.value()
    assert set(result.code) >= {"pyfactory", "pyarrow", "gigatoken", "tokenizers"}
    steps = [report.value() for report in result.reports]
    assert [(step["step"], step["rows_in"], step["rows_out"]) for step in steps] == [
        ("filter", 63, 49),
        ("dedup", 49, 10),
        ("tokenize", 10, 10),
        ("shuffle", 10, 10),
        ("write", 10, 10),
    ]
    assert [step["dropped"] for step in steps[:3]] == [{"min_chars": 2, "rejects": 12}, {"duplicate": 39}, {"empty": 0}]
    canonical.encode(steps)


def test_a_rerun_computes_nothing_and_reads_no_text(folder: Path) -> None:
    """Remembered: parts, selections, hashes, tokens, cuts. Catches work that is done before it is looked up."""
    store = Counted(MemoryStore())
    objects = Objects(store)
    write_job(folder, *FULL, target="100B")
    table = text_table(objects, TEXTS, range(0, 60, 7))
    first = run(objects, folder / "job.yaml", table)
    before = {key: objects.store.size(key) for key, _ in store.list("")}
    store.calls.clear()
    again = run(objects, folder / "job.yaml", table)
    tasks = first.computed
    assert (again.computed, again.reused) == (0, tasks)
    assert again.parts == first.parts and again.job == first.job
    # One read per mark; one shard opened for its columns. The tokenizer and the job are put again, as they always are.
    assert store.calls["get"] == tasks + 1
    assert store.calls["create"] == 2
    assert {key: objects.store.size(key) for key, _ in store.list("")} == before


def test_a_change_costs_what_depends_on_it(folder: Path) -> None:
    objects = Objects(MemoryStore())
    table = text_table(objects, TEXTS, [20, 40])
    first = run(objects, write_job(folder, *FULL, target="100B"), table)
    other = run(objects, write_job(folder, *FULL[:3], "shuffle: {seed: 8}", target="100B"), table)
    assert other.reused == first.computed - 1 - len(first.parts)
    assert other.computed == 1 + len(other.parts)


@pytest.mark.parametrize("kind", ["selection", "tokens", "shard", "mark"])
def test_what_was_lost_is_made_again(folder: Path, kind: str) -> None:
    """By garbage collection, say: the same digests come out, and only what is missing is computed."""
    store = MemoryStore()
    objects = Objects(store)
    table = text_table(objects, TEXTS, [20, 40])
    job = write_job(folder, *FULL, target="100B")
    first = run(objects, job, table)
    inputs = {digest for part in table.parts() for digest in (part.shard, part.side)} | {*table.nodes()}
    outputs = {digest for part in first.parts for digest in (part.shard, part.side)}
    removed = 0
    for key, _ in list(store.list("")):
        digest = key.removeprefix("objects/").replace("/", "")
        content = store.get(key)
        lost = {
            "selection": content.startswith(b"pfselect"),
            "tokens": b"tokens" in content
            and digest not in outputs
            and digest not in inputs
            and key.startswith("objects"),
            "shard": digest in outputs,
            "mark": key.startswith("memo/"),
        }[kind]
        if lost:
            store.delete(key)
            removed += 1
    assert removed
    again = run(objects, job, table)
    assert again.parts == first.parts and 0 < again.computed <= first.computed
    assert run(objects, job, table).computed == 0


def test_a_damaged_selection_is_refused(folder: Path) -> None:
    store = MemoryStore()
    objects = Objects(store)
    table = text_table(objects, TEXTS)
    job = write_job(folder, "filter: {min_chars: 2}")
    run(objects, job, table)
    (key,) = [key for key, _ in store.list("objects") if store.get(key).startswith(b"pfselect")]
    store.replace(key, store.get(key)[:-1] + b"\x00")
    with pytest.raises(CorruptError, match="does not hold the bytes"):
        run(objects, write_job(folder, "filter: {min_chars: 2}", "dedup:"), table)


def test_a_failure_of_the_store_stops_the_job_and_a_rerun_ends_it(folder: Path, tmp_path: Path) -> None:
    """The disk is full after a few writes, again and again; each run adds a little to what the one before has left."""
    inner = LocalStore(tmp_path / "store", create=True)
    table = text_table(Objects(inner), TEXTS[:20], [10])
    job = write_job(folder, *FULL, target="200B")
    clean = Objects(MemoryStore())
    expected = run(clean, job, text_table(clean, TEXTS[:20], [10])).parts
    failures = 0
    while True:
        creates = 0

        def fail(_: int, method: str, key: str) -> None:
            nonlocal creates
            creates += method == "create"
            if creates > 5:
                raise UnavailableError(f"{key}: no space left")

        try:
            found = run(Objects(Faulty(inner, before=fail)), job, Manifest(Objects(inner), table.root), 1)
        except UnavailableError as error:
            failures += 1
            assert re.search("no space left", str(error))
            assert failures < 50
            continue
        break
    assert found.parts == expected
    assert failures > 2


def test_progress_names_the_steps(folder: Path) -> None:
    objects = Objects(MemoryStore())
    told: list[tuple[str, int, int | None]] = []
    spec = load_job(write_job(folder, *FULL, target="100B"))
    table = text_table(objects, TEXTS, [20, 40])
    with open_executor(2) as executor:
        run_job(objects, spec, table, executor, lambda *call: told.append(call))
    stages = list(dict.fromkeys(stage for stage, _, _ in told))
    assert stages == ["filter", "dedup: hash", "dedup: compare", "tokenize", "write: cut", "write"]
    assert all(("filter", done, 3) in told for done in range(4))


def test_the_memory_of_a_digest(folder: Path) -> None:
    """The digest of a whole job on a fixed table, frozen: it must be the same on every machine."""
    objects = Objects(MemoryStore())
    result = run(objects, write_job(folder, "filter: {min_chars: 2}", "shuffle: {seed: 7}"), text_table(objects, TEXTS))
    (part,) = result.parts
    assert (
        digest_of((part.shard + part.side).encode())
        == "f152864b3b97a2bd1bbcfa62909dfeab71617bbad2509ea3c8baf9f09f25b601"
    )
