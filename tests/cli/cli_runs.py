"""Ways to run the command line, and what every refusal must look like."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pyfactory.cli.app import run
from pyfactory.repo.repository import Repository

COMMAND = [sys.executable, "-c", "from pyfactory.cli import main; main()"]
"""What the script `pyfactory` does."""

ESCAPE = "\x1b"


@dataclass(frozen=True)
class Ran:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def value(self) -> Any:
        return json.loads(self.out)

    @property
    def error(self) -> dict[str, str]:
        (line,) = self.err.splitlines()
        error: dict[str, str] = json.loads(line)["error"]
        return error


class Shell:
    """Runs commands in this process, which saves the time of loading it all again."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *arguments: object) -> Ran:
        self._capsys.readouterr()
        code = run([str(argument) for argument in arguments])
        out, err = self._capsys.readouterr()
        return Ran(code, out, err)

    def done(self, *arguments: object) -> str:
        """Run a command that must succeed and return its output."""
        ran = self(*arguments)
        assert ran.code == 0, ran.err
        return ran.out

    def refused(self, repo: Path, *arguments: object, code: int = 1) -> str:
        """Run a command that must fail well and change nothing; return what it says, error and hint."""
        before = Repository.open(repo).view()
        ran = self(*arguments)
        said = check_refusal(ran, code)
        opened = Repository.open(repo)
        assert opened.view() == before, said
        assert opened.verify().problems == [], said
        return said


def check_refusal(ran: Ran, code: int = 1, *, hint: bool = True) -> str:
    """Check that a command failed with one clear sentence and, if `hint`, the way out; return both."""
    assert (ran.code, ran.out) == (code, ""), (ran.code, ran.out, ran.err)
    assert "Traceback" not in ran.err
    assert "bug in pyfactory" not in ran.err, ran.err
    found = re.search(r"^error: (?P<error>\S.*)\n(hint: +(?P<hint>\S.*)\n)?\Z", ran.err, re.MULTILINE)
    assert found and (found["hint"] or not hint), ran.err
    return f"{found['error']} | {found['hint']}"


def program(*arguments: object, **options: Any) -> Ran:
    """Run a command as a process of its own."""
    environment, timeout = os.environ | options.pop("env", {}), options.pop("timeout", 100)
    command = [*options.pop("before", ()), *COMMAND, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, timeout=timeout, env=environment, check=False, **options)
    return Ran(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))
