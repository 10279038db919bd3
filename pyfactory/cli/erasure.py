"""The command of erasure: forget."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from pyfactory.cli.keys import Key, signer_of
from pyfactory.cli.output import amount, counted, emit, line, progress, size
from pyfactory.cli.repository import Json, Repo, author
from pyfactory.errors import InvalidInputError

if TYPE_CHECKING:
    from pyfactory.audit import Seen
    from pyfactory.factory.forgetting import ForgetReport
    from pyfactory.repo.proof import Proof

__all__ = ["register"]

_SHOWN = 5


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(forget)


def forget(
    repo: Repo,
    record: Annotated[
        list[str] | None, typer.Option("--record", metavar="ID", help="A record; may be given several times.")
    ] = None,
    reason: Annotated[str, typer.Option("--reason", help="Why; kept for ever.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    prove: Annotated[
        bool, typer.Option("--prove", help="Show that what was forgotten is gone, or what still holds it.")
    ] = False,
    key: Key = None,
    as_json: Json = False,
) -> None:
    """Erase records from all commits and tags; the bytes go at the next gc."""
    if prove:
        if reason or dry_run:
            raise InvalidInputError("--prove takes only --record", hint="pyfactory forget REPO --prove [--record ID]")
        _prove(repo, record or [], as_json)
        return
    from pyfactory.factory.forgetting import forget_records
    from pyfactory.repo.repository import Repository

    told = {"who": author(), "dry_run": dry_run}
    opened = Repository.open(repo)
    with progress(as_json=as_json) as shown:
        report = forget_records(opened, record or [], reason, signer=signer_of(key), progress=shown, **told)  # type: ignore[arg-type]
    if not emit(report.to_value(), as_json=as_json):
        _show(report, repo, dry_run)


def _prove(repo: str, records: list[str], as_json: bool) -> None:
    from pyfactory.repo.proof import prove
    from pyfactory.repo.repository import Repository

    with progress(as_json=as_json) as shown:
        proof = prove(Repository.open(repo), records, shown)
    if not emit(asdict(proof), as_json=as_json):
        _show_proof(proof)
    if proof.failures:
        raise typer.Exit(1)


def _show(report: ForgetReport, repo: str, dry_run: bool) -> None:
    done = report.forgotten
    for place in done.places:
        line(f"[bold]{escape(place.id)}[/]: {counted(place.rows, 'row')} of {escape(place.holder)}")
    would = "would replace" if dry_run else "replaced"
    what = f"{counted(done.shards, 'shard')} and {counted(done.sides, 'side')}"
    line(f"{would} {what} ({size(done.nbytes)}); {counted(done.tokens, 'token')} masked, in all commits and tags")
    for seen in report.seen:
        line(f"run {escape(seen.run)} {_saw(seen)}")
    if not report.seen:
        line("no run in the ledger saw them")
    if not dry_run:
        line(f"next: pyfactory gc {escape(repo)}, then pyfactory forget {escape(repo)} --prove")


def _saw(seen: Seen) -> str:
    if seen.unknown:
        text = f"may have seen {escape(seen.record)}: {escape(seen.unknown)}"
    elif not seen.positions:
        text = f"continued run {escape(seen.through)}, which saw {escape(seen.record)}"
    else:
        steps = ", ".join(map(amount, seen.steps[:_SHOWN])) + (", …" if len(seen.steps) > _SHOWN else "")
        verb = "saw" if seen.exact else "saw at most"
        noun = "train step" if len(seen.steps) == 1 else "train steps"
        text = f"{verb} {escape(seen.record)} in {noun} {steps}"
    made = ", ".join(map(amount, seen.checkpoints[:_SHOWN])) + (", …" if len(seen.checkpoints) > _SHOWN else "")
    return f"{text}; its checkpoints at {made} have learnt from it" if made else text


def _show_proof(proof: Proof) -> None:
    records = counted(proof.records, "record")
    line(f"{records} of {counted(proof.redactions, 'redaction')}: {counted(proof.gone, 'object')} had to be gone;")
    line(f"{counted(proof.objects, 'object')} ({size(proof.nbytes)}) can be reached, and each was read")
    for hint in dict.fromkeys(failure.hint for failure in proof.failures):
        for failure in proof.failures:
            if failure.hint == hint:
                line(f"[bold red]held[/]  {escape(failure.object)}: {escape(failure.message)}")
        line(f"[dim]hint:[/]  {escape(hint)}")
    if not proof.failures:
        line("[green]none of them holds what was forgotten[/]")
    line("outside of this proof:")
    for outside in proof.outside:
        line(f"- {escape(outside)}")
