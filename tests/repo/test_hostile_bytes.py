"""Hostile bytes: whatever stands where a writer's bytes should be, every parser says so, or reads what it says.

Each parser (`hostile_parsers`) gets the same treatment: all wrong values in all places, all forms of a document, all
false lengths, and accidents by chance. It may raise what it promises and nothing else; what it takes, it must write
again as the same bytes. No claim of a length may cost memory.
"""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from hostile import Parser, claims, damaged, deformed, replaced
from hostile_parsers import PARSERS
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import pyfactory

HERE = Path(__file__).parent
CHECKS = settings(deadline=timedelta(seconds=5), suppress_health_check=[*HealthCheck], database=None, derandomize=True)
by_name = pytest.mark.parametrize("parser", PARSERS, ids=lambda parser: parser.name)


def read(parser: Parser, content: bytes) -> None:
    try:
        value = parser.parse(content)
    except parser.raises:
        return
    if parser.write is not None:
        assert parser.write(value) == content, "two byte strings are one value"


def test_what_writers_make_is_read() -> None:
    for parser in PARSERS:
        value = parser.parse(parser.good)
        assert parser.write is None or parser.write(value) == parser.good, parser.name


@by_name
def test_all_of_a_kind(parser: Parser) -> None:
    """Catches a field that is taken without its type being asked, and a form of JSON that nobody writes."""
    for content in systematic(parser):
        read(parser, content)


@by_name
@settings(CHECKS, max_examples=15, phases=[Phase.generate])
@given(data=st.data())
def test_accidents(parser: Parser, data: st.DataObject) -> None:
    """Catches a length that is believed, and an exception of a library that nobody translated."""
    read(parser, data.draw(damaged(parser.good)))


@pytest.mark.slow
@by_name
@settings(CHECKS, max_examples=150, phases=[Phase.generate])
@given(data=st.data())
def test_more_accidents(parser: Parser, data: st.DataObject) -> None:
    read(parser, data.draw(damaged(parser.good)))


def test_no_claim_costs_memory() -> None:
    """All of a kind again, in a process that has little memory to give. Catches an allocation by a claimed count."""
    path = os.pathsep.join([str(HERE), str(Path(pyfactory.__file__).parents[1])])
    environment = os.environ | {"PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}
    command = [sys.executable, str(HERE / "hostile_worker.py")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, env=environment)
    assert done.returncode == 0, done.stderr[-3000:] or f"it died of {done.returncode}"


def systematic(parser: Parser) -> list[bytes]:
    if parser.text:
        return [*replaced(parser.good), *deformed(parser.good)]
    return [*claims(parser.good)]
