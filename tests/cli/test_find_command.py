"""`pyfactory find`: rows, raw lines, what was dropped, and positions, as programs and as people get them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from cli_runs import Shell

from pyfactory.repo.forget import forget
from pyfactory.repo.repository import Repository
from pyfactory.shard.reader import open_side
from pyfactory.stream.find import find
from pyfactory.stream.stream import Stream


def ids_of(repo: Repository, table: str) -> list[str]:
    return [
        name
        for part in repo.version(table, "v1").parts()
        for name in open_side(repo.objects.map(part.side), "").ids.to_pylist()
    ]


def test_rows_files_and_positions_are_told(shell: Shell, repo: Path) -> None:
    """Catches: another raw line, tokens of another row, positions that are not those of `find`."""
    opened = Repository.open(repo)
    record = ids_of(opened, "corpus")[3]
    told = shell("find", repo, record, "--json").value
    first, second = told["places"]
    assert (first["table"], second["table"]) == ("corpus", "raw")
    before = opened.version("corpus").manifest.row_starts(np.array([first["shard"]])).item()
    assert before + first["row"] == 3 and first["tokens"][0] < first["tokens"][1] and first["line"] == 0
    assert second["tokens"] is None and second["file"] == f"raw-{record.split('-')[1]}.jsonl"
    assert second["line"] == int(record.split("-")[2]) + 1
    shown = shell("find", repo, record)
    assert shown.code == 0 and f"{second['file']}:{second['line']}" in shown.out and "corpus: shard" in shown.out
    options = ("--table", "corpus@v1", "--seed", 5, "--sequence-length", 16, "--global-batch", 4, "--world-size", 2)
    told = shell("find", repo, record, *options, "--json").value
    stream = Stream(opened.version("corpus", "v1"), seed=5, sequence_length=16)
    wanted = find(stream, record, global_batch=4, world_size=2).found
    assert [(one["position"], one["step"], one["lane"]) for one in told["found"]] == [
        (one.position, one.step, one.lane) for one in wanted
    ]
    assert [place["table"] for place in told["places"]] == ["corpus"] and wanted
    shown = shell("find", repo, record, *options)
    assert f"position {wanted[0].position:,}" in shown.out and "lane" in shown.out


def test_what_is_not_there_is_one_clear_sentence(shell: Shell, repo: Path) -> None:
    opened = Repository.open(repo)
    raw, corpus = ids_of(opened, "raw"), ids_of(opened, "corpus")
    ran = shell("find", repo, "no-such", "--json")
    assert ran.code == 1 and ran.error["kind"] == "not_found" and "no record 'no-such'" in ran.error["message"]
    ran = shell("find", repo, "no-such", "--table", "corpus@v1", "--seed", 1, "--sequence-length", 16, "--json")
    assert ran.code == 1 and "no record 'no-such'" in ran.error["message"]
    dropped = sorted({*raw} - {*corpus})
    for record in dropped[:3]:
        told = shell("find", repo, record, "--json").value
        assert [place["table"] for place in told["places"]] == ["raw"]
        assert [(reason["record"], reason["output"]) for reason in told["dropped"]] == [(record, "corpus")]
        assert told["dropped"][0]["detail"] in shell("find", repo, record).out
    forget(opened, [corpus[0]], "asked to", who="Ada")
    ran = shell("find", repo, corpus[0], "--json")
    assert ran.code == 1 and "forgotten" in ran.error["message"]
    ran = shell("find", repo, corpus[1], "--table", "raw", "--seed", 1, "--json")
    assert ran.code == 1 and ran.error["kind"] == "invalid_input"
