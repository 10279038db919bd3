"""`pyfactory find`: rows, raw lines, what was dropped, and positions, as programs and as people get them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from cli_runs import Shell, check_refusal

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


def training_file(repo: Path) -> Path:
    (repo.parent / "recipe.yaml").write_text("sequence_length: 16\n")
    keys = {"repository": repo.name, "table": "corpus", "version": "v1", "seed": 5, "recipe": "recipe.yaml"}
    keys |= {"global_batch": 4}
    path = repo.parent / "training.yaml"
    path.write_text("".join(f"{key}: {value}\n" for key, value in keys.items()))
    return path


def test_a_training_file_tells_train_steps_and_what_was_searched_is_told(shell: Shell, repo: Path) -> None:
    """Catches: a global batch of the file that is ignored, one on the command line that is, an epoch taken for all."""
    record, file = ids_of(Repository.open(repo), "corpus")[3], training_file(repo)
    told = shell("find", file, record, "--json").value
    samples = len(Stream(Repository.open(repo).version("corpus", "v1"), seed=5, sequence_length=16))
    assert told["found"] and all(one["step"] == one["position"] // 4 for one in told["found"])
    assert told["searched"] == [[0, samples]]
    told = shell("find", file, record, "--global-batch", 2, "--json").value
    assert all(one["step"] == one["position"] // 2 for one in told["found"])
    assert f"searched positions [0, {samples:,}); --stop N for more\n" in shell.done("find", file, record)
    assert "searched positions [2, 7)\n" in shell.done("find", file, record, "--start", 2, "--stop", 7)


def test_options_that_would_say_nothing_are_refused(shell: Shell, repo: Path) -> None:
    for option in (["--start", 0], ["--stop", 9], ["--global-batch", 4], ["--world-size", 2], ["--strided"]):
        said = check_refusal(shell("find", repo, "x", *option), 2)
        assert f"{option[0]} speaks of a stream: give --seed N" in said
    for option in (["--world-size", 2], ["--strided"]):
        said = check_refusal(shell("find", repo, "x", "--seed", 1, *option), 2)
        assert f"{option[0]} speaks of train steps: give --global-batch" in said


def test_a_training_file_that_is_not_there_and_positions_that_are_not(shell: Shell, repo: Path) -> None:
    for command in (["find", "no.yaml", "x"], ["sample", "no.yml"], ["stream", "stats", "no.yaml"]):
        assert "no such file: no." in check_refusal(shell(*command))
    stats = ("stream", "stats", repo, "corpus", "--seed", 1, "--sequence-length", 16, "--until")
    assert "positions are 0 to 2^62 - 1" in check_refusal(shell(*stats, 2**62 + 1))
    assert "nothing to count before position 0" in check_refusal(shell(*stats, 0))
