"""Which code made something, to be recorded beside it."""

from __future__ import annotations

import platform
from functools import cache
from importlib.metadata import PackageNotFoundError, version

__all__ = ["code_versions"]


def code_versions(*packages: str) -> dict[str, str]:
    """Return the installed version of each package ("absent" if there is none), and Python's."""
    return {"python": platform.python_version()} | {name: _version(name) for name in packages}


@cache
def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"
