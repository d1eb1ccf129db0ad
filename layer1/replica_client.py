"""A typed client of one replica's HTTP API: a method for each operation, a type for each answer.

What: the API as `/openapi.json` describes it, against which operations, parameters and types are checked by a test.
Parameters and answers are as on the wire: hashes, ids and keys are hexadecimal, addresses Bech32.

*Safety:* none: what it returns has the right shape, and is this replica's word. Whoever acts on an answer asks for it
with ``proof=True`` and verifies that, or uses :class:`layer1.client.LedgerClient`, which does.

Source: OpenAPI Specification 3.1; RFC 9457.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self, TypeVar
from urllib.parse import quote, urlencode

import aiohttp
import msgspec

from layer1.api.event_views import EVENTS, EventView
from layer1.api.views import (
    AccountView,
    AppointmentView,
    BlockPage,
    BlockView,
    EvidencePage,
    GenesisView,
    GroupAnswer,
    GroupPage,
    GroupProofs,
    HandoverPage,
    RegistrationView,
    ReplicaList,
    StatusView,
    Submission,
    SubmissionList,
    TransactionPage,
    TransactionView,
    ValueView,
)
from layer1.errors import Refused, RemoteError
from layer1.failover import ClientLimits, Replicas, Unavailable
from layer1.httpd.views import Problem
from layer1.sse import EventParser, RawEvent

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Awaitable[object] | AsyncGenerator[object, None]])

EVENT_BYTES = 2**20
"""Longest event that is read."""
IDLE_MS = 60_000
"""A stream that says nothing for this long is over: a replica sends a comment every 15 s."""

OPERATIONS: dict[object, tuple[str, str]] = {}
"""Method and path of the API, by the function that asks for it."""


def operation(method: str, path: str) -> Callable[[F], F]:
    """Say which operation of the API a function is."""

    def note(function: F) -> F:
        OPERATIONS[function] = method, path
        return function

    return note


class RefusedByReplica(Refused):
    """The replica answered with a problem.

    Attributes:
        problem: What it said. With ``not_found`` and ``proof=True`` it holds the proof of absence.
    """

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.code, problem.detail)
        self.problem = problem


@dataclass(frozen=True, slots=True)
class StreamEvent:
    """An event of ``/events``."""

    id: str
    """``height-number``: resume after it, at this or any other replica."""
    kind: str
    data: EventView


class ReplicaClient:
    """One replica's API. Use as ``async with``.

    Every method raises:
        Refused: As :class:`RefusedByReplica`: the replica refuses, and says why.
        Unavailable: It does not answer, is busy, or was asked too often.
        RemoteError: What it says is not what its API says.
    """

    def __init__(self, url: str, limits: ClientLimits | None = None, *, ca: Path | None = None) -> None:
        """Remember whom to ask.

        Args:
            url: Of the API, such as ``http://127.0.0.1:8080``.
            limits: How patient to be.
            ca: For https: PEM file of the authorities to trust, instead of this system's.
        """
        self._limits = limits or ClientLimits()
        self._replicas = Replicas([url], self._limits, ca)
        (self._replica,) = self._replicas.all

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Give back all connections."""
        await self._replicas.close()

    # ------------------------------------------------------------------------------------------------ replica, ledger

    @operation("GET", "/status")
    async def status(self) -> StatusView:
        """The replica and its head, with proof."""
        return await self._get(StatusView, "/status")

    @operation("GET", "/genesis")
    async def genesis(self) -> GenesisView:
        """The genesis, encoded and readable."""
        return await self._get(GenesisView, "/genesis")

    @operation("GET", "/replicas")
    async def replicas(self, *, proof: bool = False) -> ReplicaList:
        """All replicas, as this one sees them."""
        return await self._get(ReplicaList, "/replicas", proof=proof)

    @operation("GET", "/evidence")
    async def evidence(self, *, limit: int | None = None, cursor: str | None = None) -> EvidencePage:
        """A page of contradicting votes that it caught."""
        return await self._get(EvidencePage, "/evidence", limit=limit, cursor=cursor)

    @operation("GET", "/handovers")
    async def handovers(
        self, *, from_: int | None = None, limit: int | None = None, cursor: str | None = None
    ) -> HandoverPage:
        """A page of how the replica set changed, from the end of epoch `from_` on."""
        query = _query(**{"from": from_, "limit": limit, "cursor": cursor})
        return _typed(await self._ask("GET", f"/handovers{query}"), HandoverPage)

    @operation("GET", "/metrics")
    async def metrics(self) -> str:
        """Counters in Prometheus' text format, if they are not served elsewhere."""
        return (await self._ask("GET", "/metrics")).decode("utf-8", "replace")

    # --------------------------------------------------------------------------------------------------- blocks and on

    @operation("GET", "/blocks")
    async def blocks(self, *, limit: int | None = None, cursor: str | None = None) -> BlockPage:
        """A page of final blocks, the newest first."""
        return await self._get(BlockPage, "/blocks", limit=limit, cursor=cursor)

    @operation("GET", "/blocks/{height}")
    async def block(self, height: int | Literal["latest"], *, proof: bool = False) -> BlockView:
        """One final block."""
        return await self._get(BlockView, f"/blocks/{height}", proof=proof)

    @operation("GET", "/transactions/{id}")
    async def transaction(self, id_: str, *, proof: bool = False, valid_until: int | None = None) -> TransactionView:
        """A final transaction; its `valid_until` tells what never was from what the replica keeps no more."""
        return await self._get(TransactionView, f"/transactions/{_part(id_)}", proof=proof, valid_until=valid_until)

    @operation("POST", "/transactions")
    async def submit(
        self,
        body: Sequence[Submission],
        *,
        wait: Literal["final"] | None = None,
        timeout_ms: int | None = None,
        proof: bool = False,
    ) -> SubmissionList:
        """Bring transactions; all or none are taken. With `wait`, what is final within `timeout_ms`."""
        if wait is not None and timeout_ms is None:
            timeout_ms = self._limits.submit_wait_ms
        path = f"/transactions{_query(wait=wait, timeout_ms=timeout_ms, proof=proof)}"
        sent = {"data": msgspec.json.encode(body), "headers": {"Content-Type": "application/json"}}
        return _typed(await self._ask("POST", path, timeout_ms or 0, **sent), SubmissionList)

    @operation("GET", "/accounts/{address}")
    async def account(self, address: str, *, proof: bool = False) -> AccountView:
        """An account after the last final block."""
        return await self._get(AccountView, f"/accounts/{_part(address)}", proof=proof)

    @operation("GET", "/accounts/{address}/head")
    async def appointment(self, address: str, *, proof: bool = False) -> AppointmentView:
        """Which process acts for an account after the last final block."""
        return await self._get(AppointmentView, f"/accounts/{_part(address)}/head", proof=proof)

    @operation("GET", "/preimages/{hash}")
    async def preimage(self, hash_: str, *, proof: bool = False) -> RegistrationView:
        """What the ledger knows of the preimage of a hash after the last final block."""
        return await self._get(RegistrationView, f"/preimages/{_part(hash_)}", proof=proof)

    @operation("GET", "/accounts/{address}/transactions")
    async def account_transactions(
        self, address: str, *, limit: int | None = None, cursor: str | None = None
    ) -> TransactionPage:
        """A page of what concerns an account, the newest first."""
        return await self._get(TransactionPage, f"/accounts/{_part(address)}/transactions", limit=limit, cursor=cursor)

    @operation("GET", "/machine/{key}")
    async def value(self, key: str, *, proof: bool = False) -> ValueView:
        """A value of the ledger's state machine; the key in hex."""
        return await self._get(ValueView, f"/machine/{_part(key)}", proof=proof)

    @operation("GET", "/groups")
    async def groups(
        self, *, member: str | None = None, limit: int | None = None, cursor: str | None = None
    ) -> GroupPage:
        """A page of groups, the newest first; of a member's key or address, if one is named."""
        return await self._get(GroupPage, "/groups", member=member, limit=limit, cursor=cursor)

    @operation("GET", "/groups/{id}")
    async def group(self, id_: str, *, proof: bool = False) -> GroupAnswer:
        """A group after the last final block."""
        return await self._get(GroupAnswer, f"/groups/{_part(id_)}", proof=proof)

    @operation("GET", "/groups/proofs")
    async def group_proofs(self, *, id_: Sequence[str]) -> GroupProofs:
        """Several groups after the last final block, proven together."""
        return await self._get(GroupProofs, "/groups/proofs", id=id_)

    @operation("GET", "/groups/{id}/transactions")
    async def group_transactions(
        self, id_: str, *, limit: int | None = None, cursor: str | None = None
    ) -> TransactionPage:
        """A page of accepted transactions on a group, the newest first."""
        return await self._get(TransactionPage, f"/groups/{_part(id_)}/transactions", limit=limit, cursor=cursor)

    # --------------------------------------------------------------------------------------------------------- events

    @operation("GET", "/events")
    async def events(
        self,
        *,
        kind: Sequence[Literal["transaction", "group", "replica", "block"]] = (),
        group: Sequence[str] = (),
        account: Sequence[str] = (),
        after: str | None = None,
        last_event_id: str | None = None,
    ) -> AsyncGenerator[StreamEvent, None]:
        """What becomes final, from now on, or after an event or block; until the stream ends.

        `after` and `last_event_id` are the same, and the latter wins. Does not resume by itself.
        """
        url = f"{self._replica.url}/events{_query(kind=kind, group=group, account=account, after=after)}"
        headers = {} if last_event_id is None else {"Last-Event-ID": last_event_id}
        timeout = aiohttp.ClientTimeout(sock_connect=self._limits.connect_ms / 1000, sock_read=IDLE_MS / 1000)
        parser = EventParser(EVENT_BYTES)
        try:
            async with self._replicas.session.get(url, headers=headers, timeout=timeout) as response:
                if response.status != 200:
                    raise _refusal(response.status, await response.content.read(EVENT_BYTES), url)
                async for part in response.content.iter_any():
                    for raw in parser.feed(part):
                        yield _event(raw)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise Unavailable(f"{url}: {type(error).__name__} {error}", heard=True) from error

    # ------------------------------------------------------------------------------------------------------------ wire

    async def _get(self, kind: type[T], path: str, **query: str | int | Sequence[str] | None) -> T:
        return _typed(await self._ask("GET", path + _query(**query)), kind)

    async def _ask(self, method: str, path: str, patience_ms: int = 0, **options: Any) -> bytes:
        limit_ms = self._limits.request_ms + patience_ms
        status, data = await self._replicas.fetch(self._replica, method, path, limit_ms, **options)
        if status >= 300:
            raise _refusal(status, data, self._replica.url + path)
        return data


