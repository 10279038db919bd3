"""Finding secrets in text: keys of well-known services, private keys, passwords in URLs, and assignments to such names.

All patterns are bounded. Nothing that is found is returned or kept: only that there was something.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator

__all__ = ["KEY_HINT", "entropy", "find_keys"]

KEY_HINT = (
    r"AKIA|ASIA|gh[pousr]_|github_pat_|glpat-|xox[abposr]-|hooks\.slack\.com|AIza|sk-|[sr]k_live_|whsec_|PRIVATE KEY"
    r"|eyJ[\w\-]{8}|hf_|npm_|pypi-|SG\.|://[^\s/@]{1,200}@"
    r"|(?i:key|secret|token|passw(?:or)?d)[\"'\]]{0,2}\s{0,3}(?::|=)"
)
"""RE2 pattern that every text with a secret matches."""

_SERVICES = re.compile(
    "|".join(
        (
            r"(?<![A-Z0-9])(?:AKIA|ASIA)[A-Z2-7]{16}(?![A-Z0-9])(?<!EXAMPLE)",  # Amazon; its manuals end them so
            r"(?<![A-Za-z0-9])gh[pousr]_[A-Za-z0-9]{36,251}",  # GitHub
            r"github_pat_[A-Za-z0-9]{22}_[A-Za-z0-9]{59}",
            r"(?<![A-Za-z0-9])glpat-[A-Za-z0-9_\-]{20,64}",  # GitLab
            r"(?<![A-Za-z0-9])xox[abposr]-[0-9]{8,16}-[A-Za-z0-9\-]{10,200}",  # Slack
            r"hooks\.slack\.com/services/T[A-Z0-9]{8,12}/B[A-Z0-9]{8,12}/[A-Za-z0-9]{20,30}",
            r"(?<![A-Za-z0-9])AIza[A-Za-z0-9_\-]{35}(?![A-Za-z0-9_\-])",  # Google
            r"(?<![A-Za-z0-9])[sr]k_live_[A-Za-z0-9]{16,250}",  # Stripe
            r"(?<![A-Za-z0-9])whsec_[A-Za-z0-9+/]{24,64}",
            r"(?<![A-Za-z0-9])hf_[A-Za-z]{34}(?![A-Za-z0-9])",  # Hugging Face
            r"(?<![A-Za-z0-9])npm_[A-Za-z0-9]{36}(?![A-Za-z0-9])",
            r"(?<![A-Za-z0-9])pypi-[A-Za-z0-9_\-]{80,250}",
            r"(?<![A-Za-z0-9])SG\.[A-Za-z0-9_\-]{22}\.[A-Za-z0-9_\-]{43}",  # SendGrid
            r"-----BEGIN (?:[A-Z]{1,12} ){0,3}PRIVATE KEY(?: BLOCK)?-----",
            r"(?<![\w\-])eyJ[\w\-]{8,2000}\.eyJ[\w\-]{8,4000}\.[\w\-]{16,2000}",  # JSON web token
        )
    )
)
_SK = re.compile(r"(?<![A-Za-z0-9\-_])sk-(?:ant-|proj-|svcacct-|or-)?([A-Za-z0-9_\-]{20,200})")
_IN_URL = re.compile(
    r"(?<![A-Za-z0-9+.\-])[A-Za-z][A-Za-z0-9+.\-]{1,20}://([^\s:/@\"'<>]{1,64}):([^\s:/@\"'<>]{3,128})@"
)
_ASSIGNED = re.compile(
    r"(?:api[_\- ]?key|secret(?:[_\-]?(?:access[_\-]?)?key)?|(?:access|auth|api|bot|refresh)[_\-]?token"
    r"|client[_\-]?secret|private[_\-]?key|passw(?:or)?d)[\"'\]]{0,2}\s{0,3}(?::=|=>|=|:)\s{0,3}[\"'`]?"
    r"([A-Za-z0-9+/_\-.=~!@#$%^&*]{16,256})",
    re.IGNORECASE,
)
_PLACEHOLDER = re.compile(
    r"your|example|change|replace|placeholder|dummy|sample|fake|redacted|xxxx|\*\*\*\*|0000|1234567|\.\.\.|environ"
    r"|getenv|process\.env",
    re.IGNORECASE,
)
_HEX = re.compile(r"[0-9a-fA-F]+")
_MIN_ENTROPY = 3.5
_MIN_HEX_ENTROPY = 3.0  # of at most 4


def find_keys(text: str) -> Iterator[str]:
    """Yield "key" for each secret in a text.

    Values of names such as `api_key` count if they look like chance (Shannon entropy per character, letters and digits)
    and not like a placeholder.
    """
    for _ in _SERVICES.finditer(text):
        yield "key"
    for match in _SK.finditer(text):
        if _looks_random(match[1]) and _mixes_cases(match[1]):
            yield "key"
    for match in _IN_URL.finditer(text):
        if not _PLACEHOLDER.search(match[2]) and not match[2].lower().startswith(("pass", "$", "{", "secret", "user")):
            yield "key"
    for match in _ASSIGNED.finditer(text):
        if _looks_random(match[1]):
            yield "key"


def entropy(text: str) -> float:
    """Return the Shannon entropy of the characters of a text, in bits per character; 0 for an empty text."""
    return -sum(count / len(text) * math.log2(count / len(text)) for count in Counter(text).values())


def _looks_random(value: str) -> bool:
    if _PLACEHOLDER.search(value) or not any(map(str.isdigit, value)) or not any(map(str.isalpha, value)):
        return False
    return entropy(value) >= (_MIN_HEX_ENTROPY if _HEX.fullmatch(value) else _MIN_ENTROPY)


def _mixes_cases(value: str) -> bool:
    return any(map(str.isupper, value)) and any(map(str.islower, value))
