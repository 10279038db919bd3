"""The key that signs: from an option or the environment to a signer."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from pyfactory.repo.signing import Signer

__all__ = ["Key", "signer_of"]

Key = Annotated[
    Path | None,
    typer.Option("--key", envvar="PYFACTORY_KEY", help="File of the private key (Ed25519) that signs."),
]


def signer_of(key: Path | None) -> Signer | None:
    """Return what signs with the key in a file, None if there is no file.

    The password of an encrypted key is PYFACTORY_KEY_PASSWORD, or is asked for on a terminal.
    """
    if key is None:
        return None
    from pyfactory.repo.signing import Signer, is_encrypted

    password = None
    if is_encrypted(key):
        password = os.environ.get("PYFACTORY_KEY_PASSWORD")
        if password is None and sys.stdin is not None and sys.stdin.isatty():
            password = typer.prompt(f"Password of {key}", hide_input=True, err=True)
    return Signer.load(key, password)
