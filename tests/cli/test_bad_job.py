"""Jobs with mistakes: the message names file, line and key, and what was probably meant; nothing is built."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from cli_runs import Shell, check_refusal

from pyfactory.repo.repository import Repository
from tests.raw_files import TOKENIZE, TRAIN, write_job

HEAD = "input: raw\noutput: new\n"

MODULE = """
constant = 3
def raises(text): raise RuntimeError("no good")
def leaves(text): raise SystemExit(3)
def counts(text): return len(text)
"""


def steps(*lines: str) -> str:
    return HEAD + "steps:\n" + "".join(f"  - {line}\n" for line in lines)


KEEP = steps("filter: {min_chars: 1}")

JOBS: list[tuple[str, str, str]] = [
    ("key", KEEP.replace("input", "inputt"), "job.yaml:1: the job has no key 'inputt'.*mean 'input'"),
    ("step", steps("fliter: {min_chars: 1}"), "job.yaml:4: there is no step 'fliter'.*mean 'filter'"),
    ("parameter", steps("filter: {min_char: 1}"), "job.yaml:4: steps.0..filter has no key 'min_char'.*'min_chars'"),
    ("section", KEEP + "shards: {target: 1MB}\n", "job.yaml:5: shards has no key 'target'.*'target_bytes'"),
    ("size", KEEP + "shards: {target_bytes: 64XB}\n", "job.yaml:5: shards.target_bytes: '64XB' is not a size"),
    ("none", "", "job.yaml:1: the job is not a mapping"),
    ("list", "- a\n", "job.yaml:1: the job is not a mapping"),
    ("no steps", HEAD + "steps: []\n", "job.yaml:3: steps: the list is empty"),
    ("bracket", HEAD + "steps: [filter: {min\nshards: {}\n", "job.yaml:4: this is not YAML.*look at brackets"),
    ("tab", HEAD + "steps:\n\t- filter: {}\n", "job.yaml:4: this is not YAML.*indentation"),
    ("control", HEAD + "steps: \x01\n", "job.yaml:3: this is not YAML.*remove control characters"),
    ("latin", HEAD + "# caf\udce9\n", "job.yaml:3: this is not UTF-8 text"),
    ("vocab", steps("tokenize: {vocab: no.json, merges: no.txt}"), "job.yaml:4: .*tokenize.vocab: .*no.json: no such"),
    ("broken", steps("tokenize: {tokenizer: job.yaml}"), "job.yaml:4: .*job.yaml is not JSON.*restore or download"),
    ("append", steps(TRAIN, 'tokenize: {append: "<|end|>"}'), r"tokenize.append: '<\|end\|>' is not one token of the"),
    ("regex", steps('filter: {matches: "(["}'), "job.yaml:4: .*filter.matches: '..' is not an RE2 pattern"),
    ("module", steps('filter: {function: "nomodule:f"}'), "job.yaml:4: .*no Python source of the module 'nomodule'"),
    ("spelling", steps('filter: {function: "rules"}'), "job.yaml:4: .*'rules' names no function"),
    ("missing", steps('filter: {function: "rules:f"}'), "job.yaml:4: .*rules.py defines no 'f'"),
    ("constant", steps('filter: {function: "rules:constant"}'), "rules.py has no function 'constant'"),
    (
        "raises",
        steps('filter: {function: "rules:raises"}'),
        "raises failed on record '.*': RuntimeError: no good",
    ),
    ("leaves", steps('filter: {function: "rules:leaves"}'), "rules:leaves failed on record '.*': SystemExit: 3"),
    (
        "counts",
        steps('filter: {function: "rules:counts"}'),
        "counts returned [0-9]+ for record.*must return True",
    ),
    ("syntax", steps('filter: {function: "wrong:f"}'), "job.yaml:4: .*wrong.py is not Python"),
    ("import", steps('filter: {function: "needs:f"}'), "needs.py cannot be imported: ModuleNotFoundError"),
    ("exit", steps('filter: {function: "exits:f"}'), "exits.py cannot be imported: SystemExit: 4"),
    ("seed", steps("shuffle: {seed: -1}"), "job.yaml:4: .*shuffle.seed: -1 is wrong"),
    (
        "order",
        steps(TRAIN, TOKENIZE, "filter: {min_chars: 1}"),
        "job.yaml:6: filter needs text: put it before",
    ),
    ("tokens", KEEP.replace("raw", "corpus"), "job.yaml: the input corpus holds tokens.*name a raw table"),
    ("table", KEEP.replace("raw", "rwa"), "there is no table 'rwa' at main.*did you mean raw"),
    ("ref", KEEP.replace("raw", "raw@v9"), "no branch, tag or commit 'v9'.*did you mean v1"),
    ("at", KEEP.replace("new", "new@v1"), "job.yaml:2: output: 'new@v1' is not the name of a table"),
    ("output", KEEP.replace("new", "a/b"), "a table cannot be called 'a/b'"),
]


@pytest.fixture
def modules(tmp_path: Path) -> None:
    (tmp_path / "rules.py").write_text(MODULE)
    (tmp_path / "wrong.py").write_text("def (:\n")
    (tmp_path / "needs.py").write_text("import no_such_module\ndef f(text): return True\n")
    (tmp_path / "exits.py").write_text("import sys\nsys.exit(4)\ndef f(text): return True\n")


@pytest.mark.usefixtures("modules")
@pytest.mark.parametrize(("job", "message"), [job[1:] for job in JOBS], ids=[name for name, *_ in JOBS])
def test_bad_jobs(shell: Shell, repo: Path, tmp_path: Path, job: str, message: str) -> None:
    before = Repository.open(repo).view()
    (tmp_path / "job.yaml").write_text(job, errors="surrogateescape")
    ran = shell("build", repo, "job.yaml")
    said = check_refusal(ran, hint=False)  # where a value is wrong, the sentence itself says what is right
    assert re.search(message, said), said
    assert Repository.open(repo).view() == before and Repository.open(repo).verify().problems == []


def test_a_job_that_drops_everything_says_so(shell: Shell, repo: Path, tmp_path: Path) -> None:
    """An empty table is a result, but nobody should learn of it from the training: catches a silent one."""
    job = write_job(tmp_path / "job.yaml", ("filter: {min_chars: 100000}", TRAIN, TOKENIZE), output="none")
    out = shell.done("build", repo, job)
    assert "filter: 80 -> 0 rows (dropped: 80 min_chars)" in out
    assert out.endswith("the table is empty: the steps dropped every row\n")
    said = shell.refused(repo, "sample", repo, "none", "--seed", "1")
    assert "0 tokens do not fill one sample" in said
    assert Repository.open(repo).version("corpus").rows > 0
