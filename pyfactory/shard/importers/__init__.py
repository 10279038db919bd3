"""Reading raw files: JSON lines, Parquet and text documents become content shards and side shards.

    sources -> streams -> jsonl | parquet | text -> rows -> staging -> ids -> sides
    which      bytes,     records as Arrow rows     content  content   made    side
    files      hashed                               hashes   shards    unique  shards

`reading` is one task up to staging, `run` the whole import.
"""

from __future__ import annotations

from pyfactory.shard.importers.existing import SideSource
from pyfactory.shard.importers.rows import content_hashes
from pyfactory.shard.importers.run import TARGET_BYTES, Imported, Map, import_sources
from pyfactory.shard.importers.staging import content_id

__all__ = ["TARGET_BYTES", "Imported", "Map", "SideSource", "content_hashes", "content_id", "import_sources"]
