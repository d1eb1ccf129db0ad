"""The client against replicas that are dead, slow, behind, stale, or lie."""

from __future__ import annotations

import asyncio
import inspect
import socket
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, aclosing
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from aiohttp import web

from layer1.api.app import create_app
from layer1.api.limits import ApiLimits
from layer1.client import (
    ClientLimits,
    LedgerClient,
    LedgerEvent,
    LedgerUnreachable,
    StaleLedger,
    TransactionDead,
    fetch_genesis,
    new_accusation,
    new_transfer,
)
from layer1.codec import encode
from layer1.crypto import Hash
from layer1.errors import Refused
from layer1.httpd.connections import Connections
from layer1.httpd.server import ApiServer, serve
from layer1.ledger.transactions import Transaction
from layer1.proof import HeadProof
from tests.layer1.api.stand_in import ALICE, BOB, CAROL, Chain, StandIn, make_genesis

LIMITS = ClientLimits(
    connect_ms=200,
    request_ms=500,
    hedge_ms=80,
    patience_ms=600,
    round_ms=20,
    submit_wait_ms=300,
    submit_hedge_ms=150,
    dead_penalty_ms=200,
    liar_penalty_ms=5_000,
)


class Net:
    """Some replicas of one chain, served; and whatever else a test puts up."""

    def __init__(self, stack: AsyncExitStack, directory: Path) -> None:
        self.stack = stack
        self.directory = directory
        self.chain = Chain(make_genesis())
        self.replicas: list[StandIn] = []
        self.servers: list[ApiServer] = []
        self.asked: list[str] = []

    @property
    def urls(self) -> list[str]:
        return [f"http://127.0.0.1:{server.port}" for server in self.servers]

    async def replica(self, chain: Chain | None = None, **changes: Any) -> StandIn:
        replica = StandIn(chain or self.chain, self.directory, len(self.replicas))
        self.stack.callback(replica.close)
        if chain is None:
            replica.peers = [known for known in self.replicas if known.chain is self.chain] + [replica]
            for peer in replica.peers:
                peer.peers = replica.peers
        self.replicas.append(replica)
        await self.put_up(create_app(replica, ApiLimits(keep_alive_ms=400, catch_up_ms=200, **changes)))
        return replica

    async def put_up(self, app: web.Application, port: int = 0) -> ApiServer:
        server = await serve(app, port=port)
        self.stack.push_async_callback(server.close)
        self.servers.append(server)
        return server

    async def liar(self, reply: Callable[[web.Request], Any]) -> None:
        """A server that answers everything with this JSON, or as the function says."""

        async def handle(request: web.Request) -> web.StreamResponse:
            self.asked.append(request.path)
            found = reply(request)
            if inspect.isawaitable(found):
                found = await found
            if isinstance(found, web.StreamResponse):
                return found
            return web.json_response(found)

        app = web.Application()
        app.router.add_route("*", "/{path:.*}", handle)
        runner = web.AppRunner(app, shutdown_timeout=0.2)
        await runner.setup()
        listener = await asyncio.get_running_loop().create_server(runner.server, "127.0.0.1", 0)  # type: ignore[arg-type]  # set up
        server = ApiServer(runner, listener, Connections(ApiLimits()))
        self.stack.push_async_callback(server.close)
        self.servers.append(server)

    async def client(
        self, urls: Sequence[str] | None = None, limits: ClientLimits = LIMITS, **options: Any
    ) -> LedgerClient:
        client = LedgerClient(self.urls if urls is None else urls, self.chain.genesis, limits, **options)
        self.stack.push_async_callback(client.close)
        return client

    def order(self, *transactions: Transaction) -> None:
        self.replicas[0].pool += transactions
        self.replicas[0].order()


@pytest.fixture
async def net(tmp_path: Path) -> AsyncIterator[Net]:
    async with AsyncExitStack() as stack:
        yield Net(stack, tmp_path)


def dead_url() -> str:
    """Nothing listens there: the discard port, which nobody may bind without being root and few would as root."""
    return "http://127.0.0.1:9"


