"""Replays a stream from a repository folder, written from docs/stream-spec.md and docs/format.md: no code of pyfactory.

    replay.py REPO TABLE REF --seed S --sequence-length L [--block-size B --window W] --start P --stop Q
    replay.py --stream FILE --start P --stop Q [--phases] [--digest] [--identity]
    replay.py --vectors | --self-check

The first form prints a line per position: position, sample, SHA-256 of the input ids as little-endian 32-bit words.

FILE is JSON: {"seed", "phases": [{"at", "recipe": {...}, "sources": [SOURCE, ...]}]}, the recipe as in section 11, and
SOURCE {"name", "repo", "table", "ref", "weight", "cap", "unseen_since"}, without the last three where nothing is to be
said; `unseen_since` is the ref of the old version. Printed are: position, phase, source, "old", "added" or "-", epoch,
sample, and the SHA-256 of input_ids, targets, position_ids and doc_ids (32-bit words). --phases adds a line per phase
(first position, number of the phase in FILE, name:weight:begin of each source), --digest and --identity what sections
10 and 11 say. --vectors prints what vectors.json keeps; --self-check tries everything forward and backward.

arithmetic.py has sections 3 to 6, phases.py 6 and 7, delivery.py 8 to 11, stored.py reads the repository.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import struct
import sys
from functools import cache
from pathlib import Path
from typing import Any

from delivery import NAMES, blake3, canonical, deliver, digest, identity
from phases import Asked, Chain, Sample, Source
from stored import Piece, Repository, Table, cut, packing_table, unmatched

DEFAULTS = {"packing": "concat", "block_size": 1, "window": 1}


class Stream:
    """A stream as FILE describes it."""

    def __init__(self, seed: int, phases: list[dict[str, Any]]) -> None:
        self.seed, self.tables = seed, {}
        self.recipes = [DEFAULTS | phase["recipe"] for phase in phases]
        self.repository = cache(lambda folder: Repository(Path(folder)))
        self.added = cache(lambda new, old: unmatched(self.tables[new].documents(), self.tables[old].documents()))
        self.gone = cache(lambda old, new: unmatched(self.tables[old].documents(), self.tables[new].documents()))
        self.packed = cache(lambda version, *what: packing_table(self.tables[version], *what))
        asked = []
        for phase, recipe in zip(phases, self.recipes, strict=True):
            asked.append(Asked(phase.get("at", 0), [self.source(said, recipe) for said in phase["sources"]]))
        self.chain = Chain(seed, asked)

    def table(self, said: dict[str, Any], ref: str) -> Table:
        table = Table(self.repository(said["repo"]), said["table"], said[ref])
        return self.tables.setdefault(table.version, table)

    def source(self, said: dict[str, Any], recipe: dict[str, Any]) -> Source:
        """Sections 1 and 7: a source with its samples of an epoch."""
        table, length = self.table(said, "ref"), recipe["sequence_length"]
        geometry = (recipe["packing"], length, recipe["block_size"], recipe["window"])
        n, packing = (table.tokens - 1) // length, ""
        if recipe["packing"] != "concat":
            packing, samples = self.packed(table.version, recipe["packing"], length)
            n = len(samples)
        old, added = "", 0
        if "unseen_since" in said:
            old = self.table(said, "unseen_since").version
            added = max(0, sum(stop - first for first, stop in self.added(table.version, old)) - 1) // length
        if n < 1:
            raise ValueError(f"{said['name']} has no sample")
        weight, cap = said.get("weight", "1"), said.get("cap")
        return Source(said["name"], table.version, n, geometry, weight, cap, packing, old, added)

    def recipe(self, phase: int) -> dict[str, Any]:
        return self.recipes[self.chain.phases[phase].asked]

    def pieces(self, phase: int, sample: Sample) -> list[Piece]:
        """Section 1: the tokens of its table that a sample reads."""
        recipe = self.recipe(phase)
        length = recipe["sequence_length"]
        start, stop = sample.sample * length, (sample.sample + 1) * length + 1
        if sample.side == "added":
            return cut(self.added(sample.version, self.unseen(phase, sample)[1]), start, stop)
        if recipe["packing"] == "concat":
            return [(start, stop)]
        return self.packed(sample.version, recipe["packing"], length)[1][sample.sample]

    def unseen(self, phase: int, sample: Sample) -> tuple[str, str]:
        """The new and the old version of a source that delivers what is unseen."""
        leaves = self.chain.phases[phase].leaves
        return next(
            (leaf.source.version, leaf.source.unseen_since) for leaf in leaves if leaf.source.name == sample.source
        )

    def row(self, position: int) -> tuple[int, Sample, dict[str, list[int]]]:
        """Sections 9 and 12: the phase, the sample and what is delivered."""
        phase, sample = self.chain.at(position)
        recipe = self.recipe(phase)
        t: list[int] = []
        begins: list[bool] = []
        masked: list[bool] = []
        gone: list[Piece] = []
        end = 0
        if sample.side == "old":
            new, old = self.unseen(phase, sample)
            gone = self.gone(old, new)
        for first, stop in self.pieces(phase, sample):
            tokens, starts, hidden = self.tables[sample.version].span(first, stop)
            starts = [starts[0] or (bool(t) and first != end), *starts[1:]]
            t, begins, end = t + tokens, begins + starts, stop
            masked += [h or any(a <= first + i < b for a, b in gone) for i, h in enumerate(hidden)]
        across, fill = recipe.get("across_documents", False), recipe.get("fill", 0)
        template, length = recipe.get("response_template"), recipe["sequence_length"]
        return phase, sample, deliver(t, begins, length, across=across, fill=fill, template=template, masked=masked)

    def identity(self) -> dict[str, Any]:
        """Sections 11 and 12: the replay identity."""
        listed: dict[int, dict[str, Any]] = {}
        for phase in self.chain.phases:
            if phase.asked not in listed:  # the first of those with its number is the one that was asked for
                sources = []
                for leaf, weight in zip(phase.leaves, phase.weights, strict=True):
                    s = leaf.source
                    more = {"weight": weight, "cap": s.cap, "packing": s.packing_table, "unseen_since": s.unseen_since}
                    sources.append({"name": s.name, "version": s.version, **more})
                listed[phase.asked] = {"at": phase.start, "recipe": self.recipes[phase.asked], "sources": sources}
        value = identity(self.seed, list(listed.values()))
        redacted = {version: said for version, table in self.tables.items() if (said := redactions(table))}
        if redacted:
            value["redactions"] = redacted if len(self.tables) > 1 else next(iter(redacted.values()))
        return value


def redactions(table: Table) -> dict[str, Any]:
    """Section 12: how many redactions mask tokens of a table, and d of that many."""
    k, d = 0, "0" * 64
    each = [table.repo.masked(shard) for shard, _, _ in table.shards]
    for number in range(len(table.repo.redactions)):
        bases = zip(table.starts, each, strict=False)
        ranges = [[base + first, base + stop] for base, shard in bases for first, stop in sorted(shard[number])]
        if ranges:
            k, d = k + 1, blake3(canonical([d, ranges]))
    return {"count": k, "digest": d} if k else {}


def sha(values: list[int], code: str) -> str:
    return hashlib.sha256(struct.pack(f"<{len(values)}{code}", *values)).hexdigest()


def print_positions(stream: Stream, positions: range, brief: bool) -> list[list[int]]:
    """Print a line for each position; return the input ids."""
    rows = []
    for position in positions:
        phase, sample, row = stream.row(position)
        hashes = [sha(row[name], "I" if name == "input_ids" else "i") for name in NAMES]
        said = [phase, sample.source, sample.side or "-", sample.epoch, sample.sample, *hashes]
        print(position, *([sample.sample, hashes[0]] if brief else said))
        rows.append(row["input_ids"])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("where", nargs="*", metavar="REPO TABLE REF")
    for flag in ("vectors", "self-check", "digest", "identity", "phases"):
        parser.add_argument(f"--{flag}", action="store_true")
    parser.add_argument("--stream", type=Path)
    for name, default in [
        ("seed", 0),
        ("sequence-length", 0),
        ("block-size", 1),
        ("window", 1),
        ("start", 0),
        ("stop", 0),
    ]:
        parser.add_argument(f"--{name}", type=int, default=default)
    asked = parser.parse_args()
    if asked.vectors or asked.self_check:
        from self_check import self_check
        from vectors import printed

        sys.stdout.write(printed() if asked.vectors else self_check())
        return
    if asked.stream:
        described = json.loads(asked.stream.read_bytes())
    elif len(asked.where) == 3 and asked.sequence_length > 0:
        repo, table, ref = asked.where
        source = {"name": table, "repo": repo, "table": table, "ref": ref}
        recipe = {name: getattr(asked, name) for name in ("sequence_length", "block_size", "window")}
        described = {"seed": asked.seed, "phases": [{"recipe": recipe, "sources": [source]}]}
    else:
        parser.error("REPO TABLE REF and --sequence-length are needed, or --stream FILE")
    stream = Stream(described["seed"], described["phases"])
    if asked.phases:
        for phase in stream.chain.phases:
            said = zip(phase.leaves, phase.weights, strict=True)
            print(phase.start, phase.asked, *(f"{leaf.source.name}:{weight}:{leaf.begin}" for leaf, weight in said))
    rows = print_positions(stream, range(asked.start, asked.stop), brief=asked.stream is None)
    if asked.digest:
        print(digest(rows))
    if asked.identity:
        print(canonical(stream.identity()).decode())


if __name__ == "__main__":
    main()
