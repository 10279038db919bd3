"""The one place that knows which steps there are. A step is imported when a job asks for it, with what it needs."""

from __future__ import annotations

from pyfactory.errors import NotFoundError
from pyfactory.job.steps.base import Parameters

__all__ = ["STEPS", "open_parameters"]

STEPS = ("dedup", "filter", "shuffle", "tokenize", "train_tokenizer")
"""Names of the steps that a job file may hold. (`write` ends every job unasked.)"""


def open_parameters(step: str) -> type[Parameters]:
    """Return the model of a step's parameters.

    Raises:
        NotFoundError: There is no such step.
    """
    match step:
        case "dedup":
            from pyfactory.job.steps.dedup import DedupParameters

            return DedupParameters
        case "filter":
            from pyfactory.job.steps.filter import FilterParameters

            return FilterParameters
        case "shuffle":
            from pyfactory.job.steps.shuffle import ShuffleParameters

            return ShuffleParameters
        case "tokenize":
            from pyfactory.job.steps.tokenize import TokenizeParameters

            return TokenizeParameters
        case "train_tokenizer":
            from pyfactory.job.steps.train_tokenizer import TrainParameters

            return TrainParameters
    raise NotFoundError(f"there is no step {step!r}")
