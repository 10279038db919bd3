"""Training files: the stream they describe, and complaints that name file, line and key."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pyfactory.config import load_recipe, load_training
from pyfactory.errors import InvalidInputError, NotFoundError
from pyfactory.factory.loading import open_loader, open_stream
from pyfactory.order.recipe import Recipe
from pyfactory.repo.repository import Repository
from pyfactory.stream.mixture import Mixture, Source
from pyfactory.stream.stream import Stream
from tests.stream.stream_model import commit_tokens, named_documents

CONFIGS = Path(__file__).parent.parent / "configs"

BEGIN = "repository: repo\nseed: 7\nrecipe: recipe.yaml\nglobal_batch: 8\n"
SINGLE = BEGIN + "table: web\nversion: v1\n"
MIXED = f"""{BEGIN}mixture:
  web: {{table: web, version: v1, weight: "0.7"}}
  code:
    table: code
    version: v1
    weight: "0.3"
    epochs: "4.5"
  books: {{repository: other, table: web, version: v1, weight: "0.1"}}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Repositories `repo` (tables web and code, web larger in v2) and `other`, and a recipe."""
    place = tmp_path_factory.mktemp("config")
    for far, home in ((0, "repo"), (1_000_000, "other")):
        repo = Repository.create(place / home)
        for number, name in enumerate(("web", "code")):
            commit_tokens(repo, name, [named_documents(name, [40, 50, 60], far + number * 10_000)])
        repo.tag("v1")
        commit_tokens(repo, "web", [named_documents("new", [70, 80], far + 50_000)], append=True)
        repo.tag("v2")
    (place / "recipe.yaml").write_text("sequence_length: 8\nblock_size: 2\nwindow: 3\nfill: 5\n")
    return place


def write(folder: Path, text: str) -> Path:
    file = folder / "training.yaml"
    file.write_text(text)
    return file


def recipe() -> dict[str, int]:
    return {"seed": 7, "sequence_length": 8, "block_size": 2, "window": 3, "fill": 5}


def version_of(folder: Path, home: str, table: str, tag: str = "v1"):
    return Repository.open(folder / home).version(table, tag)


def test_a_mixture_with_phases_is_the_stream_that_python_makes(folder):
    """Catches: a key that is read and not used; phases in another order; a version of the wrong repository."""
    file = write(
        folder,
        f"""{MIXED}phases:
  - at: 16
    weights: {{web: 1, code: "0.5", books: 2}}
  - at: 32
    sequence_length: 16
    block_size: 1
    across_documents: true
  - at: 40
    versions: {{books: v2}}
    unseen_only: true
  - at: 48
    mixture:
      web: {{table: web, version: v2, weight: "0.9"}}
      more: {{table: code, version: v1, epochs: 3}}
