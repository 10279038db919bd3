"""The whole line, from raw files to the stream: what its values depend on, and what a commit says of them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from pyfactory.core import canonical
from pyfactory.core.digest import Digest, digest_of_file
from pyfactory.core.versions import code_versions
from pyfactory.errors import BadRecordError, ConflictError, InvalidInputError
from pyfactory.factory import build, import_files
from pyfactory.repo.repository import Repository
from pyfactory.shard.reader import open_shard, open_side
from pyfactory.stream.stream import Stream
from tests.raw_files import STEPS, TOKENIZE, documents, small_repository, write_job, write_records

FILE_BYTES = 9 << 20  # two of them are more than what files share a task for


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """A repository that no test changes."""
    return small_repository(tmp_path_factory.mktemp("line"))


def large_files(folder: Path) -> list[Path]:
    """Three files for three tasks of an import: some short records between long ones, which the job drops."""
    files = []
    for number in range(3):
        records = documents(90, number, f"doc-{number}")
        filler = "".join(record["text"] for record in records)
        for at, record in enumerate(records):
            if at % 3 == 0:
                record["text"] = f"{number} {at} " + filler * (FILE_BYTES * 3 // len(records) // len(filler) + 1)
        files.append(write_records(folder / f"raw-{number}.jsonl", records))
        assert files[-1].stat().st_size > FILE_BYTES
    return files


def digests(repo: Repository) -> tuple[Digest, dict[str, Digest]]:
    """The tree of main, and its tables."""
    tables = {name: state.digest for name, state in repo.tables("main").items()}
    return repo.load(repo.head()).tree, tables


def stored(repo: Repository, digest: str) -> Any:
    """A value among the objects."""
    return canonical.decode(repo.objects.get(Digest(digest)), digest)


def ids_and_texts(repo: Repository, table: str, ref: str = "main") -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for part in repo.version(table, ref).parts():
        ids = open_side(repo.objects.map(part.side), "side").ids.to_pylist()
        texts = open_shard(repo.objects.map(part.shard), "shard").column(0).to_pylist()
        found += zip(ids, texts, strict=True)
    return found


def by_command(repo: Path, files: Sequence[Path], job: Path, place: Path) -> Repository:
    """Do the same in processes of their own, from another folder, with hashing seeded otherwise."""
    environment = os.environ | {"PYTHONHASHSEED": "77", "TZ": "Asia/Tokyo", "PYFACTORY_AUTHOR": "somebody"}
    imported = ["import", "raw", *files, "--id", "id", "--workers", "3"]
    for name, *rest in (["init"], imported, ["build", job, "--workers", "2"]):
        program = [sys.executable, "-c", "from pyfactory.cli import main; main()"]
        command = [*program, str(name), os.path.relpath(repo, place), *map(str, rest)]
        done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, timeout=100)
        assert done.returncode == 0, done.stderr
    return Repository.open(repo)


def test_neither_workers_nor_place_nor_process_change_a_digest(tmp_path: Path) -> None:
    """Catches tasks cut by worker, parts in order of completion, a path, a time or a hash seed in a table."""
    files = large_files(tmp_path)
    job = write_job(tmp_path / "job.yaml", ("filter: {max_chars: 2000}", *STEPS))
    found = []
    for workers in (1, 2, 8):
        repo = Repository.create(tmp_path / f"repository-{workers}")
        import_files(repo, "raw", files, id="id", workers=workers)
        build(repo, job, workers=workers)
        found.append(digests(repo))
    elsewhere = tmp_path / "else" / "where"
    elsewhere.mkdir(parents=True)
    copies = [Path(shutil.copyfile(file, elsewhere / file.name)) for file in [*files, job]]
    other = by_command(elsewhere / "repository", copies[:-1], copies[-1], tmp_path)
    found.append(digests(other))
    assert found == [found[0]] * 4
    assert repo.version("raw").shards >= 3
    assert repo.version("corpus").shards >= 8
    assert other.load(other.head()).author == "somebody"


def test_an_import_says_what_it_was_made_of(line: Repository) -> None:
    """Catches a source list of one file for all, counts of the table instead of the import, options left out."""
    _, second, first = line.log()
    for commit, number in ((first, 1), (second, 2)):
        made_by = dict(commit.made_by or {})
        file = Path(line.url.removeprefix("file://")).parent / f"raw-{number}.jsonl"
        source = {"name": file.name, "digest": digest_of_file(file), "bytes": file.stat().st_size}
        assert stored(line, made_by.pop("sources")) == [{**source, "records": 60, "skipped": 0}]
        options = made_by.pop("options")
        assert {"text": "text", "id": "id", "columns": ["n:int64"], "on_bad_record": "stop"}.items() <= options.items()
        assert made_by.pop("code") == code_versions("pyfactory", "pyarrow", "orjson")
        assert made_by == {"kind": "import", "table": "raw", "records": 60, "skipped": 0, "skipped_list": None}
    assert (first.parents, second.parents) == ((), (first.digest,))


def test_a_build_says_what_it_was_made_of(line: Repository) -> None:
    """Catches an input recorded by name only, a job recorded by its path, steps without their drops."""
    commit, before, _ = line.log()
    made_by = dict(commit.made_by or {})
    job = stored(line, made_by.pop("job"))
    assert (job["kind"], job["input"], job["output"]) == ("job", "raw", "corpus")
    assert [next(iter(step)) for step in job["steps"]] == [step.partition(":")[0] for step in STEPS]
    assert job["shards"] == {"target_bytes": 8000}
    raw = line.version("raw", before.digest)
    used = {"table": "raw", "commit": before.digest, "version": raw.digest, "asked": "main", "resolved": "branch/main"}
    assert made_by.pop("inputs") == [used]
    steps = made_by.pop("steps")
    assert [step["step"] for step in steps] == [*(step.partition(":")[0] for step in STEPS), "write"]
    assert [step["rows_in"] for step in steps[1:]] == [step["rows_out"] for step in steps[:-1]]
    assert (steps[0]["rows_in"], steps[-1]["rows_out"]) == (120, line.version("corpus").rows)
    assert steps[0]["dropped"]["min_chars"] > 0 < steps[1]["dropped"]["duplicate"]
    assert all(step["rows_in"] - step["rows_out"] == sum(step["dropped"].values()) for step in steps)
    assert {"pyfactory", "python", "pyarrow", "tokenizers", "gigatoken", "numpy"} <= set(made_by.pop("code"))
    assert made_by == {"kind": "job", "output": "corpus"}


def test_a_name_that_moves_meanwhile_is_resolved_once(tmp_path: Path) -> None:
    """Catches a build that looks its input up again, for the rows or for what it records."""
    repo = Repository.create(tmp_path / "repository")
    files = [write_records(tmp_path / f"{seed}.jsonl", documents(20, seed, f"doc-{seed}")) for seed in (1, 2)]
    before = import_files(repo, "raw", files[:1], id="id").commit
    repo.branch("side")
    job = write_job(tmp_path / "job.yaml", source="raw@side")
    moved: list[str] = []

    def move(stage: str, done: int, total: int | None) -> None:
        if not moved:
            moved.append(import_files(Repository.open(tmp_path / "repository"), "raw", files[1:], branch="side").commit)

    report = build(repo, job, progress=move)
    assert repo.head("side") == moved[0] != before
    assert repo.load(Digest(report.commit)).made_by["inputs"] == [  # type: ignore[index]
        {"table": "raw", "commit": before, "version": report.input_version, "asked": "side", "resolved": "branch/side"}
    ]
    assert (report.steps[0]["rows_in"], report.input_version) == (20, repo.version("raw", before).digest)
    assert build(repo, job).steps[0]["rows_in"] == 40


def test_what_others_commit_meanwhile_stays(tmp_path: Path) -> None:
    """Catches a commit that undoes another one's, and a conflict over tables that nobody else touched."""
    repo = Repository.create(tmp_path / "repository")
    files = [write_records(tmp_path / f"{seed}.jsonl", documents(20, seed, f"doc-{seed}")) for seed in (1, 2)]
    import_files(repo, "raw", files[:1])

    def move(stage: str, done: int, total: int | None) -> None:
        if "other" not in repo.tables():
            import_files(Repository.open(tmp_path / "repository"), "other", files[1:])

    build(repo, write_job(tmp_path / "job.yaml"), progress=move)
    assert [*repo.tables()] == ["corpus", "other", "raw"]
    assert [commit.message for commit in repo.log()][:2] == ["build corpus from raw", "import other"]


