"""The YAML files of configs/ as frozen values; a mistake names the file, the line and the key."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from pyfactory.errors import InvalidInputError
from pyfactory.job.document import Document, nearest, read_document
from pyfactory.order.recipe import Recipe

__all__ = ["Training", "load", "load_recipe", "load_training"]


class Training(BaseModel):
    """What a training program needs to make its loader.

    Attributes:
        repository: Folder (relative to this file) or URL.
        table: A token table.
        version: Tag or commit digest; a branch is refused, since it moves.
        seed: Seed of the stream.
        recipe: How samples are ordered: a recipe file, relative to this one.
        global_batch: Samples of a train step over all ranks.
        num_workers: Threads per rank.
        prefetch_factor: Batches made ahead by each thread.
        fields: Batch entries wanted; None is all.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    repository: str
    table: str
    version: str
    seed: int
    recipe: str
    global_batch: int
    num_workers: int = 2
    prefetch_factor: int = 2
    fields: list[str] | None = None


class _Recipe(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    sequence_length: int
    block_size: int = 1
    window: int = 1


Model = TypeVar("Model", bound=BaseModel)


def load_training(path: str | Path) -> Training:
    """Read a training file.

    Raises:
        NotFoundError: There is no such file.
        InvalidInputError: It is not valid; the message says file:line and the key.
    """
    return load(path, Training)


def load_recipe(path: str | Path) -> Recipe:
    """Read a recipe file; errors as of `load_training`."""
    return Recipe(**load(path, _Recipe).model_dump())


def load(path: str | Path, model: type[Model]) -> Model:
    """Read a file as any other model, such as `economics.PriceSheet`; errors as of `load_training`."""
    document = read_document(Path(path))
    try:
        return model.model_validate(document.value)
    except ValidationError as error:
        raise _refusal(document, model, error) from error


def _refusal(document: Document, model: type[BaseModel], error: ValidationError) -> InvalidInputError:
    first = error.errors()[0]
    where = tuple(first["loc"])
    key = ".".join(map(str, where)) or "the file"
    if first["type"] == "extra_forbidden":
        return InvalidInputError(f"{document.at(where)}: unknown key {key!r}", hint=nearest(key, model.model_fields))
    return InvalidInputError(f"{document.at(where)}: {key}: {first['msg']}")
