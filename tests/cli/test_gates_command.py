"""The commands about gates: what they show, and that looking changes nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_runs import Shell, check_refusal

from pyfactory.core.canonical import encode
from pyfactory.repo.gates.open import GATES, gate_class
from pyfactory.repo.operation import Change
from pyfactory.repo.repository import Repository
from pyfactory.repo.rules import RULE, BranchRule, GateRule
from pyfactory.repo.transaction import publish

STRICT = (GateRule("counts", "raw", {"max_added": "0.1"}), GateRule("nulls", "*"))


def ask(repo: Path, *gates: GateRule) -> None:
    """Make a rule of main, below what checks rules."""
    opened = Repository.open(repo)
    rule = opened.objects.put(encode(BranchRule(gates=gates).to_value()))
    view = opened.view()
    publish(opened.oplog, view, [Change(RULE + "main", view.refs.get(RULE + "main"), rule)], "tester", "a rule")


def grow(shell: Shell, repo: Path, branch: str, texts: list[str]) -> None:
    """Append texts to the table raw on a branch."""
    Path("more.jsonl").write_text("".join(f'{{"text": "{text}", "n": 1}}\n' for text in texts))
    shell.done("import", repo, "raw", "more.jsonl", "--columns", "n:int64", "--branch", branch)


def stored(repo: Path) -> list[tuple[str, int]]:
    return [*Repository.open(repo).store.list("")]


def test_list_shows_all_gates(shell: Shell) -> None:
    out = shell.done("gate", "list")
    assert [line.split()[0] for line in out.splitlines()] == [*GATES]
    assert shell("gate", "list", "--json").value == {"gates": dict(GATES)}


def test_list_shows_who_asks_for_what(shell: Shell, repo: Path) -> None:
    assert shell("gate", "list", repo, "--json").value["rules"] == {}
    ask(repo, *STRICT)
    out = shell.done("gate", "list", repo)
    assert "main asks for 2 gates\n  counts on raw: max_added=0.1\n  nulls on every table that changes\n" in out
    assert shell("gate", "list", repo, "--json").value["rules"] == {"main": [gate.to_value() for gate in STRICT]}


def test_run_judges_a_merge_and_writes_nothing(shell: Shell, repo: Path) -> None:
    """Mutants: sketches or merged manifests are stored; a failed gate exits with 0."""
    shell.done("branch", repo, "exp")
    ask(repo, *STRICT)
    grow(shell, repo, "exp", [f"new text {number}" for number in range(20)])
    before = stored(repo)
    ran = shell("gate", "run", repo, "exp", "--json")
    assert ran.code == 1
    assert [(verdict["gate"], verdict["passed"]) for verdict in ran.value["verdicts"]] == [
        ("counts", False),
        ("nulls", True),
    ]
    assert ran.value["passed"] is False
    shown = shell("gate", "run", repo, "exp")
    assert shown.code == 1
    assert shown.out.startswith("failed counts on raw: 20 rows added, ")
    assert stored(repo) == before


def test_run_judges_the_merged_table_where_both_sides_moved(shell: Shell, repo: Path) -> None:
    """Mutant: the table of the source takes the place of the target's, whose own new rows then seem to be removed."""
    rows = Repository.open(repo).tables()["raw"].rows
    shell.done("branch", repo, "exp")
    grow(shell, repo, "exp", ["their text"])
    grow(shell, repo, "main", ["our text", "our other text"])
    ask(repo, GateRule("counts", "raw", {"max_removed": "0"}))
    before = stored(repo)
    ran = shell("gate", "run", repo, "exp", "main", "--json")
    found = ran.value["verdicts"][0]["found"]
    assert (ran.code, found["rows"], found["rows added"], found["rows removed"]) == (0, rows + 3, 1, 0)
    assert stored(repo) == before


def test_run_without_gates_says_so(shell: Shell, repo: Path) -> None:
    ran = shell("gate", "run", repo, "v1", "main")
    assert (ran.code, ran.out) == (0, "")
    assert "asks for no gate" in ran.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("exp", "mian"), "mian"),
        (("exq", "main"), "exq"),
    ],
)
def test_run_refuses_what_is_not_there(shell: Shell, repo: Path, arguments: tuple[str, str], message: str) -> None:
    shell.done("branch", repo, "exp")
    assert message in shell.refused(repo, "gate", "run", repo, *arguments)


@pytest.mark.parametrize("gate", GATES)
def test_explain_tells_all_about_a_gate(shell: Shell, gate: str) -> None:
    out = shell.done("gate", "explain", "anywhere", gate)
    assert "docs/gates.md" in out
    value = shell("gate", "explain", "anywhere", gate, "--json").value
    assert (value["gate"], value["version"]) == (gate, gate_class(gate).version)
    assert all(f"  {option['name']} " in out for option in value["options"])


def test_explain_tells_what_gates_said_of_a_commit(shell: Shell, repo: Path) -> None:
    """Mutant: the verdicts of a commit are computed anew instead of read."""
    ask(repo, GateRule("lengths", "raw", {"max_outside": "1", "min": 9}))
    grow(shell, repo, "main", ["tiny", "long enough to pass"])
    (verdict,) = shell("gate", "explain", repo, "main", "--json").value["verdicts"]
    assert (verdict["gate"], verdict["passed"], verdict["found"]["short"]) == ("lengths", True, 1)
    out = shell.done("gate", "explain", repo, "main")
    assert "passed 1 gate\npassed lengths on raw: 1 of 2 added rows, 50%" in out
    assert f"{verdict['code']}  max_outside=1, min=9" in out


def test_explain_refuses_what_is_neither(shell: Shell, repo: Path) -> None:
    check_refusal(shell("gate", "explain", repo, "nulsl"))
