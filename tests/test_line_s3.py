"""The whole line on an S3 server: the same digests and the same batches as on a local disk."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

from pyfactory.core.digest import Digest
from pyfactory.factory import build, import_files
from pyfactory.loader.loader import DataLoader
from pyfactory.repo.repository import Repository
from pyfactory.stream.stream import Stream
from tests.cli.cli_runs import program
from tests.raw_files import documents, write_job, write_records
from tests.s3_server import S3Server

Batch = tuple[tuple[int, int], list[int], list[list[int]], list[list[int]]]


def line(where: str, files: list[Path], job: Path) -> Repository:
    """Import on two branches, merge them, build, tag."""
    repo = Repository.create(where)
    import_files(repo, "raw", files[:1], id="id")
    repo.branch("more")
    import_files(repo, "raw", files[1:2], id="id")
    import_files(repo, "raw", files[2:], id="id", branch="more")
    repo.merge("more")
    build(repo, job)
    repo.tag("v1")
    return repo


def tables(repo: Repository) -> dict[str, Digest]:
    return {name: state.digest for name, state in repo.tables("v1").items()}


def batches(repo: Repository) -> list[Batch]:
    """What a training loop receives from a loader with threads, opened anew by the repository's URL."""
    version = Repository.open(repo.url).version("corpus", "v1", strict=True)
    stream = Stream(version, seed=5, sequence_length=32, block_size=4, window=8)
    with DataLoader(stream, global_batch=16, rank=0, world_size=1, num_workers=2) as loader:
        return [
            (b["span"], b["indices"].tolist(), b["input_ids"].tolist(), b["targets"].tolist())
            for b in islice(loader, 12)
        ]


def test_a_line_on_s3_is_the_line_on_a_disk(s3: S3Server, tmp_path: Path) -> None:
    """Catches a place or an order of listing in what is built; shards that are read short or in another order."""
    files = [write_records(tmp_path / f"{seed}.jsonl", documents(40, seed, f"doc-{seed}")) for seed in (1, 2, 3)]
    job = write_job(tmp_path / "job.yaml")
    local, remote = (line(where, files, job) for where in (str(tmp_path / "repository"), s3.url()))
    assert tables(remote) == tables(local)
    assert remote.version("corpus", "v1").shards > 3
    received = batches(remote)
    assert received == batches(local)
    assert len({tuple(row) for batch in received for row in batch[2]}) > 100, "many different samples"
    assert remote.verify().problems == []
    said = program("show", remote.url, "v1", "--json", cwd=tmp_path)
    assert said.code == 0 and repr(tables(local)["corpus"])[1:-1][:12] in said.out, said.err
