"""What a training run consumed, written down as it happens.

A run is a chain of small entries `runs/<id>/<number>` in the repository, each created once and naming the digest of
the one before: start, claim, checkpoint, end. A *claim* is made before train steps are handed out and says how far
they may reach, so that even after a SIGKILL the ledger bounds what the lost steps saw. A checkpoint states the span
that its model saw.
"""

from __future__ import annotations

from pyfactory.ledger.chain import read_run
from pyfactory.ledger.checkpoint import CHECKPOINT_FILE, read_checkpoint
from pyfactory.ledger.run import Consumer, Run

__all__ = ["CHECKPOINT_FILE", "Consumer", "Run", "read_checkpoint", "read_run"]
