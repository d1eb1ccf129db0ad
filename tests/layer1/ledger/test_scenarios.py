"""The right ledger passes every story."""

from __future__ import annotations

import pytest

from tests.layer1.ledger.scenarios import SCENARIOS


@pytest.mark.parametrize("name", SCENARIOS)
def test_scenario(name: str) -> None:
    SCENARIOS[name]()
