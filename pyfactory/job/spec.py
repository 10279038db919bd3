"""Job files: read, checked to the last field, and turned into one value that is the same on every machine.

    input: raw                  # a table, or table@ref
    output: corpus
    steps:
      - filter: {min_chars: 200}
      - dedup: {method: exact}
      - tokenize: {vocab: gpt2/vocab.json, merges: gpt2/merges.txt, append: "<|endoftext|>"}
      - shuffle: {seed: 7}
    shards: {target_bytes: 64MB}
    pack: {packing: best_fit, sequence_length: 2048}

Paths are relative to the job file. Whatever is wrong is told with file and line.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeGuard, TypeVar, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from pyfactory.core.canonical import Value, digest_of_value
from pyfactory.core.digest import Digest
from pyfactory.errors import InvalidInputError
from pyfactory.job.document import Document, Where, nearest, read_document
from pyfactory.job.plan import Plan, find_misplaced, make_plan
from pyfactory.job.steps.base import FieldError, Step
from pyfactory.job.steps.open import STEPS, open_parameters
from pyfactory.shard.packing_format import LONGEST

__all__ = ["JobSpec", "PackSection", "load_job", "parse_job", "parse_size"]

Model = TypeVar("Model", bound=BaseModel)

_SIZE = re.compile(r"([0-9]{1,18}) ?([kKMGT]i?)?B")
_FACTORS = {"": 1, "k": 10**3, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_FACTORS |= {f"{letter}i": 1024**power for power, letter in enumerate("KMGT", 1)}
_LARGEST_SHARD = 1 << 30  # a shard is gathered in memory, a few at a time


def parse_size(size: object) -> object:
    """Return bytes of a size such as 64MB, 512KB or 1GiB; what is not text is returned as it is."""
    if not isinstance(size, str):
        return size
    found = _SIZE.fullmatch(size)
    if not found or (found[2] or "") not in _FACTORS:
        raise ValueError(f"{size!r} is not a size; write for instance 64MB, 512KB or 1GiB")
    return int(found[1]) * _FACTORS[found[2] or ""]


Size = Annotated[int, BeforeValidator(parse_size), Field(ge=1, le=_LARGEST_SHARD)]
"""Bytes, written as an integer or as 64MB, 512KB, 1GiB."""


def _table(name: str) -> str:
    # How names are spelled in full is the business of the repository.
    if not name or re.search(r"[@\s]", name):
        raise ValueError(f"{name!r} is not the name of a table")
    return name


def _table_or_ref(name: str) -> str:
    table, at, ref = name.partition("@")
    _table(table)
    if at and (not ref or re.search(r"\s", ref)):
        raise ValueError(f"{name!r} is not a table@ref")
    return name


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class ShardsSection(_Strict):
    """Section `shards` of a job file: how the new table is cut.

    Attributes:
        target_bytes: Size that shards have at most, but for single rows.
    """

    target_bytes: Size = 64_000_000


class PackSection(_Strict):
    """Section `pack` of a job file: the packing table that is made for the new table.

    Attributes:
        packing: One of `shard.packing_format.METHODS`.
        sequence_length: Inputs of a sample.
    """

    packing: Literal["best_fit", "padded", "documents"] = "best_fit"
    sequence_length: Annotated[int, Field(ge=1, le=LONGEST)]


class JobFile(_Strict):
    """A job file as it is written; the steps are checked one by one.

    Attributes:
        input: Table to read, or table@ref.
        output: Table to make.
        steps: One step per item: its name and its parameters.
        shards: How the new table is cut.
        pack: The packing table that is made for it, if any.
    """

    input: Annotated[str, AfterValidator(_table_or_ref)]
    output: Annotated[str, AfterValidator(_table)]
    steps: Annotated[list[Any], Field(min_length=1)]
    shards: ShardsSection = ShardsSection()
    pack: PackSection | None = None


@dataclass(frozen=True, slots=True)
class JobSpec:
    """A checked job, its files read.

    Attributes:
        path: The job file.
        input: Table to read, or table@ref.
        output: Table to make.
        plan: Its steps.
        pack: The packing table that is made for the new table, if any.
    """

    path: Path
    input: str
    output: str
    plan: Plan
    pack: PackSection | None = None

    @property
    def input_table(self) -> str:
        """Table to read."""
        return self.input.partition("@")[0]

    @property
    def input_ref(self) -> str | None:
        """Where the job wants it looked up, if it says."""
        return self.input.partition("@")[2] or None

    def value(self) -> Value:
        """Return the job as a canonical value: digests stand for files, so it is the same wherever they lie."""
        *steps, write = self.plan.steps
        tables = {"kind": "job", "v": 1, "input": self.input, "output": self.output}
        packed = {} if self.pack is None else {"pack": self.pack.model_dump()}
        return {**tables, "steps": [{step.name: step.value()} for step in steps], "shards": write.value(), **packed}

    def digest(self) -> Digest:
        """Return the digest of the job."""
        return digest_of_value(self.value())


def load_job(path: str | Path) -> JobSpec:
    """Read a job file and the files that it names.

    Raises:
        NotFoundError: There is no such file.
        InvalidInputError: Something in it is wrong; the message starts with file:line.
    """
    return parse_job(read_document(Path(path)))


def parse_job(document: Document) -> JobSpec:
    """Check a document as a job; see `load_job`."""
    job = _validated(document, (), JobFile, document.value)
    names = [_step_name(document, ("steps", index), step) for index, step in enumerate(job.steps)]
    misplaced = find_misplaced(names)
    if misplaced:
        raise InvalidInputError(f"{document.at(('steps', misplaced[0]))}: {misplaced[1]}")
    steps = [
        _bound(document, index, name, step[name])
        for index, (name, step) in enumerate(zip(names, job.steps, strict=True))
    ]
    _check_tokenizer(document, names, steps)
    if job.pack is not None and "tokenize" not in names:
        raise InvalidInputError(f"{document.at(('pack',))}: pack needs tokens", hint="add the step tokenize")
    return JobSpec(document.path, job.input, job.output, make_plan(steps, job.shards.target_bytes), job.pack)


def _step_name(document: Document, where: Where, step: object) -> str:
    if not isinstance(step, dict) or len(step) != 1:
        raise InvalidInputError(
            f"{document.at(where)}: {_name(where)} is not one step with its parameters",
            hint="write `- filter: {min_chars: 200}`: a dash, the step's name, its parameters",
        )
    (name,) = step
    if name not in STEPS:
        raise InvalidInputError(f"{document.at((*where, name))}: there is no step {name!r}", hint=nearest(name, STEPS))
    return str(name)


def _bound(document: Document, index: int, name: str, parameters: object) -> Step:
    where: Where = ("steps", index, name)
    checked = _validated(document, where, open_parameters(name), {} if parameters is None else parameters)
    try:
        return checked.bind(document.path.parent)
    except FieldError as error:
        field = (*where, error.name)
        raise InvalidInputError(f"{document.at(field)}: {_name(field)}: {error.message}", hint=error.hint) from error
    except InvalidInputError as error:
        raise InvalidInputError(f"{document.at(where)}: {_name(where)}: {error.message}", hint=error.hint) from error


def _check_tokenizer(document: Document, names: list[str], steps: list[Step]) -> None:
    if "tokenize" not in names:
        return
    index = names.index("tokenize")
    own = not {"vocab", "tokenizer"}.isdisjoint(steps[index].value())
    where = document.at(("steps", index, "tokenize"))
    if own and "train_tokenizer" in names:
        raise InvalidInputError(
            f"{where}: tokenize names a tokenizer, and one is trained before", hint="drop one of them"
        )
    if not own and "train_tokenizer" not in names:
        hint = "give vocab and merges, or tokenizer, or put train_tokenizer before it"
        raise InvalidInputError(f"{where}: tokenize has no tokenizer", hint=hint)


def _validated(document: Document, where: Where, model: type[Model], value: object) -> Model:
    if not isinstance(value, dict):
        fields = ", ".join(model.model_fields)
        raise InvalidInputError(f"{document.at(where)}: {_name(where)} is not a mapping", hint=f"its keys: {fields}")
    try:
        return model.model_validate(value)
    except ValidationError as error:
        # A mistyped key is also a missing one: the typo is what to tell.
        errors = sorted(error.errors(), key=lambda found: found["type"] != "extra_forbidden")
        raise _located(document, where, model, errors[0]) from error


def _located(document: Document, where: Where, model: type[BaseModel], error: ErrorDetails) -> InvalidInputError:
    """Return what pydantic found wrong as an error with file, line, key and the way out."""
    inner = (*where, *error["loc"])
    place = document.at(inner)
    if error["type"] == "extra_forbidden":
        allowed = _fields_at(model, error["loc"][:-1])
        unknown = str(error["loc"][-1])
        return InvalidInputError(f"{place}: {_name(inner[:-1])} has no key {unknown!r}", hint=nearest(unknown, allowed))
    if error["type"] == "missing":
        return InvalidInputError(f"{place}: {_name(inner[:-1])} lacks the key {error['loc'][-1]!r}", hint="add it")
    if error["type"] == "too_short" and not error["input"]:
        return InvalidInputError(f"{place}: {_name(inner)}: the list is empty", hint="give it at least 1 item")
    message = error["msg"].removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    if message.startswith("input should"):
        given = "a mapping" if isinstance(error["input"], dict) else repr(error["input"])
        message = f"{given[:80]} is wrong: it {message.removeprefix('input ')}"
    return InvalidInputError(f"{place}: {_name(inner)}: {message}")


def _fields_at(model: type[BaseModel], location: tuple[int | str, ...]) -> Mapping[str, object]:
    """Return the keys that a nested section may have."""
    for key in location:
        annotation = model.model_fields[str(key)].annotation
        nested = next((each for each in (annotation, *get_args(annotation)) if _is_model(each)), None)
        if nested is None:
            break
        model = nested
    return model.model_fields


def _is_model(annotation: object) -> TypeGuard[type[BaseModel]]:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _name(where: Where) -> str:
    """Return the way to a value as people write it: steps[0].filter.min_chars."""
    name = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in where).removeprefix(".")
    return name or "the job"
