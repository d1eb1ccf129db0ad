"""Each resource: what it answers, what it refuses, and that proofs in answers hold."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import aiohttp
import msgspec
import pytest

from layer1.api.resources.transactions import _parse, _results
from layer1.codec import decode, encode
from layer1.crypto import ADDRESS_PREFIX, format_address
from layer1.httpd.sources import source_of
from layer1.ledger.genesis import Genesis
from layer1.ledger.transactions import Transaction
from layer1.proof import (
    AccountProof,
    BlockProof,
    GroupProof,
    GroupsProof,
    HeadProof,
    OutputProof,
    Trust,
    verify_account,
    verify_block,
    verify_group,
    verify_groups,
    verify_head,
    verify_output,
)
from tests.layer1.api.conftest import LIMITS, Served
from tests.layer1.api.stand_in import ALICE, ALICE_KEY, BOB, CAROL

ALICE_ADDRESS, BOB_ADDRESS, CAROL_ADDRESS = (format_address(key.public) for key in (ALICE, BOB, CAROL))


def submission(transaction: Transaction) -> dict[str, str]:
    return {"transaction": encode(transaction).hex()}


async def test_status_shows_the_head_with_its_proof(served: Served) -> None:
    for _ in range(2):
        status = await served.get("/status")
        head = verify_head(Trust(served.chain.genesis), decode(bytes.fromhex(status["proof"]), HeadProof))
        assert head.height == status["head"]["height"]
        assert status["chain_id"] == served.chain.genesis.chain_id.hex()
        assert status["details"]["mempool"] == 0
        served.backend.order()
    assert (await served.get("/status"))["head"]["height"] == 2


async def test_genesis_is_encoded_and_readable(served: Served) -> None:
    body = await served.get("/genesis")
    genesis = decode(bytes.fromhex(body["encoded"]), Genesis)
    assert genesis == served.chain.genesis
    assert body["chain_id"] == genesis.chain_id.hex()
    assert (body["faults"], body["quorum"], body["supply"]) == (1, 3, 1_500_000)
    assert body["parameters"]["heartbeat_ms"] == 10_000


async def test_replicas_are_listed(served: Served) -> None:
    assert [item["index"] for item in (await served.get("/replicas"))["items"]] == [0, 1, 2, 3]


async def test_blocks_are_paged_newest_first(served: Served) -> None:
    for _ in range(5):
        served.backend.order()
    heights, path = [], "/blocks?limit=2"
    while True:
        page = await served.get(path)
        heights.append([item["header"]["height"] for item in page["items"]])
        if page["next"] is None:
            break
        path = f"/blocks?limit=2&cursor={page['next']}"
    assert heights == [[5, 4], [3, 2], [1]]


async def test_a_block_is_found_by_height_or_as_the_latest(served: Served) -> None:
    transactions = [served.chain.transfer(), served.chain.transfer()]
    served.backend.pool += transactions
    served.backend.order()
    block = await served.get("/blocks/1?proof=true")
    assert block["transactions"] == [transaction.id.hex() for transaction in transactions]
    assert await served.get("/blocks/latest?proof=true") == block
    proof = verify_block(Trust(served.chain.genesis), decode(bytes.fromhex(block["proof"]), BlockProof))
    assert [output.code for output in proof.value] == ["ok", "ok"]
    genesis = await served.get("/blocks/0?proof=true")
    assert verify_block(Trust(served.chain.genesis), decode(bytes.fromhex(genesis["proof"]), BlockProof)).value == ()
    await served.problem("/blocks/2", 404, "not_found")
    await served.problem("/blocks/-1", 400, "bad_parameter")
    await served.problem("/blocks/1x", 400, "bad_parameter")


async def test_a_submission_is_taken_and_its_id_answered(served: Served) -> None:
    served.backend.orders_at_once = False
    transaction = served.chain.transfer(7)
    answer = await served.post(submission(transaction))
    assert answer["items"][0] | {"id": transaction.id.hex(), "status": "pending"} == answer["items"][0]
    await served.problem(f"/transactions/{transaction.id.hex()}", 404, "not_found")
    served.backend.order()
    found = await served.get(f"/transactions/{transaction.id.hex()}?proof=true")
    assert found["payload"] == {"kind": "transfer", "sender": ALICE_ADDRESS, "recipient": BOB_ADDRESS, "amount": 7}
    assert decode(bytes.fromhex(found["encoded"]), Transaction) == transaction
    proof = decode(bytes.fromhex(found["proof"]), OutputProof)
    assert verify_output(Trust(served.chain.genesis), transaction.id, proof).value.code == "ok"


async def test_what_a_replica_no_longer_keeps_is_not_called_unknown(served: Served) -> None:
    """A transaction's `valid_until` tells whether it can be among what is gone."""
    chain, backend = served.chain, served.backend
    backend.pool = [old := chain.transfer()]
    for seconds in range(0, 650, 50):
        backend.order(chain.headers[0].wall_time + seconds * 1_000)
    backend.store.prune(4, 100)
    path, base = f"/transactions/{old.id.hex()}", backend.store.base
    problem = await served.problem(path, 410, "pruned")
    assert "is final in blocks 4 to 13, and blocks before them are not kept here" in problem["detail"]
    await served.problem("/blocks/3", 410, "pruned")
    await served.problem("/blocks/99", 404, "not_found")
    assert (await served.get("/blocks/4"))["header"]["height"] == 4
    assert (await served.get("/blocks?limit=100"))["items"][-1]["header"]["height"] == 4
    last = base.clock_ms + chain.genesis.parameters.max_valid_ms
    await served.problem(f"{path}?valid_until={last}", 410, "pruned")
    await served.problem(f"{path}?valid_until={last + 1}", 404, "not_found")
    await served.problem(f"{path}?valid_until=x", 400, "bad_parameter")


