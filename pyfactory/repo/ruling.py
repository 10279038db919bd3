"""Changing the rules of branches and the keys that are trusted.

Once a key is trusted, every change of a rule or of the keys must be signed by a key that was trusted before it. The
signature names the log entry that the change comes directly behind, so neither an old change nor one of another
repository can be put in again, and a key that is distrusted meanwhile signs nothing more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from pyfactory.core.canonical import Value, encode
from pyfactory.core.digest import Digest, digest_of
from pyfactory.errors import ConflictError, InternalError, InvalidInputError, NotFoundError
from pyfactory.repo.format import check_writable, read_format, require_feature
from pyfactory.repo.home import Home
from pyfactory.repo.names import check_ref_name, check_table_name, check_text, suggestion
from pyfactory.repo.operation import Change, View
from pyfactory.repo.refusal import refuse
from pyfactory.repo.rules import KEYS, RULE, BranchRule, GateRule, keys_value, trusted_keys
from pyfactory.repo.signatures import rule_statement, sign
from pyfactory.repo.signing import Signer, check_public
from pyfactory.repo.swept import check_not_swept
from pyfactory.repo.transaction import check_expected, publish

__all__ = ["distrust_key", "publish_signed", "set_keys", "set_rule", "trust_key"]

_TRIES = 20
_LONGEST_WHY = 200


def set_rule(
    home: Home,
    branch: str,
    rule: BranchRule | None,
    who: str,
    why: str = "",
    signer: Signer | None = None,
    view: View | None = None,
) -> bool:
    """Make, change or (None) remove the rule of a branch, which need not exist yet; tell whether anything changed.

    Args:
        home: The repository.
        branch: The branch.
        rule: What is asked of its commits from now on.
        who: Who does it.
        why: Why, for the log.
        signer: A trusted key; needed once there are any.
        view: What the rule was decided on, where it changes an older one; by default the newest.

    Raises:
        InvalidInputError: The branch cannot have that name, or a gate, table, option or evaluation set does not exist.
        RefusedError: Keys are trusted and the signer has none of them; the refusal is in the log.
        ConflictError: Somebody else changed the rule meanwhile. Nothing was published.
        UnavailableError, UnknownOutcomeError: See `transaction.publish`.
    """
    check_ref_name(branch, "branch")
    needed = [digest for gate in (() if rule is None else rule.gates) for digest in _needed(home, gate)]
    what = f"remove the rule of {branch}" if rule is None else f"set the rule of {branch}"
    return _set(home, RULE + branch, None if rule is None else rule.to_value(), (who, what, why), signer, view, needed)


def set_keys(home: Home, keys: Mapping[str, str], who: str, why: str = "", signer: Signer | None = None) -> bool:
    """Replace all trusted keys, public keys by name; no keys, and nothing needs a signature any more.

    Returns:
        Whether anything changed.

    Raises:
        InvalidInputError: A name or key is not one, or two names have the same key.
        RefusedError, ConflictError, UnavailableError, UnknownOutcomeError: As of `set_rule`.
    """
    _check_keys(keys)
    return _set(home, KEYS, keys_value(keys) if keys else None, (who, "set the trusted keys", why), signer)


def trust_key(home: Home, name: str, public: str, who: str, why: str = "", signer: Signer | None = None) -> bool:
    """Trust one more key, or another one under a name; tell whether anything changed. Errors as of `set_keys`."""
    view = home.view()
    keys = {**trusted_keys(home, view), name: public}
    _check_keys(keys)
    return _set(home, KEYS, keys_value(keys), (who, f"trust the key {name}", why), signer, view)


def distrust_key(home: Home, name: str, who: str, why: str = "", signer: Signer | None = None) -> None:
    """Trust a key no more: from now on none of its signatures counts, old ones included.

    Raises:
        NotFoundError: No key of that name is trusted.
        RefusedError, ConflictError, UnavailableError, UnknownOutcomeError: As of `set_rule`.
    """
    view = home.view()
    keys = trusted_keys(home, view)
    if keys.pop(name, None) is None:
        raise NotFoundError(f"{home.url}: no key {name!r} is trusted", hint=suggestion(name, keys))
    _set(home, KEYS, keys_value(keys) if keys else None, (who, f"distrust the key {name}", why), signer, view)


def publish_signed(
    home: Home,
    view: View,
    changes: Iterable[Change],
    who: str,
    what: str,
    why: str,
    signer: Signer | None,
    contents: Sequence[bytes] = (),
    needed: Sequence[Digest] = (),
) -> View:
    """Move refs that need the signature of a trusted key as soon as there is one, all at once or none.

    Args:
        home: The repository.
        view: What the changes were decided on.
        changes: The refs that move, with their old values.
        who: Who does it.
        what: What it does, in a few words, such as `set the rule of main`.
        why: Why; "" leaves `what` to speak for itself.
        signer: The key.
        contents: Objects that the changes name, which are stored here.
        needed: Further objects that must be there.

    Raises:
        InvalidInputError: The repository is of an older format, which knows no rules.
        RefusedError: Keys are trusted and the signer has none of them; the refusal is in the log.
        ConflictError: A ref was moved meanwhile, or a sweep deletes what is needed. Nothing was published.
        UnavailableError, UnknownOutcomeError: See `transaction.publish`.
    """
    ordered = tuple(changes)
    for _ in range(_TRIES):
        check_expected(home.oplog, view, ordered)
        _check_signer(home, view, ordered, who, what, signer)
        require_feature(home, "rules")
        # Stored after the view, which is what is published behind: a sweep that begins later is another entry.
        stored = [home.objects.put(content) for content in contents]
        named = [change.new for change in ordered if change.new is not None]
        check_not_swept(home, view, {*stored, *named, *needed})
        for change in ordered if signer is not None else ():
            sign(home, rule_statement(home, change, view.digest), signer)  # type: ignore[arg-type]
        try:
            return publish(home.oplog, view, ordered, who, (why or what)[:_LONGEST_WHY], exact=True)
        except ConflictError:
            view = home.view()  # another entry came first: whose keys count may have changed, and what to sign has
    raise ConflictError(f"{home.url}: others write all the time, {what} found no moment", hint="run it again")


def _set(
    home: Home,
    ref: str,
    value: dict[str, Value] | None,
    told: tuple[str, str, str],
    signer: Signer | None,
    view: View | None = None,
    needed: Sequence[Digest] = (),
) -> bool:
    """Let a ref name a value, or nothing; `told` is who, what and why."""
    who, what, why = told
    check_text(who, "author")
    check_text(why, "message")
    check_writable(home.url, read_format(home.store))
    content = None if value is None else encode(value)
    view = view or home.view()
    change = Change(ref, view.refs.get(ref), None if content is None else digest_of(content))
    if change.old == change.new:
        return False
    publish_signed(home, view, [change], who, what, why, signer, () if content is None else (content,), needed)
    return True


def _check_signer(
    home: Home, view: View, changes: Iterable[Change], who: str, what: str, signer: Signer | None
) -> None:
    """Raise RefusedError, after writing it down, unless the signer may change what needs a signature."""
    trusted = trusted_keys(home, view)
    if not trusted or (signer is not None and signer.public in trusted.values()):
        return
    whose = "there is none" if signer is None else f"{signer.public} is not trusted"
    details: dict[str, Value] = {"changes": [change.ref for change in changes]}
    details |= {"key": None if signer is None else signer.public, "trusted": sorted(trusted)}
    hint = f"sign with a key of {', '.join(sorted(trusted)[:8])}: --key FILE"
    raise refuse(home, who, what, f"it needs the signature of a trusted key, and {whose}", details, hint)


def _check_keys(keys: Mapping[str, str]) -> None:
    for name, public in keys.items():
        check_ref_name(name, "key")
        if "/" in name:
            raise InvalidInputError(f"a key cannot be called {name}: '/' separates parts", hint="one word")
        check_public(public)
    names = {public: name for name, public in keys.items()}
    for name, public in keys.items():
        if names[public] != name:  # distrusting one name would leave the other
            raise InvalidInputError(f"the keys {name} and {names[public]} are the same", hint="give it one name")


def _needed(home: Home, gate: GateRule) -> tuple[Digest, ...]:
    """Return the objects that a gate needs; InvalidInputError unless it can be made and has what it needs."""
    from pyfactory.repo.gates.open import load_needed

    if gate.table != "*":
        check_table_name(gate.table)
    try:
        encode(gate.to_value())
    except InternalError as error:
        hint = "options are numbers, texts, true, false and lists of texts; fractions are texts such as 0.05"
        raise InvalidInputError(f"gate {gate.gate}: {error.message}", hint=hint) from error
    try:
        return load_needed(home.objects, gate)
    except NotFoundError as error:
        hint = "pyfactory gate add-set REPO NAME FILE stores one and prints its digest"
        what = f"gate {gate.gate} has no evaluation set: {home.url}: {error.message}"
        raise InvalidInputError(what, hint=hint) from error
