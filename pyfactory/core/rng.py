"""Keys of the counter-based random generator (Philox4x32-10, in csrc/core/philox.hpp)."""

from __future__ import annotations

import hashlib

from pyfactory.errors import InvalidInputError

__all__ = ["SPEC_VERSION", "derive_key"]

SPEC_VERSION = 1
"""Version of docs/stream-spec.md. A change of any delivered position needs a new one."""


def derive_key(seed: int, purpose: str, source: str) -> int:
    """Return the 64-bit Philox key of one purpose and source.

    SHA-256 rather than BLAKE3, since every standard library has it: a replay in ten years needs no other package.

    Raises:
        InvalidInputError: The seed is not an integer in [0, 2^64).
    """
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**64:
        raise InvalidInputError(f"the seed is {seed!r}", hint="a seed is an integer from 0 to 2^64 - 1")
    text = f"pyfactory stream {SPEC_VERSION}\0{seed}\0{purpose}\0{source}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")
