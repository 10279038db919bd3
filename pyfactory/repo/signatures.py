"""Signatures: who vouches for a commit, a tag, or a change of the rules.

What is signed is a *statement*, a small canonical value, after a prefix that no other use of a key shares. Each
signature is an object of its own, stored under the digest of its statement and the public key:

    signatures/ab/cdef…/<public key>

It proves itself, so it needs no ref and may come long after its commit; whoever can write the store can remove one, and
nobody without the private key can make one. A tag's statement names the repository (by the digest of its first log
entry), the tag and the commit; that of a change of rules or keys also names the log entry before it, so no signature
can be used again elsewhere, or later.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from pyfactory.core.canonical import Value, decode, digest_of_value, encode
from pyfactory.core.digest import Digest, digest_of
from pyfactory.errors import CorruptError, InvalidInputError, NewerFormatError, NotFoundError
from pyfactory.repo.fields import Fields, read_fields, read_versioned
from pyfactory.repo.home import Home
from pyfactory.repo.objects import load_commit
from pyfactory.repo.operation import Change
from pyfactory.repo.oplog import log_key
from pyfactory.repo.signing import Signer, verify_bytes

__all__ = [
    "SIGNATURES",
    "Signature",
    "Statement",
    "change_statement",
    "commit_statement",
    "repository_identity",
    "rule_statement",
    "sign",
    "sign_commit",
    "sign_tag",
    "signature_key",
    "signed_by",
    "tag_statement",
]

Statement = Mapping[str, Value]
"""What a signature vouches for, as a canonical value."""

SIGNATURES = "signatures"
"""Folder of all signatures."""

_PREFIX = b"pyfactory signature v1\0"
_PUBLIC = re.compile(r"[0-9a-f]{64}", re.ASCII)
_SIGNATURE = re.compile(r"[0-9a-f]{128}", re.ASCII)
_CHANGE = ("new", "old", "ref", "repository")
_FIELDS = {
    "change": _CHANGE,
    "commit": ("commit",),
    "rule": (*_CHANGE, "after"),
    "tag": ("commit", "name", "repository"),
}


def repository_identity(home: Home) -> Digest:
    """Return what tells this repository from all others, copies of it excepted: the digest of its first log entry."""
    return digest_of(home.store.get(log_key(0)))


def commit_statement(commit: Digest) -> Statement:
    """Return the statement that one vouches for a commit, wherever it is stored: its digest covers all its bytes."""
    return {"commit": commit, "kind": "commit"}


def tag_statement(home: Home, name: str, commit: Digest) -> Statement:
    """Return the statement that in this repository the tag `name` (without `tag/`) is to name a commit."""
    return {"commit": commit, "kind": "tag", "name": name, "repository": repository_identity(home)}


def change_statement(home: Home, change: Change) -> Statement:
    """Return the statement that a ref of this repository may be moved so, at any time."""
    moved = {"new": change.new, "old": change.old, "ref": change.ref}
    return {"kind": "change", "repository": repository_identity(home), **moved}


def rule_statement(home: Home, change: Change, after: Digest) -> Statement:
    """Return the statement that a ref may be moved so by the log entry directly behind the one named `after`."""
    return {**change_statement(home, change), "after": after, "kind": "rule"}


@dataclass(frozen=True, slots=True)
class Signature:
    """One stored signature, well formed and not yet believed.

    Attributes:
        key: The public key, 64 hexadecimal digits.
        signature: 64 bytes.
        statement: What it vouches for.
    """

    key: str
    signature: bytes
    statement: Statement

    def to_bytes(self) -> bytes:
        """Return the canonical bytes."""
        signature = self.signature.hex()
        value = {"key": self.key, "kind": "signature", "signature": signature, "statement": dict(self.statement)}
        return encode({**value, "v": 1})

    @classmethod
    def from_bytes(cls, content: bytes, what: str) -> Signature:
        """Return the signature of hostile bytes; `what` names them in a CorruptError."""
        names = ("key", "signature", "statement")
        fields = read_versioned(decode(content, what), names, what, kind="signature")
        key, signature = fields.text("key"), fields.text("signature")
        if not _PUBLIC.fullmatch(key) or not _SIGNATURE.fullmatch(signature):
            raise CorruptError(f"{what} holds no Ed25519 signature and key")
        return cls(key, bytes.fromhex(signature), _checked(fields.mapping("statement"), f"{what}: its statement"))

    def is_genuine(self) -> bool:
        """Tell whether the owner of the key made it, over exactly this statement."""
        return verify_bytes(self.key, _signed_bytes(self.statement), self.signature)


def signature_key(statement: Statement, public: str) -> str:
    """Return the key under which the signature of a statement by one public key is stored."""
    digest = digest_of_value(dict(statement))
    return f"{SIGNATURES}/{digest[:2]}/{digest[2:]}/{public}"


def sign(home: Home, statement: Statement, signer: Signer) -> None:
    """Sign a statement and store the signature; doing it again changes nothing.

    Raises:
        InvalidInputError: It is not a statement.
        UnavailableError, ReadOnlyError: The store failed; the signature may be there.
    """
    try:
        _checked(statement, "the statement")
    except CorruptError as error:
        raise InvalidInputError(error.message) from error
    content = Signature(signer.public, signer.sign(_signed_bytes(statement)), statement).to_bytes()
    key = signature_key(statement, signer.public)
    if not home.store.create(key, content) and _stored(home, key) != content:
        # Ed25519 is deterministic: whatever else lies there is damaged or was never ours, and counts for nobody.
        home.store.replace(key, content)


def sign_commit(home: Home, commit: Digest, signer: Signer) -> None:
    """Sign a commit that is stored; errors as of `sign`, and NotFoundError or CorruptError if it is not."""
    load_commit(home.objects, commit, home.url)
    sign(home, commit_statement(commit), signer)


def sign_tag(home: Home, name: str, commit: Digest, signer: Signer) -> None:
    """Sign that the tag `name` (without `tag/`), which may be made later, names a commit; errors as of `sign`."""
    sign(home, tag_statement(home, name, commit), signer)


def signed_by(home: Home, statement: Statement, keys: Mapping[str, str]) -> str | None:
    """Return the name of the first trusted key, by name, that signed a statement, or None. One request per key.

    A signature that is damaged, of an unknown format, or filed under a statement or key that is not its own does not
    count.

    Args:
        home: The repository.
        statement: What must be signed.
        keys: Trusted public keys by name.
    """
    for name, public in sorted(keys.items()):
        key = signature_key(statement, public)
        content = _stored(home, key)
        if content is None:
            continue
        with suppress(CorruptError, NewerFormatError):
            found = Signature.from_bytes(content, f"{home.url}/{key}")
            if found.key == public and found.statement == statement and found.is_genuine():
                return name
    return None


def _stored(home: Home, key: str) -> bytes | None:
    try:
        return home.store.get(key)
    except NotFoundError:
        return None


def _signed_bytes(statement: Statement) -> bytes:
    return _PREFIX + encode(dict(statement))


def _checked(value: Statement, what: str) -> Statement:
    """Return a statement, or raise CorruptError unless it is one of those that this module makes."""
    kind = value.get("kind")
    if not isinstance(kind, str) or kind not in _FIELDS:
        raise CorruptError(f"{what} is of no known kind")
    fields = read_fields(value, ("kind", *_FIELDS[kind]), what)
    for name in _FIELDS[kind]:
        _check_field(fields, name)
    return value


def _check_field(fields: Fields, name: str) -> None:
    if name in ("name", "ref"):
        fields.text(name)
    elif name in ("new", "old"):
        fields.digest_or_none(name)
    else:
        fields.digest(name)