async def test_waiting_for_finality_returns_the_outputs_in_order(served: Served) -> None:
    transactions = [served.chain.transfer(1), served.chain.transfer(1_000_000), served.chain.transfer(3)]
    answer = await served.post([submission(t) for t in transactions], "?wait=final&proof=true", 200)
    assert [item["id"] for item in answer["items"]] == [t.id.hex() for t in transactions]
    assert [item["code"] for item in answer["items"]] == ["ok", "insufficient_balance", "ok"]
    for transaction, item in zip(transactions, answer["items"], strict=True):
        proof = decode(bytes.fromhex(item["proof"]), OutputProof)
        assert verify_output(Trust(served.chain.genesis), transaction.id, proof).value.code == item["code"]


async def test_a_wait_that_is_over_answers_what_is_known(served: Served) -> None:
    served.backend.orders_at_once = False
    answer = await served.post(submission(served.chain.transfer()), "?wait=final&timeout_ms=20", 202)
    assert answer["items"][0]["status"] == "pending"


async def test_a_list_comes_compact_as_msgpack(served: Served) -> None:
    transactions = [served.chain.transfer(), served.chain.transfer()]
    data = msgspec.msgpack.encode([encode(transaction) for transaction in transactions])
    headers = {"Content-Type": "application/msgpack"}
    async with served.session.post(f"{served.url}/transactions?wait=final", data=data, headers=headers) as response:
        assert response.status == 200
        assert [item["code"] for item in (await response.json())["items"]] == ["ok", "ok"]


@pytest.mark.parametrize(
    "body, status, code",
    [
        (b"", 400, "bad_encoding"),
        (b"{", 400, "bad_encoding"),
        (b"[]", 400, "bad_encoding"),
        (b'{"transaction": 1}', 400, "bad_encoding"),
        (b'{"transaction": "zz"}', 400, "bad_encoding"),
        (b'{"transaction": "00", "more": 1}', 400, "bad_encoding"),
        (b'{"transaction": "93"}', 400, "bad_encoding"),
        (b"[" * 10_000, 400, "bad_encoding"),
        (b"[" + b",".join([b'{"transaction": "00"}'] * 51) + b"]", 413, "too_many"),
        (b" " * 300_000, 413, "too_large"),
    ],
)
async def test_a_bad_body_is_refused(served: Served, body: bytes, status: int, code: str) -> None:
    headers = {"Content-Type": "application/json"}
    async with served.session.post(f"{served.url}/transactions", data=body, headers=headers) as response:
        problem = await response.json(content_type=None)
        assert (response.status, problem["code"]) == (status, code)


