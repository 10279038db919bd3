"""Ctrl-C: tidy at first, at once when repeated; nothing of a command is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from cli_runs import COMMAND, Shell

from pyfactory.repo.repository import Repository

WAITS = """
import os, signal, sys, threading
from pyfactory.cli.interrupts import interruptible

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have set it aside for the tests
signal.signal(signal.SIGHUP, signal.SIG_IGN)
before = signal.getsignal(signal.SIGTERM)
try:
    with interruptible(quiet=False):
        os.kill(os.getpid(), signal.SIGHUP)  # nohup
        try:
            print("ready", flush=True)
            while True:
                signal.pause()
        except KeyboardInterrupt:
            while sys.argv[1] == "wait":
                signal.pause()
            raise
except KeyboardInterrupt:
    assert signal.getsignal(signal.SIGTERM) == before and signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    sys.exit(7)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("how", ["end", "wait"])
def test_the_first_interrupt_is_tidy_and_the_second_at_once(number: int, how: str) -> None:
    """Catches a command that cannot be stopped while a long task runs, and one that says nothing of the wait."""
    command = [sys.executable, "-c", WAITS, how]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        if how == "wait":
            assert (
                process.stderr.readline() == "stopping as soon as the running tasks end; Ctrl-C again stops at once\n"
            )
            process.send_signal(signal.SIGINT)
        assert process.wait(60) == (1 if how == "wait" else 7)
        assert process.stderr.read() == ""


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_leaves_nothing(tmp_path: Path, number: int) -> None:
    """Catches training processes that outlive the demo, and its temporary folder."""
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    start = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    command = [sys.executable, "-c", start + COMMAND[2], "demo"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stderr is not None
        while not process.stderr.readline().startswith("train on 2 processes"):
            assert process.poll() is None
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 1 and "error: interrupted\n" in err and "Traceback" not in err
    assert list(tmp_path.iterdir()) == []
    running = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
    assert not any(bytes(tmp_path) in line for line in running)


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["import", "REPO", "raw", "REPO"], "a commit is made at the end or not at all"),
        (["verify", "REPO"], "nothing was changed; with --resume FILE"),
        (["verify", "REPO", "--resume", "file"], "it goes on where it was cut off"),
        (["gc", "REPO"], "the next gc finishes"),
        (["sql", "REPO", "select 1"], "nothing was changed"),
        (["find", "REPO", "doc-1"], "nothing was changed"),
        (["sample", "REPO", "corpus", "--seed", "1"], "nothing was changed"),
        (["stream", "stats", "REPO", "corpus", "--seed", "1"], "nothing was changed"),
    ],
)
def test_what_was_interrupted_says_what_is_left(
    shell: Shell, repo: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], hint: str
) -> None:
    """Catches talk of commits by a command that makes none."""

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Repository, "open", interrupted)
    ran = shell(*(repo if argument == "REPO" else argument for argument in arguments))
    assert ran.code == 1 and "error: interrupted\n" in ran.err and hint in ran.err
