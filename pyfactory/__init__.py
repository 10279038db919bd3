"""pyfactory: raw data to versioned training data, fed to GPUs as a stream that can be replayed, audited and priced.

>>> import pyfactory as pf
>>> repo = pf.Repository.open("corpus-repo")
>>> stream = pf.Stream(repo.version("corpus", "v1"), seed=7, sequence_length=2048)
>>> for batch in pf.DataLoader(stream, batch_size=8): ...

Names are loaded when first used (PEP 562): importing pyfactory imports neither torch nor ray.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyfactory.audit import Trace as Trace
    from pyfactory.audit import trace as trace
    from pyfactory.errors import PyfactoryError as PyfactoryError
    from pyfactory.factory import build as build
    from pyfactory.factory import export as export
    from pyfactory.factory import forget_records as forget_records
    from pyfactory.factory import import_dataset as import_dataset
    from pyfactory.factory import import_files as import_files
    from pyfactory.factory import import_tokens as import_tokens
    from pyfactory.factory import open_loader as open_loader
    from pyfactory.factory import open_stream as open_stream
    from pyfactory.factory import pack as pack
    from pyfactory.factory import query as query
    from pyfactory.ledger import Run as Run
    from pyfactory.loader.loader import DataLoader as DataLoader
    from pyfactory.repo.repository import Repository as Repository
    from pyfactory.repo.version import Version as Version
    from pyfactory.stream.mixture import Mixture as Mixture
    from pyfactory.stream.mixture import Source as Source
    from pyfactory.stream.stream import Stream as Stream

__version__ = "0.1.0"

_HOMES = {
    "DataLoader": "pyfactory.loader.loader",
    "Mixture": "pyfactory.stream.mixture",
    "PyfactoryError": "pyfactory.errors",
    "Repository": "pyfactory.repo.repository",
    "Run": "pyfactory.ledger",
    "Source": "pyfactory.stream.mixture",
    "Stream": "pyfactory.stream.stream",
    "Trace": "pyfactory.audit",
    "Version": "pyfactory.repo.version",
    "build": "pyfactory.factory",
    "export": "pyfactory.factory",
    "forget_records": "pyfactory.factory",
    "import_dataset": "pyfactory.factory",
    "import_files": "pyfactory.factory",
    "import_tokens": "pyfactory.factory",
    "open_loader": "pyfactory.factory",
    "open_stream": "pyfactory.factory",
    "pack": "pyfactory.factory",
    "query": "pyfactory.factory",
    "trace": "pyfactory.audit",
}

__all__ = [*_HOMES]  # the names above, which a test freezes


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'pyfactory' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