async def test_answers_are_verified_and_typed(net: Net) -> None:
    await net.replica()
    opening, transfer = net.chain.opening(), net.chain.transfer(7)
    net.order(opening, transfer)
    client = await net.client()
    assert (await client.account(CAROL.public)).value.balance == 0
    assert (await client.account(ALICE.public)).value.balance == 1_000_000 - 110 - 7
    output = await client.output(opening.id)
    assert output is not None
    assert output.value.group_id is not None
    group = await client.group(output.value.group_id)
    assert group.value == net.chain.state.group(output.value.group_id)
    assert (await client.group(bytes(32))).value is None
    assert await client.output(bytes(32)) is None
    assert await client.clock() == net.chain.state.clock
    assert (await client.status())["replica"] == 0
    assert client.height == 1


@pytest.mark.slow
async def test_the_genesis_can_be_fetched(net: Net) -> None:
    await net.replica()
    assert await fetch_genesis(net.urls[0], LIMITS) == net.chain.genesis
    with pytest.raises(LedgerUnreachable):
        await fetch_genesis(dead_url(), LIMITS)


async def test_a_dead_replica_costs_little_and_only_once(net: Net) -> None:
    await net.replica()
    client = await net.client([dead_url(), *net.urls])
    started = time.monotonic()
    for _ in range(5):
        await client.account(ALICE.public)
    assert time.monotonic() - started < 0.5


@pytest.mark.slow
async def test_a_silent_replica_costs_one_hedging_delay(net: Net) -> None:
    async def accept(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)

    writers: list[asyncio.StreamWriter] = []
    silent = await asyncio.start_server(accept, "127.0.0.1", 0)
    await net.replica()
    client = await net.client([f"http://127.0.0.1:{silent.sockets[0].getsockname()[1]}", *net.urls])
    started = time.monotonic()
    await client.account(ALICE.public)
    assert time.monotonic() - started < 0.45
    assert client._replicas.ranked()[-1].url.endswith(str(silent.sockets[0].getsockname()[1])), "and only once"
    await client.close()
    silent.close()
    for writer in writers:
        writer.close()
    await asyncio.gather(*(writer.wait_closed() for writer in writers), return_exceptions=True)


@pytest.mark.slow
async def test_all_dead_is_unreachable_and_says_who(net: Net) -> None:
    client = await net.client([dead_url()])
    with pytest.raises(LedgerUnreachable, match=dead_url()):
        await client.account(ALICE.public)


LIES: list[Callable[[web.Request], Any]] = [
    lambda _request: {},
    lambda _request: [],
    lambda _request: {"proof": "zz"},
    lambda _request: {"proof": "93"},
    lambda _request: {"proof": 7},
    lambda _request: web.Response(body=b"\xff\xfe{" * 100),
    lambda _request: web.Response(body=b"[" * 5_000),
    lambda _request: web.HTTPFound("http://127.0.0.1:9/"),
    lambda _request: web.json_response({"code": "not_found", "detail": "no"}, status=404),
    lambda _request: web.json_response({"code": "bad_address", "detail": "no"}, status=400),
    lambda _request: web.Response(body=b"x" * 100, headers={"Content-Encoding": "gzip"}),
]


@pytest.mark.parametrize("lie", LIES)
@pytest.mark.slow
async def test_a_lie_is_seen_and_the_liar_avoided(net: Net, lie: Callable[[web.Request], Any]) -> None:
    await net.liar(lie)
    await net.replica()
    net.order()
    client = await net.client()
    for _ in range(3):
        assert (await client.account(ALICE.public)).value.balance == 1_000_000
        assert (await client.group(bytes(32))).value is None
    assert len(net.asked) <= 2
    alone = await net.client(net.urls[:1])
    with pytest.raises(LedgerUnreachable):
        await alone.account(ALICE.public)


async def test_another_ledger_s_answers_are_lies(net: Net) -> None:
    other = Chain(make_genesis(name="other"))
    other.commit()
    await net.replica(other)
    client = await net.client()
    with pytest.raises(LedgerUnreachable, match="bad signature"):
        await client.account(ALICE.public)


