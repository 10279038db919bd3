"""Files of tokens: how they are read, where documents end, what is refused."""

from __future__ import annotations

import struct
import tracemalloc
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyfactory.core.digest import Hasher, digest_of
from pyfactory.errors import BadRecordError, InvalidInputError, NotFoundError, PyfactoryError
from pyfactory.shard.importers import token_documents
from pyfactory.shard.importers.token_files import TokenFormat, token_sources
from pyfactory.shard.importers.tokens import ImportedTokens, import_token_files
from pyfactory.shard.reader import open_shard, open_side, token_buffers
from pyfactory.store.content import Objects
from pyfactory.store.local import LocalStore
from pyfactory.store.memory import MemoryStore

NPY, BIN, MEGATRON = TokenFormat.npy, TokenFormat.bin, TokenFormat.megatron


def imported(objects: Objects, paths: Sequence[Path], format: TokenFormat, **options: object) -> ImportedTokens:
    return import_token_files(objects, token_sources(paths, format), format, **options)  # type: ignore[arg-type]


def documents_in(objects: Objects, found: ImportedTokens) -> list[tuple[list[int], str, str, int]]:
    """All rows: tokens, id, digest of the file, line."""
    rows = []
    for part in found.parts:
        batch = open_shard(objects.map(part.shard), "shard", verify=True)
        side = open_side(objects.map(part.side), "side", verify=True)
        values, offsets = token_buffers(batch)
        assert values.dtype.itemsize == found.width and len(values) == part.tokens
        assert batch.num_rows == len(side) == part.rows > 0
        for row, (start, stop) in enumerate(zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True)):
            file, line = side.origin(row) or ("", 0)
            rows.append((values[start:stop].tolist(), side.id(row), str(file), line))
    return rows


def texts(objects: Objects, found: ImportedTokens) -> list[list[int]]:
    return [tokens for tokens, *_ in documents_in(objects, found)]


def write_megatron(prefix: Path, documents: Sequence[Sequence[Sequence[int]]], code: int = 8) -> Path:
    """Write documents, each some sequences, as Megatron does; code 8 is uint16, 4 is int32."""
    dtype = {8: "<u2", 4: "<i4"}[code]
    sequences = [sequence for document in documents for sequence in document]
    lengths = np.array([len(sequence) for sequence in sequences], "<i4")
    pointers = np.concatenate([[0], np.cumsum(lengths)[:-1]]).astype("<i8") * np.dtype(dtype).itemsize
    bounds = np.concatenate([[0], np.cumsum([len(document) for document in documents])]).astype("<i8")
    head = struct.pack("<9sQBQQ", b"MMIDIDX\0\0", 1, code, len(sequences), len(bounds))
    prefix.with_suffix(".idx").write_bytes(head + lengths.tobytes() + pointers.tobytes() + bounds.tobytes())
    tokens = np.array([token for sequence in sequences for token in sequence], dtype)
    prefix.with_suffix(".bin").write_bytes(tokens.tobytes())
    return prefix


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.integers(0, 4), min_size=1, max_size=60),
    st.sampled_from(["u1", "<u2", ">u4", "<i8", "i1"]),
    st.integers(1, 40),
    st.integers(1, 7),
    st.integers(2, 9),
)
def test_documents_end_after_eos_wherever_blocks_and_shards_do(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tokens: list[int],
    dtype: str,
    target: int,
    block: int,
    longest: int,
) -> None:
    """Catches: an eos at the border of a block or shard that is lost or counted twice; a tail that is dropped."""
    from pyfactory.shard.importers import token_scanning

    with monkeypatch.context() as patch:
        patch.setattr(token_scanning, "_BLOCK_BYTES", block)
        patch.setattr(token_documents, "MAX_ROW_TOKENS", longest)
        np.save(tmp_path / "a.npy", np.array(tokens, dtype))
        objects = Objects(MemoryStore())
        eos = {"eos": 0} if 0 in tokens else {}
        found = imported(objects, [tmp_path / "a.npy"], NPY, target_bytes=target, **eos)
    rows = documents_in(objects, found)
    expected, documents = [], 0
    start = 0
    for at, token in enumerate(tokens, 1):
        if at == len(tokens) or (token == 0 and eos):
            documents += 1
            expected += [(tokens[low : min(low + longest, at)], documents) for low in range(start, at, longest)]
            start = at
    assert [(row[0], row[3]) for row in rows] == expected
    assert (found.documents, found.tokens, found.empty) == (documents, len(tokens), 0)
    assert (found.width, found.vocab_size) == (1, max(tokens) + 1)
    assert all(part.tokens < target + longest for part in found.parts)


