"""``/accounts/{address}/head``: which process acts for an account, with proof, to a client that trusts the genesis."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from msgspec import structs

from layer1.api.app import create_app
from layer1.client import LedgerClient, ReplicaClient, new_appointment
from layer1.codec import decode
from layer1.crypto import format_address
from layer1.errors import RemoteError
from layer1.httpd.server import serve
from layer1.ledger.records import Head
from layer1.proof import AppointmentProof, Trust, verify_appointment
from tests.layer1.api.stand_in import ALICE, BOB, Chain, StandIn, make_genesis


async def test_a_client_believes_the_head_that_is_proven(tmp_path: Path) -> None:
    genesis = make_genesis()
    async with AsyncExitStack() as stack:
        replica = StandIn(Chain(genesis), tmp_path)
        stack.callback(replica.close)
        server = await serve(create_app(replica))
        stack.push_async_callback(server.close)
        url = f"http://127.0.0.1:{server.port}"
        client = await stack.enter_async_context(LedgerClient([url], genesis))
        typed = await stack.enter_async_context(ReplicaClient(url))
        assert (await client.appointment(ALICE.public)).value is None
        transaction = new_appointment(genesis, ALICE, 1, b"1" * 32, await client.clock())
        replica.submit([transaction])
        replica.order()
        found = await client.appointment(ALICE.public)
        assert found.value == Head(ALICE.public, 1, b"1" * 32)
        assert found.header.height == replica.head().header.height
        shown = await typed.appointment(format_address(ALICE.public), proof=True)
        assert (shown.term, shown.head) == (1, (b"1" * 32).hex())
        assert shown.proof is not None
        proof = decode(bytes.fromhex(shown.proof), AppointmentProof)
        assert verify_appointment(Trust(genesis), ALICE.public, proof).value == found.value
        for account, forged in (
            (ALICE.public, None),
            (ALICE.public, Head(ALICE.public, 1, b"2" * 32)),
            (ALICE.public, Head(ALICE.public, 2, b"1" * 32)),
            (BOB.public, found.value),
        ):
            with pytest.raises(RemoteError):
                verify_appointment(Trust(genesis), account, structs.replace(proof, appointed=forged))
        concerned = await typed.account_transactions(format_address(ALICE.public))
        assert [structs.asdict(item.payload)["term"] for item in concerned.items[:1]] == [1]