async def test_other_content_is_refused(served: Served) -> None:
    async with served.session.post(f"{served.url}/transactions", data=b"x") as response:
        assert response.status == 415


async def test_a_second_encoding_of_a_transaction_is_refused(served: Served) -> None:
    encoded = encode(served.chain.transfer())
    longer = b"\xdc\x00\x04" + encoded[1:]
    assert encoded[0] == 0x94
    answer = await served.post({"transaction": longer.hex()}, status=400)
    assert answer["code"] == "bad_encoding"


async def test_each_refusal_has_its_status(served: Served) -> None:
    poor = served.chain.transfer(10**9)
    assert (await served.post(submission(poor), status=422))["code"] == "insufficient_balance"
    done = served.chain.transfer()
    await served.post(submission(done), "?wait=final", 200)
    assert (await served.post(submission(done), status=409))["code"] == "already_executed"
    served.backend.full = True
    async with served.session.post(f"{served.url}/transactions", json=submission(served.chain.transfer())) as response:
        assert response.status == 503
        assert response.headers["Retry-After"] == "1"


async def test_a_share_of_the_pool_is_that_of_an_address(served: Served) -> None:
    """However many connections it opens, and whatever a header says."""
    for _ in range(2):
        async with aiohttp.ClientSession(headers={"X-Forwarded-For": "192.0.2.7"}) as session:
            await session.post(f"{served.url}/transactions", json=submission(served.chain.transfer()))
    assert served.backend.sources == ["127.0.0.1"] * 2


@pytest.mark.parametrize(
    ("remote", "source"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        (None, ""),
        ("a socket", ""),
    ],
)
def test_who_holds_a_subnet_is_one_source(remote: str | None, source: str) -> None:
    assert source_of(remote) == source


async def test_proofs_in_one_answer_are_limited(served: Served) -> None:
    many = [submission(served.chain.transfer()) for _ in range(LIMITS.proofs + 1)]
    assert (await served.post(many, "?wait=final&proof=true", 413))["code"] == "too_many"


@pytest.mark.slow
async def test_a_slow_body_is_given_up(served: Served) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", served.server.port)
    writer.write(
        b"POST /transactions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n["
    )
    line = await asyncio.wait_for(reader.readline(), 5)
    assert b" 408 " in line
    writer.close()
    await writer.wait_closed()


async def test_accounts_are_proven(served: Served) -> None:
    served.backend.pool.append(served.chain.transfer(5))
    served.backend.order()
    for key, balance in ((ALICE, 999_995), (BOB, 500_005), (CAROL, 0)):
        body = await served.get(f"/accounts/{format_address(key.public)}?proof=true")
        proof = decode(bytes.fromhex(body["proof"]), AccountProof)
        assert body["balance"] == balance
        assert verify_account(Trust(served.chain.genesis), key.public, proof).value.balance == balance
    await served.problem("/accounts/wedge1qqqq", 400, "bad_address")
    await served.problem(f"/accounts/{ALICE_ADDRESS}?proof=maybe", 400, "bad_parameter")


async def test_an_account_s_transactions_are_paged(served: Served) -> None:
    served.backend.pool += [served.chain.transfer(n) for n in range(1, 4)]
    served.backend.order()
    first = await served.get(f"/accounts/{BOB_ADDRESS}/transactions?limit=2")
    assert [item["payload"]["amount"] for item in first["items"]] == [3, 2]
    second = await served.get(f"/accounts/{BOB_ADDRESS}/transactions?limit=2&cursor={first['next']}")
    assert [item["payload"]["amount"] for item in second["items"]] == [1]
    assert second["next"] is None
    await served.problem(f"/accounts/{BOB_ADDRESS}/transactions?cursor=1-x", 400, "bad_cursor")
    await served.problem(f"/accounts/{BOB_ADDRESS}/transactions?limit=0", 400, "bad_parameter")
    await served.problem(f"/accounts/{BOB_ADDRESS}/transactions?limit=501", 400, "bad_parameter")


