"""A sample as a person reads it: text by record, with addresses."""

from __future__ import annotations

from typing import Any

import numpy as np
from tokenizers import Tokenizer

from pyfactory.errors import CorruptError, NotFoundError
from pyfactory.repo.version import Version
from pyfactory.shard.blank import is_forgotten
from pyfactory.stream.feed import Feed
from pyfactory.stream.masks import IGNORE
from pyfactory.stream.stream import Stream

__all__ = ["describe_sample"]


def describe_sample(stream: Stream, position: int) -> dict[str, Any]:
    """Return what stands at a position, as plain values.

    The inputs only: the text of a record ends where the sample does. Keys: position, phase, source, table, commit,
    resolved, version, epoch (of the source), samples (of an epoch of it), addresses (shard, digest, first, length),
    records (id, origin, start, stop, tokens, text), padding (input tokens that are none), targets (tokens that are
    predicted).

    Raises:
        NotFoundError: The table has no tokenizer to show its tokens with.
    """
    addresses = stream.addresses([position])
    feed = stream.feeds[int(addresses.feed[0])]
    version = feed.version
    pieces = zip(addresses.shard.tolist(), addresses.first.tolist(), addresses.length.tolist(), strict=True)
    records = _texts(stream, position, feed)
    length = stream.phases[feed.phase].recipe.sequence_length
    targets = np.empty((1, length), np.int64)
    stream.fill(addresses, targets=targets)
    return {
        "position": position,
        "phase": feed.phase,
        "source": feed.source,
        "table": version.table,
        "commit": version.commit,
        "resolved": version.ref,
        "version": version.digest,
        "epoch": int(addresses.epoch[0]),
        "samples": feed.geometry.samples,
        "addresses": [
            {"shard": shard, "digest": version.manifest.part(shard).shard, "first": first, "length": count}
            for shard, first, count in pieces
        ],
        "records": records,
        "padding": length - sum(record["stop"] - record["start"] for record in records),
        "targets": int((targets != IGNORE).sum()),
    }


def _texts(stream: Stream, position: int, feed: Feed) -> list[dict[str, Any]]:
    tokenizer = _tokenizer(feed.version)
    row, at, shown = stream.tokens(np.array([position]))[0], 0, []
    for record in stream.records(position, position + 1):
        count = min(record.stop - record.start, len(row) - at)
        if count:
            # Forgotten tokens are fill tokens, which would read as text.
            forgotten = is_forgotten(record.id)
            text = "" if forgotten else tokenizer.decode(row[at : at + count].tolist(), skip_special_tokens=False)
            shown.append(
                {
                    "id": record.id,
                    "origin": None if record.origin is None else [*record.origin],
                    "start": record.start,
                    "stop": record.start + count,
                    "tokens": record.tokens,
                    "text": text,
                }
            )
        at += record.stop - record.start
    return shown


def _tokenizer(version: Version) -> Tokenizer:
    digest = version.artifacts.get("tokenizer")
    if digest is None:
        raise NotFoundError(f"table {version.table!r} has no tokenizer", hint="build it with a job that tokenizes")
    content = version.repository.objects.get(digest)
    try:
        return Tokenizer.from_str(content.decode())
    except Exception as error:  # the library raises bare Exception
        raise CorruptError(f"the tokenizer {digest} cannot be read: {error}") from error
