"""``/events``: what becomes final, as server-sent events.

A reader that breaks off goes on with the name of the last event that it saw, here or at another replica, before or
after a restart: names come from the chain, see :mod:`layer1.api.feed`. Nothing is skipped in silence: a replica that is
behind waits a little and then says so (503), one that has thrown these blocks away says so (410).

Source: HTML Living Standard, section 9.2 (server-sent events).
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from aiohttp import web

from layer1.api import parameters
from layer1.api.context import Api, api_of
from layer1.api.event_views import EVENTS, KINDS
from layer1.api.feed import Feed, Filter
from layer1.api.limits import ApiLimits
from layer1.api.schemas import BECH32
from layer1.crypto import parse_address
from layer1.errors import Refused
from layer1.httpd.routes import HASH, Parameter, Route
from layer1.storage.store import Place

FEED: web.AppKey[Feed] = web.AppKey("feed", Feed)

RETRY_MS = 1_000
"""How long a browser waits before it resumes."""

EVERYTHING = 2**31 - 1
"""A number behind the last event of any block."""


async def events(request: web.Request) -> web.StreamResponse:
    """Server-sent events, from now on, or after the last one that the reader has seen.

    The kinds and their data: `transaction` (TransactionEvent), `group` (GroupEvent), `replica` (ReplicaEvent), and last
    of each block `block` (BlockEvent). An event's id is `height-number`, the same at every replica, before and after
    any restart: a reader that breaks off sends the last one that it saw as Last-Event-ID, here or to another replica,
    and goes on without a gap and without hearing anything twice. A replica that is behind it answers `catching_up`, one
    that no longer keeps these blocks `pruned`.
    """
    api = api_of(request)
    wanted = _filter(request, api.limits)
    with api.stream(request.protocol):
        position = _start(request, api)
        await api.caught_up()
        await _reached(api, position[0])
        await _kept(api, position)
        headers = {"Content-Type": "text/event-stream", "Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        response = web.StreamResponse(headers=headers)
        response.enable_chunked_encoding()
        try:
            await response.prepare(request)
            await _write(api, response, b"retry: %d\n\n" % RETRY_MS)
            await _stream(api, request.app[FEED], response, wanted, position)
            await response.write_eof()
        except TimeoutError:
            api.connections.cut(request.protocol, "slow")  # it resumes where it was
        except Refused as refusal:
            api.connections.cut(request.protocol, refusal.code)  # it was overtaken: when it resumes, it is told
        except ConnectionError:
            pass  # the reader has left, maybe before the first byte: nobody's fault, and nothing for the log
    return response


async def _stream(api: Api, feed: Feed, response: web.StreamResponse, wanted: Filter, position: Place) -> None:
    height, number = position if position[1] < EVERYTHING else (position[0] + 1, -1)
    while not api.closing.is_set():
        while height <= api.backend.store.height and not api.closing.is_set():
            items = await feed.items(height)
            text = b"".join(item.text for item in items[number + 1 :] if wanted.wants(item))
            if text:
                await _write(api, response, text)
            height, number = height + 1, -1
        try:
            async with asyncio.timeout(api.limits.keep_alive_ms / 2_000):
                await _above(api, height)
        except TimeoutError:
            await _write(api, response, b": idle\n\n")


async def _reached(api: Api, height: int) -> None:
    """Wait until what a reader saw at another replica is here, too.

    Raises:
        Refused: ``catching_up`` when that takes too long.
    """
    with suppress(TimeoutError):
        async with asyncio.timeout(api.limits.catch_up_ms / 1000):
            await _above(api, height)
    if api.backend.store.height < height:
        raise Refused(
            "catching_up",
            f"events after block {height} are asked for, and the last block here is {api.backend.store.height}: ask "
            "again later, or another replica; without Last-Event-ID events come from now on",
        )


async def _kept(api: Api, position: Place) -> None:
    """See that the first event to be sent is still here.

    Raises:
        Refused: ``pruned`` if it is not.
    """
    height, number = position
    wanted = height + (number == EVERYTHING)
    oldest = api.backend.store.oldest()
    if wanted < oldest:
        raise Refused(
            "pruned",
            f"events of block {wanted} are asked for, and the oldest block kept here is {oldest}: resume after "
            f"{oldest - 1}, or ask a replica that keeps more; what is between stands in no stream, look at the state",
        )


async def _above(api: Api, height: int) -> None:
    while api.backend.store.height < height and not api.closing.is_set():
        await api.grown()


async def _write(api: Api, response: web.StreamResponse, text: bytes) -> None:
    api.connections.make_room(len(text))
    async with asyncio.timeout(api.limits.write_ms / 1000):
        await response.write(text)


def _filter(request: web.Request, limits: ApiLimits) -> Filter:
    query = request.query
    parameters.known(request, "kind", "group", "account", "after")
    kinds, groups, accounts = (query.getall(name, []) for name in ("kind", "group", "account"))
    if len(groups) + len(accounts) > limits.max_keys:
        raise Refused(
            "too_many", f"{len(groups) + len(accounts)} groups and accounts, at most {limits.max_keys} in one stream"
        )
    for kind in kinds:
        if kind not in KINDS:
            raise Refused("bad_parameter", f"a kind is one of {', '.join(KINDS)}, not {kind[:80]!r}")
    return Filter(
        frozenset(kinds or KINDS),
        frozenset(parameters.hash_of(text, "a group's id") for text in groups),
        frozenset(parse_address(text) for text in accounts),
    )


def _start(request: web.Request, api: Api) -> Place:
    """The name of the last event seen: by header, else by query, else the head's last one."""
    named = [text for text in (request.headers.get("Last-Event-ID"), request.query.get("after")) if text is not None]
    places = [_place(text) for text in named]  # both have to be names, whichever wins
    return places[0] if places else (api.backend.head().header.height, EVERYTHING)


def _place(text: str) -> Place:
    height, dash, number = text.partition("-")
    try:
        position = parameters.number(height, "after"), EVERYTHING
        if dash:
            position = position[0], parameters.number(number, "after", most=EVERYTHING)
    except Refused:
        said = f"an event is named by height-number, such as 12-3, or by a height alone, not {text[:80]!r}"
        raise Refused("bad_parameter", said) from None
    return position if position[0] > 0 else (0, EVERYTHING)


KIND = Parameter("kind", {"type": "array", "items": {"type": "string", "enum": list(KINDS)}}, "Only these; repeatable.")
GROUP = Parameter("group", {"type": "array", "items": HASH}, "Only these groups (and accounts); repeatable.")
ACCOUNT = Parameter("account", {"type": "array", "items": BECH32}, "Only these accounts (and groups); repeatable.")
AFTER = Parameter(
    "after",
    {"type": "string", "format": "event", "pattern": "^[0-9]{1,15}(-[0-9]{1,9})?$"},
    "Resume after this event (`height-number`) or block (`height`), seen at any replica; the header wins.",
)
LAST = Parameter(
    "Last-Event-ID", AFTER.schema, "The same; what browsers and other readers of event streams send.", place="header"
)

ROUTES = (
    Route(
        "GET",
        "/events",
        events,
        "Blocks, transactions and group changes as they become final",
        {200: "text/event-stream"},
        (KIND, GROUP, ACCOUNT, AFTER, LAST),
        (400, 410, 413),
        events=EVENTS,
    ),
)
