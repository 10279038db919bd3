"""How gates put their verdicts: the same form for all, the numbers beside the threshold."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from pyfactory.repo.gates.base import Gate, Proposal, Verdict, code_of
from pyfactory.repo.gates.options import in_force, rounded

__all__ = ["allowed", "answer", "percent"]


def answer(
    gate: Gate,
    proposal: Proposal,
    reason: str,
    found: Mapping[str, str | int],
    *,
    passed: bool,
    evidence: tuple[str, ...] = (),
) -> Verdict:
    """Return the verdict of a gate on a proposal; options in force and code are filled in."""
    return Verdict(
        gate=gate.name,
        table=proposal.table,
        passed=passed,
        reason=reason,
        threshold=in_force(gate),
        found=dict(found),
        evidence=evidence,
        code=code_of(gate),
    )


def allowed(part: int, whole: int, share: Decimal) -> bool:
    """Tell whether a part is at most a share of a whole, exactly."""
    return Decimal(part) <= share * whole


def percent(share: Decimal) -> str:
    """Return a share for people: 0.0525 is 5.25%."""
    return f"{rounded(share * 100)}%"
