"""The YAML files of configs/ as frozen values; a mistake names the file, the line and the key."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pyfactory.errors import InvalidInputError, NotFoundError
from pyfactory.job.complaint import complaint
from pyfactory.job.document import Document, Where, read_document
from pyfactory.order.recipe import Recipe

__all__ = [
    "PhaseEntry",
    "SourceEntry",
    "Training",
    "load",
    "load_recipe",
    "load_training",
    "load_with_lines",
    "located",
]


class SourceEntry(BaseModel):
    """A source of a mixture.

    Attributes:
        table: A token table.
        version: Tag or commit digest; a branch is refused, since it moves.
        weight: Its share in samples, relative to the others: a decimal in quotes.
        epochs: How often its samples may come: a decimal in quotes; None is without end.
        repository: Folder (relative to the file) or URL; by default that of the training.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    table: str
    version: str
    weight: str | int = 1
    epochs: str | int | None = None
    repository: str | None = None


class PhaseEntry(BaseModel):
    """What changes at a position; what is not named stays. See `Stream.then`.

    Attributes:
        at: The first position of the phase.
        weights: New weights by name, of all sources that go on.
        mixture: Other sources altogether, by name.
        version: The new version of the only source.
        versions: New versions by name of source.
        unseen_only: Whether of the new versions first only that is delivered which was not seen.
        sequence_length, block_size, window, packing, across_documents, fill, response_template: As in a recipe; an
            empty response_template ends the one before.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    at: int
    weights: dict[str, str | int] | None = None
    mixture: dict[str, SourceEntry] | None = None
    version: str | None = None
    versions: dict[str, str] | None = None
    unseen_only: bool = False
    sequence_length: int | None = None
    block_size: int | None = None
    window: int | None = None
    packing: str | None = None
    across_documents: bool | None = None
    fill: int | None = None
    response_template: list[int] | None = None

    def recipe(self) -> dict[str, Any]:
        """Return what changes of the recipe."""
        changes = self.model_dump(include=set(Recipe.__dataclass_fields__), exclude_none=True)
        return changes | ({"response_template": ()} if self.response_template == [] else {})


class Training(BaseModel):
    """What a training program needs to make its loader.

    Attributes:
        repository: Folder (relative to this file) or URL.
        seed: Seed of the stream.
        recipe: How samples are cut and ordered: a recipe file, relative to this one.
        global_batch: Samples of a train step over all ranks.
        table: A token table. Give it with `version`, or `mixture` instead of both.
        version: Tag or commit digest; a branch is refused, since it moves.
        mixture: Several tables with weights, by name.
        phases: What changes at which position, in order.
        batch_size: Samples of a batch of one rank; None makes each rank's part of a train step one batch.
        strided: Whether ranks take every world-size-th position, not neighbours.
        num_workers: Threads per rank.
        prefetch_factor: Batches made ahead by each thread.
        fields: Batch entries wanted; None is all.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    repository: str
    seed: int = Field(ge=0, lt=2**64)
    recipe: str
    global_batch: int = Field(ge=1)
    table: str | None = None
    version: str | None = None
    mixture: dict[str, SourceEntry] | None = None
    phases: list[PhaseEntry] = []
    batch_size: int | None = Field(None, ge=1)
    strided: bool = False
    num_workers: int = Field(2, ge=0)
    prefetch_factor: int = Field(2, ge=1)
    fields: list[str] | None = None


class _Recipe(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    sequence_length: int
    block_size: int = 1
    window: int = 1
    packing: str = "concat"
    across_documents: bool = False
    fill: int = 0
    response_template: list[int] | None = None


Model = TypeVar("Model", bound=BaseModel)


def load_training(path: str | Path) -> Training:
    """Read a training file.

    Raises:
        NotFoundError: There is no such file.
        InvalidInputError: It is not valid; the message says file:line and the key.
    """
    return load_with_lines(path, Training)[0]


def load_recipe(path: str | Path) -> Recipe:
    """Read a recipe file; errors as of `load_training`."""
    recipe, document = load_with_lines(path, _Recipe)
    values = recipe.model_dump()
    with located(document, *((name,) for name in values)):
        template = values.pop("response_template")
        # A list, also an empty one, is a template that was asked for; () is none.
        return Recipe(**values, response_template=() if template is None else template)


def load(path: str | Path, model: type[Model]) -> Model:
    """Read a file as any other model, such as `economics.PriceSheet`; errors as of `load_training`."""
    return load_with_lines(path, model)[0]


def load_with_lines(path: str | Path, model: type[Model]) -> tuple[Model, Document]:
    """Read a file as a model, and return with it the document that knows its lines; errors as of `load_training`."""
    document = read_document(Path(path))
    try:
        return model.model_validate(document.value), document
    except ValidationError as error:
        raise complaint(document, model, error) from error


@contextmanager
def located(document: Document, *places: Where) -> Iterator[None]:
    """Let an InvalidInputError or NotFoundError in the block name the file, the line and the key it is about.

    Args:
        document: The file.
        *places: Where the block takes its values from: the key that the message begins with, else the first place.
    """
    try:
        yield
    except (InvalidInputError, NotFoundError) as error:
        where = next((place for place in places if error.message.startswith(f"{place[-1]} ")), places[0])
        key = ".".join(map(str, where))
        said = error.message if error.message.startswith(f"{where[-1]} ") else f"{key}: {error.message}"
        raise type(error)(f"{document.at(where)}: {said}", hint=error.hint) from error
