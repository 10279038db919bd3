"""The statistics of tests/shuffle_statistics.py with more keys than the tests take, as the table of docs/shuffle.md.

    python -m benchmarks.shuffle_quality

A minute on one core.
"""

from __future__ import annotations

import numpy as np

from tests.shuffle_statistics import (
    Statistic,
    bound,
    distances,
    every_permutation,
    fair_draw,
    feistel,
    index_avalanche,
    key_avalanche,
    keys_of,
    native,
    parity,
    placement,
    serial,
    spread,
)

# name, statistic, [(n or bits, keys)], whether a fair draw can be asked as well
ROWS: list[tuple[str, Statistic, list[tuple[int, int]], bool]] = [
    (
        "where each index lands",
        placement,
        [(5, 200_000), (16, 50_000), (100, 20_000), (1000, 2_000), (4097, 300)],
        True,
    ),
    ("spread of ranges, key by key", spread, [(16, 4_000), (100, 1_000), (1000, 1_000), (4097, 300)], True),
    ("all permutations", every_permutation, [(3, 400_000), (4, 400_000), (5, 400_000), (6, 400_000)], True),
    ("parity", parity, [(16, 10_000), (64, 4_000), (256, 2_000)], True),
    ("index avalanche, n = 2^", index_avalanche, [(10, 20_000), (16, 20_000), (33, 20_000), (62, 20_000)], False),
    ("key avalanche, n = 2^", key_avalanche, [(10, 10_000), (16, 10_000), (33, 10_000), (62, 10_000)], False),
    ("correlation, lags 1 to 64", serial, [(256, 4_000), (1000, 2_000), (4097, 300)], True),
    ("distance of neighbours", distances, [(256, 4_000), (1000, 2_000), (4097, 300)], True),
]


def main() -> None:
    """The largest score of each row; n, keys and number of scores; all in standard deviations."""
    print("| test | n | bound | fair draws | pyfactory | 2 rounds | 4 rounds | no last bit |\n|" + " --- |" * 8)
    for name, statistic, sizes, drawable in ROWS:
        functions = [fair_draw if drawable else None, native, feistel(2), feistel(4), feistel(last_bit=False)]
        cells, limits = [], []
        for n, keys in sizes:
            scores = [None if f is None else statistic(f, n, keys_of(keys)) for f in functions]
            limits.append(bound(next(s.size for s in scores if s is not None)))
            cells.append([None if s is None else float(np.abs(s).max()) for s in scores])
        most = [" " if column[0] is None else f"{max(column):.1f}" for column in zip(*cells, strict=True)]
        print(
            f"| {name} | {', '.join(str(n) for n, _ in sizes)} | {max(limits):.1f} | {' | '.join(most)} |", flush=True
        )


if __name__ == "__main__":
    main()
