"""What a person types. No logic of its own: it calls the library and shows what comes back."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line and exit."""
    try:
        # Loading takes a moment, and an interrupt may come in it.
        from pyfactory.cli.app import run

        code = run(sys.argv[1:])
    except KeyboardInterrupt:
        sys.stderr.write("error: interrupted\n")
        code = 1
    sys.exit(code)
