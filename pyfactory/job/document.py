"""YAML files as plain values that remember their lines, so that every complaint can name one.

Only what a configuration needs is taken: mappings with text keys, lists, text, decimal integers, true, false and null.
What YAML would guess (`no`, `012`, `1:30`, dates), floats, duplicate keys, aliases and tags are refused rather than
guessed.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import yaml

from pyfactory.core.durable import translate_os_error
from pyfactory.errors import InvalidInputError

__all__ = ["Document", "Where", "nearest", "parse_document", "read_document"]

Where: TypeAlias = tuple[str | int, ...]
"""The way to a value: keys and list indices, from the outside in."""

_TAG = "tag:yaml.org,2002:"
_INTEGER = re.compile(r"[+-]?(0|[1-9][0-9_]{0,24})")
_LITERALS: dict[str, bool | None] = {"true": True, "false": False, "null": None, "~": None, "": None}


@dataclass(frozen=True, slots=True)
class Document:
    """A YAML file that has been read.

    Attributes:
        path: The file.
        value: Its content: dict, list, str, int, bool and None.
        lines: Line of each value (of its key, if it has one), from 1.
    """

    path: Path
    value: Any
    lines: Mapping[Where, int] = field(repr=False)

    def at(self, where: Where) -> str:
        """Return "file:line" of a value, or of the nearest value around it that exists."""
        while where and where not in self.lines:
            where = where[:-1]
        return f"{self.path}:{self.lines.get(where, 1)}"


def read_document(path: Path) -> Document:
    """Read a YAML file.

    Raises:
        NotFoundError: There is no such file.
        InvalidInputError: It is no YAML, or holds more than a configuration may; the message says file:line.
    """
    with translate_os_error(path):
        content = path.read_bytes()
    try:
        return parse_document(content.decode(), path)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InvalidInputError(f"{path}:{line}: this is not UTF-8 text", hint="save the file as UTF-8") from error


def parse_document(text: str, path: Path) -> Document:
    """Return a YAML text as a document; `path` names it in errors. See `read_document`."""
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        reading = _Reading(path)
        value = None if root is None else reading.value_of(root, ())
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        message = f"{path}:{line}: this is not YAML: {error.problem or error.context}"
        raise InvalidInputError(message, hint="look at brackets, quotes and indentation, here and above") from error
    except yaml.YAMLError as error:  # a character that no YAML has
        line = text.count("\n", 0, getattr(error, "position", 0)) + 1
        reason = getattr(error, "reason", " ".join(str(error).split()))
        message = f"{path}:{line}: this is not YAML: {reason}"
        raise InvalidInputError(message, hint="remove control characters") from error
    except RecursionError:
        raise InvalidInputError(f"{path}: the values are nested too deeply", hint="a job is flat") from None
    return Document(path, value, reading.lines)


def nearest(word: str, allowed: Iterable[str]) -> str:
    """Return the hint for an unknown word: the nearest allowed one, if any is near, and all of them."""
    choices = sorted(allowed)
    near = difflib.get_close_matches(word, choices, n=1, cutoff=0.5)
    listing = f"allowed: {', '.join(choices)}"
    return f"did you mean {near[0]!r}? {listing}" if near else listing


class _Reading:
    """Turns the nodes of one file into values."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: set[int] = set()
        self.lines: dict[Where, int] = {}

    def value_of(self, node: yaml.Node, where: Where) -> Any:
        # An alias is the very node of its anchor: without them no file is larger than it looks.
        if id(node) in self._seen:
            line = self.lines.get(where, node.start_mark.line + 1)  # the node itself stands at the anchor
            message = f"{self._path}:{line}: an alias (*name) is not allowed here"
            raise InvalidInputError(message, hint="write the value out")
        self._seen.add(id(node))
        self.lines.setdefault(where, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode) and node.tag == f"{_TAG}map":
            return self._mapping(node, where)
        if isinstance(node, yaml.SequenceNode) and node.tag == f"{_TAG}seq":
            items: Sequence[yaml.Node] = node.value
            return [self.value_of(item, (*where, index)) for index, item in enumerate(items)]
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node)
        raise self._refusal(node, f"the tag {node.tag} is not allowed here", "write a plain value")

    def _mapping(self, node: yaml.MappingNode, where: Where) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = key_node.value
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag not in {f"{_TAG}str", f"{_TAG}merge"}:
                raise self._refusal(key_node, f"the key {key!r} is not text", "quote it")
            if key in result:
                first = self.lines[(*where, key)]
                raise self._refusal(
                    key_node, f"the key {key!r} occurs twice, first on line {first}", "keep one of them"
                )
            self.lines[(*where, key)] = key_node.start_mark.line + 1
            result[key] = self.value_of(value_node, (*where, key))
        return result

    def _scalar(self, node: yaml.ScalarNode) -> str | int | bool | None:
        text: str = node.value
        match node.tag.removeprefix(_TAG):
            case "str":
                return text
            case "int" if _INTEGER.fullmatch(text):
                return int(text)
            case "bool" | "null" if text.lower() in _LITERALS:
                return _LITERALS[text.lower()]
            case "float":
                hint = f"write an integer, or quote it ('{text}') where text is taken, as options of gates are"
                raise self._refusal(node, f"{text} is a number with a fraction, and none is taken", hint)
            case "int":
                raise self._refusal(
                    node, f"{text} is not a plain decimal integer", f"quote it ('{text}') if it is text"
                )
        hint = f"quote it ('{text}') if it is text; truth values are true and false"
        raise self._refusal(node, f"{text!r} is not a plain value: YAML reads it as {node.tag}", hint)

    def _refusal(self, node: yaml.Node, message: str, hint: str) -> InvalidInputError:
        return InvalidInputError(f"{self._path}:{node.start_mark.line + 1}: {message}", hint=hint)
