"""The table of characters on which gigatoken and `tokenizers` differ, made again with what is installed."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from itertools import pairwise

import gigatoken
import pyarrow as pa
import pytest
from job_tables import pair_tokenizer

from pyfactory.job.steps import encoder, unicode_gap
from pyfactory.job.steps.encoder import Encoder, check_versions, fast_form
from pyfactory.job.steps.tokenizer_file import from_tokenizer
from pyfactory.job.steps.unicode_gap import RANGES

GAP = {point for first, last in RANGES for point in range(first, last + 1)}
POINTS = [point for point in range(0x110000) if not 0xD800 <= point < 0xE000]
GROUP = 256

Tokenise = Callable[[Sequence[str]], list[list[int]]]

SHAPES = (
    *("{c}", "a{c}", "{c}a", "1{c}", "{c}1", "!{c}", "{c}!", " {c}", "'{c}", "\n{c}\n", "'s{c}", "'l{c}", "  {c}x"),
    *(" {c}a", "a{c}1", "1{c}a", "{c} {c}", "{c}  x", "{c}{c}'ll"),
)


@pytest.fixture(scope="module")
def by_gigatoken() -> Tokenise:
    form = fast_form(from_tokenizer(pair_tokenizer()), [])
    assert form is not None
    tokenizer = gigatoken.Tokenizer.from_json(form)
    return lambda texts: tokenizer.encode_batch_list(list(texts), parallel=False)


def by_tokenizers(texts: Sequence[str]) -> list[list[int]]:
    return [encoding.ids for encoding in pair_tokenizer().encode_batch_fast(list(texts), add_special_tokens=False)]


def differing(shape: str, points: list[int], gigatokens: Tokenise) -> set[int]:
    """Find the code points for which texts of a shape differ: first in groups, a line each, then one by one."""
    groups = [points[start : start + GROUP] for start in range(0, len(points), GROUP)]
    texts = ["".join(f"{shape.replace('{c}', chr(point))}\n" for point in group) for group in groups]
    pairs = zip(groups, gigatokens(texts), by_tokenizers(texts), strict=True)
    suspects = [point for group, fast, exact in pairs if fast != exact for point in group]
    alone = [shape.replace("{c}", chr(point)) for point in suspects]
    triples = zip(suspects, gigatokens(alone), by_tokenizers(alone), strict=True)
    return {point for point, fast, exact in triples if fast != exact}


def test_the_table_is_what_the_installed_libraries_give(by_gigatoken: Tokenise) -> None:
    """All planes with characters in them, in the shape that shows every known difference. Fails on any other table."""
    points = [point for point in POINTS if point >> 16 in (0, 1, 2, 3, 14)]
    assert differing("{c}'s", points, by_gigatoken) == GAP


@pytest.mark.slow
def test_no_code_point_in_any_shape_shows_more(by_gigatoken: Tokenise) -> None:
    assert differing("{c}'s", POINTS, by_gigatoken) == GAP
    for shape in SHAPES:
        assert differing(shape, POINTS, by_gigatoken) <= GAP, shape


def test_the_table_is_well_formed() -> None:
    bounds = [bound for first, last in RANGES for bound in (first, last + 1)]
    assert bounds == sorted(set(bounds))
    assert all(chr(point).encode()[:2] in unicode_gap.PREFIXES for point in GAP)


def pools() -> list[list[str]]:
    """Characters that belong together: scripts, white space, marks, emoji, contractions, lengths at SIMD borders."""
    blocks = [(0x80, 0x250), (0x300, 0x370), (0x370, 0x530), (0x590, 0x800), (0x900, 0x1100), (0x2070, 0x218C)]
    blocks += [(0x3040, 0x3100), (0x4E00, 0x4E80), (0xAC00, 0xAC40)]
    scripts = [[chr(point) for point in range(*block) if point not in GAP] for block in blocks]
    spaces = " \t\n\r\x0b\x0c\x1c\x1d\x1e\x1f\x85\xa0\u1680\u180e\u2000\u2003\u2007\u200a\u200b\u200c\u200d\u2028\u2029"
    return [
        *scripts,
        list("abcdefgzABZ"),
        list("0123456789①②Ⅷ½٣४๕\u3007"),
        list("'\"!?.,;:-_()[]{}<>|@#$%^&*+=~`/\\"),
        [*spaces, "\u202f", "\u205f", "\u2060", "\u3000", "\ufeff", "\x00", "\x7f"],
        ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d", "'S", "'LL", "''s", "\u2019s", " '"],
        [*"👩👨🏽❤🔥🏳🌈👍🏿", "\u200d", "\ufe0f", "\U0001f1e6", "👩\u200d👩\u200d👧"],
        ["a" * length for length in (7, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 255, 256, 257)],
        [" " * length for length in (1, 2, 3, 7, 8, 15, 16, 17, 31, 32, 33, 64)],
    ]


def random_texts(seed: int, count: int, gap: float = 0.0) -> list[str]:
    chance, groups = random.Random(seed), pools()
    others = [chr(point) for point in POINTS if point not in GAP]
    missing = [chr(point) for point in sorted(GAP)]
    texts = []
    for _ in range(count):
        chosen = chance.sample(groups, chance.randint(1, 5))
        text = []
        for _ in range(chance.choice((1, 2, 3, 5, 8, 13, 40))):
            kind = chance.random()
            source = missing if kind < gap else others if kind > 0.97 else chance.choice(chosen)
            text.append(chance.choice(source))
        texts.append("".join(text))
    return texts


def check_random_texts(seed: int, count: int, by_gigatoken: Tokenise) -> None:
    texts = random_texts(seed, count)
    for text, fast, exact in zip(texts, by_gigatoken(texts), by_tokenizers(texts), strict=True):
        assert fast == exact, ascii(text)


def test_random_texts_without_the_gap_are_the_same(by_gigatoken: Tokenise) -> None:
    check_random_texts(1, 20_000, by_gigatoken)


@pytest.mark.slow
def test_many_random_texts_without_the_gap_are_the_same(by_gigatoken: Tokenise) -> None:
    for seed in range(2, 6):
        check_random_texts(seed, 200_000, by_gigatoken)


def test_the_encoder_is_exact_on_texts_with_the_gap() -> None:
    """Catches a character of the gap that the search does not see."""
    texts = [*random_texts(9, 3000, gap=0.05), *(f"{chr(point)}'s" for point in sorted(GAP))]
    enc = Encoder(from_tokenizer(pair_tokenizer()), "escape")
    for start in range(0, len(texts), 50):  # small blocks: most of them hold few texts of the gap, or none
        block = texts[start : start + 50]
        offsets, ids = enc.encode(pa.array(block, pa.large_string()))
        found = [ids[low:high].tolist() for low, high in pairwise(offsets)]
        assert found == by_tokenizers(block)


@pytest.mark.parametrize("point", sorted({first for first, _ in RANGES} | {last for _, last in RANGES}))
def test_a_single_character_of_the_gap_is_seen(point: int) -> None:
    octets = pa.array(["plain text", f"春 {chr(point)}"], pa.large_string())
    assert encoder._may_hold_gap(encoder._octets(octets))
    assert encoder._matching(octets, encoder._GAP).tolist() == [1]


def test_ordinary_text_is_not_searched() -> None:
    """Korean and emoji begin with the same byte as parts of the gap; only the cheap look may see them."""
    for text in ("", "ascii", "żółw", "春は曙", "한국어 텍스트", "emoji 😀👍🏿", "हिन्दी"):
        assert not encoder._may_hold_gap(encoder._octets(pa.array([text], pa.large_string())))


def test_other_versions_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    check_versions()
    monkeypatch.setattr(unicode_gap, "GIGATOKEN", "0.9.9")
    with pytest.raises(
        ValueError, match=r"never compared.*install gigatoken 0\.9\.9 and tokenizers .*constraints\.txt"
    ):
        check_versions()
