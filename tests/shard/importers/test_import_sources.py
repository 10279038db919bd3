"""Which files are read, in which order, and how they are cut into tasks."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyfactory.errors import InvalidInputError, NotFoundError
from pyfactory.shard.importers.sources import Compression, Format, SourceFile, expand, group


def touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def test_a_folder_is_its_visible_files_sorted_by_path(tmp_path: Path) -> None:
    """Catches sorting by folder first (`b/z` before `b.txt`), and hidden names that slip in."""
    touch(tmp_path / "in", "b/z.txt", "b.txt", "a.txt", ".hidden", ".git/config", "b/.x", "b/c/d.jsonl")
    files = expand([tmp_path / "in"])
    assert [file.member for file in files] == ["a.txt", "b.txt", "b/c/d.jsonl", "b/z.txt"]
    assert [file.name for file in files] == ["in/a.txt", "in/b.txt", "in/b/c/d.jsonl", "in/b/z.txt"]
    assert files[2].path == tmp_path / "in" / "b" / "c" / "d.jsonl"


def test_glob_matches_the_name_and_not_the_path(tmp_path: Path) -> None:
    touch(tmp_path, "a/x.txt", "a/y.jsonl", "z.txt")
    assert [file.member for file in expand([tmp_path], "*.txt")] == ["a/x.txt", "z.txt"]
    assert [file.member for file in expand([tmp_path / "a" / "y.jsonl"], "*.txt")] == ["y.jsonl"]
    with pytest.raises(InvalidInputError, match=r"no files match '\*.pdf'"):
        expand([tmp_path], "*.pdf")


def test_the_folder_one_stands_in_has_a_name_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path / "docs", "a.txt")
    monkeypatch.chdir(tmp_path / "docs")
    assert [file.name for file in expand([Path(), Path("../docs"), Path("a.txt")])] == [
        "docs/a.txt",
        "docs/a.txt",
        "a.txt",
    ]


@pytest.mark.parametrize(
    ("name", "format_", "compression"),
    [
        ("a.jsonl", Format.JSONL, Compression.NONE),
        ("a.NDJSON", Format.JSONL, Compression.NONE),
        ("a.json.gz", Format.JSONL, Compression.GZIP),
        ("a.b.jsonl.ZST", Format.JSONL, Compression.ZSTD),
        ("a.parquet", Format.PARQUET, Compression.NONE),
        ("a.md", Format.TEXT, Compression.NONE),
        ("jsonl", Format.TEXT, Compression.NONE),
    ],
)
def test_the_name_tells_the_format(tmp_path: Path, name: str, format_: Format, compression: Compression) -> None:
    touch(tmp_path, name)
    (file,) = expand([tmp_path / name])
    assert (file.format, file.compression, file.size) == (format_, compression, 1)


@pytest.mark.parametrize("name", ["a.txt.gz", "a.jsonl.bz2", "a.zip", "a.parquet.zst"])
def test_unknown_packing_is_refused(tmp_path: Path, name: str) -> None:
    touch(tmp_path, name)
    with pytest.raises(InvalidInputError, match="packed"):
        expand([tmp_path])


def test_what_cannot_be_read_is_told_before_anything_is(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="nothing to import"):
        expand([])
    with pytest.raises(NotFoundError, match="absent"):
        expand([tmp_path / "absent"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidInputError, match="no files match"):
        expand([tmp_path / "empty"])
    (tmp_path / "void.jsonl").touch()
    with pytest.raises(InvalidInputError, match=r"void\.jsonl is empty"):
        expand([tmp_path])
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InvalidInputError, match="neither a regular file nor a folder"):
        expand([tmp_path / "pipe"])
    bad_name = Path(os.fsdecode(bytes(tmp_path) + b"/\xff.txt"))
    bad_name.write_bytes(b"x")
    with pytest.raises(InvalidInputError, match="not valid UTF-8"):
        expand([bad_name])


def test_a_repository_is_no_folder_of_documents(tmp_path: Path) -> None:
    """Catches objects that are imported as texts: of the folder itself, of one above it and of one below."""
    touch(tmp_path / "work", "a.txt", "repo/format.json", "repo/log/0", "repo/objects/ab/cd", "log/b", "c/format.json")
    (tmp_path / "link").symlink_to(tmp_path / "work" / "repo" / "objects")
    for source in ("work", "work/repo", "work/repo/objects/ab", "link"):
        with pytest.raises(InvalidInputError, match=r"of the pyfactory repository .*/work/repo,.*neither hold"):
            expand([tmp_path / source])
    assert len(expand([tmp_path / "work" / "log", tmp_path / "work" / "c"])) == 2


def test_links_are_followed_to_files_only(tmp_path: Path) -> None:
    """A link to a folder could lead back up, for ever; one to nothing would be records silently lost."""
    touch(tmp_path / "in", "a.txt")
    (tmp_path / "in" / "b.txt").symlink_to(tmp_path / "in" / "a.txt")
    (tmp_path / "in" / "loop").symlink_to(tmp_path / "in")
    assert [file.member for file in expand([tmp_path / "in"])] == ["a.txt", "b.txt"]
    (tmp_path / "in" / "c.txt").symlink_to(tmp_path / "nowhere")
    with pytest.raises(NotFoundError, match=r"c\.txt is a link"):
        expand([tmp_path / "in"])


def source(size: int) -> SourceFile:
    return SourceFile(Path("x"), "x", "x", Format.TEXT, Compression.NONE, size, 0)


@given(st.lists(st.integers(0, 50_000)), st.integers(1, 100_000))
def test_tasks_are_neighbours_up_to_the_target(sizes: list[int], target: int) -> None:
    """Nothing is lost or moved; a task is alone or within the target; no two neighbours would fit into one."""
    files = [source(size) for size in sizes]
    tasks = group(files, target)
    assert [file for task in tasks for file in task.files] == files
    costs = [sum(-(-file.size // 4096) * 4096 for file in task.files) for task in tasks]
    for number, task in enumerate(tasks):
        assert task.number == number
        assert files[task.first] is task.files[0]
        assert len(task.files) == 1 or costs[number] <= target
        if number:
            assert costs[number - 1] + -(-task.files[0].size // 4096) * 4096 > target
