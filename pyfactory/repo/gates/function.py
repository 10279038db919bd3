"""The gate `function`: a Python function of the team names the rows it objects to.

The function is named "module:function" and found on the import path of whoever commits. Its code is never taken from
the repository: whoever can write to a store could then run code on the machines of all who commit to it. The rule
holds the digest of the module's source instead, and a module with another digest is not run. What the module imports
is not covered by that digest.
"""

from __future__ import annotations

import heapq
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import pyarrow as pa

from pyfactory.core.digest import Digest, digest_of, parse_digest
from pyfactory.core.durable import translate_os_error
from pyfactory.errors import InvalidInputError, PyfactoryError
from pyfactory.repo.gates.answer import allowed, answer, percent
from pyfactory.repo.gates.base import EVIDENCE, Proposal, Verdict
from pyfactory.repo.gates.options import SHARE, TEXT, option, ratio, rounded
from pyfactory.repo.gates.rows import known_ids, rows_with_ids

__all__ = ["FunctionGate", "find_source"]

_SPEC = re.compile(r"([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*):([A-Za-z_]\w*)", re.ASCII)

Objector = Callable[[Iterator[pa.RecordBatch]], Iterable[str]]


@dataclass(frozen=True)
class FunctionGate:
    """A function takes an iterator of record batches, which have a column `id`, and returns the ids it objects to."""

    name: ClassVar[str] = "function"
    version: ClassVar[int] = 1

    function: str = option("", TEXT, 'the function, as "module:function"')
    digest: str = option("", TEXT, "BLAKE3 digest of the source of its module, 64 hexadecimal digits")
    max_share: Decimal = option("0", SHARE, "share of the added rows that it may object to")

    def __post_init__(self) -> None:
        if not _SPEC.fullmatch(self.function):
            raise InvalidInputError(
                f"the gate function: {self.function!r} names no function", hint='give function="module:function"'
            )
        try:
            parse_digest(self.digest)
        except InvalidInputError as error:
            raise InvalidInputError(f"the gate function: {error.message}", hint="b3sum prints it") from error

    def obstacle(self, proposal: Proposal) -> str:
        """Return why the table cannot be judged, or ""."""
        return "would be removed" if proposal.after is None else ""

    def judge(self, proposal: Proposal) -> Verdict:
        """Return the verdict; the function is given the added shards one by one.

        Raises:
            InvalidInputError: There is no such function here, its source is another one, or it fails.
        """
        function = self._load()
        batches = (rows_with_ids(proposal.objects, part) for part in proposal.added)
        ids = _called(function, batches, self.function)
        shown = heapq.nsmallest(EVIDENCE, ids)
        unknown = set(shown) - known_ids(proposal.objects, proposal.added, shown)
        if unknown:
            raise InvalidInputError(
                f"the gate function: {self.function} returns {len(unknown)} ids or more that no added row has",
                hint="return values of the column id",
            )
        rows, share = proposal.added_rows, ratio(len(ids), proposal.added_rows)
        passed = allowed(len(ids), rows, self.max_share)
        reason = (
            f"{self.function} objects to {len(ids):,} of {rows:,} added rows, {percent(share)}; "
            f"{percent(self.max_share)} may be"
        )
        found: dict[str, str | int] = {"rows": rows, "objected": len(ids), "share": rounded(share)}
        return answer(self, proposal, reason, found, passed=passed, evidence=tuple(shown))

    def _load(self) -> Objector:
        module, _, name = self.function.partition(":")
        path = find_source(module)
        with translate_os_error(path):
            source = path.read_bytes()
        if digest_of(source) != self.digest:
            raise InvalidInputError(
                f"the gate function: {path} has the digest {digest_of(source)}, and the rule asks for {self.digest}",
                hint="take the source that the rule was made for, or change the rule",
            )
        return _run_module(module, name, path, source)


def find_source(module: str) -> Path:
    """Return the file of a module on the import path, running nothing, not even the packages that it lies in.

    Raises:
        InvalidInputError: There is none.
    """
    spec, folders, parts = None, None, module.split(".")
    for end in range(1, len(parts) + 1):
        spec = PathFinder.find_spec(".".join(parts[:end]), folders)
        folders = None if spec is None else spec.submodule_search_locations
        if spec is None or (folders is None and end < len(parts)):
            break
        if end == len(parts) and spec.origin and spec.origin.endswith(".py"):
            return Path(spec.origin)
    raise InvalidInputError(
        f"the gate function: there is no Python source of the module {module!r} here",
        hint="install it, or put its folder into PYTHONPATH",
    )


def _run_module(name: str, function: str, path: Path, source: bytes) -> Objector:
    """Run the very bytes whose digest was taken, as a module of its own name, and return its function."""
    module = ModuleType(f"pyfactory_gate_{Digest(digest_of(source))[:16]}")
    module.__file__ = str(path)
    module.__package__ = name if path.name == "__init__.py" else name.rpartition(".")[0]
    sys.modules[module.__name__] = module  # which dataclasses and pickles of it look up
    try:
        exec(compile(source, str(path), "exec", dont_inherit=True), module.__dict__)
    except (Exception, SystemExit) as error:
        raise InvalidInputError(
            f"the gate function: {path} cannot be imported: {type(error).__name__}: {error}", hint="mend the module"
        ) from error
    found: Any = getattr(module, function, None)
    if not callable(found):
        raise InvalidInputError(f"the gate function: {path} has no function {function!r}", hint="check its name")
    made: Objector = found
    return made


def _called(function: Objector, batches: Iterator[pa.RecordBatch], name: str) -> set[str]:
    try:
        ids = set(function(batches))
    except PyfactoryError:
        raise
    except (Exception, SystemExit) as error:
        raise InvalidInputError(
            f"the gate function: {name} failed: {type(error).__name__}: {error}", hint="mend the function"
        ) from error
    if not all(isinstance(item, str) for item in ids):
        raise InvalidInputError(f"the gate function: {name} returns what is no id", hint="return an iterable of str")
    return ids
