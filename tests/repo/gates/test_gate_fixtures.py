"""Every gate is measured over labelled cases, and docs/gates.md states what came out."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from cases import FIXTURES, documented, measured, read_cases

from pyfactory.core.digest import digest_of
from pyfactory.repo.gates.open import GATES

# Each fixture has cases of both kinds, so that neither number is of nothing.
_LEAST_OF_A_KIND = 3


def options_for(gate: str) -> dict[str, Any]:
    """The options that cannot stand in a file."""
    if gate != "function":
        return {}
    source = (Path(__file__).parent / "sentence_ends.py").read_bytes()
    return {"function": "sentence_ends:unfinished", "digest": digest_of(source)}


@pytest.fixture(autouse=True)
def own_folder_importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(Path(__file__).parent), *sys.path])


@pytest.mark.parametrize("gate", GATES)
def test_each_exported_gate_has_a_fixture(gate: str) -> None:
    """Mutant: a gate is exported without labelled cases, or with cases of one kind only."""
    assert (FIXTURES / f"{gate}.jsonl").is_file()
    labels = [case["label"] for case in read_cases(gate)[1]]
    assert labels.count(True) >= _LEAST_OF_A_KIND and labels.count(False) >= _LEAST_OF_A_KIND


@pytest.mark.parametrize("gate", GATES)
def test_the_docs_state_the_measured_precision_and_recall(gate: str) -> None:
    """Mutant: a threshold is compared with >= instead of >, a limit is ignored: the numbers change."""
    assert documented().get(gate) == measured(gate, options_for(gate))


def test_the_docs_speak_of_no_other_gate() -> None:
    assert set(documented()) == set(GATES)
