"""Asking one of several replicas, and another one when it is dead, slow or lies.

What: :meth:`Replicas.first` asks the replica that served best; the next is asked too as soon as that one fails, or
when it takes longer than an honest one usually does; the first good answer wins. What "good" means is the asker's
business: it verifies, and raises :class:`RemoteError` for a lie.

*Safety:* none is needed here; nothing is believed for having been said.

A dead replica costs one refused connection, or one hedging delay, and is then asked last for a while; a liar for
longer. Everybody is asked before giving up, and a round of failures is followed by another one until patience ends,
because a replica that is a block behind, or busy, soon is not.

*Source:* docs/design/architecture.md, "Believing an answer"; Dean and Barroso, The Tail at Scale (2013), on hedging.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import msgspec

from layer1.certificates import trusting
from layer1.errors import NotYet, Refused, RemoteError, WedgeError

T = TypeVar("T")


class LedgerUnreachable(WedgeError):
    """No replica gave an answer that could be believed. Nothing is known; try again, or with more URLs."""


class StaleLedger(LedgerUnreachable):
    """Replicas answer, with a head too old to act on: the ledger stands still, or we are cut off from it."""


class Stale(NotYet):
    """This replica's head is too old, or older than one that we know."""


class Unavailable(NotYet):
    """This replica did not answer, or is busy.

    Attributes:
        heard: It may have understood the request all the same, and act on it.
    """

    def __init__(self, message: str, *, heard: bool = False) -> None:
        super().__init__(message)
        self.heard = heard


class Declined(NotYet):
    """This replica answered, as an honest one may, but not what we need: ask the next one, and think no worse of it."""


@dataclass(frozen=True, slots=True)
class ClientLimits:
    """How patient a client is. Times are milliseconds."""

    connect_ms: int = 1_000
    request_ms: int = 3_000
    """For one answer of one replica."""
    hedge_ms: int = 300
    """After this long without an answer, the next replica is asked as well."""
    patience_ms: int = 8_000
    """For one question to all replicas together; then :class:`LedgerUnreachable`."""
    round_ms: int = 100
    """Pause after all have failed, doubled each time up to ten times this."""
    submit_wait_ms: int = 5_000
    """How long one replica may take to make a transaction final, before we look elsewhere."""
    submit_hedge_ms: int = 2_000
    """After this long, the same transaction is given to the next replica as well: it executes once."""
    dead_penalty_ms: int = 2_000
    """How long a replica that failed is asked last; doubles with each further failure, up to the liar's."""
    liar_penalty_ms: int = 60_000
    answer_bytes: int = 16 * 2**20
    """Most of an answer that is read; a block's proof of 5,000 outputs is about 2 MB of hex."""

    def __post_init__(self) -> None:
        for name in self.__dataclass_fields__:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, below 1")
        for low, high in (("hedge_ms", "request_ms"), ("dead_penalty_ms", "liar_penalty_ms")):
            if getattr(self, low) > getattr(self, high):
                raise ValueError(f"{low} is {getattr(self, low)}, above {high} = {getattr(self, high)}")


@dataclass(slots=True, eq=False)
class Replica:
    """One URL, and how it has served."""

    url: str
    failures: int = 0
    """In a row."""
    shunned_until: float = 0.0
    """Monotonic seconds."""
    lies: int = 0
    last_error: str = ""

    def served(self) -> None:
        """It gave a good answer."""
        self.failures, self.shunned_until, self.last_error = 0, 0.0, ""


@dataclass(frozen=True, slots=True)
class Reply:
    """What a replica said: JSON, not believed."""

    status: int
    body: Mapping[str, Any] = field(repr=False)

    @property
    def code(self) -> str:
        """The problem's stable code."""
        return str(self.body.get("code", ""))[:80]

    @property
    def detail(self) -> str:
        """The problem's text for people."""
        return str(self.body.get("detail", ""))[:500]

    def proof(self) -> bytes:
        """The proof that comes with the answer.

        Raises:
            RemoteError: There is none.
        """
        proof = self.body.get("proof")
        try:
            return bytes.fromhex(proof)  # type: ignore[arg-type]  # checked by what it raises
        except (TypeError, ValueError) as error:
            raise RemoteError(f"an answer of status {self.status} comes without a proof in hex") from error


