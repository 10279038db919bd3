"""What a person types. No logic of its own: it calls the library and shows what comes back."""

from __future__ import annotations

from pyfactory.cli.app import main

__all__ = ["main"]
