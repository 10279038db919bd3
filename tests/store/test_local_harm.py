"""A store in a folder under kill -9, a full disk and missing permissions; all of it real, in processes of its own."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyfactory.core.digest import digest_of
from pyfactory.store.local import LocalStore

WRITE_UNTIL_KILLED = """
import random, sys
from pyfactory.core.digest import digest_of
from pyfactory.store.local import LocalStore
store = LocalStore(sys.argv[1])
chance = random.Random(sys.argv[2])
print("ready", flush=True)
while True:
    content = chance.randbytes(chance.choice([10, 300_000, 1_000_000]))
    store.create(f"objects/{digest_of(content)}", content)
    print(digest_of(content), flush=True)
"""


def test_killed_at_random_no_half_object_and_none_lost(tmp_path: Path) -> None:
    """Catches writing under the final name, and acknowledging before the object is there."""
    store = LocalStore(tmp_path)
    acknowledged: list[str] = []
    for turn in range(8):
        command = [sys.executable, "-c", WRITE_UNTIL_KILLED, str(tmp_path), str(turn)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "ready\n"
            with pytest.raises(subprocess.TimeoutExpired):
                writer.wait(random.Random(turn).uniform(0.0, 0.05))
            writer.kill()
            acknowledged += [line.strip() for line in writer.stdout if line.endswith("\n")]
        listed = [key.removeprefix("objects/") for key, _ in store.list("objects")]
        assert set(acknowledged) <= set(listed)
        assert [digest_of(store.get(f"objects/{name}")) for name in listed] == listed
    assert store.create("objects/more", b"x")


# The child kills itself at its n-th call of a C function, for every n that there is.
KILL_AT_EVERY_CALL = """
import os, signal, sys
from pathlib import Path
from pyfactory.store.local import LocalStore

root, method = Path(sys.argv[1]), sys.argv[2]
CONTENT = b"new" * 1000

def act(store):
    if method == "create_from_file":
        return store.create_from_file("a/b/x", source)
    return getattr(store, method)("a/b/x", CONTENT)

for number in range(10_000):
    folder = root / str(number)
    store = LocalStore(folder, create=True)
    if method == "replace":
        store.replace("a/b/x", b"old")
    else:
        store.create("a/b/other", b"old")
    source = store.staging() / "source"
    source.write_bytes(CONTENT)
    child = os.fork()
    if child == 0:
        left = number
        def observe(frame, event, function):
            global left
            if event == "c_call":
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                left -= 1
        sys.setprofile(observe)
        act(LocalStore(folder))
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    again = LocalStore(folder)
    allowed = {"create": [None, CONTENT], "create_from_file": [None, CONTENT], "replace": [b"old", CONTENT]}[method]
    found = None if again.size("a/b/x") is None else again.get("a/b/x")
    assert found in allowed, (number, found)
    assert {key for key, _ in again.list("")} <= {"a/b/x", "a/b/other"}, number
    if code == 0:
        assert found == CONTENT
        break
    if found != CONTENT:
        if not source.exists():
            source.write_bytes(CONTENT)
        assert act(again) in (True, None), number
    assert again.get("a/b/x") == CONTENT
print(number)
"""


@pytest.mark.parametrize("method", ["create", "create_from_file", "replace"])
def test_killed_at_every_step_old_or_new(tmp_path: Path, method: str) -> None:
    """Exhaustive where the test above is random: after each kill the object is absent (or old) or whole."""
    # Where syncing costs nothing, if there is such a place: a kill does not touch what the kernel holds.
    place = "/dev/shm" if os.access("/dev/shm", os.W_OK) else tmp_path
    with tempfile.TemporaryDirectory(dir=place) as folder:
        assert int(run([sys.executable, "-c", KILL_AT_EVERY_CALL, folder, method])) > 20


WRITE_TOO_MUCH = """
import resource, sys
from pathlib import Path
from pyfactory.errors import UnavailableError
from pyfactory.store.local import LocalStore

store = LocalStore(sys.argv[1], create=True)
source = store.staging() / "source"
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
for write in (store.create, store.replace):
    try:
        write("a/b", bytes(1_000_000))
    except UnavailableError as error:
        assert "no space left" in str(error) and "a/b" in str(error) and error.hint, error
    else:
        raise AssertionError("written")
assert list(store.list("")) == [] and [path.name for path in Path(sys.argv[1], "tmp").iterdir()] == [source.parent.name]
assert store.create("a/c", bytes(1000))
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
assert store.create("a/b", bytes(1_000_000))
"""

FILL_THE_DISK = """
import sys
from pathlib import Path
from pyfactory.errors import UnavailableError
from pyfactory.store.local import LocalStore

