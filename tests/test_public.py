"""What other people's scripts rely on: names, the exception tree, a light import, the files of configs/."""

from __future__ import annotations

import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest

import pyfactory
from pyfactory import errors
from pyfactory.config import load, load_recipe, load_training
from pyfactory.economics import PriceSheet, cost_per_million_tokens
from pyfactory.errors import InvalidInputError, NotFoundError
from pyfactory.job.spec import load_job

CONFIGS = Path(__file__).parent.parent / "configs"


def test_public_names():
    assert sorted(pyfactory.__all__) == [
        "DataLoader",
        "Mixture",
        "PyfactoryError",
        "Repository",
        "Run",
        "Source",
        "Stream",
        "Trace",
        "Version",
        "build",
        "export",
        "forget_records",
        "import_dataset",
        "import_files",
        "import_tokens",
        "open_loader",
        "open_stream",
        "pack",
        "query",
        "trace",
    ]
    for name in pyfactory.__all__:
        assert getattr(pyfactory, name) is not None
    with pytest.raises(AttributeError):
        _ = pyfactory.Nothing


def test_exception_tree():
    tree = {name: (getattr(errors, name).__bases__[0].__name__, getattr(errors, name).kind) for name in errors.__all__}
    assert tree == {
        "PyfactoryError": ("Exception", "error"),
        "ConflictError": ("PyfactoryError", "conflict"),
        "MergeConflictError": ("ConflictError", "merge_conflict"),
        "NotFoundError": ("PyfactoryError", "not_found"),
        "InvalidInputError": ("PyfactoryError", "invalid_input"),
        "BadRecordError": ("InvalidInputError", "bad_record"),
        "NewerFormatError": ("InvalidInputError", "newer_format"),
        "CorruptError": ("PyfactoryError", "corrupt"),
        "UnavailableError": ("PyfactoryError", "unavailable"),
        "UnknownOutcomeError": ("UnavailableError", "unknown_outcome"),
        "ReadOnlyError": ("PyfactoryError", "read_only"),
        "RefusedError": ("PyfactoryError", "refused"),
        "InternalError": ("PyfactoryError", "internal"),
    }
    for name in errors.__all__:
        error = getattr(errors, name)("what is wrong", hint="the way out")
        assert (error.message, error.hint) == ("what is wrong", "the way out")
        assert str(error) == "what is wrong (the way out)"
    assert issubclass(errors.InvalidInputError, ValueError)
    assert issubclass(errors.NotFoundError, LookupError)


def test_importing_is_light():
    """Catches: an import of torch or ray at the top of a module that `import pyfactory` reaches."""
    heavy = "{'torch', 'ray', 'numba', 'pyarrow', 'obstore', 'tokenizers', 'gigatoken', 'awkward'}"
    script = f"import sys, pyfactory; print(sorted({heavy} & set(sys.modules)))"
    assert (
        subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.strip()
        == "[]"
    )
    names = "from pyfactory import Repository, Stream, build"
    script = f"import sys; {names}; print(sorted({{'torch', 'ray'}} & set(sys.modules)))"
    assert (
        subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.strip()
        == "[]"
    )


def test_shipped_configs_load():
    job = load_job(CONFIGS / "job.yaml")
    assert job.output == "corpus"
    assert load_recipe(CONFIGS / "recipe.yaml").sequence_length == 2048
    training = load_training(CONFIGS / "training.yaml")
    assert (training.table, training.version, training.global_batch) == ("corpus", "v1", 64)
    prices = load(CONFIGS / "prices.yaml", PriceSheet)
    assert prices.price("h100-8x") > 0
    with pytest.raises(NotFoundError, match="h100-9x"):
        prices.price("h100-9x")


def test_cost_of_tokens():
    assert cost_per_million_tokens(Decimal("3.60"), 1000.0) == Decimal(1)
    with pytest.raises(InvalidInputError):
        cost_per_million_tokens(Decimal(1), 0.0)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("sequence_length: 8\nblock_sise: 2\n", "recipe.yaml:2: unknown key 'block_sise'"),
        ("sequence_length: eight\n", "recipe.yaml:1: sequence_length"),
        ("sequence_length: 0\n", "sequence_length is 0"),
        ("block_size: 2\n", "sequence_length"),
        ("", "recipe.yaml:1"),
    ],
)
def test_a_mistake_names_the_line_and_the_key(tmp_path, text, said):
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(InvalidInputError) as caught:
        load_recipe(path)
    assert said in str(caught.value)
