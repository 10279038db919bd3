"""What a checkpoint keeps of a loader: the next position, and the identity of the stream that it belongs to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pyfactory.errors import InvalidInputError, NewerFormatError

__all__ = ["FORMAT", "checked_position", "differences"]

FORMAT = 1


def checked_position(
    state: Mapping[str, Any], identity: Mapping[str, Any], redactions: Sequence[Mapping[str, Any]] = ()
) -> int:
    """Return the position in a state, or say why the state is none of a stream with this replay identity.

    What was forgotten after the state was saved is no difference: no position moves.

    Args:
        state: What `DataLoader.state_dict` returned.
        identity: The stream's.
        redactions: What the identity said of redactions earlier and says now; see `Stream.redactions`.

    Raises:
        InvalidInputError: Not a state, or a state of another stream; the message lists what differs.
        NewerFormatError: Written by a newer pyfactory.
    """
    if not isinstance(state, Mapping) or not {"format", "position", "identity"} <= set(state):
        raise InvalidInputError(
            "this is not the state of a pyfactory loader", hint="give what DataLoader.state_dict() returned"
        )
    if state["format"] != FORMAT:
        raise NewerFormatError(f"the loader state has format {state['format']!r}", hint="upgrade pyfactory")
    there = state["identity"]
    if isinstance(there, Mapping) and there.get("redactions") in (None, *redactions):
        identity, there = _unredacted(identity), _unredacted(there)
    differing = list(differences(identity, there))
    if differing:
        raise InvalidInputError(
            f"the state belongs to another stream: {'; '.join(differing)}",
            hint="make the stream as the run that saved the state did",
        )
    position = state["position"]
    if isinstance(position, bool) or not isinstance(position, int) or not 0 <= position < 2**62:
        raise InvalidInputError(f"the position in the loader state is {position!r}")
    return position


def _unredacted(identity: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in identity.items() if name != "redactions"}


def differences(here: Any, there: Any, path: str = "") -> Iterator[str]:
    """Yield 'name: value here, value there' for each leaf at which two canonical values differ."""
    if isinstance(here, Mapping) and isinstance(there, Mapping):
        for key in sorted({*here, *there}, key=str):
            yield from differences(here.get(key), there.get(key), f"{path}.{key}" if path else str(key))
    elif isinstance(here, list) and isinstance(there, list) and len(here) == len(there):
        for i, (mine, other) in enumerate(zip(here, there, strict=True)):
            yield from differences(mine, other, f"{path}[{i}]")
    elif here != there or type(here) is not type(there):
        yield f"{path} is {here!r} here and {there!r} in the state"
