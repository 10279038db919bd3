"""The file beside a checkpoint that says which run made it, and what its model saw."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pyfactory.core.durable import translate_os_error, write_atomic
from pyfactory.errors import CorruptError, NotFoundError

__all__ = ["CHECKPOINT_FILE", "read_checkpoint", "write_checkpoint"]

CHECKPOINT_FILE = "pyfactory.json"


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Return what `Run.checkpoint` wrote for a checkpoint: repository, run, entry, digest, position and loader state.

    Args:
        path: The checkpoint file or folder, or the `pyfactory.json` itself.

    Raises:
        NotFoundError: Nothing is written for this checkpoint.
        CorruptError: The file is not what `Run.checkpoint` writes.
    """
    file, name = _checkpoint_file(Path(path))
    records = _read_records(file)
    if name is None and len(records) == 1:
        (name,) = records
    if name not in records:
        raise NotFoundError(
            f"{file} does not tell of {name or 'one single checkpoint'}",
            hint=f"it tells of {', '.join(sorted(records))}" if records else "call run.checkpoint(path) after saving",
        )
    record = records[name]
    expected = {"repository": str, "run": str, "entry": int, "digest": str, "position": int, "state": dict}
    if not isinstance(record, dict) or any(not isinstance(record.get(key), kind) for key, kind in expected.items()):
        raise CorruptError(f"{file} is damaged: the record of {name} is incomplete")
    return record


def write_checkpoint(path: Path, record: dict[str, Any]) -> None:
    """Write what `read_checkpoint` returns, beside a checkpoint that is there."""
    if not path.exists():
        raise NotFoundError(
            f"there is no checkpoint {path}", hint="save the model first, then call run.checkpoint(path)"
        )
    file, name = _checkpoint_file(path)
    records = _read_records(file) if file.exists() else {}
    # Records of checkpoints that were deleted since would only mislead.
    kept = {other: old for other, old in records.items() if (file.parent / other).exists()}
    value = {"format": 1, "checkpoints": kept | {str(name): record}}
    write_atomic(file, json.dumps(value, indent=1, sort_keys=True).encode())


def _checkpoint_file(path: Path) -> tuple[Path, str | None]:
    """Return the json file that tells of a checkpoint, and its name there (None: whatever is in there)."""
    if path.name == CHECKPOINT_FILE:
        return path, None
    return (path / CHECKPOINT_FILE, ".") if path.is_dir() else (path.parent / CHECKPOINT_FILE, path.name)


def _read_records(file: Path) -> dict[str, Any]:
    with translate_os_error(file):
        try:
            text = file.read_text()
        except FileNotFoundError:
            raise NotFoundError(
                f"there is no {file.absolute()}", hint="run.checkpoint(path) writes it beside a checkpoint"
            ) from None
        except UnicodeDecodeError as error:
            raise CorruptError(f"{file} is damaged: {error}") from error
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CorruptError(f"{file} is damaged: {error}") from error
    if not isinstance(value, dict) or value.get("format") != 1 or not isinstance(value.get("checkpoints"), dict):
        raise CorruptError(f"{file} was not written by pyfactory, or by a newer one")
    records: dict[str, Any] = value["checkpoints"]
    return records
