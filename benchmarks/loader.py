"""How fast does the loader deliver tokens, beside torch's DataLoader over a memmap and the machine's memcpy?

    python benchmarks/loader.py [--tokens 100_000_000] [--seconds 5] [--result FILE]

Windows of 2,048 tokens in shuffled order, int64 ids; page cache warm, the consumer drops each batch. Each case runs
alone, three times; the median is shown, with the CPU time of the whole process. The limit is memcpy of the bytes of
the delivered arrays, into reused buffers, on one thread.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.corpus import make
from benchmarks.machine import describe
from pyfactory.core.versions import code_versions
from pyfactory.loader.loader import DataLoader
from pyfactory.repo.version import Version
from pyfactory.stream.stream import Stream

LENGTH = 2048
RUNS = 3


@dataclass(frozen=True)
class Measured:
    """One case: medians, in millions of tokens."""

    name: str
    batch: int
    per_second: float
    per_cpu_second: float
    first_ms: float


class MemmapWindows(torch.utils.data.Dataset[torch.Tensor]):
    """The careful peer: windows of a flat token file, a whole batch at once into one buffer."""

    def __init__(self, path: Path) -> None:
        self.tokens = np.memmap(path, np.uint16, "r")

    def __len__(self) -> int:
        return (len(self.tokens) - 1) // LENGTH

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.from_numpy(self.tokens[index * LENGTH : index * LENGTH + LENGTH].astype(np.int64))

    def __getitems__(self, indices: list[int]) -> torch.Tensor:
        rows = np.empty((len(indices), LENGTH), np.int64)
        for row, index in zip(rows, indices, strict=True):
            row[:] = self.tokens[index * LENGTH : index * LENGTH + LENGTH]
        return torch.from_numpy(rows)


def whole(batch: torch.Tensor) -> torch.Tensor:
    """Collate what `__getitems__` has collated."""
    return batch


def endless(make_loader: Callable[[], Any]) -> Callable[[], Iterator[Any]]:
    """Iterate epoch after epoch."""

    def batches() -> Iterator[Any]:
        loader = make_loader()
        while True:
            yield from loader

    return batches


def measure(name: str, batch: int, batches: Callable[[], Iterator[Any]], seconds: float) -> Measured:
    """Run a case several times and return medians."""
    rates, cpu_rates, firsts = [], [], []
    for _ in range(RUNS):
        begun = time.perf_counter()
        iterator = batches()
        next(iterator)
        firsts.append(1e3 * (time.perf_counter() - begun))
        for _ in range(50):
            next(iterator)
        count, wall, cpu = 0, time.perf_counter(), time.process_time()
        while time.perf_counter() - wall < seconds:
            for _ in range(20):
                next(iterator)
            count += 20
        tokens = count * batch * LENGTH / 1e6
        rates.append(tokens / (time.perf_counter() - wall))
        cpu_rates.append(tokens / (time.process_time() - cpu))
        del iterator
    return Measured(name, batch, statistics.median(rates), statistics.median(cpu_rates), statistics.median(firsts))


def memcpy(batch: int, bytes_per_token: int) -> Callable[[], Iterator[None]]:
    """Copy the bytes that a batch delivers into a reused buffer, from sources beyond the caches."""
    size = batch * LENGTH * bytes_per_token
    source = np.ones((max(1, (256 << 20) // size), size), np.uint8)
    target = np.empty(size, np.uint8)

    def copies() -> Iterator[None]:
        at = 0
        while True:
            np.copyto(target, source[at])
            at = (at + 1) % len(source)
            yield None

    return copies


def cases(version: Version, flat: Path, seconds: float) -> Iterator[Measured]:
    """Measure ours, the peers and the limit."""
    for batch in (8, 64):
        sizes: dict[str, Any] = {"batch_size": batch}
        for threads in (0, 1):
            for label, fields in (("input_ids", ["input_ids"]), ("whole contract", None)):
                stream = Stream(version, seed=7, sequence_length=LENGTH)
                loader = DataLoader(stream, batch_size=batch, num_workers=threads, fields=fields)
                yield measure(
                    f"pyfactory, {label}, {threads} thread{'' if threads == 1 else 's'}",
                    batch,
                    endless(lambda loader=loader: loader),
                    seconds,
                )
                loader.close()
        dataset = MemmapWindows(flat)
        shuffled = torch.utils.data.DataLoader(dataset, shuffle=True, drop_last=True, collate_fn=whole, **sizes)
        yield measure("memmap + DataLoader, one buffer", batch, endless(lambda loader=shuffled: loader), seconds)
        plain = torch.utils.data.DataLoader(RowByRow(dataset), shuffle=True, drop_last=True, **sizes)
        yield measure("memmap + DataLoader", batch, endless(lambda loader=plain: loader), seconds)
        yield measure("limit: memcpy of input_ids", batch, memcpy(batch, 8), seconds)
        # input_ids, targets and position_ids of 8 bytes, doc_ids of 4
        yield measure("limit: memcpy of the whole contract", batch, memcpy(batch, 28), seconds)


class RowByRow(torch.utils.data.Dataset[torch.Tensor]):
    """The plainest peer: torch fetches row by row and stacks."""

    def __init__(self, dataset: MemmapWindows) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.dataset[index]


def table(results: list[Measured]) -> str:
    """Return a Markdown table, with each case's ratio to the best peer of its batch size."""
    best = {b: max(m.per_cpu_second for m in results if m.batch == b and m.name.startswith("memmap")) for b in (8, 64)}
    lines = [
        "| case | batch | Mtok/s | Mtok per CPU-s | x best peer | first batch, ms |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for m in sorted(results, key=lambda m: (m.batch, m.per_cpu_second)):
        ratio = m.per_cpu_second / best[m.batch]
        lines.append(
            f"| {m.name} | {m.batch} | {m.per_second:.0f} | {m.per_cpu_second:.0f} | {ratio:.2f} | {m.first_ms:.1f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=100_000_000)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--result", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        version = make(Path(folder, "repository"), arguments.tokens)
        flat = Path(folder, "tokens.bin")
        np.concatenate([part_tokens(version, number) for number in range(version.shards)]).tofile(flat)
        results = list(cases(version, flat, arguments.seconds))
    versions = ", ".join(f"{name} {v}" for name, v in code_versions("pyfactory", "torch", "numpy").items())
    setting = f"{describe()}; {versions}; backend: cpu; {arguments.tokens:,} tokens."
    text = f"# Loader, {date.today()}\n\n{setting}\n\n{table(results)}\n"
    print(text)
    if arguments.result:
        arguments.result.write_text(text)


def part_tokens(version: Version, number: int) -> np.ndarray:
    """Return the tokens of one shard."""
    from pyfactory.shard.reader import open_shard, token_buffers

    part = version.manifest.part(number)
    return token_buffers(open_shard(version.repository.objects.map(part.shard), "a shard"))[0]


if __name__ == "__main__":
    main()