def test_a_table_that_changes_meanwhile_is_a_conflict_and_no_work_is_lost(tmp_path: Path) -> None:
    """Catches a build that overwrites what somebody else has made of its output, and a rerun that starts again."""
    repo = Repository.create(tmp_path / "repository")
    import_files(repo, "raw", [write_records(tmp_path / "a.jsonl", documents(20, 1))])
    job = write_job(tmp_path / "job.yaml")
    other = write_job(tmp_path / "other.yaml", ("filter: {min_chars: 1}",))

    def move(stage: str, done: int, total: int | None) -> None:
        if "corpus" not in repo.tables():
            build(Repository.open(tmp_path / "repository"), other)

    with pytest.raises(ConflictError, match="'corpus' on main was changed"):
        build(repo, job, progress=move)
    assert repo.tables()["corpus"].tokens == 0
    again = build(repo, job)
    assert again.computed == 0
    assert repo.tables()["corpus"].tokens > 0


@pytest.mark.parametrize("id_field", ["id", None])
def test_appending_keeps_rows_and_ids(tmp_path: Path, id_field: str | None) -> None:
    """Catches appended shards that sort before older ones, and ids from content that are given out anew."""
    repo = Repository.create(tmp_path / "repository")
    seen: list[tuple[str, str]] = []
    parts: list[object] = []
    for seed in range(4):
        records = documents(30, seed, f"doc-{seed}") + documents(5, 99, f"again-{seed}")
        import_files(repo, "raw", [write_records(tmp_path / f"{seed}.jsonl", records)], id=id_field)
        now = ids_and_texts(repo, "raw")
        assert now[: len(seen)] == seen
        assert [text for _, text in now[len(seen) :]] == [record["text"] for record in records]
        assert [*repo.version("raw").parts()][: len(parts)] == parts
        seen, parts = now, [*repo.version("raw").parts()]
    assert len({id_ for id_, _ in seen}) == len(seen) == 4 * 35


