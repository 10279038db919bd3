"""The loader in forked children."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

_FORKED = """
import os, sys
from itertools import islice
from tests.loader.test_loader import DataLoader, a_stream
loader = DataLoader(a_stream(), batch_size=4, num_workers=2)
spans = [batch["span"] for batch in islice(loader, 3)]
child = os.fork()
if child == 0:
    spans = [batch["span"] for batch in islice(loader, 3)]
    loader.close()
    os._exit(0 if spans == [(12, 16), (16, 20), (20, 24)] else 1)
_, status = os.waitpid(child, 0)
again = [batch["span"] for batch in islice(loader, 1)]
loader.close()
sys.exit(os.waitstatus_to_exitcode(status) or again != [(12, 16)])
"""


def test_a_fork_after_the_threads_have_started():
    """Catches: a child that waits for ever for the threads of its parent."""
    run = subprocess.run([sys.executable, "-W", "ignore", "-c", _FORKED], cwd=ROOT, timeout=60, check=False)
    assert run.returncode == 0
