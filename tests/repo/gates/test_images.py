"""The gate `images`: pictures that decode from the first byte to the last; made here with Pillow, then damaged."""

from __future__ import annotations

import zlib
from io import BytesIO
from typing import Any

import pytest
from cases import documented
from gate_tables import grown, part_of, table, verdict_on
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pyfactory.repo.gates import images
from pyfactory.repo.gates.images import fault_of
from pyfactory.repo.gates.run import judge
from pyfactory.repo.objects import Tree
from pyfactory.repo.rules import GateRule
from pyfactory.store.content import Objects
from pyfactory.store.memory import MemoryStore

COLUMNS = [["image", "binary", True]]
SUFFIXES = ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF", "PPM", "AVIF")


def picture(format_: str = "PNG", size: tuple[int, int] = (48, 32), **options: Any) -> bytes:
    """A picture with a gradient, so that no format makes it tiny."""
    image = Image.linear_gradient("L").resize(size).convert("RGB")
    image.putpixel((1, 1), (255, 0, 9))
    content = BytesIO()
    image.save(content, format_, **options)
    return content.getvalue()


def film(frames: int = 3) -> bytes:
    content = BytesIO()
    pictures = [Image.new("L", (20, 20), 40 * number) for number in range(frames)]
    pictures[0].save(content, "GIF", save_all=True, append_images=pictures[1:])
    return content.getvalue()


def flipped(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 0xFF]) + content[at + 1 :]


def bomb() -> bytes:
    """A PNG that says it has 20,000 x 20,000 pixels."""
    content = picture()
    header = b"IHDR" + (20_000).to_bytes(4, "big") * 2 + content[24:29]
    return content[:12] + header + zlib.crc32(header).to_bytes(4, "big") + content[33:]


def labelled() -> list[tuple[bool, bytes]]:
    """Whether a picture is at fault, and its bytes: whole ones, cut ones, damaged ones and what is none."""
    whole = [picture(format_) for format_ in SUFFIXES]
    whole += [
        film(),
        picture("PNG", (2, 2)),
        picture("JPEG", progressive=True),
        picture("TIFF", compression="tiff_lzw"),
    ]
    cut = [content[: len(content) * part // 10] for content in whole[:8] for part in (1, 5, 9)]
    damaged = [flipped(picture("PNG"), at) for at in (1, 20, 45, 60, 80)]
    damaged += [flipped(picture("JPEG"), len(picture("JPEG")) * part // 10) for part in (7, 8, 9)]
    others = [
        b"",
        b"\0",
        b"no picture",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"%!PS-Adobe-3.0 EPSF-3.0\n",
        bomb(),
    ]
    return [(False, content) for content in whole] + [(True, content) for content in cut + damaged + others]


def measured() -> tuple[int, int, str, str]:
    """See `cases.measured`."""
    cases = labelled()
    found = [bool(fault_of(content)) for _, content in cases]
    right = sum(label and hit for (label, _), hit in zip(cases, found, strict=True))
    positives = sum(label for label, _ in cases)
    return len(cases), positives, f"{right * 100 // sum(found) / 100:.2f}", f"{right * 100 // positives / 100:.2f}"


def test_precision_and_recall_are_those_of_the_docs() -> None:
    """Mutant: the header is looked at and the pixels are not."""
    assert measured() == documented()["images"]


def test_headers_are_not_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fixture catches the mutant that opens and does not decode."""
    before = measured()
    monkeypatch.setattr(images, "_fault_of_frames", lambda image: "")
    assert measured()[3] < before[3]


@pytest.mark.parametrize("format_", SUFFIXES)
def test_whole_pictures(format_: str) -> None:
    assert fault_of(picture(format_)) == ""


def test_faults_have_names() -> None:
    png = picture()
    assert [fault_of(content) for content in (b"", b"text", png[: len(png) // 2], bomb())] == [
        *("empty", "unknown", "broken", "bomb")
    ]


def test_all_frames_are_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mutants: only the first frame; the limit holds for one frame at a time."""
    assert fault_of(film()) == ""
    monkeypatch.setattr(images, "MAX_PIXELS", 2 * 400)
    assert fault_of(film(2)) == "" and fault_of(film(3)) == "bomb"


def test_programs_are_never_started() -> None:
    """Pillow hands EPS to Ghostscript. Mutant: all formats are open."""
    assert "EPS" not in images.FORMATS
    assert fault_of(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n") == "unknown"


def test_verdict() -> None:
    """Mutant: nulls are left out of the rows."""
    png = picture()
    rows = [{"image": content} for content in (png, None, png[:-40], b"", png)]
    verdict = verdict_on("images", {"min_share": "0.5"}, None, rows, columns=COLUMNS)
    assert verdict.found == {"rows": 5, "good": 2, "broken": 1, "empty": 1, "null": 1}
    assert not verdict.passed and verdict.evidence == ("r1", "r2", "r3")
    assert "2 of 5 added rows (40%) decode in 'image' (broken 1, empty 1, null 1); 50% must" in verdict.reason
    assert verdict_on("images", {"min_share": "0.4"}, None, rows, columns=COLUMNS).passed


def test_tables_without_pictures() -> None:
    """Mutant: a rule that names the table passes."""
    assert not verdict_on("images", {}, None, ["a"]).passed
    assert "no binary column 'text'" in verdict_on("images", {"column": "text"}, None, ["a"]).reason
    objects = Objects(MemoryStore())
    state = table(objects, ["a"])
    after = grown(objects, state, [part_of(objects, ["b"])])
    assert judge(objects, [GateRule("images")], Tree({"t": state}), Tree({"t": after})) == []


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(SUFFIXES), st.binary(max_size=40), st.floats(0, 1), st.booleans())
def test_hostile_bytes(format_: str, noise: bytes, part: float, keep: bool) -> None:
    """Whatever the bytes, there is an answer, and no warning that would end a test."""
    content = PICTURES[format_]
    at = int(part * len(content))
    hostile = content[:at] + noise + (content[at + len(noise) :] if keep else b"")
    assert fault_of(hostile) in ("", "empty", "unknown", "broken", "bomb")


PICTURES = {format_: picture(format_) for format_ in SUFFIXES}
