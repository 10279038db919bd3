"""What commands that commit take: where to, why, and who; and what they tell of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from pyfactory.cli.keys import signer_of
from pyfactory.cli.repository import author

__all__ = ["Branch", "Message", "Workers", "told"]

Branch = Annotated[str, typer.Option("--branch", help="The branch to commit to.")]
Message = Annotated[str, typer.Option("-m", "--message", help="Why, for the log.")]
Workers = Annotated[int | None, typer.Option("--workers", min=1, help="Threads; default all cores.")]


def told(branch: str, message: str, key: Path | None) -> dict[str, Any]:
    """Return the arguments of a verb that commits: branch, message, author and signer."""
    return {"branch": branch, "message": message, "author": author(), "signer": signer_of(key)}