@pytest.mark.slow
async def test_a_stale_head_is_not_acted_on(net: Net) -> None:
    await net.replica()
    net.order()
    late = await net.client(wall_ms=lambda: net.chain.tip.wall_time + 60_000)
    with pytest.raises(StaleLedger, match="60000 ms old"):
        await late.account(ALICE.public)
    early = await net.client(wall_ms=lambda: net.chain.tip.wall_time - 60_000)
    with pytest.raises(StaleLedger, match="set this machine's clock"):
        await early.clock()


@pytest.mark.slow
async def test_a_head_below_one_that_was_seen_is_not_believed(net: Net) -> None:
    """An old truth is how one is talked into acting on a state that has passed."""
    await net.replica()
    behind = Chain(net.chain.genesis)
    await net.replica(behind)
    net.order(net.chain.transfer(5))
    client = await net.client()
    assert (await client.account(ALICE.public)).value.balance == 999_995
    lagging = await net.client(net.urls[1:])
    assert (await lagging.account(ALICE.public)).value.balance == 1_000_000
    lagging.height = client.height
    with pytest.raises(StaleLedger, match="block 1 is final"):
        await lagging.account(ALICE.public)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["submit", "submit_many", "output"])
async def test_who_saw_an_output_is_shown_no_state_before_it(net: Net, how: str) -> None:
    """What one client reads and submits is linearizable: it reads its own writes."""
    await net.replica()
    client, transaction = await net.client(), net.chain.transfer(5)
    if how == "submit":
        await client.submit(transaction)
    elif how == "submit_many":
        await client.submit_many([transaction])
    else:
        net.order(transaction)
        assert await client.output(transaction.id) is not None
    assert client.height == 1
    await net.replica(Chain(net.chain.genesis))
    lagging = await net.client(net.urls[1:])
    lagging.height = client.height
    with pytest.raises(StaleLedger, match="block 1 is final"):
        await lagging.account(ALICE.public)


async def test_a_submission_returns_its_verified_output(net: Net) -> None:
    await net.replica()
    client = await net.client()
    transaction = await client.new_transfer(ALICE, BOB.public, 25)
    assert (await client.submit(transaction)).code == "ok"
    assert (await client.submit(transaction)).code == "ok"
    assert (await client.account(BOB.public)).value.balance == 500_025


async def test_a_transfer_is_valid_for_five_minutes_of_the_ledger_clock(net: Net) -> None:
    first, second = (new_transfer(net.chain.genesis, ALICE, BOB.public, 1, 1_000) for _ in range(2))
    assert first.valid_until_ms == 301_000
    assert first.id != second.id


@pytest.mark.slow
async def test_a_submission_goes_round_dead_lying_and_censoring_replicas(net: Net) -> None:
    def censor(request: web.Request) -> Any:
        if request.method == "POST":
            return web.json_response({"items": [{"id": "00", "status": "pending"}], "next": None}, status=202)
        return {}

    await net.liar(censor)
    await net.replica()
    client = await net.client([dead_url(), *net.urls])
    assert (await client.submit(net.chain.transfer())).code == "ok"


async def test_a_forged_output_is_not_believed(net: Net) -> None:
    def forge(request: web.Request) -> Any:
        item = {"id": transaction.id.hex(), "status": "final", "code": "ok", "height": 1, "index": 0, "proof": "90"}
        return {"items": [item], "next": None}

    transaction = net.chain.transfer(999)
    await net.liar(forge)
    await net.replica()
    client = await net.client()
    assert (await client.submit(transaction)).code == "ok"
    assert net.chain.state.balance(ALICE.public) == 999_001


async def test_a_refusal_needs_more_than_one_voice(net: Net) -> None:
    def refuse(_request: web.Request) -> Any:
        return web.json_response({"code": "insufficient_balance", "detail": "no"}, status=422)

    await net.liar(refuse)
    await net.replica()
    client = await net.client()
    assert (await client.submit(net.chain.transfer())).code == "ok"


async def test_what_honest_replicas_refuse_is_refused(net: Net) -> None:
    await net.replica()
    await net.replica()
    client = await net.client()
    with pytest.raises(Refused) as refused:
        await client.submit(net.chain.transfer(10**9))
    assert refused.value.code == "insufficient_balance"


