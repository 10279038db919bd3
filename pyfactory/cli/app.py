"""The application: its commands, and what happens to errors.

Exit codes: 0 done; 1 it failed, or `verify` found something; 2 the command line is wrong.
"""

from __future__ import annotations

import sys
from typing import Any

import typer
from typer.core import TyperGroup

from pyfactory.cli import audit, data, repository
from pyfactory.cli.output import show_error
from pyfactory.errors import InternalError, PyfactoryError

__all__ = ["main"]


class _Commands(TyperGroup):
    """The commands. Typer would turn an interrupt into exit code 130 and say nothing."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            raise PyfactoryError("interrupted", hint="what was not committed is not; run it again") from error


app = typer.Typer(
    name="pyfactory",
    cls=_Commands,
    help="Raw data to versioned training data, fed to GPUs as a stream that can be replayed, audited and priced.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


@app.callback()
def _options(debug: bool = typer.Option(False, "--debug", help="Show the stack trace of an error.")) -> None:
    """Options before the command; `main` looks for them itself."""


for commands in (repository, data, audit):
    commands.register(app)


def main() -> None:
    """Run the command line and exit."""
    debug, as_json = "--debug" in sys.argv, "--json" in sys.argv
    try:
        app()
    except PyfactoryError as error:
        if debug:
            raise
        show_error(error, as_json=as_json)
    except BrokenPipeError:
        # The reader of our output went away, as `head` does.
        sys.stderr.close()
    except Exception as error:
        if debug:
            raise
        bug = InternalError(f"{type(error).__name__}: {error}", hint="this is a bug: run it with --debug and report it")
        show_error(bug, as_json=as_json)
    sys.exit(1)
