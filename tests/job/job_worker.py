"""A program of its own that kills a job at calls of its store, in forks of a process with one thread."""

from __future__ import annotations

import json
import os
import random
import signal
import sys
from pathlib import Path

from job_tables import run, text_table

from pyfactory.core.digest import digest_of
from pyfactory.job.spec import load_job
from pyfactory.job.steps import encoder
from pyfactory.shard.manifest import Manifest
from pyfactory.store.content import Objects
from pyfactory.store.local import LocalStore
from pyfactory.store.wrap import Faulty

TEXTS = [f"text {row % 11} with words {'q' * (row % 5)}" for row in range(40)]


def attempt(place: Path, job: Path, root: str, kill_at: int | None) -> dict[str, object] | None:
    """Run the job in a fork killed before or after its call number `kill_at`; return what it found, if it ended."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)

        def kill(number: int, method: str, key: str) -> None:
            if number == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

        before, after = (kill, None) if (kill_at or 0) % 2 else (None, kill)
        store = Faulty(LocalStore(place), before, after)
        result = run(Objects(store), job, Manifest(Objects(LocalStore(place)), root), 2)  # type: ignore[arg-type]
        calls = next(store._numbers)
        parts = digest_of(repr(result.parts).encode())
        found = {"parts": parts, "reused": result.reused, "computed": result.computed, "calls": calls}
        os.write(writing, json.dumps(found).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        content = pipe.read()
    os.waitpid(child, 0)
    return json.loads(content) if content else None


def main(place: Path, job: Path, kills: int, seed: int) -> list[dict[str, object]]:
    """Kill one job again and again, at calls drawn at random, until it ends; many times over, each in a fresh store."""
    assert encoder.Encoder and load_job(job)  # everything is imported before the first fork
    chance = random.Random(seed)
    outcomes = []
    clean = place / "clean"
    root = text_table(Objects(LocalStore(clean, create=True)), TEXTS, range(0, 40, 9)).root
    first = attempt(clean, job, root, None)
    assert first is not None
    outcomes.append(first | {"killed": 0})
    calls = int(str(first["calls"]))
    done = 0
    while done < kills:
        store = place / f"store-{done}"
        text_table(Objects(LocalStore(store, create=True)), TEXTS, range(0, 40, 9))
        found, killed = None, 0
        while found is None:
            found = attempt(store, job, root, chance.randrange(calls))
            killed += found is None
            if killed > 6:
                found = attempt(store, job, root, None)
        done += killed
        again = attempt(store, job, root, None)
        assert again is not None and again["computed"] == 0, again
        outcomes.append(found | {"killed": killed, "litter": sum(1 for _ in (store / "tmp").glob("*"))})
    return outcomes


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))))
