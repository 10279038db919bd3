"""Test vectors of whole streams: chains of phases (sections 6 and 7), and replay identities (section 11).

A version is a list of documents, [record id, number of tokens]; two versions are the same if their names are.
"""

from __future__ import annotations

from typing import Any

from delivery import canonical, identity
from phases import Asked, Chain, Source
from stored import unmatched

Documents = list[list[Any]]
NAMED = ("packing", "sequence_length", "block_size", "window")


def version(*ranges: range, more: int = 0) -> Documents:
    """Documents of 1 to 11 tokens, by number; `more` makes another document of the same record."""
    return [[f"doc-{i}", 1 + (7 * i + 3) % 11 + more] for some in ranges for i in some]


def bounds(documents: Documents) -> list[tuple[str, int, int]]:
    """(record id, first token, one past the last) of each document."""
    found, start = [], 0
    for record, tokens in documents:
        found.append((record, start, start + tokens))
        start += tokens
    return found


def source_of(said: dict[str, Any], recipe: dict[str, Any], versions: dict[str, Documents]) -> Source:
    """A source of `concat`, by the documents of its version."""
    new, length = bounds(versions[said["version"]]), recipe["sequence_length"]
    geometry = ("concat", length, recipe["block_size"], recipe["window"])
    old, added = said.get("unseen_since", ""), 0
    if old:
        added = max(0, sum(b - a for a, b in unmatched(new, bounds(versions[old]))) - 1) // length
    weight = said.get("weight", "1")
    n = (new[-1][2] - 1) // length
    return Source(said["name"], said["version"], n, geometry, weight, said.get("cap"), "", old, added)


def chain_of(seed: int, phases: list[dict[str, Any]], versions: dict[str, Documents]) -> Chain:
    asked = [Asked(p["at"], [source_of(s, p["recipe"], versions) for s in p["sources"]]) for p in phases]
    return Chain(seed, asked)


def phase(at: int, *sources: str, length: int = 8, block: int = 1, window: int = 1) -> dict[str, Any]:
    """A phase in short: each source is "name version weight [cap=N] [since=version]"."""
    recipe = dict(zip(NAMED, ("concat", length, block, window), strict=True))
    described = []
    for source in sources:
        name, of, weight, *more = source.split()
        said: dict[str, Any] = {"name": name, "version": of, "weight": weight}
        for option, value in (text.split("=") for text in more):
            said |= {"cap": int(value)} if option == "cap" else {"unseen_since": value}
        described.append(said)
    return {"at": at, "recipe": recipe, "sources": described}


# a and b have about 20 samples of 8 tokens; b is a with more documents behind it; c has lost some of a, has others that
# are longer, and new ones before and behind; d is another table; e is a less its last documents: nothing was added.
VERSIONS = {
    "a": version(range(30)),
    "b": version(range(55)),
    "c": [
        *version(range(60, 70), range(3, 12)),
        *version(range(12, 16), more=2),
        *version(range(18, 30), range(40, 48)),
    ],
    "d": version(range(100, 117)),
    "e": version(range(26)),
}
MIXED = ("web a 0.7", "code d 0.3")

CHAINS: dict[str, list[dict[str, Any]]] = {
    "one source": [phase(0, "a a 1", block=4, window=2)],
    "weights change": [
        phase(0, *MIXED),
        phase(33, "web a 0.25", "code d 0.75"),
        phase(34, *MIXED),
        phase(90, "code d 1"),
    ],
    "a source leaves and returns": [
        phase(0, *MIXED),
        phase(17, "web a 1"),
        phase(61, *MIXED),
        phase(70, "new e 1", *MIXED),
    ],
    "a weight of 0 leaves a source out": [phase(0, *MIXED), phase(9, "web a 1", "code b 0"), phase(40, *MIXED)],
    "another length": [phase(0, *MIXED), phase(25, *MIXED, length=5), phase(100, *MIXED, length=8)],
    "another length at the end of an epoch": [phase(0, "web a 1"), phase(44, "web a 1", length=16)],
    "another block and window": [phase(0, *MIXED, block=3, window=2), phase(50, *MIXED, block=3, window=4)],
    "another version, then the first again": [
        phase(0, *MIXED),
        phase(30, "web b 0.7", "code d 0.3"),
        phase(60, *MIXED),
    ],
    "a version changes while it is away": [phase(0, *MIXED), phase(20, "code d 1"), phase(30, "web b 2", "code d 1")],
    "a cap": [phase(0, "web a 0.7 cap=20", "code d 0.3", "z e 2")],
    "caps end the stream": [phase(0, "web a 0.7 cap=20", "code d 0.3 cap=26")],
    "a cap that is passed": [phase(0, *MIXED), phase(41, "web a 0.7 cap=10", "code d 0.3"), phase(80, *MIXED)],
    "caps and another length": [
        phase(0, "web a 1 cap=44", "code d 1 cap=22"),
        phase(30, "web a 1 cap=70", "code d 1 cap=22", length=5),
    ],
    "a phase begins where a cap is reached": [
        phase(0, "web a 2 cap=20", "code d 1"),
        phase(30, "web a 2 cap=22", "code d 1"),
        phase(33, "web a 2 cap=23", "code d 1 cap=12"),
        phase(35, "web a 2", "code d 1"),
    ],
    "unseen": [phase(0, "a a 1"), phase(30, "a b 1 since=a")],
    "unseen, blocks": [phase(0, "a a 1", block=4, window=2), phase(9, "a c 1 since=a", block=4, window=2)],
    "unseen at the end of an epoch": [phase(0, "a a 1"), phase(44, "a b 1 since=a")],
    "unseen before the first sample": [phase(0, "web a 1", "code d 9"), phase(3, "web b 0.7 since=a", "code d 0.3")],
    "nothing was added": [phase(0, "a a 1"), phase(30, "a e 1 since=a")],
    "unseen in a mixture": [phase(0, *MIXED), phase(40, "web c 0.7 since=a", "code d 0.3")],
    "unseen, and weights change": [
        phase(0, *MIXED),
        phase(40, "web c 0.7 since=a", "code d 0.3"),
        phase(47, "web c 0.5 since=a", "code d 0.5"),
        phase(51, "code d 1"),
        phase(55, "web c 0.5 since=a", "code d 0.5 cap=30"),
    ],
    "unseen is given up": [
        phase(0, *MIXED),
        phase(40, "web c 0.7 since=a", "code d 0.3"),
        phase(50, "web c 7", "code d 3"),
    ],
    "two sources, both unseen, caps": [
        phase(0, "web a 0.7", "code d 0.3", "z e 0.1"),
        phase(40, "web c 0.7 since=a cap=44", "code a 0.3 since=d cap=30", "z e 0.1 cap=9"),
    ],
    "unseen twice": [phase(0, "a a 1"), phase(30, "a b 1 since=a"), phase(100, "a c 1 since=b")],
}