class Replicas:
    """All replicas that a client knows, and its connections to them."""

    def __init__(self, urls: Sequence[str], limits: ClientLimits, ca: Path | None = None) -> None:
        if not urls:
            raise Refused("no_urls", "0 replicas are given, at least 1 is needed: name the URL of a replica's API")
        self.all = tuple(Replica(url) for url in dict.fromkeys(url.rstrip("/") for url in urls))
        self.limits = limits
        self._trusted = trusting(ca)
        self._session: aiohttp.ClientSession | None = None

    @property
    def session(self) -> aiohttp.ClientSession:
        """The HTTP session; made when first needed, inside the event loop."""
        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=None, sock_connect=self.limits.connect_ms / 1000)
            connector = aiohttp.TCPConnector(ssl=self._trusted)
            self._session = aiohttp.ClientSession(
                connector=connector, timeout=timeout, cookie_jar=aiohttp.DummyCookieJar()
            )
        return self._session

    async def close(self) -> None:
        """Give back all connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def ranked(self) -> list[Replica]:
        """All replicas, those to ask first before those that failed lately."""
        now = time.monotonic()
        return sorted(self.all, key=lambda replica: (max(replica.shunned_until - now, 0.0), replica.lies))

    def failed(self, replica: Replica, error: WedgeError) -> None:
        """Ask this replica last for a while, unless it declined."""
        replica.last_error = str(error)
        if isinstance(error, Declined):
            return
        limits = self.limits
        replica.failures += 1
        replica.lies += isinstance(error, RemoteError)
        penalty = min(limits.dead_penalty_ms << min(replica.failures - 1, 16), limits.liar_penalty_ms)
        if isinstance(error, RemoteError):
            penalty = limits.liar_penalty_ms
        replica.shunned_until = time.monotonic() + penalty / 1000

    async def first(self, ask: Callable[[Replica], Awaitable[T]], hedge_ms: int | None = None) -> T:
        """The first good answer.

        Args:
            ask: Asks one replica. Raises :class:`NotYet` when it should be tried again, :class:`RemoteError` for a
                lie; :class:`Refused` is an answer, and ends the asking.
            hedge_ms: Another delay than the usual one before the next replica is asked as well.

        Raises:
            StaleLedger: All that answered have too old a head.
            LedgerUnreachable: Patience ended without a good answer, or somebody declined and nobody did better.
        """
        limits = self.limits
        ends = time.monotonic() + limits.patience_ms / 1000
        pause = limits.round_ms / 1000
        while True:
            errors = dict[Replica, WedgeError]()
            won, answer = await self._round(ask, (hedge_ms or limits.hedge_ms) / 1000, errors)
            if won:
                return answer[0]
            if _is_hopeless(errors.values()) or time.monotonic() + pause >= ends:
                raise _unreachable(errors, len(self.all))
            await asyncio.sleep(pause)
            pause = min(2 * pause, limits.round_ms / 100)

    async def _round(
        self, ask: Callable[[Replica], Awaitable[T]], hedge: float, errors: dict[Replica, WedgeError]
    ) -> tuple[bool, list[T]]:
        """Ask each replica at most once; whether one gave a good answer, and that."""
        waiting = self.ranked()
        asked: dict[asyncio.Future[T], Replica] = {}
        try:
            while waiting or asked:
                if waiting:
                    replica = waiting.pop(0)
                    asked[asyncio.ensure_future(ask(replica))] = replica
                timeout = hedge if waiting else None
                done, _ = await asyncio.wait(asked, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    slower = [asked[other] for other in _before(task, asked) if not other.done()]
                    replica = asked.pop(task)
                    try:
                        answer = task.result()
                    except (NotYet, RemoteError) as error:
                        errors[replica] = error
                        self.failed(replica, error)
                    else:
                        replica.served()
                        self._overtaken(slower)
                        return True, [answer]
            return False, []
        finally:
            for task in asked:
                task.cancel()
            await asyncio.gather(*asked, return_exceptions=True)

    def _overtaken(self, slower: Iterable[Replica]) -> None:
        """These took longer than a hedging delay, and one that was asked after them did not: as if they had failed.

        Once for all questions that wait for them at a time.
        """
        now = time.monotonic()
        for replica in slower:
            if replica.shunned_until <= now:
                self.failed(replica, Unavailable(f"{replica.url}: slower than one that was asked later", heard=True))

    async def get(self, replica: Replica, path: str) -> Reply:
        """Ask one replica.

        Raises:
            Unavailable: It did not answer in time, or is busy.
            RemoteError: What it says is not what its API says.
        """
        return await self._request(replica, "GET", path, self.limits.request_ms)

    async def post(self, replica: Replica, path: str, data: bytes, content_type: str, wait_ms: int) -> Reply:
        """Bring something to one replica, which may take `wait_ms` longer than for other requests."""
        headers = {"Content-Type": content_type}
        return await self._request(replica, "POST", path, self.limits.request_ms + wait_ms, data=data, headers=headers)

    async def _request(self, replica: Replica, method: str, path: str, limit_ms: int, **options: Any) -> Reply:
        status, data = await self.fetch(replica, method, path, limit_ms, **options)
        return Reply(status, _parse(data, replica.url + path))

    async def fetch(self, replica: Replica, method: str, path: str, limit_ms: int, **options: Any) -> tuple[int, bytes]:
        """Status and body of one replica's answer, whatever it is; `options` are aiohttp's.

        Raises:
            Unavailable: It did not answer in time, or is busy.
            RemoteError: It answers endlessly, or its certificate is not to be trusted.
        """
        url = replica.url + path
        try:
            async with (
                asyncio.timeout(limit_ms / 1000),
                self.session.request(method, url, allow_redirects=False, **options) as response,
            ):
                data = await self._read(response, url)
                status = response.status
        except aiohttp.ClientConnectorCertificateError as error:
            raise RemoteError(
                f"{replica.url} shows a certificate that is not to be trusted: {error.certificate_error}. Name the "
                "file of its authority's certificate (--ca), and the replica as its certificate does"
            ) from error
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise Unavailable(f"{replica.url} {_connection(error)}") from error
        except TimeoutError as error:
            raise Unavailable(f"{url}: no answer within {limit_ms} ms", heard=True) from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise Unavailable(f"{url}: {type(error).__name__} {error}", heard=True) from error
        if status in {408, 429} or status >= 500:
            raise Unavailable(f"{url}: status {status}: {data[:300].decode(errors='replace')}")
        return status, data

    async def _read(self, response: aiohttp.ClientResponse, url: str) -> bytes:
        parts, size = [], 0
        async for part in response.content.iter_any():
            size += len(part)
            if size > self.limits.answer_bytes:
                raise RemoteError(f"{url}: the answer is longer than the {self.limits.answer_bytes} bytes that we read")
            parts.append(part)
        return b"".join(parts)


def _parse(data: bytes, url: str) -> Mapping[str, Any]:
    try:
        body: dict[str, Any] = msgspec.json.decode(data, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise RemoteError(f"{url}: {len(data)} bytes that are no JSON object: {error}") from error
    return body


def _connection(error: aiohttp.ClientError) -> str:
    """Why there is no connection, in words."""
    refused = isinstance(error, aiohttp.ClientConnectorError) and isinstance(error.os_error, ConnectionRefusedError)
    if refused or not isinstance(error, aiohttp.ClientConnectorError):
        return "does not answer"
    return f"cannot be reached: {error.strerror}"


def _before(task: T, tasks: Iterable[T]) -> Iterator[T]:
    """Those that were asked before this one."""
    return takewhile(lambda other: other is not task, tasks)


def _told(url: str, text: str) -> str:
    return text if text.startswith(url) else f"{url}: {text}"


def _is_hopeless(errors: Collection[WedgeError]) -> bool:
    """Whether waiting mends nothing: somebody declined, or all lie."""
    declined = any(isinstance(error, Declined) for error in errors)
    return declined or all(isinstance(error, RemoteError) for error in errors)


def _unreachable(errors: Mapping[Replica, WedgeError], count: int) -> LedgerUnreachable:
    told = "; ".join(_told(replica.url, str(error)) for replica, error in errors.items())
    stale = [error for error in errors.values() if isinstance(error, Stale)]
    others = [error for error in errors.values() if not isinstance(error, Stale | Unavailable | Declined)]
    kind = StaleLedger if stale and not others else LedgerUnreachable
    return kind(f"{len(errors)} of {count} replicas gave no answer to act on ({told}). Try again, or add URLs")
