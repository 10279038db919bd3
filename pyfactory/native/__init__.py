"""The hot kernels behind one face. The C++ extension is required: there is no slow path.

`reference` holds the same functions in plain NumPy; only tests use it.
"""

from __future__ import annotations

from pyfactory.errors import InternalError

try:
    from pyfactory.native._ext import (
        IGNORE,
        Interleave,
        Mixture,
        Order,
        ShardSet,
        TwoWay,
        best_fit,
        permute,
        philox,
        unpermute,
    )
except ImportError as error:
    raise InternalError(
        f"the compiled extension pyfactory.native._ext cannot be loaded: {error}",
        hint="install pyfactory again with pip, on a machine with a C++ compiler",
    ) from error

__all__ = [
    "IGNORE",
    "Interleave",
    "Mixture",
    "Order",
    "ShardSet",
    "TwoWay",
    "best_fit",
    "permute",
    "philox",
    "unpermute",
]
