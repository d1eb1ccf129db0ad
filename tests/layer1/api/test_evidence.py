"""`/evidence`, marks in `/replicas`, and the transaction that brings one to the other, over HTTP."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from msgspec import structs

from layer1.codec import decode, encode
from layer1.consensus.evidence import Evidence, EvidenceKind, verify
from layer1.consensus.messages import Notarize
from layer1.ledger.transactions import Accusation, Transaction
from layer1.proof import MarksProof, Trust, verify_marks
from tests.layer1.api.conftest import Served
from tests.layer1.api.test_events import listen
from tests.layer1.ledger.world import accusation


async def marks(served: Served) -> list[str | None]:
    """The transactions that marked the replicas, proven."""
    body = await served.get("/replicas?proof=true")
    verified = verify_marks(Trust(served.chain.genesis), decode(bytes.fromhex(body["proof"]), MarksProof))
    assert (verified.header.height, verified.header.clock) == (body["height"], body["clock"])
    proven = [None if mark is None else mark.transaction_id.hex() for mark in verified.value.marks]
    assert proven == [item["marked"] for item in body["items"]]
    return proven


async def test_nobody_accused_nobody_marked(served: Served) -> None:
    assert await served.get("/evidence") == {"items": [], "next": None}
    assert await marks(served) == [None] * 4
    assert "proof" in (body := await served.get("/replicas")) and body["proof"] is None


async def test_evidence_is_readable_and_proves_itself(served: Served) -> None:
    genesis = served.chain.genesis
    served.backend.caught = [served.chain.evidence(2)]
    (item,) = (await served.get("/evidence"))["items"]
    evidence = decode(bytes.fromhex(item["encoded"]), Evidence)
    verify(evidence, Trust(genesis).voters(0))
    assert (item["replica"], item["key"], item["kind"], item["marked"]) == (
        2,
        genesis.replicas[2].hex(),
        "notarized_twice",
        None,
    )
    assert item["id"] == evidence.id.hex()
    for shown, vote in zip(item["votes"], (evidence.first, evidence.second), strict=True):
        assert isinstance(vote, Notarize)
        assert decode(bytes.fromhex(shown["encoded"]), Notarize) == vote
        assert (shown["kind"], shown["view"], shown["block"]) == ("notarize", vote.view, vote.block.hex())


async def test_evidence_is_paged_by_replica_and_kind(served: Served) -> None:
    found = [accusation(served.chain.genesis, i, kind).evidence for i in (3, 1) for kind in reversed(EvidenceKind)]
    served.backend.caught = found
    seen: list[tuple[int, str]] = []
    path = "/evidence?limit=2"
    for _ in range(3):
        page = await served.get(path)
        assert len(page["items"]) <= 2
        seen += [(item["replica"], item["kind"]) for item in page["items"]]
        path = f"/evidence?limit=2&cursor={page['next']}"
    assert page["next"] is None
    assert seen == [(i, kind.value) for i in (1, 3) for kind in EvidenceKind]
    last = (await served.get("/evidence"))["items"][2]
    assert [vote["kind"] for vote in last["votes"]] == ["finalize", "nullify"]
    assert last["votes"][1]["block"] is None


async def test_a_transaction_marks_and_the_mark_is_proven(served: Served) -> None:
    served.backend.caught = [served.chain.evidence(1)]
    transaction = served.chain.accusation(1)
    body = await served.post({"transaction": encode(transaction).hex()}, "?wait=final", 200)
    assert body["items"][0]["code"] == "ok"
    name = transaction.id.hex()
    assert await marks(served) == [None, name, None, None]
    assert (await served.get("/evidence"))["items"][0]["marked"] == name
    view = await served.get(f"/transactions/{name}")
    assert view["payload"] == {
        "kind": "evidence",
        "replica": 1,
        "contradiction": "notarized_twice",
        "evidence": served.chain.evidence(1).id.hex(),
    }
    assert decode(bytes.fromhex(view["encoded"]), Transaction) == transaction
    again = served.chain.accusation(1)
    body = await served.post({"transaction": encode(again).hex()}, "?wait=final", 200)
    assert (body["items"][0]["code"], name in body["items"][0]["message"]) == ("already_marked", True)


async def test_a_mark_is_among_the_events(served: Served) -> None:
    transaction = served.chain.accusation(3)
    served.backend.pool.append(transaction)
    served.backend.order()
    told = await listen(served, "?after=0", 3)
    assert [kind for _, kind, _ in told] == ["transaction", "replica", "block"]
    assert told[1][2] == {
        "replica": 3,
        "key": served.chain.genesis.replicas[3].hex(),
        "height": 1,
        "change": "marked",
        "transaction": transaction.id.hex(),
        "contradiction": "notarized_twice",
        "evidence": served.chain.evidence(3).id.hex(),
    }
    assert [kind for _, kind, _ in await listen(served, "?after=0&kind=replica", 1)] == ["replica"]


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/evidence?limit=0", "bad_parameter"),
        ("/evidence?cursor=x", "bad_cursor"),
        ("/evidence?proof=true", "bad_parameter"),
        ("/replicas?proof=1", "bad_parameter"),
    ],
)
async def test_bad_questions_are_refused(served: Served, path: str, code: str) -> None:
    await served.problem(path, 400, code)


@pytest.mark.parametrize(
    "change",
    [{"view": -(2**63)}, {"view": 2**64 - 1}, {"replica": -1}, {"replica": 2**63}, {"block": b""}, {"signature": b""}],
)
async def test_evidence_of_odd_values_is_refused_and_shown(served: Served, change: dict[str, Any]) -> None:
    """What is refused stands in a block all the same, and can be read."""
    found = served.chain.evidence(1)
    odd = Evidence(structs.replace(found.first, **change), structs.replace(found.second, **change))
    transaction = structs.replace(served.chain.accusation(1), payload=Accusation(odd))
    body = await served.post({"transaction": encode(transaction).hex()}, "?wait=final", 200)
    assert body["items"][0]["code"] in {"bad_vote", "unknown_replica", "same_block", "bad_signature"}
    view = await served.get(f"/transactions/{transaction.id.hex()}")
    assert view["payload"]["kind"] == "evidence"
    assert msgspec.json.decode(msgspec.json.encode(view)) == view
