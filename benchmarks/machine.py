"""What a benchmark ran on, in one line."""

from __future__ import annotations

import os
import platform
from pathlib import Path


def describe() -> str:
    """Return processor, cores, memory, system and Python."""
    cpu = Path("/proc/cpuinfo").read_text().partition("model name")[2].partition("\n")[0].lstrip("\t: ")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    system = f"{platform.system()}, Python {platform.python_version()}"
    return f"{cpu or platform.processor()}, {os.cpu_count()} cores, {memory:.0f} GB, {system}"
