"""The result of the demo, for people."""

from __future__ import annotations

from typing import Any

from rich.markup import escape

from pyfactory.cli.output import amount, counted, line
from pyfactory.demo.story import Result

__all__ = ["show_result"]


def show_result(result: Result) -> None:
    """Print what the demo found and what to try next."""
    same = "[bold green]identical[/]" if result.identical else "[bold red]DIFFERENT[/]"
    line(f"   {counted(result.positions, 'position')}: {same}")
    line(f"   received on 2 processes up to step {result.killed_after_step}, on 1 from step {result.resumed_at_step}")
    line()
    line(f"commits  raw {result.import_commit[:12]}, tokens [yellow]{result.commit[:12]}[/] (tag v1)")
    line(f"digests  tree    {result.tree_digest}")
    line(f"         version {result.version_digest}")
    line(f"         stream  {result.stream_digest}")
    line(f"loss     {result.loss_first:.3f} -> {result.loss_last:.3f} nats")
    line(f"speed    {amount(round(result.tokens_per_second))} tokens/s, training included")
    line(f"         training waited for data {100 * result.stall_share:.2f} % of the time")
    _show_trace(result.trace)
    line()
    if result.kept:
        _show_next(result.folder)
    else:
        line("everything was in a temporary folder; keep it with: pyfactory demo --keep DIR")


def _show_trace(trace: dict[str, Any]) -> None:
    line("trace    which data trained the last checkpoint?")
    for span in trace["seen"]:
        ranks = counted(span["world_size"], "process", "processes")
        line(f"         positions {_positions(span)} of corpus@v1, seed {trace['seed']}, on {ranks}")
    for span in trace["abandoned"]:
        line(f"         abandoned in the crash: at most {_positions(span)}")
    line(f"         job {trace['jobs'][0]['digest'][:12]}, {counted(len(trace['raw_files']), 'raw file')}")


def _positions(span: dict[str, Any]) -> str:
    return escape(f"[{amount(span['start'])}, {amount(span['stop'])})")


def _show_next(folder: str) -> None:
    where = escape(folder)
    line(f"everything lies in {where}; try next:")
    for command in (
        f"log {where}/repository",
        f"show {where}/repository v1",
        f"sample {where}/repository corpus@v1 --seed 7 --sequence-length 128 --position 5",
        f"trace {where}/step-00080.pt",
        f"verify {where}/repository",
    ):
        line(f"  pyfactory {command}")
