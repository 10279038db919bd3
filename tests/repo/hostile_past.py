"""What commits and runs say of the past, which questions about it read: written by others, so hostile as well."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from repo_tables import state_of, token_part

from pyfactory.audit.lineage import trace
from pyfactory.audit.seen import runs_that_saw
from pyfactory.core.canonical import decode, encode
from pyfactory.core.digest import NO_DIGEST, Digest, digest_of
from pyfactory.factory.destination import Destination
from pyfactory.factory.earlier import earlier_import, same_files
from pyfactory.repo.findings import Findings
from pyfactory.repo.objects import Commit, Tree
from pyfactory.repo.reachable import Reachable, overlaid
from pyfactory.repo.repository import Repository
from pyfactory.repo.verify_rest import check_runs
from pyfactory.shard.importers.sources import expand
from pyfactory.shard.reader import open_side
from pyfactory.store.memory import MemoryStore

__all__ = ["Past"]

TIME = "2026-11-24T00:00:00Z"
OPTIONS = {"text": "text"}


class Past:
    """A repository with an import, a job on it, and a run over the result; any piece of it may be put in anew."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="past-")
        self.folder = Path(self._folder.name)
        self.raw = self.folder / "a.jsonl"
        self.raw.write_bytes(b'{"text":"one"}\n')
        self.repo = Repository.create(MemoryStore())
        objects = self.repo.objects
        part = token_part(objects, [[1, 2, 3], [4, 5, 6], [7, 8, 9]])
        self.state = state_of(objects, [part], 2)
        self.record = open_side(objects.map(part.side), "it").id(1)
        self.tree = objects.put(encode(Tree({"corpus": self.state}).to_value()))
        source = {
            "bytes": 15,
            "digest": digest_of(self.raw.read_bytes()),
            "name": "a.jsonl",
            "records": 3,
            "skipped": 0,
        }
        self.pieces: dict[str, Any] = {"sources": [source], "job": {"steps": ["x"]}}
        imported = {"kind": "import", "table": "corpus", "sources": self._put("sources"), "options": OPTIONS}
        self.pieces["import"] = imported | {"records": 3, "skipped": 0, "skipped_list": None, "code": {"python": "3"}}
        used = {"asked": "main", "commit": self._commit("import"), "resolved": "branch/main", "table": "corpus"}
        used["version"] = self.state.digest
        job = {
            "kind": "job",
            "steps": [],
            "output": "corpus",
            "job": self._put("job"),
            "inputs": [used],
            "code": {"python": "3"},
        }
        self.pieces["made by a job"] = job
        recipe = {"packing": "concat", "sequence_length": 2, "block_size": 1, "window": 1}
        source = {"name": "corpus", "version": self.state.digest}
        identity = {"spec": 1, "seed": 1, "recipe": recipe, "sources": [source]}
        version = {"table": "corpus", "commit": self._commit("made by a job"), "asked": "v1"}
        start = {"kind": "start", "n": 0, "previous": NO_DIGEST, "time": TIME, "v": 1, "position": 0, "note": ""}
        start |= {"identity": identity, "version": version, "global_batch": 1, "world_size": 1, "parent": None}
        start["versions"] = [version | {"version": self.state.digest, "repository": ""}]
        self.pieces["run start"] = start
        saved = {"kind": "checkpoint", "n": 1, "previous": digest_of(encode(start)), "time": TIME, "v": 1}
        self.pieces["run checkpoint"] = saved | {"position": 4, "spans": [[0, 4]], "world_size": 1}
        self.good = {name: encode(piece) for name, piece in self.pieces.items()}

    def reads(self) -> Mapping[str, Callable[[bytes], Any]]:
        """Return what reads each piece, by the piece and the question: the past, or what a sweep must keep."""
        questions = {"told": self._told, "kept": self._kept}
        return {
            f"{name}, {kind}": partial(self._read, name, ask) for name in self.good for kind, ask in questions.items()
        }

    def _put(self, name: str) -> Digest:
        return self.repo.objects.put(encode(self.pieces[name]))

    def _commit(self, name: str) -> Digest:
        # Not by `Commit`, which would not take a hostile piece.
        commit = Commit(self.tree, (), "Ada", TIME, "why").to_value()
        return self.repo.objects.put(encode({**commit, "made_by": self.pieces[name]}))

    def _read(self, name: str, ask: Callable[[], Any], content: bytes) -> Any:
        # A piece is put in place of the good one, and what names it by its digest is made anew.
        saved = self.pieces
        self.pieces = {**saved, name: decode(content, name)}
        try:
            self._name_anew(name)
            self._write_run(name)
            return ask()
        finally:
            self.pieces = saved

    def _name_anew(self, name: str) -> None:
        pieces = self.pieces
        if name == "sources":
            pieces["import"] = {**pieces["import"], "sources": self._put("sources")}
        # What is not an object no commit holds: the parser of commits says so.
        if name in ("sources", "import") and isinstance(pieces["import"], dict):
            (used,) = pieces["made by a job"]["inputs"]
            used = {**used, "commit": self._commit("import")}
            pieces["made by a job"] = {**pieces["made by a job"], "inputs": [used]}
        if name == "job":
            pieces["made by a job"] = {**pieces["made by a job"], "job": self._put("job")}
        if not name.startswith("run") and isinstance(pieces["made by a job"], dict):
            commit = {"commit": self._commit("made by a job")}
            version, listed = pieces["run start"]["version"] | commit, pieces["run start"]["versions"][0] | commit
            pieces["run start"] = {**pieces["run start"], "version": version, "versions": [listed]}

    def _write_run(self, name: str) -> None:
        start, checkpoint = self.pieces["run start"], self.pieces["run checkpoint"]
        if name != "run checkpoint":
            checkpoint = self.pieces["run checkpoint"] = {**checkpoint, "previous": digest_of(encode(start))}
        for number, entry in enumerate((start, checkpoint)):
            self.repo.store.replace(f"runs/a/{number:08d}", encode(entry))

    def _told(self) -> Any:
        digest = digest_of(encode(self.pieces["run checkpoint"]))
        record = {"repository": "memory://x", "run": "a", "entry": 1, "digest": digest, "position": 4, "state": {}}
        path = self.folder / "pyfactory.json"
        path.write_text(json.dumps({"format": 1, "checkpoints": {"m.pt": record}}))
        if isinstance(self.pieces["import"], dict):
            commit = self._commit("import")
            into = Destination(self.repo, "corpus", "main", commit, self.state, message="", author="", signer=None)
            earlier_import(into, OPTIONS, partial(same_files, expand([self.raw])))
        found = runs_that_saw(self.repo, [self.record])
        return found, trace(path, repository=self.repo)

    def _kept(self) -> Any:
        reach = Reachable(self.repo.store)
        reach.mark_runs(self.repo.store)
        for name in ("import", "made by a job"):
            if isinstance(self.pieces[name], dict):
                reach.mark_commit(self._commit(name), "a branch")
        findings = Findings()
        check_runs(self.repo.store, findings)
        return reach.array(overlaid(self.repo, self.repo.view(), None))
