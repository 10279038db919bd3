"""The verbs of versions on the command line: branch, diff, merge, rollback, revert, undo, ops, log as a graph."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_runs import Shell

from pyfactory.repo.repository import Repository
from tests.raw_files import documents, write_records


@pytest.fixture
def parted(repo: Path, shell: Shell, tmp_path: Path) -> Path:
    """main and exp, which have each imported files into `raw` since they parted."""
    shell.done("branch", repo, "exp", "main")
    ours = write_records(tmp_path / "ours.jsonl", documents(5, 11, "ours"))
    theirs = write_records(tmp_path / "theirs.jsonl", documents(7, 12, "theirs"))
    shell.done("import", repo, "raw", ours, "--id", "id", "--columns", "n:int64", "-m", "ours")
    shell.done("import", repo, "raw", theirs, "--id", "id", "--columns", "n:int64", "--branch", "exp", "-m", "theirs")
    return repo


def test_merge_and_its_graph(parted: Path, shell: Shell) -> None:
    rows = Repository.open(parted).version("raw").rows
    assert shell.done("merge", parted, "exp", "main", "-m", "both").startswith("merged exp into main: commit ")
    assert Repository.open(parted).version("raw").rows == rows + 7
    drawn = [line.rstrip() for line in shell.done("log", parted).splitlines()]
    assert drawn[0].startswith("* ") and "(main)" in drawn[0] and drawn[1:3] == ["| |     both", "|\\"]
    assert "|/" in drawn
    assert shell.done("merge", parted, "exp", "main") == "main contains exp already\n"
    value = shell("merge", parted, "exp", "main", "--json").value
    assert (value["created"], value["digest"]) == (False, Repository.open(parted).head("main"))
    assert "merged exp (" in shell.done("show", parted)


def test_commit_takes_and_removes_tables_at_once(parted: Path, shell: Shell) -> None:
    """Catches a commit per table, a removal that is forgotten, and a REF that is not taken from where it says."""
    opened = Repository.open(parted)
    before, theirs = opened.head(), opened.version("raw", "exp")
    assert "corpus" in opened.tables()
    said = shell.done("commit", parted, "--take", "raw@exp", "--remove", "corpus", "-m", "as on exp")
    assert f"took raw from branch/exp (commit {theirs.commit[:12]})" in said and "removed corpus" in said
    commit = opened.load(opened.head())
    assert (commit.parents, commit.message) == ((before,), "as on exp")
    assert opened.tables()["raw"] == theirs.state and "corpus" not in opened.tables()
    used = {"table": "raw", "asked": "exp", "resolved": "branch/exp", "commit": theirs.commit, "version": theirs.digest}
    assert commit.made_by == {"kind": "commit", "took": [used], "removed": ["corpus"]}
    assert "took raw@branch/exp" in shell.done("show", parted) and opened.verify().problems == []
    assert shell.done("commit", parted, "--take", "raw@exp") == "nothing to do: main has just that\n"
    value = shell("commit", parted, "--take", "raw@exp", "--json").value
    assert (value["commit"], value["created"], value["took"]) == (opened.head(), False, [used])
    assert shell("commit", parted, "--take", f"raw@{before}", "--branch", "exp", "--json").value["created"]
    assert opened.version("raw", "exp").digest == opened.version("raw", before).digest


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--take", "rwa@exp"], "did you mean raw"),
        (["--take", "raw@exq"], "did you mean exp"),
        (["--take", "raw"], "TABLE@REF"),
        (["--take", "raw@exp", "--remove", "raw"], "named twice"),
        (["--remove", "corups"], "did you mean corpus"),
        (["--take", "raw@exp", "--branch", "mian"], "did you mean main"),
        ([], "no table is named"),
    ],
)
def test_commit_says_what_is_wrong(parted: Path, shell: Shell, options: list[str], said: str) -> None:
    assert said in shell.refused(parted, "commit", parted, *options)


def test_diff_counts_and_lists(parted: Path, shell: Shell) -> None:
    text = shell.done("diff", parted, "exp", "main")
    assert text.splitlines()[0] == "raw changed" and "rows: +5 -7" in text
    listed = [line for line in shell.done("diff", parted, "exp", "main", "--records").splitlines() if line[0] in "+-"]
    assert sorted(line[0] for line in listed) == ["+"] * 5 + ["-"] * 7
    value = shell("diff", parted, "exp", "main", "--records", "--json").value
    assert [table["rows_added"] for table in value["tables"]] == [5]
    assert {(each["change"], each["table"]) for each in value["records"]} == {("added", "raw"), ("removed", "raw")}
    assert shell.done("diff", parted, "main", "main") == "no table is different\n"


def test_conflicts_are_shown_and_decided(parted: Path, shell: Shell, original: Path) -> None:
    """Both sides rebuild `corpus`. Catches a conflict that prints nothing to decide it by."""
    for branch in ("main", "exp"):
        shell.done("build", parted, original / "job.yaml", "--branch", branch)
    ran = shell("merge", parted, "exp", "main")
    assert ran.code == 1 and ran.out.startswith("conflict corpus: both ")
    assert ran.out.count("conflict ") == ran.out.count("ours ") == ran.out.count("theirs ") >= 1
    assert "--ours TABLE" in ran.err
    assert shell("merge", parted, "exp", "main", "--json").error["kind"] == "merge_conflict"
    said = shell.refused(parted, "merge", parted, "exp", "main", "--ours", "corpus", "--theirs", "corpus", code=2)
    assert "both" in said
    shell.done("merge", parted, "exp", "main", "--theirs", "corpus")
    opened = Repository.open(parted)
    assert opened.tables("main")["corpus"] == opened.tables("exp")["corpus"]


def test_rollback_revert_undo_and_ops(parted: Path, shell: Shell) -> None:
    opened = Repository.open(parted)
    head, before = opened.head("main"), opened.load(opened.head("main")).parents[0]
    assert shell.done("rollback", parted, before) == f"main {before[:12]}\n"
    newest = shell.done("ops", parted, "-n", "1").splitlines()
    assert newest[0].endswith(f"tester: roll main back to {before}") and "branch/main" in newest[1]
    number = newest[0].split()[0]
    assert shell.done("undo", parted, number) == f"undid operation {number}: branch/main is at {head[:12]}\n"
    shell.done("revert", parted, head)
    assert opened.tables("main") == opened.tables(before)
    assert "took back commit" in shell.done("show", parted)
    operations = shell("ops", parted, "--json").value
    assert operations[0]["who"] == "tester" and operations[0]["changes"][0]["ref"] == "branch/main"


def test_a_branch_is_deleted_and_comes_back(parted: Path, shell: Shell) -> None:
    was = Repository.open(parted).head("exp")
    assert "undo brings it back" in shell.done("branch", parted, "exp", "--delete")
    assert shell("branch", parted, "--json").value.keys() == {"main"}
    number = Repository.open(parted).view().n
    shell.done("undo", parted, str(number))
    assert Repository.open(parted).head("exp") == was


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["merge", "exq", "main"], "'exq'"),
        (["merge", "exp", "mian"], "no branch mian"),
        (["merge", "exp", "main", "--ours", "nope"], "nope"),
        (["diff", "main", "nope"], "'nope'"),
        (["rollback", "exp"], "does not contain"),
        (["revert", "exp"], "does not contain"),
        (["undo", "9999"], "no operation 9999"),
        (["branch", "nope", "--delete"], "no branch nope"),
    ],
)
def test_what_cannot_be_done_changes_nothing(
    arguments: list[str], said: str, parted: Path, shell: Shell, original: Path
) -> None:
    assert said in shell.refused(parted, arguments[0], parted, *arguments[1:])
