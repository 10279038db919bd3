"""Which steps a job may have in which order, and what it comes to: its steps, then `write`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pyfactory.job.steps.base import Step
from pyfactory.job.steps.write import Write

__all__ = ["Plan", "find_misplaced", "make_plan"]


@dataclass(frozen=True, slots=True)
class Plan:
    """The steps of a job, one after the other. Each expands into tasks cut by part, never by worker.

    Attributes:
        steps: The steps, `write` last.
    """

    steps: tuple[Step, ...]


def make_plan(steps: Sequence[Step], target_bytes: int) -> Plan:
    """Return the plan of checked steps; `target_bytes`: size of the shards to write."""
    return Plan((*steps, Write(target_bytes)))


def find_misplaced(steps: Sequence[str]) -> tuple[int, str] | None:
    """Return the index of the first step that cannot stand where it stands, and why; None if all can."""
    for index, step in enumerate(steps):
        before = steps[:index]
        if "shuffle" in before:
            return steps.index("shuffle"), "shuffle must be the last step: it orders the rows that are left"
        if step == "tokenize" and "tokenize" in before:
            return index, "the rows are tokens already: tokenize once"
        if "tokenize" in before and step != "shuffle":
            return index, f"{step} needs text: put it before tokenize"
        if step == "train_tokenizer" and step in before:
            return index, "a tokenizer is trained already: train once"
    return None