def phase_chains() -> list[dict[str, Any]]:
    """Chains: each phase is [first position, [[name, whole weight, begin], ...]] (begin: a number, where unseen).

    Phases without a position are not listed. What a position delivers is [name, "old" or "added" or "", epoch, sample].
    """
    found = []
    for number, (name, asked) in enumerate(CHAINS.items()):
        seed = (7, 2**64 - 1)[number % 2]
        chain = chain_of(seed, asked, VERSIONS)
        starts = [p.start for p in chain.phases]
        stop = starts[-1] + 60 if chain.end is None else chain.end
        near = {p + i for p in (*starts, stop) for i in (-2, -1, 0, 1, 2)}
        positions = sorted(p for p in near | set(range(0, stop, 3)) if 0 <= p < stop)
        delivered = []
        for position in positions:
            at, sample = chain.at(position)
            if chain.position(at, sample) != position:
                raise AssertionError(f"{name}: {position} leads to {sample}, which does not lead back")
            delivered.append([sample.source, sample.side, sample.epoch, sample.sample])
        said = []
        for p, stop in zip(chain.phases, [*starts[1:], chain.end], strict=True):
            if p.start == stop:
                continue
            pairs = zip(p.leaves, p.weights, strict=True)
            said.append([p.start, [[leaf.source.name, weight, leaf.begin] for leaf, weight in pairs]])
        used = {s[k] for p in asked for s in p["sources"] for k in ("version", "unseen_since") if k in s}
        versions = {of: VERSIONS[of] for of in sorted(used)}
        described = {"name": name, "seed": str(seed), "versions": versions, "asked": asked}
        outcome = {"phases": said, "end": chain.end, "positions": positions, "delivered": delivered}
        found.append(described | outcome)
    return found


def identities() -> list[dict[str, Any]]:
    """Replay identities: `bytes` is the canonical JSON; the digests are made up, "weight" is the whole one."""
    a, b, c, d, table = (letter * 64 for letter in "abcde")
    plain = dict(zip(NAMED, ("concat", 8, 1, 1), strict=True))
    shuffled = plain | {"block_size": 10_000, "window": 10**6}
    across = plain | {"across_documents": True, "fill": 3}
    tuned = plain | {"packing": "documents", "fill": 2**32 - 1, "response_template": [5, 0, 7]}
    best = plain | {"packing": "best_fit", "across_documents": False, "fill": 0}
    one = [{"name": "corpus", "version": a}]
    two = [{"name": "code", "version": b, "weight": 3}, {"name": "web", "version": a, "weight": 7}]
    named = [{"name": "B", "version": c, "weight": 1}, {"name": "a", "version": d, "weight": 1}]
    named += [{"name": "e.de-web", "version": a, "weight": 4, "cap": 50}]
    packed = [{**source, "packing": table} for source in two]
    unseen = [two[0], {**two[1], "version": c, "unseen_since": a, "cap": 44}]
    streams: list[tuple[int, list[tuple[int, dict[str, Any], list[dict[str, Any]]]]]] = [
        (0, [(0, plain, one)]),
        (2**64 - 1, [(0, shuffled, two)]),
        (7, [(0, across, named)]),
        (7, [(0, tuned, [{**one[0], "packing": table}])]),
        (7, [(0, best, packed)]),
        (7, [(0, plain, two), (40, plain, unseen), (10**6, plain | {"sequence_length": 16}, [{**two[1], "cap": 5}])]),
    ]
    found = []
    for seed, asked in streams:
        phases = [{"at": at, "recipe": recipe, "sources": sources} for at, recipe, sources in asked]
        text = canonical(identity(seed, phases)).decode()
        found.append({"seed": str(seed), "phases": phases, "bytes": text})
    return found
