"""The test vectors kept in vectors.json; 64-bit keys are written in hexadecimal, seeds in decimal digits.

A vector never changes: another value is another stream, and needs a new version of the specification.
"""

from __future__ import annotations

import json
from itertools import accumulate
from typing import Any

from arithmetic import MASK, Order, counts, join, key, perm, philox, philox64, split, two_way, two_way_back, whole
from delivery import batch, deliver

Vectors = list[dict[str, Any]]


def order_vector(n: int, block: int, window: int, table: str, seed: int, positions: list[int]) -> dict[str, object]:
    order = Order(n, block, window, table, seed)
    named = {"n": n, "block_size": block, "window": window, "table": table, "seed": str(seed)}
    return {**named, "positions": positions, "samples": [order.sample(p) for p in positions]}


def delivered(
    lengths: list[int], length: int, samples: list[list[tuple[int, int]]], t: list[int], **recipe: Any
) -> Any:
    """Section 9 of samples, each a list of ranges of the tokens t, for documents of these lengths."""
    starts = [0, *accumulate(lengths)]
    rows = []
    for pieces in samples:
        places = [place for first, stop in pieces for place in range(first, stop)]
        rows.append(deliver([t[p] for p in places], [p in starts for p in places], length, **recipe))
    return batch(rows, length)


def generators() -> dict[str, Vectors]:
    """Sections 3 to 5, and the batch of a table without packing (token t being the number t)."""
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
    bijections: Vectors = []
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
    lengths, t = [5, 1, 1, 9, 4, 1, 16, 3, 8, 2], list(range(50))
    batches: Vectors = []
    for n, samples in [(1, [48, 0, 5, 6]), (4, [0, 1, 2, 11]), (4, [3, 3]), (7, [6, 0, 2]), (49, [0])]:
        said = delivered(lengths, n, [[(i * n, i * n + n + 1)] for i in samples], t)
        batches.append({"documents": lengths, "sequence_length": n, "samples": samples, **said})
    return {
        "philox": [dict(zip(("counter", "key", "block"), row, strict=True)) for row in known],
        "philox64": [{"key": f"{k:016x}", "a": a, "b": b, "value": f"{philox64(k, a, b):016x}"} for k, a, b in draws],
        "keys": [key_vector(s, p, t) for s, p, t in keys],
        "perm": bijections,
        "order": orders,
        "batch": batches,
    }


def key_vector(seed: int, purpose: str, source: str) -> dict[str, Any]:
    return {"seed": str(seed), "purpose": purpose, "table": source, "key": f"{key(purpose, source, seed):016x}"}


