"""Bytes that nobody wrote: what a parser is to the tests, and mutations of what a writer made."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from pyfactory.core.canonical import decode, encode
from pyfactory.core.digest import Digest
from pyfactory.errors import CorruptError, InvalidInputError, NewerFormatError
from pyfactory.store.content import Objects
from pyfactory.store.memory import MemoryStore

__all__ = [
    "CORRUPT",
    "INPUT",
    "NEWER",
    "TIME",
    "A",
    "B",
    "C",
    "Parser",
    "Shelf",
    "claims",
    "damaged",
    "deformed",
    "replaced",
    "value_of",
    "written",
]

TIME = "2026-11-24T00:00:00Z"
A, B, C = (Digest(digit * 64) for digit in "abc")

CORRUPT = (CorruptError,)
NEWER = (CorruptError, NewerFormatError)
INPUT = (InvalidInputError,)  # files that somebody gives us, not what we stored


@dataclass(frozen=True)
class Parser:
    """One parser.

    Attributes:
        name: Of what it reads.
        good: What a writer made.
        parse: Reads bytes.
        raises: What it may raise.
        write: Makes the bytes of what was read: then no two byte strings are one value.
        text: Whether the bytes are a document (JSON).
    """

    name: str
    good: bytes
    parse: Callable[[bytes], Any]
    raises: tuple[type[Exception], ...] = CORRUPT
    write: Callable[[Any], bytes] | None = None
    text: bool = True


class Shelf:
    """Where hostile objects lie: a store, named by their digest as any object."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.url = self.store.url
        self.objects = Objects(self.store)

    def load(self, read: Callable[[Any, Digest], Any], content: bytes) -> Any:
        return read(self, self.objects.put(content))


def value_of(read: Callable[[Any, str], Any]) -> Callable[[bytes], Any]:
    return lambda content: read(decode(content, "it"), "it")


def written(value: Any) -> bytes:
    return encode(value.to_value())


WRONG: tuple[Any, ...] = (None, True, -1, 2**63 - 1, 2**70, "", "x" * 100_000, [], {})
"""What is put in place of each value of a document."""

_NAMES = ("", "\u00b2", "9" * 5000, "=", "../x", "x\0y")
"""What is put in place of each name of a field."""

_NUMBERS = (0, 1, 2**7, 2**16 - 1, 2**31 - 1, 2**32 - 1, 2**60, 2**63 - 1, 2**63, 2**64 - 1)
_HEADER = 72  # bytes in which length fields are looked for
_DEEP = 100_000


def canonical(value: Any) -> bytes:
    """As the writer would write it, also where he would refuse to."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode(errors="surrogatepass")


def replaced(content: bytes) -> Iterator[bytes]:
    """Yield a document with each of its values replaced by each wrong one, each field left out, and one too many."""
    value = json.loads(content)
    for path in _paths(value):
        for wrong in WRONG:
            yield canonical(_with(value, path, wrong))
    for path in _paths(value):
        here = _at(value, path)
        if isinstance(here, dict):
            yield canonical(_with(value, path, {**here, "surplus": 1}))
            for name in here:
                rest = {other: inner for other, inner in here.items() if other != name}
                yield from (canonical(_with(value, path, {**rest, new: here[name]})) for new in _NAMES)
            yield from (canonical(_with(value, path, {k: v for k, v in here.items() if k != name})) for name in here)
        if isinstance(here, list) and here:
            yield canonical(_with(value, path, [*here, here[0]]))
            yield canonical(_with(value, path, here[::-1]))


def deformed(content: bytes) -> Iterator[bytes]:
    """Yield other spellings of a document, and documents that exhaust a parser."""
    value = json.loads(content)
    yield json.dumps(value, indent=1).encode()
    yield content + b"\n"
    yield b"\xef\xbb\xbf" + content
    yield content.decode().encode("utf-16")
    yield content.decode().encode("utf-32")
    if isinstance(value, dict) and value:
        name = next(iter(value))
        first = json.dumps({name: value[name]}, separators=(",", ":"))[1:-1].encode()
        yield b"{" + first + b"," + content[1:]
        yield json.dumps(dict(reversed(value.items())), separators=(",", ":")).encode()
        yield b"{" + json.dumps(name).replace("a", "\\u0061").encode() + content[1 + len(json.dumps(name)) :]
        for odd in (b"1.0", b"1e999", b"NaN", b"-0", b"-Infinity", b'"\\ud800"', b"9" * 5000, b"[" * _DEEP):
            yield canonical({**value, name: None}).replace(b"null", odd, 1)
    yield b"[" * _DEEP
    yield b'{"a":' * _DEEP
    yield b"[" * 60 + b"]" * 60
    yield from (b"", b"null", b"0", b'""', b"\xff", b"\0" * 64)


def claims(content: bytes) -> Iterator[bytes]:
    """Yield bytes in which some field of the header claims another number, each of 1 to 8 bytes at each place."""
    for at in range(min(_HEADER, len(content))):
        for form in ("<B", "<H", "<I", "<Q"):
            size = struct.calcsize(form)
            for number in _NUMBERS:
                if number < 256**size and at + size <= len(content):
                    yield content[:at] + struct.pack(form, number) + content[at + size :]
    for cut in {0, 1, 7, 8, 9, 16, len(content) // 2, len(content) - 1}:
        yield content[:cut]
    yield content * 2


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """Draw bytes after one to three accidents."""
    for _ in range(draw(st.integers(1, 3))):
        content = _accident(draw, content)
    return content


def _accident(draw: st.DrawFn, content: bytes) -> bytes:
    size = len(content)
    low, high = sorted((draw(st.integers(0, size)), draw(st.integers(0, size))))
    match draw(st.sampled_from(["flip", "set", "number", "cut", "insert", "double", "drop", "swap", "zero"])):
        case "flip" if low < size:
            return content[:low] + bytes([content[low] ^ 1 << draw(st.integers(0, 7))]) + content[low + 1 :]
        case "set" if low < size:
            return content[:low] + draw(st.binary(min_size=1, max_size=1)) + content[low + 1 :]
        case "number":
            form = draw(st.sampled_from(["<H", "<I", "<Q", ">Q"]))
            number = draw(st.sampled_from(_NUMBERS)) % 256 ** struct.calcsize(form)
            return content[:low] + struct.pack(form, number) + content[low + struct.calcsize(form) :]
        case "cut":
            return content[:low]
        case "insert":
            return content[:low] + draw(st.binary(max_size=40)) + content[low:]
        case "double":
            return content[:high] + content[low:high] + content[high:]
        case "drop":
            return content[:low] + content[high:]
        case "swap":
            middle = (low + high) // 2
            return content[:low] + content[middle:high] + content[low:middle] + content[high:]
        case "zero":
            return content[:low] + bytes(high - low) + content[high:]
    return content


_Path = tuple[str | int, ...]


def _paths(value: Any, path: _Path = ()) -> Iterator[_Path]:
    yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, each in inner:
        yield from _paths(each, (*path, name))


def _at(value: Any, path: _Path) -> Any:
    for name in path:
        value = value[name]
    return value


def _with(value: Any, path: _Path, new: Any) -> Any:
    if not path:
        return new
    name = path[0]
    changed = dict(value) if isinstance(value, dict) else list(value)
    changed[name] = _with(value[name], path[1:], new)
    return changed
