"""The command gate add-set: evaluation sets for the gate `contamination`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from pyfactory.cli.output import emit, line, note
from pyfactory.cli.repository import Json, Repo

__all__ = ["register"]

_WORDS = 13

Name = Annotated[str, typer.Argument(help="What to call the set in the rule.")]
File = Annotated[Path, typer.Argument(help="Its texts: the field text of each line of a .jsonl, else the lines.")]
Words = Annotated[int, typer.Option("--words", "-n", help="Words of a window; the option n of the gate.")]


def register(gate: typer.Typer) -> None:
    """Add the command to those about gates."""
    gate.command("add-set")(add_set)


def add_set(repo: Repo, name: Name, file: File, words: Words = _WORDS, as_json: Json = False) -> None:
    """Store the hashes of an evaluation set's windows of words, not its texts, and print what a rule calls it."""
    from pyfactory.repo.gates.contamination import check_set_name
    from pyfactory.repo.gates.contamination_sets import make_set, read_texts
    from pyfactory.repo.repository import Repository

    check_set_name(name)
    opened = Repository.open(repo)
    made = make_set(read_texts(file), words)
    digest = opened.objects.put(made.to_bytes())
    windows = len(made.hashes)
    value = {"name": name, "digest": digest, "n": words, "texts": made.texts, "short": made.short, "windows": windows}
    if emit(value, as_json=as_json):
        return
    line(f"{escape(name)}={digest}")
    note(f"{windows:,} windows of {words} words from {made.texts:,} texts; a rule of the gate contamination names it")
    if made.short:
        note(f"{made.short:,} texts have fewer than {words} words: nothing can match them")
