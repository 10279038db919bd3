"""Samples and numbers of a stream, for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.markup import escape
from rich.table import Table

from pyfactory.cli.output import amount, counted, line, rendered

__all__ = ["show_sample", "show_stats"]


def show_sample(shown: Mapping[str, Any]) -> None:
    """Print the text of a sample, with its records and addresses."""
    resolved = escape(f"{shown['table']}@{shown['resolved']}")
    line(f"{resolved} = commit [yellow]{shown['commit'][:12]}[/], version {shown['version'][:12]}")
    source = "" if shown["source"] == shown["table"] else f"source {escape(shown['source'])}, "
    place = f"position {amount(shown['position'])}: {source}epoch {amount(shown['epoch'])}"
    line(f"{place}, {counted(shown['samples'], 'sample')} per epoch")
    for piece in shown["addresses"]:
        stop = piece["first"] + piece["length"]
        line(f"address: shard {piece['shard']} ({piece['digest'][:12]}), tokens {piece['first']} to {stop}")
    for record in shown["records"]:
        span = f"tokens {record['start']} to {record['stop']} of {record['tokens']}"
        origin = f", line {record['origin'][1]} of file {record['origin'][0][:12]}" if record["origin"] else ""
        line(f"\n[dim]── record {escape(record['id'])}, {span}{origin} ──[/]")
        line(escape(record["text"]))
    if shown["padding"] > 0:
        line(f"\n[dim]── {counted(shown['padding'], 'token')} of padding ──[/]")
    if not shown["targets"]:
        line("\n[bold red]no token of it is predicted[/]: it has no target")


def show_stats(found: Mapping[str, Any]) -> None:
    """Print what a stream delivers, a table for each phase."""
    end = "endless" if found["end"] is None else f"it ends at position {amount(found['end'])}"
    line(f"seed {found['seed']}, {end}; counted: positions before {amount(found['positions'])}")
    for number, phase in enumerate(found["phases"]):
        stop = "…" if phase["stop"] is None else amount(phase["stop"])
        recipe = ", ".join(f"{name} {value}" for name, value in phase["recipe"].items())
        line(f"\nphase {number}: positions \\[{amount(phase['start'])}, {stop}), {escape(recipe)}")
        padding = f", {phase['padding']:.2%} padding" if phase["padding"] else ""
        line(f"  {counted(phase['positions'], 'sample')}, {counted(phase['tokens'], 'token')}{padding}")
        if "without_targets" in phase:
            line(f"  {_without_targets(**phase['without_targets'])}")
        for text in rendered(_table(phase)):
            line(escape(text))
        for source in phase["sources"]:
            if "unseen" in source:
                line(f"  {escape(source['name'])}: {_unseen(source['unseen'])}")


def _without_targets(samples: int, of: int) -> str:
    first = f"of the first {counted(of, 'sample')}, {amount(samples)}" if of > 1 else f"of the first sample, {samples}"
    said = f"{first} without any target"
    if not samples:
        return said
    if samples < of:
        return f"[yellow]{said}[/]: they do not hold the response template, or nothing behind it"
    return f"[bold red]{said}[/]: they do not hold the response template, so they teach nothing (docs/packing.md)"


def _table(phase: Mapping[str, Any]) -> Table:
    table = Table("source", "table", box=None, pad_edge=False)
    for name in ("weight", "samples", "share", "tokens", "token share", "epochs"):
        table.add_column(name, justify="right")
    for source in phase["sources"]:
        began, reached = source.get("epochs", ("", ""))
        epochs = f"{began:g} to {reached:g}" if "epochs" in source else "unseen"
        table.add_row(
            escape(source["name"]),
            escape(f"{source['table']}@{source['asked']}"),
            amount(source["weight"]),
            amount(source["positions"]),
            f"{source['share']:.2%}",
            amount(source["tokens"]),
            f"{source['token_share']:.2%}",
            epochs,
        )
    return table


def _unseen(unseen: Mapping[str, int]) -> str:
    left, added = counted(unseen["old_samples"], "sample"), counted(unseen["added_samples"], "added sample")
    masked = counted(unseen["removed_records"], "removed record")
    return f"{left} left of the old version, {added}; {masked} masked ({counted(unseen['removed_tokens'], 'token')})"
