"""A full disk at any write of a verb: a clear error with a remedy, the old view whole, and the verb works once there
is room."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from disk_full_worker import FullAfter, full_at_every_write

import pyfactory
from pyfactory.errors import UnavailableError
from pyfactory.repo.repository import Repository
from pyfactory.repo.sweep import gc
from pyfactory.store.local import LocalStore
from pyfactory.store.wrap import Faulty

HERE = Path(__file__).parent
ACTS = ["merge", "forget", "sweep", "rule", "tag"]


@pytest.mark.parametrize("act", ACTS)
def test_a_disk_that_is_full_from_some_write_on(act: str, tmp_path: Path) -> None:
    """Catches a log entry that is written before what it names, a lease or list that is left in the way, and an error
    that does not say what to do."""
    outcomes = full_at_every_write(act, tmp_path, once=False)
    order = {"old": 0, "between": 1, "new": 2}
    assert outcomes == sorted(outcomes, key=order.__getitem__), "more room, further on"
    assert outcomes[0] == "old" and outcomes[-1] == "new" and len(outcomes) > 2


@pytest.mark.parametrize("act", ACTS)
def test_a_disk_that_was_full_for_one_write(act: str, tmp_path: Path) -> None:
    """Catches a verb that goes on as if an object had been stored: the next write may find room again."""
    outcomes = full_at_every_write(act, tmp_path, once=True)
    assert "old" in outcomes and outcomes[-1] == "new"


@pytest.mark.parametrize("act", ACTS)
def test_a_disk_that_is_really_full(act: str, tmp_path: Path) -> None:
    """The same on a file system of 2 MiB in a mount namespace of its own. Catches a raw OSError."""
    disk = tmp_path / "disk"
    disk.mkdir()
    isolated = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    mount = 'mount -t tmpfs -o size=2m none "$0" && exec "$@"'
    try:
        subprocess.run([*isolated, mount, str(disk), "true"], check=True, capture_output=True, timeout=30)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"this machine does not let a process mount a small file system: {error}")
    path = os.pathsep.join([str(HERE), str(Path(pyfactory.__file__).parents[1])])
    command = [sys.executable, str(HERE / "disk_full_worker.py"), act, str(tmp_path), str(disk)]
    environment = os.environ | {"PYTHONPATH": path}
    done = subprocess.run(
        [*isolated, mount, str(disk), *command], capture_output=True, text=True, timeout=110, env=environment
    )
    assert done.returncode == 0, done.stderr
    outcomes = json.loads(done.stdout)
    assert outcomes[0] == "old" and outcomes[-1] == "new", outcomes


def test_gc_on_a_full_disk_does_not_send_in_a_circle(tmp_path: Path) -> None:
    """Catches "free space and run gc again" of the command that is to free space, and the hint where it is wrong."""
    Repository.create(tmp_path / "repo")
    full = Faulty(LocalStore(tmp_path / "repo"), before=FullAfter(0, once=False))
    with pytest.raises(UnavailableError, match=r"no space left.*gc itself writes some KB .*another disk"):
        gc(Repository.open(full))

    def down(number: int, method: str, key: str) -> None:
        if method == "create":
            raise UnavailableError("the network is down", hint="wait")

    with pytest.raises(UnavailableError, match=r"network is down.*wait"):
        gc(Repository.open(Faulty(LocalStore(tmp_path / "repo"), before=down)))
