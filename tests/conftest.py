"""Fixtures that tests of several packages share."""

from __future__ import annotations

import resource
from collections.abc import Iterator

import pytest

from layer1 import descriptors


@pytest.fixture
def many_files() -> Iterator[int]:
    """How many files this process may open, as many as the system lets it."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield descriptors.raise_limit()
    resource.setrlimit(resource.RLIMIT_NOFILE, before)
