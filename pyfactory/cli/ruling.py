"""Commands about the rules of branches: rule show, rule set, rule remove."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from pyfactory.cli.committing import Message
from pyfactory.cli.keys import Key, signer_of
from pyfactory.cli.output import emit, line, note
from pyfactory.cli.repository import Json, Repo, author

if TYPE_CHECKING:
    from pyfactory.repo.repository import Repository
    from pyfactory.repo.rules import BranchRule

__all__ = ["register"]

Branch = Annotated[str, typer.Argument(help="The branch.")]
Gates = Annotated[
    list[str] | None,
    typer.Option(
        "--gate",
        metavar="NAME[:TABLE][:OPTION=VALUE,…]",
        help="A gate that commits must pass; may be given several times, and replaces all gates.",
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    rule = typer.Typer(help="What is asked of the commits of a branch.", no_args_is_help=True)
    for name, command in (("show", show), ("set", set_), ("remove", remove)):
        rule.command(name)(command)
    app.add_typer(rule, name="rule")


def show(
    repo: Repo,
    branch: Annotated[str | None, typer.Argument(help="The branch; without it, all that have a rule.")] = None,
    as_json: Json = False,
) -> None:
    """Show the rule of a branch, or all rules."""
    from pyfactory.repo.repository import Repository
    from pyfactory.repo.rules import RULE, branch_rule

    opened = Repository.open(repo)
    view = opened.view()
    names = [ref.removeprefix(RULE) for ref in sorted(view.refs) if ref.startswith(RULE)]
    rules = {name: branch_rule(opened, view, name) for name in ([branch] if branch is not None else names)}
    if emit({name: rule.to_value() for name, rule in rules.items()}, as_json=as_json):
        return
    for name, rule in rules.items():
        _show(name, rule)
    if not rules:
        note("no branch has a rule: everything is allowed")


def set_(
    repo: Repo,
    branch: Branch,
    file: Annotated[Path | None, typer.Argument(help="The whole rule, a YAML file, instead of options.")] = None,
    protected: Annotated[
        bool | None, typer.Option("--protected/--no-protected", help="Commits come by merge only.")
    ] = None,
    signed: Annotated[
        bool | None, typer.Option("--signed/--no-signed", help="Commits need a trusted signature.")
    ] = None,
    gate: Gates = None,
    no_gates: Annotated[bool, typer.Option("--no-gates", help="Take all gates away.")] = False,
    key: Key = None,
    message: Message = "",
    as_json: Json = False,
) -> None:
    """Make or change the rule of a branch; what no option names stays as it is."""
    from pyfactory.errors import InvalidInputError
    from pyfactory.repo.gates.preview import unsuited
    from pyfactory.repo.repository import Repository
    from pyfactory.repo.rules import branch_rule
    from pyfactory.repo.ruling import set_rule

    options = protected is not None or signed is not None or bool(gate) or no_gates
    if options == (file is not None) or (gate and no_gates):
        raise InvalidInputError("say what the rule is, in one way", hint="a file, or --protected, --signed, --gate …")
    opened = Repository.open(repo)
    view = None
    if file is not None:
        rule = _rule_of_file(file)
    else:
        view = opened.view()
        old = branch_rule(opened, view, branch)
        gates = _gates(gate) if gate or no_gates else old.gates
        rule = replace(
            old,
            protected=old.protected if protected is None else protected,
            signed=old.signed if signed is None else signed,
            gates=gates,
        )
    changed = set_rule(opened, branch, rule, author(), message, signer_of(key), view)
    unknown = _unknown_tables(opened, branch, rule)
    found = unsuited(opened, branch, rule.gates)
    listed = [dict(zip(("gate", "table", "reason"), each, strict=True)) for each in found]
    told = {"branch": branch, "changed": changed, "rule": rule.to_value(), "unknown_tables": sorted(unknown)}
    if not emit({**told, "unsuited": listed}, as_json=as_json):
        _show(branch, rule)
        if not changed:
            note("it was so already")
        for table, hint in sorted(unknown.items()):
            until = f"the gate fails until there is one{hint and f' ({hint})'}"
            note(f"note: {branch} has no table {table!r}: {until}")
        for name, table, reason in found:
            note(f"note: the table {table!r} of {branch} {reason}: the gate {name} fails until that changes")


def remove(repo: Repo, branch: Branch, key: Key = None, message: Message = "", as_json: Json = False) -> None:
    """Take the rule of a branch away."""
    from pyfactory.repo.repository import Repository
    from pyfactory.repo.ruling import set_rule

    changed = set_rule(Repository.open(repo), branch, None, author(), message, signer_of(key))
    if not emit({"branch": branch, "changed": changed, "rule": None}, as_json=as_json):
        line(f"{escape(branch)} has no rule{'' if changed else '; it had none before'}")


def _unknown_tables(opened: Repository, branch: str, rule: BranchRule) -> dict[str, str]:
    """Return the tables that gates name and an existing branch lacks, each with a hint: likely a slip of the pen."""
    from pyfactory.repo.names import BRANCH, suggestion

    if branch not in opened.branches():
        return {}
    tables = opened.tables(BRANCH + branch)
    named = {gate.table for gate in rule.gates} - {"*"} - tables.keys()
    return {name: suggestion(name, tables) for name in named}


def _gates(texts: Sequence[str] | None) -> tuple[Any, ...]:
    from pyfactory.repo.rule_text import gate_from_text

    return tuple(gate_from_text(text) for text in texts or ())


def _rule_of_file(file: Path) -> BranchRule:
    from pydantic import BaseModel, ConfigDict

    from pyfactory.config import load
    from pyfactory.repo.rules import BranchRule, GateRule

    class Gate(BaseModel):
        model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

        gate: str
        table: str = "*"
        options: dict[str, int | str | bool | list[str]] = {}

    class Rule(BaseModel):
        model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

        protected: bool = False
        signed: bool = False
        gates: list[Gate] = []

    read = load(file, Rule)
    gates = tuple(GateRule(gate.gate, gate.table, gate.options) for gate in read.gates)
    return BranchRule(read.protected, read.signed, gates)


def _show(branch: str, rule: BranchRule) -> None:
    asked = [word for word, holds in (("protected", rule.protected), ("signed", rule.signed)) if holds]
    line(f"[green]{escape(branch)}[/] {', '.join(asked) or 'neither protected nor signed'}")
    for gate in rule.gates:
        options = ", ".join(f"{name}={value}" for name, value in sorted(gate.options.items()))
        line(f"    {escape(gate.gate)} on {escape(gate.table)}{f': {escape(options)}' if options else ''}")
