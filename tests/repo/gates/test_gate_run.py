"""Which gates judge which tables, what a verdict is, and that equal changes get equal verdicts."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from gate_tables import grown, part_of, state_of, table
from hypothesis import given
from hypothesis import strategies as st

from pyfactory.core.canonical import digest_of_value, encode
from pyfactory.core.digest import digest_of
from pyfactory.errors import CorruptError, InvalidInputError
from pyfactory.repo.gates import counts
from pyfactory.repo.gates.base import EVIDENCE, Verdict, code_of
from pyfactory.repo.gates.counts import Counts
from pyfactory.repo.gates.open import GATES, gate_class, make_gate
from pyfactory.repo.gates.options import describe
from pyfactory.repo.gates.pii import Pii
from pyfactory.repo.gates.run import changed_parts, judge
from pyfactory.repo.objects import Tree
from pyfactory.repo.rules import GateRule
from pyfactory.shard.layout import raw_schema
from pyfactory.shard.manifest import Entry, Manifest, Part, new_batch, write_manifest
from pyfactory.store.content import Objects
from pyfactory.store.memory import MemoryStore

HERE = Path(__file__).parent
SOURCE = digest_of((HERE / "sentence_ends.py").read_bytes())
MINE = {
    "counts": {"max_rows": 3},
    "drift": {"psi": "0.01", "js": "0.01"},
    "duplicates": {},
    "function": {"function": "sentence_ends:unfinished", "digest": SOURCE},
    "lengths": {"min": 3, "max": 4},
    "nulls": {},
    "schema": {},
    "sql": {"query": "select id from added where text = 'a'"},
}


@pytest.fixture
def objects() -> Objects:
    return Objects(MemoryStore())


@pytest.fixture(autouse=True)
def own_folder_importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(HERE), *sys.path])


def rules(table: str = "*") -> list[GateRule]:
    return [GateRule(gate, table, options) for gate, options in MINE.items()]


def judged(verdicts: list[Verdict]) -> list[tuple[str, str, bool]]:
    return [(verdict.gate, verdict.table, verdict.passed) for verdict in verdicts]


def test_a_rule_for_all_tables_judges_those_that_change(objects: Objects) -> None:
    """Mutants: unchanged tables are judged too; new or removed ones are not."""
    same, old, new = table(objects, ["x"]), table(objects, ["y"]), table(objects, ["z"])
    before = Tree({"same": same, "changed": old, "gone": old})
    after = Tree({"same": same, "changed": new, "new": new})
    verdicts = judge(objects, [GateRule("counts"), GateRule("lengths")], before, after)
    assert judged(verdicts) == [
        ("counts", "changed", False),  # all rows of the target go
        ("counts", "gone", False),
        ("counts", "new", True),
        ("lengths", "changed", True),
        ("lengths", "new", True),
    ]


def test_a_named_table_is_judged_whether_or_not_it_changes(objects: Objects) -> None:
    """Mutant: a floor under a table holds only in commits that touch it."""
    state = table(objects, ["x"])
    tree = Tree({"t": state})
    assert judged(judge(objects, [GateRule("counts", "t", {"min_rows": 2})], tree, tree)) == [("counts", "t", False)]


def test_a_named_table_that_does_not_exist_fails_each_gate(objects: Objects) -> None:
    """Mutant: a misspelt table passes, since there is nothing to object to."""
    state = table(objects, ["x"])
    verdicts = judge(objects, rules("corpsu"), None, Tree({"corpus": state}))
    assert {verdict.reason for verdict in verdicts} == {"there is no table 'corpsu'"}
    assert [verdict.passed for verdict in verdicts] == [False] * len(MINE)


def test_a_named_table_that_is_removed_fails_each_gate(objects: Objects) -> None:
    state = table(objects, ["x"])
    verdicts = judge(objects, rules("t"), Tree({"t": state}), Tree({}))
    assert [verdict.passed for verdict in verdicts] == [False] * len(MINE)


def test_a_gate_is_not_asked_about_tables_that_it_cannot_judge(objects: Objects) -> None:
    tokens, text = table(objects, [[1, 2]]), table(objects, ["x"])
    tree = Tree({"tokens": tokens, "text": text})
    options = {"measures": ["tokens"]}
    assert judged(judge(objects, [GateRule("drift", "*", options)], None, tree)) == [("drift", "tokens", True)]
    (verdict,) = judge(objects, [GateRule("drift", "text", options)], None, tree)
    assert (verdict.passed, verdict.reason) == (False, "the table 'text' has no tokens to measure")


def test_equal_changes_get_equal_bytes(objects: Objects) -> None:
    """Mutants: the results of threads are taken as they come; evidence hangs on what is kept."""
    before = table(objects, *[[f"text {shard} {row}" for row in range(4)] for shard in range(9)])
    parts = [part_of(objects, ["a", "", "text 1 1", f"n {number}"]) for number in range(14)]
    after = grown(objects, before, parts)
    answers = set()
    for threads, keep in ((1, False), (4, False), (4, True), (1, True), (4, True)):
        verdicts = judge(objects, rules(), Tree({"t": before}), Tree({"t": after}), threads=threads, keep=keep)
        answers.add(encode([verdict.to_value() for verdict in verdicts]))
    assert len(answers) == 1
    by_gate = {verdict.gate: verdict for verdict in verdicts}
    for gate in ("lengths", "nulls", "duplicates", "sql", "function"):
        assert not by_gate[gate].passed
        assert 0 < len(by_gate[gate].evidence) <= EVIDENCE
    assert by_gate["nulls"].evidence == tuple(f"{part.shard[:8]}-1" for part in parts)
    assert by_gate["lengths"].evidence[:2] == (f"{parts[0].shard[:8]}-0", f"{parts[0].shard[:8]}-1")


def test_verdicts_never_hold_text(objects: Objects) -> None:
    """Mutant: a query or function passes texts off as ids, which then stand in the commit for ever."""
    secret = "the secret of the text"
    before, after = table(objects, ["x"]), table(objects, ["x"], [secret, secret, ""])
    asked = [*rules(), GateRule("sql", "*", {"query": "select text as id from added where text <> 'x'"})]
    verdicts = judge(objects, asked, Tree({"t": before}), Tree({"t": after}))
    assert secret.encode() not in encode([verdict.to_value() for verdict in verdicts])
    assert (verdicts[-1].passed, verdicts[-1].evidence) == (False, ())


def test_empty_tables_have_verdicts(objects: Objects) -> None:
    """Mutant: a share of nothing is a division by zero."""
    empty = state_of(objects, [], raw_schema())
    filled = table(objects, ["Text."])
    for before, after in ((None, empty), (empty, empty), (empty, filled), (filled, empty)):
        for rule in rules("t"):
            tree = None if before is None else Tree({"t": before})
            (verdict,) = judge(objects, [rule], tree, Tree({"t": after}))
            assert Verdict.from_value(verdict.to_value(), "it") == verdict


def test_a_shard_without_rows_is_judged(objects: Objects) -> None:
    hollow = state_of(objects, [part_of(objects, []), part_of(objects, ["Text."])], raw_schema())
    assert all(isinstance(verdict.passed, bool) for verdict in judge(objects, rules(), None, Tree({"t": hollow})))


def test_a_missing_column_is_an_obstacle(objects: Objects) -> None:
    state = table(objects, ["x"])
    for gate, options in (
        ("nulls", {"columns": ["source"]}),
        ("drift", {"column": "source"}),
        ("duplicates", {"column": "source"}),
    ):
        (verdict,) = judge(objects, [GateRule(gate, "t", options)], Tree({"t": state}), Tree({"t": state}))
        assert (verdict.passed, "'source'" in verdict.reason) == (False, True)
        assert judge(objects, [GateRule(gate, "*", options)], None, Tree({"t": state})) == []


def test_a_damaged_shard_is_an_error_and_no_verdict(objects: Objects) -> None:
    state = table(objects, ["x"])
    (part,) = Manifest(objects, state.manifest).parts()
    objects.store.delete(objects.key(part.shard))
    for rule in rules():
        if rule.gate not in ("counts", "schema", "drift"):
            with pytest.raises(CorruptError):
                judge(objects, [rule], None, Tree({"t": state}))


def test_an_invalid_rule_fails_before_anything_is_read(objects: Objects) -> None:
    state = table(objects, ["x"])
    (part,) = Manifest(objects, state.manifest).parts()
    objects.store.delete(objects.key(part.shard))
    with pytest.raises(InvalidInputError, match="max_blnk"):
        judge(objects, [GateRule("nulls"), GateRule("nulls", "*", {"max_blnk": "0"})], None, Tree({"t": state}))


@pytest.mark.parametrize(
    ("rule", "message", "hint"),
    [
        (GateRule("drfit"), "there is no gate 'drfit'", "did you mean drift?"),
        (GateRule("drift", "*", {"pis": "1"}), "the gate drift has no option 'pis'", "did you mean psi?"),
        (GateRule("drift", "*", {"psi": 1}), "the option 'psi' is 1", "0.25"),
        (GateRule("drift", "*", {"psi": "-1"}), "the option 'psi' is '-1'", "decimal"),
        (GateRule("drift", "*", {"psi": "1e5"}), "the option 'psi' is '1e5'", "decimal"),
        (GateRule("drift", "*", {"psi": "NaN"}), "the option 'psi' is 'NaN'", "decimal"),
        (GateRule("drift", "*", {"measures": ["colour"]}), "'colour' cannot be measured", "lengths"),
        (GateRule("drift", "*", {"measures": "lengths"}), "the option 'measures' is 'lengths'", "a list of texts"),
        (GateRule("drift", "*", {"measures": ["column"]}), "no column is named", "source"),
        (GateRule("drift", "*", {"of": "all"}), "of is 'all'", "added or table"),
        (GateRule("nulls", "*", {"max_null": "1.01"}), "the option 'max_null' is '1.01'", '"0" to "1"'),
        (GateRule("counts", "*", {"min_rows": True}), "the option 'min_rows' is True", "whole number"),
        (GateRule("counts", "*", {"min_rows": -1}), "the option 'min_rows' is -1", "whole number"),
        (GateRule("counts", "*", {"min_rows": 3, "max_rows": 2}), "min_rows 3 is above max_rows 2", "no table"),
        (GateRule("lengths", "*", {"min": 3, "max": 2}), "min 3 is above max 2", "swap"),
        (GateRule("duplicates", "*", {"sample": 2}), "a sample of 2", "16 to 65536"),
        (GateRule("schema", "*", {"columns": ["text"]}), "'text' is not a column", "not null"),
        (GateRule("schema", "*", {"columns": ["text: prose"]}), "'text: prose' is not a column", "not null"),
        (GateRule("sql"), "has no query", "select"),
        (GateRule("function"), "names no function", "module:function"),
        (GateRule("function", "*", {"function": "a:b", "digest": "12"}), "is not a digest", "b3sum"),
    ],
)
def test_rules_are_checked_well(rule: GateRule, message: str, hint: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        make_gate(rule)
    assert message in caught.value.message
    assert hint in caught.value.hint


@pytest.mark.parametrize("gate", GATES)
def test_each_gate_describes_its_options(gate: str) -> None:
    class_ = gate_class(gate)
    assert class_.name == gate
    assert class_.version >= 1
    assert class_.__doc__
    assert all(option.help and option.kind for option in describe(class_))


def test_the_code_of_a_verdict_is_the_digest_of_its_sources() -> None:
    """Its module and the ones it stands on, one by one. Catches detectors that change unseen."""
    folder = Path(counts.__file__).parent

    def digest(*names: str) -> str:
        home = "pyfactory.repo.gates."
        return digest_of_value({home + name: digest_of((folder / f"{name}.py").read_bytes()) for name in names})[:16]

    assert code_of(Counts()) == f"counts/1:{digest('answer', 'base', 'counts', 'options')}"
    detectors = ("pii_addresses", "pii_keys", "pii_numbers")
    assert code_of(Pii()) == f"pii/1:{digest('answer', 'base', 'options', 'pii', *detectors, 'rows', 'texts')}"


def _part(number: int) -> Part:
    return Part(digest_of(bytes([number])), digest_of(b"side"), number, 0, 1)


@given(st.lists(st.integers(0, 5), max_size=8), st.lists(st.integers(0, 5), max_size=8))
def test_changed_parts_are_those_that_one_side_has(before: list[int], after: list[int]) -> None:
    """Mutants: a shard that has moved is added and removed; of two equal shards both count as moved."""
    objects = Objects(MemoryStore())
    roots = [
        write_manifest(objects, new_batch([_part(number) for number in numbers], generation))
        for generation, numbers in enumerate((before, after))
    ]
    added, removed = changed_parts(objects, roots[0], roots[1])
    numbers = [*range(6)]
    for number in numbers:
        surplus = after.count(number) - before.count(number)
        assert [part for part in added if part == _part(number)] == [_part(number)] * surplus
        assert [part for part in removed if part == _part(number)] == [_part(number)] * -surplus
    assert changed_parts(objects, None, roots[1])[0] == tuple(_part(number) for number in after)


def test_entries_with_a_new_side_are_changed(objects: Objects) -> None:
    old, new = part_of(objects, ["a"], ids=["x"]), part_of(objects, ["a"], ids=["y"])
    batch = digest_of(b"batch")
    roots = [write_manifest(objects, [Entry(0, batch, 0, part)]) for part in (old, new)]
    assert changed_parts(objects, roots[0], roots[1]) == ((new,), (old,))
