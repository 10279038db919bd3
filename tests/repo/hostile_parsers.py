"""Every parser of stored bytes: bytes as the writer makes them, the parser, and the way back where there is one.

A new parser is one more line in `_table`.
"""

from __future__ import annotations

import io
import struct
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from hostile_past import Past
from hostile_sketches import Sketched
from repo_tables import raw_part, raw_state, state_of, token_part
from sweep_tables import Place
from tokenizers import Tokenizer, models

from pyfactory.core.canonical import decode, encode
from pyfactory.core.digest import NO_DIGEST, Digest, digest_of
from pyfactory.errors import CorruptError, InvalidInputError, NewerFormatError, NotFoundError
from pyfactory.job.selection import decode_selection, encode_selection
from pyfactory.job.steps.tokenizer_file import from_tokenizer_json
from pyfactory.ledger import read_checkpoint, read_run
from pyfactory.loader.state import checked_position
from pyfactory.repo.format import FORMAT_KEY, Features, FormatObject, load_format_object, read_features
from pyfactory.repo.gates.base import Verdict
from pyfactory.repo.gates.contamination_sets import EvaluationSet, make_set
from pyfactory.repo.leases import Lease
from pyfactory.repo.listing import Listing, digests_of, parse_listing
from pyfactory.repo.objects import Commit, TableState, Tree
from pyfactory.repo.operation import Change, Operation, View
from pyfactory.repo.oplog import summary_bytes, summary_view
from pyfactory.repo.redaction import LAST, Redaction, Replacement, overlay_of
from pyfactory.repo.refusal import LAST_REFUSAL, list_refusals
from pyfactory.repo.rules import BranchRule, GateRule, keys_value, load_keys, load_rule
from pyfactory.repo.signatures import Signature, commit_statement
from pyfactory.shard.importers.sources import expand
from pyfactory.shard.importers.token_files import TokenFormat, open_token_file
from pyfactory.shard.layout import raw_schema
from pyfactory.shard.manifest import Manifest, new_batch
from pyfactory.shard.memo import Result, decode_result, encode_result
from pyfactory.shard.node import encode_node, parse_node
from pyfactory.shard.reader import open_shard, open_side, token_buffers
from pyfactory.shard.tree import Part, write_tree
from pyfactory.shard.writer import encode_shard, make_side
from pyfactory.store.content import Objects
from pyfactory.store.memory import MemoryStore

__all__ = ["PARSERS", "Parser"]

TIME = "2026-11-24T00:00:00Z"
A, B, C = (Digest(digit * 64) for digit in "abc")
KEYS, SPANS = ("0a" * 16, "0b" * 16), ((0, 4), (7, 9))
NOW = datetime(2026, 11, 24, tzinfo=UTC)

CORRUPT = (CorruptError,)
NEWER = (CorruptError, NewerFormatError)
INPUT = (InvalidInputError,)  # files that somebody gives us, not what we stored


@dataclass(frozen=True)
class Parser:
    """One parser.

    Attributes:
        name: Of what it reads.
        good: What a writer made.
        parse: Reads bytes.
        raises: What it may raise.
        write: Makes the bytes of what was read: then no two byte strings are one value.
        text: Whether the bytes are a document (JSON).
    """

    name: str
    good: bytes
    parse: Callable[[bytes], Any]
    raises: tuple[type[Exception], ...] = CORRUPT
    write: Callable[[Any], bytes] | None = None
    text: bool = True