def test_a_rebuild_after_an_append_works_on_what_is_new_only(tmp_path: Path, line: Repository) -> None:
    """Catches tasks named by the table, the commit or their place in it; and a table that depends on its past."""
    tokenizer = line.version("corpus").artifacts["tokenizer"]
    (tmp_path / "tokenizer.json").write_bytes(line.objects.get(tokenizer))
    tokenize = TOKENIZE.replace("{", "{tokenizer: tokenizer.json, ")
    job = write_job(
        tmp_path / "job.yaml", ("filter: {min_chars: 40}", "dedup: {method: exact}", tokenize), target="4KB"
    )
    repo, fresh = (Repository.create(tmp_path / name) for name in ("repository", "fresh"))
    for seed in range(3):
        source = write_records(tmp_path / f"{seed}.jsonl", documents(30, seed, f"doc-{seed}"))
        for each in (repo, fresh):
            import_files(each, "raw", [source], id="id")
        if seed == 1:
            first = build(repo, job)
    second = build(repo, job)
    assert first.reused == 0 < first.computed
    kept = repo.version("corpus", first.commit).shards - 1  # the last one takes up new rows, if one fits
    assert second.reused in (3 * 2 + kept, 3 * 2 + kept + 1)
    rebuilt = build(fresh, job)
    assert (rebuilt.reused, rebuilt.version) == (0, second.version)
    again = build(repo, job)
    assert (again.computed, again.created, again.commit) == (0, False, second.commit)


def test_the_same_file_in_another_table_is_stored_once(tmp_path: Path) -> None:
    """Catches a shard, side or source list that says which table, commit or moment it was made for."""
    repo = Repository.create(tmp_path / "repository")
    source = write_records(tmp_path / "raw.jsonl", documents(50, 1))
    import_files(repo, "raw", [source])
    before = {key for key, _ in repo.store.list("objects")}
    report = import_files(repo, "copy", [source])
    commit = repo.load(Digest(report.commit))
    new = {key for key, _ in repo.store.list("objects")} - before
    assert new == {repo.objects.key(commit.digest), repo.objects.key(commit.tree)}
    assert repo.version("copy").digest == repo.version("raw").digest


