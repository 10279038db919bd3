"""The command line as people and programs use it: the whole line, JSON, exit codes, pipes, completion."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from cli_runs import COMMAND, ESCAPE, Shell, check_refusal, program

from pyfactory.ledger import Run
from pyfactory.loader.loader import DataLoader
from pyfactory.repo.repository import Repository
from pyfactory.stream.stream import Stream
from tests.raw_files import documents, write_job, write_records

COMMANDS = ["init", "import", "build", "log", "show", "branch", "tag", "verify", "sample", "trace", "doctor", "demo"]
SAMPLE = ["corpus@v1", "--seed", "7", "--sequence-length", "32"]


def a_checkpoint(repo: Path, folder: Path) -> Path:
    """A checkpoint of a run that saw two train steps."""
    opened = Repository.open(repo)
    stream = Stream(opened.version("corpus", "v1"), seed=7, sequence_length=32)
    checkpoint = folder / "model.pt"
    with DataLoader(stream, global_batch=4) as loader, Run(opened, loader) as run:
        batches = iter(loader)
        next(batches), next(batches)
        checkpoint.write_bytes(b"weights")
        run.checkpoint(checkpoint)
    return checkpoint


def test_the_whole_line(shell: Shell, tmp_path: Path) -> None:
    """Each command once, as the README shows it, and what a newcomer reads."""
    raw = write_records(tmp_path / "docs.jsonl", documents(60, 1))
    job = write_job(tmp_path / "job.yaml")
    assert "next: pyfactory import repo raw FILES" in shell.done("init", "repo")
    assert "imported 60 records from 1 file into raw\n" in shell.done("import", "repo", "raw", raw, "-m", "first docs")
    built = shell.done("build", "repo", job, "-m", "tokens")
    assert "input raw@branch/main = " in built and "  dedup: " in built and " duplicate)" in built
    assert "reused" in built and " tokens, " in built
    assert "nothing changed" in shell.done("build", "repo", job)
    assert shell.done("tag", "repo", "v1", "main", "-m", "release").startswith("v1 ")
    assert shell.done("branch", "repo", "dev").startswith("dev ")
    assert [line.split()[0] for line in shell.done("branch", "repo").splitlines()] == ["dev", "main"]
    log = shell.done("log", "repo").splitlines()
    assert "(dev, main, tag v1)" in log[0] and log[0].endswith(" tester")
    assert (log[1], log[3]) == ("    tokens", "    first docs")
    assert len(shell.done("log", "repo", "-n", "1").splitlines()) == 2
    shown = shell.done("show", "repo", "v1")
    assert "(tag/v1)" in shown and "raw " in shown and "60 rows" in shown and "built by job " in shown
    sampled = shell.done("sample", "repo", *SAMPLE, "--position", "3")
    assert "position 3: epoch 0" in sampled and "address: shard " in sampled and "── record b3:" in sampled
    assert "all is well" in shell.done("verify", "repo")
    traced = shell.done("trace", a_checkpoint(tmp_path / "repo", tmp_path))
    assert "saw 256 tokens in 8 samples" in traced and "(tag v1)" in traced and "from 1 raw file\n" in traced
    doctor = shell.done("doctor", "repo")
    assert "extension" in doctor and "1 tags" not in doctor and "2 branches, 1 tag" in doctor


def test_every_command_speaks_json(shell: Shell, repo: Path, original: Path, tmp_path: Path) -> None:
    """Catches a command that prints a line for people, or progress, among its JSON."""
    more = write_records(tmp_path / "more.jsonl", documents(9, 5, "more"))
    job = write_job(tmp_path / "job.yaml", ("filter: {min_chars: 500}",), output="long")
    checkpoint = a_checkpoint(repo, tmp_path)
    value = {}
    for name, *rest in (
        ("init", "other"),
        ("import", repo, "notes", more, "--id", "id"),
        ("build", repo, job),
        ("log", repo),
        ("show", repo),
        ("branch", repo, "dev"),
        ("tag", repo, "v2"),
        ("verify", repo),
        ("sample", repo, *SAMPLE),
        ("trace", checkpoint),
        ("doctor",),
    ):
        ran = shell(name, *rest, "--json")
        assert (ran.code, ran.err) == (0, ""), ran
        value[name] = ran.value
    assert {*COMMANDS} - {*value} == {"demo"}
    opened = Repository.open(repo)
    head = opened.head()
    assert value["init"] == {"repository": (tmp_path / "other").as_uri()}
    assert (value["import"]["records"], value["import"]["created"]) == (9, True)
    assert (value["build"]["table"], value["build"]["commit"]) == ("long", head)
    assert [commit["digest"] for commit in value["log"]] == [commit.digest for commit in opened.log()]
    assert (value["show"]["commit"], value["show"]["ref"]) == (head, "branch/main")
    assert value["show"]["tables"]["corpus"]["version"] == opened.version("corpus").digest
    assert (value["branch"], value["tag"]) == ({"dev": head}, {"v2": head})
    assert value["verify"]["problems"] == [] and value["verify"]["objects"] > 10
    assert value["sample"]["version"] == opened.version("corpus", "v1").digest
    assert value["trace"]["samples"] == 8 and len(value["trace"]["raw_files"]) == 2
    assert {check["name"] for check in value["doctor"]} >= {"machine", "packages", "extension", "GPU", "Ray", "store"}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_error_speaks_json(shell: Shell, tmp_path: Path, name: str) -> None:
    """Catches text for people where a program reads: what fails, and what is wrong with the command line itself."""
    (tmp_path / "file").write_text("no folder")
    arguments = {
        "init": ["file"],
        "import": ["none", "raw", "x.jsonl"],
        "build": ["none", "job.yaml"],
        "sample": ["none", "corpus", "--seed", "1"],
        "trace": ["none.pt"],
        "doctor": ["-x"],
        "demo": ["--keep", "file"],
    }.get(name, ["none"])
    ran = shell(name, *arguments, "--json")
    assert (ran.code, ran.out) == (2 if name == "doctor" else 1, "")
    assert ran.error["message"] and ran.error["hint"] and ran.error["kind"] in {"not_found", "invalid_input"}
    unknown = shell(name, "--jsno", *arguments, "--json")
    assert unknown.code == 2 and "--jsno" in unknown.error["message"] and unknown.out == ""


def test_a_program_ends_with_0_1_or_2_and_keeps_results_from_the_rest(repo: Path, tmp_path: Path) -> None:
    """Real processes: catches progress on stdout, a result on stderr, a stack trace that nobody asked for."""
    raw = write_records(tmp_path / "docs.jsonl", documents(9, 5, "more"))
    done = program("import", repo, "notes", raw, env={"FORCE_COLOR": "", "TERM": "xterm-256color"})
    assert done.code == 0 and done.out.startswith("imported 9 records") and done.out.count("\n") == 2
    assert "read: " in done.err and "index: 1 of 1\n" in done.err and "imported" not in done.err
    assert ESCAPE not in done.out + done.err and "\r" not in done.out + done.err
    assert "no branch, tag or commit 'nope'" in check_refusal(program("log", repo, "nope"))
    wrong = program("log", repo, "-n", "many")
    assert "-n" in check_refusal(wrong, 2) and "pyfactory log --help" in wrong.err


@pytest.mark.parametrize("place", [0, 1, 3])
def test_debug_shows_the_stack_wherever_it_stands(place: int, tmp_path: Path) -> None:
    arguments = ["log", str(tmp_path / "none"), "main"]
    ran = program(*arguments[:place], "--debug", *arguments[place:])
    assert ran.code == 1 and "Traceback" in ran.err and "NotFoundError: no pyfactory repository at" in ran.err
    assert "Traceback" not in program(*arguments, "--", "--debug").err


def test_no_arguments_show_the_help(shell: Shell) -> None:
    ran = shell()
    assert ran.code == 2 and all(command in ran.out for command in COMMANDS) and ran.err == ""
    assert shell("--help").code == shell("import", "--help").code == 0
    assert "did you mean 'import'" in shell("improt").err.lower()


def test_the_shell_completes_commands() -> None:
    words = {"COMP_WORDS": "pyfactory bu", "COMP_CWORD": "1", "_PYFACTORY_COMPLETE": "complete_bash"}
    completed = program(env=words)
    assert (completed.code, completed.out.split()) == (0, ["build"])
    shown = program(env={"_PYFACTORY_COMPLETE": "source_bash"})
    assert shown.code == 0 and "_PYFACTORY_COMPLETE=complete_bash" in shown.out and "complete -o" in shown.out


def test_a_pipe_into_head(repo: Path) -> None:
    """As a person types it, in a shell that tells of a failure on any side of the pipe."""
    script = f'"{sys.executable}" -c "$0" log "$1" | head -1; echo "${{PIPESTATUS[@]}}"'
    done = subprocess.run(["bash", "-c", script, COMMAND[2], str(repo)], capture_output=True, text=True, timeout=60)
    assert done.stderr == "" and done.stdout.count("\n") == 2 and done.stdout.endswith(" 0\n")


@pytest.mark.parametrize("more", [[], ["--json"]])
def test_a_reader_may_go_away(repo: Path, more: list[str]) -> None:
    """`pyfactory log REPO | head -1`: catches a stack trace, or a complaint when Python flushes at its end."""
    opened = Repository.open(repo)
    raw = opened.tables()["raw"]
    for number in range(12):  # far more than a pipe holds
        opened.commit({"copy": None if number % 2 else raw}, message="x" * 15_000)
    shell = subprocess.Popen(
        [*COMMAND, "log", str(repo), *more], stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0
    )
    assert shell.stdout is not None and shell.stderr is not None
    assert shell.stdout.read(1)
    shell.stdout.close()
    assert shell.stderr.read() == b""
    assert shell.wait(60) in (0, 1)
    shell.stderr.close()


@pytest.mark.parametrize("more", [[], ["--json"]])
def test_output_that_cannot_be_written_is_told(repo: Path, more: list[str]) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run([*COMMAND, "log", str(repo), *more], stdout=full, stderr=subprocess.PIPE, timeout=60)
    assert done.returncode == 1 and b"the output: no space left" in done.stderr and b"bug" not in done.stderr


@pytest.mark.parametrize("stream", ["1", "2"])
def test_a_closed_stream_is_no_error(repo: Path, original: Path, stream: str) -> None:
    script = f'exec "$@" {stream}>&-'
    ran = program("import", repo, "notes", original / "raw-1.jsonl", before=["sh", "-c", script, "sh"])
    assert ran.code == 0 and "Traceback" not in ran.err and "imported" not in ran.err
    assert Repository.open(repo).version("notes").rows == 40


def test_what_the_terminal_cannot_show_is_escaped(shell: Shell, repo: Path, tmp_path: Path) -> None:
    """Catches an UnicodeEncodeError, a stored text that steers the terminal, and one that is taken for markup."""
    shell.done(
        "import", repo, "notes", write_records(tmp_path / "a.jsonl", documents(3, 1)), "-m", "\x1b[2J[bold]é\\\nb"
    )
    assert shell.done("log", repo, "-n", "1").splitlines()[1:] == ["    \\x1b[2J[bold]é\\", "    b"]
    plain = program("log", repo, "-n", "1", env={"PYTHONIOENCODING": "ascii:strict"})
    assert plain.code == 0 and "\\x1b[2J[bold]\\xe9\\" in plain.out
    assert program("init", tmp_path / "é", env={"PYTHONIOENCODING": "ascii:strict"}).code == 0


def test_verify_names_object_and_table(shell: Shell, repo: Path) -> None:
    """Catches damage that is not found, or told without the table that it hurts."""
    opened = Repository.open(repo)
    part = next(opened.version("corpus").parts())
    path = opened.store.path(opened.objects.key(part.shard))
    assert path is not None
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(content)
    told = shell("verify", repo)
    assert told.code == 1 and part.shard in told.out and "corrupt (table corpus): " in told.out
    assert told.out.endswith("read: 1 problem\n") and told.err == ""
    listed = shell("verify", repo, "--json")
    (problem,) = listed.value["problems"]
    assert (listed.code, problem["kind"], problem["object"], problem["tables"]) == (
        1,
        "corrupt",
        part.shard,
        ["corpus"],
    )


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_demo_tells_the_same_each_time(tmp_path: Path) -> None:
    first, second = (program("demo", "--json", *more, cwd=tmp_path, timeout=400) for more in ([], ["--keep", "kept"]))
    assert (first.code, second.code, first.err, second.err) == (0, 0, "", "")
    assert first.value["identical"] is second.value["identical"] is True
    for name in ("tree_digest", "version_digest", "stream_digest", "positions"):
        assert first.value[name] == second.value[name]
    assert not Path(first.value["folder"]).exists()
    assert "all is well" in program("verify", tmp_path / "kept" / "repository").out
    traced = json.loads(program("trace", tmp_path / "kept" / "step-00080.pt", "--json").out)
    assert traced["samples"] == second.value["positions"]
    assert "not an empty folder" in check_refusal(program("demo", "--keep", "kept", cwd=tmp_path))
