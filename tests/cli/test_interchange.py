"""sql, export and import-tokens on the command line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from cli_runs import COMMAND, Shell, check_refusal

from pyfactory.repo.repository import Repository


def test_sql_shows_rows(repo: Path, shell: Shell, tmp_path: Path) -> None:
    """Catches: cells that steer the terminal; rows that are cut without a word."""
    ran = shell("sql", repo, 'select n, count(*) c from "raw@v1" group by n order by n limit 2')
    assert ran.code == 0 and [line.split() for line in ran.out.splitlines()] == [
        ["n", "c"],
        ["─" * 7],
        ["0", "2"],
        ["1", "2"],
    ]
    assert ran.err == "2 rows\n"
    ran = shell("sql", repo, "select text, _id from raw")
    assert len(ran.out.splitlines()) == 42 and "the first 40 rows" in ran.err
    ran = shell("sql", repo, "select chr(27) || '[31m[red]x' as \"[b]\", chr(10) || 'y'")
    assert "\x1b" not in ran.out and "\\x1b[31m[red]x" in ran.out and "\\ny" in ran.out
    value = json.loads(shell.done("sql", repo, "select 1 a, 2.5 a, 'x' b, null c", "--json"))
    assert value == {"columns": ["a", "a", "b", "c"], "rows": [[1, "2.5", "x", None]]}
    assert shell.done("sql", repo, "select 1 a, 'x' b", "--csv", "-") == '"a","b"\n1,"x"\n'
    shell.done("sql", repo, "select 1 a", "--csv", "out.csv")
    assert (tmp_path / "out.csv").read_text() == '"a"\n1\n'
    shell.done("sql", repo, "select n from raw order by n", "--parquet", "out.parquet")
    assert pq.read_table(tmp_path / "out.parquet").num_rows == 80


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["select * from rwa"], "no table 'rwa' at branch/main | did you mean raw?"),
        (["select nn from raw"], '"nn" not found in FROM clause! | Candidate bindings: "n"'),
        (["drop table raw"], "this SQL is not a query"),
        (["select * from read_csv('/etc/passwd')"], "disabled by configuration"),
        (["select 1", "--csv", "a", "--parquet", "b"], "one form"),
        (["select [1] l", "--csv", "-"], "column 'l' is a list"),
        (["select 1", "--csv", "nowhere/a.csv"], "nowhere/a.csv: no such file or folder"),
    ],
)
def test_sql_refuses(repo: Path, shell: Shell, arguments: list[str], said: str) -> None:
    assert said in shell.refused(repo, "sql", repo, *arguments)


def test_ctrl_c_ends_a_query(repo: Path) -> None:
    """Catches: a command that hangs in DuckDB, or dies with a trace."""
    sql = "select count(*) from range(100000000) a(x), range(100000) b(y) where x * y = 5 and x + y = 7"
    running = subprocess.Popen([*COMMAND, "sql", str(repo), sql], stderr=subprocess.PIPE, text=True)
    folder = Repository.open(repo).store.staging().parent
    deadline = time.monotonic() + 60
    while not [*folder.rglob("query-*")] and running.poll() is None and time.monotonic() < deadline:
        os.sched_yield()
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=60)
    assert (running.returncode, err.splitlines()[0]) == (1, "error: interrupted"), err
    assert "Traceback" not in err and "nanobind" not in err
    assert not [*folder.rglob("query-*")]


def test_export(repo: Path, shell: Shell, tmp_path: Path) -> None:
    ran = shell("export", repo, "raw@v1", "out")
    assert ran.code == 0 and ran.out.startswith("exported 80 rows of raw to out: 1 file, ")
    value = json.loads(shell.done("export", repo, "raw@v1", "out.parquet", "--ids", "--json"))
    assert (value["rows"], value["files"], value["table"]) == (80, 1, "raw")
    assert pq.read_schema(tmp_path / "out.parquet").names == ["text", "n", "_id", "_file", "_line"]
    assert "is there already" in shell.refused(repo, "export", repo, "raw", "out")
    shell.done("export", repo, "raw", "out", "--overwrite")
    assert "no table 'rwa'" in shell.refused(repo, "export", repo, "rwa", "new")


def test_import_tokens(repo: Path, shell: Shell, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([1, 2, 0, 3, 0, 4], np.uint16))
    (tmp_path / "a.bin").write_bytes(np.array([1, 2, 0, 3], "<u4").tobytes())
    command = ("import-tokens", repo, "tokens", "a.npy", "--format", "npy", "--eos", "0")
    ran = shell(*command)
    assert "imported 6 tokens in 3 documents from 1 file into tokens\n" in ran.out
    assert "nothing to do" in shell.done(*command)
    told = shell.done("import-tokens", repo, "flat", "a.bin", "--format", "bin", "--dtype", "uint32")
    assert "nothing says where documents end" in told
    value = json.loads(
        shell.done(
            "import-tokens", repo, "tokens", "a.bin", "--format", "bin", "--dtype", "uint32", "--eos", "0", "--json"
        )
    )
    assert (value["tokens"], value["all_tokens"], value["width"], value["vocab_size"]) == (4, 10, 1, 5)
    for arguments, said in (
        (["a.bin", "--format", "bin"], "give their dtype"),
        (["absent.npy", "--format", "npy"], "no such file"),
        (["a.bin", "--format", "npy"], "not an .npy file"),
        (["a.bin", "--format", "megatron"], "a.idx: no such file"),
        (["a.npy", "--format", "npy", "--vocab-size", "4"], "token 5, at byte 138, is not below 4"),
    ):
        assert said in shell.refused(repo, "import-tokens", repo, "other", *arguments)
    check_refusal(shell("import-tokens", repo, "other", "a.npy", "--format", "csv"), 2)
