"""Sections 3 to 6 of docs/stream-spec.md: keys, the bijection, the order of an epoch, the tree of a mixture."""

from __future__ import annotations

import hashlib
from fractions import Fraction
from functools import cache
from math import gcd, lcm

WORD, MASK = 2**32 - 1, 2**64 - 1


def key(purpose: str, source: str, seed: int) -> int:
    """Section 3: the 64-bit key of one purpose."""
    text = b"\0".join([b"pyfactory stream 1", str(seed).encode(), purpose.encode(), source.encode()])
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "little")


def philox(counter: tuple[int, int, int, int], k: int) -> tuple[int, int, int, int]:
    """Section 3: one block of Philox4x32-10."""
    (c0, c1, c2, c3), k0, k1 = counter, k & WORD, k >> 32
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c0, 0xCD9E8D57 * c2
        c0, c1, c2, c3 = (p1 >> 32) ^ c1 ^ k0, p1 & WORD, (p0 >> 32) ^ c3 ^ k1, p0 & WORD
        k0, k1 = (k0 + 0x9E3779B9) & WORD, (k1 + 0xBB67AE85) & WORD
    return c0, c1, c2, c3


def philox64(k: int, a: int, b: int) -> int:
    """Section 3: 64 bits drawn at the counter (a, b)."""
    w0, w1, _, _ = philox((a & WORD, a >> 32, b & WORD, b >> 32), k)
    return w0 | w1 << 32


def mix(z: int) -> int:
    """Section 4: the finaliser of a 64-bit word."""
    z = ((z ^ z >> 30) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ z >> 27) * 0x94D049BB133111EB) & MASK
    return z ^ z >> 31


def perm(n: int, k: int, x: int, inverse: bool = False) -> int:
    """Section 4: the bijection of [0, n), or where it takes x from."""
    if n == 1:
        return 0
    bits = max(2, (n - 1).bit_length())
    low = bits // 2
    high = bits - low
    rounds = 32 if bits <= 8 else 8

    def f(r: int, v: int, w: int) -> int:
        return mix((v + k + (r + 1) * 0x9E3779B97F4A7C15) & MASK) >> (64 - w)

    while True:
        if inverse:
            x ^= f(rounds, x >> 1, 1)
        h, l = x >> low, x & (1 << low) - 1  # noqa: E741 - the names of the specification
        for r in reversed(range(rounds)) if inverse else range(rounds):
            if r % 2 == 0:
                h ^= f(r, l, high)
            else:
                l ^= f(r, h, low)  # noqa: E741
        x = h << low | l
        if not inverse:
            x ^= f(rounds, x >> 1, 1)
        if x < n:
            return x


