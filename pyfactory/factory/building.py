"""A job file -> a commit."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pyfactory.core.digest import NO_DIGEST
from pyfactory.core.progress import Progress, no_progress
from pyfactory.factory.tables import publish, replaced, schema_value
from pyfactory.job.executors.open import open_executor
from pyfactory.job.run import JobResult, run_job
from pyfactory.job.spec import load_job
from pyfactory.repo.leases import writing
from pyfactory.repo.names import check_table_name, check_text
from pyfactory.repo.repository import Repository
from pyfactory.repo.signing import Signer
from pyfactory.repo.version import Version

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
    )


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
