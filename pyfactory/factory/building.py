"""A job file -> a commit."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pyfactory.core.digest import NO_DIGEST
from pyfactory.core.progress import Progress, no_progress
from pyfactory.factory.packing import with_packing
from pyfactory.factory.tables import publish, replaced, schema_value
from pyfactory.job.executors.base import Executor
from pyfactory.job.executors.open import open_executor
from pyfactory.job.packing import Packed
from pyfactory.job.run import JobResult, run_job
from pyfactory.job.spec import JobSpec, load_job
from pyfactory.repo.leases import writing
from pyfactory.repo.names import check_table_name, check_text
from pyfactory.repo.objects import TableState
from pyfactory.repo.repository import Repository
from pyfactory.repo.signing import Signer
from pyfactory.repo.version import Version
from pyfactory.shard.packing_format import packing_artifacts
from pyfactory.shard.packing_table import PackingReport, report_of

__all__ = ["BuildReport", "build"]


@dataclass(frozen=True, slots=True)
class BuildReport:
    """What a build did.

    Attributes:
        commit: The commit that holds the output table.
        created: False when the table was that already.
        table: Name of the output table.
        version: Its version digest.
        rows: Its rows.
        tokens: Its tokens.
        nbytes: Its bytes.
        input_table: Name of the input table.
        resolved: What its ref stood for.
        input_version: Its version digest.
        steps: What each step took and dropped.
        computed: Tasks computed.
        reused: Tasks found done.
        packing: What the packing that the job asks for does to the table, None if it asks for none.
    """

    commit: str
    created: bool
    table: str
    version: str
    rows: int
    tokens: int
    nbytes: int
    input_table: str
    resolved: str
    input_version: str
    steps: list[dict[str, Any]]
    computed: int
    reused: int
    packing: PackingReport | None = None

    def to_value(self) -> dict[str, Any]:
        """Return a plain dict."""
        return asdict(self)


def build(
    repo: Repository,
    job: str | Path,
    *,
    branch: str = "main",
    message: str = "",
    author: str = "unknown",
    signer: Signer | None = None,
    workers: int | None = None,
    progress: Progress = no_progress,
) -> BuildReport:
    """Run a job and commit its output table, which replaces the one of that name.

    Args:
        repo: The repository.
        job: The job file.
        branch: Where the input is looked up, unless the job says `table@ref`, and where the output is committed.
        message: Why, for the log.
        author: Who.
        signer: Signs the commit; needed where the rule of the branch asks for it.
        workers: Tasks at a time; decides how long it takes, never what comes out.
        progress: Who listens.

    Raises:
        InvalidInputError: The job is not valid (file:line), or its input does not suit it.
        NotFoundError: No such table, branch or file.
        RefusedError: A rule of the branch forbids it.
        ConflictError: Somebody else changed the output table meanwhile; a rerun finds all tasks done.
    """
    spec = load_job(Path(job))
    check_table_name(spec.output)  # now, rather than after the work
    check_text(message, "message")
    repo.check_takes_commits(branch, author=author, signer=signer)
    head = repo.head(branch)
    before = None if head == NO_DIGEST else repo.tables(head).get(spec.output)
    version = repo.version(spec.input_table, spec.input_ref or branch)
    told = {"message": message or f"build {spec.output} from {spec.input_table}", "author": author, "signer": signer}
    with writing(repo, f"build of {spec.output} by {author}", progress) as telling:
        with open_executor(workers) as executor:
            result = run_job(repo.objects, spec, version.manifest, executor, telling)
            state = replaced(repo, result.parts, schema_value(result.schema), result.artifacts, result.attributes)
            state, packed = _packed(repo, spec, before, state, executor, telling)
        made_by = _made_by(spec.output, version, result)
        done = publish(repo, spec.output, before, state, head, branch, made_by=made_by, **told)
    return BuildReport(
        commit=done.digest,
        created=done.created,
        table=spec.output,
        version=state.digest,
        rows=state.rows,
        tokens=state.tokens,
        nbytes=state.nbytes,
        input_table=version.table,
        resolved=version.ref,
        input_version=version.digest,
        steps=[report.value() for report in result.reports],
        computed=result.computed,
        reused=result.reused,
        packing=None if packed is None else report_of(packed.index),
    )


def _packed(
    repo: Repository,
    spec: JobSpec,
    before: TableState | None,
    state: TableState,
    executor: Executor,
    progress: Progress,
) -> tuple[TableState, Packed | None]:
    """Return the output table with the packing that the job asks for, and with those that its rows have already."""
    if before is not None and before.manifest == state.manifest:
        state = replace(state, artifacts={**packing_artifacts(before.artifacts), **state.artifacts})
    if spec.pack is None or not state.tokens:
        return state, None
    packed, state = with_packing(repo, state, spec.pack.packing, spec.pack.sequence_length, executor, progress)
    return state, packed


def _made_by(output: str, version: Version, result: JobResult) -> dict[str, Any]:
    used = {
        "table": version.table,
        "commit": version.commit,
        "version": version.digest,
        "asked": version.asked,
        "resolved": version.ref,
    }
    return {
        "kind": "job",
        "output": output,
        "job": result.job,
        "inputs": [used],
        "steps": [report.value() for report in result.reports],
        "code": dict(result.code),
    }
