"""The parsers of documents: bytes as the writer makes them, the parser, and the way back where there is one."""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path
from typing import Any

from hostile import INPUT, NEWER, TIME, A, B, C, Parser, Shelf, value_of, written
from repo_tables import raw_state, state_of, token_part
from sweep_tables import Place

from pyfactory.core.canonical import decode, encode
from pyfactory.core.digest import NO_DIGEST, Digest
from pyfactory.errors import CorruptError, NotFoundError
from pyfactory.ledger import read_checkpoint, read_run
from pyfactory.loader.state import checked_position
from pyfactory.repo.format import FORMAT_KEY, Features, FormatObject, load_format_object, read_features
from pyfactory.repo.gates.base import Verdict
from pyfactory.repo.leases import Lease
from pyfactory.repo.objects import Commit, TableState, Tree
from pyfactory.repo.operation import Change, Operation, View
from pyfactory.repo.oplog import summary_bytes, summary_view
from pyfactory.repo.redaction import LAST, Redaction, Replacement, overlay_of
from pyfactory.repo.refusal import LAST_REFUSAL, list_refusals
from pyfactory.repo.rules import BranchRule, GateRule, keys_value, load_keys, load_rule
from pyfactory.repo.signatures import Signature, commit_statement
from pyfactory.shard.memo import Result, decode_result, encode_result
from pyfactory.shard.tree import Part
from pyfactory.store.memory import MemoryStore

__all__ = ["documents"]

KEYS, SPANS = ("0a" * 16, "0b" * 16), ((0, 4), (7, 9))
NOW = datetime(2026, 11, 24, tzinfo=UTC)


@cache
def _folder() -> Path:
    kept.append(tempfile.TemporaryDirectory(prefix="hostile-"))
    return Path(kept[-1].name)


kept: list[tempfile.TemporaryDirectory[str]] = []


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


def documents() -> list[Parser]:
    """A new parser is a line in the list at the end."""
    shelf = Shelf()
    state = raw_state(shelf.objects, "one")
    tokens = state_of(shelf.objects, [token_part(shelf.objects, [[1, 2]])], 2, b"{}")
    merged = {
        "asked": "exp",
        "base": A,
        "choices": {"raw": "ours"},
        "commit": C,
        "kind": "merge",
        "resolved": "branch/exp",
    }
    verdict = Verdict("pii", "raw", True, "none", {"max_share": "0"}, {"rows": 3}, ("a",), "pii/1:00").to_value()
    commit = Commit(A, (B, C), "Ada", TIME, "why", merged, (verdict,))
    changes = (Change("branch/main", None, A), Change("tag/v1", B, None))
    operation = Operation(7, A, "0f" * 16, TIME, "Ada", "why", changes)
    rule = BranchRule(True, False, (GateRule("pii", "raw", {"max_share": "0.1", "kinds": ["email"], "n": 3}),))
    redaction = Redaction(None, "asked", "Ada", TIME, KEYS, (A,), {A: Replacement(B, 9, SPANS)}, {B: C})
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
    refusal: dict[str, Any] = {"details": {"branch": "main"}, "kind": "refusal", "time": TIME, "v": 1}
    refusal |= {"view": 3, "what": "commit to main", "who": "Ada", "why": "c"}
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
