"""Parses hostile bytes with little memory; started by test_hostile_bytes as a program of its own."""

from __future__ import annotations

import resource
from pathlib import Path

from hostile import claims, deformed
from hostile_parsers import PARSERS

MEMORY = 256 * 1024 * 1024
"""What all parsers together may take beyond what the program has when it begins."""


def limit() -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    size = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (size, size))


def main() -> None:
    for parser in PARSERS:
        parser.parse(parser.good)  # what libraries load or reserve at their first use is no parser's fault
    limit()
    for parser in PARSERS:
        if parser.name.startswith(("sketch", "past")):
            continue  # read by `decode` alone, and slow
        for content in deformed(parser.good) if parser.text else claims(parser.good):
            try:
                parser.parse(content)
            except parser.raises:
                continue
            except MemoryError as error:
                raise AssertionError(f"{parser.name}: {content[:200]!r} costs more memory than there is") from error


if __name__ == "__main__":
    main()