async def _open(served: Served, salt: int = 0) -> str:
    answer = await served.post(submission(served.chain.opening(salt)), "?wait=final", 200)
    assert answer["items"][0]["code"] == "ok", answer
    group: str = answer["items"][0]["group"]
    return group


async def test_groups_are_proven_present_and_absent(served: Served) -> None:
    group_id = await _open(served)
    body = await served.get(f"/groups/{group_id}?proof=true")
    assert body["group"]["status"] == "open"
    assert [member["deposit"] for member in body["group"]["members"]] == [100, 50]
    shown = verify_group(
        Trust(served.chain.genesis), bytes.fromhex(group_id), decode(bytes.fromhex(body["proof"]), GroupProof)
    )
    assert shown.value == served.chain.state.group(bytes.fromhex(group_id))
    absent = await served.problem(f"/groups/{'00' * 32}?proof=true", 404, "not_found")
    proof = decode(bytes.fromhex(absent["proof"]), GroupProof)
    assert verify_group(Trust(served.chain.genesis), bytes(32), proof).value is None
    assert "proof" not in await served.problem(f"/groups/{'00' * 32}", 404, "not_found")


async def test_several_groups_are_proven_together(served: Served) -> None:
    ids = [await _open(served, salt) for salt in range(2)] + ["00" * 32]
    body = await served.get("/groups/proofs?" + "&".join(f"id={name}" for name in ids))
    names = [bytes.fromhex(name) for name in ids]
    shown = verify_groups(Trust(served.chain.genesis), names, decode(bytes.fromhex(body["proof"]), GroupsProof))
    assert shown.value == tuple(map(served.chain.state.group, names))
    assert (shown.value[2], shown.header.height) == (None, body["height"])
    await served.problem("/groups/proofs", 400, "bad_parameter")
    await served.problem("/groups/proofs?id=12", 400, "bad_parameter")
    await served.problem(f"/groups/proofs?id={ids[0]}&limit=1", 400, "bad_parameter")
    await served.problem("/groups/proofs?" + "&".join([f"id={ids[0]}"] * 101), 413, "too_many")


async def test_groups_are_listed_by_member(served: Served) -> None:
    ids = [await _open(served, salt) for salt in range(3)]
    page = await served.get(f"/groups?limit=2&member={ALICE_ADDRESS}")
    assert [group["id"] for group in page["items"]] == [ids[2], ids[1]]
    rest = await served.get(f"/groups?limit=2&member={ALICE_ADDRESS}&cursor={page['next']}")
    assert ([group["id"] for group in rest["items"]], rest["next"]) == ([ids[0]], None)
    assert [g["id"] for g in (await served.get(f"/groups?member={ALICE_KEY.public.hex()}"))["items"]] == [ids[0]]
    assert len((await served.get(f"/groups?member={CAROL_ADDRESS}"))["items"]) == 3
    assert (await served.get(f"/groups?member={'11' * 32}"))["items"] == []
    await served.problem("/groups?member=nobody", 400, "bad_parameter")
    await served.problem(f"/groups?member={ADDRESS_PREFIX}1", 400, "bad_address")


async def test_a_group_s_transactions_show_what_happened(served: Served) -> None:
    group_id = await _open(served)
    served.backend.pool.append(served.chain.wedge(bytes.fromhex(group_id)))
    served.backend.order()
    page = await served.get(f"/groups/{group_id}/transactions")
    assert [item["payload"]["kind"] for item in page["items"]] == ["wedge", "open"]
    assert (await served.get(f"/groups/{group_id}"))["group"]["status"] == "wedged"


async def test_what_was_final_when_the_request_came_is_visible(served: Served) -> None:
    """Reads of indexed data wait for the store."""
    served.backend.stores = False
    transaction = served.chain.transfer()
    served.backend.pool.append(transaction)
    served.backend.order()
    asking = asyncio.create_task(served.get(f"/transactions/{transaction.id.hex()}"))
    await asyncio.sleep(0.03)
    assert not asking.done()
    await asyncio.to_thread(served.backend.catch_up)
    assert (await asking)["height"] == 1


