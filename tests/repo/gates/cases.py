"""Labelled fixtures of gates: each line is one proposed change and whether the gate should stop it.

The first line holds what all cases share: {"options": {...}, "columns": [[name, type, nullable], ...], "base": {...}},
and "sets", the texts of evaluation sets by name.
Every other line is a case: {"label": true, "added": [row, ...]} and, if need be, its own "options", "before" (rows of
the target), "columns", "columns_before" (of the target, if they are others) and a "note". A row is a text, a list of
tokens, or an object of columns; {"times": n, "row": row} is a row n times; {"hex": "..."} as a value is bytes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gate_tables import verdict_on

FIXTURES = Path(__file__).parent / "fixtures"
DOCS = Path(__file__).parents[3] / "docs" / "gates.md"

CUT = "¦"
"""Stands in texts where a made-up secret was cut in two, so that no scanner of repositories takes it for a real one."""

_ROW = re.compile(r"\| `(\w+)` \| (\d+) \| (\d+) \| (\d\.\d\d) \| (\d\.\d\d) \|")


def read_cases(gate: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What the cases of a gate share, and the cases."""
    lines = (FIXTURES / f"{gate}.jsonl").read_text(encoding="utf-8").splitlines()
    shared, *cases = [json.loads(line) for line in lines]
    return shared, cases


def stopped(gate: str, shared: Mapping[str, Any], case: Mapping[str, Any], options: Mapping[str, Any] = {}) -> bool:
    """Whether the gate stops a case."""
    joined = {**shared.get("options", {}), **case.get("options", {}), **options}
    columns = case.get("columns", shared.get("columns", ()))
    before = case.get("before", shared.get("before"))
    base = {name: _rows(rows) for name, rows in case.get("base", shared.get("base", {})).items()}
    verdict = verdict_on(
        gate,
        joined,
        None if before is None else _rows(before),
        _rows(case["added"]),
        base=base,
        columns=columns,
        columns_before=case.get("columns_before"),
        sets=shared.get("sets"),
    )
    return not verdict.passed


def measured(gate: str, options: Mapping[str, Any] = {}) -> tuple[int, int, str, str]:
    """Cases, cases to be stopped, precision and recall (two places, rounded down) of a gate over its fixture."""
    shared, cases = read_cases(gate)
    pairs = [(case["label"], stopped(gate, shared, case, options)) for case in cases]
    right = sum(label and found for label, found in pairs)
    positives, found = sum(label for label, _ in pairs), sum(found for _, found in pairs)
    return len(pairs), positives, _share(right, found), _share(right, positives)


def documented() -> dict[str, tuple[int, int, str, str]]:
    """The same numbers as docs/gates.md states them, by gate."""
    rows = _ROW.findall(DOCS.read_text(encoding="utf-8"))
    return {name: (int(cases), int(positives), precision, recall) for name, cases, positives, precision, recall in rows}


def _share(part: int, whole: int) -> str:
    hundredths = part * 100 // whole if whole else 100
    return f"{hundredths // 100}.{hundredths % 100:02d}"


def _rows(rows: list[Any]) -> list[Any]:
    many = [[row["row"]] * row["times"] if isinstance(row, dict) and "times" in row else [row] for row in rows]
    return [_plain(row) for group in many for row in group]


def _plain(row: Any) -> Any:
    if isinstance(row, str):
        return row.replace(CUT, "")
    if not isinstance(row, dict):
        return row
    return {name: bytes.fromhex(value["hex"]) if isinstance(value, dict) else value for name, value in row.items()}