def test_ids_name_the_tokens_whatever_their_width(tmp_path: Path) -> None:
    """Catches: ids over the stored bytes, which would change with the width; occurrences that are not counted."""
    documents = [[5, 7, 0], [1, 0], [5, 7, 0]]
    flat = [token for document in documents for token in document]
    ids = []
    for name, dtype, more in (("a", "<u2", {}), ("b", "<u4", {"vocab_size": 70_000})):
        (tmp_path / name).write_bytes(np.array(flat, dtype).tobytes())
        objects = Objects(MemoryStore())
        found = imported(
            objects, [tmp_path / name], BIN, dtype={"<u2": "uint16", "<u4": "uint32"}[dtype], eos=0, **more
        )
        rows = documents_in(objects, found)
        assert [row[0] for row in rows] == documents
        assert [row[2:] for row in rows] == [(digest_of((tmp_path / name).read_bytes()), line) for line in (1, 2, 3)]
        ids.append([row[1] for row in rows])
    hashed = [Hasher(np.array(one, "<u4").tobytes()).digest(length=16).hex() for one in documents]
    assert ids[0] == ids[1] == [f"b3:{hashed[0]}", f"b3:{hashed[1]}", f"b3:{hashed[2]}.1"]


@pytest.mark.parametrize(("greatest", "width"), [(255, 1), (256, 2), (65535, 2), (65536, 4), (2**32 - 1, 4)])
def test_the_narrowest_width_holds_all_files(tmp_path: Path, greatest: int, width: int) -> None:
    """Catches: a width by the first file, or one too narrow by one."""
    np.save(tmp_path / "a.npy", np.array([1, 2], np.int64))
    np.save(tmp_path / "b.npy", np.array([greatest], np.uint64))
    objects = Objects(MemoryStore())
    found = imported(objects, [tmp_path], NPY)
    assert (found.width, found.vocab_size, texts(objects, found)) == (width, greatest + 1, [[1, 2], [greatest]])


def test_rows_of_a_matrix_are_documents(tmp_path: Path) -> None:
    matrix = np.arange(12).reshape(4, 3)
    np.save(tmp_path / "a.npy", matrix)
    objects = Objects(MemoryStore())
    assert texts(objects, imported(objects, [tmp_path / "a.npy"], NPY, target_bytes=4)) == matrix.tolist()
    assert texts(objects, imported(objects, [tmp_path / "a.npy"], NPY, eos=4)) == [[0, 1, 2, 3, 4], [*range(5, 12)]]


def test_lengths_say_where_documents_end(tmp_path: Path) -> None:
    """Catches: documents without a token that shift the lines of those behind them."""
    tokens = tmp_path / "a.bin"
    tokens.write_bytes(np.arange(10, dtype="<u2").tobytes())
    (tmp_path / "lengths.txt").write_text("0\n3\n0\n0\n6\n1\n0\n")
    np.save(tmp_path / "lengths.npy", np.array([0, 3, 0, 0, 6, 1, 0]))
    for name in ("lengths.txt", "lengths.npy"):
        objects = Objects(MemoryStore())
        found = imported(objects, [tokens], BIN, dtype="uint16", lengths=tmp_path / name, target_bytes=2)
        assert [(row[0], row[3]) for row in documents_in(objects, found)] == [
            ([0, 1, 2], 2),
            ([3, 4, 5, 6, 7, 8], 5),
            ([9], 6),
        ]
        assert (found.documents, found.empty) == (3, 4)


