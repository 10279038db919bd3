"""Random kills: processes act on one repository until SIGKILL meets them anywhere; then all must hold.

    python -m tests.soak.kills --kills 300 --result tests/soak/2026-11-24-kills.md

In every third round two processes write at once. After each kill a new process verifies the repository, compares the
log with what was acknowledged, looks for what was forgotten and commits. Every 50 kills a last sweep must prove that
the forgotten bytes are gone, and another repository is begun. A round can be repeated by its seed, up to when the kill
meets it.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from benchmarks.machine import describe
from pyfactory.core.versions import code_versions
from tests.soak.kills_check import Act, Facts, check
from tests.soak.kills_worker import make, work

__all__ = ["Soak", "main", "written"]

KILLS_IN_ONE = 50
MOST_ACTS = 8
LONGEST_DELAY = 0.2
PATIENCE = 60.0
SHOWN_EVERY = 25

_FRESH = multiprocessing.get_context("forkserver")
_FRESH.set_forkserver_preload(["tests.soak.kills_check"])


@dataclass
class Child:
    """A process that acts, and what it has told."""

    process: BaseProcess
    pipe: Connection
    acts: list[Act] = field(default_factory=list)
    bugs: list[str] = field(default_factory=list)
    ended: int = 0

    def hear(self, seconds: float) -> bool:
        """Take in one message, if one comes in time; tell whether one came."""
        try:
            if not self.pipe.poll(seconds):
                return False
            kind, who, *rest = self.pipe.recv()
        except (EOFError, OSError):
            return False
        if kind == "begin":
            self.acts.append(Act(who, rest[0]))
        elif kind == "forgets":
            self.acts[-1].forgets = rest[0]
        elif kind == "end":
            self.acts[-1].told = rest[1]
            self.ended += 1
        else:
            self.bugs.append(f"{rest[0]} {who} ended in {rest[1]}")
        return True

    def kill(self) -> None:
        """Kill it and take in what it has said before."""
        with suppress(ProcessLookupError):  # it has ended by itself, and said why
            os.kill(self.process.pid or 0, signal.SIGKILL)
        self.process.join()
        while self.hear(0):
            pass
        if self.process.exitcode != -signal.SIGKILL and not self.bugs:
            self.bugs.append(f"it ended by itself: {self.process.exitcode}")
        self.pipe.close()


class Soak:
    """Kills, and what was seen.

    Args:
        kills: How many.
        seed: Of all chance but the clock's.
        place: An empty folder.
    """

    def __init__(self, kills: int, seed: int, place: Path) -> None:
        self.wanted = kills
        self.seed = seed
        self.place = place
        self.kills = self.rounds = self.repositories = self.entries = self.landed = self.unknown = 0
        self.ends: dict[str, Counter[str]] = {}
        self.leftovers: Counter[str] = Counter()
        self._last: dict[str, int] = {}
        self.problems: list[str] = []
        self.seconds = 0.0

    def run(self) -> None:
        """Kill as often as wanted; goes on after a problem."""
        began = time.monotonic()
        while self.kills < self.wanted:
            self._repository(min(self.wanted, self.kills + KILLS_IN_ONE))
        self.seconds = time.monotonic() - began

    def _repository(self, until: int) -> None:
        self.repositories += 1
        self._last = {}
        folder, key = self.place / f"repo-{self.repositories}", self.place / f"key-{self.repositories}"
        _alone(make, str(folder), str(key))
        acts: list[Act] = []
        while self.kills < until:
            self.rounds += 1
            two = self.rounds % 3 == 0 and until - self.kills > 1
            made = self._round(folder, key, 2 if two else 1)
            acts += made
            last = self.kills >= until
            facts = self._checked(folder, key, acts, self._clock(5).isoformat() if last else "")
            self._count(made, facts)
            if last:
                self.entries += facts.entries
                self.landed += facts.landed
        if not self.problems:
            shutil.rmtree(folder)

    def _clock(self, more: int = 0) -> datetime:
        """Return a moment by which all leases of earlier rounds have ended."""
        return datetime.now(UTC) + timedelta(hours=2 * (self.rounds + more))

    def _round(self, folder: Path, key: Path, writers: int) -> list[Act]:
        chance = random.Random(f"{self.seed}-{self.rounds}")
        now = self._clock().isoformat()
        children = []
        for letter in "ab"[:writers]:
            name = f"{self.rounds}{letter}"
            ours, theirs = _FRESH.Pipe(duplex=False)
            told = (str(folder), str(key), name, f"{self.seed}-{name}", now, writers == 1, theirs)
            process = _FRESH.Process(target=work, args=told, daemon=True)
            process.start()
            theirs.close()
            children.append(Child(process, ours))
        for child in children:  # the second goes on while and after the first is killed
            self._wait(children, child.ended + chance.randint(0, MOST_ACTS), child)
            time.sleep(chance.uniform(0, LONGEST_DELAY))  # the kill is to meet anything
            child.kill()
            self.kills += 1
            self._note(child.bugs)
            if self.kills % SHOWN_EVERY == 0:
                self._show()
        return [act for child in children for act in child.acts]

    def _wait(self, children: Sequence[Child], ended: int, child: Child) -> None:
        """Take in what all say until one has ended so many acts, and begun another."""
        deadline = time.monotonic() + PATIENCE
        while (child.ended < ended or len(child.acts) <= ended) and not child.bugs:
            open_pipes = {each.pipe: each for each in children if not (each.pipe.closed or each.bugs)}
            ready = wait([*open_pipes], max(0.0, deadline - time.monotonic()))
            for pipe in ready:
                each = open_pipes[pipe]  # type: ignore[index]
                if not each.hear(0):
                    each.bugs.append("it ended by itself")
            if not ready:
                child.bugs.append(f"nothing came for {PATIENCE:.0f} s after {child.acts[-1:]}")

    def _checked(self, folder: Path, key: Path, acts: list[Act], final: str) -> Facts:
        ours, theirs = _FRESH.Pipe(duplex=False)
        told = (str(folder), str(key), acts, f"probe-{self.rounds}", final, theirs)
        process = _FRESH.Process(target=check, args=told, daemon=True)
        process.start()
        theirs.close()
        try:
            facts: Facts = ours.recv() if ours.poll(5 * PATIENCE) else Facts(["the check does not end"])
        except EOFError:
            facts = Facts(["the check ended without a word"])
        process.kill()
        process.join()
        ours.close()
        return facts

    def _count(self, made: list[Act], facts: Facts) -> None:
        for act in made:
            end = "killed" if act.told is None else act.told["end"]
            self.unknown += act.told is None
            self.ends.setdefault(act.verb, Counter())[end] += 1
        for kind, number in facts.leftovers.items():  # what lay there before was counted then
            self.leftovers[kind] += max(0, number - self._last.get(kind, 0))
        self._last = facts.leftovers
        self._note(facts.problems)

    def _note(self, problems: list[str]) -> None:
        for problem in problems:
            self.problems.append(f"round {self.rounds}: {problem}")
            sys.stdout.write(f"problem: {self.problems[-1]}\n")
            sys.stdout.flush()

    def _show(self) -> None:
        acts = sum(sum(ends.values()) for ends in self.ends.values())
        sys.stdout.write(f"{self.kills} kills, {acts} acts, {len(self.problems)} problems\n")
        sys.stdout.flush()


def written(soak: Soak) -> str:
    """Return the log of a soak as Markdown."""
    versions = {"pyfactory": "", **code_versions("pyfactory", "numpy", "pyarrow", "blake3")}
    acts = Counter({verb: sum(ends.values()) for verb, ends in soak.ends.items()})
    done = sum(ends["done"] + ends["nothing"] for ends in soak.ends.values())
    lines = [
        f"# Random kills, {datetime.now(UTC):%Y-%m-%d}",
        "",
        f"{describe()}; {', '.join(f'{name} {version}' for name, version in versions.items())}.",
        "",
        f"- {soak.kills} kills (SIGKILL) in {soak.rounds} rounds, every third with two writers at once, on"
        f" {soak.repositories} repositories on a local disk; seed {soak.seed}; {soak.seconds:.0f} s",
        f"- {acts.total()} acts: {done} acknowledged, {acts.total() - done - soak.unknown} ended in an error that the"
        f" docs allow, {soak.unknown} cut off, of which {soak.landed} had landed; {soak.entries} log entries",
        f"- left behind by kills: {', '.join(f'{number} {kind}' for kind, number in sorted(soak.leftovers.items()))}",
        f"- **problems: {len(soak.problems)}**",
        "",
        "| act | begun | done | nothing to do | refused | conflict | not found or invalid | met a sweep | killed |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        *(_row(verb, soak.ends[verb]) for verb in sorted(soak.ends)),
    ]
    lines += ["", *(f"- {problem}" for problem in soak.problems)] if soak.problems else []
    return "\n".join(lines) + "\n"


def _row(verb: str, ends: Counter[str]) -> str:
    conflicts = ends["ConflictError"] + ends["MergeConflictError"]
    wrong = ends["NotFoundError"] + ends["InvalidInputError"]
    told = (ends["done"], ends["nothing"], ends["RefusedError"], conflicts, wrong, ends["CorruptError"], ends["killed"])
    return f"| {verb} | {sum(ends.values())} | {' | '.join(map(str, told))} |"


def _alone(function: Any, *arguments: str) -> None:
    process = _FRESH.Process(target=function, args=arguments)
    process.start()
    process.join()
    if process.exitcode:
        raise RuntimeError(f"{function.__name__} failed")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it from the command line; returns 1 if there was a problem."""
    parser = argparse.ArgumentParser(description="Kill writers of a repository at random moments, and check it.")
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--result", type=Path, help="the Markdown log to write")
    parser.add_argument("--place", type=Path, help="folder for the repositories; kept if there was a problem")
    options = parser.parse_args(arguments)
    place = Path(tempfile.mkdtemp(prefix="kills-", dir=options.place))
    soak = Soak(options.kills, options.seed, place)
    soak.run()
    if options.result is not None:
        options.result.write_text(written(soak))
    else:
        sys.stdout.write(written(soak))
    if soak.problems:
        sys.stdout.write(f"{len(soak.problems)} problems; the repositories are in {place}\n")
    else:
        shutil.rmtree(place)
    return int(bool(soak.problems))


if __name__ == "__main__":
    sys.exit(main())
