"""The package against vectors.json, which replay.py computed from docs/stream-spec.md without seeing the package.

A vector never changes: another value is another stream, and needs a new version of the specification with vectors of
its own.
"""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pyfactory.core.rng import SPEC_VERSION, derive_key
from pyfactory.native import Interleave, ShardSet, TwoWay, permute, philox, unpermute
from pyfactory.native import reference as ref
from pyfactory.order.interleave import reduce_weights
from pyfactory.order.permutation import SourceOrder

HERE = Path(__file__).parent
REPLAY = HERE / "replay.py"
VECTORS: dict[str, Any] = json.loads((HERE / "vectors.json").read_bytes())
ORDER_NAMES = [f"{v['n']}-{v['block_size']}-{v['window']}-{v['seed']}" for v in VECTORS["order"]]


def hexes(text: str) -> list[int]:
    return [int(word, 16) for word in text.split()]


def test_the_vectors_are_of_this_specification() -> None:
    assert VECTORS["specification"] == SPEC_VERSION


def test_replay_prints_the_vectors() -> None:
    """The program that replays runs is the one that computed the vectors; it checks Random123's on the way."""
    printed = subprocess.run([sys.executable, REPLAY, "--vectors"], capture_output=True, check=True)
    assert printed.stdout == (HERE / "vectors.json").read_bytes()


def test_replay_is_independent() -> None:
    """With the files beside it that it imports, it needs nothing but the standard library, NumPy and PyArrow."""
    files, imported = [REPLAY], set()
    for path in files:
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add((node.module or "").split(".")[0])
        beside = [HERE / f"{name}.py" for name in sorted(imported)]
        files += [path for path in beside if path.exists() and path not in files]
    assert len(files) == 8
    assert imported - set(sys.stdlib_module_names) - {path.stem for path in files} == {"numpy", "pyarrow"}


def test_replay_checks_itself() -> None:
    """Its inverse is that of its forward function, by brute force: Catches a wrong vector that both ways agree on."""
    printed = subprocess.run([sys.executable, REPLAY, "--self-check"], capture_output=True, text=True, check=True)
    assert printed.stdout.split()[::2] == ["60", "12", "60", "of"]


@pytest.mark.parametrize("vector", VECTORS["philox"])
def test_philox(vector: dict[str, str]) -> None:
    """Catches a wrong number of rounds, swapped words, a key that is not bumped."""
    counter, (low, high) = hexes(vector["counter"]), hexes(vector["key"])
    key, block = low | high << 32, hexes(vector["block"])
    assert philox(np.array([counter], np.uint32), key).tolist() == [block]
    assert list(ref.philox((counter[0], counter[1], counter[2], counter[3]), key)) == block


@pytest.mark.parametrize("vector", VECTORS["philox64"])
def test_philox64(vector: dict[str, Any]) -> None:
    key, a, b = int(vector["key"], 16), vector["a"], vector["b"]
    words = philox(np.array([[a % 2**32, a >> 32, b % 2**32, b >> 32]], np.uint32), key)[0].tolist()
    assert words[0] | words[1] << 32 == ref.philox64(key, a, b) == int(vector["value"], 16)


@pytest.mark.parametrize("vector", [*VECTORS["keys"], *VECTORS["added_keys"]])
def test_keys(vector: dict[str, str]) -> None:
    """Catches any other way of joining seed, purpose and table."""
    assert derive_key(int(vector["seed"]), vector["purpose"], vector["table"]) == int(vector["key"], 16)


@pytest.mark.parametrize("vector", VECTORS["perm"], ids=[f"{v['n']}-{v['key']}" for v in VECTORS["perm"]])
def test_bijection(vector: dict[str, Any]) -> None:
    """Catches every change of the network: rounds, widths of the halves, the last bit, cycle walking."""
    n, key, xs = vector["n"], int(vector["key"], 16), vector["x"]
    assert permute(np.array(xs), n, key).tolist() == vector["perm"]
    assert unpermute(np.array(vector["perm"]), n, key).tolist() == xs
    assert [ref.Bijection(n, key).forward(x) for x in xs] == vector["perm"]