def _part(text: str) -> str:
    """A part of a path."""
    return quote(text, safe="")


def _query(**values: str | int | Sequence[str] | None) -> str:
    """A query of what is given: neither None, nor false, nor an empty list."""
    given: dict[str, object] = {}
    for name, value in values.items():
        if isinstance(value, bool):
            given |= {name: "true"} if value else {}
        elif value is not None:
            given[name] = value
    return f"?{urlencode(given, doseq=True)}" if given else ""


def _typed(data: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise RemoteError(f"an answer of {len(data)} bytes is no {kind.__name__}: {error}") from error


def _refusal(status: int, data: bytes, url: str) -> Refused | Unavailable | RemoteError:
    try:
        problem = _typed(data, Problem)
    except RemoteError:
        return RemoteError(f"{url}: status {status} without a problem: {data[:300].decode(errors='replace')}")
    if status in {408, 429} or status >= 500:
        return Unavailable(f"{url}: status {status}: {problem.code}: {problem.detail}")
    return RefusedByReplica(problem)


def _event(raw: RawEvent) -> StreamEvent:
    if raw.kind not in EVENTS:
        raise RemoteError(f"an event of kind {raw.kind[:80]!r}; known are {', '.join(EVENTS)}")
    data: Any = _typed(raw.data.encode(), EVENTS[raw.kind])
    return StreamEvent(raw.name, raw.kind, data)
