"""Upgrading a repository to what this program knows, and taking that back: one entry of the log, then `format.json`.

Killed in between, the next upgrade, or the next use of a new feature, writes `format.json`. Nothing new is used before
it is written, so an older program is never surprised.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from pyfactory.core.digest import Digest
from pyfactory.errors import InvalidInputError
from pyfactory.repo.format import (
    FORMAT_REF,
    KNOWN,
    Features,
    FormatObject,
    check_writable,
    declare,
    load_format_object,
    read_features,
)
from pyfactory.repo.home import Home
from pyfactory.repo.operation import Change, View
from pyfactory.repo.swept import check_not_swept, sweep_guards
from pyfactory.repo.transaction import publish

__all__ = ["UpgradeReport", "undo_upgrade", "upgrade"]

_USES = {"redactions": "redaction/", "rules": "rule/", "sweep": "gc/"}
"""What the refs start with that a feature brings."""


@dataclass(frozen=True, slots=True)
class UpgradeReport:
    """What became of the format.

    Attributes:
        before: What programs had to know before.
        after: What they must know now.
    """

    before: Features
    after: Features

    @property
    def added(self) -> list[str]:
        """Features that are new, ascending."""
        return sorted(name for name in (*self.after.reader, *self.after.writer) if name not in self.before)

    @property
    def removed(self) -> list[str]:
        """Features that are gone, ascending."""
        return sorted(name for name in (*self.before.reader, *self.before.writer) if name not in self.after)


def upgrade(home: Home, who: str = "unknown", *, now: datetime | None = None) -> UpgradeReport:
    """Give a repository all features that this program knows. One entry of the log, or none if it has them.

    Programs that do not know them can no longer write to it, nor read it if readers need one; one that is at work while
    this happens does not notice. So end them first.

    Raises:
        NewerFormatError: It has features that this program does not know.
        ConflictError: Somebody else upgraded it meanwhile.
    """
    listed = read_features(home.store)
    check_writable(home.url, listed.writer)
    view = home.view()
    ref = view.refs.get(FORMAT_REF)
    before = listed if ref is None else load_format_object(home, ref).features
    after = before | KNOWN
    if after != before:
        added = ", ".join(UpgradeReport(before, after).added)
        _move(home, view, ref, FormatObject(after, before), who, f"upgrade: {added}", now)
    if after != listed:
        declare(home, after)
    return UpgradeReport(listed, after)


def undo_upgrade(home: Home, who: str = "unknown", *, now: datetime | None = None) -> UpgradeReport:
    """Take the last upgrade back, so that older programs may read and write again.

    Raises:
        InvalidInputError: There was no upgrade, or what it brought is in use.
        ConflictError: Something was written meanwhile.
    """
    listed = read_features(home.store)
    check_writable(home.url, listed.writer)
    view = home.view()
    ref = view.refs.get(FORMAT_REF)
    last = None if ref is None else load_format_object(home, ref)
    if last is None:
        raise InvalidInputError(f"{home.url} was never upgraded: it was made as it is", hint="there is nothing to undo")
    after = last.features if last.before is None else last.before
    report = UpgradeReport(last.features, after)
    _check_unused(home, view, report.removed)
    if last.before is not None:
        # Exactly after the view: what came in between could be the first use of a feature.
        _move(home, view, ref, FormatObject(after, None), who, f"undo upgrade: {', '.join(report.removed)}", now)
    elif listed == after:
        raise InvalidInputError(f"{home.url}: the upgrade was taken back already", hint="there is nothing to undo")
    declare(home, after)
    return UpgradeReport(listed, after)


def _move(
    home: Home, view: View, old: Digest | None, new: FormatObject, who: str, why: str, now: datetime | None
) -> None:
    digest = home.objects.put(new.to_bytes())
    check_not_swept(home, view, [digest])
    change = Change(FORMAT_REF, old, digest)
    publish(home.oplog, view, [change], who, why, exact=new.before is None, now=now, guards=sweep_guards(view))


def _check_unused(home: Home, view: View, features: list[str]) -> None:
    for name in features:
        start = _USES.get(name, name)
        used = sorted(ref for ref in view.refs if ref.startswith(start) and ref != FORMAT_REF)
        if used:
            shown = ", ".join(used[:3]) + (", …" if len(used) > 3 else "")
            raise InvalidInputError(
                f"{home.url}: {name} is in use: {shown}", hint="an upgrade can be undone only while nothing needs it"
            )