@pytest.mark.slow
async def test_a_transaction_past_its_time_is_dead_if_enough_say_so(net: Net) -> None:
    await net.replica()
    await net.replica()
    transaction = net.chain.transfer()
    wall = net.chain.tip.wall_time
    for step in range(1, 8):
        net.replicas[0].order(wall + step * 50_000)
    client = await net.client(wall_ms=lambda: net.chain.tip.wall_time)
    assert net.chain.state.clock > transaction.valid_until_ms
    with pytest.raises(TransactionDead, match="never will"):
        await client.submit(transaction)
    alone = await net.client(net.urls[:1], wall_ms=lambda: net.chain.tip.wall_time)
    with pytest.raises(LedgerUnreachable, match="of the 1 replicas known here fewer than 2 say"):
        await alone.submit(transaction)


@pytest.mark.slow
async def test_a_dead_opening_is_proven_by_its_absence(net: Net) -> None:
    await net.replica()
    opening = net.chain.opening()
    wall = net.chain.tip.wall_time
    for step in range(1, 8):
        net.replicas[0].order(wall + step * 50_000)
    client = await net.client(wall_ms=lambda: net.chain.tip.wall_time)
    with pytest.raises(TransactionDead):
        await client.submit(opening)


@pytest.mark.slow
async def test_an_executed_transaction_past_its_time_is_found(net: Net) -> None:
    await net.replica()
    transaction = net.chain.transfer()
    net.order(transaction)
    wall = net.chain.tip.wall_time
    for step in range(1, 8):
        net.replicas[0].order(wall + step * 50_000)
    client = await net.client(wall_ms=lambda: net.chain.tip.wall_time)
    assert (await client.submit(transaction)).code == "ok"


@pytest.mark.slow
async def test_what_replicas_no_longer_keep_is_not_called_dead(net: Net) -> None:
    """It executed, and the blocks are gone: whoever were told to sign a new one would pay twice."""
    await net.replica()
    await net.replica()
    transaction = net.chain.transfer()
    net.order(transaction)
    _pass_time(net, 8)
    client = await net.client(wall_ms=lambda: net.chain.tip.wall_time)
    assert (await client.submit(transaction)).code == "ok"
    for replica in net.replicas:
        forget(replica, 3)
    with pytest.raises(LedgerUnreachable, match="fewer than 2 say that it did not execute"):
        await client.submit(transaction)
    assert [replica.lies for replica in client._replicas.all] == [0, 0], "who forgets is no liar"


@pytest.mark.slow
async def test_what_cannot_be_among_the_forgotten_is_dead_all_the_same(net: Net) -> None:
    """Its life span began after the blocks that are gone."""
    await net.replica()
    await net.replica()
    _pass_time(net, 13)
    transaction = net.chain.transfer()
    _pass_time(net, 8)
    for replica in net.replicas:
        forget(replica, 3)
    client = await net.client(wall_ms=lambda: net.chain.tip.wall_time)
    with pytest.raises(TransactionDead, match="never will"):
        await client.submit(transaction)


def _pass_time(net: Net, blocks: int) -> None:
    """Fifty seconds a block."""
    wall = net.chain.tip.wall_time
    for step in range(1, blocks + 1):
        net.replicas[0].order(wall + step * 50_000)


async def test_many_are_submitted_at_once(net: Net) -> None:
    await net.replica()
    await net.replica()
    client = await net.client()
    transactions = [net.chain.transfer(n + 1) for n in range(40)]
    outputs = await client.submit_many(transactions)
    assert [output.transaction_id for output in outputs] == [transaction.id for transaction in transactions]
    assert {output.code for output in outputs} == {"ok"}
    again = await client.submit_many([*transactions[:3], net.chain.transfer()])
    assert [output.code for output in again] == ["ok"] * 4
    assert await client.submit_many([]) == []


async def test_one_bad_transaction_does_not_hold_up_the_others(net: Net) -> None:
    await net.replica()
    await net.replica()
    client = await net.client()
    good, bad = net.chain.transfer(), net.chain.transfer(10**9)
    with pytest.raises(Refused) as refused:
        await client.submit_many([good, bad])
    assert refused.value.code == "insufficient_balance"
    output = await client.output(good.id)
    assert output is not None
    assert output.value.code == "ok"


