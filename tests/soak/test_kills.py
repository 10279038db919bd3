"""The soak in small, so that it cannot rot; the dated logs beside it are of the real one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.soak.kills import main


@pytest.mark.soak
def test_five_kills(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--kills", "5", "--seed", "1", "--place", str(tmp_path), "--result", str(tmp_path / "log.md")]) == 0
    said = (tmp_path / "log.md").read_text()
    assert "5 kills (SIGKILL) in 4 rounds" in said and "**problems: 0**" in said
    assert capsys.readouterr().out == ""