@pytest.mark.parametrize("vector", VECTORS["order"], ids=ORDER_NAMES)
def test_order(vector: dict[str, Any]) -> None:
    """Catches every change of the order: what keys a block or window, where the short block goes, how ranks are cut."""
    n, block, window, table = vector["n"], vector["block_size"], vector["window"], vector["table"]
    seed, positions = int(vector["seed"]), np.array(vector["positions"])
    order = SourceOrder(n, seed, table, block_size=block, window=window)
    assert order.samples_at(positions).tolist() == vector["samples"]
    assert order.positions_of(np.array(vector["samples"]), positions // n).tolist() == vector["positions"]
    if n < 100:
        keys = derive_key(seed, "blocks", table), derive_key(seed, "window", table)
        assert [ref.sample_at(p, n, block, window, *keys) for p in vector["positions"]] == vector["samples"]


@pytest.mark.parametrize("vector", VECTORS["batch"])
@pytest.mark.parametrize("rows", [2, 3, 10])
def test_batch(vector: dict[str, Any], rows: int) -> None:
    """Catches fields that mean something else, and a meaning that depends on how rows are cut into shards."""
    length, firsts = vector["sequence_length"], [i * vector["sequence_length"] for i in vector["samples"]]
    bounds = [0, *accumulate(vector["documents"])]
    tokens = np.arange(bounds[-1], dtype=np.uint8)
    cuts = [*bounds[:-1:rows], bounds[-1]]
    shards = ShardSet()
    for i, (start, stop) in enumerate(pairwise(cuts)):
        shards.add(i, tokens[start:stop], np.array([b - start for b in bounds if start <= b <= stop]))
    pieces, offsets = [], [0]
    for first in firsts:
        for i, (start, stop) in enumerate(pairwise(cuts)):
            low, high = max(first, start), min(first + length + 1, stop)
            pieces += [(i, low - start, high - low)] if low < high else []
        offsets.append(len(pieces))
    shape = len(firsts), length
    arrays = {name: np.full(shape, -1, np.int64) for name in ("input_ids", "targets", "position_ids")}
    arrays["doc_ids"] = np.full(shape, -1, np.int32)
    columns = np.array(pieces).T.copy()
    cu_seqlens, _ = shards.fill(*columns, np.array(offsets), length, cu_seqlens=True, **arrays)
    by_reference = ref.batch_of(tokens, set(bounds), [[(first, length + 1)] for first in firsts], length)
    for name, array in {**arrays, "cu_seqlens": cu_seqlens}.items():
        assert array.ravel().tolist() == by_reference[name].ravel().tolist() == vector[name], name


@pytest.mark.parametrize("vector", VECTORS["weights"], ids=lambda v: ":".join(v["asked"]))
def test_weights(vector: dict[str, Any]) -> None:
    """Catches decimals that pass through floats, weights that keep a common divisor."""
    asked = {f"{i:02d}": weight for i, weight in enumerate(vector["asked"])}
    whole = {name: weight for name, weight in zip(asked, vector["whole"], strict=True) if weight}
    assert reduce_weights(asked) == whole


@pytest.mark.parametrize("vector", VECTORS["interleave"], ids=lambda v: "-".join(map(str, v["weights"][:7])))
def test_interleave(vector: dict[str, Any]) -> None:
    """Catches a node cut elsewhere, another rounding of c, the sides exchanged, an overflow at high positions."""
    tree = Interleave(np.array(vector["weights"], np.uint64))
    sources, numbers = tree.split(np.array(vector["positions"]))
    assert sources.tolist() == vector["sources"]
    assert numbers.tolist() == vector["numbers"]
    assert tree.join(np.array(vector["sources"]), np.array(vector["numbers"])).tolist() == vector["positions"]
    assert [[at, tree.counts(at).tolist()] for at, _ in vector["counts"]] == vector["counts"]


@pytest.mark.parametrize("vector", VECTORS["two_way"], ids=lambda v: f"{v['tail']}-{v['total']}")
def test_two_way(vector: dict[str, Any]) -> None:
    """Catches products cut to 64 bits, and a split that is not that of a mixture."""
    both = TwoWay(vector["tail"], vector["total"])
    sides, indexes = both.split(np.array(vector["numbers"]))
    assert sides.tolist() == vector["sides"]
    assert indexes.tolist() == vector["indexes"]
    assert both.join(np.array(vector["sides"]), np.array(vector["indexes"])).tolist() == vector["numbers"]


@pytest.mark.parametrize("vector", VECTORS["added_order"], ids=lambda v: f"{v['n']}-{v['block_size']}-{v['seed']}")
def test_added_order(vector: dict[str, Any]) -> None:
    """Catches added samples that are shuffled with the keys of the whole table."""
    n, shape = vector["n"], {"block_size": vector["block_size"], "window": vector["window"]}
    order = SourceOrder(n, int(vector["seed"]), vector["source"], added=True, **shape)
    indexes = np.array(vector["indexes"])
    assert order.samples_at(indexes).tolist() == vector["samples"]
    assert order.positions_of(np.array(vector["samples"]), indexes // n).tolist() == vector["indexes"]


@pytest.mark.parametrize("number", range(len(VECTORS["deliver"])))
@pytest.mark.parametrize("rows", [1, 2, 10])
def test_deliver(number: int, rows: int) -> None:
    """Catches padding that is taken for a document, a fill token elsewhere, targets before the answer or over a border.

    Also a template that is looked for over the whole batch, and one that ends at the last token.
    """
    vector = VECTORS["deliver"][number]
    bounds = [0, *accumulate(vector["documents"])]
    cuts = [*bounds[:-1:rows], bounds[-1]]
    tokens, shards = np.array(vector["tokens"], np.uint8), ShardSet()
    for i, (start, stop) in enumerate(pairwise(cuts)):
        shards.add(i, tokens[start:stop], np.array([b - start for b in bounds if start <= b <= stop]))
    pieces, offsets = [], [0]
    for sample in vector["samples"]:
        for first, stop in sample:
            for i, (start, end) in enumerate(pairwise(cuts)):
                low, high = max(first, start), min(stop, end)
                pieces += [(i, low - start, high - low)] if low < high else []
        offsets.append(len(pieces))
    length, template = vector["sequence_length"], vector["template"]
    shape = len(vector["samples"]), length
    arrays = {name: np.full(shape, -1, np.int64) for name in ("input_ids", "targets", "position_ids")}
    arrays["doc_ids"] = np.full(shape, -1, np.int32)
    recipe = {"across": vector["across"], "fill": vector["fill"]}
    recipe["template"] = None if template is None else np.array(template)
    columns = np.array(pieces).T.copy()
    cu_seqlens, _ = shards.fill(*columns, np.array(offsets), length, cu_seqlens=True, **recipe, **arrays)
    for name, array in {**arrays, "cu_seqlens": cu_seqlens}.items():
        assert array.ravel().tolist() == vector[name], name
