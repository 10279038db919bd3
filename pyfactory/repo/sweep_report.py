"""What a sweep reports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pyfactory.repo.leases import Lease

__all__ = ["GcReport"]


@dataclass(frozen=True, slots=True)
class GcReport:
    """What a sweep did, or would do.

    Attributes:
        dry_run: Whether nothing was changed.
        stored: Objects that were there.
        stored_bytes: Their bytes.
        freed: Objects deleted.
        freed_bytes: Their bytes.
        by_kind: Number and bytes of what was deleted: `objects`, and the caches and leases that go with them; in a dry
            run, what the objects are.
        condemned: Objects that nothing leads to and that wait for the grace period to end.
        condemned_bytes: Their bytes.
        due: When a sweep may delete them; "" if there are none.
        held: Leases that were met: a writer's keeps everything, a reader's its commit.
        blocked: Why nothing, or not everything, was deleted; "" if nothing stood in the way.
    """

    dry_run: bool
    stored: int
    stored_bytes: int
    freed: int
    freed_bytes: int
    by_kind: Mapping[str, tuple[int, int]]
    condemned: int
    condemned_bytes: int
    due: str
    held: tuple[Lease, ...]
    blocked: str