def test_an_id_that_is_taken_is_refused(tmp_path: Path) -> None:
    """Catches ids that are compared within one import only, and a commit that is made all the same."""
    repo = Repository.create(tmp_path / "repository")
    import_files(repo, "raw", [write_records(tmp_path / "one.jsonl", documents(20, 1))], id="id")
    head = repo.head()
    twice = write_records(tmp_path / "two.jsonl", [*documents(20, 2, "new"), documents(20, 3)[7]])
    with pytest.raises(InvalidInputError, match=r"'doc-7' of .*two\.jsonl:21 is in the table already \(from line 8 of"):
        import_files(repo, "raw", [twice], id="id")
    assert (repo.head(), repo.version("raw").rows, repo.verify().problems) == (head, 20, [])
    assert import_files(repo, "other", [twice], id="id").rows == 21


def test_a_name_that_no_table_may_have_is_refused_before_the_work(tmp_path: Path) -> None:
    """Catches a check that comes with the commit, hours later."""
    repo = Repository.create(tmp_path / "repository")
    source = write_records(tmp_path / "raw.jsonl", documents(5, 1))
    import_files(repo, "raw", [source])
    before = [*repo.store.list("")]
    with pytest.raises(InvalidInputError, match="a table cannot be called 'a/b'"):
        import_files(repo, "a/b", [source])
    with pytest.raises(InvalidInputError, match="a table cannot be called 'a/b'"):
        build(repo, write_job(tmp_path / "job.yaml", output="a/b"))
    assert [*repo.store.list("")] == before


def test_bad_records_stop_an_import_or_are_counted_for_ever(tmp_path: Path) -> None:
    """Catches a commit that forgets what was skipped, and records of a refused import that get in."""
    good = [json.dumps(record) for record in documents(10, 1)]
    source = tmp_path / "raw.jsonl"
    source.write_text("\n".join([*good[:4], "{", *good[4:], '{"text": 5}', ""]))
    repo = Repository.create(tmp_path / "repository")
    with pytest.raises(BadRecordError, match=r"raw\.jsonl:5: not valid JSON"):
        import_files(repo, "raw", [source])
    assert (repo.branches(), repo.verify().problems) == ({}, [])
    report = import_files(repo, "raw", [source], on_bad_record="skip")
    assert (report.records, report.skipped, report.rows) == (10, 2, 10)
    made_by = repo.load(Digest(report.commit)).made_by or {}
    assert (made_by["records"], made_by["skipped"], made_by["options"]["on_bad_record"]) == (10, 2, "skip")
    assert [(bad["file"], bad["line"]) for bad in stored(repo, made_by["skipped_list"])] == [
        (source.name, 5),
        (source.name, 12),
    ]
    assert [(file["records"], file["skipped"]) for file in stored(repo, made_by["sources"])] == [(10, 2)]


@pytest.mark.parametrize("recipe", [{"sequence_length": 64}, {"sequence_length": 250, "block_size": 6, "window": 4}])
def test_the_size_of_shards_changes_no_stream(tmp_path: Path, line: Repository, recipe: dict[str, int]) -> None:
    """Catches an order that is keyed by a digest, and samples that end where a shard does."""
    folder = Path(line.url.removeprefix("file://"))
    repo = Repository.open(shutil.copytree(folder, tmp_path / "repository"))
    streams = [Stream(line.version("corpus"), seed=7, **recipe)]
    for target in ("1KB", "100KB", "1MB"):
        report = build(repo, write_job(tmp_path / "job.yaml", target=target))
        streams.append(Stream(repo.version("corpus", report.commit), seed=7, **recipe))
    assert len({stream.version.shards for stream in streams}) >= 3
    assert len({stream.version.digest for stream in streams}) == len(streams) - 1  # 100KB and 1MB are both one shard
    assert len({stream.digest(0, 2 * len(streams[0])) for stream in streams}) == 1
    assert Stream(line.version("corpus"), seed=8, **recipe).digest(0, 9) != streams[0].digest(0, 9)
