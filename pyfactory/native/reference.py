"""The kernels once more, in plain Python and NumPy and as docs/stream-spec.md words them: the oracle of the tests.

Nothing else may import this module; it is slow on purpose.
"""

from __future__ import annotations

import numpy as np

__all__ = ["Bijection", "batch_of", "philox", "philox64", "sample_at"]

_MASK32 = 0xFFFFFFFF
_MASK64 = 0xFFFFFFFFFFFFFFFF


def philox(counter: tuple[int, int, int, int], key: int) -> tuple[int, int, int, int]:
    """Philox4x32-10 of one counter."""
    c0, c1, c2, c3 = counter
    k0, k1 = key & _MASK32, key >> 32
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c0, 0xCD9E8D57 * c2
        c0, c1, c2, c3 = (p1 >> 32) ^ c1 ^ k0, p1 & _MASK32, (p0 >> 32) ^ c3 ^ k1, p0 & _MASK32
        k0, k1 = (k0 + 0x9E3779B9) & _MASK32, (k1 + 0xBB67AE85) & _MASK32
    return c0, c1, c2, c3


def philox64(key: int, low: int, high: int) -> int:
    """The first 64 bits of the block that two 64-bit counters name."""
    words = philox((low & _MASK32, low >> 32, high & _MASK32, high >> 32), key)
    return words[0] | words[1] << 32


def _mix(z: int) -> int:
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & _MASK64
    z = (z ^ z >> 27) * 0x94D049BB133111EB & _MASK64
    return z ^ z >> 31


class Bijection:
    """The keyed bijection of [0, n)."""

    def __init__(self, n: int, key: int) -> None:
        self.n, self.key = n, key
        bits = max(2, (n - 1).bit_length())
        self.low, self.high = bits // 2, bits - bits // 2
        self.rounds = 32 if bits <= 8 else 8

    def _bits(self, number: int, value: int, width: int) -> int:
        return _mix(value + self.key + (number + 1) * 0x9E3779B97F4A7C15 & _MASK64) >> 64 - width

    def _once(self, x: int) -> int:
        high, low = x >> self.low, x & (1 << self.low) - 1
        for number in range(0, self.rounds, 2):
            high ^= self._bits(number, low, self.high)
            low ^= self._bits(number + 1, high, self.low)
        x = high << self.low | low
        return x ^ self._bits(self.rounds, x >> 1, 1)

    def forward(self, x: int) -> int:
        """Where x goes."""
        if self.n == 1:
            return 0
        x = self._once(x)
        while x >= self.n:
            x = self._once(x)
        return x


def sample_at(position: int, n: int, block: int, window: int, block_key: int, window_key: int) -> int:
    """Which sample stands at a position: by listing the whole epoch, with none of the native arithmetic."""
    epoch, rank = divmod(position, n)
    count = -(-n // block)
    shuffle = Bijection(count, philox64(block_key, epoch, 0))
    order = [shuffle.forward(slot) for slot in range(count)]
    if block == 1:
        return order[rank]
    listed: list[int] = []
    for number, start in enumerate(range(0, count, window)):
        members = [i for b in order[start : start + window] for i in range(b * block, min(n, (b + 1) * block))]
        inside = Bijection(len(members), philox64(window_key, number, epoch))
        listed += [members[inside.forward(i)] for i in range(len(members))]
    return listed[rank]


def batch_of(tokens: np.ndarray, starts: set[int], firsts: list[int], length: int) -> dict[str, np.ndarray]:
    """The batch of samples that begin at tokens `firsts` of the table; `starts` is where its documents begin."""
    rows: dict[str, list[list[int]]] = {name: [] for name in ("input_ids", "targets", "position_ids", "doc_ids")}
    bounds = [0]
    for row, first in enumerate(firsts):
        position, document = 0, 0
        columns: dict[str, list[int]] = {name: [] for name in rows}
        for i in range(length):
            if i and first + i in starts:
                position, document = 0, document + 1
                bounds.append(row * length + i)
            columns["input_ids"].append(int(tokens[first + i]))
            columns["targets"].append(-100 if first + i + 1 in starts else int(tokens[first + i + 1]))
            columns["position_ids"].append(position)
            columns["doc_ids"].append(document)
            position += 1
        bounds.append((row + 1) * length)
        for name, column in columns.items():
            rows[name].append(column)
    arrays = {name: np.array(values, np.int32 if name == "doc_ids" else np.int64) for name, values in rows.items()}
    return arrays | {"cu_seqlens": np.array(bounds, np.int32), "max_seqlen": np.diff(bounds).max()}
