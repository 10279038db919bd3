"""Tokenizers as files: what is taken, what is refused, and the one form that is stored."""

from __future__ import annotations

import json
from typing import Any

import pytest
from job_tables import END, small_tokenizer_json
from tokenizers import Tokenizer

from pyfactory.errors import InvalidInputError
from pyfactory.job.steps.tokenizer_file import (
    MAX_VOCAB,
    TokenizerFile,
    from_stored,
    from_tokenizer_json,
    from_vocab_and_merges,
)


def small() -> dict[str, Any]:
    value: dict[str, Any] = json.loads(small_tokenizer_json())
    return value


def read(value: object) -> TokenizerFile:
    return from_tokenizer_json(json.dumps(value).encode(), "t.json")


def files(vocab: object = None, merges: str | None = None) -> TokenizerFile:
    model = small()["model"]
    lines = "".join(f"{left} {right}\n" for left, right in model["merges"]) if merges is None else merges
    content = json.dumps(model["vocab"] if vocab is None else vocab).encode()
    return from_vocab_and_merges(content, lines.encode(), "vocab.json", "merges.txt")


def test_both_ways_give_the_same_bytes() -> None:
    assert files().content == read(small()).content
    assert files(merges="#version: 0.2\n" + "".join(f"{a} {b}\r\n" for a, b in small()["model"]["merges"])).content == (
        files().content
    )


def test_the_stored_form_is_a_fixed_point() -> None:
    file, number = files().with_append(END)
    assert number == 999
    assert from_tokenizer_json(file.content, "it") == file == from_stored(file.content)
    assert Tokenizer.from_str(file.content.decode()).to_str().encode() == file.content


def test_formatting_of_the_file_does_not_matter() -> None:
    pretty = json.dumps(small(), indent=3).encode()
    assert from_tokenizer_json(pretty, "t.json").content == files().content


def test_truncation_and_padding_are_taken_out() -> None:
    cut = small() | {
        "truncation": {"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0},
        "padding": {
            "strategy": {"Fixed": 9},
            "direction": "Right",
            "pad_to_multiple_of": None,
            "pad_id": 0,
            "pad_type_id": 0,
            "pad_token": "!",
        },
    }
    assert read(cut).content == files().content


@pytest.mark.parametrize(
    ("greatest", "size", "width"), [(255, 256, 1), (256, 257, 2), (65535, 65536, 2), (65536, 65537, 4)]
)
def test_the_narrowest_width_is_taken(greatest: int, size: int, width: int) -> None:
    vocab = {token: number for number, token in enumerate(sorted(_bytes()))}
    if greatest > 255:
        vocab["the"] = greatest
    file = files(vocab, "")
    assert (file.vocab_size, file.width) == (size, width)


def _bytes() -> set[str]:
    return {token for token in small()["model"]["vocab"] if len(token) == 1}


@pytest.mark.parametrize(
    ("text", "expected"),
    [(END, 999), ("\n", None), (" the", None), ("in", None), ("!", None)],
)
def test_append_is_one_token(text: str, expected: int | None) -> None:
    file, number = files().with_append(text)
    plain = files().open().encode(text).ids
    assert number == (plain[0] if expected is None else expected)
    assert len(plain) == 1 or expected is not None
    specials = [token["content"] for token in file.value["added_tokens"]]
    assert specials == ([END] if text == END else []), "only what no text gives is made special"
    assert file.open().decode([number], skip_special_tokens=False) == text


@pytest.mark.parametrize("text", ["<eos>", "two words", "", "\ud7ff\ud7ff", "Ġthe"])
def test_append_that_is_not_one_token(text: str) -> None:
    if text == "Ġthe":  # an entry of the vocabulary, but as text it is other bytes; as an entry no text gives it
        assert files().with_append(text)[1] == small()["model"]["vocab"]["Ġthe"]
        return
    with pytest.raises(InvalidInputError, match="is not one token of the vocabulary"):
        files().with_append(text)


def test_an_added_token_may_be_appended() -> None:
    tokenizer = Tokenizer.from_str(small_tokenizer_json())
    tokenizer.add_special_tokens(["<eos>"])
    file = from_tokenizer_json(tokenizer.to_str().encode(), "t.json")
    assert file.vocab_size == 1001
    assert file.with_append("<eos>") == (file, 1000)


def changed(**model: object) -> dict[str, Any]:
    value = small()
    value["model"] |= model
    return value


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        ([], "does not hold a JSON object"),
        ({}, "it has no model"),
        ({"model": {}}, "is not a tokenizer.json"),
        (changed(dropout=0.1), "has dropout, so its tokens are random"),
        (changed(vocab={"a": MAX_VOCAB}), "ids go from 0 to 16777215"),
        (changed(vocab={"a": 2**40}), "ids go from 0"),
        (changed(vocab={"a": -1}), "the id of 'a' is -1"),
        (changed(vocab={"a": 1.5}), "the id of 'a' is 1.5"),
        (changed(vocab={"a": True}), "the id of 'a' is True"),
        (changed(vocab={"a": 1, "b": 1}), "'a' and 'b' have the same id 1"),
        (changed(vocab={"a": 1}, merges=[]), "lacks 255 of the 256 byte symbols"),
        (changed(merges=[["q", "never"]]), "is not a tokenizer.json"),
        (changed(type="Magic"), "is not a tokenizer.json"),
        (small() | {"added_tokens": [{"id": 2**31, "content": "x"}]}, "the id of 'x' is 2147483648"),
    ],
)
def test_files_that_are_refused(value: object, complaint: str) -> None:
    with pytest.raises(InvalidInputError, match=r"t\.json") as caught:
        read(value)
    assert complaint in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[" * 100_000, b"nul"])
def test_bytes_that_are_no_json(content: bytes) -> None:
    with pytest.raises(InvalidInputError, match=r"t\.json is not JSON"):
        from_tokenizer_json(content, "t.json")


@pytest.mark.parametrize(
    ("merges", "complaint"),
    [
        ("a b c\n", "merges.txt:1: 'a b c' is not two tokens"),
        ("#version\nab\n", "merges.txt:2: 'ab' is not two tokens"),
        ("#version\nt h\n\nt h\n", "merges.txt:3: '' is not two tokens"),
        ("t  h\n", "merges.txt:1"),
        ("q never\n", "merges.txt:1: merging 'q' and 'never' needs 'never', which vocab.json lacks"),
        ("q Q\n", "needs 'qQ', which vocab.json lacks"),
    ],
)
def test_merges_that_are_refused(merges: str, complaint: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        files(merges=merges)
    assert complaint in str(caught.value)


def test_merges_that_are_no_text() -> None:
    vocab = json.dumps(small()["model"]["vocab"]).encode()
    with pytest.raises(InvalidInputError, match=r"merges\.txt is not UTF-8"):
        from_vocab_and_merges(vocab, b"\xff", "vocab.json", "merges.txt")


def test_a_vocabulary_without_all_bytes_is_refused() -> None:
    """`tokenizers` would drop the other bytes of a text without a word."""
    vocab = {token: number for token, number in small()["model"]["vocab"].items() if token != "q"}
    with pytest.raises(InvalidInputError, match=r"lacks 1 of the 256 byte symbols \('q' is one\)"):
        files(vocab, "")
