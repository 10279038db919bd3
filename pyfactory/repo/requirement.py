"""What somebody who opens data may demand of it: `signed`, `gated`, or both.

`signed`: a trusted key signed the commit, or the tag by which it was opened. A key that is no longer trusted does not
count, whenever it signed.

`gated`: the table was judged. What counts are the verdicts of the commit that made it what it is (following first
parents), and of later ones up to the commit that is opened. There must be one at least, none may have failed, and every
gate that the rule asks for must have passed it: the rule as it is now, of the branch by which the data is opened, of
`main` for a tag or a digest. A gate for all tables is not asked of those that it cannot judge. Thresholds are not
compared: they are those of the day of the verdict. Verdicts are part of the commit, so only together with `signed` does
it matter who wrote them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pyfactory.core.canonical import Value
from pyfactory.errors import InvalidInputError
from pyfactory.repo.home import Home
from pyfactory.repo.names import BRANCH, TAG, suggestion
from pyfactory.repo.objects import TableState, load_commit, load_tree
from pyfactory.repo.operation import View
from pyfactory.repo.refusal import refuse
from pyfactory.repo.resolve import Resolved
from pyfactory.repo.rules import BranchRule, GateRule, branch_rule, trusted_keys
from pyfactory.repo.signatures import commit_statement, signed_by, tag_statement

__all__ = ["parse_requirement", "require"]

_WORDS = ("gated", "signed")


def parse_requirement(what: str) -> tuple[str, ...]:
    """Return the words of a requirement such as "signed,gated"; InvalidInputError if one is unknown, () for ""."""
    words = tuple(word.strip() for word in what.split(",")) if what.strip() else ()
    for word in words:
        if word not in _WORDS:
            hint = suggestion(word, _WORDS)
            raise InvalidInputError(f"{word!r:.80} is nothing that can be required", hint=hint)
    return words


def require(
    home: Home, view: View, resolved: Resolved, what: str, who: str = "unknown", *, table: str | None = None
) -> None:
    """Return if the data is what is required, else write the refusal down and raise it.

    Args:
        home: The repository.
        view: Whose rules and keys count: the newest, not that of the commit.
        resolved: The commit, and the name by which it is opened.
        what: `signed`, `gated` or both with a comma; "" requires nothing.
        who: Who asks, for the log.
        table: The table that is opened; None asks for all tables of the commit.

    Raises:
        InvalidInputError: A word is unknown.
        RefusedError: Something is missing; the message says what, the hint the remedy.
    """
    for word in parse_requirement(what):
        missing, hint = _unsigned(home, view, resolved) if word == "signed" else _ungated(home, view, resolved, table)
        if missing:
            details: dict[str, Value] = {"commit": resolved.commit, "ref": resolved.ref, "required": what}
            opening = f"open {table or 'commit'}@{resolved.asked}"
            raise refuse(home, who, opening, missing, {**details, "table": table}, hint)


def _unsigned(home: Home, view: View, resolved: Resolved) -> tuple[str, str]:
    keys = trusted_keys(home, view)
    if not keys:
        return "no key is trusted here, so no signature counts", "pyfactory key trust says whose signatures count"
    statements = [commit_statement(resolved.commit)]
    if resolved.ref.startswith(TAG):
        statements.append(tag_statement(home, resolved.ref.removeprefix(TAG), resolved.commit))
    if any(signed_by(home, statement, keys) for statement in statements):
        return "", ""
    hint = f"let {' or '.join(sorted(keys)[:8])} look at it and run pyfactory sign REPO {resolved.asked} --key FILE"
    return f"commit {resolved.commit[:12]} is not signed by a trusted key", hint


def _ungated(home: Home, view: View, resolved: Resolved, table: str | None) -> tuple[str, str]:
    branch = resolved.ref.removeprefix(BRANCH) if resolved.ref.startswith(BRANCH) else "main"
    rule = branch_rule(home, view, branch)
    hint = f"merge it into {branch} past its gates (pyfactory merge), or look at it with pyfactory gate run"
    tables = [table] if table is not None else _tables(home, resolved)
    for name in tables:
        missing = _unjudged(home, rule, name, _judged(home, resolved, name))
        if missing and not any(gate.table in ("*", name) for gate in rule.gates):
            return missing, f"the rule of {branch} has no gate for {name}: add one, such as --gate counts:{name}"
        if missing:
            return missing, hint
    return ("", "") if tables else (f"commit {resolved.commit[:12]} has no table", hint)


@dataclass(frozen=True, slots=True)
class _Judged:
    """What was said of a table since it became what it is, and the change that made it so."""

    verdicts: list[Mapping[str, Any]]
    before: TableState | None
    after: TableState | None


def _tables(home: Home, resolved: Resolved) -> list[str]:
    commit = load_commit(home.objects, resolved.commit, resolved.ref)
    return sorted(load_tree(home.objects, commit.tree, f"commit {resolved.commit}").tables)


def _unjudged(home: Home, rule: BranchRule, table: str, judged: _Judged) -> str:
    """Return what keeps a table from counting as judged, "" if nothing does."""
    for verdict in judged.verdicts:
        if verdict.get("passed") is not True:
            return f"gate {verdict.get('gate')} on {table} failed: {verdict.get('reason')}"
    passed = {verdict.get("gate") for verdict in judged.verdicts}
    for gate in rule.gates:
        asked = gate.table == table or (gate.table == "*" and not _passes_over(home, gate, table, judged))
        if asked and gate.gate not in passed:
            return f"table {table} has no verdict of the gate {gate.gate}, which the rule asks for"
    return "" if judged.verdicts else f"table {table} was judged by no gate"


def _passes_over(home: Home, rule: GateRule, table: str, judged: _Judged) -> bool:
    """Tell whether a gate for all tables cannot judge this one, as an image gate cannot judge text."""
    from pyfactory.repo.gates.base import Proposal
    from pyfactory.repo.gates.open import make_gate
    from pyfactory.repo.gates.sketch import Sketches

    sketches = Sketches(home.objects, keep=False)
    proposal = Proposal(home.objects, table, judged.before, judged.after, (), (), {}, sketches)
    return bool(make_gate(rule).obstacle(proposal))


def _judged(home: Home, resolved: Resolved, table: str) -> _Judged:
    """Follow the first parents back to the commit that made a table what it is. O(commits since then)."""
    commit = load_commit(home.objects, resolved.commit, resolved.ref)
    after = load_tree(home.objects, commit.tree, f"commit {resolved.commit}").tables.get(table)
    verdicts: list[Mapping[str, Any]] = []
    while True:
        verdicts += [verdict for verdict in commit.gates if verdict.get("table") == table]
        if not commit.parents:
            return _Judged(verdicts, None, after)
        parent = load_commit(home.objects, commit.parents[0], f"commit {commit.digest}")
        before = load_tree(home.objects, parent.tree, f"commit {parent.digest}").tables.get(table)
        if before != after:
            return _Judged(verdicts, before, after)
        commit = parent
