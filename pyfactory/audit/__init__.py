"""Questions about the past, answered from the repository alone: `lineage` from a checkpoint, `seen` from a record."""

from __future__ import annotations

from pyfactory.audit.lineage import Consumed, Job, RawFile, Trace, trace
from pyfactory.audit.seen import Seen, runs_that_saw

__all__ = ["Consumed", "Job", "RawFile", "Seen", "Trace", "runs_that_saw", "trace"]
