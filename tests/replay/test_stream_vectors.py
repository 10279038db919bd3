"""The phases and the identity of whole streams against vectors.json; see test_vectors.py."""

from __future__ import annotations

import json
from fractions import Fraction
from math import gcd
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pyfactory.core import canonical
from pyfactory.order.recipe import Recipe
from pyfactory.repo.repository import Repository
from pyfactory.repo.version import Version
from pyfactory.store.memory import MemoryStore
from pyfactory.stream.asking import AskedPhase, AskedSource
from pyfactory.stream.identity import identity_of
from pyfactory.stream.mixture import Mixture, Source
from pyfactory.stream.planning import Plan, make_plan
from tests.replay.tables import state_of

VECTORS: dict[str, Any] = json.loads((Path(__file__).parent / "vectors.json").read_bytes())
CHAINS: list[dict[str, Any]] = VECTORS["phases"]
CONCAT = [v for v in VECTORS["identity"] if all(p["recipe"]["packing"] == "concat" for p in v["phases"])]


def versions_of(tables: dict[str, list[tuple[str, int]]]) -> dict[str, Version]:
    """Versions of one table, by name."""
    repo = Repository.create(MemoryStore())
    for name, documents in tables.items():
        rows = [(record, np.ones(tokens, np.int64)) for record, tokens in documents]
        repo.commit({"corpus": state_of(repo, rows)}, message=name)
        repo.tag(name)
    return {name: repo.version("corpus", name) for name in tables}


def asked_of(phases: list[dict[str, Any]], versions: dict[str, Version]) -> list[AskedPhase]:
    """Phases as a user would ask for them: caps as epochs, weights as they are written."""
    found = []
    for phase in phases:
        recipe = Recipe(**{k: tuple(v) if isinstance(v, list) else v for k, v in phase["recipe"].items()})
        made, since = {}, {}
        for said in phase["sources"]:
            version = versions[said["version"]]
            epochs = Fraction(said["cap"], (version.tokens - 1) // recipe.sequence_length) if "cap" in said else None
            made[said["name"]] = Source(version, said.get("weight", "1"), epochs)
            since[said["name"]] = versions[said["unseen_since"]] if "unseen_since" in said else None
        weights = Mixture(made).weights
        sources = (AskedSource(name, made[name], weight, since[name]) for name, weight in weights.items())
        found.append(AskedPhase(phase["at"], recipe, tuple(sources)))
    return found


def side_of(plan: Plan, feed: int, position: int) -> str:
    """Whether a feed has what is left of an old version, what was added, or a whole version."""
    leaf = next(leaf for leaf in plan.phases[plan.feeds[feed].phase].leaves if leaf.name == plan.feeds[feed].source)
    sides = {getattr(leaf, "tail", None): "old", getattr(leaf, "added", None): "added"}
    return next((side for of, side in sides.items() if of is plan.feeds[feed]), "")


@pytest.mark.parametrize("vector", CHAINS, ids=lambda vector: vector["name"].replace(" ", "_"))
def test_phases(vector: dict[str, Any]) -> None:
    """Catches a source that begins elsewhere after a change, a cap or a tail that ends a sample early or late.

    Also phases that follow in another order, an epoch that is completed under another number, and documents that are
    compared otherwise: each position is followed there and back.
    """
    versions = versions_of({name: [(r, n) for r, n in rows] for name, rows in vector["versions"].items()})
    plan = make_plan(asked_of(vector["asked"], versions), int(vector["seed"]), {})
    # Where a cap leaves weights with a common divisor, it changes nothing whether they are divided by it.
    common = [gcd(*(leaf.weight for leaf in phase.leaves)) for phase in plan.phases]
    each = zip(plan.phases, common, strict=True)
    found = [[p.start, [[leaf.name, leaf.weight // by] for leaf in p.leaves]] for p, by in each]
    assert found == [[start, [source[:2] for source in sources]] for start, sources in vector["phases"]]
    begins = [[leaf.begin for leaf in phase.leaves] for phase in plan.phases]
    assert begins == [[source[2] for source in sources] for _, sources in vector["phases"]]
    assert plan.phases[-1].stop == vector["end"]
    for position, expected in zip(vector["positions"], vector["delivered"], strict=True):
        phase = next(p for p in reversed(plan.phases) if p.start <= position)
        feed, sample, epoch = (int(column[0]) for column in phase.at(np.array([position])))
        name = plan.feeds[feed].source
        assert [name, side_of(plan, feed, position), epoch, sample] == expected, position
        back = phase.positions_of(plan.feeds[feed], np.array([sample]), np.array([epoch]))
        assert back.tolist() == [position]


@pytest.mark.parametrize("number", range(len(CONCAT)))
def test_identity(number: int) -> None:
    """Catches a field that is left out or put in where the specification does not, weights as they were written."""
    vector = CONCAT[number]
    digests = sorted(
        {s[k] for p in vector["phases"] for s in p["sources"] for k in ("version", "unseen_since") if k in s}
    )
    tables = {digest[0]: [(f"doc-{i}", 1 + i % 9) for i in range(20 + 10 * at)] for at, digest in enumerate(digests)}
    versions = versions_of(tables)
    text = vector["bytes"]
    for digest in digests:
        text = text.replace(digest, versions[digest[0]].digest)
    asked = asked_of(vector["phases"], {digest: versions[digest[0]] for digest in digests})
    seed = int(vector["seed"])
    assert canonical.encode(identity_of(asked, seed, make_plan(asked, seed, {}))) == text.encode()


@pytest.mark.parametrize("number", range(len(VECTORS["identity"])))
def test_recipe_of_the_identity(number: int) -> None:
    """Catches a recipe that says what it need not, or is silent about what it must say: all packings."""
    vector = VECTORS["identity"][number]
    value = json.loads(vector["bytes"])
    for phase, said in zip(vector["phases"], [value, *value.get("then", [])], strict=True):
        recipe = Recipe(**{k: tuple(v) if isinstance(v, list) else v for k, v in phase["recipe"].items()})
        assert recipe.to_value() == said["recipe"]
