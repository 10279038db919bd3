"""A writer killed at any of its calls leaves the old view or the new one, and the next writer is not in its way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from repo_tables import raw_state

import pyfactory
from pyfactory.repo.repository import Repository

HERE = Path(__file__).parent


@pytest.mark.parametrize("act", ["commit", "branch", "tag"])
def test_a_kill_at_every_call_leaves_the_old_view_or_the_new(act: str, tmp_path: Path) -> None:
    """Catches a log entry that is created before the objects it needs, and a rerun that does things twice.

    The kills happen in forks of a process with one thread, which is why they have a program of their own.
    """
    base = tmp_path / "base"
    repository = Repository.create(base)
    repository.commit({"corpus": raw_state(repository.objects, "one")}, message="one")
    path = os.pathsep.join([str(HERE), str(Path(pyfactory.__file__).parents[1])])
    command = [sys.executable, str(HERE / "repo_worker.py"), act, str(base), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, env=os.environ | {"PYTHONPATH": path})
    assert done.returncode == 0, done.stderr
    outcomes = json.loads(done.stdout)
    assert outcomes == sorted(outcomes, reverse=True), "once new, always new"
    assert {"old", "new"} == set(outcomes)
    assert outcomes.count("new") >= 3, "also between the entry and the hint"
