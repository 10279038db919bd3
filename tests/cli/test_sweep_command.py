"""gc, verify, stats and upgrade as a person meets them."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyfactory.repo.repository import Repository
from pyfactory.store.local import LocalStore
from tests.cli.cli_runs import Shell


@pytest.fixture
def place(shell: Shell, tmp_path: Path) -> Path:
    """A repository with a branch that was deleted."""
    repo = tmp_path / "repo"
    for name in ("a", "b"):
        (tmp_path / f"{name}.jsonl").write_text(f'{{"text":"{name}"}}\n')
    shell.done("init", repo)
    shell.done("import", repo, "raw", tmp_path / "a.jsonl")
    shell.done("branch", repo, "exp", "main")
    shell.done("import", repo, "raw", tmp_path / "b.jsonl", "--branch", "exp")
    shell.done("branch", repo, "--delete", "exp")
    return repo


def test_gc_says_what_it_would_do_and_does_it(shell: Shell, place: Path) -> None:
    assert "freed 0 objects" in shell.done("gc", place)
    would = shell.done("gc", place, "--grace", "0", "--dry-run")
    assert "would free 6 objects" in would and "shards: 2" in would
    report = shell("gc", place, "--grace", "0", "--json").value
    assert (report["freed"], report["dry_run"], report["blocked"]) == (6, False, "")
    assert "all is well" in shell.done("verify", place)
    ran = shell("gc", place, "--grace", "fortnight")
    assert ran.code == 1 and "14d, 36h or 0" in ran.err
    ran = shell("gc", place, "--grace", "999999d")
    assert ran.code == 1 and "36500 days" in ran.err, "longer than time itself"
    assert "freed 0 objects" in shell.done("gc", place, "--grace", "36h")


def test_verify_in_parts_and_over_again(shell: Shell, place: Path, tmp_path: Path) -> None:
    report = shell("verify", place, "--sample", "50%", "--seed", "1", "--json").value
    assert report["seed"] == 1 and report["skipped"] > 0 and report["problems"] == []
    text = shell.done("verify", place, "--sample", "1%")
    assert "not in the sample (--seed " in text
    whole = shell("verify", place, "--resume", tmp_path / "resume", "--signatures", "--workers", "2", "--json").value
    assert whole["resumed"] == 0 and not (tmp_path / "resume").exists()
    assert shell("verify", place, "--sample", "2").code == 1
    key = next(key for key, size in LocalStore(place).list("objects"))
    (place / key).write_bytes(b"rubbish")
    ran = shell("verify", place)
    assert ran.code == 1 and "1 problem" in ran.out


def test_stats_counts(shell: Shell, place: Path) -> None:
    assert "raw at main: 1 row" in shell.done("stats", place)
    value = shell("stats", place, "main", "--json").value
    assert value["branches"] == 1 and value["tables"]["raw"]["rows"] == 1
    assert value["kinds"]["unreachable"][0] == 6
    assert shell("stats", place, "nowhere").code == 1


def test_upgrade_says_what_changed(shell: Shell, place: Path) -> None:
    assert "nothing to do" in shell.done("upgrade", place)
    (place / "format.json").write_text('{"format":1,"reader":[],"writer":[]}')
    ran = shell("gc", place)
    assert ran.code == 1 and f"pyfactory upgrade {Repository.open(place).url}" in ran.err
    assert "added: redactions, rules, sweep" in shell.done("upgrade", place)
    assert shell("upgrade", place, "--undo", "--json").value["removed"] == ["redactions", "rules", "sweep"]
    assert shell("upgrade", place, "--undo").code == 1
