from __future__ import annotations

import gc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyfactory.core.digest import Buffer
from pyfactory.errors import InvalidInputError, ReadOnlyError, UnavailableError
from pyfactory.store.base import Scratch, check_key, check_prefix, check_range, prove_put_if_absent
from pyfactory.store.memory import MemoryStore
from pyfactory.store.wrap import Faulty


class LastWriterWins(MemoryStore):
    """A store as S3 was before 2024: creates overwrite."""

    def create(self, key: str, content: Buffer) -> bool:
        self.replace(key, content)
        return True


class NobodyWins(MemoryStore):
    """A store whose creates land but say that the key was taken."""

    def create(self, key: str, content: Buffer) -> bool:
        super().create(key, content)
        return False


class EverybodyWins(MemoryStore):
    """A store that keeps one of the contents (the lowest) and tells everybody that it is theirs."""

    def create(self, key: str, content: Buffer) -> bool:
        if super().create(key, content) or bytes(content) < self.get(key):
            self.replace(key, content)
        return True


class LosersOverwrite(MemoryStore):
    """A store that tells the truth about who was first, and then takes the others' content."""

    def create(self, key: str, content: Buffer) -> bool:
        if super().create(key, content):
            return True
        self.replace(key, content)
        return False


@pytest.mark.parametrize("kind", [LastWriterWins, NobodyWins, EverybodyWins, LosersOverwrite])
def test_a_store_without_put_if_absent_is_refused(kind: type[MemoryStore]) -> None:
    """Catches a proof that always succeeds."""
    store = kind()
    with pytest.raises(UnavailableError, match="no put-if-absent"):
        prove_put_if_absent(store)
    assert list(store.list("")) == []


def test_the_proof_passes_on_why_a_store_fails() -> None:
    def deny(number: int, method: str, key: str) -> None:
        if method == "create":
            raise ReadOnlyError("not yours")

    with pytest.raises(ReadOnlyError, match="not yours"):
        prove_put_if_absent(Faulty(MemoryStore(), deny))


def test_the_proof_bears_a_writer_that_fails() -> None:
    """One answer of eight is an error: there is one winner among the others, which is all that matters."""

    def fail_once(number: int, method: str, key: str) -> None:
        if number == 0:
            raise UnavailableError("collided")

    prove_put_if_absent(Faulty(MemoryStore(), fail_once))


@given(st.text())
def test_no_key_leaves_the_store(text: str) -> None:
    """Whatever passes is relative, stays inside and is the same on every store."""
    try:
        check_key(text)
    except InvalidInputError:
        return
    segments = text.split("/")
    assert text.isascii() and segments[0] != "tmp"
    assert all(segment and not segment.startswith(".") for segment in segments)


@given(st.from_regex(r"[a-z0-9_=+@-][a-z0-9._=+@-]{0,20}(/[A-Z0-9_=+@-][A-Z.]{0,20}){0,9}", fullmatch=True))
def test_portable_keys_pass(text: str) -> None:
    if text.split("/")[0] != "tmp":
        assert check_key(text) == text
        assert check_prefix(text + "/") == check_prefix(text) == text


def test_ranges_with_and_without_a_size() -> None:
    check_range("k", 0, 0)
    check_range("k", 3, 5, 5)
    with pytest.raises(InvalidInputError, match="has 4 bytes"):
        check_range("k", 3, 5, 4)
    for start, stop in [(-1, 2), (3, 2)]:
        with pytest.raises(InvalidInputError, match="not a range of k"):
            check_range("k", start, stop)


def test_scratch_goes_with_its_owner() -> None:
    scratch = Scratch()
    folder = scratch.folder()
    (folder / "file").write_bytes(b"x")
    assert scratch.folder() == folder
    del scratch
    gc.collect()
    assert not folder.exists()
