"""A function for the gate `function`: it objects to texts that do not end like a sentence."""

import pyarrow.compute as pc


def unfinished(batches):
    for batch in batches:
        ends = pc.match_substring_regex(batch.column("text"), "[.!?。]$")
        yield from batch.filter(pc.invert(ends)).column("id").to_pylist()


def answers_text(batches):
    return [text for batch in batches for text in batch.column("text").to_pylist()]


def answers_numbers(batches):
    return [1]


def fails(batches):
    raise RuntimeError("no")
