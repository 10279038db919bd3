"""Finding phone numbers and payment card numbers in text.

Bare strings of digits are no phone numbers here: identifiers, prices and times would drown them. What counts is a
leading plus, or one of the common national ways to write them with separators. All patterns are bounded.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

__all__ = ["CARD_HINT", "PHONE_HINT", "find_cards", "find_phones", "passes_luhn"]

PHONE_HINT = r"\p{Nd}(?:[ ().\-/]{0,4}\p{Nd}){6}"
"""RE2 pattern that every text with a phone number matches."""

CARD_HINT = r"[0-9](?:[ \-]?[0-9]){12}"
"""RE2 pattern that every text with a card number matches."""

# Country codes as assigned (ITU-T E.164), without those of satellites and services.
_COUNTRY = re.compile(
    r"1|7|2[07]|3[0-469]|4[013-9]|5[1-8]|6[0-6]|8[1246]|9[0-58]"
    r"|2(?:1[12368]|[2346]\d|5[0-8]|9[0178])|3(?:5\d|7[0-8]|8[0-356789])|42[013]|5(?:0\d|9\d)"
    r"|6(?:7[02-9]|8[0-35-9]|9[0-2])|8(?:5[02356]|80|86)|9(?:6[0-8]|7[0-7]|9[2-68])"
)

_PLUS = re.compile(r"(?<![\w+.])\+([1-9](?:[ .()/\-]{0,3}\d){6,15})(?!\w)")
_DOUBLE_ZERO = re.compile(r"(?<![\w.+\-/:,])(?<!\d )00([1-9]\d{0,2}[ .()/\-](?:[ .()/\-]{0,2}\d){6,12})(?!\w)")
_NORTH_AMERICA = re.compile(
    r"(?<![\w.\-/$€£,+])(?:1[ .\-])?(?:\([2-9]\d{2}\)[ \-]{0,2}[2-9]\d{2}[ .\-]\d{4}"
    r"|[2-9]\d{2}([.\-])[2-9]\d{2}\1\d{4})"
    r"(?![\w\-]|[.,]\d)"
)
_BRACKETS = re.compile(r"(?<![\w.\-/+])\(\d{2,5}\) {0,2}\d{3,5}(?:[ \-]\d{2,5}){1,2}(?![\w\-]|[.,]\d)")
_NATIONAL = re.compile(r"(?<![\w.+\-/:,(])(?<!\d )\(?(0[1-9]\d{0,4})\)?((?:[ /.\-]{1,3}\d{2,8}){1,4})(?!\w|[\-.:/,]\d)")
_NAMED = re.compile(
    r"(?<![^\W_])(?:tele(?:ph|f)one?|phone|tel|mobile|mobil|cell|call|fax|whatsapp|handy|móvil|celular|teléfono"
    r"|téléphone|тел|телефон|电话|電話|手机)(?![^\W\d_])[^\d\n+(]{0,12}(\+?\(?\d(?:[ ().\-/]{0,3}\d){6,14})(?!\w)",
    re.IGNORECASE,
)
_DATE = re.compile(r"(?<!\d)(?:\d{1,2}([./ \-])\d{1,2}\1(?:19|20)\d{2}|(?:19|20)\d{2}([./ \-])\d{2}\2\d{2})(?!\d)")
_DIGITS = re.compile(r"\d+")

_CARD = re.compile(r"(?<![\w.\-])(?<!\d )\d(?:[ \-]?\d){12,18}(?![\w\-]|\.\d| \d{4}(?!\d))")
_GROUPED = re.compile(r"\d{13,19}|\d{4}([ \-])\d{4}\1\d{4}\1\d{1,4}(?:\1\d{3})?|\d{4}([ \-])\d{6}\2\d{4,5}", re.ASCII)
# (pattern of the first digits, lengths)
_ISSUERS = [
    (re.compile(r"4"), {16, 19}),
    (re.compile(r"5[1-5]|222[1-9]|22[3-9]|2[3-6]|27[01]|2720"), {16}),
    (re.compile(r"3[47]"), {15}),
    (re.compile(r"6011|64[4-9]|65"), {16, 17, 18, 19}),
    (re.compile(r"35(?:2[89]|[3-8])"), {16, 17, 18, 19}),
    (re.compile(r"30[0-5]|3095|36|3[89]"), {14, 16, 19}),
    (re.compile(r"62"), {16, 17, 18, 19}),
    (re.compile(r"50(?:18|20|38)|5893|6304|6759|676[1-3]"), {13, 14, 15, 16, 17, 18, 19}),
]


def find_phones(text: str) -> Iterator[str]:
    """Yield "phone" once or more for each number in a text that is written as phone numbers are."""
    for match in (*_PLUS.finditer(text), *_DOUBLE_ZERO.finditer(text)):
        if _is_international(match[1], plus=match[0][0] == "+"):
            yield "phone"
    for _ in _NORTH_AMERICA.finditer(text):
        yield "phone"
    for match in _BRACKETS.finditer(text):
        if 9 <= _count_digits(match[0]) <= 12:
            yield "phone"
    for match in _NATIONAL.finditer(text):
        if _is_national([match[1], *_DIGITS.findall(match[2])], match, text):
            yield "phone"
    for match in _NAMED.finditer(text):
        if _is_named(match[1]):
            yield "phone"


def find_cards(text: str) -> Iterator[str]:
    """Yield "card" for each number with the length, first digits, grouping and check digit of a payment card."""
    for match in _CARD.finditer(text):
        digits = match[0].replace(" ", "").replace("-", "")
        if digits.isascii() and _GROUPED.fullmatch(match[0]) and _has_issuer(digits) and passes_luhn(digits):
            yield "card"


def passes_luhn(digits: str) -> bool:
    """Tell whether the last of ASCII digits is their check digit (ISO/IEC 7812-1, annex B)."""
    doubled = sum(sum(divmod(2 * int(digit), 10)) for digit in digits[-2::-2])
    return (doubled + sum(map(int, digits[-1::-2]))) % 10 == 0


def _has_issuer(digits: str) -> bool:
    return any(len(digits) in lengths and first.match(digits) for first, lengths in _ISSUERS)


def _count_digits(text: str) -> int:
    return sum(map(len, _DIGITS.findall(text)))


def _is_international(number: str, *, plus: bool) -> bool:
    groups = _DIGITS.findall(number)
    digits = "".join(groups)
    if not 8 <= len(digits) <= 15 or not _COUNTRY.match(digits) or _DATE.search(number) or digits.endswith("00000"):
        return False
    if digits[0] == "1":  # North America: ten digits, and neither area nor exchange starts with 0 or 1
        return len(digits) == 11 and digits[1] > "1" and digits[4] > "1"
    if len(groups) == 1:
        return plus and len(digits) >= 10
    return not (len(groups) == 2 and "." in number)  # which is a decimal fraction


def _is_national(groups: list[str], match: re.Match[str], text: str) -> bool:
    """Judge a number with a leading zero; `groups` are its groups of digits."""
    shape = [len(group) for group in groups]
    if _DATE.search(match[0]) or set("".join(groups)) <= {"0", "1"}:
        return False
    if all(length == 2 for length in shape):  # as in France, and as in any list of small numbers
        around = text[max(0, match.start() - 2) : match.start()] + text[match.end() : match.end() + 2]
        return len(shape) == 5 and not _DIGITS.search(around)
    if shape in ([5, 4], [3, 2, 4]) and "-" in match[0]:  # postal codes and social security numbers
        return False
    return groups[1][0] != "0" and any(9 <= sum(shape[:stop]) <= 11 for stop in range(2, len(shape) + 1))


def _is_named(number: str) -> bool:
    """Judge a number behind a word such as `phone`."""
    shape = [len(group) for group in _DIGITS.findall(number)]
    if len(shape) < 2 or _DATE.search(number):
        return False
    if shape == [3, 4]:
        return "-" in number
    if set(re.sub(r"\d", "", number)) == {"."} and (len(shape) < 3 or min(shape) < 2):  # a version
        return False
    return 9 <= sum(shape) <= 15
