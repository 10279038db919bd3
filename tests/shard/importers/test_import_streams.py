"""Files read once: digests, unpacking in pieces, and streams that end too early."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from pyfactory.core.digest import digest_of
from pyfactory.errors import PyfactoryError, UnavailableError
from pyfactory.shard.importers.sources import expand
from pyfactory.shard.importers.streams import DamagedStreamError, RawFile, unpacked

SKIPPABLE = b"\x50\x2a\x4d\x18\x04\x00\x00\x00abcd"


def ignore(count: int) -> None:
    """Listen to nothing."""


def read_all(path: Path, size: int = 1 << 20, advanced: Callable[[int], None] = ignore) -> tuple[bytes, str]:
    """Unpack a file; return its content and its digest."""
    (source,) = expand([path])
    with RawFile(source, advanced) as raw:
        read = unpacked(raw)
        pieces = []
        while piece := read(size):
            assert len(piece) <= size
            pieces.append(piece)
        return b"".join(pieces), raw.finish()


def pack(path: Path, packed: bytes) -> Path:
    path.write_bytes(packed)
    return path


@given(
    st.lists(st.binary(max_size=300), min_size=1, max_size=4), st.integers(1, 500), st.sampled_from(["gz", "zst", ""])
)
def test_unpacking_gives_what_was_packed(
    tmp_path_factory: pytest.TempPathFactory, parts: list[bytes], size: int, how: str
) -> None:
    """Any number of members or frames, read in pieces of any size; the digest is that of the packed bytes."""
    compress = {"gz": gzip.compress, "zst": zstandard.compress, "": lambda part: part}[how]
    packed = b"".join(map(compress, parts))
    if not packed:
        return
    path = pack(tmp_path_factory.mktemp("in") / (f"a.jsonl.{how}" if how else "a.jsonl"), packed)
    assert read_all(path, size) == (b"".join(parts), digest_of(packed))


def test_padding_and_skippable_frames_are_no_content(tmp_path: Path) -> None:
    padded = gzip.compress(b"a\n") + bytes(1000) + gzip.compress(b"b\n") + bytes(300_000)
    assert read_all(pack(tmp_path / "a.jsonl.gz", padded)) == (b"a\nb\n", digest_of(padded))
    framed = zstandard.compress(b"a\n") + SKIPPABLE + zstandard.compress(b"b\n")
    assert read_all(pack(tmp_path / "a.jsonl.zst", framed)) == (b"a\nb\n", digest_of(framed))


@pytest.mark.parametrize("how", ["gz", "zst"])
def test_a_stream_cut_anywhere_is_noticed(tmp_path: Path, how: str) -> None:
    """Catches a reader that takes the end of the file for the end of the stream."""
    compress = {"gz": gzip.compress, "zst": zstandard.compress}[how]
    first, second = compress(b"hello\n" * 50), compress(b"world\n")
    for length in [*range(1, len(first)), *range(len(first) + 1, len(first + second))]:
        path = pack(tmp_path / f"a.jsonl.{how}", (first + second)[:length])
        with pytest.raises(DamagedStreamError, match="cut off"):
            read_all(path)


def test_damage_is_noticed_where_the_format_can_tell(tmp_path: Path) -> None:
    packed = bytearray(gzip.compress(b"hello\n" * 50))
    packed[-5] ^= 1  # the checksum
    with pytest.raises(DamagedStreamError, match="damaged"):
        read_all(pack(tmp_path / "a.jsonl.gz", packed))
    for trailing in (b"garbage", b"\x1f\x8b garbage, longer than a header"):
        with pytest.raises(DamagedStreamError):
            read_all(pack(tmp_path / "a.jsonl.gz", gzip.compress(b"x") + trailing))
    checked = bytearray(zstandard.ZstdCompressor(write_checksum=True).compress(b"hello\n" * 50))
    checked[-1] ^= 1
    with pytest.raises(DamagedStreamError, match="damaged"):
        read_all(pack(tmp_path / "a.jsonl.zst", checked))


def test_little_is_held_of_what_unpacks_to_much(tmp_path: Path) -> None:
    """64 MB of zeros pack into some kB: a reader that unpacks what it has read returns them all at once."""
    zeros = bytes(1 << 26)
    for how, compress in (("gz", gzip.compress), ("zst", zstandard.compress)):
        (source,) = expand([pack(tmp_path / f"a.jsonl.{how}", compress(zeros))])
        with RawFile(source, ignore) as raw:
            read = unpacked(raw)
            sizes = [len(read(1000)) for _ in range(9)]
        assert sizes == [1000] * 9


def test_progress_counts_the_bytes_of_the_file(tmp_path: Path) -> None:
    counts: list[int] = []
    path = pack(tmp_path / "a.jsonl.gz", gzip.compress(bytes(range(256)) * 4000))
    read_all(path, advanced=counts.append)
    assert sum(counts) == path.stat().st_size


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.jsonl.zst"])
@pytest.mark.parametrize("change", ["longer", "shorter", "touched", "gone"])
def test_a_file_that_changes_while_it_is_read_is_noticed(tmp_path: Path, name: str, change: str) -> None:
    compress = {".gz": gzip.compress, ".zst": zstandard.compress}.get(Path(name).suffix, lambda content: content)
    path = pack(tmp_path / name, compress(b'{"text": ""}\n' * 1000))

    done: list[int] = []

    def disturb(count: int) -> None:
        done.append(count)
        if len(done) > 1:
            return
        if change == "longer":
            path.write_bytes(path.read_bytes() + path.read_bytes())
        elif change == "shorter":
            path.write_bytes(path.read_bytes()[:-1])
        elif change == "gone":
            path.unlink()
        else:
            path.touch()

    with pytest.raises((PyfactoryError, DamagedStreamError)) as caught:
        read_all(path, advanced=disturb)
    assert change != "touched" or isinstance(caught.value, UnavailableError)


def test_a_file_that_changed_since_it_was_listed_is_noticed(tmp_path: Path) -> None:
    (source,) = expand([pack(tmp_path / "a.jsonl", b"{}\n")])
    pack(source.path, b"{} \n")
    with pytest.raises(UnavailableError, match="changes while it is read"):
        RawFile(source, ignore)


def test_an_error_of_the_listener_comes_through_arrow(tmp_path: Path) -> None:
    """A stopped import must not look like a damaged file."""

    def stop(count: int) -> None:
        raise UnavailableError("the import was stopped")

    with pytest.raises(UnavailableError, match="stopped"):
        read_all(pack(tmp_path / "a.jsonl.zst", zstandard.compress(b"x")), advanced=stop)
