"""Keys in files, and signatures over bytes."""

from __future__ import annotations

import errno
import os
import pickle
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization as formats
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from pyfactory.errors import InvalidInputError, NotFoundError, UnavailableError
from pyfactory.repo.signing import Signer, check_public, is_encrypted, read_public, verify_bytes

ED25519 = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
SIGNER = Signer(ED25519)
PEM, PKCS8, OPENSSH = formats.Encoding.PEM, formats.PrivateFormat.PKCS8, formats.PrivateFormat.OpenSSH

# RFC 8032, section 7.1, TEST 3.
SECRET = "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7"
PUBLIC = "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025"
MESSAGE = "af82"
SIGNATURE = (
    "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac"
    "18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a"
)


def written(path: Path, content: bytes, mode: int = 0o600) -> Path:
    path.write_bytes(content)
    path.chmod(mode)
    return path


def pem(key: object = ED25519, password: str = "", format_: formats.PrivateFormat = PKCS8) -> bytes:
    how = formats.BestAvailableEncryption(password.encode()) if password else formats.NoEncryption()
    return key.private_bytes(PEM, format_, how)  # type: ignore[attr-defined, no-any-return]


def test_it_is_the_ed25519_of_rfc_8032() -> None:
    """Catches a hash of the content in between, and swapped halves."""
    signer = Signer(Ed25519PrivateKey.from_private_bytes(bytes.fromhex(SECRET)))
    assert (signer.public, signer.sign(bytes.fromhex(MESSAGE)).hex()) == (PUBLIC, SIGNATURE)
    assert verify_bytes(PUBLIC, bytes.fromhex(MESSAGE), bytes.fromhex(SIGNATURE))


@given(content=st.binary(min_size=1, max_size=80), part=st.integers(0, 2), bit=st.integers(0, 10**6))
def test_any_flipped_bit_is_noticed(content: bytes, part: int, bit: int) -> None:
    """Catches a verification that looks at less than the whole content, key or signature."""
    parts = [bytearray(bytes.fromhex(SIGNER.public)), bytearray(content), bytearray(SIGNER.sign(content))]
    assert verify_bytes(parts[0].hex(), bytes(parts[1]), bytes(parts[2]))
    bit %= 8 * len(parts[part])
    parts[part][bit // 8] ^= 1 << bit % 8
    assert not verify_bytes(parts[0].hex(), bytes(parts[1]), bytes(parts[2]))


@pytest.mark.parametrize("public", ["", "zz" * 32, "ab", SIGNER.public.upper(), "\uff21" * 64])
@pytest.mark.parametrize("signature", [b"", b"x" * 63, b"x" * 64])
def test_what_is_no_key_or_signature_verifies_nothing(public: str, signature: bytes) -> None:
    assert not verify_bytes(public, b"content", signature)


def test_a_key_is_made_for_its_owner_only(tmp_path: Path) -> None:
    """Catches a file made with the mode of the umask, and one that replaces another key."""
    old = os.umask(0)
    try:
        signer = Signer.generate(tmp_path / "key")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600
    assert Signer.load(tmp_path / "key").public == signer.public == read_public(tmp_path / "key")
    before = (tmp_path / "key").read_bytes()
    with pytest.raises(InvalidInputError, match="never overwritten"):
        Signer.generate(tmp_path / "key")
    assert (tmp_path / "key").read_bytes() == before
    with pytest.raises(NotFoundError):
        Signer.generate(tmp_path / "none" / "key")


@pytest.mark.parametrize("format_", [PKCS8, OPENSSH], ids=["PEM", "OpenSSH"])
def test_both_formats_are_read(tmp_path: Path, format_: formats.PrivateFormat) -> None:
    path = written(tmp_path / "key", pem(format_=format_))
    assert Signer.load(path).public == Signer.load(str(path), "not needed").public == SIGNER.public
    assert Signer.load(path).sign(b"x") == SIGNER.sign(b"x")


def test_an_encrypted_key_needs_its_password(tmp_path: Path) -> None:
    """Catches a key that is taken without its password, and a message that quotes one."""
    path = written(tmp_path / "key", pem(password="open"))
    assert is_encrypted(path) and not is_encrypted(written(tmp_path / "plain", pem()))
    assert Signer.load(path, "open").public == SIGNER.public
    with pytest.raises(InvalidInputError, match="encrypted"):
        Signer.load(path)
    with pytest.raises(InvalidInputError, match="password is wrong") as refused:
        Signer.load(path, "sesame")
    assert "sesame" not in str(refused.value)


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o606])
def test_a_key_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    """Catches a check of the owner's bits."""
    path = written(tmp_path / "key", pem(), mode)
    for read in (Signer.load, is_encrypted, read_public):
        with pytest.raises(InvalidInputError, match="other users") as refused:
            read(path)
        assert refused.value.hint == f"chmod 600 {path}"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (pem(rsa.generate_private_key(65537, 1024)), "another kind of key"),
        (pem(ec.generate_private_key(ec.SECP256R1()), format_=OPENSSH), "another kind of key"),
        (b"", "no private key"),
        (b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "no private key"),
        (pem(format_=OPENSSH)[:200], "no private key"),
        (b"\xff" * 1000, "no private key"),
        (SIGNER.public.encode(), "no private key"),
    ],
)
def test_what_is_no_ed25519_key_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    with pytest.raises(InvalidInputError, match=said) as refused:
        Signer.load(written(tmp_path / "key", content))
    assert refused.value.hint


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    """Catches waiting for the writer of a pipe."""
    os.mkfifo(tmp_path / "pipe", 0o600)
    for path in (tmp_path / "pipe", tmp_path):
        with pytest.raises(InvalidInputError):
            Signer.load(path)
    with pytest.raises(NotFoundError, match="no key"):
        Signer.load(tmp_path / "none")


