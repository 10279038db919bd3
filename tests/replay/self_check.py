"""Everything forward against everything backward, by brute force, on small things and on random chains of phases."""

from __future__ import annotations

import random
from collections import Counter
from math import ceil, log2

from arithmetic import Order, counts, join, perm, split, two_way, two_way_back, whole
from phase_vectors import VERSIONS, chain_of, phase
from phases import Chain


def check(holds: bool, what: object) -> None:
    if not holds:
        raise AssertionError(what)


def orders(chance: random.Random) -> int:
    """Each epoch is a permutation, and index() leads back."""
    for n in (1, 2, 3, 7, 64, 257, 1000):
        k = chance.getrandbits(64)
        check([perm(n, k, perm(n, k, x), inverse=True) for x in range(n)] == list(range(n)), ("perm", n, k))
    recipes = [[chance.randint(1, top) for top in (60, 12, 9)] for _ in range(60)]
    for n, block, window in recipes:
        order = Order(n, block, window, "a", chance.getrandbits(64))
        samples = [order.sample(x) for x in range(3 * n)]
        check(
            all(sorted(samples[e * n : (e + 1) * n]) == list(range(n)) for e in range(3)), ("order", n, block, window)
        )
        check([order.index(x // n, s) for x, s in enumerate(samples)] == [*range(3 * n)], ("index", n, block, window))
    return len(recipes)


def trees(chance: random.Random) -> int:
    """Two periods: join and counts agree with split, sources count without a gap, shares are exact or nearly so."""
    mixtures = [[chance.randint(1, 30) for _ in range(k)] for k in (1, 2, 2, 3, 4, 5, 6, 7, 12, 33)] + [
        [1] * 9,
        [1, 99],
    ]
    for weights in map(whole, ([str(w) for w in mixture] for mixture in mixtures)):
        total, heard, bound = sum(weights), [0] * len(weights), ceil(log2(len(weights))) if len(weights) > 1 else 0
        for q in range(2 * total + 1):
            check(counts(weights, q) == heard, ("counts", weights, q))
            check(q % total != 0 or heard == [q // total * w for w in weights], ("period", weights, q))
            shares = [abs(h * total - q * w) <= bound * total for h, w in zip(heard, weights, strict=True)]
            check(all(shares), ("share", weights, q))
            source, number = split(weights, q)
            check(number == heard[source] and join(weights, source, number) == q, ("join", weights, q))
            heard[source] += 1
    for total in range(1, 60):
        for tail in range(total + 1):
            placed = [two_way(j, tail, total) for j in range(total)]
            sides = [[i for side, i in placed if side == which] for which in (0, 1)]
            check(sides == [list(range(tail)), list(range(total - tail))], ("two_way", tail, total))
            check([two_way_back(*place, tail, total) for place in placed] == list(range(total)), ("back", tail, total))
    return len(mixtures)


def random_phases(chance: random.Random) -> list[dict]:
    """Phases that may or may not be allowed one after the other."""
    phases, at = [], 0
    for _ in range(chance.randint(1, 5)):
        named = []
        for name in chance.sample(["web", "code", "z"], chance.randint(1, 3)):
            cap = f" cap={chance.randint(1, 90)}" if chance.random() < 0.3 else ""
            since = f" since={chance.choice('abde')}" if phases and chance.random() < 0.3 else ""
            named.append(f"{name} {chance.choice('abcde')} {chance.randint(1, 9)}{cap}{since}")
        length = chance.choice([8, 8, 8, 8, 13])
        phases.append(phase(at, *named, length=length, block=1 + (len(phases) > 3), window=2))
        at += chance.choice([1, 7, 7, 40, 90])
    return phases


def chains(chance: random.Random, wanted: int = 60) -> int:
    """Each position leads back to itself and to no sample that another has; a phase more changes nothing before it."""
    allowed = 0
    while allowed < wanted:
        phases, seed = random_phases(chance), chance.getrandbits(64)
        try:
            chain = chain_of(seed, phases, VERSIONS)
            before = chain_of(seed, phases[:-1], VERSIONS) if phases[1:] else chain
        except ValueError:
            continue
        allowed += 1
        stop = min(phases[-1]["at"] + 150, chain.end or 2**62)
        there = [chain.at(p) for p in range(stop)]
        for p, (number, sample) in enumerate(there):
            for other, phase_there in enumerate(chain.phases):
                if phase_there.leaves[0].source.geometry != chain.phases[number].leaves[0].source.geometry:
                    continue
                check(chain.position(other, sample) in ((p,) if other == number else (None, p)), (phases, p, other))
        known = range(min(stop, phases[-1]["at"]))
        check([before.at(p)[1] for p in known] == [there[p][1] for p in known], ("prefix", phases))
        no_repeats(chain, there)
    return allowed


def no_repeats(chain: Chain, there: list) -> None:
    """No sample of an epoch twice under one recipe, and no epoch with more samples than it has."""
    seen: Counter = Counter()
    for number, sample in there:
        leaf = next(leaf for leaf in chain.phases[number].leaves if leaf.source.name == sample.source)
        seen[sample, leaf.source.geometry] += 1
        check(sample.side != "added" or sample.sample < leaf.source.added, sample)
    check(all(count == 1 for count in seen.values()), max(seen, key=lambda one: seen[one]))


def self_check() -> str:
    chance = random.Random(4)
    return f"{orders(chance)} orders, {trees(chance)} mixtures, {chains(chance)} chains of phases\n"
