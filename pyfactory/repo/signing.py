"""Ed25519 (RFC 8032): keys in files, signatures over bytes. The only home of `cryptography`.

A public key is 64 hexadecimal digits everywhere else. A private key never leaves its `Signer`: no text of it is
printed, stored or part of an error.
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyfactory.core.durable import translate_os_error
from pyfactory.errors import InvalidInputError, NotFoundError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

__all__ = ["Signer", "check_public", "is_encrypted", "read_public", "verify_bytes"]

_PUBLIC = re.compile(r"[0-9a-f]{64}", re.ASCII)
_LARGEST_FILE = 1 << 16
_OPENSSH = b"BEGIN OPENSSH PRIVATE KEY"
_ONLY = "only Ed25519 keys sign: pyfactory key new FILE, or ssh-keygen -t ed25519 -f FILE"

# The curve, for the one check that no library makes: see check_public.
_P = 2**255 - 19
_D = -121665 * pow(121666, -1, _P) % _P
_ORDER_8 = 2707385501144840649318225287225658788936804267575313519463743609750303402022
_SMALL_ORDER = {0, 1, _P - 1, _ORDER_8, _P - _ORDER_8}  # y of the eight points that sign everything


class Signer:
    """A private Ed25519 key that signs.

    Use `Signer.load` and `Signer.generate`. It cannot be pickled, and its `repr` shows the public key only.
    """

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.public: str = key.public_key().public_bytes_raw().hex()
        """The public key, 64 hexadecimal digits."""

    def __repr__(self) -> str:
        return f"Signer({self.public})"

    def __reduce__(self) -> tuple[Any, ...]:
        raise InvalidInputError("a private key is not sent anywhere", hint="load it where it is needed")

    @classmethod
    def load(cls, path: str | Path, password: str | None = None) -> Signer:
        """Read a private key: PEM (PKCS8) or OpenSSH.

        Args:
            path: The file; nobody but its owner may be able to read it.
            password: Opens an encrypted key; not used for another one.

        Raises:
            NotFoundError: There is no such file.
            InvalidInputError: It is no Ed25519 private key, others can read it, or the password is missing or wrong.
            ReadOnlyError: There is no permission to read it.
        """
        content = _read(Path(path), private=True)
        key = _parsed(content, None, path)
        if key is None and not password:
            raise InvalidInputError(f"{path}: the key is encrypted", hint="give its password")
        key = key or _parsed(content, str(password).encode(errors="surrogateescape"), path)
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        if not isinstance(key, Ed25519PrivateKey):
            kind = type(key).__name__.removesuffix("PrivateKey")
            raise InvalidInputError(f"{path} holds another kind of key ({kind})", hint=_ONLY)
        return cls(key)

    @classmethod
    def generate(cls, path: str | Path) -> Signer:
        """Make a key and write it to a file that only its owner can read (PEM, PKCS8, not encrypted).

        Raises:
            InvalidInputError: There is a file of that name.
            NotFoundError, ReadOnlyError, UnavailableError: It cannot be written.
        """
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

        key = Ed25519PrivateKey.generate()
        content = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        with translate_os_error(path):
            try:
                descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            except FileExistsError:
                raise InvalidInputError(
                    f"{path} exists: a key is never overwritten", hint="choose a new name"
                ) from None
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
            except BaseException:
                Path(path).unlink()  # a part of a key is none, and would stand in the way of the next try
                raise
        return cls(key)

    def sign(self, content: bytes) -> bytes:
        """Return the signature of bytes, 64 bytes; the same content gives the same signature."""
        return self._key.sign(content)


def is_encrypted(path: str | Path) -> bool:
    """Tell whether a private key needs a password; errors as of `Signer.load`."""
    return _parsed(_read(Path(path), private=True), None, path) is None


def verify_bytes(public: str, content: bytes, signature: bytes) -> bool:
    """Tell whether a signature of `content` was made with the private key of `public` (64 hexadecimal digits)."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    if not _PUBLIC.fullmatch(public):
        return False
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(public)).verify(signature, content)
    except (InvalidSignature, ValueError):
        return False
    return True


def check_public(public: object) -> str:
    """Return a public key, or raise InvalidInputError unless somebody can have its private key.

    Half of all mistyped keys are no points of the curve. Eight points, such as 32 zero bytes, are worse: everybody can
    make signatures that verify with them.
    """
    if not isinstance(public, str) or not _PUBLIC.fullmatch(public):
        shown = ascii(public)[:80]
        raise InvalidInputError(f"{shown} is no public key", hint="64 hexadecimal digits: pyfactory key show FILE")
    y = int.from_bytes(bytes.fromhex(public), "little") % 2**255
    square = (y * y - 1) * pow(_D * y * y + 1, -1, _P) % _P  # of x; the denominator is never 0
    if y >= _P or y in _SMALL_ORDER or pow(square, (_P - 1) // 2, _P) != 1:
        raise InvalidInputError(f"{public} is not the public key of any Ed25519 key", hint="pyfactory key show FILE")
    return public


def read_public(path: str | Path) -> str:
    """Return the public key that a file holds: 64 hexadecimal digits, OpenSSH (`.pub`), PEM, or a private key's.

    Raises:
        NotFoundError: There is no such file.
        InvalidInputError: It holds no Ed25519 key, or is an encrypted private key.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key, load_ssh_public_key

    content = _read(Path(path), private=False)
    if b"PRIVATE KEY" in content:
        return Signer.load(path).public
    text = content.decode("ascii", "replace").strip()
    if _PUBLIC.fullmatch(text):
        return check_public(text)
    try:
        key = load_ssh_public_key(content) if content.startswith(b"ssh-") else load_pem_public_key(content)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise InvalidInputError(f"{path} holds no public key", hint=_ONLY) from error
    if not isinstance(key, Ed25519PublicKey):
        raise InvalidInputError(f"{path} holds another kind of key", hint=_ONLY)
    return check_public(key.public_bytes_raw().hex())


def _read(path: Path, *, private: bool) -> bytes:
    """Return the bytes of a key file, after a look at what it is and who can read it."""
    with translate_os_error(path):
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a pipe must not keep us
        except FileNotFoundError:
            raise NotFoundError(f"there is no key {path}", hint=f"pyfactory key new {path} makes one") from None
        with os.fdopen(descriptor, "rb") as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise InvalidInputError(f"{path} is not a file", hint="name the file of a key")
            content = file.read(_LARGEST_FILE)
    if private and b"PRIVATE KEY" in content and found.st_mode & 0o077:
        raise InvalidInputError(f"{path}: other users can read this private key", hint=f"chmod 600 {path}")
    return content


def _parsed(content: bytes, password: bytes | None, path: str | Path) -> object | None:
    """Return a private key, or None if it is encrypted and there is no password."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_ssh_private_key

    load = load_ssh_private_key if _OPENSSH in content else load_pem_private_key
    try:
        return load(content, password)
    except TypeError:
        return None  # a password is needed; that one is given and not needed was tried before
    except UnsupportedAlgorithm as error:
        hint = f"pip install bcrypt opens an OpenSSH key with a password, or take that away: ssh-keygen -p -f {path}"
        raise InvalidInputError(f"{path}: this encryption or kind of key is not supported", hint=hint) from error
    except ValueError as error:  # its text is not repeated: nobody knows what it quotes
        if password is not None:
            raise InvalidInputError(f"{path}: the password is wrong", hint="give the password of this key") from None
        raise InvalidInputError(f"{path} is no private key (PEM or OpenSSH)", hint=_ONLY) from error
