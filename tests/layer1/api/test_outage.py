"""The database does not answer: what needs it is told to come again, everything else goes on."""

from __future__ import annotations

from typing import Any

import pytest

from layer1.crypto import format_address
from layer1.storage.database import Outage
from tests.layer1.api.conftest import Served
from tests.layer1.api.stand_in import ALICE

PLACE = "connection to server at 10.1.2.3, port 5432 failed"
READS = ("oldest", "block", "blocks", "summaries", "transaction", "outputs", "certified", "account_history", "groups")


async def test_what_needs_the_database_says_busy_and_not_where_it_is(
    served: Served, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def gone(*_: Any) -> None:
        raise Outage(PLACE)

    served.backend.pool.append(served.chain.transfer())
    transaction = served.backend.order().outputs[0].transaction_id.hex()
    for name in READS:
        monkeypatch.setattr(served.backend.store, name, gone)
    account = f"/accounts/{format_address(ALICE.public)}"
    paths = ("/blocks", "/blocks/1", f"/transactions/{transaction}", f"{account}/transactions", "/groups", "/events")
    for path in paths:
        body = await served.problem(path, 503, "busy")
        assert PLACE not in body["detail"]
    await served.get("/status")
    await served.get(f"{account}?proof=true")
    assert caplog.records == []  # the writer warns once; readers may be many
