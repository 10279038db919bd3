"""What is answered to those who ask for a forgotten record, or bring it back."""

from __future__ import annotations

from collections.abc import Iterable

from pyfactory.core.digest import NO_DIGEST
from pyfactory.errors import NotFoundError, RefusedError
from pyfactory.repo.home import Home
from pyfactory.repo.operation import View
from pyfactory.repo.redaction import overlay_of
from pyfactory.repo.refusal import record_refusal
from pyfactory.shard.blank import forgotten_id
from pyfactory.shard.reader import open_side
from pyfactory.shard.tree import Part

__all__ = ["forgotten_among", "missing_record", "refuse_forgotten"]

_SHOWN = 5
_RECORDED = 20


def missing_record(home: Home, record_id: str, where: str = "") -> NotFoundError:
    """Return the error of a record that cannot be found, which says so if it was forgotten.

    Args:
        home: The repository.
        record_id: The id that was looked for.
        where: Where it was looked for, such as a table.
    """
    found = overlay_of(home, home.view()).redaction_of(record_id)
    if found is not None:
        hint = "pyfactory forget REPO --prove shows what is left of it"
        return NotFoundError(f"{home.url}: record {record_id!r}: forgotten on {found.time}: {found.reason}", hint=hint)
    return NotFoundError(f"{home.url}: there is no record {record_id!r}{where and f' in {where}'}", hint="check the id")


def forgotten_among(home: Home, view: View, parts: Iterable[Part]) -> list[str]:
    """Return the ids of forgotten records that parts hold and no redaction hides. O(forgotten ids log rows) a part."""
    overlay = overlay_of(home, view)
    back: set[str] = set()
    for part in parts:
        if part.side != NO_DIGEST and part.side not in overlay.redirect:
            side = open_side(home.objects.map(part.side), f"the side {part.side} in {home.url}")
            back.update(side.id(row) for row in side.rows_of(overlay.keys).tolist())
    return sorted(back)


def refuse_forgotten(home: Home, parts: Iterable[Part], who: str, what: str) -> None:
    """Raise RefusedError if new parts of a table hold records that were forgotten. O(forgotten ids log rows) a part.

    The refusal is written down without the ids, which are to be forgotten as well: by what stands in their place.

    Args:
        home: The repository.
        parts: What is to be added.
        who: Who adds it.
        what: What is tried, such as `import to raw`.
    """
    overlay = overlay_of(home, home.view())
    if overlay.last is None:
        return
    back: set[str] = set()
    for part in parts:
        # As it was stored just now: a side that equals a redacted one would read as its replacement.
        if part.side != NO_DIGEST and home.objects.raw.exists(part.side):
            side = open_side(home.objects.raw.map(part.side), f"the side {part.side} in {home.url}")
            back.update(side.id(row) for row in side.rows_of(overlay.keys).tolist())
    if back:
        listed = sorted(back)
        shown = ", ".join(map(repr, listed[:_SHOWN])) + (", …" if len(listed) > _SHOWN else "")
        first = overlay.redaction_of(listed[0])
        when = "" if first is None else f" ({listed[0]!r} on {first.time}: {first.reason})"
        named = [forgotten_id(record) for record in listed]
        why = f"it brings back {len(named)} forgotten, such as {named[0]}"
        record_refusal(home, who, what, why, {"records": named[:_RECORDED]})
        raise RefusedError(
            f"{home.url}: {'record' if len(listed) == 1 else 'records'} {shown} must not come back: forgotten{when}",
            hint="take them out of the files and import again",
        )
