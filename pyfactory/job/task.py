"""Tasks: work named by the digest of all that decides its outcome, done once and then remembered.

The name of a task is the digest of its step, the step's version, its parameters, the digests of its inputs and the
versions of the libraries that decide its bytes. What came out is a small object under `memo/`, created after the
objects it names: it is the completion mark. A killed job leaves either no mark or a true one, so running it again
repeats only what was not complete.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from pyfactory.core import canonical
from pyfactory.core.canonical import Value
from pyfactory.core.digest import Digest
from pyfactory.core.versions import code_versions
from pyfactory.errors import CorruptError, NotFoundError
from pyfactory.shard.memo import Result, decode_result, encode_result, memo_key
from pyfactory.store.content import Objects

__all__ = ["Result", "Task", "Work", "library_versions", "memo_key", "perform"]


@dataclass(frozen=True, slots=True)
class Task:
    """All that decides the outcome of a piece of work.

    Attributes:
        step: Name of the step.
        version: Version of the step's output: another output for the same task is another version.
        params: Parameters, a canonical value.
        inputs: Digests of what is read, in a fixed order; NO_DIGEST stands for what is absent.
        library: Versions of the libraries that decide bytes of the outcome.
    """

    step: str
    version: int
    params: Value
    inputs: tuple[Digest, ...]
    library: Mapping[str, str]

    def name(self) -> Digest:
        """Return the digest that names the task."""
        value = {"step": self.step, "version": self.version, "params": self.params}
        return canonical.digest_of_value({**value, "inputs": list(self.inputs), "library": dict(self.library)})


class Work(Protocol):
    """A task together with the means to do it: a function of its inputs, whoever runs it, whenever and wherever."""

    def task(self) -> Task:
        """Return the task that this is."""

    def run(self, objects: Objects) -> Result:
        """Do it, and store durably every object that the result names."""


def library_versions(*names: str) -> dict[str, str]:
    """Return the installed versions of some libraries, by name."""
    return {name: found for name, found in code_versions(*names).items() if name in names}


def perform(objects: Objects, work: Work) -> tuple[Result, bool]:
    """Return the result of a task and whether it was remembered rather than computed."""
    name = work.task().name()
    remembered = _recall(objects, name)
    if remembered is not None:
        return remembered, True
    return _remember(objects, name, work.run(objects)), False


def _recall(objects: Objects, name: Digest) -> Result | None:
    """Return the result of a task if it was done and all its objects are still there.

    A mark that cannot be read costs the work once more, and is then replaced; it is never believed.
    """
    try:
        result = decode_result(objects.store.get(memo_key(name)), name)
    except (NotFoundError, CorruptError):
        return None
    return result if all(objects.exists(digest) for digest in result.digests()) else None


def _remember(objects: Objects, name: Digest, result: Result) -> Result:
    content = encode_result(result, name)
    if objects.store.create(memo_key(name), content):
        return result
    # Somebody was faster: all then go on with the first outcome, even if a filter function gives several. Or the mark
    # names objects that are gone, and the new one takes its place.
    earlier = _recall(objects, name)
    if earlier is None:
        objects.store.replace(memo_key(name), content)
        return result
    return earlier
