"""The gate `images`: share of the added rows whose picture decodes from its first byte to its last.

The only home of Pillow. What cannot be decoded would end a training run or be skipped in silence.
"""

from __future__ import annotations

import threading
import warnings
from collections import defaultdict
from dataclasses import dataclass
from decimal import Decimal
from io import BytesIO
from typing import TYPE_CHECKING, ClassVar

import pyarrow as pa

from pyfactory.repo.gates.answer import answer, percent
from pyfactory.repo.gates.base import Counted, Proposal, Tally, Verdict, measure_name
from pyfactory.repo.gates.options import SHARE, TEXT, option, ratio
from pyfactory.repo.gates.rows import evidence, gather

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["FORMATS", "MAX_PIXELS", "ImageRows", "Images", "fault_of"]

FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
"""Formats that are tried. Others are refused: some of them start programs or read other files."""

MAX_PIXELS = 100_000_000
"""Pixels of all frames together beyond which a picture is taken for a bomb."""

_BINARY = ("binary", "large_binary")
_opening = threading.Lock()


def fault_of(content: bytes) -> str:
    """Return what is wrong with a picture: "" nothing, "empty", "unknown", "bomb" or "broken".

    Decodes all frames, in O(pixels) time and memory, at most `MAX_PIXELS`.
    """
    from PIL import Image, UnidentifiedImageError

    if not content:
        return "empty"
    try:
        with _opening, warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(BytesIO(content), formats=FORMATS)
        with image:
            return _fault_of_frames(image)
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        return "bomb"
    except UnidentifiedImageError:
        return "unknown"
    except Exception:  # decoders of hostile bytes raise nearly anything
        return "broken"


@dataclass(frozen=True)
class Images:
    """At least a share of the added rows has a picture that decodes completely."""

    name: ClassVar[str] = "images"
    version: ClassVar[int] = 1

    min_share: Decimal = option("1", SHARE, "share of the added rows that must decode")
    column: str = option("", TEXT, "the binary column looked at; the first one without it")

    def obstacle(self, proposal: Proposal) -> str:
        """Return why the table cannot be judged, or ""."""
        if proposal.after is None:
            return "would be removed"
        if self._column(proposal):
            return ""
        return f"has no binary column {self.column!r}" if self.column else "has no binary column"

    def judge(self, proposal: Proposal) -> Verdict:
        """Return the verdict on the added rows; a null is no picture."""
        column = self._column(proposal)
        gathered = gather(proposal, ImageRows(column))
        rows, good = proposal.added_rows, gathered.counts.get("good", 0)
        bad = {kind: count for kind, count in sorted(gathered.counts.items()) if kind != "good"}
        told = ", ".join(f"{kind} {count:,}" for kind, count in bad.items())
        share = f"{good:,} of {rows:,} added rows ({percent(ratio(good, rows))}) decode in {column!r}"
        reason = f"{share}{f' ({told})' if told else ''}; {percent(self.min_share)} must"
        ids = evidence(proposal.objects, [row for kind in bad for row in gathered.rows.get(kind, [])])
        passed = Decimal(good) >= self.min_share * rows
        return answer(self, proposal, reason, {"rows": rows, "good": good, **bad}, passed=passed, evidence=ids)

    def _column(self, proposal: Proposal) -> str:
        """Return the name of the column, "" if there is none."""
        binary = [name for name, type_, _ in proposal.after.schema if type_ in _BINARY] if proposal.after else []
        if self.column:
            return self.column if self.column in binary else ""
        return binary[0] if binary else ""


@dataclass(frozen=True)
class ImageRows(Tally):
    """Counts rows that are `good`, `null`, or at fault (see `fault_of`), and shows the latter.

    Attributes:
        column: The column looked at.
    """

    column: str

    @property
    def name(self) -> str:
        """See `Measure`."""
        return measure_name("images", 1, column=self.column)

    def count(self, batch: pa.RecordBatch) -> Counted:
        """Return counts and rows."""
        rows: dict[str, list[int]] = defaultdict(list)
        if self.column in batch.schema.names:
            for row, content in enumerate(batch.column(self.column)):
                rows[_state(content)].append(row)
        counts = {kind: len(found) for kind, found in rows.items()}
        return counts, {kind: found for kind, found in rows.items() if kind != "good"}


def _state(content: pa.Scalar) -> str:
    return (fault_of(content.as_py()) or "good") if content.is_valid else "null"


def _fault_of_frames(image: Image.Image) -> str:
    """Decode one frame after the other."""
    pixels, frame = 0, 0
    while True:
        pixels += image.width * image.height
        if pixels > MAX_PIXELS:
            return "bomb"
        image.load()
        frame += 1
        try:
            image.seek(frame)
        except EOFError:
            return ""