class Shelf:
    """Where hostile objects lie: a store, named by their digest as any object."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.url = self.store.url
        self.objects = Objects(self.store)

    def load(self, read: Callable[[Any, Digest], Any], content: bytes) -> Any:
        return read(self, self.objects.put(content))


def value_of(read: Callable[[Any, str], Any]) -> Callable[[bytes], Any]:
    return lambda content: read(decode(content, "it"), "it")


def written(value: Any) -> bytes:
    return encode(value.to_value())


@cache
def _folder() -> Path:
    kept.append(tempfile.TemporaryDirectory(prefix="hostile-"))
    return Path(kept[-1].name)


kept: list[tempfile.TemporaryDirectory[str]] = []


# The parsers that need more than a call.


def read_format_file(content: bytes) -> Features:
    store = MemoryStore()
    store.create(FORMAT_KEY, content)
    return read_features(store)


def read_redactions(shelf: Shelf, digest: Digest) -> Redaction:
    overlay = overlay_of(shelf, View(0, NO_DIGEST, {LAST: digest}))  # type: ignore[arg-type]
    assert overlay.keys.dtype.itemsize == 16
    return overlay.redactions[digest]


def read_refusal(content: bytes) -> None:
    place = Place.create()
    place.move(LAST_REFUSAL, place.objects.put(content), NOW)
    (found,) = list_refusals(place, place.view(), 5)  # a damaged one is shown by what the log says
    assert found.n == 1


def read_signature(content: bytes) -> Signature:
    found = Signature.from_bytes(content, "it")
    assert found.is_genuine() in (False, True)
    return found


def read_lease(content: bytes) -> Lease:
    found = Lease.from_bytes(content, "leases/ab", "here")
    assert found.is_live(NOW) in (False, True)
    return found


def read_manifest(shelf: Shelf, digest: Digest) -> None:
    manifest = Manifest(shelf.objects, digest)
    parts = [*manifest.parts()]
    assert len(parts) == manifest.shards and sum(part.rows for part in parts) == manifest.rows
    if manifest.rows:
        shards, _ = manifest.locate_rows(np.array([0, manifest.rows - 1]))
        assert 0 <= shards[0] <= shards[1] < manifest.shards


def read_raw(verify: bool, content: bytes) -> Any:
    batch = open_shard(content, "it", verify=verify)
    return batch.to_pylist() if verify else [column.buffers() for column in batch.columns]


def read_tokens(verify: bool, content: bytes) -> Any:
    batch = open_shard(content, "it", verify=verify)
    try:
        values, offsets = token_buffers(batch)
    except InvalidInputError:
        return None  # a shard, but of another table
    return int(values.sum()), [values[low] for low in offsets[:-1] if low < len(values)]


def read_side(verify: bool, content: bytes) -> Any:
    side = open_side(content, "it", verify=verify)
    side.find("doc-1"), side.rows_of(side.keys[:2]), side.origins()
    return [side.origin(row) for row in range(len(side))], [side.id(row) for row in range(len(side))]


def read_entries(content: bytes) -> Any:
    store = MemoryStore()
    store.create("runs/a/00000000", content)
    return read_run(store, "a")


def read_saved(content: bytes) -> Any:
    path = _folder() / "pyfactory.json"
    path.write_bytes(content)
    record = read_checkpoint(path)
    identity = {"seed": 1, "recipe": {"order": [1, 2]}, "redactions": None}
    return checked_position(record["state"], identity)


def read_token_file(format: TokenFormat, beside: bytes, content: bytes) -> Any:
    """Of a Megatron dataset the index is hostile, and what stands beside it are its tokens."""
    name, ending = ("it.bin", ".idx") if format is TokenFormat.megatron else (f"it.{format}", "")
    path = _folder() / name
    path.write_bytes(beside if ending else content)
    if ending:
        path.with_suffix(ending).write_bytes(content)
    (source,) = expand([path])
    others = tuple(expand([path.with_suffix(ending)])) if ending else ()
    dtype = "uint16" if format is TokenFormat.bin else None
    found = open_token_file(source, others, format, dtype=dtype, folder=_folder(), number=0)
    assert found.start + found.count * found.dtype.itemsize == source.size
    if found.ends is not None:
        assert (np.diff(found.ends) >= 0).all() and (not len(found.ends) or found.ends[-1] <= found.count)
    return found.count


def _documents() -> list[Parser]:
    shelf = Shelf()
    state = raw_state(shelf.objects, "one")
    tokens = state_of(shelf.objects, [token_part(shelf.objects, [[1, 2]])], 2, b"{}")
    commit = Commit(A, (B, C), "Ada", TIME, "why", {"kind": "merge", "commit": C, "choices": {}}, ({"gate": "x"},))
    changes = (Change("branch/main", None, A), Change("tag/v1", B, None))
    operation = Operation(7, A, "0f" * 16, TIME, "Ada", "why", changes)
    rule = BranchRule(True, False, (GateRule("pii", "raw", {"max_share": "0.1", "kinds": ["email"], "n": 3}),))
    redaction = Redaction(
        None, "asked", "Ada", TIME, ("0a" * 16, "0b" * 16), (A,), {A: Replacement(B, 9, ((0, 4), (7, 9)))}, {B: C}
    )
    part = Part(A, NO_DIGEST, 3, 0, 99)
    result = Result((part,), (B, NO_DIGEST), {"empty": 2}, (1, 2, 3))
    verdict = Verdict("pii", "raw", False, "why", {"max_share": "0.1"}, {"rows": 3}, ("doc-1",), "pii/1:ab")
    run = {"kind": "start", "n": 0, "previous": NO_DIGEST, "time": TIME, "v": 1, "position": 0, "note": ""}
    identity = {"seed": 1, "recipe": {"order": [1, 2]}, "redactions": None}
    saved = {"repository": "x", "run": "a", "entry": 1, "digest": A, "position": 5}
    saved["state"] = {"format": 1, "position": 5, "identity": identity}
    loads = partial(partial, shelf.load)
    features = Features(("redactions",), ("rules", "sweep"))
    statement = commit_statement(A)
    lease = Lease("ab", "reader", A, "Ada", TIME, TIME)
    refusal = {
        "details": {"branch": "main"},
        "kind": "refusal",
        "time": utc_now(),
        "v": 1,
        "view": 3,
        "what": "a",
        "who": "b",
        "why": "c",
    }
    view = View(9, A, {"branch/main": B, "tag/v1": C})
    return [
        Parser("canonical", encode({"a": [1, "ü", None, True, {"b": -5}]}), lambda it: decode(it, "it"), write=encode),
        Parser("operation", operation.to_bytes(), lambda it: Operation.from_bytes(it, "it"), NEWER, Operation.to_bytes),
        Parser("summary", summary_bytes(view), lambda it: summary_view(it, "it"), NEWER, summary_bytes),
        Parser("commit", written(commit), value_of(Commit.from_value), NEWER, written),
        Parser("tree", written(Tree({"raw": state, "corpus": tokens})), value_of(Tree.from_value), NEWER, written),
        Parser("table state", written(tokens), value_of(TableState.from_value), write=written),
        Parser(
            "format.json",
            encode({"format": 1, **features.to_value()}),
            read_format_file,
            NEWER,
            lambda it: encode({"format": 1, **it.to_value()}),
        ),
        Parser(
            "format object",
            FormatObject(features, Features()).to_bytes(),
            loads(load_format_object),
            NEWER,
            FormatObject.to_bytes,
        ),
        Parser("rule", rule.to_bytes(), loads(load_rule), NEWER, BranchRule.to_bytes),
        Parser(
            "keys", encode(keys_value({"ada": "0c" * 32})), loads(load_keys), NEWER, lambda it: encode(keys_value(it))
        ),
        Parser(
            "signature",
            Signature("0c" * 32, b"\7" * 64, statement).to_bytes(),
            read_signature,
            NEWER,
            Signature.to_bytes,
        ),
        Parser("refusal", encode(refusal), read_refusal, ()),
        Parser("redaction", redaction.to_bytes(), loads(read_redactions), NEWER, Redaction.to_bytes),
        Parser("lease", lease.to_bytes(), read_lease, NEWER, Lease.to_bytes),
        Parser(
            "memo", encode_result(result, A), lambda it: decode_result(it, A), write=lambda it: encode_result(it, A)
        ),
        Parser("verdict", written(verdict), value_of(Verdict.from_value), write=written),
        Parser("run entry", encode(run), read_entries),
        Parser(
            "checkpoint",
            encode({"format": 1, "checkpoints": {"step-5": saved}}),
            read_saved,
            (*INPUT, CorruptError, NotFoundError),
        ),
    ]


def _binary() -> list[Parser]:
    shelf = Shelf()
    objects = shelf.objects
    parts = [Part(digest_of(bytes([n])), NO_DIGEST, n + 1, 0, 100 + n) for n in range(40)]
    leaf = objects.get(write_tree(objects, new_batch(parts[:5], 3)))
    root = objects.get(write_tree(objects, new_batch(parts, 3), leaf_mean=4, inner_mean=4))
    listing = Listing(4, TIME, 99, digests_of(bytes(range(96))))
    mask = np.array([1, 0, 1, 1, 0, 0, 0, 1, 1, 0, 1], np.bool_)
    columns = [pa.field("n", pa.int32()), pa.field("s", pa.string()), pa.field("b", pa.bool_(), nullable=False)]
    values = [pa.array(["one", "", "drei ü"], pa.large_string()), pa.array([1, None, 3], pa.int32())]
    values += [pa.array([None, "a", ""]), pa.array([True, False, True])]
    raw = bytes(encode_shard(pa.RecordBatch.from_arrays(values, schema=raw_schema(columns))))
    token = objects.get(token_part(objects, [[1, 2, 3], [], [4, 5]]).shard)
    ids = pa.array([f"doc-{n}" for n in range(3)], pa.large_string())
    side = bytes(make_side(ids, [A, B], np.array([0, 1, 0], np.int32), np.array([1, 2, 3])))
    node = lambda it: parse_node(it, "it")  # noqa: E731
    again = lambda it: encode_node(it.level, it.records)  # noqa: E731
    reads = partial(Parser, text=False)
    found = [
        reads("leaf node", leaf, node, write=again),
        reads("inner node", root, node, write=again),
        reads("manifest", root, partial(shelf.load, read_manifest), (CorruptError, NotFoundError)),
        reads("listing", listing.to_bytes(), lambda it: parse_listing(it, "it"), NEWER, Listing.to_bytes),
        reads(
            "selection", encode_selection(mask), lambda it: decode_selection(it, 11, 6, "it"), write=encode_selection
        ),
        reads(
            "evaluation set",
            make_set(["one two three four five"], 3).to_bytes(),
            lambda it: EvaluationSet.from_bytes(it, "it"),
            NEWER,
            EvaluationSet.to_bytes,
        ),
    ]
    for verify in (False, True):
        kind = "verified " if verify else ""
        found.append(reads(f"{kind}raw shard", raw, partial(read_raw, verify)))
        found.append(reads(f"{kind}token shard", token, partial(read_tokens, verify)))
        found.append(reads(f"{kind}side shard", side, partial(read_side, verify)))
    return found


def _files() -> list[Parser]:
    npy = io.BytesIO()
    np.save(npy, np.arange(24, dtype=np.uint16).reshape(4, 6))
    lengths, bounds = np.array([3, 1, 4], "<i4"), np.array([0, 2, 3], "<i8")
    index = struct.pack("<9sQBQQ", b"MMIDIDX\0\0", 1, 8, 3, 3) + lengths.tobytes()
    index += np.array([0, 6, 8], "<i8").tobytes() + bounds.tobytes()
    tokenizer = Tokenizer(models.WordLevel({"a": 0, "b": 1, "[UNK]": 2}, "[UNK]")).to_str().encode()
    bytes_ = np.arange(8, dtype="<u2").tobytes()
    reads = partial(Parser, raises=INPUT, text=False)
    return [
        reads("npy", npy.getvalue(), partial(read_token_file, TokenFormat.npy, b"")),
        reads("bin", bytes_, partial(read_token_file, TokenFormat.bin, b"")),
        reads("megatron index", index, partial(read_token_file, TokenFormat.megatron, bytes_)),
        Parser("tokenizer.json", tokenizer, lambda it: from_tokenizer_json(it, "it"), INPUT),
    ]


def _sketches() -> list[Parser]:
    sketched = Sketched()
    parsers = {}
    for key in sketched.keys:
        name = key.split("/")[1] + (" total" if "/total/" in key else "")
        parsers[name] = Parser(f"sketch {name}", sketched.good[key], partial(sketched.parse, key), ())
    return [*parsers.values()]


def _past() -> list[Parser]:
    past = Past()
    raises = (CorruptError, NewerFormatError, NotFoundError)
    return [Parser(f"past: {name}", past.good[name], read, raises) for name, read in past.reads().items()]


PARSERS: list[Parser] = [*_documents(), *_binary(), *_files(), *_sketches(), *_past()]
