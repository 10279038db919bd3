"""A job killed at any call of its store goes on where it was, and ends with the same table."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from job_tables import END, write_job, write_vocab_and_merges

import pyfactory

HERE = Path(__file__).parent


@pytest.mark.parametrize(("kills", "seed"), [(10, 1), pytest.param(150, 2, marks=pytest.mark.slow)])
def test_a_killed_job_goes_on_where_it_was(kills: int, seed: int, tmp_path: Path) -> None:
    """Catches a completion mark before its objects, half-written objects that are believed, and work done twice.

    The kills happen in forks of a process with one thread, which is why they have a program of their own.
    """
    write_vocab_and_merges(tmp_path)
    tokenize = f'tokenize: {{vocab: vocab.json, merges: merges.txt, append: "{END}"}}'
    job = write_job(tmp_path, "filter: {rejects: qqqq}", "dedup:", tokenize, "shuffle: {seed: 7}", target="100B")
    path = os.pathsep.join([str(HERE), str(Path(pyfactory.__file__).parents[1])])
    command = [sys.executable, str(HERE / "job_worker.py"), str(tmp_path), str(job), str(kills), str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110, env=os.environ | {"PYTHONPATH": path})
    assert done.returncode == 0, done.stderr
    clean, *outcomes = json.loads(done.stdout)
    tasks = clean["computed"]
    assert sum(outcome["killed"] for outcome in outcomes) >= kills
    assert {outcome["parts"] for outcome in outcomes} == {clean["parts"]}
    assert all(outcome["reused"] + outcome["computed"] == tasks for outcome in outcomes)
    after_kills = [outcome for outcome in outcomes if outcome["killed"]]
    assert any(outcome["reused"] > 0 for outcome in after_kills), "work done before a kill is kept"
    assert any(outcome["computed"] > 0 for outcome in after_kills)
