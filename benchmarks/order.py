"""What does it cost to know which sample comes where, beside Grain, MosaicML Streaming and torch.randperm?

    pip install grain
    python -m venv ELSEWHERE && ELSEWHERE/bin/pip install --no-deps numpy mosaicml-streaming
    python -m benchmarks.order [--streaming ELSEWHERE/bin/python] [--result FILE]

Million positions per second on one core, creation included: a peer that makes a whole epoch at once is measured by
epochs. Every case runs in a process of its own; shown are medians, and by how many MB the process grew at its peak.
MosaicML Streaming wants an older NumPy, so it lives elsewhere; a peer that is not installed is left out, and said so.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path

from benchmarks import order_ours, order_peers
from benchmarks.machine import describe
from pyfactory.core.versions import code_versions

RUNS = 7
PEER_RUNS = 3
SIZES = (10**6, 10**7, 10**8)
OURS = {
    "full shuffle": order_ours.full_shuffle,
    "blocked shuffle": order_ours.blocked_shuffle,
    "mixture of 100": order_ours.mixture,
}
Rate = dict[str, float]
ONE_CORE = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def last_line(*command: str) -> str:
    """Run a child on one core and return the last line that it prints; empty if it fails."""
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=os.environ | ONE_CORE)
    return done.stdout.splitlines()[-1] if done.returncode == 0 else ""


def ours(*arguments: str) -> str:
    """Run one of our cases in a child."""
    line = last_line(sys.executable, "-m", "benchmarks.order", *arguments)
    if not line:
        raise SystemExit(f"{' '.join(arguments)} failed")
    return line


def measure(sizes: list[int], streaming: str) -> tuple[list[str], set[str]]:
    """Return the rows of the table of rates, losses first, and the peers that did not run."""
    rows, missing = [], set()
    for name in OURS:
        for n in sizes:
            own: Rate = json.loads(ours("--case", name, "--samples", str(n)))
            peers: dict[str, Rate] = {}
            for peer, case in order_peers.CASES:
                if case != name or peer in missing:
                    continue
                python = streaming if peer.startswith("Streaming") else sys.executable
                line = last_line(python, str(Path(order_peers.__file__)), peer, case, str(n), str(PEER_RUNS))
                if line:
                    peers[peer] = json.loads(line)
                else:
                    missing.add(peer)
            rows.append(row(name, n, own, peers))
    return [text for _, text in sorted(rows)], missing


def row(name: str, n: int, own: Rate, peers: dict[str, Rate]) -> tuple[float, str]:
    """Return how many times as fast as the best peer ours is, and a line of the table."""
    best = max((peer["million"] for peer in peers.values()), default=0.0)
    ratio = own["million"] / best if best else float("inf")
    shown = "; ".join(f"{peer} {one['million']:.2f} ({one['memory_mb']:.0f} MB)" for peer, one in peers.items()) or "-"
    times = f"{ratio:.1f}x" if best else "-"
    return ratio, f"| {name} | {n:,} | {own['million']:.1f} | {own['memory_mb']:.1f} | {shown} | {times} |"


def rest(folder: Path) -> list[str]:
    """Return the lines about creating a stream, seeking, and packing."""
    version = order_ours.huge_version(folder / "huge")
    created, memory = order_ours.create(version)
    next_ones, others = map(statistics.median, order_ours.seek(version))
    packed, useful = order_ours.best_fit()
    return [
        f"- Create a stream over 10^12 samples: {statistics.median(created):.3f} ms, {memory:.0f} kB.",
        f"- Addresses of 512 samples of it: next batch {next_ones:.3f} ms, anywhere {others:.3f} ms "
        f"({others / next_ones:.2f}x).",
        f"- Best-fit packing of {order_ours.DOCUMENTS:,} documents (log-normal, {order_ours.MEAN_TOKENS} tokens on "
        f"average, samples of {order_ours.LENGTH}): {packed:.0f} million documents per minute and core; {useful}.",
    ]


def report(sizes: list[int], streaming: str) -> str:
    """Measure everything and return the page."""
    rows, missing = measure(sizes, streaming)
    with tempfile.TemporaryDirectory() as folder:
        lines = json.loads(ours("--rest", folder))
    versions = code_versions("pyfactory", "grain", "torch", "numpy")
    if "Streaming py1e" not in missing:
        asked = "import importlib.metadata as m; print(m.version('mosaicml-streaming'))"
        versions["mosaicml-streaming"] = last_line(streaming, "-c", asked)
    page = [f"# The order of samples, {date.today()}", ""]
    page += [f"{describe()}; {', '.join(f'{name} {version}' for name, version in versions.items())}.", ""]
    page += ["Million positions per second on one core, creation included; in brackets the memory.", ""]
    page += ["| order | samples | pyfactory | memory MB | peers | ours / best peer |"]
    page += ["| --- | ---: | ---: | ---: | --- | ---: |", *rows, ""]
    page += [f"{peer} could not run here and is left out." for peer in sorted(missing)]
    return "\n".join([*page, *lines, ""])


def main() -> None:
    """Measure all, or in a child one case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streaming", default=sys.executable, help="a Python that has mosaicml-streaming")
    parser.add_argument("--sizes", type=int, nargs="+", default=[*SIZES])
    parser.add_argument("--result", type=Path)
    for name in ("--case", "--samples", "--rest"):
        parser.add_argument(name, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        case = OURS[options.case]
        print(json.dumps(order_peers.measured(lambda n: lambda: case(n), int(options.samples), RUNS)))
    elif options.rest:
        print(json.dumps(rest(Path(options.rest))))
    else:
        page = report(options.sizes, options.streaming)
        print(page)
        if options.result:
            options.result.write_text(page)


if __name__ == "__main__":
    main()
