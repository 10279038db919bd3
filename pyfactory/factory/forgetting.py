"""Forgetting, from the record to the runs that saw it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from pyfactory.audit import Seen, runs_that_saw
from pyfactory.core.progress import Progress, no_progress
from pyfactory.repo.forget import Forgotten, forget
from pyfactory.repo.repository import Repository

if TYPE_CHECKING:
    from pyfactory.repo.signing import Signer

__all__ = ["ForgetReport", "forget_records"]


@dataclass(frozen=True, slots=True)
class ForgetReport:
    """What forgetting did, or would do.

    Attributes:
        forgotten: What changed in the repository.
        seen: The runs that saw the records: their models are outside of what can be taken back.
    """

    forgotten: Forgotten
    seen: list[Seen]

    def to_value(self) -> dict[str, Any]:
        """Return plain dicts and lists."""
        return {**asdict(self.forgotten), "runs": [asdict(seen) for seen in self.seen]}


def forget_records(
    repo: Repository,
    record_ids: Sequence[str],
    reason: str,
    *,
    who: str = "unknown",
    signer: Signer | None = None,
    dry_run: bool = False,
    progress: Progress = no_progress,
) -> ForgetReport:
    """Forget records in all commits and tags, and list the runs that saw them.

    Arguments and errors as of `repo.forget.forget`.
    """
    told = {"who": who, "signer": signer, "dry_run": dry_run, "progress": progress}
    done = forget(repo, record_ids, reason, **told)  # type: ignore[arg-type]  # each has its type above
    return ForgetReport(done, runs_that_saw(repo, record_ids))
