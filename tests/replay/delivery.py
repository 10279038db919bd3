"""Sections 8 to 12 of docs/stream-spec.md: train steps, what a position delivers, digests, the replay identity."""

from __future__ import annotations

import json
import struct
from typing import Any

NAMES = ("input_ids", "targets", "position_ids", "doc_ids")


def steps(cursor: int, batch: int, world: int, rank: int, strided: bool = False) -> range:
    """Section 8: the positions of a rank in the train step that begins at the cursor."""
    if strided:
        return range(cursor + rank, cursor + batch, world)
    return range(cursor + rank * (batch // world), cursor + (rank + 1) * (batch // world))


def deliver(
    t: list[int],
    begins: list[bool],
    length: int,
    *,
    across: bool = False,
    fill: int = 0,
    template: list[int] | None = None,
    masked: list[bool] | None = None,
) -> dict[str, list[int]]:
    """Sections 9 and 12: the row of a sample of tokens t; t[j] is the first of a document if begins[j]."""
    m, hidden = len(t), masked or [False] * len(t)
    k = min(m, length)
    first = [j for j in range(m) if j == 0 or (begins[j] and not across)]  # of what is seen together
    seen = answer(t, template) if template else 0
    row: dict[str, list[int]] = {name: [] for name in NAMES}
    for j in range(k):
        last = j + 1 == m or j + 1 in first or j + 1 < seen or hidden[j] or hidden[j + 1]
        row["input_ids"].append(fill if hidden[j] else t[j])
        row["targets"].append(-100 if last else t[j + 1])
        row["position_ids"].append(j - max(i for i in first if i <= j))
        row["doc_ids"].append(sum(i <= j for i in first) - 1)
    for j in range(k, length):
        for name, value in zip(NAMES, (fill, -100, j - k, row["doc_ids"][k - 1] + 1), strict=True):
            row[name].append(value)
    return row


def answer(t: list[int], template: list[int]) -> int:
    """Section 9: e, the place after the first template in t; behind all of t if there is none."""
    h = len(template)
    return next((e for e in range(h, len(t) + 1) if t[e - h : e] == template), len(t) + 1)


def batch(rows: list[dict[str, list[int]]], length: int) -> dict[str, list[int]]:
    """Rows one after the other, with cu_seqlens."""
    flat = {name: [value for row in rows for value in row[name]] for name in NAMES}
    ids, borders = flat["doc_ids"], [0]
    for place in range(1, len(ids)):
        if place % length == 0 or ids[place] != ids[place - 1]:
            borders.append(place)
    return {**flat, "cu_seqlens": [*borders, len(ids)]}


def canonical(value: Any) -> bytes:
    """Canonical JSON; see format.md, section 1."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def identity(seed: int, phases: list[dict[str, Any]]) -> dict[str, Any]:
    """Section 11, of phases {at, recipe, sources: [{name, version, weight (whole), cap, packing, unseen_since}]}."""
    said = [{"recipe": recipe_value(p["recipe"]), "sources": sources_value(p)} for p in phases]
    then = [{"at": p["at"], **value} for p, value in zip(phases[1:], said[1:], strict=True)]
    return {"spec": 1, "seed": seed, **said[0], **({"then": then} if then else {})}


def recipe_value(recipe: dict[str, Any]) -> dict[str, Any]:
    """Section 11: RECIPE, with what is left out where it says nothing."""
    value = {name: recipe[name] for name in ("packing", "sequence_length", "block_size", "window")}
    given = {name: recipe.get(name) for name in ("across_documents", "fill", "response_template")}
    return value | {name: what for name, what in given.items() if what}


def sources_value(phase: dict[str, Any]) -> list[dict[str, Any]]:
    """Section 11: the SOURCEs of a phase."""
    found = []
    for source in phase["sources"]:
        value = {"name": source["name"], "version": source["version"]}
        if len(phase["sources"]) > 1:
            value["weight"] = source["weight"]
        if source.get("cap") is not None:
            value["cap"] = source["cap"]
        if phase["recipe"]["packing"] != "concat":
            value["packing"] = source["packing"]
        found.append(value | ({"unseen_since": source["unseen_since"]} if source.get("unseen_since") else {}))
    return found


IV = (0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19)
SHUFFLE = (2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8)
QUARTERS = ((0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15))
DIAGONALS = ((0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14))


def compress(chain: tuple[int, ...], words: tuple[int, ...], counter: int, size: int, flags: int) -> tuple[int, ...]:
    """BLAKE3's compression function, its first eight words."""
    v = [*chain, *IV[:4], counter & 0xFFFFFFFF, counter >> 32, size, flags]

    def turn(x: int, right: int) -> int:
        return (x >> right | x << (32 - right)) & 0xFFFFFFFF

    for _ in range(7):
        for i, (a, b, c, d) in enumerate(QUARTERS + DIAGONALS):
            for word, first, second in ((words[2 * i], 16, 12), (words[2 * i + 1], 8, 7)):
                v[a] = (v[a] + v[b] + word) & 0xFFFFFFFF
                v[d] = turn(v[d] ^ v[a], first)
                v[c] = (v[c] + v[d]) & 0xFFFFFFFF
                v[b] = turn(v[b] ^ v[c], second)
        words = tuple(words[i] for i in SHUFFLE)
    return tuple(v[i] ^ v[i + 8] for i in range(8))


def blake3(content: bytes) -> str:
    """BLAKE3-256 in lower-case hexadecimal (O'Connor, Aumasson, Neves, Wilcox-O'Hearn, 2020); for small things."""

    def tree(start: int, stop: int, root: int) -> tuple[int, ...]:
        if stop - start > 1024:
            chunks = (stop - start - 1) // 1024
            mid = start + 1024 * (1 << (chunks.bit_length() - 1))
            return compress(IV, tree(start, mid, 0) + tree(mid, stop, 0), 0, 64, 4 | root)
        chain: tuple[int, ...] = IV
        places = range(start, max(stop, start + 1), 64)
        for at in places:
            block = content[at : min(at + 64, stop)]
            words = struct.unpack("<16I", block.ljust(64, b"\0"))
            flags = (at == start) | (2 | root if at == places[-1] else 0)
            chain = compress(chain, words, start // 1024, len(block), flags)
        return chain

    return struct.pack("<8I", *tree(0, len(content), 8)).hex()


def digest(rows: list[list[int]]) -> str:
    """Section 10: of the input ids of a span, a list for each position."""
    return blake3(b"".join(struct.pack(f"<{len(row)}I", *row) for row in rows))
