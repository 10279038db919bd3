"""Raw files, jobs and small repositories made of them, for the tests of the whole line."""

from __future__ import annotations

import argparse
import json
import random
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from pyfactory.factory import build, import_files
from pyfactory.repo.repository import Repository

END = "<|endoftext|>"
TRAIN = f'train_tokenizer: {{vocab_size: 300, special_tokens: ["{END}"]}}'
TOKENIZE = f'tokenize: {{append: "{END}"}}'
STEPS = ("filter: {min_chars: 40}", "dedup: {method: exact}", TRAIN, TOKENIZE, "shuffle: {seed: 7}")


def documents(count: int, seed: int, name: str = "doc") -> list[dict[str, Any]]:
    """Records `id`, `text`, `n`: passages of the standard library, every seventh equal to an earlier one."""
    chance = random.Random(seed)
    text = Path(argparse.__file__).read_text() + Path(statistics.__file__).read_text()
    found: list[dict[str, Any]] = []
    for number in range(count):
        start = chance.randrange(len(text) - 1000)
        passage = text[start : start + chance.randrange(10, 900)]
        if number % 7 == 6:
            passage = chance.choice(found)["text"]
        found.append({"id": f"{name}-{number}", "text": passage, "n": number})
    return found


def write_records(path: Path, records: Iterable[dict[str, Any]]) -> Path:
    """Write records as JSON lines."""
    path.write_text("".join(f"{json.dumps(record)}\n" for record in records))
    return path


def write_job(
    path: Path, steps: Sequence[str] = STEPS, *, source: str = "raw", output: str = "corpus", target: str = "8KB"
) -> Path:
    """Write a job file; each step is a line of YAML."""
    lines = [f"input: {source}", f"output: {output}", "steps:", *(f"  - {step}" for step in steps)]
    path.write_text("\n".join([*lines, f"shards: {{target_bytes: {target}}}", ""]))
    return path


def small_repository(folder: Path, count: int = 60) -> Repository:
    """Make `folder`/repository, tag v1: `raw` of two imports, and `corpus` of several shards, by `folder`/job.yaml."""
    repo = Repository.create(folder / "repository")
    for seed in (1, 2):
        source = write_records(folder / f"raw-{seed}.jsonl", documents(count, seed, f"doc-{seed}"))
        import_files(repo, "raw", [source], id="id", columns=["n:int64"])
    build(repo, write_job(folder / "job.yaml"))
    repo.tag("v1")
    return repo