async def _block_proof(url: str, height: int) -> str:
    async with aiohttp.ClientSession() as http, http.get(f"{url}/blocks/{height}?proof=true") as answer:
        return str((await answer.json())["proof"])


@pytest.mark.parametrize("hangs", [False, True])
@pytest.mark.slow
async def test_a_liar_cannot_send_a_client_after_hundreds_of_blocks(net: Net, hangs: bool) -> None:
    """It named a true block for each transaction, with nothing of it in it, and was asked for all of them in turn."""
    await net.replica()
    for _ in range(30):
        net.order()
    proofs = [await _block_proof(net.urls[0], height) for height in range(1, 31)]
    transactions = [net.chain.transfer(n + 1) for n in range(30)]

    async def lie(request: web.Request) -> web.Response:
        if request.method == "POST":
            items = [{"status": "final", "height": n + 1} for n, _ in enumerate(transactions)]
            return web.json_response({"items": items})
        blocks.append(int(request.path.removeprefix("/blocks/")))
        if hangs:
            await asyncio.Event().wait()
        return web.json_response({"proof": proofs[blocks[-1] - 1]})

    blocks: list[int] = []
    await net.liar(lie)
    honest, liar = net.urls
    client = await net.client([liar, honest])
    assert {output.code for output in await client.submit_many(transactions)} == {"ok"}
    assert len(blocks) == 1
    assert [replica.url for replica in client._replicas.ranked()] == [honest, liar]
    alone = await net.client([liar])
    with pytest.raises(LedgerUnreachable):
        await alone.submit_many(transactions)
    assert len(blocks) < 8


@pytest.mark.slow
async def test_blocks_that_come_slowly_are_not_all_waited_for(net: Net) -> None:
    """Each within the time for an answer, all of them together not. What came is known; the rest is asked for anew."""
    await net.replica()
    transactions = [net.chain.transfer(n + 1) for n in range(20)]
    for transaction in transactions:
        net.order(transaction)

    async def relay(request: web.Request) -> web.Response:
        if request.path.startswith("/blocks/"):
            blocks.append(request.path)
            await asyncio.sleep(0.4 * LIMITS.submit_wait_ms / 1000)
        if request.path == "/transactions" and "proof" not in request.query:
            return web.json_response({"items": [{"height": n + 1} for n in range(20)]})
        data, headers = await request.read(), {"Content-Type": request.content_type}
        async with http.request(request.method, real + request.path_qs, data=data, headers=headers) as answer:
            return web.Response(body=await answer.read(), status=answer.status, content_type=answer.content_type)

    blocks: list[str] = []
    [real] = net.urls
    async with aiohttp.ClientSession() as http:
        await net.liar(relay)
        client = await net.client(net.urls[1:])
        known = await client._bring_list(transactions)
        assert 0 < len(known) <= len(set(blocks)) < 8
        assert {output.code for output in await client.submit_many(transactions)} == {"ok"}


async def test_what_nobody_knows_is_not_waited_for(net: Net) -> None:
    await net.replica()
    client = await net.client([dead_url(), *net.urls])
    started = time.monotonic()
    assert await client.output(bytes(32)) is None
    assert time.monotonic() - started < 0.4


@pytest.mark.slow
async def test_a_replica_that_dies_with_a_transaction_in_hand_costs_no_money(net: Net) -> None:
    """Its answer is lost, the question perhaps not: the same transaction goes elsewhere, and executes once."""
    first = await net.replica()
    await net.replica()
    first.orders_at_once = False
    client = await net.client()
    transaction = net.chain.transfer(7)
    bringing = asyncio.create_task(client.submit(transaction))
    await asyncio.sleep(0.05)
    assert first.pool == [transaction]
    await net.servers[0].close()
    assert (await bringing).code == "ok"
    first.order()
    assert net.chain.state.balance(ALICE.public) == 1_000_000 - 7


async def _take(events: Any, count: int) -> list[LedgerEvent]:
    found: list[LedgerEvent] = []
    async with asyncio.timeout(5), aclosing(events):
        async for event in events:
            found.append(event)
            if len(found) == count:
                break
    return found


