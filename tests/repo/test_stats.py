"""Statistics against what is known to be there."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from sweep_tables import Model, Place, publish_commit, state, write

from pyfactory.errors import NotFoundError
from pyfactory.repo.forget import forget
from pyfactory.repo.redaction import overlay_of
from pyfactory.repo.stats import stats
from pyfactory.repo.sweep import gc
from pyfactory.store.memory import MemoryStore
from tests.erasure_tables import rows_of, shared_repository

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def test_everything_is_counted_once() -> None:
    """Catches kinds that overlap, and bytes of one branch that are counted as another's."""
    place, model = Place.create(), Model()
    first = write(place, model, [0, 1], (), NOW)
    publish_commit(place, first, "main", NOW)
    place.move("branch/exp", first.commit, NOW)
    place.move("tag/v1", first.commit, NOW)
    second = write(place, model, [0, 1, 4], (first.commit,), NOW)
    publish_commit(place, second, "exp", NOW)
    loose = place.objects.put(b"nobody names this")
    found = stats(place, "exp")
    assert (found.branches, found.tags, found.commits, found.operations) == (2, 1, 2, place.view().n + 1)
    stored = dict(place.store.list("objects"))
    objects = {kind: counts for kind, counts in found.kinds.items() if kind not in ("log", "summary")}
    assert sum(number for number, _ in objects.values()) == len(stored)
    assert sum(nbytes for _, nbytes in objects.values()) == sum(stored.values())
    assert found.kinds["unreachable"] == (1, len(place.objects.get(loose)))
    assert (found.kinds["commits"][0], found.kinds["trees"][0], found.kinds["log"][0]) == (2, 2, place.view().n + 1)
    wanted = {label: state(place.objects, label) for label in (0, 1, 4)}
    assert found.tables.keys() == {f"table-{label}" for label in wanted}
    for label, table in wanted.items():
        told = found.tables[f"table-{label}"]
        assert (told.rows, told.tokens, told.nbytes, told.shards) == (
            table.rows,
            table.tokens,
            table.nbytes,
            table.shards,
        )
        assert told.mean_shard == table.nbytes // 2
    alone = model.closure([second.commit]) - model.closure([first.commit])
    assert found.alone == {"exp": sum(len(place.objects.get(digest)) for digest in alone), "main": 0}
    assert found.shared == sum(len(place.objects.get(digest)) for digest in first.objects)
    assert found.condemned == (0, 0) and not found.sweeping
    gc(place, now=NOW + timedelta(days=15))
    assert stats(place).condemned == (1, len(place.objects.get(loose)))
    assert stats(place, "v1").tables.keys() == {"table-0", "table-1"}


def test_an_empty_repository_and_a_wrong_name() -> None:
    place = Place.create()
    assert stats(place).tables == {}
    with pytest.raises(NotFoundError):
        stats(place, "nowhere")


def test_what_stands_for_forgotten_shards_is_told_apart() -> None:
    """Catches replacements among the other objects, since the redaction names them, and any counted twice."""
    repo = shared_repository(MemoryStore())
    forget(repo, [next(iter(rows_of(repo, "raw", "main")))], reason="asked to", who="Ada")
    new = set(overlay_of(repo, repo.view()).redirect.values())
    kinds = stats(repo).kinds
    assert kinds["replacements"] == (len(new), sum(len(repo.objects.get(digest)) for digest in new))
    folders = ("log", "summary", "runs", "memo", "sketch", "signatures", "leases")
    objects = [counts for kind, counts in kinds.items() if kind not in folders]
    assert sum(number for number, _ in objects) == len([*repo.store.list("objects")])
