"""Meters: sums of seconds and counts from several threads; versions of packages."""

from __future__ import annotations

import platform
from concurrent.futures import ThreadPoolExecutor

import pyarrow

from pyfactory.core.meter import Meter
from pyfactory.core.versions import code_versions


def test_sums_from_several_threads():
    """Catches: a lost update."""
    meter = Meter()

    def add(_: int) -> None:
        for _ in range(500):
            meter.add_count("samples", 3)
            meter.add_seconds("fill", 0.5)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(add, range(8)))
    assert meter.count("samples") == 8 * 500 * 3
    assert meter.seconds("fill") == 8 * 500 * 0.5
    assert meter.count("nothing") == 0
    assert meter.seconds("nothing") == 0.0


def test_timed_counts_also_what_fails():
    meter = Meter()
    try:
        with meter.timed("plan"):
            raise ValueError
    except ValueError:
        pass
    assert meter.seconds("plan") > 0


def test_versions():
    versions = code_versions("pyarrow", "no-such-package")
    assert versions == {
        "python": platform.python_version(),
        "pyarrow": pyarrow.__version__,
        "no-such-package": "absent",
    }
