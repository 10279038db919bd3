"""Forgetting, killed at any of its calls: all tables of all commits are as before, or all are without the record."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import pyfactory
from tests.erasure_tables import shared_repository

HERE = Path(__file__).parent


@pytest.mark.slow
def test_a_kill_at_every_call_leaves_the_old_view_or_the_new(tmp_path: Path) -> None:
    """Catches: a log entry that is created before the replacements it needs, and one for each table."""
    base = tmp_path / "base"
    shared_repository(base, 10, (5,))
    path = os.pathsep.join([str(HERE), str(Path(pyfactory.__file__).parents[1])])
    command = [sys.executable, str(HERE / "forget_worker.py"), str(base), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110, env=os.environ | {"PYTHONPATH": path})
    assert done.returncode == 0, done.stderr
    outcomes = json.loads(done.stdout)
    assert outcomes == sorted(outcomes, reverse=True), "once new, always new"
    assert {"old", "new"} == set(outcomes)
    assert outcomes.count("new") >= 3
