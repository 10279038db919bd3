"""What `doctor` looks at."""

from __future__ import annotations

import platform
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from pyfactory.cli.output import counted
from pyfactory.core.versions import code_versions
from pyfactory.errors import PyfactoryError

__all__ = ["Check", "examine"]


@dataclass(frozen=True, slots=True)
class Check:
    """One finding.

    Attributes:
        name: What was looked at.
        state: "ok", "absent" (fine, but a feature is not to be had) or "wrong".
        detail: One line.
    """

    name: str
    state: Literal["ok", "absent", "wrong"]
    detail: str


def examine(repository: str | None) -> list[Check]:
    """Look at this installation and, if one is named, at a repository."""
    return [*_versions(), _extension(), _gpu(), _ray(), _store(), *_repositories(repository)]


def _versions() -> Iterator[Check]:
    yield Check("machine", "ok", f"{platform.system()} {platform.machine()}, Python {platform.python_version()}")
    packages = ("pyfactory", "torch", "pyarrow", "numpy", "numba", "ray", "obstore", "tokenizers", "gigatoken")
    versions = code_versions(*packages)
    missing = [name for name in packages if versions[name] == "absent"]
    detail = ", ".join(f"{name} {versions[name]}" for name in packages)
    yield Check("packages", "wrong" if missing else "ok", detail)


def _extension() -> Check:
    try:
        from pyfactory import native
        from pyfactory.native import _ext
    except PyfactoryError as error:
        return Check("extension", "wrong", str(error))
    zero = native.philox(np.zeros((1, 4), np.uint32), 0)[0]
    # The published answer of Philox4x32-10 for counter 0 and key 0.
    right = [int(word) for word in zero] == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
    name = Path(_ext.__file__).name
    if not right:
        return Check("extension", "wrong", f"{name} computes WRONG numbers (install pyfactory again)")
    return Check("extension", "ok", f"{name}, computes right")


def _gpu() -> Check:
    import torch

    if not torch.cuda.is_available():
        return Check("GPU", "absent", f"torch {torch.__version__} sees none; everything runs on the CPU")
    names = {torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())}
    return Check("GPU", "ok", f"{torch.cuda.device_count()} x {', '.join(sorted(names))}, CUDA {torch.version.cuda}")


def _ray() -> Check:
    version = code_versions("ray")["ray"]
    if version == "absent":
        return Check("Ray", "wrong", "not installed")
    return Check("Ray", "ok", f"{version} is installed; this release runs jobs in one process and does not start it")


def _store() -> Check:
    from pyfactory.store.base import prove_put_if_absent
    from pyfactory.store.open import open_store

    try:
        with tempfile.TemporaryDirectory() as folder:
            prove_put_if_absent(open_store(folder, create=True))
    except PyfactoryError as error:
        return Check("store", "wrong", str(error))
    return Check("store", "ok", f"put-if-absent holds on the local disk ({tempfile.gettempdir()})")


def _repositories(url: str | None) -> Iterator[Check]:
    from pyfactory.repo.repository import Repository

    if url is None:
        return
    try:
        repo = Repository.open(url)
        refs = f"{counted(len(repo.branches()), 'branch', 'branches')}, {counted(len(repo.tags()), 'tag')}"
        yield Check("repository", "ok", f"{repo.url}: {refs}")
    except PyfactoryError as error:
        yield Check("repository", "wrong", str(error))
