"""Which names tables, branches and tags may have, and what to suggest when there is none of that name."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

from pyfactory.errors import InvalidInputError

__all__ = ["BRANCH", "TAG", "check_ref_name", "check_table_name", "check_text", "suggestion"]

BRANCH = "branch/"
"""What the full name of a branch starts with."""

TAG = "tag/"
"""What the full name of a tag starts with."""

_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_LIKE_A_DIGEST = re.compile(r"[0-9A-Fa-f]{7,}")
_MAX_LENGTH = 200
_MAX_PARTS = 16  # an entry of the log takes refs of 50, kinds and prefixes included
_MAX_TEXT = 20_000
_OTHER = "choose another name"
_RULE = "use up to 100 letters, digits, '.', '_' and '-', starting with a letter or digit"


def check_table_name(name: object) -> None:
    """Raise InvalidInputError unless a table may be called `name`."""
    reason = _fault(name, [str(name)])
    if reason:
        raise InvalidInputError(f"a table cannot be called {_shown(name)}: {reason}", hint=_RULE)


def check_ref_name(name: object, what: str) -> None:
    """Raise InvalidInputError unless a branch or tag may be called `name`.

    Args:
        name: The name without its `branch/` or `tag/`; parts are separated by '/'.
        what: "branch" or "tag", for the message.
    """
    parts = str(name).split("/")
    reason = _fault(name, parts)
    if not reason and len(parts) > 1 and f"{parts[0]}/" in (BRANCH, TAG):
        # Else `tag/x` could mean the tag x or a branch of that name.
        reason = f"'{parts[0]}/' says what kind of name follows"
    if name == "main" and what == "tag":
        # Else what nobody names, main, would be two things.
        raise InvalidInputError("a tag cannot be called 'main': it is the branch where none is named", hint=_OTHER)
    if reason:
        raise InvalidInputError(f"a {what} cannot be called {_shown(name)}: {reason}", hint=_RULE)


def check_text(text: object, what: str) -> None:
    """Raise InvalidInputError unless `text` (a message or an author, as `what` says) can be stored for ever."""
    if not isinstance(text, str):
        raise InvalidInputError(f"the {what} must be text, not {type(text).__name__}")
    if len(text) > _MAX_TEXT:
        raise InvalidInputError(f"the {what} has {len(text)} characters", hint=f"at most {_MAX_TEXT} are kept")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidInputError(f"the {what} {_shown(text)} is not valid Unicode text", hint="type it again") from error


def suggestion(name: str, known: Iterable[str], *, otherwise: str = "") -> str:
    """Return the hint of a NotFoundError: the known names nearest to `name`, or what else to do.

    Args:
        name: The name that was asked for.
        known: The names that exist.
        otherwise: The hint when nothing comes near.
    """
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    if near:
        return f"did you mean {' or '.join(near)}?"
    if names:
        return f"there is {', '.join(names[:8])}{', …' if len(names) > 8 else ''}"
    return otherwise


def _fault(name: object, parts: list[str]) -> str:
    if not isinstance(name, str):
        return "a name is text"
    if len(name) > _MAX_LENGTH:
        return f"it has more than {_MAX_LENGTH} characters"
    if _LIKE_A_DIGEST.fullmatch(name):
        return "it looks like a digest"
    if len(parts) > _MAX_PARTS:
        return f"it has more than {_MAX_PARTS} parts"
    for part in parts:
        if not _PART.fullmatch(part):
            return f"{_shown(part)} is not a name"
        if ".." in part or part.endswith((".", ".lock")):
            return f"{_shown(part)} has '..', or ends in '.' or '.lock'"
    return ""


def _shown(name: object) -> str:
    text = ascii(name)
    return text if len(text) <= 80 else f"{text[:77]}..."
