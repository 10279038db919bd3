"""Repositories that several tests start from."""

from __future__ import annotations

import pytest
from repo_tables import raw_state

from pyfactory.repo.repository import Repository
from pyfactory.store.memory import MemoryStore


@pytest.fixture
def repository() -> Repository:
    return Repository.create(MemoryStore())


@pytest.fixture
def filled(repository: Repository) -> Repository:
    """main: one, two (tag v1); branch dev from one."""
    one = repository.commit({"corpus": raw_state(repository.objects, "one")}, message="one", author="Ada").digest
    repository.branch("dev", one, author="Ada")
    repository.commit({"corpus": raw_state(repository.objects, "two")}, message="two", author="Bob")
    repository.tag("v1", "main", "first release", author="Eve")
    return repository
