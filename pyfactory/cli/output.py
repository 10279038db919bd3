"""How results, progress and errors look: for people on a terminal, as plain lines in a pipe, as JSON for programs."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from pyfactory.core.progress import Progress
from pyfactory.errors import PyfactoryError

__all__ = ["amount", "emit", "line", "progress", "show_error", "size"]

_PLAIN_SECONDS = 2.0


def emit(value: Any, *, as_json: bool) -> bool:
    """Print a result as JSON if that was asked for; return whether it was."""
    if as_json:
        print(json.dumps(value, indent=2, sort_keys=True, default=str))
    return as_json


def line(text: str = "") -> None:
    """Print a line for people; rich markup allowed, long lines left to the terminal."""
    Console(highlight=False, soft_wrap=True).print(text)


def amount(number: int) -> str:
    """Return a count with thousands marks."""
    return f"{number:,}"


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
        shown = {"error": {"kind": error.kind, "message": error.message, "hint": error.hint}}
        print(json.dumps(shown), file=sys.stderr)
        return
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    console.print(f"[bold red]error:[/] {escape(error.message)}")
    if error.hint:
        console.print(f"[dim]hint:[/]  {escape(error.hint)}")


@contextmanager
def progress() -> Iterator[Progress]:
    """Show progress on stderr: bars on a terminal, else a plain line per stage every other second."""
    if not sys.stderr.isatty():
        yield _Lines()
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Bars(*columns, console=Console(stderr=True), transient=True) as bars:
        yield _Bars(bars)


class _Bars:
    def __init__(self, bars: Bars) -> None:
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, stage: str, done: int, total: int | None) -> None:
        if stage not in self._tasks:
            self._tasks[stage] = self._bars.add_task(stage, total=total)
        self._bars.update(self._tasks[stage], completed=done, total=total)


class _Lines:
    def __init__(self) -> None:
        self._shown: dict[str, float] = {}

    def __call__(self, stage: str, done: int, total: int | None) -> None:
        now = time.monotonic()
        if now - self._shown.get(stage, 0.0) >= _PLAIN_SECONDS or done == total:
            self._shown[stage] = now
            print(f"{stage}: {done}{'' if total is None else f'/{total}'}", file=sys.stderr, flush=True)
