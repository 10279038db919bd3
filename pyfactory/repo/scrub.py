"""Reading many shards on several threads: which of them, which were read before, and what came of it, in order."""

from __future__ import annotations

import os
import struct
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import IO

from pyfactory.core.digest import Digest, Hasher
from pyfactory.core.durable import translate_os_error
from pyfactory.core.progress import Progress
from pyfactory.errors import InvalidInputError
from pyfactory.repo.findings import Findings

__all__ = ["Sample", "Scrub", "Tally", "Verified"]

_MAGIC = b"PFSCRUB1"
_WIDTH = 32
_WINDOW = 64
_SAVE_EVERY = 256
_SAVE_SECONDS = 5.0  # of 64 MB each, 256 shards take minutes


@dataclass(frozen=True, slots=True)
class Sample:
    """A share of the shards, the same for the same seed.

    Attributes:
        share: More than 0, at most 1.
        seed: Chooses which.
    """

    share: Fraction
    seed: int

    @classmethod
    def parse(cls, text: str, seed: int) -> Sample:
        """Return the sample that `1%` or `0.01` stands for; InvalidInputError if it is no share."""
        try:
            share = Fraction(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
        except (ValueError, ZeroDivisionError) as error:
            raise InvalidInputError(f"{text!r} is not a share", hint="say 1% or 0.01") from error
        if not 0 < share <= 1:
            raise InvalidInputError(f"a sample of {text} is not a part of the whole", hint="say 1% or 0.01")
        return cls(share, seed)

    def takes(self, digest: Digest) -> bool:
        """Tell whether an object is in the sample."""
        drawn = Hasher(f"{self.seed}:{digest}".encode()).digest()
        return int.from_bytes(drawn[:8], "big") < self.share * 2**64


class Verified:
    """What an earlier, unfinished verification has read: a file that only grows.

    The magic `PFSCRUB1`, the digest of the repository's first log entry, then 32 bytes for each thing verified. A tail
    that was torn off is cut; whatever else a crash leaves in it names nothing that exists.

    Args:
        path: The file, made if there is none.
        repository: Digest of log entry 0.

    Raises:
        InvalidInputError: The file is something else, or belongs to another repository.
    """

    def __init__(self, path: Path, repository: Digest) -> None:
        self._path = path
        start = _MAGIC + bytes.fromhex(repository)
        with translate_os_error(path):
            content = path.read_bytes() if path.exists() else b""
            if not start.startswith(content[: len(start)]):
                whose = "of another repository" if content.startswith(_MAGIC) else "no record of a verification"
                raise InvalidInputError(f"{path} is {whose}", hint="name a new file")
            whole = len(start) + (len(content) - len(start)) // _WIDTH * _WIDTH if len(content) > len(start) else 0
            self._known = {content[at : at + _WIDTH] for at in range(len(start), whole, _WIDTH)}
            self._file: IO[bytes] = path.open("r+b" if content else "wb")
            self._file.truncate(whole)
            self._file.seek(whole)
            if not whole:
                self._file.write(start)
        self._unsaved = 0
        self._saved = time.monotonic()

    def __contains__(self, name: bytes) -> bool:
        return name in self._known

    def add(self, name: bytes) -> None:
        """Note 32 bytes that name what was verified; it is on the disk some seconds later, or at the end."""
        with translate_os_error(self._path):
            self._file.write(name)
            self._unsaved += 1
            if self._unsaved >= _SAVE_EVERY or time.monotonic() - self._saved >= _SAVE_SECONDS:
                self._save()

    def finish(self) -> None:
        """Remove the file: all was read, and the next verification starts anew."""
        self.close()
        with translate_os_error(self._path):
            self._path.unlink(missing_ok=True)

    def close(self) -> None:
        """Save what was noted."""
        if not self._file.closed:
            with translate_os_error(self._path):
                self._save()
                self._file.close()

    def _save(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())
        self._unsaved, self._saved = 0, time.monotonic()


@dataclass
class Tally:
    """What was read so far.

    Attributes:
        progress: Told of each object, as stage `verify`.
        objects: Objects read.
        nbytes: Their bytes.
        resumed: Left out, since an earlier verification read them.
        skipped: Left out of the sample.
        redacted: Gone, as a redaction says.
    """

    progress: Progress
    objects: int = 0
    nbytes: int = 0
    resumed: int = 0
    skipped: int = 0
    redacted: int = 0

    def read(self, nbytes: int) -> None:
        """Count an object."""
        self.objects += 1
        self.nbytes += nbytes
        self.progress("verify", self.objects, None)


Job = Callable[[Findings], int | None]
"""Reads one object and notes what is wrong; returns its bytes, None if it is gone and may be."""


class Scrub:
    """Jobs on threads; their findings arrive in the order of the jobs, whatever the number of threads.

    Args:
        findings: Takes the problems.
        tally: Takes the counts.
        workers: Number of threads.
        sample: Which objects to read, None for all.
        verified: What was read before, and takes what is read now; None for neither.
    """

    def __init__(
        self, findings: Findings, tally: Tally, workers: int, sample: Sample | None, verified: Verified | None
    ) -> None:
        self._findings = findings
        self._tally = tally
        self._sample = sample
        self._verified = verified
        self._met: set[bytes] = set()
        self._pending: deque[tuple[bytes, Future[tuple[Findings, int | None]]]] = deque()
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="pyfactory-verify")

    def submit(self, digest: Digest, said: tuple[int, ...], columns: str, job: Job) -> None:
        """Do a job once for each object, for each thing that is said of it.

        Args:
            digest: The object.
            said: Numbers that it is compared with.
            columns: What else it is compared with.
            job: What reads it.
        """
        packed = struct.pack(f"<{len(said)}Q", *said)
        name = Hasher(b"%b%b%b" % (bytes.fromhex(digest), packed, columns.encode())).digest()
        if name in self._met:
            return
        self._met.add(name)
        if self._sample is not None and not self._sample.takes(digest):
            self._tally.skipped += 1
        elif self._verified is not None and name in self._verified:
            self._tally.resumed += 1
        else:
            self._pending.append((name, self._threads.submit(_done, job)))
            if len(self._pending) >= _WINDOW:
                self._settle()

    def drain(self) -> None:
        """Wait for all jobs."""
        while self._pending:
            self._settle()

    def __enter__(self) -> Scrub:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._threads.shutdown(wait=True, cancel_futures=True)
        # Cut off: what was read already need not be read again. After the last job, none is pending.
        for name, future in self._pending:
            if not future.cancelled() and future.exception() is None:
                self._note(name, future.result()[0])

    def _settle(self) -> None:
        name, future = self._pending.popleft()
        found, nbytes = future.result()
        self._findings.absorb(found)
        if nbytes is None:
            self._tally.redacted += 1
        elif nbytes >= 0:
            self._tally.read(nbytes)
        self._note(name, found)

    def _note(self, name: bytes, found: Findings) -> None:
        if self._verified is not None and not found.names():
            self._verified.add(name)


def _done(job: Job) -> tuple[Findings, int | None]:
    findings = Findings()
    return findings, job(findings)
