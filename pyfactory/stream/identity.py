"""The replay identity: all that decides what a stream delivers, as one canonical value (docs/stream-spec.md, 11)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pyfactory.core.rng import SPEC_VERSION
from pyfactory.repo.version import Version
from pyfactory.stream.asking import AskedPhase, AskedSource
from pyfactory.stream.feed import StreamTable
from pyfactory.stream.planning import Plan
from pyfactory.stream.shards import OpenShards

__all__ = ["differences", "identity_of", "redactions_named", "redactions_of", "versions_of"]


def identity_of(asked: Sequence[AskedPhase], seed: int, plan: Plan) -> dict[str, Any]:
    """Return the replay identity without redactions."""
    first, *rest = (_phase(phase, plan) for phase in asked)
    identity = {"spec": SPEC_VERSION, "seed": seed, **first}
    then = [{"at": phase.at, **value} for phase, value in zip(asked[1:], rest, strict=True)]
    return identity | {"then": then} if then else identity


def redactions_of(tables: Sequence[StreamTable], shards: OpenShards) -> dict[str, list[dict[str, Any]]]:
    """Return what was forgotten of each table, by its version digest; see `Stream.redactions`."""
    found = {table.version.digest: shards.masks(number).identities for number, table in enumerate(tables)}
    return {digest: states for digest, states in found.items() if states}


def redactions_named(tables: Sequence[StreamTable], shards: OpenShards) -> dict[str, Any]:
    """Return what an identity says of redactions: nothing if there are none."""
    redactions = {name: states[-1] for name, states in redactions_of(tables, shards).items()}
    alone = len({table.version.digest for table in tables}) == 1
    return {} if not redactions else {"redactions": next(iter(redactions.values())) if alone else redactions}


def differences(here: Any, there: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield (name, value here, value there) of each leaf at which two canonical values differ; None is no value."""
    if isinstance(here, Mapping) and isinstance(there, Mapping):
        for key in sorted({*here, *there}, key=str):
            yield from differences(here.get(key), there.get(key), f"{path}.{key}" if path else str(key))
    elif isinstance(here, list) and isinstance(there, list) and len(here) == len(there):
        for i, (mine, other) in enumerate(zip(here, there, strict=True)):
            yield from differences(mine, other, f"{path}[{i}]")
    elif here != there or type(here) is not type(there):
        yield path, here, there


def versions_of(asked: Sequence[AskedPhase]) -> tuple[Version, ...]:
    """Return the versions that phases name, each once, in order."""
    found: dict[tuple[str, str, str], Version] = {}
    for phase in asked:
        for source in phase.sources:
            for version in (source.source.version, source.unseen_since):
                if version is not None:
                    found.setdefault((version.repository.url, version.table, version.digest), version)
    return tuple(found.values())


def _phase(asked: AskedPhase, plan: Plan) -> dict[str, Any]:
    several = len(asked.sources) > 1
    sources = [_source(source, asked, several, plan) for source in asked.sources]
    return {"recipe": asked.recipe.to_value(), "sources": sources}


def _source(asked: AskedSource, phase: AskedPhase, several: bool, plan: Plan) -> dict[str, Any]:
    version = asked.source.version
    value: dict[str, Any] = {"name": asked.name, "version": version.digest}
    if several:
        value["weight"] = asked.weight
    geometry, packing = plan.cut(version, phase.recipe)
    cap = asked.source.limit(geometry.samples)
    if cap is not None:
        value["cap"] = cap
    if packing is not None:
        value["packing"] = packing
    if asked.unseen_since is not None:
        value["unseen_since"] = asked.unseen_since.digest
    return value
