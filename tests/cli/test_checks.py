"""What `doctor` finds."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_runs import Shell

from pyfactory.cli.checks import examine
from pyfactory.core.versions import code_versions

STATES = {"ok", "absent", "wrong"}


def test_this_installation_is_whole(original: Path) -> None:
    """Catches a check that breaks, and one that calls a missing GPU an error."""
    checks = {check.name: check for check in examine(str(original / "repository"))}
    assert list(checks) == ["machine", "packages", "extension", "GPU", "Ray", "store", "repository"]
    assert {check.state for check in checks.values()} <= STATES
    assert [name for name, check in checks.items() if check.state == "wrong"] == []
    assert f"torch {code_versions('torch')['torch']}" in checks["packages"].detail
    assert "1 branch, 1 tag" in checks["repository"].detail
    assert all(check.detail and "\n" not in check.detail for check in checks.values())


@pytest.mark.parametrize("where", ["none", "s4://bucket", ""])
def test_a_repository_that_cannot_be_opened_is_a_finding(shell: Shell, where: str) -> None:
    ran = shell("doctor", where)
    assert (ran.code, ran.err) == (1, "")
    assert "\nbad  repository " in ran.out and ran.out.count("\n") == 7


def test_findings_can_be_read_by_a_program(shell: Shell) -> None:
    ran = shell("doctor", "none", "--json")
    assert ran.code == 1
    assert ran.value[-1]["name"] == "repository" and ran.value[-1]["state"] == "wrong"
    assert "no pyfactory repository at none" in ran.value[-1]["detail"]