async def test_a_store_that_stays_behind_is_said_so(served: Served) -> None:
    served.backend.stores = False
    served.backend.order()
    problem = await served.problem("/blocks", 503, "catching_up")
    assert "block 0" in problem["detail"]
    assert "block 1" in problem["detail"]


async def test_unknown_things_are_problems(served: Served) -> None:
    await served.problem("/nothing", 404, "not_found")
    await served.problem("/status?x=1", 400, "bad_parameter")
    await served.problem("/blocks?limit=1&limit=2", 400, "bad_parameter")
    async with served.session.delete(f"{served.url}/transactions") as response:
        assert (response.status, response.content_type) == (405, "application/problem+json")
        assert response.headers["Allow"] == "POST"
        assert (await response.json(content_type=None))["code"] == "method_not_allowed"


async def test_a_failure_of_ours_is_a_problem_without_its_secrets(
    served: Served, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> Any:
        raise RuntimeError("secret")

    monkeypatch.setattr(served.backend, "endpoints", fail)
    problem = await served.problem("/replicas", 500, "internal")
    assert "secret" not in str(problem)
    assert "secret" in caplog.text


async def test_headers_close_the_door_to_scripts(served: Served) -> None:
    async with served.session.get(f"{served.url}/status", headers={"Origin": "http://evil.example"}) as response:
        assert "Access-Control-Allow-Origin" not in response.headers
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["Cache-Control"] == "no-store"
        assert "default-src 'none'" in response.headers["Content-Security-Policy"]
    async with served.session.options(f"{served.url}/transactions") as response:
        assert response.status == 405


async def test_metrics_count_requests_and_show_the_replica(served: Served) -> None:
    await served.get("/status")
    await served.problem("/nothing/../x", 404, "not_found")
    async with served.session.get(f"{served.url}/metrics") as response:
        text = await response.text()
    assert 'api_requests_total{method="GET",route="/status",status="200"} 1.0' in text
    assert 'api_requests_total{method="other",route="none",status="404"} 1.0' in text
    assert "ledger_mempool 0.0" in text
    assert "ledger_role" not in text


async def test_requests_in_work_are_limited(served: Served) -> None:
    served.backend.stores = False
    served.backend.order()
    slow = [asyncio.create_task(served.problem("/blocks", 503, "catching_up")) for _ in range(LIMITS.requests)]
    await asyncio.sleep(0.05)
    await served.problem("/status", 503, "busy")
    await asyncio.gather(*slow)
    await served.get("/status")


async def test_a_server_that_stops_ends_waits_and_streams(served: Served) -> None:
    served.backend.orders_at_once = False
    body = submission(served.chain.transfer())
    waiting = asyncio.create_task(served.post(body, "?wait=final&timeout_ms=60000", 202))
    async with served.session.get(f"{served.url}/events") as stream:
        await asyncio.sleep(0.05)
        started = time.monotonic()
        await served.server.close()
        assert time.monotonic() - started < 1.5
        assert (await waiting)["items"][0]["status"] == "pending"
        assert b"retry" in await stream.content.read()


@pytest.mark.slow
async def test_a_list_of_500_costs_little(served: Served) -> None:
    """Aim: below 20 us for a transaction, the mempool's own checks left out; the bound leaves room."""
    transactions = [served.chain.transfer() for _ in range(500)]
    bodies = {
        "application/json": msgspec.json.encode([submission(t) for t in transactions[:50]]),
        "application/msgpack": msgspec.msgpack.encode([encode(t) for t in transactions[:50]]),
    }
    for kind, body in bodies.items():
        started = time.perf_counter()
        for _ in range(10):
            parsed = _parse(kind, body, LIMITS)
            msgspec.json.encode(_results([t.id for t in parsed], {}, {}))
        assert (time.perf_counter() - started) / 500 < 200e-6
