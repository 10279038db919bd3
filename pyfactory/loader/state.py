"""What a checkpoint keeps of a loader: the next position, and the identity of the stream that it belongs to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pyfactory.core.rng import SPEC_VERSION
from pyfactory.errors import InvalidInputError, NewerFormatError
from pyfactory.stream.identity import differences

__all__ = ["FORMAT", "checked_position"]

FORMAT = 1

# Characters of a value that a message shows.
_SHOWN = 80

Redactions = Sequence[Mapping[str, Any]] | Mapping[str, Sequence[Mapping[str, Any]]]


def checked_position(state: Mapping[str, Any], identity: Mapping[str, Any], redactions: Redactions = ()) -> int:
    """Return the position in a state, or say why the state is none of a stream with this replay identity.

    What was forgotten after the state was saved is no difference: no position moves. Neither is a phase that the stream
    has got since, if it begins at the position of the state or behind it.

    Args:
        state: What `DataLoader.state_dict` returned.
        identity: The stream's.
        redactions: What the identity said of redactions earlier and says now, oldest first: of the one table of the
            stream, or by the digest of each version; see `Stream.redactions`.

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
    if isinstance(there, Mapping):
        spec = there.get("spec")
        if isinstance(spec, int) and spec > SPEC_VERSION:
            raise NewerFormatError(
                f"the state belongs to a stream of specification {spec}, and this pyfactory knows {SPEC_VERSION}",
                hint="upgrade pyfactory",
            )
        if _knows(there, identity, redactions):
            identity, there = _without(identity, "redactions"), _without(there, "redactions")
        here, later = _as_far_as(identity, there)
        _check_same(here, *_shortened(there, here))
    else:
        _check_same(identity, there, ())
        later = None
    position = state["position"]
    if isinstance(position, bool) or not isinstance(position, int) or not 0 <= position < 2**62:
        raise InvalidInputError(f"the position in the loader state is {position!r}")
    if later is not None and position > later:
        raise InvalidInputError(
            f"the stream has a phase from position {later} on that the state at position {position} does not know: a "
            "phase before the current position would change what was delivered",
            hint=f"begin the phase at {position} or behind it",
        )
    return position


def _check_same(here: Mapping[str, Any], there: Any, lacking: Sequence[Any]) -> None:
    """Refuse the identity of another stream; `lacking` are phases of it behind all of ours."""
    differing = [
        f"{name} is {_shown(mine)} here and {_shown(other)} in the state"
        for name, mine, other in differences(here, there)
    ]
    hint = "make the stream as the run that saved the state did"
    if lacking:
        at = ", ".join(f"{phase['at']:,}" for phase in lacking[:8]) + (", ..." if len(lacking) > 8 else "")
        differing.append(f"the state has {'a phase' if len(lacking) == 1 else 'phases'} at {at} that this stream lacks")
        if len(differing) == 1:
            hint = "extend the stream with `then` as the run did"
    if differing:
        raise InvalidInputError(f"the state belongs to another stream: {'; '.join(differing)}", hint=hint)


def _shortened(there: Mapping[str, Any], here: Mapping[str, Any]) -> tuple[Mapping[str, Any], Sequence[Any]]:
    """Return a state's identity with no more phases than ours, and the phases left out; it may be damaged."""
    phases, count = there.get("then"), len(here.get("then", []))
    if not isinstance(phases, list) or not all(_begins(phase) for phase in phases[count:]):
        return there, ()
    kept = {"then": phases[:count]} if count else {}
    return {**_without(there, "then"), **kept}, phases[count:]


def _begins(phase: Any) -> bool:
    return isinstance(phase, Mapping) and isinstance(phase.get("at"), int)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."


def _as_far_as(identity: Mapping[str, Any], there: Mapping[str, Any]) -> tuple[Mapping[str, Any], int | None]:
    """Return an identity with no more phases than another lists, and where the first one left out begins."""
    phases, listed = identity.get("then", []), there.get("then", [])
    if not isinstance(listed, list) or len(listed) >= len(phases):
        return identity, None
    kept = {"then": phases[: len(listed)]} if listed else {}
    return {**_without(identity, "then"), **kept}, phases[len(listed)]["at"]


def _knows(there: Mapping[str, Any], identity: Mapping[str, Any], redactions: Redactions) -> bool:
    """Tell whether all redactions that a state's identity names are among ours."""
    said = there.get("redactions")
    if said is None:
        return True
    if not isinstance(said, Mapping):
        return False
    history = redactions if isinstance(redactions, Mapping) else {_first_version(identity): redactions}
    # Of a single table the identity does not repeat the version; a stream gets more tables with its phases.
    named = {_first_version(there): said} if set(said) == {"count", "digest"} else said
    return all(known in history.get(version, ()) for version, known in named.items())


def _first_version(identity: Mapping[str, Any]) -> Any:
    match identity.get("sources"):
        case [{"version": str(version)}, *_]:
            return version
    return None


def _without(identity: Mapping[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in identity.items() if name != key}
