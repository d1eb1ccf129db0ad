"""Fixtures that tests of several packages share."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from layer1 import descriptors
from tests.postgres import FAST, Server


@pytest.fixture
def many_files() -> Iterator[int]:
    """How many files this process may open, as many as the system lets it."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield descriptors.raise_limit()
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """A PostgreSQL server for all tests of this process that ask for a database of their own."""
    with Server(*FAST) as server:
        yield server


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database, once of each kind: what holds on one must hold on the other."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'a.db'}"
    server: Server = request.getfixturevalue("postgres")
    return server.new_url()
