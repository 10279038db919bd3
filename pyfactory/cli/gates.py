"""Commands about gates: gate list, gate run, gate explain; gate add-set is in `gate_sets`."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from pyfactory.cli import gate_sets
from pyfactory.cli.output import counted, emit, line, note
from pyfactory.cli.repository import Json, Repo

if TYPE_CHECKING:
    from pyfactory.repo.gates.base import Verdict
    from pyfactory.repo.rules import BranchRule

__all__ = ["register"]

MaybeRepo = Annotated[
    str | None, typer.Argument(metavar="[REPO]", help="A repository, to show which branch asks for which gates.")
]
Source = Annotated[str, typer.Argument(help="Branch, tag or commit digest that would be merged.")]
Target = Annotated[str, typer.Argument(help="The branch, whose rule decides.")]
Subject = Annotated[str, typer.Argument(metavar="COMMIT|GATE", help="A commit, branch or tag; or the name of a gate.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    gate = typer.Typer(help="Checks that a commit must pass before a branch may name it.", no_args_is_help=True)
    for name, command in (("list", list_), ("run", run), ("explain", explain)):
        gate.command(name)(command)
    gate_sets.register(gate)
    app.add_typer(gate, name="gate")


def list_(repo: MaybeRepo = None, as_json: Json = False) -> None:
    """Show all gates and, of a repository, which branch asks for which."""
    from pyfactory.repo.gates.open import GATES

    rules = {} if repo is None else _rules(repo)
    wanted = {branch: [gate.to_value() for gate in rule.gates] for branch, rule in rules.items()}
    value = {"gates": dict(GATES)} | ({} if repo is None else {"rules": wanted})
    if emit(value, as_json=as_json):
        return
    width = max(map(len, GATES))
    for name, help_ in GATES.items():
        line(f"[bold]{name:{width}}[/]  {escape(help_)}")
    for branch, rule in rules.items():
        line()
        line(f"[green]{escape(branch)}[/] asks for {counted(len(rule.gates), 'gate')}")
        for gate in rule.gates:
            options = ", ".join(f"{name}={option}" for name, option in gate.options.items())
            on = "every table that changes" if gate.table == "*" else gate.table
            line(f"  [bold]{escape(gate.gate)}[/] on {escape(on)}{escape(f': {options}' if options else '')}")
    if repo is not None and not rules:
        note("no branch asks for a gate: pyfactory rule set")


def run(repo: Repo, source: Source, target: Target = "main", as_json: Json = False) -> None:
    """Judge what merging SOURCE into TARGET would bring, and write nothing; exit code 1 if a gate fails."""
    from pyfactory.repo.gates.preview import judge_merge
    from pyfactory.repo.repository import Repository

    verdicts = judge_merge(Repository.open(repo), source, target)
    passed = all(verdict.passed for verdict in verdicts)
    if not emit({"passed": passed, "verdicts": [verdict.to_value() for verdict in verdicts]}, as_json=as_json):
        _show(verdicts)
        if not verdicts:
            note(f"the rule of {target} asks for no gate on what would change")
    if not passed:
        raise typer.Exit(1)


def explain(repo: Repo, subject: Subject, as_json: Json = False) -> None:
    """Say what a gate measures and takes, or what the gates said of a commit, with ids of records."""
    from pyfactory.repo.gates.open import GATES

    if subject in GATES:
        _explain_gate(subject, as_json)
    else:
        _explain_commit(repo, subject, as_json)


def _explain_gate(name: str, as_json: bool) -> None:
    from pyfactory.repo.gates.open import GATES, gate_class
    from pyfactory.repo.gates.options import describe

    class_ = gate_class(name)
    options = describe(class_)
    text = inspect.getdoc(class_) or ""
    listed = [{"default": one.default, "help": one.help, "kind": one.kind, "name": one.name} for one in options]
    value = {"gate": name, "help": GATES[name], "options": listed, "text": text, "version": class_.version}
    if emit(value, as_json=as_json):
        return
    line(f"[bold]{name}[/] (version {class_.version}): {escape(GATES[name])}")
    line(escape(text))
    for one in options:
        default = f" [dim](default {escape(one.default)})[/]" if one.default else ""
        line(f"  [bold]{one.name}[/] {escape(one.help)}: {escape(one.kind)}{default}")
    line("precision and recall over its labelled cases: docs/gates.md")


def _explain_commit(repo: str, ref: str, as_json: bool) -> None:
    from pyfactory.repo.gates.base import Verdict
    from pyfactory.repo.repository import Repository

    opened = Repository.open(repo)
    digest = opened.resolve(ref).commit
    stored: Sequence[Mapping[str, Any]] = opened.load(digest).gates
    verdicts = [Verdict.from_value(dict(value), f"a verdict in commit {digest}") for value in stored]
    value = {"commit": digest, "verdicts": [verdict.to_value() for verdict in verdicts]}
    if emit(value, as_json=as_json):
        return
    line(f"[yellow]{digest[:12]}[/] passed {counted(len(verdicts), 'gate')}")
    _show(verdicts, whole=True)


def _rules(repo: str) -> dict[str, BranchRule]:
    """Return the rules that ask for gates, by branch."""
    from pyfactory.repo.repository import Repository
    from pyfactory.repo.rules import RULE, branch_rule

    opened = Repository.open(repo)
    view = opened.view()
    names = [ref.removeprefix(RULE) for ref in sorted(view.refs) if ref.startswith(RULE)]
    rules = {name: branch_rule(opened, view, name) for name in names}
    return {name: rule for name, rule in rules.items() if rule.gates}


def _show(verdicts: Sequence[Verdict], *, whole: bool = False) -> None:
    for verdict in verdicts:
        mark = "[green]passed[/]" if verdict.passed else "[bold red]failed[/]"
        line(f"{mark} [bold]{escape(verdict.gate)}[/] on {escape(verdict.table)}: {escape(verdict.reason)}")
        if verdict.evidence:
            line(f"       records {escape(', '.join(verdict.evidence))}")
        if whole:
            limits = ", ".join(f"{name}={value}" for name, value in verdict.threshold.items())
            line(f"       [dim]{escape(verdict.code)}{escape(f'  {limits}' if limits else '')}[/]")