@given(st.binary(max_size=200), st.sampled_from([b"", b"-----BEGIN OPENSSH PRIVATE KEY-----\n", pem()[:60], b"ssh-"]))
def test_hostile_key_files(tmp_path_factory: pytest.TempPathFactory, content: bytes, start: bytes) -> None:
    path = written(tmp_path_factory.getbasetemp() / "hostile", start + content)
    for read in (Signer.load, read_public):
        with pytest.raises(InvalidInputError):
            read(path)


def test_public_keys_are_read_from_every_format(tmp_path: Path) -> None:
    public = ED25519.public_key()
    for format_, encoding in (("OpenSSH", "OpenSSH"), ("SubjectPublicKeyInfo", "PEM")):
        content = public.public_bytes(getattr(formats.Encoding, encoding), getattr(formats.PublicFormat, format_))
        assert read_public(written(tmp_path / "key.pub", content + b"\n", 0o644)) == SIGNER.public
    assert read_public(written(tmp_path / "key.pub", f"{SIGNER.public}\n".encode(), 0o644)) == SIGNER.public


def test_keys_with_which_everybody_can_sign_are_refused() -> None:
    """Catches a check of the form only: 32 zero bytes and their like verify forged signatures."""
    identity = "01" + "00" * 31
    forged = bytes.fromhex(identity) + bytes(32)
    assert verify_bytes(identity, b"anything", forged), "so says the library"
    order_8 = "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"
    other_8 = "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"
    last = "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"
    for y in (identity, "00" * 32, order_8, other_8, last, "ed" + last[2:], "ee" + last[2:]):
        for sign in (0, 0x80):
            key = y[:62] + f"{int(y[62:], 16) | sign:02x}"
            with pytest.raises(InvalidInputError, match="not the public key"):
                check_public(key)
    for text in (None, "", "ab", SIGNER.public.upper(), SIGNER.public + "\n"):
        with pytest.raises(InvalidInputError, match="no public key"):
            check_public(text)


@given(st.binary(min_size=32, max_size=32))
def test_real_keys_are_taken(secret: bytes) -> None:
    public = Signer(Ed25519PrivateKey.from_private_bytes(secret)).public
    assert check_public(public) == public


def test_a_private_key_is_never_shown_or_sent() -> None:
    assert repr(SIGNER) == f"Signer({SIGNER.public})"
    with pytest.raises(InvalidInputError):
        pickle.dumps(SIGNER)


def test_a_full_disk_leaves_no_part_of_a_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches an empty file that refuses the next try, since a key is never overwritten."""

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched, pytest.raises(UnavailableError, match="no space left"):
        patched.setattr(os, "fsync", full)
        Signer.generate(tmp_path / "key.pem")
    assert [*tmp_path.iterdir()] == []
    Signer.generate(tmp_path / "key.pem")
