"""The training program of the demo: what each of its processes runs.

An ordinary PyTorch loop. It is started as `python -m pyfactory.demo.training`, one process per rank, and may be killed
at any time. Each rank notes a hash of every row it *received*, by position: what the demo compares afterwards.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed import FileStore  # type: ignore[attr-defined]  # documented, but not in its __all__

import pyfactory as pf
from pyfactory.core.digest import digest_of
from pyfactory.demo.model import SmallGPT

__all__ = ["Settings", "main"]

CHECKPOINT_EVERY = 10
SEQUENCE_LENGTH = 128
GLOBAL_BATCH = 16
SEED = 7


class Settings(argparse.Namespace):
    """The command line of a training process."""

    repo: str
    folder: Path
    rank: int
    world_size: int
    until: int
    resume: Path | None


def main() -> None:
    """Train until the train step asked for, with a checkpoint every CHECKPOINT_EVERY steps."""
    settings = _settings()
    store = FileStore(str(settings.folder / f"rendezvous-{settings.world_size}"), settings.world_size)
    dist.init_process_group("gloo", store=store, rank=settings.rank, world_size=settings.world_size)
    torch.set_num_threads(1 if settings.world_size > 1 else torch.get_num_threads())
    repo = pf.Repository.open(settings.repo)
    stream = pf.Stream(repo.version("corpus", "v1", strict=True), seed=SEED, sequence_length=SEQUENCE_LENGTH)
    fields = ["input_ids", "targets", "position_ids", "indices"]
    with pf.DataLoader(stream, global_batch=GLOBAL_BATCH, num_workers=1, fields=fields) as loader:
        _train(settings, repo, loader)
    dist.destroy_process_group()


def _train(settings: Settings, repo: pf.Repository, loader: pf.DataLoader) -> None:
    torch.manual_seed(0)
    model = SmallGPT(int(loader.stream.version.attributes["vocab_size"]), SEQUENCE_LENGTH)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    if settings.resume is not None:
        saved = torch.load(settings.resume, weights_only=True)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
    with pf.Run(repo, loader, resume=settings.resume, note="demo") as run, _log(settings).open("w") as log:
        step = loader.cursor // GLOBAL_BATCH
        while step < settings.until:
            for batch in loader:
                loss = _train_step(model, optimizer, batch)
                step = loader.cursor // GLOBAL_BATCH
                _note(log, batch, step, loss, loader)
                if step % CHECKPOINT_EVERY == 0 or step == settings.until:
                    _save(settings, run, model, optimizer, step)
                if step == settings.until:
                    break


def _train_step(model: SmallGPT, optimizer: torch.optim.Optimizer, batch: dict[str, Any]) -> float:
    loss = model(batch["input_ids"], batch["position_ids"], batch["targets"])
    optimizer.zero_grad()
    loss.backward()
    for parameter in model.parameters():
        assert parameter.grad is not None
        dist.all_reduce(parameter.grad)
        parameter.grad /= dist.get_world_size()
    optimizer.step()
    mean = loss.detach().clone()
    dist.all_reduce(mean)
    return float(mean.item()) / dist.get_world_size()


def _note(log: Any, batch: dict[str, Any], step: int, loss: float, loader: pf.DataLoader) -> None:
    rows = {
        int(position): digest_of(row.to(torch.int32).numpy().tobytes())
        for position, row in zip(batch["indices"], batch["input_ids"], strict=True)
    }
    print(json.dumps({"step": step, "loss": loss, "rows": rows, "stats": loader.stats()}), file=log, flush=True)


def _save(settings: Settings, run: pf.Run, model: SmallGPT, optimizer: torch.optim.Optimizer, step: int) -> None:
    path = settings.folder / f"step-{step:05d}.pt"
    if settings.rank == 0:
        aside = path.with_suffix(".part")
        torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, aside)
        aside.replace(path)
    run.checkpoint(path)


def _log(settings: Settings) -> Path:
    return settings.folder / f"received-{settings.world_size}-{settings.rank}.jsonl"


def _settings() -> Settings:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repo", required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--rank", type=int, required=True)
    parser.add_argument("--world-size", type=int, required=True)
    parser.add_argument("--until", type=int, required=True)
    parser.add_argument("--resume", type=Path, default=None)
    return parser.parse_args(namespace=Settings())


if __name__ == "__main__":
    main()
