"""Finding electronic mail addresses and network addresses in text.

All patterns are bounded, so the time grows with the length of the text and with nothing else.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator

__all__ = ["EMAIL_HINT", "IP_HINT", "find_emails", "find_ips"]

EMAIL_HINT = r"[\pL\pN.%+'_\-]@[\pL\pN]"
"""RE2 pattern that every text with an address matches."""

IP_HINT = r"[0-9]\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]|[0-9A-Fa-f]::|(?:[0-9A-Fa-f]{1,4}:){6}"
"""RE2 pattern that every text with an IPv4 or IPv6 address matches."""

# Not after '@' or '/': a handle of a social network (`@user@host`) and the user of a URL are no mailbox.
_EMAIL = re.compile(
    r"(?<![\w.%+'@/-])[\w%+][\w.%+'-]{0,63}@((?:[^\W_](?:[\w-]{0,61}[^\W_])?\.){1,8}([^\W\d_]{2,24}))(?![\w-])"
)
_FILE_SUFFIX = re.compile("avif|css|gif|html|jpe?g|m?jsx?|json|md|png|py|svg|tsx?|txt|webp")
_CONTEXT = 24  # characters before a find that are looked at
_PASSWORD_BEFORE = re.compile(r"://[^\s/@]*:$")  # of a URL with user and password
# RFC 2606 and RFC 6761: nobody lives there.
_RESERVED_DOMAIN = re.compile(r"(?:^|\.)(?:example\.(?:com|net|org)|example|test|invalid|localhost)$", re.IGNORECASE)

_IPV4 = re.compile(r"(?<![\w.\-])\d{1,3}(?:\.\d{1,3}){3}(?!\.?\w|\.\d|-\w)")
_VERSION_BEFORE = re.compile(
    r"(?:(?<![a-z])(?:v|ver|version|release|rev|revision|build|firmware|driver|section|sec|chapter|clause|figure|fig|table"
    r"|appendix|article|oid|upgrade|upgraded to|downgrade)[.:]?\s{0,2}|[a-z0-9_][=<>~]=\s{0,2}|[^\W\d_]/|§\s{0,2})$",
    re.IGNORECASE,
)
_IPV6 = re.compile(r"(?<![\w:.])(?=[0-9A-Fa-f]{1,4}:)[0-9A-Fa-f:]{2,39}(?:\.\d{1,3}){0,3}(?![\w:]|\.\w)")

_PRIVATE_V4 = [
    ipaddress.IPv4Network(network)
    for network in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
        *("192.0.0.0/24", "192.0.2.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24"),
        *("224.0.0.0/4", "240.0.0.0/4"),
    )
]
_PRIVATE_V6 = [
    ipaddress.IPv6Network(network) for network in ("2001:db8::/32", "3fff::/20", "fc00::/7", "fe80::/10", "ff00::/8")
]
_UNICAST_V6 = ipaddress.IPv6Network("2000::/3")


def find_emails(text: str) -> Iterator[str]:
    """Yield "email", or "email_reserved" for a domain set aside for examples, for each address in a text.

    Passed over: file names (`icon@2x.png`), the `git@host:path` of a remote, and products of matrices (`a@b.sum()`).
    """
    for match in _EMAIL.finditer(text):
        domain, suffix = match[1], match[2].lower()
        after = text[match.end() : match.end() + 1]
        remote = after == ":" and match[0].startswith(("git@", "hg@", "svn@"))
        if _PASSWORD_BEFORE.search(text[max(0, match.start() - _CONTEXT) : match.start()]):
            continue
        if not _FILE_SUFFIX.fullmatch(suffix) and after != "(" and not remote:
            yield "email_reserved" if _RESERVED_DOMAIN.search(domain) else "email"


def find_ips(text: str) -> Iterator[str]:
    """Yield "ip", or "ip_reserved" for one that names no machine of the open Internet, for each address in a text.

    Passed over: four numbers behind a word such as `version`, which are one.
    """
    for match in _IPV4.finditer(text):
        before = text[max(0, match.start() - _CONTEXT) : match.start()]
        if not _VERSION_BEFORE.search(before):
            yield from _kind_of(match[0])
    for match in _IPV6.finditer(text):
        # With fewer than two groups it is a scope of C++ more often than an address.
        if sum(map(bool, match[0].split(":"))) > 1:
            yield from _kind_of(match[0])


def _kind_of(written: str) -> Iterator[str]:
    """Yield what an address is, nothing if it is none.

    The ranges are written out because those of `ipaddress` differ between versions of Python.
    """
    try:
        address = ipaddress.ip_address(written)
    except ValueError:
        return
    if any(address in network for network in (_PRIVATE_V4 if address.version == 4 else _PRIVATE_V6)):
        yield "ip_reserved"
    elif address.version == 4 or address in _UNICAST_V6:
        yield "ip"
