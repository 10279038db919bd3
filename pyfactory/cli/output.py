"""How results, progress and errors look: for people on a terminal, as plain lines in a pipe, as JSON for programs.

Results go to stdout; progress, notes and errors to stderr.
"""

from __future__ import annotations

import io
import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars
from rich.table import Table

from pyfactory.core.durable import translate_os_error
from pyfactory.core.progress import Progress, no_progress
from pyfactory.errors import MergeConflictError, PyfactoryError

__all__ = ["amount", "counted", "emit", "line", "note", "progress", "rendered", "show_error", "size"]

_PLAIN_SECONDS = 2.0

_STAGES_IN_BYTES = {"read"}

# A stored name, message or text must not steer the terminal.
_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}


_console: Console | None = None
"""Where lines are printed while bars are shown."""


def emit(value: Any, *, as_json: bool) -> bool:
    """Print a result as JSON if that was asked for; return whether it was."""
    if as_json:
        with _writing():
            print(json.dumps(value, indent=2, sort_keys=True, default=str), flush=True)
    return as_json


def line(text: str = "") -> None:
    """Print a line for people; rich markup allowed, long lines left to the terminal."""
    with _writing():
        _print(_console or Console(highlight=False, soft_wrap=True), text)


def note(text: str) -> None:
    """Print a line that is not part of the result, to stderr."""
    _print(Console(stderr=True, highlight=False, soft_wrap=True), escape(text))


def amount(number: int) -> str:
    """Return a count with thousands marks."""
    return f"{number:,}"


def counted(number: int, noun: str, plural: str = "") -> str:
    """Return a count with its noun: 1 record, 2,000 records."""
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"


def rendered(table: Table) -> list[str]:
    """Return the lines of a table as wide as it wants to be, so that a pipe gets whole cells."""
    sink = io.StringIO()
    terminal = Console()
    width = terminal.width if terminal.is_terminal else 100_000
    Console(file=sink, width=width, color_system=None).print(table)
    return [text.rstrip() for text in sink.getvalue().splitlines() if text.strip()]


def size(nbytes: int) -> str:
    """Return a number of bytes with a unit."""
    value = float(nbytes)
    for unit in ("B", "KB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def show_error(error: PyfactoryError, *, as_json: bool) -> None:
    """Print one clear sentence, and the way out, to stderr."""
    if as_json:
        told: dict[str, Any] = {"kind": error.kind, "message": error.message, "hint": error.hint}
        if isinstance(error, MergeConflictError):
            told["conflicts"] = [asdict(conflict) for conflict in error.conflicts]
        shown = {"error": told}
        print(json.dumps(shown), file=sys.stderr, flush=True)
        return
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    _print(console, f"[bold red]error:[/] {escape(error.message)}")
    if error.hint:
        _print(console, f"[dim]hint:[/]  {escape(error.hint)}")


@contextmanager
def progress(*, as_json: bool) -> Iterator[Progress]:
    """Show progress on stderr: bars on a terminal, else a plain line now and then; nothing to a program."""
    if as_json:
        yield no_progress
    elif not sys.stderr.isatty():
        yield _Lines()
    else:
        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[done]}"))
        console = Console(stderr=True, highlight=False, soft_wrap=True)
        with Bars(*columns, TimeElapsedColumn(), console=console, transient=True) as bars, _above(console):
            yield _Bars(bars)


@contextmanager
def _above(bars: Console) -> Iterator[None]:
    """Let lines go above bars that are shown on the same terminal."""
    global _console
    _console = bars if sys.stdout.isatty() else None
    try:
        yield
    finally:
        _console = None


@contextmanager
def _writing() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise  # the reader has seen enough
    except OSError as error:
        with translate_os_error("the output"):
            raise error


def _print(console: Console, text: str) -> None:
    console.print(text.translate(_CONTROLS))


def _shown(stage: str, done: int, total: int | None) -> str:
    show = size if stage in _STAGES_IN_BYTES else amount
    return show(done) if total is None else f"{show(done)} of {show(total)}"


class _Bars:
    def __init__(self, bars: Bars) -> None:
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, stage: str, done: int, total: int | None) -> None:
        if stage not in self._tasks:
            self._tasks[stage] = self._bars.add_task(stage, total=total, done="")
        self._bars.update(self._tasks[stage], completed=done, total=total, done=_shown(stage, done, total))


class _Lines:
    """A line when a stage begins, every other second, and when it ends."""

    def __init__(self) -> None:
        self._shown: dict[str, float] = {}

    def __call__(self, stage: str, done: int, total: int | None) -> None:
        now = time.monotonic()
        if total is None:
            self._shown.setdefault(stage, now)  # it may be over in a moment, and there is little to tell
        if total == 0:
            return
        if done == total or now - self._shown.get(stage, -_PLAIN_SECONDS) >= _PLAIN_SECONDS:
            self._shown[stage] = now
            sys.stderr.write(f"{stage}: {_shown(stage, done, total)}\n")
            sys.stderr.flush()
