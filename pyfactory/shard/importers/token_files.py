"""Files of tokens as they lie on disks: `.npy`, flat `.bin` and Megatron's `.bin` with `.idx`.

Headers and indices are taken for hostile: every extent that they declare is compared with the file before it is used,
and nothing is unpickled.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyfactory.core.durable import translate_os_error
from pyfactory.errors import InvalidInputError
from pyfactory.shard.importers.megatron import read_index
from pyfactory.shard.importers.sources import SourceFile, expand

__all__ = ["TokenFile", "TokenFormat", "open_token_file", "token_sources"]

_MAX_HEADER = 1 << 20
_LITTLE = "little-endian"


class TokenFormat(StrEnum):
    """How files of tokens are written."""

    npy = "npy"
    bin = "bin"
    megatron = "megatron"


@dataclass(frozen=True, slots=True)
class TokenFile:
    """Tokens in a file, and where its documents end as far as another file or the shape of the array says.

    Attributes:
        source: The file.
        beside: The files that say where documents end.
        dtype: Of a token: an integer of 1 to 8 bytes.
        start: Byte at which the first token begins.
        count: Tokens.
        row: Tokens of a row of a 2-D array, 0 if there are no rows.
        ends: int64[documents], where each document ends, counted in tokens; None if nothing says.
    """

    source: SourceFile
    beside: tuple[SourceFile, ...]
    dtype: np.dtype[Any]
    start: int
    count: int
    row: int = 0
    ends: NDArray[np.int64] | None = None


def token_sources(
    paths: Sequence[Path], format: TokenFormat, glob: str | None = None
) -> list[tuple[SourceFile, tuple[SourceFile, ...]]]:
    """Return the files of tokens that paths stand for, in order, each with its index file if the format has one.

    A folder stands for the files in it with the ending of the format; a Megatron dataset may be named by its `.bin`,
    its `.idx` or the prefix of both.

    Raises:
        NotFoundError: A file, or the index of one, does not exist.
        InvalidInputError: A file is empty, or there is none.
    """
    if format is not TokenFormat.megatron:
        found = expand(paths, glob or f"*.{format}")
        return [(_not_empty(file), ()) for file in found]
    named = [path.with_suffix(".bin") if path.suffix == ".idx" else path for path in paths]
    named = [path.with_name(f"{path.name}.bin") if not path.exists() else path for path in named]
    files = {file.path: file for file in expand(named, glob or "*.bin")}
    return [(_not_empty(file), (_index_beside(file),)) for file in files.values()]


def _not_empty(file: SourceFile) -> SourceFile:
    if not file.size:
        hint = "it may be left over from a copy that failed; remove or restore it"
        raise InvalidInputError(f"{file.path} is empty", hint=hint)
    return file


def _index_beside(file: SourceFile) -> SourceFile:
    path = file.path.with_suffix(".idx")
    (index,) = expand([path])
    folder = file.name.rpartition("/")[0]
    return _not_empty(replace(index, name=f"{folder}/{path.name}" if folder else path.name))


def open_token_file(
    source: SourceFile,
    beside: tuple[SourceFile, ...],
    format: TokenFormat,
    *,
    dtype: str | None,
    folder: Path,
    number: int,
) -> TokenFile:
    """Read what a file says of itself.

    Args:
        source: The file.
        beside: Its index.
        format: How it is written.
        dtype: Type of the tokens of a flat file, such as `uint16`, little-endian.
        folder: For temporary files.
        number: Number of the file in the import, which names those.

    Raises:
        InvalidInputError: It is not such a file, or is cut off; the message says at which byte.
    """
    if format is TokenFormat.npy:
        return _npy(source, dtype)
    if format is TokenFormat.bin:
        return _flat(source, _dtype(dtype, source))
    index = read_index(beside[0].path, beside[0].size, folder / f"ends-{number:06d}", source.path, source.size)
    if dtype is not None and np.dtype(index.dtype) != _dtype(dtype, source):
        raise InvalidInputError(
            f"{beside[0].path} says that tokens are {index.dtype}, not {dtype}", hint="leave the dtype out"
        )
    return TokenFile(source, beside, index.dtype, 0, source.size // index.dtype.itemsize, ends=index.ends)


def _flat(source: SourceFile, dtype: np.dtype[Any]) -> TokenFile:
    if source.size % dtype.itemsize:
        raise InvalidInputError(
            f"{source.path} has {source.size} bytes, which are not whole tokens of {dtype.itemsize} bytes ({dtype})",
            hint="choose the dtype that it was written with; a file with a header is not flat",
        )
    return TokenFile(source, (), dtype, 0, source.size // dtype.itemsize)


def _dtype(dtype: str | None, source: SourceFile) -> np.dtype[Any]:
    known = [f"{sign}int{bits}" for sign in ("u", "") for bits in (8, 16, 32, 64)]
    if dtype is None:
        raise InvalidInputError(f"nothing says how wide the tokens of {source.path} are", hint="give their dtype")
    if dtype not in known:
        raise InvalidInputError(f"tokens cannot be {dtype!r}", hint=f"choose one of {', '.join(known)}")
    return np.dtype(dtype).newbyteorder("<")


def _npy(source: SourceFile, dtype: str | None) -> TokenFile:
    with translate_os_error(source.path), source.path.open("rb") as file:
        head = io.BytesIO(file.read(_MAX_HEADER))
    shape, fortran, type_ = _npy_header(head, source)
    if type_.kind not in "iu" or type_.hasobject:
        raise InvalidInputError(f"{source.path} holds {type_}, not integers", hint="save the tokens as integers")
    if dtype is not None and type_.newbyteorder("<") != _dtype(dtype, source):
        raise InvalidInputError(f"{source.path} holds {type_}, not {dtype}", hint="leave the dtype out")
    if len(shape) not in (1, 2) or min(shape, default=0) < 0:
        raise InvalidInputError(f"{source.path} has the shape {shape}", hint="save an array of 1 or 2 dimensions")
    if fortran and len(shape) == 2 and min(shape) > 1:
        hint = "save numpy.ascontiguousarray of it"
        raise InvalidInputError(f"{source.path} holds columns one after the other, not rows", hint=hint)
    count, start = prod(shape), head.tell()
    if start + count * type_.itemsize != source.size:
        raise InvalidInputError(
            f"{source.path} has {source.size} bytes; its header, of {start} bytes, declares {count} tokens of"
            f" {type_.itemsize} bytes",
            hint="it is cut off or damaged: copy it again",
        )
    if not count:
        raise InvalidInputError(f"{source.path} has no tokens", hint="leave it out")
    return TokenFile(source, (), type_, start, count, row=shape[1] if len(shape) == 2 else 0)


def _npy_header(head: io.BytesIO, source: SourceFile) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    try:
        version = np.lib.format.read_magic(head)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(head)
    except Exception as error:  # hostile headers end in errors of many kinds
        reason = str(error).partition("\n")[0][:100]
        raise InvalidInputError(f"{source.path} is not an .npy file: {reason}", hint="write it again") from error
    return shape, fortran, dtype