def mixtures() -> dict[str, Vectors]:
    """Section 6: weights and the tree; `counts` are those of the first so many positions."""
    decimals = [
        ["0.7", "0.3"],
        ["1"],
        ["250"],
        ["0", "3"],
        ["2", "4", "6"],
        ["0.000000001", "1"],
        ["1.50", "0.25", "5", "0.0"],
    ]
    decimals += [["0.125", "0.875", "0.5"], ["4294967294", "1"], ["3", "0.6", "0.06"]]
    trees = [[1], [1, 1], [7, 3], [1, 4294967294], [4294967294, 1], [1, 1, 1], [2, 3, 6], [5, 1, 1], [1, 2, 4, 8, 16]]
    trees += [[3, 1, 4, 1, 5, 9, 2], [1, 1, 1, 1, 1, 1, 1], [1000, 1, 1, 1, 998, 7, 3]]
    trees += [[1 + i * i * 37 % 101 for i in range(100)], [10**7 + i * 7919 for i in range(100)]]
    found: Vectors = []
    for weights in trees:
        total = sum(weights)
        positions = {*range(min(total, 40) + 2), total // 2, total - 1, total, total + 1, 10**12 + 7, 2**62 - 1}
        positions |= {total // 7 * i for i in range(8)}
        ps = sorted(positions)
        places = [split(weights, p) for p in ps]
        if [join(weights, *place) for place in places] != ps:
            raise AssertionError(f"join of {weights}")
        sources, numbers = ([place[i] for place in places] for i in (0, 1))
        counted = [[p, counts(weights, p)] for p in (0, 1, total - 1, total, 10**12 + 7)]
        found.append({"weights": weights, "positions": ps, "sources": sources, "numbers": numbers, "counts": counted})
    return {"weights": [{"asked": asked, "whole": whole(asked)} for asked in decimals], "interleave": found}


def unseen() -> dict[str, Vectors]:
    """Section 7: keys, the order of added samples (`indexes` are e * n + rank), and the two ways (side 1 is added)."""
    keys = [(0, "added blocks", "tokens"), (0, "added window", "tokens"), (MASK, "added blocks", "web/é.de")]
    orders: Vectors = []
    for n, block, window, seed in [
        (1, 1, 1, 7),
        (13, 1, 1, 7),
        (13, 4, 2, 7),
        (30, 7, 3, MASK),
        (2**40 + 7, 256, 512, 8),
    ]:
        order = Order(n, block, window, "tokens", seed, "added ")
        xs = list(range(2 * n)) if n < 100 else [0, 1, n // 3, n - 1, n, 5 * n + 17]
        named = {"n": n, "block_size": block, "window": window, "source": "tokens", "seed": str(seed)}
        orders.append({**named, "indexes": xs, "samples": [order.sample(x) for x in xs]})
    pairs = [(1, 1), (0, 1), (0, 9), (9, 9), (1, 2), (3, 10), (10, 13), (6, 7), (1, 10**12), (10**12 - 1, 10**12)]
    pairs += [(2**61 - 1, 2**62), (2**60 + 3, 2**61 + 1), (1, 2**61), (2**61 - 2, 2**61 - 1), (2**61 - 1, 2**61 - 1)]
    ways: Vectors = []
    for tail, total in pairs:
        numbers = (
            range(total)
            if total < 20
            else sorted({0, 1, 2, 3, total // 3, total // 2, total // 2 + 1, total - 2, total - 1})
        )
        placed = [two_way(j, tail, total) for j in numbers]
        if [two_way_back(*place, tail, total) for place in placed] != list(numbers):
            raise AssertionError(f"two ways of {tail} in {total}")
        sides, indexes = ([place[i] for place in placed] for i in (0, 1))
        ways.append({"tail": tail, "total": total, "numbers": list(numbers), "sides": sides, "indexes": indexes})
    return {"added_keys": [key_vector(*k) for k in keys], "added_order": orders, "two_way": ways}


def deliveries() -> dict[str, Vectors]:
    """Section 9 beyond section 1's samples: ranges of tokens, of a table whose token t is `tokens`[t]."""
    lengths = [5, 1, 1, 9, 4, 1, 16, 3, 8, 2]
    t = [3 * p * p % 11 + p % 3 for p in range(50)]
    starts = [0, *accumulate(lengths)]
    whole_documents = [[(starts[i], starts[i + 1])] for i in range(len(lengths))]
    packed = [[(0, 5), (7, 10)], [(38, 46)], [(21, 22)], [(7, 16)], [(22, 30)], [(35, 38), (20, 21), (5, 6), (6, 7)]]
    cases: list[tuple[int, list[list[tuple[int, int]]], dict[str, Any]]] = [
        (8, packed, {}),
        (8, packed, {"fill": 9}),
        (8, packed, {"across": True}),
        (8, packed, {"across": True, "fill": 4}),
        (16, whole_documents, {"fill": 2}),
        (16, whole_documents, {"template": t[24:26]}),
        (16, whole_documents, {"template": [t[1]], "fill": 1}),
        (15, [[(22, 38)], [(7, 16)], [(21, 22)]], {"template": t[36:38]}),  # found at the very end
        (15, [[(22, 38)], [(7, 16)]], {"template": [99]}),  # not found
        (4, [[(0, 5)], [(5, 10)], [(18, 23)]], {"across": True, "template": [t[1], t[2]]}),
        (1, [[(4, 5)], [(4, 6)], [(8, 10)]], {"fill": 3}),
    ]
    found: Vectors = []
    for length, samples, recipe in cases:
        full = {"across": False, "fill": 0, "template": None} | recipe
        named = {"documents": lengths, "tokens": t, "sequence_length": length, "samples": samples, **full}
        found.append({**named, **delivered(lengths, length, samples, t, **full)})
    return {"deliver": found}


def printed() -> str:
    """The text of vectors.json."""
    from phase_vectors import identities, phase_chains

    found = generators() | mixtures() | unseen() | deliveries() | {"phases": phase_chains(), "identity": identities()}
    sections = [f'"{k}": [\n' + ",\n".join(map(json.dumps, v)) + "\n]" for k, v in found.items()]
    return '{\n"specification": 1,\n' + ",\n".join(sections) + "\n}\n"
