"""The encoder gives the ids of `tokenizers` for every text, whatever the tokenizer."""

from __future__ import annotations

import json
import random
from itertools import pairwise
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from job_tables import END, library_texts, pair_tokenizer, small_tokenizer_json
from test_unicode_gap import random_texts
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, processors

from pyfactory.core.digest import Digest
from pyfactory.job.steps import encoder
from pyfactory.job.steps.encoder import Encoder, fast_form, warm_encoder
from pyfactory.job.steps.tokenizer_file import byte_level, from_tokenizer, from_tokenizer_json
from pyfactory.store.content import Objects
from pyfactory.store.memory import MemoryStore


def encoded(enc: Encoder, texts: list[str], junk: int = 0) -> list[list[int]]:
    """Encode texts that lie behind `junk` others in their buffers."""
    array = pa.array(["junk"] * junk + texts, pa.large_string()).slice(junk)
    offsets, ids = enc.encode(array)
    return [ids[low:high].tolist() for low, high in pairwise(offsets)]


def expected(tokenizer: Tokenizer, texts: list[str], special_text: str) -> list[list[int]]:
    tokenizer.encode_special_tokens = special_text != "keep"
    return [tokenizer.encode(text, add_special_tokens=False).ids for text in texts]


def model_of(**changes: Any) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(small_tokenizer_json())
    value["model"] |= changes
    return value


def vocabularies() -> dict[str, Tokenizer]:
    """Byte-level BPE as other trainers leave it: ids, holes, orders and leftovers that the usual one does not have."""
    chance = random.Random(5)
    value = model_of()
    vocab, merges = value["model"]["vocab"], [tuple(merge) for merge in value["model"]["merges"]]
    numbers = [*vocab.values()]
    chance.shuffle(numbers)
    permuted = dict(zip(vocab, numbers, strict=True))
    words = ["abcdefg", "Ġabcdef", "aaa", "Ċ", "ĠĠĠ", "zzz", "self", "'s"]
    unreachable = vocab | {word: 1000 + number for number, word in enumerate(words) if word not in vocab}
    shuffled = chance.sample(merges, len(merges))
    symbols = {token: number for number, token in enumerate(sorted(token for token in vocab if len(token) == 1))}
    ways = [
        ("a", "b"),
        ("b", "c"),
        ("ab", "c"),
        ("a", "bc"),
        ("c", "d"),
        ("abc", "d"),
        ("a", "a"),
        ("aa", "aa"),
        ("aa", "a"),
    ]
    chain = dict(symbols)
    for left, right in ways:
        chain.setdefault(left + right, len(chain))
    return {
        "permuted ids": byte_level(models.BPE(vocab=permuted, merges=merges)),
        "ids with holes": byte_level(models.BPE(vocab={k: 3 * v + 5 for k, v in permuted.items()}, merges=merges)),
        "entries that no merge gives": byte_level(models.BPE(vocab=unreachable, merges=merges)),
        "merges in any order": byte_level(models.BPE(vocab=vocab, merges=shuffled)),
        "half of the merges": byte_level(models.BPE(vocab=vocab, merges=merges[::2])),
        "merges twice": byte_level(models.BPE(vocab=vocab, merges=[*merges[100:200], *merges])),
        "bytes only": byte_level(models.BPE(vocab=symbols, merges=[])),
        "one token in two ways": byte_level(models.BPE(vocab=chain, merges=chance.sample(ways, len(ways)))),
    }


@pytest.mark.parametrize("name", vocabularies())
def test_vocabularies_of_other_trainers(name: str) -> None:
    tokenizer = vocabularies()[name]
    file = from_tokenizer_json(tokenizer.to_str().encode(), name)
    assert fast_form(file, []) is not None, "gigatoken is used"
    texts = [*random_texts(3, 600, gap=0.002), library_texts()[1], "", "aaaaabcdabcd" * 300]
    assert encoded(Encoder(file, "escape"), texts, 3) == expected(tokenizer, texts, "escape")


SPECIALS = ["<|endoftext|>", "<|end|>", "<s>", " <s>", "END", "E", "<|endoftext|><s>", "two words", "a.b", "x\\y\n"]


def with_added(*tokens: AddedToken) -> Tokenizer:
    tokenizer = Tokenizer.from_str(pair_tokenizer().to_str())
    for token in tokens:
        (tokenizer.add_special_tokens if token.special else tokenizer.add_tokens)([token])
    return tokenizer


def special(text: str, **flags: bool) -> AddedToken:
    return AddedToken(text, special=True, normalized=False, **flags)


ADDED = {
    "special": [special(text) for text in SPECIALS],
    "prefixes of each other": [special(text) for text in ("a", "ab", "abc", "bc", "c ")],
    "not special": [special("<s>"), AddedToken("<x>", special=False), AddedToken("b c", special=False)],
    "single word": [special("<s>"), special("END", single_word=True), AddedToken("ab", single_word=True)],
    "strips left": [special("<s>", lstrip=True), AddedToken("<x>", lstrip=True)],
    "strips right": [special("<s>", rstrip=True), AddedToken("<x>", rstrip=True)],
}


