"""How numbers, progress and errors look."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys

import pytest

from pyfactory.cli.output import amount, counted, emit, line, progress, show_error, size
from pyfactory.errors import NotFoundError


@pytest.mark.parametrize(
    ("nbytes", "shown"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 KB"),
        (7_857_878, "7.9 MB"),
        (10**9, "1.0 GB"),
        (10**12, "1.0 TB"),
        (10**16, "10000.0 TB"),
    ],
)
def test_sizes_have_units(nbytes: int, shown: str) -> None:
    assert size(nbytes) == shown


def test_counts_have_marks_and_nouns() -> None:
    assert amount(1234567) == "1,234,567"
    assert [counted(n, "record") for n in (0, 1, 2000)] == ["0 records", "1 record", "2,000 records"]
    assert counted(2, "process", "processes") == "2 processes"


def test_a_result_is_json_only_when_asked(capsys: pytest.CaptureFixture[str]) -> None:
    assert not emit({"a": 1}, as_json=False)
    assert capsys.readouterr().out == ""
    assert emit({"b": "é\x1b", "a": 1}, as_json=True)
    assert json.loads(capsys.readouterr().out) == {"a": 1, "b": "é\x1b"}


def test_lines_are_not_wrapped_and_steer_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    line("[green]" + "word " * 100 + "[/]\x07")
    assert capsys.readouterr().out == "word " * 100 + "\\x07\n"


def test_an_error_has_a_sentence_and_the_way_out(capsys: pytest.CaptureFixture[str]) -> None:
    error = NotFoundError("no [bold]table[/]", hint="look again")
    show_error(error, as_json=False)
    assert capsys.readouterr() == ("", "error: no [bold]table[/]\nhint:  look again\n")
    show_error(error, as_json=True)
    out, err = capsys.readouterr()
    assert out == "" and json.loads(err)["error"] == {
        "kind": "not_found",
        "message": "no [bold]table[/]",
        "hint": "look again",
    }


def test_progress_in_a_pipe_is_a_few_plain_lines(capsys: pytest.CaptureFixture[str]) -> None:
    """Catches bytes without a unit, a line per call, and a last line that is missing."""
    with progress(as_json=False) as shown:
        for done in range(0, 10_000_001, 1000):
            shown("read", done, 10_000_000)
        for done in range(1, 4):
            shown("index", done, 3)
        shown("tokenize", 0, 0)
        shown("verify", 1, None)
    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert out == "" and lines[0] == "read: 0 B of 10.0 MB" and "index: 1 of 3" in lines
    assert lines[-1] == "index: 3 of 3" and "read: 10.0 MB of 10.0 MB" in lines and len(lines) < 8


def test_a_program_sees_no_progress(capsys: pytest.CaptureFixture[str]) -> None:
    with progress(as_json=True) as shown:
        shown("read", 1, 1)
    assert capsys.readouterr() == ("", "")


BARS = """
from pyfactory.cli.output import line, progress
with progress(as_json=False) as shown:
    shown("read", 500_000, 1_000_000)
    line("a result")
    shown("read", 1_000_000, 1_000_000)
"""


def on_a_terminal(*, both: bool) -> tuple[bytes, bytes]:
    """Return what stdout received, and what the terminal did that stderr is, and stdout as well if `both`."""
    ours, theirs = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "100"}
    command = [sys.executable, "-c", BARS]
    stdout = theirs if both else subprocess.PIPE
    done = subprocess.run(command, stdout=stdout, stderr=theirs, env=environment, timeout=60, check=True)
    os.close(theirs)
    shown = b""
    while piece := _read(ours):
        shown += piece
    os.close(ours)
    return done.stdout or b"", shown


def test_bars_are_for_terminals_and_leave_results_alone() -> None:
    """Catches a result that goes to the terminal, though stdout is a file, because bars are shown there."""
    out, shown = on_a_terminal(both=False)
    assert out == b"a result\n"
    assert b"1.0 MB of 1.0 MB" in shown and b"\x1b[" in shown and b"a result" not in shown


def test_a_line_goes_above_the_bars() -> None:
    """Catches a line that is written into the bars: they must be wiped before it."""
    _, shown = on_a_terminal(both=True)
    assert b"\x1b[2Ka result\r\n" in shown


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65536)
    except OSError:  # the other end is closed
        return b""
