"""From a proposed state of the tables to the head of a branch, past everything that may forbid it.

    rule of the branch -> gates -> commit -> signature -> objects stored -> nothing of it being swept -> log entry

What was decided on (head, rule, keys, sweep) must still hold at the very entry that moves the branch; if only the rule
or the sweep changed meanwhile, the decision is taken anew.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

from pyfactory.core.canonical import Value, encode
from pyfactory.core.digest import NO_DIGEST, Digest, digest_of
from pyfactory.errors import ConflictError, CorruptError, InvalidInputError, NotFoundError
from pyfactory.repo.forgotten import forgotten_among
from pyfactory.repo.gates.run import judge
from pyfactory.repo.home import Home
from pyfactory.repo.names import BRANCH
from pyfactory.repo.objects import Commit, TableState, Tree, load_commit, load_tree
from pyfactory.repo.operation import Change, View, utc_now
from pyfactory.repo.redaction import LAST
from pyfactory.repo.refusal import refuse
from pyfactory.repo.rules import KEYS, RULE, BranchRule, branch_rule, trusted_keys
from pyfactory.repo.signatures import commit_statement, sign_commit, signed_by
from pyfactory.repo.swept import check_kept, check_not_swept, sweep_guards
from pyfactory.repo.transaction import publish
from pyfactory.shard.diff import diff_manifests
from pyfactory.shard.manifest import Manifest, Part
from pyfactory.shard.packing_format import packing_artifacts
from pyfactory.shard.packing_table import load_index

if TYPE_CHECKING:
    from pyfactory.repo.gates.base import Verdict
    from pyfactory.repo.signing import Signer

__all__ = ["CommitResult", "Proposed", "check_nameable", "check_signed", "check_takes_commits", "propose"]

_TRIES = 20
MADE_FROM = ("sources", "skipped_list", "job")  # fields of a commit's `made_by` that name objects
_LONGEST_WHY = 200
_SHOWN = 5  # record ids in a sentence


@dataclass(frozen=True, slots=True)
class CommitResult:
    """What became of a proposed commit.

    Attributes:
        digest: The commit that the branch now names.
        created: False when the tables were that already, and nothing was written.
    """

    digest: Digest
    created: bool


@dataclass(frozen=True, slots=True)
class Proposed:
    """A commit that is to become the head of a branch.

    Attributes:
        branch: The branch.
        head: The commit that it names now, None before its first.
        before: The tables there.
        tables: The tables as they shall be.
        since: Time of the latest parent, "" if there is none.
        others: Parents besides the head: what is merged.
        message: Why.
        author: Who.
        made_by: What made the tables.
        verb: `commit`, `merge` or `revert`, of which a protected branch takes the last two; or `branch`.
    """

    branch: str
    head: Digest | None
    before: Mapping[str, TableState]
    tables: Mapping[str, TableState]
    message: str
    author: str
    made_by: Mapping[str, Any] | None = None
    since: str = ""
    others: tuple[Digest, ...] = ()
    verb: str = "commit"


def propose(home: Home, view: View, proposal: Proposed, signer: Signer | None) -> CommitResult:
    """Publish a commit, or say why not.

    Args:
        home: The repository.
        view: What the proposal was made from.
        proposal: The commit.
        signer: Signs it; needed where the rule of the branch asks for signatures.

    Raises:
        ConflictError: The branch moved meanwhile, or a sweep deletes what the commit needs. Nothing was published.
        RefusedError: A rule forbids it; the refusal is in the log, with the verdicts of the gates.
        UnavailableError, UnknownOutcomeError: The store failed; see `transaction.publish`.
    """
    judged: tuple[BranchRule, list[Verdict]] | None = None
    ref = BRANCH + proposal.branch
    for _ in range(_TRIES):
        rule = branch_rule(home, view, proposal.branch)
        check_takes_commits(home, view, proposal.branch, proposal.author, signer, verb=proposal.verb)
        if judged is None or judged[0] != rule:
            judged = rule, _judged(home, rule, proposal)
        digest = _stored(home, view, judged[1], proposal, signer)
        change = Change(ref, proposal.head, digest)
        decided_on = (RULE + proposal.branch, KEYS, LAST)
        guards = {name: view.refs.get(name) for name in decided_on} | sweep_guards(view)
        try:
            publish(home.oplog, view, [change], proposal.author, _why(proposal.message), guards=guards)
        except ConflictError:
            view = home.view()
            if view.refs.get(ref) != proposal.head:
                raise
        else:
            return CommitResult(digest, created=True)
    raise ConflictError(f"{home.url}: the rules of {proposal.branch} change all the time", hint="run it again")


def check_takes_commits(
    home: Home, view: View, branch: str, author: str, signer: Signer | None, *, verb: str = "commit"
) -> None:
    """Raise RefusedError now if a commit of this author would be refused whatever is in it: before hours of work."""
    rule = branch_rule(home, view, branch)
    if rule.protected and verb == "commit" and BRANCH + branch in view.refs:
        hint = f"commit to a branch of your own, then pyfactory merge REPO BRANCH {branch}"
        why = f"{branch} is protected: commits come to it by merge only"
        raise refuse(home, author, f"commit to {branch}", why, {"branch": branch}, hint)
    if rule.signed:
        _check_signer(home, view, (branch, author, verb), signer)


def check_signed(home: Home, view: View, branch: str, commit: Digest, author: str) -> None:
    """Raise RefusedError unless a branch may name a commit that exists: signed by a trusted key, if that is asked."""
    trusted = trusted_keys(home, view) if branch_rule(home, view, branch).signed else None
    if trusted is not None and signed_by(home, commit_statement(commit), trusted) is None:
        why = f"{branch} takes commits signed by a trusted key, and {commit[:12]} is not"
        hint = f"sign it first: pyfactory sign REPO {commit[:12]} --key FILE"
        raise refuse(home, author, f"moving {branch}", why, {"branch": branch, "commit": commit}, hint)


def check_nameable(home: Home, view: View, branch: str, commit: Digest, author: str) -> None:
    """Raise RefusedError unless a new branch may begin at a commit: its rule asks the same of it as of any other.

    Its gates judge all rows, since there is nothing yet to compare with.
    """
    check_signed(home, view, branch, commit, author)
    rule = branch_rule(home, view, branch)
    if rule.gates:
        tables = load_tree(home.objects, load_commit(home.objects, commit, branch).tree, f"commit {commit}").tables
        _judged(home, rule, Proposed(branch, None, {}, tables, "", author, verb="branch"))


def _judged(home: Home, rule: BranchRule, proposal: Proposed) -> list[Verdict]:
    if not rule.gates:
        return []
    before = None if proposal.head is None else Tree(proposal.before)
    verdicts = judge(home.objects, rule.gates, before, Tree(proposal.tables))
    failed = [verdict for verdict in verdicts if not verdict.passed]
    if failed:
        what = f"{proposal.verb} to {proposal.branch}"
        why = "; ".join(_sentence(verdict) for verdict in failed)
        details = {"branch": proposal.branch, "verdicts": [verdict.to_value() for verdict in verdicts]}
        hint = f"mend the data, or have the rule of {proposal.branch} changed: pyfactory gate explain tells more"
        raise refuse(home, proposal.author, what, why, details, hint)
    return verdicts


def _sentence(verdict: Verdict) -> str:
    shown = ", ".join(verdict.evidence[:_SHOWN]) + (", …" if len(verdict.evidence) > _SHOWN else "")
    return f"gate {verdict.gate} on {verdict.table}: {verdict.reason}" + (f" (records {shown})" if shown else "")


def _stored(home: Home, view: View, verdicts: Sequence[Verdict], proposal: Proposed, signer: Signer | None) -> Digest:
    """Store tree, commit and signature, and return the commit."""
    tree = _encoded(home, Tree(proposal.tables).to_value())
    parents = (*(() if proposal.head is None else (proposal.head,)), *proposal.others)
    # Never before its parents, whatever this machine's clock says: walks through history rely on it.
    time = max(utc_now(), proposal.since)
    gates = tuple(verdict.to_value() for verdict in verdicts)
    told = (proposal.author, time, proposal.message, proposal.made_by, gates)
    content = _encoded(home, Commit(digest_of(tree), parents, *told).to_value())
    home.objects.put(tree)
    digest = home.objects.put(content)
    _check_whole(home, view, proposal, [digest_of(tree), digest])
    if signer is not None:
        sign_commit(home, digest, signer)
    return digest


def _check_whole(home: Home, view: View, proposal: Proposed, made: list[Digest]) -> None:
    """Raise ConflictError if something that the commit needs was swept or forgotten since it was made."""
    try:
        check_not_swept(home, view, chain(made, _needed(home, proposal)))
        for other in proposal.others:
            check_kept(home, view, other)
        back = forgotten_among(home, view, _added(home, proposal)) if LAST in view.refs else []
    except (CorruptError, NotFoundError) as error:  # a manifest or a merged commit was swept meanwhile
        what = f"{home.url}: what this commit needs is not all there: {error.message}"
        raise ConflictError(what, hint="run it again; if it stays so, pyfactory verify says what is damaged") from error
    if back:
        what = f"{home.url}: record {back[0]!r} of this commit was forgotten meanwhile"
        raise ConflictError(what, hint="run it again")


def _check_signer(home: Home, view: View, told: tuple[str, str, str], signer: Signer | None) -> None:
    branch, author, verb = told
    trusted = trusted_keys(home, view)
    if signer is None or signer.public not in trusted.values():
        whose = "none was given" if signer is None else f"{signer.public[:12]}… is not trusted"
        why = f"{branch} takes commits signed by a trusted key, and {whose}"
        hint = "give the key with --key" if trusted else "trust a key first: pyfactory key trust"
        raise refuse(home, author, f"{verb} to {branch}", why, {"branch": branch}, hint)


def _needed(home: Home, proposal: Proposed) -> Iterator[Digest]:
    """Yield what the commit names and its branch did not."""
    for name in MADE_FROM:
        named = (proposal.made_by or {}).get(name)
        if isinstance(named, str):
            yield Digest(named)
    for state, old in _changed(proposal):
        yield from state.artifacts.values()
        for name, digest in packing_artifacts(state.artifacts).items():
            if old is None or old.artifacts.get(name) != digest:
                yield from (entry.digest for entry in load_index(home.objects, digest, name).ranges)
        known = set() if old is None else set(Manifest(home.objects, old.manifest).nodes())
        yield from (node for node in Manifest(home.objects, state.manifest).nodes() if node not in known)
    for part in _added(home, proposal):
        yield from (digest for digest in (part.shard, part.side) if digest != NO_DIGEST)


def _added(home: Home, proposal: Proposed) -> Iterator[Part]:
    """Yield the parts that the commit brings to its branch."""
    for state, old in _changed(proposal):
        for difference in diff_manifests(home.objects, None if old is None else old.manifest, state.manifest):
            if difference.after is not None:
                yield difference.after.part


def _changed(proposal: Proposed) -> Iterator[tuple[TableState, TableState | None]]:
    for name, state in proposal.tables.items():
        old = proposal.before.get(name)
        if state != old:
            yield state, old


def _why(message: str) -> str:
    return message.partition("\n")[0][:_LONGEST_WHY]


def _encoded(home: Home, value: Value) -> bytes:
    try:
        return encode(value)
    except UnicodeEncodeError as error:
        shown = ascii(error.object)[:80]
        raise InvalidInputError(f"{home.url}: a commit cannot hold {shown}: not Unicode") from error
