"""Replays a stream from a repository folder, written from docs/stream-spec.md alone: it shares no code with pyfactory.

    replay.py REPO TABLE REF --seed S --sequence-length L [--block-size B --window W] --start P --stop Q
    replay.py --vectors

The first form prints a line per position: position, sample, SHA-256 of the input ids as little-endian 32-bit words.
The second prints the test vectors kept in vectors.json; section numbers below are those of the specification.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import struct
import sys
from bisect import bisect_right
from functools import cache
from itertools import accumulate
from pathlib import Path

import numpy as np
import pyarrow as pa

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
    """Section 5: position to sample for n samples."""

    def __init__(self, n: int, block: int, window: int, source: str, seed: int) -> None:
        self.n, self.b = n, min(block, n)
        self.blocks = -(-n // self.b)
        self.w = min(window, self.blocks)
        self.short = n - (self.blocks - 1) * self.b  # samples of the last block
        self.block_key, self.window_key = key("blocks", source, seed), key("window", source, seed)
        self.slot_of_short = cache(lambda e: perm(self.blocks, self.slot_key(e), self.blocks - 1, inverse=True))

    def slot_key(self, e: int) -> int:
        return philox64(self.block_key, e, 0)

    def before(self, e: int, slot: int) -> int:
        """Samples in the slots before this one, in epoch e."""
        return slot * self.b - (self.b - self.short if slot > self.slot_of_short(e) else 0)

    def sample(self, position: int) -> int:
        e, k = divmod(position, self.n)
        if self.b == 1:
            return perm(self.blocks, self.slot_key(e), k)
        v = k // (self.w * self.b)  # one too few where the short block came earlier and made room
        v += self.before(e, min(self.blocks, (v + 1) * self.w)) <= k
        first, stop = v * self.w, min(self.blocks, (v + 1) * self.w)
        start = self.before(e, first)
        m = self.before(e, stop) - start
        wanted = start + perm(m, philox64(self.window_key, v, e), k - start)
        slot = next(s for s in range(first, stop) if wanted < self.before(e, s + 1))
        return perm(self.blocks, self.slot_key(e), slot) * self.b + wanted - self.before(e, slot)


def deliver(lengths: list[int], length: int, samples: list[int]) -> dict[str, list[int]]:
    """Section 7 for documents of these lengths, token t of the table being the number t; batch rows flattened."""
    starts = [0, *accumulate(lengths)]  # of documents; the last is the end of the table
    out: dict[str, list[int]] = {name: [] for name in ("input_ids", "targets", "position_ids", "doc_ids")}
    borders = {0}
    for row, i in enumerate(samples):
        for j in range(length):
            t = i * length + j
            document = bisect_right(starts, t) - 1
            out["input_ids"].append(t)
            out["targets"].append(-100 if t + 1 in starts else t + 1)
            out["position_ids"].append(t - max(i * length, starts[document]))
            out["doc_ids"].append(document - (bisect_right(starts, i * length) - 1))
            borders |= {row * length + j} if t in starts else set()
        borders.add((row + 1) * length)
    return {**out, "cu_seqlens": sorted(borders)}


class Tokens:
    """The tokens of one table of a repository folder at a ref, in table order."""

    def __init__(self, repo: Path, table: str, ref: str) -> None:
        self.repo = repo
        refs: dict[str, str | None] = {}
        for path in sorted((repo / "log").iterdir()):
            for change in json.loads(path.read_bytes())["changes"] if path.name.isdigit() else ():
                refs[change["ref"]] = change["new"]
        commit = next(refs[name] for name in (ref, f"branch/{ref}", f"tag/{ref}") if refs.get(name))
        tree = json.loads(self.path(json.loads(self.path(commit).read_bytes())["tree"]).read_bytes())
        self.shards = list(self.leaves(tree["tables"][table]["manifest"]))
        self.redirect = self.replaced(refs.get("redaction/last"))
        self.ends = list(accumulate(tokens for _, tokens in self.shards))
        self.shard = cache(self.shard_tokens)

    def path(self, digest: str) -> Path:
        return self.repo / "objects" / digest[:2] / digest[2:]

    def replaced(self, digest: str | None) -> dict[str, str]:
        """Section 10: what is read in place of redacted shards, from the newest redaction back."""
        redirect: dict[str, str] = {}
        while digest:
            redaction = json.loads(self.path(digest).read_bytes())
            new = {old: value["shard"] for old, value in redaction["shards"].items()}
            redirect |= {old: redirect.get(shard, shard) for old, shard in new.items()}
            digest = redaction["previous"]
        return redirect

    def leaves(self, digest: str):
        """(digest, tokens) of the shards below a manifest node."""
        node = self.path(digest).read_bytes()
        magic, level, count = struct.unpack_from("<8sII", node)
        if magic != b"PFNODE01":
            raise ValueError(f"{digest}: not a manifest node")
        record = struct.Struct("<Q32sQ32sQQQQ" if level else "<Q32sQ32s32sQQQ")
        for at in range(count):
            fields = record.unpack_from(node, 16 + at * record.size)
            if level:
                yield from self.leaves(fields[3].hex())
            else:
                yield fields[3].hex(), fields[6]

    def shard_tokens(self, ordinal: int) -> np.ndarray:
        digest = self.redirect.get(self.shards[ordinal][0], self.shards[ordinal][0])
        batch = pa.ipc.open_file(pa.memory_map(str(self.path(digest)))).get_batch(0)
        return batch.column("tokens").flatten().to_numpy(zero_copy_only=False)

    def span(self, start: int, stop: int) -> np.ndarray:
        """Tokens [start, stop) as little-endian 32-bit words."""
        pieces, ordinal = [], bisect_right(self.ends, start)
        while start < stop:
            base = self.ends[ordinal] - self.shards[ordinal][1]
            end = min(stop, self.ends[ordinal])
            pieces.append(self.shard(ordinal)[start - base : end - base].astype("<u4"))
            start, ordinal = end, ordinal + 1
        return np.concatenate(pieces)


def order_vector(n: int, block: int, window: int, table: str, seed: int, positions: list[int]) -> dict[str, object]:
    order = Order(n, block, window, table, seed)
    named = {"n": n, "block_size": block, "window": window, "table": table, "seed": str(seed)}
    return {**named, "positions": positions, "samples": [order.sample(p) for p in positions]}


def vectors() -> dict[str, list[dict[str, object]]]:
    """The test vectors; 64-bit keys are written in hexadecimal, seeds in decimal digits."""
    known = [  # Random123's kat_vectors for philox4x32-10
        ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
    ]
    for counter, k, block in known:
        words, (k0, k1) = [int(c, 16) for c in counter.split()], [int(c, 16) for c in k.split()]
        if philox((words[0], words[1], words[2], words[3]), k0 | k1 << 32) != tuple(int(c, 16) for c in block.split()):
            raise AssertionError(f"Philox of {counter} under {k} is not {block}")
    draws = [(0, 0, 0), (MASK, MASK, MASK), (0xA4093822_299F31D0, 3, 1), (1, 2**32 + 5, 2**33), (7, 2**63, 9)]
    keys = [(0, "blocks", "tokens"), (0, "window", "tokens"), (7, "blocks", "tokens"), (MASK, "window", "web/é.de")]
    sizes = [1, 2, 3, 4, 5, 10, 16, 17, 100, 255, 256, 257, 511, 512, 513, 1000, 2**20, 10**12 + 39, 2**61 + 1, 2**62]
    bijections = []
    for n in sizes:
        for k in (0, 0x0123456789ABCDEF, MASK):
            xs = list(range(n)) if n <= 17 else sorted({0, 1, 2, n // 3, n // 2, n - 2, n - 1})
            bijections.append({"n": n, "key": f"{k:016x}", "x": xs, "perm": [perm(n, k, x) for x in xs]})
    small = [(1, 1, 1), (1, 4, 3), (2, 1, 1), (2, 2, 1), (13, 1, 5), (13, 4, 1), (13, 4, 2), (13, 4, 9), (13, 13, 1)]
    small += [(12, 4, 2), (30, 7, 3), (29, 7, 3), (29, 29, 1), (29, 100, 8), (40, 3, 2), (41, 2, 20)]
    orders = [order_vector(n, b, w, "tokens", s, list(range(3 * n))) for n, b, w in small for s in (7, 8)]
    for n, b, w in [(10**6 + 3, 1, 1), (10**6 + 3, 64, 32), (2**40 + 7, 256, 512), (2**40 + 7, 1, 1)]:
        ps = [e * n + k for e in (0, 1, 2**52 // n) for k in (0, 1, n // 7, n // 2, n - 2, n - 1)]
        orders.append(order_vector(n, b, w, "web/é.de", MASK, ps))
    lengths = [5, 1, 1, 9, 4, 1, 16, 3, 8, 2]
    return {
        "philox": [dict(zip(("counter", "key", "block"), row, strict=True)) for row in known],
        "philox64": [{"key": f"{k:016x}", "a": a, "b": b, "value": f"{philox64(k, a, b):016x}"} for k, a, b in draws],
        "keys": [{"seed": str(s), "purpose": p, "table": t, "key": f"{key(p, t, s):016x}"} for s, p, t in keys],
        "perm": bijections,
        "order": orders,
        "batch": [
            {"documents": lengths, "sequence_length": n, "samples": samples, **deliver(lengths, n, samples)}
            for n, samples in [(1, [48, 0, 5, 6]), (4, [0, 1, 2, 11]), (4, [3, 3]), (7, [6, 0, 2]), (49, [0])]
        ],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("where", nargs="*", metavar="REPO TABLE REF")
    parser.add_argument("--vectors", action="store_true")
    for name, default in [("seed", 0), ("sequence-length", 0), ("block-size", 1), ("window", 1), ("start", 0)]:
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--stop", type=int, default=0)
    asked = parser.parse_args()
    if asked.vectors:
        sections = [f'"{k}": [\n' + ",\n".join(map(json.dumps, v)) + "\n]" for k, v in vectors().items()]
        sys.stdout.write('{\n"specification": 1,\n' + ",\n".join(sections) + "\n}\n")
        return
    if len(asked.where) != 3 or asked.sequence_length < 1:
        parser.error("REPO TABLE REF and --sequence-length are needed")
    repo, table, ref = asked.where
    tokens, length = Tokens(Path(repo), table, ref), asked.sequence_length
    order = Order((tokens.ends[-1] - 1) // length, asked.block_size, asked.window, table, asked.seed)
    for position in range(asked.start, asked.stop):
        i = order.sample(position)
        span = tokens.span(i * length, (i + 1) * length)
        sys.stdout.write(f"{position} {i} {hashlib.sha256(span.tobytes()).hexdigest()}\n")


if __name__ == "__main__":
    main()
