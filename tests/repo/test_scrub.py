"""What a verification that is cut off keeps of its work."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from pyfactory.core.digest import Digest, digest_of
from pyfactory.core.progress import no_progress
from pyfactory.repo import scrub
from pyfactory.repo.findings import Findings
from pyfactory.repo.scrub import Scrub, Tally, Verified

REPOSITORY = digest_of(b"log entry 0")
OBJECTS = [digest_of(b"%d" % number) for number in range(5)]
HEADER = 40


def names(path: Path) -> int:
    return (path.stat().st_size - HEADER) // 32


def test_what_was_read_is_kept_by_the_second_and_not_only_by_the_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a kill that costs minutes of reading, since few large shards were read."""
    now = [100.0]
    monkeypatch.setattr(scrub.time, "monotonic", lambda: now[0])
    verified = Verified(tmp_path / "file", REPOSITORY)
    verified.add(bytes(32))
    assert not (tmp_path / "file").stat().st_size, "not every name is worth a sync"
    now[0] += 10
    verified.add(b"1" * 32)
    assert names(tmp_path / "file") == 2
    verified.close()


def test_what_was_read_when_it_is_cut_off_is_kept(tmp_path: Path) -> None:
    """Catches up to 64 shards that are read again, though they were done; and one with a problem that is not."""
    verified = Verified(tmp_path / "file", REPOSITORY)
    done = threading.Semaphore(0)

    def job(digest: Digest, findings: Findings) -> int:
        if digest == OBJECTS[2]:
            findings.add("corrupt", digest, "bad")
        done.release()
        return 1

    tally = Tally(no_progress)
    with (
        pytest.raises(KeyboardInterrupt),
        Scrub(Findings(), tally, 2, None, verified) as work,
    ):
        for digest in OBJECTS:
            work.submit(digest, (), "", lambda findings, digest=digest: job(digest, findings))  # type: ignore[misc]
        for _ in OBJECTS:
            done.acquire()
        raise KeyboardInterrupt
    verified.close()
    assert names(tmp_path / "file") == len(OBJECTS) - 1
