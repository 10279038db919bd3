"""Questions about the past, answered from the repository alone: `lineage` from a checkpoint, `seen` from a record."""

from __future__ import annotations

from pyfactory.audit.lineage import Trace, trace
from pyfactory.audit.origin import Job, RawFile
from pyfactory.audit.seen import Seen, runs_that_saw
from pyfactory.audit.sources import Consumed, TracedSource

__all__ = ["Consumed", "Job", "RawFile", "Seen", "Trace", "TracedSource", "runs_that_saw", "trace"]