async def _open(net: Net) -> Hash:
    net.order(net.chain.opening())
    group_id = net.chain.blocks[-1].outputs[0].group_id
    assert group_id is not None
    return group_id


async def test_events_tell_of_groups_and_verified_blocks(net: Net) -> None:
    await net.replica()
    group_id = await _open(net)
    net.order(net.chain.transfer())
    net.order(net.chain.wedge(group_id))
    net.replicas[0].order(net.chain.tip.wall_time + 2_000)
    client = await net.client()
    events = await _take(client.events([group_id], after=0), 9)
    shape = [(event.kind, event.height, event.data.get("change")) for event in events]
    assert shape == [
        ("transaction", 1, None),
        ("group", 1, "opened"),
        ("block", 1, None),
        ("block", 2, None),
        ("transaction", 3, None),
        ("group", 3, "wedged"),
        ("block", 3, None),
        ("group", 4, "closed"),
        ("block", 4, None),
    ]
    assert events[1].group_id == group_id
    assert events[2].header == net.chain.headers[1]


async def test_events_of_some_kinds_come_alone(net: Net) -> None:
    """A watchtower of many groups follows all of them, and reads no transfers; each block still comes, verified."""
    await net.replica()
    await _open(net)
    net.order(net.chain.transfer())
    client = await net.client()
    events = await _take(client.events(after=0, kinds=("group", "block")), 3)
    assert [(event.kind, event.height) for event in events] == [("group", 1), ("block", 1), ("block", 2)]


@pytest.mark.slow
async def test_events_go_on_at_another_replica(net: Net) -> None:
    await net.replica()
    await net.replica()
    client = await net.client()
    events = client.events()
    heights: list[int] = []
    async with asyncio.timeout(8), aclosing(events):
        first = asyncio.ensure_future(anext(events))
        await asyncio.sleep(0.1)
        net.order()
        heights.append((await first).height)
        await net.servers[0].close()
        for _ in range(3):
            net.order()
        heights += [(await anext(events)).height for _ in range(3)]
    assert heights == [1, 2, 3, 4]


@pytest.mark.slow
async def test_events_that_nobody_keeps_any_more_are_not_waited_for(net: Net) -> None:
    """One replica that has thrown them away is left for another; when all have, the reader is told."""
    await net.replica()
    await net.replica()
    for _ in range(3):
        net.order()
    client = await net.client()
    for replica in net.replicas:
        forget(replica, 3)
        if replica is net.replicas[0]:
            assert (await _take(client.events(after=0), 1))[0].height == 1
    with pytest.raises(
        Refused, match=r"2 of 2 replicas no longer keep the events after block 0 .*block kept here is 3"
    ):
        await _take(client.events(after=0), 1)


def forget(replica: StandIn, below: int) -> None:
    """Prune."""
    replica.store.prune(below, 100)


async def test_a_stream_of_lies_is_left(net: Net) -> None:
    def lie(request: web.Request) -> Any:
        if request.path != "/events":
            return {}
        data = msgspec.json.encode({"height": 1, "proof": "00"}).decode()
        return web.Response(text=f"id: 1-0\nevent: block\ndata: {data}\n\n", content_type="text/event-stream")

    await net.liar(lie)
    await net.replica()
    net.order()
    client = await net.client()
    (event,) = await _take(client.events(after=0), 1)
    assert event.header == net.chain.headers[1]


