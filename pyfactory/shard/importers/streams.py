"""Raw files as streams: read once, hashed on the way, unpacked in pieces of bounded size."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable
from types import TracebackType

import pyarrow as pa

from pyfactory.core.digest import Digest, Hasher
from pyfactory.core.durable import translate_os_error
from pyfactory.errors import PyfactoryError, UnavailableError
from pyfactory.shard.importers.sources import Compression, SourceFile

__all__ = ["DamagedStreamError", "RawFile", "Read", "refuse_changed", "unpacked"]

Read = Callable[[int], bytes]
"""Returns up to so many bytes, none only at the end."""

_PIECE_BYTES = 1 << 20
_PACKED_BYTES = 1 << 18
_UNPACKED_BYTES = 1 << 17


class DamagedStreamError(ValueError):
    """A compressed stream is cut off or damaged; never leaves this package."""


class RawFile:
    """A source file, read from start to end, whose digest is known when it has been read.

    Args:
        source: The file; that it is still the one listed is checked at both ends.
        advanced: Called with the number of bytes of each read; may raise to stop.

    Raises:
        UnavailableError: The file is being changed.
    """

    def __init__(self, source: SourceFile, advanced: Callable[[int], None]) -> None:
        self.source = source
        self._advanced = advanced
        self._hasher = Hasher()
        self._count = 0
        with translate_os_error(source.path):
            self._file = source.path.open("rb", buffering=0)
        if _differs(self.source, os.fstat(self._file.fileno())):
            self.close()
            raise _changed(self.source)

    def read(self, size: int = _PIECE_BYTES) -> bytes:
        """Return the next bytes, at most `size`, none only at the end."""
        with translate_os_error(self.source.path):
            piece = self._file.read(size)
        self._hasher.update(piece)
        self._count += len(piece)
        if self._count > self.source.size:  # maybe for ever
            raise _changed(self.source)
        self._advanced(len(piece))
        return piece

    def finish(self) -> Digest:
        """Read what is left and return the digest of all bytes of the file."""
        while self.read():
            pass
        refuse_changed(self.source)
        if self._count != self.source.size:
            raise _changed(self.source)
        return Digest(self._hasher.hexdigest())

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> RawFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def refuse_changed(source: SourceFile) -> None:
    """Raise UnavailableError if a file is not what it was when it was listed: then that explains all else."""
    with translate_os_error(source.path):
        status = source.path.stat()
    if _differs(source, status):
        raise _changed(source)


def _differs(source: SourceFile, status: os.stat_result) -> bool:
    return (status.st_size, status.st_mtime_ns) != (source.size, source.mtime_ns)


def _changed(source: SourceFile) -> UnavailableError:
    return UnavailableError(f"{source.path} changes while it is read", hint="import it when nobody writes to it")


def unpacked(file: RawFile) -> Read:
    """Return what reads the unpacked bytes of a file; no read holds more than it returns and a buffer.

    That reader raises DamagedStreamError when the compressed stream is cut off or damaged.
    """
    if file.source.compression is Compression.GZIP:
        return _Gzip(file).read
    if file.source.compression is Compression.ZSTD:
        return _Zstd(file).read
    return file.read


class _Gzip:
    """Members one after the other, each checked against its CRC and length; zeros may pad the end."""

    def __init__(self, file: RawFile) -> None:
        self._file = file
        self._inflate = zlib.decompressobj(wbits=31)
        self._packed = b""

    def read(self, size: int) -> bytes:
        while True:
            if self._inflate.eof and not self._next_member():
                return b""
            self._packed = self._packed or self._file.read(_PACKED_BYTES)
            if not self._packed:
                raise DamagedStreamError("the gzip stream is cut off")
            try:
                piece = self._inflate.decompress(self._packed, size)
            except zlib.error as error:
                raise DamagedStreamError(f"the gzip stream is damaged: {error}") from error
            self._packed = self._inflate.unconsumed_tail or self._inflate.unused_data
            if piece:
                return piece

    def _next_member(self) -> bool:
        while not (packed := self._packed.lstrip(b"\0")):
            packed = self._file.read(_PACKED_BYTES)
            if not packed:
                return False
            self._packed = packed
        self._packed = packed
        self._inflate = zlib.decompressobj(wbits=31)
        return True


class _ForArrow:
    """A file as Arrow wants it. Arrow closes what it reads, but the file stays open: its digest is to be taken."""

    def __init__(self, file: RawFile) -> None:
        self.closed = False
        self.read = file.read

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        self.closed = True


class _Zstd:
    """Frames one after the other, each checked as far as it carries a checksum."""

    def __init__(self, file: RawFile) -> None:
        self._file = file
        self._damage: DamagedStreamError | None = None
        self._stream = pa.CompressedInputStream(pa.PythonFile(_ForArrow(file), mode="r"), "zstd")

    def read(self, size: int) -> bytes:
        pieces: list[bytes] = []
        held = 0
        while held < size and self._damage is None:
            # Little at a time: Arrow keeps back what it has unpacked when the rest cannot be.
            piece = self._read(min(size - held, _UNPACKED_BYTES))
            if not piece:
                break
            pieces.append(piece)
            held += len(piece)
        if self._damage is not None and not held:
            raise self._damage
        return b"".join(pieces)

    def _read(self, size: int) -> bytes:
        try:
            piece: bytes = self._stream.read(size)
        except PyfactoryError:
            raise
        except (OSError, pa.ArrowException) as error:
            why = "cut off" if "Truncated" in str(error) else f"damaged: {error}"
            self._damage = DamagedStreamError(f"the zstd stream is {why}")
            return b""
        return piece
