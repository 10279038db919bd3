"""A training file -> a stream, and a loader of it."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyfactory.config import PhaseEntry, SourceEntry, Training, load_recipe, load_with_lines, located
from pyfactory.errors import InvalidInputError, NotFoundError
from pyfactory.job.document import Document, Where
from pyfactory.loader.schedule import Schedule, legs_of
from pyfactory.repo.names import suggestion
from pyfactory.repo.repository import Repository
from pyfactory.repo.version import Version
from pyfactory.stream.mixture import Mixture, Source
from pyfactory.stream.stream import Stream

if TYPE_CHECKING:
    from pyfactory.loader.loader import DataLoader

__all__ = ["open_loader", "open_stream"]

# The key that a message of the loader is about, by words in it.
_BLAMED = {"a global_batch of": "global_batch", "a train step takes": "global_batch", "a batch has no": "fields"}


def open_stream(training: str | Path, *, require: str = "") -> Stream:
    """Return the stream that a training file describes, with all its phases; see configs/curriculum.yaml.

    Args:
        training: The file.
        require: What the data must be, such as "signed,gated"; see `Stream`.

    Raises:
        InvalidInputError: The file is not valid, or names a branch, which moves.
        NotFoundError: No such file, repository, table or version.
        RefusedError: The data is not what is required; the refusal is in the log.
    """
    return _Opening(*load_with_lines(training, Training)).stream(require)


def open_loader(
    training: str | Path,
    *,
    rank: int | None = None,
    world_size: int | None = None,
    require: str = "",
    **place: Any,
) -> DataLoader:
    """Return the loader that a training file describes; see configs/training.yaml.

    It warns of a phase that changes the sequence_length in the middle of a train step, counted from position 0: the
    loader refuses that when it begins, unless it goes on from a state whose train steps fit.

    Args:
        training: The file.
        rank: This process; see `DataLoader`.
        world_size: Number of processes.
        require: What the data must be, such as "signed,gated"; see `Stream`.
        **place: Where this process stands besides: `mesh`, `dp_dims`, `cp_dim`, `cp_rank`, `cp_size` and `cp_layout` of
            `DataLoader`.

    Raises:
        InvalidInputError: The file is not valid, or names a branch, which moves.
        NotFoundError: No such file, repository, table or version.
        RefusedError: The data is not what is required; the refusal is in the log.
    """
    from pyfactory.loader.loader import DataLoader  # here, so that importing and building never load torch

    config, document = load_with_lines(training, Training)
    stream = _Opening(config, document).stream(require)
    with _blamed(document):
        loader = DataLoader(
            stream,
            config.batch_size,
            global_batch=config.global_batch,
            rank=rank,
            world_size=world_size,
            strided=config.strided,
            num_workers=config.num_workers,
            prefetch_factor=config.prefetch_factor,
            fields=config.fields,
            **place,
        )
    # No error: the file may be that of a run which goes on from a state and whose global batch was another before. The
    # loader refuses once it knows where it begins: when a state is loaded, and when iteration starts.
    try:
        Schedule(legs_of(stream), loader.lane.global_batch).check(0)
    except InvalidInputError as error:
        number = next((i for i, each in enumerate(config.phases) if f"position {each.at}," in error.message), 0)
        said = f"{document.at(('phases', number))}: phases.{number}: {error.message}, counted from position 0"
        warnings.warn(f"{said}; {error.hint}", stacklevel=2)
    return loader


@contextmanager
def _blamed(document: Document) -> Iterator[None]:
    """Let what a loader says about values of the file name their lines; the place of the process is no such value."""
    try:
        yield
    except InvalidInputError as error:
        key = next((key for said, key in _BLAMED.items() if said in error.message), None)
        if key is None:
            raise
        raise InvalidInputError(f"{document.at((key,))}: {key}: {error.message}", hint=error.hint) from error


class _Opening:
    """Opens what a training file names, so that every complaint says where in the file."""

    def __init__(self, config: Training, document: Document) -> None:
        self._config = config
        self._document = document
        self._repositories: dict[str, Repository] = {}
        # Where the sources of the phase at hand come from: (repository, table) by name.
        self._homes: dict[str, tuple[str, str]] = {}

    def stream(self, require: str) -> Stream:
        """Return the stream with all phases."""
        recipe = load_recipe(self._document.path.parent / self._config.recipe)
        begun = self._first()
        with located(self._document, ("mixture",) if self._config.mixture else ("table",), ("seed",)):
            stream = Stream(
                begun,
                seed=self._config.seed,
                sequence_length=recipe.sequence_length,
                block_size=recipe.block_size,
                window=recipe.window,
                packing=recipe.packing,
                across_documents=recipe.across_documents,
                fill=recipe.fill,
                response_template=recipe.response_template,
                require=require,
            )
        for number, phase in enumerate(self._config.phases):
            stream = self._then(stream, phase, ("phases", number))
        return stream

    def _first(self) -> Version | Mixture:
        config = self._config
        if config.mixture is not None:
            if config.table is not None or config.version is not None:
                key = "table" if config.table is not None else "version"
                raise InvalidInputError(
                    f"{self._document.at((key,))}: {key}: the mixture names tables and versions already",
                    hint=f"give {key} or mixture, not both",
                )
            return self._mixture(config.mixture, ("mixture",))
        if config.table is None or config.version is None:
            key = "version" if config.version is None else "table"
            raise InvalidInputError(
                f"{self._document.at(())}: {key}: it is not given", hint="give table and version, or mixture"
            )
        self._homes = {config.table: (config.repository, config.table)}
        return self._version(config.table, config.version, ("version",))

    def _then(self, stream: Stream, phase: PhaseEntry, where: Where) -> Stream:
        mixture = None if phase.mixture is None else self._mixture(phase.mixture, (*where, "mixture"))
        version = None
        if phase.version is not None:
            with located(self._document, (*where, "version")):
                if len(self._homes) != 1:
                    names = ", ".join(sorted(self._homes)[:8])
                    raise InvalidInputError(f"there are several sources: {names}", hint="give versions by name")
            version = self._version(next(iter(self._homes)), phase.version, (*where, "version"))
        versions = None
        if phase.versions is not None:
            there = (*where, "versions")
            versions = {name: self._version(name, asked, (*there, name)) for name, asked in phase.versions.items()}
        keys = ("at", "weights", "mixture", "version", "versions", "unseen_only", *phase.recipe())
        with located(self._document, where, *((*where, key) for key in keys)):
            return stream.then(
                at=phase.at,
                weights=phase.weights,
                version=version,
                versions=versions,
                mixture=mixture,
                unseen_only=phase.unseen_only,
                **phase.recipe(),
            )

    def _mixture(self, entries: Mapping[str, SourceEntry], where: Where) -> Mixture:
        self._homes = {
            name: (entry.repository or self._config.repository, entry.table) for name, entry in entries.items()
        }
        sources = {name: self._source(name, entry, (*where, name)) for name, entry in entries.items()}
        with located(self._document, where):
            return Mixture(sources)

    def _source(self, name: str, entry: SourceEntry, where: Where) -> Source:
        version = self._version(name, entry.version, (*where, "version"))
        with located(self._document, (*where, "epochs")):
            return Source(version, entry.weight, epochs=entry.epochs)

    def _version(self, name: str, asked: str, where: Where) -> Version:
        """Return a version of the table that a source of this name reads."""
        with located(self._document, where):
            if name not in self._homes:
                raise NotFoundError(f"there is no source {name!r}", hint=suggestion(name, self._homes))
            url, table = self._homes[name]
            return self._repository(url).version(table, asked, strict=True)

    def _repository(self, url: str) -> Repository:
        if url not in self._repositories:
            # Like the recipe, a repository that is a relative path lies relative to the file.
            place = url if "://" in url else self._document.path.parent / url
            self._repositories[url] = Repository.open(place)
        return self._repositories[url]
