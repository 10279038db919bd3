"""A sample as a person reads it: text by record, with addresses."""

from __future__ import annotations

from typing import Any

import numpy as np
from tokenizers import Tokenizer

from pyfactory.errors import CorruptError, NotFoundError
from pyfactory.shard.blank import is_forgotten
from pyfactory.stream.records import records_at
from pyfactory.stream.stream import Stream

__all__ = ["describe_sample"]


def describe_sample(stream: Stream, position: int) -> dict[str, Any]:
    """Return what stands at a position, as plain values.

    The inputs only: the text of a record ends where the sample does. Keys: table, commit, resolved, version, position,
    epoch, samples (of an epoch), addresses (shard, digest, first, length), records (id, start, stop, tokens, text).

    Raises:
        NotFoundError: The table has no tokenizer to show its tokens with.
    """
    version = stream.version
    addresses = stream.addresses([position])
    pieces = zip(addresses.shard.tolist(), addresses.first.tolist(), addresses.length.tolist(), strict=True)
    return {
        "table": version.table,
        "commit": version.commit,
        "resolved": version.ref,
        "version": version.digest,
        "position": position,
        "epoch": position // len(stream),
        "samples": len(stream),
        "addresses": [
            {"shard": shard, "digest": version.manifest.part(shard).shard, "first": first, "length": length}
            for shard, first, length in pieces
        ],
        "records": list(_texts(stream, position)),
    }


def _texts(stream: Stream, position: int) -> list[dict[str, Any]]:
    tokenizer = _tokenizer(stream)
    row, at, shown = stream.tokens(np.array([position]))[0], 0, []
    for record in records_at(stream, position):
        count = min(record.stop - record.start, len(row) - at)
        if count:
            # Forgotten tokens are zeros, which would read as text.
            text = (
                ""
                if is_forgotten(record.id)
                else tokenizer.decode(row[at : at + count].tolist(), skip_special_tokens=False)
            )
            stop = record.start + count
            shown.append({"id": record.id, "start": record.start, "stop": stop, "tokens": record.tokens, "text": text})
        at += count
    return shown


def _tokenizer(stream: Stream) -> Tokenizer:
    version = stream.version
    digest = version.artifacts.get("tokenizer")
    if digest is None:
        raise NotFoundError(f"table {version.table!r} has no tokenizer", hint="build it with a job that tokenizes")
    content = version.repository.objects.get(digest)
    try:
        return Tokenizer.from_str(content.decode())
    except Exception as error:  # the library raises bare Exception
        raise CorruptError(f"the tokenizer {digest} cannot be read: {error}") from error
