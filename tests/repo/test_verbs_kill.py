"""A verb killed at any of its calls leaves the old view or the new one, every object whole, and can be run again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import pyfactory

HERE = Path(__file__).parent
QUICK = ["merge", "rollback", "undo", "delete", "rule", "forget"]
SLOW = ["judged", "signed", "tag", "revert", "trust", "upgrade", "sweep"]


@pytest.mark.parametrize("act", [*QUICK, *(pytest.param(act, marks=pytest.mark.slow) for act in SLOW)])
def test_a_kill_at_every_call(act: str, tmp_path: Path) -> None:
    """Catches an entry that is created before what it names, and a sweep that deletes before it says so."""
    path = os.pathsep.join([str(HERE), str(Path(pyfactory.__file__).parents[1])])
    command = [sys.executable, str(HERE / "verbs_worker.py"), act, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110, env=os.environ | {"PYTHONPATH": path})
    assert done.returncode == 0, done.stderr
    outcomes = json.loads(done.stdout)
    order = {"old": 0, "between": 1, "new": 2}
    assert outcomes == sorted(outcomes, key=order.__getitem__), "forward only"
    assert outcomes[0] == "old"
    assert outcomes[-1] == "new" or act == "sweep", outcomes