class Order:
    """Section 5: index to sample for n samples, and back."""

    def __init__(self, n: int, block: int, window: int, source: str, seed: int, purpose: str = "") -> None:
        self.n, self.b = n, min(block, n)
        self.blocks = -(-n // self.b)
        self.w = min(window, self.blocks)
        self.short = n - (self.blocks - 1) * self.b  # samples of the last block
        self.block_key, self.window_key = (key(purpose + name, source, seed) for name in ("blocks", "window"))
        self.slot_of_short = cache(lambda e: perm(self.blocks, self.slot_key(e), self.blocks - 1, inverse=True))

    def slot_key(self, e: int) -> int:
        return philox64(self.block_key, e, 0)

    def before(self, e: int, slot: int) -> int:
        """Samples in the slots before this one, in epoch e."""
        return slot * self.b - (self.b - self.short if slot > self.slot_of_short(e) else 0)

    def window_of(self, e: int, slot: int) -> tuple[range, int, int]:
        """The slots of the window that has this one, the samples before it, and the samples in it."""
        first = slot // self.w * self.w
        stop = min(self.blocks, first + self.w)
        start = self.before(e, first)
        return range(first, stop), start, self.before(e, stop) - start

    def sample(self, index: int) -> int:
        e, k = divmod(index, self.n)
        if self.b == 1:
            return perm(self.blocks, self.slot_key(e), k)
        v = k // (self.w * self.b)  # one too few where the short block came earlier and made room
        v += self.before(e, min(self.blocks, (v + 1) * self.w)) <= k
        slots, start, m = self.window_of(e, v * self.w)
        wanted = start + perm(m, philox64(self.window_key, v, e), k - start)
        slot = next(s for s in slots if wanted < self.before(e, s + 1))
        return perm(self.blocks, self.slot_key(e), slot) * self.b + wanted - self.before(e, slot)

    def index(self, e: int, sample: int) -> int:
        """Where epoch e has this sample."""
        block, inner = divmod(sample, self.b)
        slot = perm(self.blocks, self.slot_key(e), block, inverse=True)
        if self.b == 1:
            return e * self.n + slot
        slots, start, m = self.window_of(e, slot)
        listed = self.before(e, slot) + inner - start
        k = philox64(self.window_key, slots[0] // self.w, e)
        return e * self.n + start + perm(m, k, listed, inverse=True)


def whole(weights: list[str]) -> list[int]:
    """Section 6: decimals as whole weights without a common divisor; a weight 0 stays 0 here."""
    exact = [Fraction(weight) for weight in weights]
    scale = lcm(
        *(weight.denominator for weight in exact)
    )  # the power of ten differs by a factor that the divisor takes
    numbers = [int(weight * scale) for weight in exact]
    return [number // gcd(*numbers) for number in numbers]


def to_left(v: int, left: int, total: int) -> int:
    """Sections 6 and 7, c(v): how many of the first v go to the left, which has `left` of each `total`."""
    return (v * left + total // 2) // total


def two_way(v: int, left: int, total: int) -> tuple[int, int]:
    """Sections 6 and 7: the side of number v, 0 for left, and its number there."""
    c = to_left(v, left, total)
    return (0, c) if to_left(v + 1, left, total) > c else (1, v - c)


def two_way_back(side: int, v: int, left: int, total: int) -> int:
    """Sections 6 and 7: the number that goes to a side as number v of it."""
    if side == 0:
        return -(-((v + 1) * total - total // 2) // left) - 1
    return (v * total + total // 2) // (total - left)


def split(weights: list[int], q: int) -> tuple[int, int]:
    """Section 6: the source that gets number q of a phase, and its number there."""
    u, v = divmod(q, sum(weights))
    lo, hi = 0, len(weights)
    while hi - lo > 1:
        mid = lo + (hi - lo) // 2
        side, v = two_way(v, sum(weights[lo:mid]), sum(weights[lo:hi]))
        lo, hi = (lo, mid) if side == 0 else (mid, hi)
    return lo, u * weights[lo] + v


def join(weights: list[int], source: int, number: int) -> int:
    """Section 6, back: the number in the phase of a source's number."""
    u, v = divmod(number, weights[source])
    path = [(0, len(weights))]
    while path[-1][1] - path[-1][0] > 1:
        lo, hi = path[-1]
        mid = lo + (hi - lo) // 2
        path.append((lo, mid) if source < mid else (mid, hi))
    for (lo, hi), (first, _) in zip(path[-2::-1], path[:0:-1], strict=True):
        v = two_way_back(int(first > lo), v, sum(weights[lo : lo + (hi - lo) // 2]), sum(weights[lo:hi]))
    return u * sum(weights) + v


def counts(weights: list[int], q: int) -> list[int]:
    """How many of the first q samples of a phase each source has."""
    found = [0] * len(weights)
    u, v = divmod(q, sum(weights))

    def down(lo: int, hi: int, v: int) -> None:
        if hi - lo == 1:
            found[lo] = u * weights[lo] + v
            return
        mid = lo + (hi - lo) // 2
        left = to_left(v, sum(weights[lo:mid]), sum(weights[lo:hi]))
        down(lo, mid, left)
        down(mid, hi, v - left)

    down(0, len(weights), v)
    return found