""",
    )
    web, code, books = (version_of(folder, *at) for at in (("repo", "web"), ("repo", "code"), ("other", "web")))
    mixture = Mixture({"web": (web, "0.7"), "code": Source(code, "0.3", epochs="4.5"), "books": (books, "0.1")})
    later = {"web": (version_of(folder, "repo", "web", "v2"), "0.9"), "more": Source(code, epochs=3)}
    expected = (
        Stream(mixture, **recipe())
        .then(at=16, weights={"web": 1, "code": "0.5", "books": 2})
        .then(at=32, sequence_length=16, block_size=1, across_documents=True)
        .then(at=40, versions={"books": version_of(folder, "other", "web", "v2")}, unseen_only=True)
        .then(at=48, mixture=Mixture(later))
    )
    stream = open_stream(file)
    assert stream.identity == expected.identity
    assert stream.tokens(range(32)).tolist() == expected.tokens(range(32)).tolist()
    assert stream.tokens(range(32, 70)).tolist() == expected.tokens(range(32, 70)).tolist()


def test_a_single_table_with_phases(folder):
    """Catches: a version that is looked up elsewhere; unseen_only lost."""
    file = write(folder, SINGLE + "phases:\n  - {at: 10, version: v2, unseen_only: true}\n")
    expected = Stream(version_of(folder, "repo", "web"), **recipe())
    expected = expected.then(at=10, version=version_of(folder, "repo", "web", "v2"), unseen_only=True)
    assert open_stream(file).identity == expected.identity
    plain = write(folder, SINGLE)
    assert open_stream(plain).identity == Stream(version_of(folder, "repo", "web"), **recipe()).identity


def test_the_loader_of_a_training_file(folder):
    """Catches: accumulation or strided lanes that a file cannot ask for."""
    more = "batch_size: 2\nstrided: true\nnum_workers: 0\nfields: [input_ids, indices]\n"
    with open_loader(write(folder, MIXED + more), rank=1, world_size=2) as loader:
        assert (loader.batch_size, loader.accumulation, loader.lane.global_batch) == (2, 2, 8)
        first, second = (batch for _, batch in zip(range(2), loader, strict=False))
    with open_loader(write(folder, MIXED + more), rank=1, world_size=2, cp_rank=0, cp_size=2) as loader:
        assert next(iter(loader))["input_ids"].shape == (2, 4)
    assert set(first) == {"input_ids", "indices", "span"}
    assert [first["indices"].tolist(), second["indices"].tolist()] == [[1, 3], [5, 7]]


def test_a_phase_off_the_grid_of_train_steps_is_told_when_the_file_is_opened(folder):
    """Not refused: the file may go on with a run whose global batch was another. Catches: hours until it is told."""
    file = write(folder, SINGLE + "phases:\n  - {at: 16, fill: 3}\n  - {at: 21, sequence_length: 16}\n")
    with pytest.warns(
        UserWarning, match=r"training.yaml:9: phases.1: sequence_length .* at position 21, in the"
    ) as told:
        loader = open_loader(file, rank=0, world_size=1)
    assert told[0].filename == __file__
    with pytest.raises(InvalidInputError, match=r"the train step \[16, 24\)"):
        next(iter(loader))
    loader.load_state_dict({**loader.state_dict(), "position": 5})
    with loader:
        assert next(iter(loader))["span"] == (5, 13)
    with open_loader(write(folder, SINGLE + "phases:\n  - {at: 21, fill: 3}\n"), rank=0, world_size=1):
        pass


def test_an_empty_template_of_a_phase_ends_the_one_before(tmp_path):
    """Catches: no way out of a template, since a recipe refuses an empty list."""
    phases = "phases:\n  - {at: 8, packing: concat, response_template: []}\n  - {at: 16, response_template: [3]}\n"
    ended, begun = (phase.recipe() for phase in load_training(write(tmp_path, SINGLE + phases)).phases)
    before = Recipe(packing="documents", response_template=(7,))
    assert replace(before, **ended) == Recipe()
    assert replace(before, **begun).response_template == (3,)


def test_shipped_examples():
    """Every phase of the curriculum begins where a train step does."""
    training = load_training(CONFIGS / "curriculum.yaml")
    assert list(training.mixture) == ["web", "code", "books"]
    assert [phase.at % training.global_batch for phase in training.phases] == [0] * len(training.phases)
    assert sum(phase.sequence_length is not None for phase in training.phases) == 1
    assert load_recipe(CONFIGS / training.recipe).packing == "concat"


MISTAKES = [
    (SINGLE + "phase: []\n", "training.yaml:7: unknown key 'phase'", "did you mean 'phases'?"),
    (
        SINGLE + "phases:\n  - {at: 4, weight: {web: 1}}\n",
        "training.yaml:8: unknown key 'phases.0.weight'",
        "'weights'",
    ),
    (MIXED.replace("epochs:", "epoch:"), "training.yaml:11: unknown key 'mixture.code.epoch'", "'epochs'"),
    (MIXED.replace('"0.7"', "0.7"), "training.yaml:6: 0.7 is a number with a fraction", "quote it"),
    (MIXED.replace('"0.7"', "true"), "training.yaml:6: mixture.web.weight: true is not text or a whole number", ""),
    (MIXED.replace('"0.7"', '"-1"'), "training.yaml:5: mixture: ", ""),
    (MIXED.replace('"0.7"', '"a lot"'), "training.yaml:5: mixture: ", ""),
    (MIXED.replace('"4.5"', '"0"'), "training.yaml:11: epochs is '0'", ""),
    (MIXED.replace("table: code", "table: cod"), "training.yaml:9: mixture.code.version: ", ""),
    (MIXED.replace("version: v1, weight", "version: v9, weight", 1), "training.yaml:6: mixture.web.version: ", ""),
    (MIXED + "table: web\n", "training.yaml:13: table: the mixture names tables", "not both"),
    (MIXED + "version: v1\n", "training.yaml:13: version: the mixture names", "not both"),
    (BEGIN + "table: web\n", "training.yaml:1: version: it is not given", "mixture"),
    (BEGIN, "training.yaml:1: version: it is not given", "mixture"),
    (SINGLE.replace("seed: 7\n", ""), "training.yaml:1: seed: it is not given", "add it"),
    (SINGLE.replace("repository:", "repositry:"), "training.yaml:1: unknown key 'repositry'", "'repository'?"),
    (SINGLE.replace("seed: 7", "seed: -7"), "training.yaml:2: seed: -7 is out of range", "at least 0"),
    (SINGLE.replace("seed: 7", f"seed: {2**64}"), "training.yaml:2: seed: 18446744073709551616 is", "less than"),
    (SINGLE.replace("seed: 7", "seed: '7'"), "training.yaml:2: seed: '7' is not a whole number", "quotes: 7"),
    (SINGLE.replace("batch: 8", "batch: 0"), "training.yaml:4: global_batch: 0 is out of range", "at least 1"),
    (SINGLE + "batch_size: 0\n", "training.yaml:7: batch_size: 0 is out of range", "at least 1"),
    (SINGLE.replace("web", "7"), "training.yaml:5: table: 7 is not text", 'in quotes: "7"'),
    (SINGLE + "fields: indices\n", "training.yaml:7: fields: 'indices' is not a list", "write [a, b]"),
    (SINGLE + "strided: 1\n", "training.yaml:7: strided: 1 is not true or false", ""),
    (SINGLE + "phases: [4]\n", "training.yaml:7: phases.0: 4 is not a mapping", "its keys: at, weights"),
    (BEGIN + "mixture: {web: v1}\n", "training.yaml:5: mixture.web: 'v1' is not a mapping", "keys: table, version"),
    ("[]", "training.yaml:1: the file: a list is not a mapping", "its keys: repository, seed"),
    ("", "training.yaml:1: the file is empty", "its keys: repository, seed"),
    (SINGLE + "phases:\n  - sequence_length: 4\n", "training.yaml:8: phases.0.at: ", ""),
    (SINGLE + "phases:\n  - at: 0\n    fill: 4\n", "training.yaml:8: phases.0: a phase cannot begin at 0", ""),
    (
        SINGLE + "phases:\n  - {at: 8, fill: 4}\n  - {at: 4, fill: 3}\n",
        "training.yaml:9: phases.1: a phase at position 4 would change what the phase at 8 delivers",
        "behind 8",
    ),
    (SINGLE + "phases:\n  - at: 8\n    fill: -1\n", "training.yaml:9: fill is -1", ""),
    (SINGLE + "phases:\n  - at: 8\n", "training.yaml:8: phases.0: nothing changes at position 8", ""),
    (SINGLE + "phases:\n  - at: 8\n    version: v3\n", "training.yaml:9: phases.0.version: ", ""),
    (
        MIXED + "phases:\n  - at: 8\n    version: v2\n",
        "training.yaml:15: phases.0.version: there are several",
        "versions",
    ),
    (
        MIXED + "phases:\n  - at: 8\n    versions: {web: v2, cod: v2}\n",
        "training.yaml:15: phases.0.versions.cod: there is no source 'cod'",
        "did you mean code?",
    ),
    (
        MIXED + "phases:\n  - at: 8\n    weights:\n      web: 1\n      cod: 1\n",
        "training.yaml:14: phases.0: the stream has no source 'cod'",
        "code",
    ),
    (
        MIXED + "phases:\n  - at: 8\n    mixture: {web: {table: web, version: v1, epochs: no}}\n",
        "training.yaml:15: 'no' is not a plain value",
        "",
    ),
]


@pytest.mark.parametrize(("text", "said", "hint"), MISTAKES)
def test_a_mistake_names_file_line_and_key(folder, text, said, hint):
    """Catches: a complaint that names the whole file, the wrong phase, or only what the library saw of it."""
    with pytest.raises((InvalidInputError, NotFoundError)) as caught:
        open_stream(write(folder, text))
    assert said in caught.value.message
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("text", "world", "said", "hint"),
    [
        (SINGLE, 3, "training.yaml:4: global_batch: a global_batch of 8 cannot be shared by 3 ranks", "world size"),
        (SINGLE + "batch_size: 3\n", 1, "training.yaml:4: global_batch: a global_batch of 8 over 1 ranks", "multiple"),
        (
            SINGLE.replace("batch: 8", "batch: 900"),
            1,
            "training.yaml:4: global_batch: a train step takes 900",
            "smaller",
        ),
        (SINGLE + "fields: [input_id]\n", 1, "training.yaml:7: fields: a batch has no field 'input_id'", ", span"),
    ],
)
def test_what_the_loader_finds_names_the_line_as_well(folder, text, world, said, hint):
    """Catches: an error of a loader that leaves the reader of a training file to guess."""
    with pytest.raises(InvalidInputError) as caught:
        open_loader(write(folder, text), rank=0, world_size=world)
    assert said in caught.value.message
    assert hint in caught.value.hint
    with pytest.raises(InvalidInputError, match=r"^rank 8 of world_size 2"):
        open_loader(write(folder, SINGLE), rank=8, world_size=2)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("sequence_length: 8\nwindow: 0\n", "recipe.yaml:2: window is 0"),
        ("sequence_length: 8\npacking: best-fit\n", "recipe.yaml:2: packing is 'best-fit'"),
        ("sequence_length: 8\nacross_documents: 1\n", "recipe.yaml:2: across_documents: "),
        ("sequence_length: 8\nfill: -3\n", "recipe.yaml:2: fill is -3"),
        ("sequence_length: 8\n\nresponse_template: [3, 4]\n", "recipe.yaml:3: response_template says nothing"),
        (
            "sequence_length: 8\nresponse_template: [a]\n",
            "recipe.yaml:2: response_template.0: 'a' is not a whole number",
        ),
        ("sequence_length: 8\nresponse_template: []\n", "recipe.yaml:2: response_template has no tokens"),
    ],
)
def test_a_recipe_names_the_line_as_well(tmp_path, text, said):
    """Catches: what only the recipe itself finds wrong, without a line."""
    file = tmp_path / "recipe.yaml"
    file.write_text(text)
    with pytest.raises(InvalidInputError) as caught:
        load_recipe(file)
    assert said in caught.value.message