@pytest.mark.parametrize("named", ["a", "a.bin", "a.idx", ""])
def test_megatron(tmp_path: Path, named: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches: sequences taken for documents; an index read in chunks that loses a bound."""
    from pyfactory.shard.importers import megatron

    documents = [[[1, 2], [3]], [], [[4]], [[], []], [[5, 6, 7, 8]], [[9]]]
    write_megatron(tmp_path / "a", documents)
    for chunk in (1, 2, 3, 100):
        monkeypatch.setattr(megatron, "_CHUNK", chunk)
        objects = Objects(MemoryStore())
        found = imported(objects, [tmp_path / named], MEGATRON)
        rows = [(row[0], row[3]) for row in documents_in(objects, found)]
        assert rows == [([1, 2, 3], 1), ([4], 3), ([5, 6, 7, 8], 5), ([9], 6)]
        assert (found.documents, found.empty) == (4, 2)
        assert [source["name"] for source in found.sources] == ["a.bin", "a.idx"] or named == ""
    write_megatron(tmp_path / "a", [[[70_000]]], code=4)
    objects = Objects(MemoryStore())
    assert texts(objects, imported(objects, [tmp_path / "a"], MEGATRON)) == [[70_000]]


def _index(**changed: object) -> bytes:
    """The index of [1, 2], [3]: two sequences, two documents."""
    told: dict[str, object] = {"magic": b"MMIDIDX\0\0", "version": 1, "code": 8, "sequences": 2, "bounds": 3}
    told |= {"lengths": (2, 1), "pointers": (0, 4), "documents": (0, 1, 2)} | changed
    head = struct.pack("<9sQBQQ", *(told[name] for name in ("magic", "version", "code", "sequences", "bounds")))
    arrays = [
        np.array(told[n], t).tobytes() for n, t in (("lengths", "<i4"), ("pointers", "<i8"), ("documents", "<i8"))
    ]
    return head + b"".join(arrays)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (_index()[:20], "byte 20: the file ends within its header"),
        (_index(magic=b"MMIDIDY\0\0"), "byte 0: the file does not begin"),
        (_index(version=2), "byte 9: the version is 2"),
        (_index(code=6), "byte 17: 6 is not the code"),
        (_index(sequences=2**63), "byte 18"),
        (_index(bounds=2**40), "byte 18"),
        (_index()[:-1], "byte 18"),
        (_index(lengths=(2, -1)), "byte 38: sequence 1 has -1 tokens"),
        (_index(pointers=(2, 4)), "byte 42: sequence 0 begins at byte 2 instead of 0"),
        (_index(pointers=(0, -4)), "byte 50: sequence 1 begins at byte -4"),
        (_index(documents=(1, 1, 2)), "byte 58: document bound 0 is 1"),
        (_index(documents=(0, 2, 1)), "byte 74: document bound 2 is 1"),
        (_index(documents=(0, 3, 2)), "byte 66: document bound 1 is 3"),
        (_index(documents=(0, 1, 1)), "byte 74: document bound 2 is 1"),
        (_index(documents=(0, -1, 2)), "byte 66: document bound 1 is -1"),
        (_index(lengths=(2, 2)), "lists 4 tokens"),
    ],
)
def test_a_damaged_index_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    """Catches: an extent that is believed before it is compared with the file."""
    (tmp_path / "a.bin").write_bytes(np.array([1, 2, 3], "<u2").tobytes())
    (tmp_path / "a.idx").write_bytes(content)
    with pytest.raises(InvalidInputError) as caught:
        imported(Objects(MemoryStore()), [tmp_path / "a"], MEGATRON)
    assert said in str(caught.value) and "a.idx" in str(caught.value)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_hostile_indices_and_headers_end_in_an_error_or_in_tokens(tmp_path: Path, data: st.DataObject) -> None:
    """Catches: any other exception than ours, over any change of some bytes of an index or an .npy header."""
    np.save(tmp_path / "n.npy", np.array([1, 2, 3], "<u2"))
    for good, name, format in ((_index(), "a.idx", MEGATRON), ((tmp_path / "n.npy").read_bytes(), "b.npy", NPY)):
        content = bytearray(good)
        for _ in range(data.draw(st.integers(1, 3))):
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
        del content[data.draw(st.integers(1, len(content))) if data.draw(st.booleans()) else len(content) :]
        (tmp_path / "a.bin").write_bytes(np.array([1, 2, 3], "<u2").tobytes())
        (tmp_path / name).write_bytes(content)
        try:
            found = imported(Objects(MemoryStore()), [tmp_path / name], format)
        except PyfactoryError:
            continue
        assert found.tokens <= len(content)


def test_files_that_are_not_what_they_are_said_to_be(tmp_path: Path) -> None:
    def refused(said: str, path: Path, format: TokenFormat = NPY, **options: object) -> None:
        kind = options.pop("kind", InvalidInputError)
        with pytest.raises(kind) as caught:  # type: ignore[call-overload]
            imported(Objects(MemoryStore()), [path], format, **options)
        assert said in str(caught.value), str(caught.value)

    def saved(name: str, array: object) -> Path:
        np.save(tmp_path / name, array, allow_pickle=True)  # type: ignore[arg-type]
        return tmp_path / f"{name}.npy"

    refused("no such file", tmp_path / "absent.npy", kind=NotFoundError)
    refused("no such file", tmp_path / "absent", MEGATRON, kind=NotFoundError)
    refused("holds float64, not integers", saved("float", np.zeros(3)))
    refused("not integers", saved("object", np.array([{}, 1], object)))
    refused("not integers", saved("bool", np.array([True])))
    refused("has the shape (1, 1, 2)", saved("cube", np.zeros((1, 1, 2), np.int8)))
    refused("has the shape ()", saved("point", np.int8(3)))
    refused("columns one after the other", saved("fortran", np.asfortranarray(np.ones((2, 3), np.int8))))
    refused("has no tokens", saved("none", np.zeros(0, np.int8)))
    whole = saved("whole", np.arange(9, dtype=np.uint16)).read_bytes()
    (tmp_path / "cut.npy").write_bytes(whole[:-1])
    refused("declares 9 tokens of 2 bytes", tmp_path / "cut.npy")
    (tmp_path / "more.npy").write_bytes(whole + b"\0\0")
    refused("declares 9 tokens", tmp_path / "more.npy")
    refused("holds uint16, not uint8", tmp_path / "whole.npy", dtype="uint8")
    (tmp_path / "a.bin").write_bytes(b"\1\2\3")
    (tmp_path / "empty.bin").write_bytes(b"")
    refused("not whole tokens of 2 bytes", tmp_path / "a.bin", BIN, dtype="uint16")
    refused("give their dtype", tmp_path / "a.bin", BIN)
    refused("choose one of uint8", tmp_path / "a.bin", BIN, dtype="float16")
    refused("is empty", tmp_path / "empty.bin", BIN, dtype="uint8")
    refused("never occurs", tmp_path / "a.bin", BIN, dtype="uint8", eos=9)
    refused("cannot end documents", tmp_path / "a.bin", BIN, dtype="uint8", eos=-1)
    negative = saved("negative", np.array([4, 5, -6], np.int16))
    refused(f"{negative}: token 2, at byte 132, is negative: -6", negative, kind=BadRecordError)
    refused(
        "a.bin: token 2, at byte 2, is not below 3: 3",
        tmp_path / "a.bin",
        BIN,
        dtype="uint8",
        vocab_size=3,
        kind=BadRecordError,
    )
    refused("is not below 4294967296", saved("large", np.array([2**32])), kind=BadRecordError)
    for text, said in (("1\n1\n", "lists 2 tokens in 2 documents"), ("3\nx\n", ":2: b'x' is not"), ("9" * 30, ":1: ")):
        (tmp_path / "lengths").write_text(text)
        refused(said, tmp_path / "a.bin", BIN, dtype="uint8", lengths=tmp_path / "lengths")
    lengths = saved("lengths", np.array([2**62, 2**62, 2**62, 2**62, 3]))
    refused("documents", tmp_path / "a.bin", BIN, dtype="uint8", lengths=lengths)
    refused("has -1 tokens", tmp_path / "a.bin", BIN, dtype="uint8", lengths=saved("minus", np.array([-1, 4])))


def test_memory_is_that_of_a_shard(tmp_path: Path) -> None:
    """Catches: a file that is read whole."""
    np.save(tmp_path / "a.npy", np.zeros((64, 1 << 18), np.uint16))
    objects = Objects(LocalStore(tmp_path / "store", create=True))
    tracemalloc.start()
    try:
        found = imported(objects, [tmp_path / "a.npy"], NPY, target_bytes=1 << 19, vocab_size=300)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (found.tokens, len(found.parts)) == (1 << 24, 64)
    assert peak < 24 << 20  # two blocks of 8 MiB, less than the file


def test_long_and_empty_documents_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches: rows taken for documents since there are as many of them."""
    monkeypatch.setattr(token_documents, "MAX_ROW_TOKENS", 4)
    ends, numbers = token_documents.rows_between(np.array([0, 6, 7]), 0, 3)
    assert (ends.tolist(), numbers.tolist()) == ([4, 6, 7], [4, 4, 5])
