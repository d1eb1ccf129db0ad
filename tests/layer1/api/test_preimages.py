"""``/preimages/{hash}``: what the ledger knows of a preimage, with proof, to a client that trusts the genesis."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from msgspec import structs

from layer1.api.app import create_app
from layer1.client import LedgerClient, ReplicaClient, new_registration
from layer1.codec import decode
from layer1.errors import RemoteError
from layer1.httpd.server import serve
from layer1.ledger.genesis import Currency
from layer1.ledger.locks import preimage_hash
from layer1.ledger.records import Registration
from layer1.light_views import preimage_text
from layer1.proof import RegistrationProof, Trust, verify_registration
from tests.layer1.api.stand_in import ALICE, Chain, StandIn, make_genesis

SECRET = b"s" * 32
HASH = preimage_hash(SECRET)


def test_what_is_shown_of_a_preimage() -> None:
    """When it was shown first, by which a lock is paid, and since when it is kept, if that is another time."""
    told = {"preimage": SECRET.hex(), "clock": 5, "kept_from": 5}
    assert "renewed" not in preimage_text({"hash": "ab", "registered": told}, Currency("WDG", 2))
    renewed = preimage_text({"hash": "ab", "registered": {**told, "kept_from": 9}}, Currency("WDG", 2))
    assert "since clock 5, renewed at 9:" in renewed


async def test_a_client_believes_the_registration_that_is_proven(tmp_path: Path) -> None:
    """That there is none is proven as well: on that word money goes back to its payer."""
    genesis = make_genesis()
    async with AsyncExitStack() as stack:
        replica = StandIn(Chain(genesis), tmp_path)
        stack.callback(replica.close)
        server = await serve(create_app(replica))
        stack.push_async_callback(server.close)
        url = f"http://127.0.0.1:{server.port}"
        client = await stack.enter_async_context(LedgerClient([url], genesis))
        typed = await stack.enter_async_context(ReplicaClient(url))
        assert (await client.registration(HASH)).value is None
        absent = await typed.preimage(HASH.hex(), proof=True)
        assert (absent.preimage, absent.registered) == (None, None) and absent.proof is not None
        replica.submit([new_registration(genesis, ALICE, [SECRET], await client.clock())])
        replica.order()
        found = await client.registration(HASH)
        assert found.value is not None and found.header.clock >= found.value.clock_ms > absent.clock
        assert found.value == Registration(HASH, SECRET, found.value.clock_ms, found.value.clock_ms)
        shown = await typed.preimage(HASH.hex().upper(), proof=True)
        assert (shown.hash, shown.preimage, shown.registered) == (HASH.hex(), SECRET.hex(), found.value.clock_ms)
        assert shown.kept_from == shown.registered
        assert shown.proof is not None
        proof, other = decode(bytes.fromhex(shown.proof), RegistrationProof), preimage_hash(b"t" * 32)
        trust = Trust(genesis)
        assert verify_registration(trust, HASH, proof).value == found.value
        for hashed, forged in (
            (HASH, None),
            (HASH, structs.replace(found.value, clock_ms=found.value.clock_ms - 1)),
            (HASH, structs.replace(found.value, kept_from_ms=found.value.kept_from_ms + 1)),
            (HASH, structs.replace(found.value, preimage=b"t" * 32)),
            (other, found.value),
            (other, Registration(other, b"t" * 32, 1, 1)),
        ):
            with pytest.raises(RemoteError):
                verify_registration(trust, hashed, structs.replace(proof, registration=forged))
        gone = decode(bytes.fromhex(absent.proof), RegistrationProof)
        with pytest.raises(RemoteError):
            verify_registration(trust, HASH, structs.replace(gone, registration=found.value))
