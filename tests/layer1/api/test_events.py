"""Event streams: order, filters, resumption, and what happens to slow or silent ones."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from layer1.api.app import create_app
from layer1.codec import decode
from layer1.crypto import format_address
from layer1.httpd.server import serve
from layer1.proof import HeadProof, Trust, verify_head
from tests.layer1.api.conftest import LIMITS, Served
from tests.layer1.api.stand_in import ALICE, BOB, CAROL, StandIn

Event = tuple[str, str, dict[str, Any]]


async def listen(served: Served, query: str = "", count: int = 1, last: str | None = None) -> list[Event]:
    """The next `count` events as (id, kind, data)."""
    headers = {} if last is None else {"Last-Event-ID": last}
    found: list[Event] = []
    async with asyncio.timeout(5), served.session.get(f"{served.url}/events{query}", headers=headers) as response:
        assert response.status == 200, await response.text()
        assert response.content_type == "text/event-stream"
        fields: dict[str, str] = {}
        while len(found) < count:
            line = (await response.content.readline()).decode().rstrip("\n")
            if line:
                name, _, value = line.partition(": ")
                fields[name] = value
            elif "data" in fields:
                found.append((fields["id"], fields["event"], json.loads(fields["data"])))
                fields = {}
    return found


async def story(served: Served) -> bytes:
    """An opening and a transfer, a wedge, a settlement at its deadline."""
    served.backend.pool += [served.chain.opening(), served.chain.transfer(5, BOB, CAROL.public)]
    group_id = served.backend.order().outputs[0].group_id
    assert group_id is not None
    served.backend.pool.append(served.chain.wedge(group_id))
    served.backend.order()
    served.backend.order(served.chain.tip.wall_time + 2_000)
    return group_id


async def test_a_block_s_events_come_in_order_and_named(served: Served) -> None:
    group_id = await story(served)
    events = await listen(served, "?after=0", 8)
    assert [(name, kind) for name, kind, _ in events] == [
        ("1-0", "transaction"),
        ("1-1", "transaction"),
        ("1-2", "group"),
        ("1-3", "block"),
        ("2-0", "transaction"),
        ("2-1", "group"),
        ("2-2", "block"),
        ("3-0", "group"),
    ]
    changes = [data for _, kind, data in events if kind == "group"]
    assert [change["change"] for change in changes] == ["opened", "wedged", "closed"]
    assert {change["group"] for change in changes} == {group_id.hex()}
    assert changes[2]["reason"] == "deadline"
    assert changes[2]["transaction"] is None
    assert changes[1]["deadline"] == served.chain.headers[2].clock + 1_000
    proof = decode(bytes.fromhex(events[3][2]["proof"]), HeadProof)
    assert verify_head(Trust(served.chain.genesis), proof) == served.chain.headers[1]


async def test_a_stream_resumes_after_any_event(served: Served) -> None:
    await story(served)
    names = [name for name, _, _ in await listen(served, "?after=0", 9)]
    for i in range(len(names) - 1):
        resumed = await listen(served, "", len(names) - 1 - i, last=names[i])
        assert [name for name, _, _ in resumed] == names[i + 1 :]
    assert (await listen(served, "?after=2", 1))[0][0] == "3-0"


async def test_filters_leave_only_what_is_asked_for(served: Served) -> None:
    group_id = await story(served)
    of_group = await listen(served, f"?after=0&group={group_id.hex()}", 8)
    assert [(name, kind) for name, kind, _ in of_group if kind != "block"] == [
        ("1-0", "transaction"),
        ("1-2", "group"),
        ("2-0", "transaction"),
        ("2-1", "group"),
        ("3-0", "group"),
    ]
    of_carol = await listen(served, f"?after=0&kind=transaction&account={format_address(CAROL.public)}", 1)
    assert of_carol[0][0] == "1-1"
    blocks = await listen(served, "?after=0&kind=block", 3)
    assert [data["height"] for _, _, data in blocks] == [1, 2, 3]
    query = f"?after=0&kind=transaction&group={group_id.hex()}&account={format_address(CAROL.public)}"
    both = await listen(served, query, 3)
    assert [name for name, _, _ in both] == ["1-0", "1-1", "2-0"]


async def test_a_live_stream_tells_from_now_on(served: Served) -> None:
    served.backend.order()
    listening = asyncio.create_task(listen(served, "", 2))
    await asyncio.sleep(0.1)
    served.backend.pool.append(served.chain.transfer(3))
    served.backend.order()
    (name, _, data), (_, kind, _) = await listening
    assert (name, data["sender"], data["amount"]) == ("2-0", format_address(ALICE.public), 3)
    assert kind == "block"


async def test_an_event_is_told_when_it_can_be_looked_up(served: Served) -> None:
    served.backend.stores = False
    listening = asyncio.create_task(listen(served, "", 1))
    await asyncio.sleep(0.05)
    served.backend.order()
    await asyncio.sleep(0.05)
    assert not listening.done()
    await asyncio.to_thread(served.backend.catch_up)
    assert (await listening)[0][0] == "1-0"


async def test_an_idle_stream_shows_that_it_lives(served: Served) -> None:
    async with served.session.get(f"{served.url}/events") as response:
        assert await response.content.readline() == b"retry: 1000\n"
        await response.content.readline()
        assert await asyncio.wait_for(response.content.readline(), 2) == b": idle\n"


@pytest.mark.parametrize(
    "query, code",
    [
        ("?kind=money", "bad_parameter"),
        ("?group=12", "bad_parameter"),
        ("?account=12", "bad_address"),
        ("?after=1-x", "bad_parameter"),
        ("?after=-1", "bad_parameter"),
        ("?since=1", "bad_parameter"),
    ],
)
async def test_a_bad_filter_is_refused(served: Served, query: str, code: str) -> None:
    problem = await served.problem(f"/events{query}", 400, code)
    assert ("an event is named by height-number" in problem["detail"]) is query.startswith("?after")


@pytest.fixture
async def second(served: Served, tmp_path: Path) -> AsyncIterator[Served]:
    """Another replica of the same chain."""
    backend = StandIn(served.chain, tmp_path, 1)
    served.backend.peers.append(backend)
    server = await serve(create_app(backend, LIMITS))
    yield Served(served.chain, backend, server, served.session)
    await server.close()
    backend.close()


async def test_a_reader_that_moves_from_replica_to_replica_misses_nothing(served: Served, second: Served) -> None:
    """A name stands for one event everywhere: what was seen here is not told again there, and nothing is left out."""
    await story(served)
    whole = await listen(served, "?after=0", 9)
    assert await listen(second, "?after=0", 9) == whole
    seen: list[Event] = []
    while len(seen) < len(whole):
        at = (served, second)[len(seen) % 2]
        seen += await listen(at, "" if seen else "?after=0", 1, seen[-1][0] if seen else None)
    assert seen == whole


async def test_names_outlive_a_restart(served: Served, tmp_path: Path) -> None:
    """A replica that comes back from its database, and renders all anew, names everything as before."""
    await story(served)
    whole = await listen(served, "?after=0", 9)
    served.backend.store.close()
    back = StandIn(served.chain, tmp_path)
    server = await serve(create_app(back, LIMITS))
    assert await listen(Served(served.chain, back, server, served.session), "", 4, whole[4][0]) == whole[5:]
    await server.close()
    back.close()


async def test_a_reader_ahead_of_its_next_replica_waits_for_it(served: Served, second: Served) -> None:
    await story(served)
    second.backend.stores = False
    served.backend.order()
    listening = asyncio.create_task(listen(second, "", 1, "4-0"))
    await asyncio.sleep(0.05)
    assert not listening.done()
    await asyncio.to_thread(second.backend.catch_up)
    served.backend.order()
    second.backend.catch_up()
    assert (await listening)[0][0] == "5-0"


async def test_what_a_replica_has_not_reached_is_not_skipped(served: Served) -> None:
    await story(served)
    problem = await served.problem("/events?after=99", 503, "catching_up")
    assert "block 99 " in problem["detail"]
    assert "is 3:" in problem["detail"]


def forget(served: Served, below: int) -> None:
    """Prune."""
    served.backend.store.prune(below, 100)


async def test_both_names_of_the_last_event_have_to_be_names(served: Served) -> None:
    """The header wins, and what loses is read all the same: a mistake is told, not hidden by another parameter."""
    await story(served)
    for header, query in (("1", "x"), ("x", "1")):
        address, headers = f"{served.url}/events?after={query}", {"Last-Event-ID": header}
        async with served.session.get(address, headers=headers) as response:
            assert (response.status, (await response.json(content_type=None))["code"]) == (400, "bad_parameter")
    assert (await listen(served, "?after=1", 1, "2"))[0][0].startswith("3-")


@pytest.mark.parametrize("last", ["0", "1-3", "2-0", "2-1"])
async def test_what_is_no_longer_kept_is_said_to_be_gone(served: Served, last: str) -> None:
    await story(served)
    forget(served, 3)
    headers = {"Last-Event-ID": last}
    async with served.session.get(f"{served.url}/events", headers=headers) as response:
        problem = await response.json(content_type=None)
    assert (response.status, problem["code"]) == (410, "pruned")
    assert "the oldest block kept here is 3: resume after 2" in problem["detail"]
    assert (await listen(served, "", 1, "2"))[0][0] == "3-0", "as the answer says"


async def test_a_stream_that_pruning_overtakes_ends_and_is_told_when_it_resumes(served: Served) -> None:
    await story(served)
    async with served.session.get(f"{served.url}/events?after=3") as response:
        assert await response.content.readline() == b"retry: 1000\n"
        served.backend.stores = False
        served.backend.order()
        served.backend.order()
        served.backend.store._listeners, listeners = set(), served.backend.store._listeners
        served.backend.catch_up()
        forget(served, 5)
        for told in listeners:
            told(5)
        with pytest.raises(aiohttp.ClientError):
            await response.content.read()
    await served.problem("/events?after=3", 410, "pruned")


async def test_too_many_keys_are_refused(served: Served) -> None:
    query = "&".join(f"group={n:064x}" for n in range(LIMITS.max_keys + 1))
    await served.problem(f"/events?{query}", 413, "too_many")


def _knock(served: Served, *, reset: bool) -> socket.socket:
    """A reader that has asked for everything, and breaks the connection or closes it when it leaves."""
    reader = socket.create_connection(("127.0.0.1", served.server.port))
    if reset:
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    reader.sendall(b"GET /events?after=0 HTTP/1.1\r\nHost: replica\r\n\r\n")
    return reader


@pytest.mark.slow
async def test_readers_that_leave_at_any_moment_leave_nothing_in_the_log(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    """Each that left before its first byte was an "Error handling request" with a traceback."""
    unhandled: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unhandled.append(context))
    caplog.set_level(logging.WARNING)
    for turns in range(60):
        reader = _knock(served, reset=bool(turns % 2))
        for _ in range(turns // 4):
            await asyncio.sleep(0)
        if turns % 3:
            served.backend.order()
        reader.close()
    assert len(await listen(served, "?after=0&kind=block", 3)) == 3, "the others are served as before"
    assert [record.getMessage() for record in caplog.records] == []
    assert not unhandled
