"""The kernels once more, in plain Python and NumPy and as docs/stream-spec.md words them: the oracle of the tests.

Nothing else may import this module; it is slow on purpose.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

__all__ = ["Bijection", "batch_of", "deal", "deal_two", "epoch_of", "philox", "philox64", "sample_at"]

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


def sample_at(index: int, n: int, block: int, window: int, block_key: int, window_key: int) -> int:
    """Which sample a source has at an index."""
    return epoch_of(index // n, n, block, window, block_key, window_key)[index % n]


def epoch_of(epoch: int, n: int, block: int, window: int, block_key: int, window_key: int) -> list[int]:
    """The samples of an epoch in their order: by listing its windows, with none of the native arithmetic."""
    count = -(-n // block)
    shuffle = Bijection(count, philox64(block_key, epoch, 0))
    order = [shuffle.forward(slot) for slot in range(count)]
    if block == 1:
        return order
    listed: list[int] = []
    for number, start in enumerate(range(0, count, window)):
        members = [i for b in order[start : start + window] for i in range(b * block, min(n, (b + 1) * block))]
        inside = Bijection(len(members), philox64(window_key, number, epoch))
        listed += [members[inside.forward(i)] for i in range(len(members))]
    return listed


def deal(weights: Sequence[int], count: int) -> list[tuple[int, int]]:
    """(source, its sample number) of the first `count` positions of a phase: by dealing them out one after the other.

    There is no formula for a position here, nor a period: each node of the tree only knows how many have come by.
    """
    passed: Counter[tuple[int, int]] = Counter()

    def pass_down(lo: int, hi: int) -> tuple[int, int]:
        v = passed[lo, hi]
        passed[lo, hi] += 1
        if hi - lo == 1:
            return lo, v
        mid = lo + (hi - lo) // 2
        a, w = sum(weights[lo:mid]), sum(weights[lo:hi])
        left = _share(v + 1, a, w) > _share(v, a, w)
        return pass_down(lo, mid) if left else pass_down(mid, hi)

    return [pass_down(0, len(weights)) for _ in range(count)]


def deal_two(tail: int, total: int, first: int, count: int) -> list[tuple[int, int]]:
    """(side, index in it) of the numbers first ... first + count - 1: 0 is the tail, 1 what was added."""
    taken = _share(first, tail, total)
    dealt = []
    for j in range(first, first + count):
        if _share(j + 1, tail, total) > taken:
            dealt.append((0, taken))
            taken += 1
        else:
            dealt.append((1, j - taken))
    return dealt


def _share(v: int, part: int, whole: int) -> int:
    """How many of the first v a part of the whole takes."""
    return (v * part + whole // 2) // whole


def batch_of(
    tokens: np.ndarray,
    starts: set[int],
    samples: Sequence[Sequence[tuple[int, int]]],
    length: int,
    *,
    across: bool = False,
    fill: int = 0,
    template: Sequence[int] | None = None,
) -> dict[str, np.ndarray]:
    """The batch of some samples, each given by its pieces (first, number of tokens) of the tokens of a table.

    `starts` is where the documents of the table begin.
    """
    rows = []
    for pieces in samples:
        places = [first + i for first, count in pieces for i in range(count)]
        begins = [place in starts or (j > 0 and place != places[j - 1] + 1) for j, place in enumerate(places)]
        rows.append(_row([int(tokens[place]) for place in places], begins, length, across, fill, template))
    kinds = {"input_ids": np.int64, "targets": np.int64, "position_ids": np.int64, "doc_ids": np.int32}
    arrays = {name: np.array([row[name] for row in rows], kind) for name, kind in kinds.items()}
    ids = arrays["doc_ids"].ravel().tolist()
    bounds = [at for at in range(len(ids)) if at % length == 0 or ids[at] != ids[at - 1]] + [len(ids)]
    return arrays | {"cu_seqlens": np.array(bounds, np.int32), "max_seqlen": np.diff(bounds).max()}


def _row(
    t: list[int], first: list[bool], length: int, across: bool, fill: int, template: Sequence[int] | None
) -> dict[str, list[int]]:
    """One sample, element by element: t[j] its tokens, first[j] whether t[j] is the first token of a document."""
    m, k = len(t), min(len(t), length)
    begins = [j > 0 and first[j] for j in range(m)]
    targets, positions, documents = [], [], []
    for j in range(length):
        targets.append(t[j + 1] if j < k and j + 1 < m and (across or not begins[j + 1]) else -100)
        if j < k:
            positions.append(j if across else j - max(i for i in range(j + 1) if i == 0 or begins[i]))
            documents.append(0 if across else sum(begins[1 : j + 1]))
        else:
            positions.append(j - k)
            documents.append(documents[k - 1] + 1)
    if template is not None:
        ends = [e for e in range(len(template), m + 1) if t[e - len(template) : e] == list(template)]
        targets = [target if ends and j + 1 >= ends[0] else -100 for j, target in enumerate(targets)]
    inputs = [t[j] if j < k else fill for j in range(length)]
    return {"input_ids": inputs, "targets": targets, "position_ids": positions, "doc_ids": documents}