@pytest.mark.parametrize("name", ADDED)
def test_text_that_looks_like_an_added_token(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tokens of any kind, whole, cut short and joined, while texts for `tokenizers` are cut every few characters."""
    monkeypatch.setattr(encoder, "_PIECE_CHARS", 5)
    tokenizer = with_added(*ADDED[name])
    file = from_tokenizer_json(tokenizer.to_str().encode(), name)
    contents = [token.content for token in ADDED[name]]
    pieces = [*contents, *(text[:-1] for text in contents), *(text[1:] for text in contents), " ", "\n"]
    chance = random.Random(7)
    others = random_texts(8, 400, gap=0.02)
    texts = ["".join(chance.choice([*pieces, chance.choice(others)[:6]]) for _ in range(5)) for _ in range(700)]
    for special_text in ("escape", "keep"):
        assert encoded(Encoder(file, special_text), texts) == expected(tokenizer, texts, special_text)


def test_texts_with_special_text_are_found() -> None:
    tokenizer = with_added(*ADDED["special"], AddedToken("<x>", special=False))
    enc = Encoder(from_tokenizer(tokenizer), "reject")
    texts = [*SPECIALS, "<x>", "<|endoftext", "", "axb", "xy", "e", "N <s >"]
    found = enc.with_special_text(pa.array([f"q{text}q" for text in texts], pa.large_string()))
    assert found.tolist() == list(range(len(SPECIALS)))


def other_kinds() -> dict[str, Tokenizer]:
    kinds = {}
    for name, change in {
        "prefix space": {"pre_tokenizer": {**model_of()["pre_tokenizer"], "add_prefix_space": True}},
        "no pattern": {"pre_tokenizer": {**model_of()["pre_tokenizer"], "use_regex": False}},
        "normalizer": {"normalizer": json.loads(normalizers.NFC().__getstate__())},
        "ignore merges": {"model": {**model_of()["model"], "ignore_merges": True}},
    }.items():
        kinds[name] = Tokenizer.from_str(json.dumps(model_of() | change))
    words = Tokenizer(models.WordLevel({"the": 0, "a": 1, "?": 2}, unk_token="?"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    kinds["words"] = words
    kinds["pieces"] = Tokenizer(models.Unigram([("?", -1.0), ("a", -1.0), ("ab", -0.5)], unk_id=0))
    return kinds


@pytest.mark.parametrize("name", other_kinds())
def test_other_kinds_go_to_tokenizers(name: str) -> None:
    tokenizer = other_kinds()[name]
    file = from_tokenizer_json(tokenizer.to_str().encode(), name)
    assert fast_form(file, []) is None
    texts = [*random_texts(4, 300), "the a e\u0301 ab", ""]
    assert encoded(Encoder(file, "escape"), texts) == expected(tokenizer, texts, "escape")


def test_post_processing_adds_nothing() -> None:
    tokenizer = Tokenizer.from_str(small_tokenizer_json())
    tokenizer.add_special_tokens([END])
    tokenizer.post_processor = processors.TemplateProcessing(f"{END} $A {END}", special_tokens=[(END, 999)])
    enc = Encoder(from_tokenizer_json(tokenizer.to_str().encode(), "t.json"), "escape")
    assert encoded(enc, ["a b", "\u088f's"]) == expected(tokenizer, ["a b", "\u088f's"], "escape")


@settings(deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=20), max_size=8), st.integers(0, 2))
def test_any_texts(texts: list[str], junk: int) -> None:
    tokenizer = pair_tokenizer()
    enc = Encoder(from_tokenizer_json(tokenizer.to_str().encode(), "pairs"), "escape") if not _pairs else _pairs[0]
    _pairs[:] = [enc]
    assert encoded(enc, texts, junk) == expected(tokenizer, texts, "escape")


_pairs: list[Encoder] = []


def test_an_encoder_stays_warm_until_it_has_seen_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """gigatoken remembers every word that it has seen; without a new start its memory would grow for ever."""
    objects = Objects(MemoryStore())
    digest = objects.put(from_tokenizer_json(small_tokenizer_json().encode(), "t.json").content)
    monkeypatch.setattr(encoder, "_RENEW_AFTER", 100)
    first = warm_encoder(objects, digest, "escape", 60)
    assert warm_encoder(objects, digest, "escape", 60) is first
    second = warm_encoder(objects, digest, "escape", 60)
    assert second is not first
    assert warm_encoder(objects, digest, "keep", 0) is not second
    with pytest.raises(LookupError):
        warm_encoder(objects, Digest("0" * 64), "keep", 0)
    assert encoded(warm_encoder(objects, digest, "escape", 0), ["a"]) == [[64]]