store = LocalStore(sys.argv[1], create=True)
sizes = {}
try:
    for number in range(100):
        store.create(f"a/{number}", bytes(60_000))
        sizes[f"a/{number}"] = 60_000
except UnavailableError as error:
    assert "no space left" in str(error) and f"a/{number}" in str(error) and error.hint, error
assert 1 < len(sizes) < 100
assert dict(store.list("")) == sizes and list(Path(sys.argv[1], "tmp").iterdir()) == []
store.delete("a/0")
assert store.create(f"a/{number}", bytes(60_000))
"""


def test_a_file_that_may_not_grow(tmp_path: Path) -> None:
    """A limit of the process stands for a quota. Catches a raw OSError, and half a file left in tmp/ or visible."""
    run([sys.executable, "-c", WRITE_TOO_MUCH, str(tmp_path)])


def test_a_full_disk(tmp_path: Path) -> None:
    """A file system of 512 KiB in a mount namespace of its own."""
    isolated = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    mount = 'mount -t tmpfs -o size=512k none "$0" && exec "$@"'
    try:
        subprocess.run([*isolated, mount, str(tmp_path), "true"], check=True, capture_output=True, timeout=30)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"this machine does not let a process mount a small file system: {error}")
    run([*isolated, mount, str(tmp_path), sys.executable, "-c", FILL_THE_DISK, str(tmp_path)])


WITHOUT_PERMISSION = """
import os, sys
from pathlib import Path
from pyfactory.errors import ReadOnlyError
from pyfactory.store.local import LocalStore
from pyfactory.store.open import open_store

root = Path(sys.argv[1])
if os.geteuid() == 0:  # whom no mode stops
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
store = LocalStore(root)
source = Path(sys.argv[2])
assert store.get("open/x") == b"1" and [key for key, _ in store.list("open")] == ["open/x"]
for name, call in {
    "create": lambda: store.create("open/y", b"1"),
    "create in a new folder": lambda: store.create("new/y", b"1"),
    "create_from_file": lambda: store.create_from_file("open/y", source),
    "replace": lambda: store.replace("open/x", b"2"),
    "delete": lambda: store.delete("open/x"),
    "staging": lambda: store.staging(),
    "new store": lambda: open_store(root / "new", create=True),
    "unreachable store": lambda: open_store(root / "closed/store"),
    "get": lambda: store.get("closed/x"),
    "size": lambda: store.size("closed/x"),
    "list": lambda: list(store.list("closed")),
    "list all": lambda: list(store.list("")),
}.items():
    try:
        call()
    except ReadOnlyError as error:
        assert str(root) in str(error) and "no permission" in str(error), (name, error)
    else:
        raise AssertionError(name)
assert store.get("open/x") == b"1"
"""


@pytest.fixture
def reachable() -> Iterator[Path]:
    """A folder that every user may enter, unlike tmp_path."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    for inner in [folder, *folder.rglob("*")]:
        if inner.is_dir():
            inner.chmod(0o755)
    shutil.rmtree(folder)


def test_without_permission(reachable: Path) -> None:
    """Catches a raw PermissionError, and a size() that takes "may not look" for "is not there"."""
    store = LocalStore(reachable)
    store.create("open/x", b"1")
    store.create("closed/x", b"1")
    source = reachable / "source"
    source.write_bytes(b"1")
    (reachable / "closed").chmod(0o000)
    for folder in (reachable / "open", reachable / "tmp", reachable):
        folder.chmod(0o555)
    run([sys.executable, "-c", WITHOUT_PERMISSION, str(reachable), str(source)])
    assert source.exists()


def test_a_disk_without_hard_links(tmp_path: Path) -> None:
    """Catches "no permission" for what no permission would mend."""
    if shutil.which("strace") is None:
        pytest.skip("needs strace, to have the kernel refuse a call")
    program = """
import sys
from pyfactory.errors import UnavailableError
from pyfactory.store.local import LocalStore
try:
    LocalStore(sys.argv[1]).create("a", b"1")
except UnavailableError as error:
    assert "no hard links" in str(error), error
else:
    raise AssertionError("linked")
"""
    refuse = ["strace", "-f", "-o", "/dev/null", "-e", "inject=link,linkat:error=EPERM"]
    run([*refuse, sys.executable, "-c", program, str(tmp_path)])
    assert list(LocalStore(tmp_path).list("")) == []


def run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    return done.stdout
