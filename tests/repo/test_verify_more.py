"""Verification in parts, over again, on several threads; after sweeps; and of what is not data."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sweep_tables import Model, Place, publish_commit, write

from pyfactory.core.canonical import encode
from pyfactory.core.digest import NO_DIGEST, Digest, digest_of
from pyfactory.errors import InvalidInputError
from pyfactory.repo.findings import Findings, Problem
from pyfactory.repo.repository import Repository
from pyfactory.repo.rules import NO_RULE
from pyfactory.repo.scrub import Sample
from pyfactory.repo.sweep import gc
from pyfactory.repo.verify import verify
from pyfactory.shard.memo import Result, encode_result, memo_key

NOW = datetime(2026, 3, 1, tzinfo=UTC)
LABELS = range(12)


def build() -> tuple[Place, Model]:
    place, model = Place.create(), Model()
    publish_commit(place, write(place, model, LABELS, (), NOW), "main", NOW)
    return place, model


def of(problems: list[Problem]) -> dict[str, str]:
    return {problem.object: problem.kind for problem in problems}


def shards_and_sides(place: Place) -> list[Digest]:
    keys = [key for key, _ in place.store.list("objects")]
    return [Digest(key[8:].replace("/", "")) for key in keys if place.store.get(key).startswith(b"ARROW1")]


def damage(place: Place, digest: Digest) -> None:
    whole = place.objects.get(digest)
    place.store.replace(place.objects.key(digest), whole[:-1] + bytes([whole[-1] ^ 1]))


def test_the_report_does_not_depend_on_the_number_of_threads() -> None:
    """Catches findings that are noted as threads come to them."""
    place, _ = build()
    for digest in shards_and_sides(place)[::3]:
        damage(place, digest)
    reports = [verify(place, workers=workers) for workers in (1, 2, 7)]
    assert reports[0].problems and reports[0] == reports[1] == reports[2]
    with pytest.raises(InvalidInputError, match="0 workers"):
        verify(place, workers=0)


def test_a_sample_reads_its_share_and_everything_that_is_not_a_shard() -> None:
    place, _ = build()
    whole, parts = verify(place), len(shards_and_sides(place))
    found = [verify(place, sample=Sample.parse("50%", seed)) for seed in range(8)]
    for report in found:
        assert report.objects + report.skipped == whole.objects
        assert report.commits == 1 and report.problems == []
    assert 0.3 < sum(report.skipped for report in found) / (8 * parts) < 0.7
    assert found[3] == verify(place, sample=Sample.parse("0.5", 3))
    assert verify(place, sample=Sample.parse("100%", 1)).skipped == 0
    assert len({report.skipped for report in found}) > 1 or len({report.nbytes for report in found}) > 1


@pytest.mark.parametrize("text", ["0", "0%", "101%", "-1", "x", "", "%", "1/0", "nan"])
def test_what_is_no_share_is_refused(text: str) -> None:
    with pytest.raises(InvalidInputError, match="1%"):
        Sample.parse(text, 1)


def test_cut_off_anywhere_it_goes_on_and_reads_nothing_twice(tmp_path: Path) -> None:
    """Catches a file that forgets, one that believes what it did not read, and one that is never begun anew."""
    place, _ = build()
    whole = verify(place)
    parts = shards_and_sides(place)
    others = whole.objects - len(parts)
    for stop in range(others + 1, whole.objects, 5):
        file = tmp_path / f"resume-{stop}"

        def interrupt(stage: str, done: int, total: int | None) -> None:
            if done == stop:  # noqa: B023 - used at once
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            verify(place, interrupt, resume=file)
        with file.open("ab") as torn:
            torn.write(b"torn")
        report = verify(place, resume=file)
        assert report.resumed >= stop - others - 1, "only what was under way may be read again"
        assert report.objects + report.resumed == whole.objects
        assert report.problems == [] and not file.exists()


def test_what_was_damaged_is_not_taken_for_verified(tmp_path: Path) -> None:
    place, _ = build()
    bad = shards_and_sides(place)[0]
    whole = place.objects.get(bad)
    damage(place, bad)
    total = verify(place).objects
    file = tmp_path / "resume"

    def interrupt(stage: str, done: int, total_: int | None) -> None:
        if done == total:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        verify(place, interrupt, resume=file)
    assert of(verify(place, resume=file).problems) == {bad: "corrupt"}
    place.store.replace(place.objects.key(bad), whole)
    assert verify(place, resume=file).problems == []


def test_a_resume_file_of_something_else_is_refused_and_kept(tmp_path: Path) -> None:
    place, _ = build()
    for content in (b"my thesis", b"PFSCRUB1" + bytes(32), b"PFSCRUB2" + bytes(64)):
        (tmp_path / "file").write_bytes(content)
        with pytest.raises(InvalidInputError, match="name a new file"):
            verify(place, resume=tmp_path / "file")
        assert (tmp_path / "file").read_bytes() == content
    for length in (0, 3, 20):
        start = b"PFSCRUB1" + bytes.fromhex(digest_of(place.store.get("log/" + "0" * 20)))
        (tmp_path / "file").write_bytes(start[:length])
        assert verify(place, resume=tmp_path / "file").problems == []


def test_a_resume_file_inside_the_repository_is_refused(tmp_path: Path) -> None:
    """Catches a file of ours among the objects, or one of theirs that is taken for ours; links are followed."""
    repository = Repository.create(tmp_path / "repository")
    (tmp_path / "link").symlink_to(tmp_path / "repository")
    for inside in ("repository/state", "repository/log/state", "link/objects/state"):
        with pytest.raises(InvalidInputError, match=r"inside the repository.*outside"):
            verify(repository, resume=tmp_path / inside)
    assert verify(repository, resume=tmp_path / "repository-2").problems == []


def test_after_a_sweep_what_nothing_leads_to_may_be_gone_and_the_rest_not() -> None:
    """Catches a verification that mourns what was swept, and one that excuses what was not."""
    place, model = build()
    [first] = model.made
    other = write(place, model, [1, 2, 20], (first,), NOW)
    publish_commit(place, other, "main", NOW)
    place.move("branch/main", first, NOW)
    assert verify(place).commits == 2
    for days in (15, 30):
        gc(place, now=NOW + timedelta(days=days))
    report = verify(place)
    assert report.problems == [] and report.commits == 1
    for digest in sorted(model.closure([first])):
        whole = place.objects.get(digest)
        place.store.delete(place.objects.key(digest))
        assert of(verify(place).problems).get(digest) == "missing"
        place.objects.put(whole)
    assert verify(place).problems == []


def test_what_is_left_of_a_swept_commit_must_still_be_right() -> None:
    place, model = build()
    [first] = model.made
    other = write(place, model, [20], (first,), NOW)
    publish_commit(place, other, "main", NOW)
    place.move("branch/main", first, NOW)
    for days in (15, 30):
        gc(place, now=NOW + timedelta(days=days))
    write(place, model, [20], (first,), NOW)
    assert verify(place).problems == []
    damage(place, other.commit)
    assert of(verify(place).problems) == {other.commit: "corrupt"}


def test_the_documents_of_refs_are_read_and_parsed() -> None:
    place, _ = build()
    rule = place.objects.put(NO_RULE.to_bytes())
    keys = place.objects.put(encode({"keys": {"ada": "ab" * 32}, "kind": "keys", "v": 1}))
    refusal = place.objects.put(encode({"kind": "refusal", "v": 1}))
    refs = {"rule/branch/main": rule, "rule/keys": keys, "refusal/last": refusal}
    for ref, digest in refs.items():
        place.move(ref, digest, NOW)
    gc(place, now=NOW, grace=timedelta())
    whole = verify(place)
    assert whole.problems == []
    for digest in refs.values():
        content = place.objects.get(digest)
        place.store.delete(place.objects.key(digest))
        assert of(verify(place).problems) == {digest: "missing"}
        place.objects.put(content)
    swapped = place.objects.put(encode({"kind": "keys", "v": 1}))
    place.move("rule/branch/main", swapped, NOW)
    place.move("gc/condemned", swapped, NOW)
    assert of(verify(place).problems) == {swapped: "corrupt"}


def test_the_chains_of_runs_are_read() -> None:
    place, _ = build()
    previous, chain = NO_DIGEST, []
    for n in range(3):
        chain.append(encode({"v": 1, "n": n, "previous": previous, "kind": "claim"}))
        previous = digest_of(chain[-1])
    for run in ("a", "b"):
        for n, content in enumerate(chain):
            place.store.create(f"runs/{run}/{n:08d}", content)
    assert (verify(place).runs, verify(place).problems) == (6, [])
    place.store.replace("runs/a/00000001", chain[1].replace(b"claim", b"clame"))
    assert of(verify(place).problems) == {"runs/a/00000002": "run"}
    place.store.delete("runs/a/00000001")
    assert of(verify(place).problems) == {"runs/a/00000002": "run"}
    place.store.replace("runs/b/00000000", b"[]")
    assert of(verify(place).problems)["runs/b/00000000"] == "corrupt"


def test_marks_that_cannot_be_read_are_advice() -> None:
    place, _ = build()
    task = Digest("ab" * 32)
    place.store.create(memo_key(task), encode_result(Result(), task))
    assert verify(place).advice == []
    place.store.replace(memo_key(task), b"{}")
    report = verify(place)
    assert report.problems == [] and of(report.advice) == {memo_key(task): "corrupt"}


def test_further_checks_add_what_they_find() -> None:
    place, _ = build()

    def check(home: object, findings: Findings) -> None:
        assert home is place
        findings.add("signature", "x", "nobody signed x")

    assert of(verify(place, checks=[check]).problems) == {"x": "signature"}
