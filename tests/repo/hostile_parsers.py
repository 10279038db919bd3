"""Every parser of stored bytes."""

from __future__ import annotations

from functools import partial

from hostile import Parser
from hostile_binaries import binaries, files
from hostile_documents import documents
from hostile_past import Past
from hostile_sketches import Sketched

from pyfactory.errors import CorruptError, NewerFormatError, NotFoundError

__all__ = ["PARSERS"]


def _sketches() -> list[Parser]:
    sketched = Sketched()
    parsers = {}
    for key in sketched.keys:
        name = key.split("/")[1] + (" total" if "/total/" in key else "")
        parsers[name] = Parser(f"sketch {name}", sketched.good[key], partial(sketched.parse, key), ())
    return [*parsers.values()]


def _past() -> list[Parser]:
    past = Past()
    raises = (CorruptError, NewerFormatError, NotFoundError)
    reads = past.reads().items()
    return [Parser(f"past: {name}", past.good[name.split(",")[0]], read, raises) for name, read in reads]


PARSERS: list[Parser] = [*documents(), *binaries(), *files(), *_sketches(), *_past()]
