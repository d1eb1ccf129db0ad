"""`layer1 evidence` after the replica set changed: whom the ledger can still mark, and who has left."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from layer1.cli_evidence import _list, _submit
from layer1.consensus.evidence import Evidence
from layer1.ledger.replicas import ChangeReplicas, SetChange, sign_change
from layer1.ledger.transactions import Output, Transaction
from tests.layer1.ledger.world import World, accusation, key


class Client:
    """As a `LedgerClient`, of a ledger in which replica 0 has left; 0 and 2 contradicted themselves before."""

    def __init__(self) -> None:
        self.world = World()
        self.genesis = self.world.genesis
        self.sets = [self.genesis.replica_set]
        self.trust = SimpleNamespace(set_of=lambda epoch: self.sets[epoch])
        self.caught = [accusation(self.genesis, replica).evidence for replica in (0, 2)]
        change = SetChange(0, (), (0,), 10_000)
        agreed = tuple((i, sign_change(change, self.world.chain_id, key(f"replica {i}"))) for i in range(3))
        assert self.world.do(ChangeReplicas(change, agreed, ())).code == "ok"
        self.sets.append(self.world.state.replica_set)

    async def marks(self) -> Any:
        members = self.world.state.replica_set
        marks = tuple(map(self.world.state.mark, members.keys))
        return SimpleNamespace(value=SimpleNamespace(replica_set=members, marks=marks))

    async def evidence(self) -> list[Evidence]:
        return self.caught

    async def clock(self) -> int:
        return self.world.state.clock

    async def submit(self, transaction: Transaction) -> Output:
        return self.world.block(transaction).outputs[0]


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Client:
    found = Client()

    @asynccontextmanager
    async def asked(*_: object) -> AsyncIterator[Client]:
        yield found

    async def opened(*_: object) -> Any:
        return asked()

    monkeypatch.setattr("layer1.cli_evidence._client", opened)
    return found


async def test_evidence_of_an_epoch_that_is_over_is_brought_by_the_place_of_today(client: Client) -> None:
    """Replica 2 had place 2 and has place 1 now; replica 0 has none."""
    before = await _list(Path(), [], None)
    assert [(row["replica"], row["left"], row["marked"]) for row in before] == [(0, True, None), (2, False, None)]
    assert await _submit(Path(), [], None, 0) == [], "it has left"
    (row,) = await _submit(Path(), [], None, None)
    assert (row["replica"], row["code"]) == (2, "ok")
    after = await _list(Path(), [], None)
    assert [(row["replica"], bool(row["marked"])) for row in after] == [(0, False), (2, True)]
    assert await _submit(Path(), [], None, None) == []
