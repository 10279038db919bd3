"""What do versions cost at 10^6 shards, beside Icechunk, Delta and Lance, and beside the fsyncs that a commit needs?

    pip install icechunk pylance deltalake
    python benchmarks/repository.py [--entries 1_000_000] [--result FILE]

Metadata only: no shard, file or chunk is written by anybody. Every case runs in a process of its own, on a repository
made in another one; what is shown is the median of 31 runs in it (peers: 3). *Floor* is what the files that one
operation creates cost by themselves: the same number and sizes, written, fsynced, named, their folders fsynced.
The peers' libraries do not fsync (Icechunk, Lance) or do not say so; theirs are times as their users see them.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from benchmarks import repository_ours, repository_peers
from benchmarks.machine import describe
from pyfactory.core.versions import code_versions

RUNS = 31
PEER_RUNS = 3  # each takes seconds
OURS = {
    "append 10 and commit": repository_ours.append,
    "create a branch": repository_ours.branch,
    "rollback": repository_ours.rollback,
    "diff of 10": repository_ours.diff,
    "merge 10 and 10": repository_ours.merge,
    "open at a version": repository_ours.open_version,
}
PEERS = {
    "icechunk": repository_peers.icechunk_cases,
    "delta": repository_peers.delta_cases,
    "lance": repository_peers.lance_cases,
}
Case = Callable[[], object]


@dataclass(frozen=True)
class Measured:
    """Medians of one case: milliseconds, and by how many MB the process grew at its peak."""

    ms: float
    floor_ms: float
    memory_mb: float


def measured(make: Callable[[Path, int], tuple[Case, Callable[[], float]]], place: Path) -> Measured:
    """Run a case several times; each run is prepared outside the clock."""
    times, floors = [], []
    before = peak_mb()
    for run in range(RUNS):
        case, floor = make(place, run)
        start = time.perf_counter()
        case()
        times.append(1000 * (time.perf_counter() - start))
        floors.append(1000 * floor())
    return Measured(statistics.median(times), statistics.median(floors), peak_mb() - before)


def peak_mb() -> float:
    """Return the largest resident set that this process has had, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def child(*arguments: str) -> str:
    """Run this program for one case and return the last line that it prints; libraries warn on stdout too."""
    command = [sys.executable, "-m", "benchmarks.repository", *arguments]
    lines = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    return lines[-1] if lines else ""


def table(ours: dict[str, Measured], peers: dict[str, dict[str, float]]) -> str:
    """Return the result as Markdown, losses first."""
    names = [*PEERS]
    columns = ["operation", "pyfactory ms", "floor ms", "above the floor", "memory MB", *names, "best peer / ours"]
    lines = [f"| {' | '.join(columns)} |"]
    lines.append("| --- |" + " ---: |" * (len(names) + 5))
    rows = []
    for name, one in ours.items():
        theirs = [peers[peer].get(name) for peer in names]
        best = min((each for each in theirs if each is not None), default=None)
        ratio = None if best is None else best / one.ms
        shown = " | ".join("-" if each is None else f"{each:.1f}" for each in theirs)
        text = f"| {name} | {one.ms:.2f} | {one.floor_ms:.2f} | {one.ms - one.floor_ms:+.2f} | {one.memory_mb:.0f} "
        rows.append((ratio or float("inf"), f"{text}| {shown} | {'-' if ratio is None else f'{ratio:.1f}x'} |"))
    return "\n".join([*lines, *(row for _, row in sorted(rows))])


def report(entries: int) -> str:
    """Measure everything and return the page."""
    with tempfile.TemporaryDirectory(dir=Path.home()) as folder:
        place = Path(folder)
        child("--make", folder, "--entries", str(entries))
        ours = {name: Measured(**json.loads(child("--case", name, "--place", folder))) for name in OURS}
        shutil.rmtree(place / "ours")
        peers = {}
        for name in PEERS:
            peers[name] = json.loads(child("--peer", name, "--place", folder, "--entries", str(entries)))
    versions = code_versions("pyfactory", "icechunk", "deltalake", "pylance")
    return "\n".join(
        [
            f"# Versions of a table of {entries:,} shards, {date.today()}",
            "",
            f"{describe()}; {', '.join(f'{name} {version}' for name, version in versions.items())}.",
            "",
            table(ours, peers),
            "",
        ]
    )


def main() -> None:
    """Measure all, or in a child one case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entries", type=int, default=1_000_000)
    parser.add_argument("--result", type=Path)
    for name in ("--make", "--case", "--peer", "--place"):
        parser.add_argument(name, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.make:
        repository_ours.make(Path(options.make), options.entries)
    elif options.case:
        print(json.dumps(vars(measured(OURS[options.case], Path(options.place)))))
    elif options.peer:
        print(json.dumps(PEERS[options.peer](Path(options.place) / options.peer, options.entries, PEER_RUNS)))
    else:
        page = report(options.entries)
        print(page)
        if options.result:
            options.result.write_text(page)


if __name__ == "__main__":
    main()