async def test_a_stream_that_never_begins_is_left(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    """A replica that took the question and said nothing, not even a status, was waited for without end."""
    await net.replica()
    net.order()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        client = await net.client([f"http://127.0.0.1:{silent.getsockname()[1]}", *net.urls])
        monkeypatch.setattr(client, "_stall_ms", lambda: 100)
        (event,) = await _take(client.events(after=0), 1)
    assert event.header == net.chain.headers[1]


@pytest.mark.parametrize("told", [{"sender": []}, {"recipient": {}}, {"group": None, "sender": 7}])
async def test_what_a_liar_tells_of_a_true_block_breaks_nothing(net: Net, told: Any) -> None:
    """A name that cannot be looked up raised in the reader, and a wallet stopped following: nobody watched any more."""
    await net.replica()
    net.order()
    header = net.chain.headers[1]
    proof = encode(HeadProof(header, (), net.chain.blocks[-1].finalization)).hex()
    hint, block = msgspec.json.encode(told).decode(), msgspec.json.encode({"proof": proof}).decode()
    stream = f"id: 1-0\nevent: transaction\ndata: {hint}\n\nid: 1-1\nevent: block\ndata: {block}\n\n"
    await net.liar(lambda _request: web.Response(text=stream, content_type="text/event-stream"))
    client = await net.client(net.urls[::-1])
    (event,) = await _take(client.events([bytes(32)], after=0), 1)
    assert event.header == header


@pytest.mark.parametrize(
    "stream",
    [
        "id: 3-0\nevent: block\ndata: {}\n\n",
        "id: x\nevent: block\ndata: {}\n\n",
        'id: 1-0\nevent: group\ndata: {"group": 7}\n\n',
        'id: 1-0\nevent: group\ndata: {"group": "zz"}\n\n',
        "id: 1-0\nevent: block\ndata: [1\n\n",
        "event: block\ndata: {}\n\n",
        "id: 1-0\nevent: group\ndata: {}\n\n",
        ": nothing\n\n",
        "",
        "x" * 2_000_000,
    ],
)
async def test_a_broken_stream_never_yields(net: Net, stream: str) -> None:
    await net.liar(lambda request: web.Response(text=stream, content_type="text/event-stream"))
    client = await net.client()
    events = client.events(after=0)
    waiting = asyncio.ensure_future(anext(events))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    await events.aclose()


async def test_an_answer_without_end_is_cut_off(net: Net) -> None:
    limits = ClientLimits(answer_bytes=1_000, patience_ms=100, hedge_ms=50)
    await net.liar(lambda _request: {"proof": "00" * 5_000})
    client = LedgerClient(net.urls, net.chain.genesis, limits)
    with pytest.raises(LedgerUnreachable, match="1000 bytes"):
        await client.clock()
    await client.close()


def test_no_urls_is_refused() -> None:
    with pytest.raises(Refused, match="0 replicas"):
        LedgerClient([], make_genesis())


def test_limits_are_checked() -> None:
    with pytest.raises(ValueError, match="hedge_ms is 5000, above request_ms"):
        ClientLimits(hedge_ms=5_000)
    with pytest.raises(ValueError, match="below 1"):
        ClientLimits(round_ms=0)


async def test_evidence_is_gathered_from_all_and_verified(net: Net) -> None:
    """Each replica may have caught others; what proves nothing is not shown, and its sender is asked last."""
    first, second = await net.replica(), await net.replica()
    first.caught, second.caught = [net.chain.evidence(1)], [net.chain.evidence(1), net.chain.evidence(2, view=9)]
    client = await net.client()
    assert await client.evidence() == [net.chain.evidence(1), net.chain.evidence(2, view=9)]
    forged = net.chain.evidence(3)
    second.caught = [msgspec.structs.replace(forged, first=net.chain.evidence(0).first)]
    assert await client.evidence() == [net.chain.evidence(1)]


@pytest.mark.parametrize(
    "items",
    [None, [{}], [5], [{"encoded": 5}], [{"encoded": "zz"}], [{"encoded": "00"}], "x"],
)
async def test_evidence_of_liars_is_not_shown(net: Net, items: Any) -> None:
    await net.liar(lambda _request: {"items": items, "next": "1-1"})
    client = await net.client()
    with pytest.raises(LedgerUnreachable):
        await client.evidence()
    assert len(net.asked) == 1, "pages without end are not read on"


async def test_marks_are_verified(net: Net) -> None:
    await net.replica()
    client = await net.client()
    assert (await client.marks()).value.marks == (None,) * 4
    output = await client.submit(new_accusation(net.chain.genesis, net.chain.evidence(2), await client.clock()))
    assert output.code == "ok"
    marks = (await client.marks()).value.marks
    assert [mark is not None for mark in marks] == [False, False, True, False]
    assert marks[2] is not None and marks[2].transaction_id == output.transaction_id
