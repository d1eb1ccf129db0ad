"""`/machine/{key}` and commands over HTTP, and a reader that believes the proof alone."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

from msgspec import structs

from examples.own_machine import NAMES
from layer1.api.app import create_app
from layer1.client import LedgerClient, ReplicaClient
from layer1.httpd.server import serve
from layer1.ledger.transactions import Command
from tests.layer1.api.conftest import Served
from tests.layer1.api.stand_in import ALICE, Chain, StandIn, make_genesis, signed


async def test_a_value_is_served_with_its_proof(tmp_path: Path) -> None:
    genesis = structs.replace(make_genesis(), machine=NAMES.name)
    async with AsyncExitStack() as stack:
        replica = StandIn(Chain(genesis, NAMES), tmp_path)
        stack.callback(replica.close)
        server = await serve(create_app(replica))
        stack.push_async_callback(server.close)
        url = f"http://127.0.0.1:{server.port}"
        client = await stack.enter_async_context(LedgerClient([url], genesis))
        typed = await stack.enter_async_context(ReplicaClient(url))
        assert (await client.value(b"wedge")).value is None
        transaction = signed(genesis, Command(ALICE.public, b"wedge=hi"), [ALICE], 500_000, 7)
        replica.submit([transaction])
        replica.order()
        assert (await client.value(b"wedge")).value == ALICE.public + b"hi"
        shown = await typed.value(b"wedge".hex())
        assert (shown.value, shown.proof) == ((ALICE.public + b"hi").hex(), None)
        assert shown.height == replica.head().header.height
        found = await typed.transaction(transaction.id.hex())
        assert (found.code, found.message) == ("ok", "taken")
        assert structs.asdict(found.payload)["data"] == b"wedge=hi".hex()
        assert (await typed.genesis()).machine == "names/1"
        output = await client.output(transaction.id)
        assert output is not None
        assert output.value.message == "taken"


async def test_what_is_no_key_is_refused(served: Served) -> None:
    assert (await served.get("/machine/00"))["value"] is None
    for key in ("0", "zz", "0" * 514, "00%20", "%C3%A4%C3%A4"):
        await served.problem(f"/machine/{key}", 400, "bad_parameter")
