"""gate add-set: what it prints is what a rule takes, and the object holds no text."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pyfactory.cli.app import run
from pyfactory.core.digest import Digest
from pyfactory.repo.gates.contamination import Contamination
from pyfactory.repo.gates.contamination_sets import load_set
from pyfactory.repo.repository import Repository


def test_what_it_prints_goes_into_a_rule(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    repo, file = str(tmp_path / "repo"), tmp_path / "quiz.jsonl"
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in ("one two three four", "short")), "utf-8")
    Repository.create(repo)
    assert run(["gate", "add-set", repo, "quiz", str(file), "-n", "3"]) == 0
    printed = capsys.readouterr().out.strip().splitlines()[0]
    gate = Contamination(sets=(printed,), n=3)
    digest = Digest(printed.removeprefix("quiz="))
    objects = Repository.open(repo).objects
    assert (load_set(objects, digest, "the set").n, gate.sets) == (3, (f"quiz={digest}",))
    assert b"three" not in objects.get(digest)
