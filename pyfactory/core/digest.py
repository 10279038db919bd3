"""Names of content: BLAKE3-256 in lower-case hex (https://github.com/BLAKE3-team/BLAKE3-specs)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NewType

import blake3

from pyfactory.errors import InvalidInputError

__all__ = ["NO_DIGEST", "Buffer", "Digest", "Hasher", "digest_of", "digest_of_file", "parse_digest"]

Digest = NewType("Digest", str)
Buffer = bytes | bytearray | memoryview
Hasher = blake3.blake3

NO_DIGEST = Digest("0" * 64)
"""Stands where a fixed-width field names no object."""

_HEX = re.compile(r"[0-9a-f]{64}")


def digest_of(content: Buffer) -> Digest:
    """Return the digest of bytes in memory."""
    return Digest(blake3.blake3(content).hexdigest())


def digest_of_file(path: Path) -> Digest:
    """Return the digest of a file, reading it through a memory map."""
    return Digest(blake3.blake3().update_mmap(path).hexdigest())


def parse_digest(text: object) -> Digest:
    """Return `text` as a digest, or raise InvalidInputError."""
    if not isinstance(text, str) or not _HEX.fullmatch(text):
        raise InvalidInputError(f"{text!r} is not a digest", hint="a digest has 64 hexadecimal digits")
    return Digest(text)
