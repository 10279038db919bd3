"""What a hostile user may type or have on disk: one clear sentence with place and remedy, and nothing is changed."""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from cli_runs import Shell

from pyfactory.repo.repository import Repository
from tests.raw_files import documents, write_records

LINES = b"".join(json.dumps(record).encode() + b"\n" for record in documents(300, 3))


def cut(packed: bytes) -> bytes:
    return packed[: len(packed) // 2]


FILES: list[tuple[str, bytes | None, str]] = [
    ("none.jsonl", None, "none.jsonl: no such file"),
    ("empty.jsonl", b"", "empty.jsonl is empty"),
    ("empty.txt", b"", "empty.txt:1: the file is empty"),
    ("text.jsonl", b'{"text":"a"}\nnot json\n', "text.jsonl:2: not valid JSON: .* at character 1"),
    ("list.json", b'[\n{"text":"a"}\n]\n', "list.json:1: .*each line must be a whole object"),
    ("latin.jsonl", b'{"text":"caf\xe9"}\n', "latin.jsonl:1: not valid UTF-8 at byte 13"),
    ("latin.txt", b"caf\xe9\n", "latin.txt:1: not valid UTF-8 at byte 4"),
    ("utf16.jsonl", '{"text":"a"}\n'.encode("utf-16"), "utf16.jsonl holds UTF-16 text.*convert it to UTF-8"),
    ("field.jsonl", b'{"txt":"a"}\n', "field.jsonl:1: no field 'text': there is 'txt'"),
    ("number.jsonl", b'{"text":"a"}\n{"text":5}\n', "number.jsonl:2: field 'text' is a number, not a string"),
    ("null.jsonl", b'{"text":null}\n', "null.jsonl:1: field 'text' is null"),
    ("cut.jsonl.gz", cut(gzip.compress(LINES)), "cut.jsonl.gz:[0-9]+: the gzip stream is cut off.*restore"),
    ("cut.jsonl.zst", cut(zstandard.compress(LINES)), "cut.jsonl.zst:[0-9]+: the zstd stream is cut off.*restore"),
    ("packed.jsonl", gzip.compress(LINES), r"packed.jsonl holds gzip.*end in \.jsonl\.gz"),
    ("packed.ndjson", zstandard.compress(LINES), r"packed.ndjson holds zstd.*end in \.jsonl\.zst"),
    ("plain.jsonl.gz", LINES, "plain.jsonl.gz:1: the gzip stream is damaged.*must not be called so"),
    ("plain.jsonl.zst", LINES, "plain.jsonl.zst:1: the zstd stream is damaged.*must not be called so"),
    ("plain.parquet", LINES, "plain.parquet is not a readable Parquet file"),
    ("docs.tar", b"tar", "docs.tar is packed in a way that is not read here"),
]


@pytest.mark.parametrize(("name", "content", "message"), FILES, ids=[name for name, *_ in FILES])
def test_bad_files(shell: Shell, repo: Path, tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    assert re.search(message, shell.refused(repo, "import", repo, "notes", name))


def test_a_file_of_another_kind_is_not_skipped_as_a_bad_line(shell: Shell, repo: Path, tmp_path: Path) -> None:
    """Catches a misnamed file whose thousands of records are lost as one or two bad ones."""
    write_records(tmp_path / "good.jsonl", documents(3, 1))
    (tmp_path / "packed.jsonl").write_bytes(gzip.compress(LINES))
    said = shell.refused(repo, "import", repo, "notes", "good.jsonl", "packed.jsonl", "--on-bad-record", "skip")
    assert "packed.jsonl holds gzip" in said
    (tmp_path / "words.jsonl").write_text("no json at all\nnor here\n")
    said = shell.refused(repo, "import", repo, "notes", "words.jsonl", "--on-bad-record", "skip")
    assert "all 2 records were skipped" in said


def test_bad_folders(shell: Shell, repo: Path, tmp_path: Path) -> None:
    (tmp_path / "empty" / "nested").mkdir(parents=True)
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n\xff")
    assert "no files match '*' in empty" in shell.refused(repo, "import", repo, "notes", "empty")
    assert "images/a.png:1: not valid UTF-8" in shell.refused(repo, "import", repo, "notes", "images")
    assert "no files match '*.x' in images" in shell.refused(repo, "import", repo, "notes", "images", "--glob", "*.x")
    assert "/dev/null is neither" in shell.refused(repo, "import", repo, "notes", "/dev/null")


def test_a_file_name_that_is_not_utf8(shell: Shell, repo: Path, tmp_path: Path) -> None:
    name = os.fsdecode(bytes(tmp_path) + b"/b\xff.jsonl")
    write_records(Path(name), documents(3, 1))
    assert r"b\xff.jsonl' is not valid UTF-8 | rename the file" in shell.refused(repo, "import", repo, "notes", name)
    assert "is not valid Unicode text" in shell.refused(repo, "import", repo, "raw", name, "-m", "\udcff")
    made = shell("init", os.fsdecode(b"r\xff"))
    assert made.code == 0 and r"import r\udcff raw" in made.out


def test_ids_that_occur_twice(shell: Shell, repo: Path, tmp_path: Path) -> None:
    twice = write_records(tmp_path / "twice.jsonl", [{"text": f"{n}", "id": f"{n % 2}"} for n in range(3)])
    said = shell.refused(repo, "import", repo, "notes", twice, "--id", "id")
    assert "id '0' occurs twice" in said and "twice.jsonl:1 and" in said and "twice.jsonl:3" in said
    again = write_records(tmp_path / "again.jsonl", [{"text": "new", "id": "doc-1-3", "n": 1}])
    said = shell.refused(repo, "import", repo, "raw", again, "--id", "id", "--columns", "n:int64")
    assert "id 'doc-1-3' of" in said and "again.jsonl:1 is in the table already" in said


def test_options_that_do_not_fit(shell: Shell, repo: Path, original: Path) -> None:
    raw = original / "raw-1.jsonl"
    for arguments, message, code in (
        (["--columns", "n:float16"], "column 'n:float16' has no known type", 1),
        (["--columns", "n:string"], "raw-1.jsonl:1: field 'n' is a number", 1),
        (["--columns", "nn"], "no record has the field 'nn': there is 'n' | check the names in --columns", 1),
        (["--id", "name"], "raw-1.jsonl:1: no id in field 'name': there is 'id', ", 1),
        (["--text", ""], "the option text is empty", 1),
        (["--workers", "0"], "--workers", 2),
        (["--on-bad-record", "ignore"], "--on-bad-record", 2),
        (["--branch", "nope"], "there is no branch nope | there is main", 1),
        (["--branch", "mian"], "there is no branch mian | did you mean main?", 1),
    ):
        assert message in shell.refused(repo, "import", repo, "notes", raw, *arguments, code=code)


def test_other_columns_are_refused_before_anything_is_read(shell: Shell, repo: Path, tmp_path: Path) -> None:
    """Catches the check at the end of a long import: this file would fail as soon as it was read."""
    (tmp_path / "bad.jsonl").write_text("no json\n")
    said = shell.refused(repo, "import", repo, "raw", "bad.jsonl")
    assert "table 'raw' has the columns text large_string, n int64 and the import text large_string" in said
    assert "| give --columns n:int64, or choose another table" in said
    assert "| choose another table" in shell.refused(repo, "import", repo, "corpus", "bad.jsonl")
    write_records(tmp_path / "plain.jsonl", documents(3, 1))
    shell.done("import", repo, "plain", "plain.jsonl")
    said = shell.refused(repo, "import", repo, "plain", "bad.jsonl", "--columns", "n")
    assert "| leave --columns out, or choose another table" in said


def test_a_field_that_no_record_has(shell: Shell, repo: Path, tmp_path: Path) -> None:
    """Catches a hint that names no field, or says that there is none of a name that all records have, as null."""
    records = [{"text": f"{n}", "empty": None, "source": "web"} for n in range(3)]
    pq.write_table(pa.table({"text": ["a"], "empty": pa.nulls(1, pa.string()), "source": ["web"]}), "a.parquet")
    (tmp_path / "a.jsonl").write_bytes(b"\xef\xbb\xbf" + b"".join(json.dumps(one).encode() + b"\n" for one in records))
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(b'no json\n{"text":"a","source":"web"}\n'))
    said = shell.refused(repo, "import", repo, "notes", "a.jsonl", "--columns", "sorce")
    assert "no record has the field 'sorce': there is 'source' | check" in said
    skip = ("--on-bad-record", "skip")
    said = shell.refused(repo, "import", repo, "notes", "b.jsonl.gz", "--columns", "zzz", *skip)
    assert "no record has the field 'zzz': there is 'text', 'source'" in said
    for name in ("a.jsonl", "a.parquet"):
        said = shell.refused(repo, "import", repo, "notes", name, "--columns", "empty,source")
        assert "the field 'empty' is null in every record | leave it out of --columns" in said


NAMES = [
    "..",
    "a..b",
    "/a",
    "a//b",
    "a/",
    "",
    " ",
    "a b",
    "a@b",
    "-x",
    "é",
    "a\0b",
    "a\nb",
    "n" * 300,
    "a.lock",
    "main@v1",
]


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_names_that_are_none(shell: Shell, repo: Path, original: Path, name: str) -> None:
    """Nothing of that name is made, and the import does not begin: its file does not exist."""
    assert "a branch cannot be called " in shell.refused(repo, "branch", repo, "--", name)
    assert "a tag cannot be called " in shell.refused(repo, "tag", repo, "--", name)
    said = shell.refused(repo, "import", repo, "--", name, "none.jsonl")
    assert "a table cannot be called " in said and len(said) < 400


def test_names_that_are_taken(shell: Shell, repo: Path) -> None:
    shell.done("branch", repo, "dev")
    assert "tag/v1 exists already: it names " in shell.refused(repo, "tag", repo, "v1")
    assert "branch/dev exists already: it names " in shell.refused(repo, "branch", repo, "dev", "v1")
    # Else no command without a ref would work any more.
    assert "a tag cannot be called 'main'" in shell.refused(repo, "tag", repo, "main")


def test_what_does_not_exist(shell: Shell, repo: Path) -> None:
    seed = ["--seed", "1"]
    for arguments, message in (
        (["log", repo, "mian"], "no branch, tag or commit 'mian' | did you mean main?"),
        (["show", repo, "v2"], "no branch, tag or commit 'v2' | did you mean v1?"),
        (["tag", repo, "v2", "v11"], "no branch, tag or commit 'v11' | did you mean v1?"),
        (["branch", repo, "dev", "zzz"], "no branch, tag or commit 'zzz' | there is main, v1"),
        (["sample", repo, "corpsu", *seed], "there is no table 'corpsu' at main | did you mean corpus?"),
        (["sample", repo, "corpus@v7", *seed], "no branch, tag or commit 'v7'"),
        (["sample", repo, "@v1", *seed], "there is no table '' at v1"),
        (["sample", repo, "raw", *seed], "table 'raw' holds no tokens"),
        (["trace", "none.pt"], "there is no /"),
        (["trace", repo], "pyfactory.json"),
        (["build", repo, "none.yaml"], "none.yaml: no such file"),
        (["build", repo, repo], "Is a directory"),
    ):
        assert message in shell.refused(repo, *arguments)


def test_streams_that_cannot_be(shell: Shell, repo: Path) -> None:
    for arguments, message in (
        (["--sequence-length", "0"], "sequence_length is 0 | it must be an integer from 1"),
        (["--sequence-length", "-3"], "sequence_length is -3"),
        (["--sequence-length", "99999999"], "tokens do not fill one sample of 99999999 | .*below"),
        (["--sequence-length", str(10**30)], "sequence_length is 1000"),
        (["--position", "-1"], "there is no position -1 |"),
        (["--position", str(2**62)], f"there is no position {2**62} | positions are 0 to 2^62 - 1"),
        (["--position", str(2**63 - 1)], f"there is no position {2**63 - 1} |"),
        (["--position", str(2**63)], "positions are not integers below 2^62"),
        (["--position", str(10**30)], "positions are not integers below 2^62"),
        (["--block-size", "0"], "block_size is 0"),
        (["--window", str(10**12)], "window is 1000"),
    ):
        said = shell.refused(repo, "sample", repo, "corpus", "--seed", "1", *arguments)
        assert re.search(re.escape(message).replace(re.escape(".*"), ".*"), said), said
    for seed in ("-1", str(2**64)):
        assert f"the seed is {seed} | " in shell.refused(repo, "sample", repo, "corpus", "--seed", seed)
    assert "--seed is missing: give" in shell.refused(repo, "sample", repo, "corpus", code=2)
    assert "the table is missing: give" in shell.refused(repo, "stream", "stats", repo, "--seed", "1", code=2)
    Path("training.yaml").write_text("")
    said = shell.refused(repo, "sample", "training.yaml", "corpus", code=2)
    assert "training.yaml tells the stream whole: leave out" in said
    last = shell("sample", repo, "corpus", "--seed", str(2**64 - 1), "--sequence-length", "8", "--position", 2**62 - 1)
    assert last.code == 0


def newer(repo: Path) -> None:
    (repo / "format.json").write_text('{"format":99,"reader":[],"writer":[]}')


def broken(repo: Path) -> None:
    (repo / "format.json").write_text('{"format":')


def lost(repo: Path) -> None:
    (repo / "format.json").unlink()


def replaced(repo: Path) -> None:
    shutil.rmtree(repo)
    repo.write_text("a file")


def removed(repo: Path) -> None:
    shutil.rmtree(repo)


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (newer, "has format 99, which this pyfactory does not know | upgrade pyfactory"),
        (broken, "format.json cannot be read"),
        (lost, "format.json is missing, though there is a log | restore it"),
        (replaced, "is not a folder"),
        (removed, "no pyfactory repository at"),
    ],
)
def test_repositories_that_cannot_be_opened(
    shell: Shell, repo: Path, original: Path, harm: Callable[[Path], None], message: str
) -> None:
    harm(repo)
    for arguments in (
        ["log", repo],
        ["show", repo],
        ["branch", repo, "dev"],
        ["tag", repo, "v2"],
        ["verify", repo],
        ["import", repo, "raw", original / "raw-1.jsonl"],
        ["build", repo, original / "job.yaml"],
        ["sample", repo, "corpus", "--seed", "1"],
    ):
        ran = shell(*arguments)
        assert (ran.code, ran.out) == (1, "") and message in ran.err.replace("\nhint:  ", " | "), ran.err


def test_places_where_no_repository_can_be(shell: Shell, repo: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place, message in (
        ("file", "file is not a folder | name a new folder"),
        ("file/below", "Not a directory"),
        (repo, "already holds a pyfactory repository"),
        ("", "is not the path of a folder"),
        ("a\0b", "is not the path of a folder"),
        ("n" * 300, "File name too long"),
        ("s4://bucket", "s4:// is not a place for a repository"),
    ):
        assert message in shell.refused(repo, "init", place)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "repository"]
    assert Repository.open(repo).tags()
