"""The application: its commands, and what happens to errors.

Exit codes: 0 done; 1 it failed, or `verify` found something; 2 the command line is wrong.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from typing import Any

import typer

from pyfactory import __version__
from pyfactory.cli import (
    audit,
    commit,
    erasure,
    find,
    gates,
    governance,
    history,
    interchange,
    packing,
    repository,
    streams,
    sweep,
    tables,
)
from pyfactory.cli.interrupts import interruptible
from pyfactory.cli.output import line, show_error
from pyfactory.errors import InternalError, InvalidInputError, PyfactoryError, UnavailableError

__all__ = ["run"]

_INTERRUPTED = 130
"""What Typer makes of a KeyboardInterrupt."""

_READ = ("log", "show", "diff", "ops", "stats", "sample", "stream", "find", "sql", "trace")

_AFTER_INTERRUPT = {
    "gc": "the repository is whole; the next gc finishes what this one began",
    "forget": "the records are forgotten everywhere or nowhere yet; run it again",
    "verify": "nothing was changed; with --resume FILE it goes on where it was cut off",
    **dict.fromkeys(_READ, "nothing was changed"),
    "export": "nothing was changed: an export is complete or not there",
}

app = typer.Typer(
    name="pyfactory",
    help="Raw data to versioned training data, fed to GPUs as a stream that can be replayed, audited and priced.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def _say_version(asked: bool) -> None:
    if asked:
        line(f"pyfactory {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    debug: bool = typer.Option(False, "--debug", help="Show the stack trace of an error."),
    version: bool = typer.Option(False, "--version", callback=_say_version, is_eager=True, help="Show the version."),
) -> None:
    """Options of all commands."""


_GROUPS = (
    repository,
    streams,
    sweep,
    history,
    commit,
    tables,
    packing,
    streams,
    find,
    audit,
    governance,
    erasure,
    gates,
    interchange,
)
for commands in _GROUPS:
    commands.register(app)


def run(arguments: Sequence[str]) -> int:
    """Run a command line and return its exit code.

    Raises:
        Exception: Whatever went wrong, if `--debug` is among the arguments.
    """
    _settle_streams()
    rest, debug = _without_debug(arguments)
    as_json = "--json" in rest
    try:
        with interruptible(quiet=as_json):
            # Commands return nothing; a number is the exit code of `typer.Exit`.
            code = int(app(rest, prog_name="pyfactory", standalone_mode=False) or 0)
    except typer.TyperException as error:
        return _refuse(error, as_json)
    except SystemExit as error:  # shell completion, or the reader of our output went away, as `head` does
        return error.code if isinstance(error.code, int) else 1
    except Exception as error:
        if debug:
            raise
        show_error(_explained(error), as_json=as_json)
        return 1
    if code == _INTERRUPTED:
        show_error(PyfactoryError("interrupted", hint=_hint_of_interrupted(rest)), as_json=as_json)
        return 1
    return code


def _hint_of_interrupted(arguments: Sequence[str]) -> str:
    command = next((argument for argument in arguments if not argument.startswith("-")), "")
    if command == "verify" and any(argument.startswith("--resume") for argument in arguments):
        return "run it again: it goes on where it was cut off"
    return _AFTER_INTERRUPT.get(command, "a commit is made at the end or not at all; run it again")


def _settle_streams() -> None:
    """Let a name or text that the terminal cannot show never be an error, nor a stream that is closed."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, io.StringIO())
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _without_debug(arguments: Sequence[str]) -> tuple[list[str], bool]:
    """Return the arguments without `--debug`, which may stand anywhere, and whether it was there."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    options = [argument for argument in arguments[:end] if argument != "--debug"]
    return [*options, *arguments[end:]], len(options) < end


def _refuse(error: typer.TyperException, as_json: bool) -> int:
    """Say what is wrong with the command line."""
    message = error.format_message()
    if message:  # else the help was shown
        context: Any = getattr(error, "ctx", None)
        command = context.command_path if context else "pyfactory"
        show_error(InvalidInputError(message, hint=f"{command} --help"), as_json=as_json)
    return error.exit_code


def _explained(error: Exception) -> PyfactoryError:
    if isinstance(error, PyfactoryError):
        return error
    if isinstance(error, MemoryError):
        return UnavailableError("there is not enough memory", hint="take fewer --workers, or smaller records")
    text = f"{type(error).__name__}: {error}"
    return InternalError(text, hint="this is a bug in pyfactory: run the command again with --debug and report it")
