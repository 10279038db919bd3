"""What pydantic finds wrong with a YAML file, in plain words with file, line and key."""

from __future__ import annotations

import re
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from pyfactory.errors import InvalidInputError
from pyfactory.job.document import Document, Where, nearest

__all__ = ["complaint"]

_KINDS = {
    "string_type": "text",
    "int_type": "a whole number",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
}
_BOUNDS = {"greater_than_equal": ("at least", "ge"), "less_than": ("less than", "lt")}
_INTEGER = re.compile(r"[+-]?[0-9]+")
_SHOWN = 60


def complaint(document: Document, model: type[BaseModel], error: ValidationError) -> InvalidInputError:
    """Return what is wrong with a document that should be a model: the first thing, unknown keys before all others."""
    # A mistyped key is also a missing one: the typo is what to tell.
    errors = sorted(error.errors(), key=lambda found: found["type"] != "extra_forbidden")
    first = errors[0]
    where = _place(document, first)
    key = ".".join(map(str, where)) or "the file"
    place = document.at(where)
    if first["type"] == "extra_forbidden":
        allowed = _model_at(model, where).model_fields
        return InvalidInputError(f"{place}: unknown key {key!r}", hint=nearest(str(where[-1]), allowed))
    if first["type"] == "missing":
        return InvalidInputError(f"{place}: {key}: it is not given", hint="add it")
    if not where and first["input"] is None:
        return InvalidInputError(f"{place}: the file is empty", hint=f"its keys: {', '.join(model.model_fields)}")
    if first["type"] in _KINDS:
        # Of a value that may be of several types, each is an error of its own.
        kinds = [each["type"] for each in errors if _place(document, each) == where and each["type"] in _KINDS]
        names = " or ".join(dict.fromkeys(_KINDS[kind] for kind in kinds))
        said = f"{place}: {key}: {_shown(first['input'])} is not {names}"
        return InvalidInputError(said, hint=_way_out(first, kinds, _model_at(model, (*where, ""))))
    if first["type"] in _BOUNDS:
        word, name = _BOUNDS[first["type"]]
        said = f"{place}: {key}: {_shown(first['input'])} is out of range"
        return InvalidInputError(said, hint=f"it must be {word} {first['ctx'][name]}")
    return InvalidInputError(f"{place}: {key}: {first['msg'].removeprefix('Value error, ')}")


def _place(document: Document, error: ErrorDetails) -> Where:
    where = tuple(error["loc"])
    if error["type"] != "missing":
        # Behind the way to a value that may be of several types, pydantic names the type that it tried.
        while where and where not in document.lines:
            where = where[:-1]
    return where


def _shown(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case dict():
            return "a mapping"
        case list():
            return "a list"
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."


def _way_out(error: ErrorDetails, kinds: list[str], model: type[BaseModel]) -> str:
    """Return the hint for a value of the wrong kind, "" if there is no simple one."""
    value = error["input"]
    if "model_type" in kinds:
        return f"its keys: {', '.join(model.model_fields)}"
    if kinds == ["int_type"] and isinstance(value, str) and _INTEGER.fullmatch(value):
        return f"take it out of the quotes: {value}"
    if "string_type" in kinds and isinstance(value, int):
        return f'put it in quotes: "{_shown(value)}"' if kinds == ["string_type"] else ""
    return "write [a, b]" if kinds == ["list_type"] else ""


def _model_at(model: type[BaseModel], where: Where) -> type[BaseModel]:
    """Return the model whose key a place is."""
    for step in where[:-1]:
        if step in model.model_fields:
            model = _nested(model.model_fields[str(step)].annotation) or model
    return model


def _nested(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _nested(part)) is not None), None)
