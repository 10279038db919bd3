"""Job files: what is wrong is told with file, line and key, and the value of a job is the same wherever it lies."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from job_tables import END, small_tokenizer_json, write_job, write_vocab_and_merges

from pyfactory.core.digest import digest_of, digest_of_file
from pyfactory.errors import InvalidInputError, NotFoundError
from pyfactory.job.spec import load_job, parse_size

HEAD = "input: raw\noutput: corpus\n"


def complaint(folder: Path, text: str) -> str:
    path = folder / "job.yaml"
    path.write_text(text)
    with pytest.raises(InvalidInputError) as caught:
        load_job(path)
    message = str(caught.value)
    assert message.startswith(f"{path}:"), message
    return message.removeprefix(f"{path}:")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("jobs")
    write_vocab_and_merges(folder)
    (folder / "tokenizer.json").write_text(small_tokenizer_json())
    (folder / "broken.json").write_text("{")
    (folder / "bad_merges.txt").write_text("#version: 0.2\na b\n\nabc\n")
    (folder / "rules.py").write_text("def good(text):\n    return True\n")
    (folder / "unpython.py").write_text("def good(:\n")
    return folder


@pytest.mark.parametrize(
    ("text", "line", "parts"),
    [
        ("", 1, ["the job is not a mapping"]),
        ("- a\n", 1, ["the job is not a mapping"]),
        ("input: raw\nsteps: [shuffle: {seed: 1}]\n", 1, ["the job lacks the key 'output'"]),
        (HEAD + "stepps: []\n", 3, ["the job has no key 'stepps'", "did you mean 'steps'?"]),
        (HEAD + "steps:\n  - shuffle:\n      sed: 7\n", 5, ["steps[0].shuffle has no key 'sed'", "'seed'?"]),
        (HEAD + "steps: [shuffle: {seed: 1}]\nshard: {}\n", 4, ["no key 'shard'", "did you mean 'shards'?"]),
        (HEAD + "steps: []\n", 3, ["steps:", "at least 1 item"]),
        (HEAD + "steps: shuffle\n", 3, ["steps:", "should be a valid list"]),
        ("input: 3\noutput: corpus\nsteps: [shuffle: {seed: 1}]\n", 1, ["input: 3 is wrong", "string"]),
        ("input: raw@\noutput: corpus\nsteps: [shuffle: {seed: 1}]\n", 1, ["input: 'raw@' is not a table@ref"]),
        ("input: raw\noutput: a@b\nsteps: [shuffle: {seed: 1}]\n", 2, ["output: 'a@b' is not the name of a table"]),
        (HEAD + "steps:\n  - shuffle\n", 4, ["steps[0] is not one step", "- filter: {min_chars: 200}"]),
        (HEAD + "steps:\n  - filter: {min_chars: 1}\n    dedup: {}\n", 4, ["steps[0] is not one step"]),
        (HEAD + "steps:\n  - dedup: {}\n  - filte: {min_chars: 1}\n", 5, ["no step 'filte'", "did you mean 'filter'?"]),
        (HEAD + "steps:\n  - filter: 3\n", 4, ["steps[0].filter is not a mapping", "min_chars"]),
        (
            HEAD + "steps:\n  - filter:\n      min_char: 3\n",
            5,
            ["steps[0].filter has no key 'min_char'", "'min_chars'?"],
        ),
        (HEAD + "steps:\n  - filter:\n", 4, ["filter: a filter needs at least one of min_chars, max_chars"]),
        (
            HEAD + "steps:\n  - filter:\n      min_chars: '3'\n",
            5,
            ["steps[0].filter.min_chars: '3' is wrong", "integer"],
        ),
        (HEAD + "steps:\n  - filter: {min_chars: true}\n", 4, ["True is wrong", "integer"]),
        (HEAD + "steps:\n  - filter: {min_chars: -1}\n", 4, ["-1 is wrong", "greater than or equal to 0"]),
        (HEAD + "steps:\n  - filter: {min_chars: 2, max_chars: 1}\n", 4, ["no text has at least 2 and at most 1"]),
        (HEAD + "steps:\n  - filter:\n      matches: 'a('\n", 5, ["'a(' is not an RE2 pattern", "missing )"]),
        (HEAD + "steps:\n  - filter:\n      rejects: '(?=a)'\n", 5, ["is not an RE2 pattern"]),
        (HEAD + "steps:\n  - filter:\n      function: rules\n", 5, ["'rules' names no function", "module:name"]),
        (HEAD + "steps:\n  - filter: {function: 'nowhere_x:f'}\n", 4, ["no Python source of the module 'nowhere_x'"]),
        (HEAD + "steps:\n  - filter: {function: 'rules:goood'}\n", 4, ["rules.py defines no 'goood'"]),
        (HEAD + "steps:\n  - filter: {function: 'unpython:good'}\n", 4, ["unpython.py is not Python"]),
        (HEAD + "steps:\n  - dedup: {method: fuzzy}\n", 4, ["dedup.method: 'fuzzy' is wrong", "'exact'"]),
        (HEAD + "steps:\n  - shuffle: {}\n", 4, ["steps[0].shuffle lacks the key 'seed'"]),
        (HEAD + "steps:\n  - shuffle: {seed: 18446744073709551616}\n", 4, ["seed: 18446744073709551616 is wrong"]),
        (HEAD + "steps:\n  - shuffle: {seed: 1}\n  - dedup: {}\n", 4, ["shuffle must be the last step"]),
        (HEAD + "steps:\n  - train_tokenizer: {vocab_size: 255}\n", 4, ["vocab_size: 255 is wrong"]),
        (HEAD + "steps:\n  - train_tokenizer: {vocab_size: 256, special_tokens: [xy]}\n", 4, ["alone are 257"]),
        (HEAD + "steps:\n  - train_tokenizer: {vocab_size: 300, special_tokens: [xy, xy]}\n", 4, ["occurs twice"]),
        (HEAD + "steps:\n  - train_tokenizer: {vocab_size: 300, special_tokens: [a]}\n", 4, ["stands for a byte"]),
        (
            HEAD + "steps:\n  - train_tokenizer: {vocab_size: 300, special_tokens: [xy, 3]}\n",
            4,
            ["special_tokens[1]: 3"],
        ),
        (
            HEAD + "steps:\n  - train_tokenizer: {vocab_size: 300}\n  - train_tokenizer: {vocab_size: 300}\n",
            5,
            ["train once"],
        ),
        (HEAD + "steps:\n  - tokenize: {}\n", 4, ["tokenize has no tokenizer", "train_tokenizer"]),
        (HEAD + "steps:\n  - tokenize: {vocab: vocab.json}\n", 4, ["vocab and merges belong together"]),
        (
            HEAD + "steps:\n  - tokenize:\n      tokenizer: gone.json\n",
            5,
            ["tokenize.tokenizer: ", "gone.json: no such file"],
        ),
        (HEAD + "steps:\n  - tokenize:\n      tokenizer: ''\n", 5, ["tokenize.tokenizer: ", "Is a directory"]),
        (HEAD + "steps:\n  - tokenize: {tokenizer: broken.json}\n", 4, ["broken.json is not JSON"]),
        (HEAD + "steps:\n  - tokenize: {vocab: vocab.json, merges: vocab.json}\n", 4, ["vocab.json:1", "two tokens"]),
        (HEAD + "steps:\n  - tokenize: {vocab: vocab.json, merges: bad_merges.txt}\n", 4, ["bad_merges.txt:3: ''"]),
        (
            HEAD + "steps:\n  - tokenize:\n      tokenizer: tokenizer.json\n      append: <eos>\n",
            6,
            ["tokenize.append: '<eos>' is not one token of the vocabulary"],
        ),
        (
            HEAD + "steps:\n  - tokenize: {tokenizer: tokenizer.json, vocab: vocab.json, merges: merges.txt}\n",
            4,
            ["not both"],
        ),
        (
            HEAD + "steps:\n  - tokenize:\n      special_text: kep\n",
            5,
            ["'kep' is wrong", "'escape', 'keep' or 'reject'"],
        ),
        (
            HEAD + "steps:\n  - train_tokenizer: {vocab_size: 300}\n  - tokenize: {tokenizer: tokenizer.json}\n",
            5,
            ["names a tokenizer, and one is trained before"],
        ),
        (HEAD + "steps:\n  - tokenize: {tokenizer: tokenizer.json}\n  - dedup: {}\n", 5, ["dedup needs text"]),
        (
            HEAD + "steps:\n  - tokenize: {tokenizer: tokenizer.json}\n  - tokenize: {tokenizer: tokenizer.json}\n",
            5,
            ["tokenize once"],
        ),
        (
            HEAD + "steps: [dedup: {}]\nshards: {target_byte: 3}\n",
            4,
            ["shards has no key 'target_byte'", "target_bytes"],
        ),
        (HEAD + "steps: [dedup: {}]\nshards:\n  target_bytes: 3XB\n", 5, ["'3XB' is not a size", "64MB"]),
        (HEAD + "steps: [dedup: {}]\nshards: {target_bytes: 0}\n", 4, ["0 is wrong", "greater than or equal to 1"]),
        (HEAD + "steps: [dedup: {}]\nshards: {target_bytes: 2TB}\n", 4, ["less than or equal to"]),
        (HEAD + "steps: [dedup: {}]\nshards: 64MB\n", 4, ["shards: '64MB' is wrong"]),
        (HEAD + "steps: [dedup: {}]\npack: {sequence_length: 8}\n", 4, ["pack needs tokens", "tokenize"]),
        (HEAD + "steps: [dedup: {}]\npack:\n  sequence_lenght: 8\n", 5, ["pack has no key", "'sequence_length'"]),
        (HEAD + "steps: [dedup: {}]\npack: {packing: padded}\n", 4, ["pack lacks the key 'sequence_length'"]),
        (HEAD + "steps: [dedup: {}]\npack: {sequence_length: 0}\n", 4, ["0 is wrong"]),
        (HEAD + "steps: [dedup: {}]\npack:\n  sequence_length: 8\n  packing: concat\n", 6, ["'concat'", "'padded'"]),
        (HEAD + "input: raw\nsteps: [dedup: {}]\n", 3, ["'input' occurs twice, first on line 1"]),
    ],
)
def test_every_mistake_names_its_line_and_the_way_out(folder: Path, text: str, line: int, parts: list[str]) -> None:
    message = complaint(folder, text)
    assert message.startswith(f"{line}: "), message
    for part in parts:
        assert part in message


def test_a_missing_job_file(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"job\.yaml"):
        load_job(tmp_path / "job.yaml")


@pytest.mark.parametrize(
    ("text", "size"),
    [("64MB", 64_000_000), ("512KB", 512_000), ("512kB", 512_000), ("1GiB", 2**30), ("1 KiB", 1024), ("7B", 7)],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size
    assert parse_size(size) == size


@pytest.mark.parametrize("text", ["", "MB", "64", "1.5MB", "-1MB", "64 mb", "64MBit", "64iB", "٣MB"])
def test_no_sizes(text: str) -> None:
    with pytest.raises(ValueError, match="is not a size"):
        parse_size(text)


def test_a_full_job(folder: Path) -> None:
    write_job(
        folder,
        "filter: {min_chars: 200, matches: 'a.c', function: 'rules:good'}",
        "dedup:",
        f'tokenize: {{vocab: vocab.json, merges: merges.txt, append: "{END}"}}',
        "shuffle: {seed: 7}",
        target="512KB",
    )
    spec = load_job(folder / "job.yaml")
    assert (spec.input, spec.input_table, spec.input_ref, spec.output) == ("raw", "raw", None, "corpus")
    source = digest_of(b"def good(text):\n    return True\n")
    files = {name: digest_of_file(folder / file) for name, file in (("vocab", "vocab.json"), ("merges", "merges.txt"))}
    assert spec.value() == {
        "kind": "job",
        "v": 1,
        "input": "raw",
        "output": "corpus",
        "steps": [
            {"filter": {"min_chars": 200, "matches": "a.c", "function": "rules:good", "source": source}},
            {"dedup": {"method": "exact"}},
            {"tokenize": {**files, "append": END, "special_text": "escape"}},
            {"shuffle": {"seed": 7}},
        ],
        "shards": {"target_bytes": 512000},
    }


def test_the_value_of_a_job_does_not_depend_on_where_it_lies(folder: Path, tmp_path: Path) -> None:
    """Catches a path in the canonical value, and content that is not in it."""
    steps = ("filter: {function: 'rules:good'}", "tokenize: {tokenizer: tokenizer.json}")
    here = load_job(write_job(folder, *steps))
    there = tmp_path / "elsewhere" / "job"
    shutil.copytree(folder, there)
    (there / "tokenizer.json").rename(there / "renamed.json")
    moved = load_job(write_job(there, steps[0], "tokenize: {tokenizer: renamed.json}"))
    assert moved.digest() == here.digest()
    (there / "rules.py").write_text("def good(text):\n    return False\n")
    changed = load_job(there / "job.yaml")
    assert changed.digest() != here.digest()


def test_a_ref_is_part_of_the_input(folder: Path) -> None:
    path = folder / "job.yaml"
    path.write_text("input: raw@v1\noutput: corpus\nsteps:\n  - dedup: {}\n")
    spec = load_job(path)
    assert (spec.input_table, spec.input_ref, spec.value()["input"]) == ("raw", "v1", "raw@v1")
    assert spec.value()["shards"] == {"target_bytes": 64_000_000}, "the default is part of the value"


def test_the_shipped_job_is_valid() -> None:
    root = Path(__file__).parents[2]
    spec = load_job(root / "configs" / "job.yaml")
    assert [step.name for step in spec.plan.steps][-1] == "write"
    readme = re.findall(r"```yaml\n(# job\.yaml\n.*?)```", (root / "README.md").read_text(), re.DOTALL)
    for text in readme:
        assert "steps:" in text
