"""Gates over sketches that somebody forged: they may be believed, and the verdict must still be one."""

from __future__ import annotations

from typing import Any

from repo_tables import raw_part, state_of, token_part

from pyfactory.core.canonical import decode, encode
from pyfactory.errors import CorruptError
from pyfactory.repo.gates.run import judge
from pyfactory.repo.objects import Tree
from pyfactory.repo.rules import GateRule
from pyfactory.store.content import Objects
from pyfactory.store.memory import MemoryStore

__all__ = ["Sketched"]


class Sketched:
    """Two tables before and after a change, and what their gates keep."""

    def __init__(self) -> None:
        self.objects = Objects(MemoryStore())
        texts = ["a text of some length", "another one: mail Ada@analytical-engine.com", ""]
        old = raw_part(self.objects, ["what was there before", "call +1 202 555 0143 now"])
        new = raw_part(self.objects, texts)
        documents = [token_part(self.objects, rows) for rows in ([[1, 2, 3], [4]], [[5, 6], [7, 8, 9]])]
        before = {"raw": state_of(self.objects, [old]), "corpus": state_of(self.objects, documents[:1], 2)}
        after = {"raw": state_of(self.objects, [old, new]), "corpus": state_of(self.objects, documents, 2)}
        self.trees = Tree(before), Tree(after)
        gates = {"lengths": {"max": 20}, "nulls": {}, "duplicates": {}, "drift": {}, "pii": {}}
        self.rules = [GateRule(gate, options=options) for gate, options in gates.items()]
        self.rules.append(GateRule("language", "raw", {"allowed": ["en"], "mix": ["en=0.5"]}))
        self.verdicts = {rule.gate: self.judged(rule.gate) for rule in self.rules}
        self.keys = sorted(key for key, _ in self.objects.store.list("sketch"))
        self.good = {key: self.objects.store.get(key) for key in self.keys}

    def judged(self, gate: str) -> list[Any]:
        rules = [rule for rule in self.rules if rule.gate == gate]
        return [verdict.to_value() for verdict in judge(self.objects, rules, *self.trees, threads=1)]

    def parse(self, key: str, content: bytes) -> None:
        gate = _ASKED_BY[key.split("/")[1].partition("-1")[0]]
        self.objects.store.replace(key, content)
        try:
            verdicts = self.judged(gate)
            encode(verdicts)  # as the commit would keep them
            if not _is_canonical(content):
                assert verdicts == self.verdicts[gate], "what cannot be read was believed"
        finally:
            for other in self.keys:
                self.objects.store.replace(other, self.good[other])


_ASKED_BY = {
    "absent": "nulls",
    "bytes": "drift",
    "contents": "duplicates",
    "language": "language",
    "lengths": "drift",
    "out-of-range": "lengths",
    "pii": "pii",
    "tokens": "drift",
}


def _is_canonical(content: bytes) -> bool:
    try:
        decode(content, "it")
    except CorruptError:
        return False
    return True
