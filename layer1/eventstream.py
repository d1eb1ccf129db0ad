"""Following a ledger through the event streams of its replicas, from one to the next.

*Safety:* blocks come verified, each once, in order, without a gap, and each after its own events.

The events of a block are held back until the block itself has come and is verified; then all of them are handed on.
A stream is left for another replica's when it breaks, when no block comes for longer than a healthy ledger takes, or
when a block is missing in it or not final. The next one resumes after the last whole block.

Filler that a liar gave out for a block, when nobody could know that its epoch was over, is followed by the real blocks
of those heights once the next epoch shows; that alone makes a height come twice.

Source: HTML Living Standard, section 9.2 (server-sent events); docs/design/architecture.md, "Believing an answer".
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import aiohttp
import msgspec

from layer1.codec import decode
from layer1.crypto import Hash, PublicKey, format_address
from layer1.errors import NotYet, Refused, RemoteError
from layer1.failover import Declined, Replica, Replicas, Unavailable
from layer1.header import Header
from layer1.proof import HeadProof, Trust
from layer1.sse import EventParser, RawEvent

MAX_KEYS = 100
"""Groups and accounts that fit a URL; with more, the whole stream is read and sifted here."""
MAX_LINE_BYTES = 2**20
"""Longest line that is read; a block event with a path of a thousand headers is shorter."""
MAX_BLOCK_EVENTS = 100_000
"""Most events held back until their block comes; a block has a few thousand transactions."""
MAX_DETAIL_BYTES = 1_000
"""Most that is read of why there is no stream."""
GONE = 410
"""The status for what is older than what is kept."""
PAUSE_S = 0.2
"""Between two streams."""


@dataclass(frozen=True, slots=True)
class LedgerEvent:
    """Something that became final. A block is verified; the rest is one replica's word: look with proof."""

    kind: str
    """``block``, ``transaction``, ``group`` or ``replica``."""
    height: int
    data: Mapping[str, Any]
    """As in the API's document: BlockEvent, TransactionEvent, GroupEvent, ReplicaEvent."""
    header: Header | None = None
    """Of a block: verified."""

    @property
    def group_id(self) -> Hash | None:
        """The group that it is about, if any."""
        text = self.data.get("group")
        return bytes.fromhex(text) if isinstance(text, str) else None


class EventReader:
    """Reads streams; see :meth:`layer1.client.LedgerClient.events`."""

    def __init__(
        self,
        replicas: Replicas,
        verify: Callable[[Replica, HeadProof], Awaitable[Header]],
        trust: Trust,
        stall_ms: int,
        *,
        groups: Iterable[Hash],
        accounts: Iterable[PublicKey],
        kinds: Iterable[str] = (),
    ) -> None:
        self._replicas = replicas
        self._verify = verify
        self._trust = trust
        self._last: Header | None = None
        """The last block that was handed on, as it came; None before the first."""
        self._stall_s = stall_ms / 1000
        self._groups = {group.hex() for group in groups}
        self._accounts = {format_address(account) for account in accounts}
        wanted = [("group", group) for group in self._groups] + [("account", account) for account in self._accounts]
        self._pruned: dict[str, str] = {}
        """What replicas said that no longer keep the next block, by URL."""
        named = [("kind", kind) for kind in kinds] + (wanted if len(wanted) <= MAX_KEYS else [])
        self._query = f"?{urlencode(named)}" if named else ""

    async def follow(self, start: Awaitable[int]) -> AsyncGenerator[LedgerEvent, None]:
        """All events after block `start`, for ever.

        Raises:
            Refused: ``pruned``: no replica keeps the block after it any more.
        """
        last = await start
        while True:
            replica = self._replicas.ranked()[0]
            try:
                async with aclosing(self._stream(replica, last)) as stream:
                    async for block in stream:
                        replica.served()
                        self._pruned.clear()
                        last, self._last = last + 1, block[-1].header
                        for event in filter(self._wants, block):
                            yield event
            except (NotYet, RemoteError) as error:
                self._replicas.failed(replica, error)
            self._check_kept(last)
            last = self._without_filler(last)
            await asyncio.sleep(PAUSE_S)

    def _without_filler(self, last: int) -> int:
        """The last block that was handed on and is one of the ledger."""
        if self._last is None or not self._trust.is_filler(self._last):
            return last
        boundary = self._trust.boundary(self._last.epoch)
        assert boundary is not None, "what is behind it is filler"
        self._last = boundary
        return boundary.height

    def _check_kept(self, last: int) -> None:
        """One replica may keep less than others, or lie; when all say so in a row, waiting mends nothing."""
        if len(self._pruned) == len(self._replicas.all):
            told = "; ".join(f"{url}: {detail}" for url, detail in self._pruned.items())
            raise Refused(
                "pruned",
                f"{len(self._pruned)} of {len(self._pruned)} replicas no longer keep the events after block {last} "
                f"({told}). Look at the state, and follow from now on, or name a replica that keeps more",
            )

    def _wants(self, event: LedgerEvent) -> bool:
        if event.kind == "block" or not (self._groups or self._accounts):
            return True
        data = event.data
        return data.get("group") in self._groups or bool({data.get("sender"), data.get("recipient")} & self._accounts)

    async def _stream(self, replica: Replica, last: int) -> AsyncGenerator[list[LedgerEvent], None]:
        """The blocks after block `last` from one replica, each with its events, until it fails.

        Raises:
            Unavailable: The stream broke or stayed silent.
            RemoteError: It is not what the API streams.
        """
        url = f"{replica.url}/events{self._query}"
        headers = {"Last-Event-ID": f"{last}", "Accept": "text/event-stream"}
        held: list[LedgerEvent] = []
        try:
            async with await self._open(url, headers) as response:
                if response.status == GONE:
                    self._pruned[replica.url] = (await response.content.read(MAX_DETAIL_BYTES)).decode(errors="replace")
                if response.status != 200:
                    raise Unavailable(f"{url}: status {response.status}")
                async for raw in self._events(response):
                    held.append(await self._checked(replica, raw, last + 1))
                    if len(held) > MAX_BLOCK_EVENTS:
                        raise RemoteError(f"block {last + 1} has more than {MAX_BLOCK_EVENTS} events; none is so large")
                    if held[-1].header is not None:
                        yield held
                        last, held = last + 1, []
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise Unavailable(f"{url}: {type(error).__name__} {error}") from error
        raise Unavailable(f"{url}: the stream ended")

    async def _open(self, url: str, headers: Mapping[str, str]) -> aiohttp.ClientResponse:
        async with asyncio.timeout(self._stall_s):
            return await self._replicas.session.get(url, headers=headers, allow_redirects=False)

    async def _events(self, response: aiohttp.ClientResponse) -> AsyncIterator[RawEvent]:
        """Events, as long as *blocks* keep coming: comments alone are no sign of life."""
        parser, waited, loop = EventParser(MAX_LINE_BYTES), 0.0, asyncio.get_running_loop()
        while True:
            started = loop.time()
            try:
                async with asyncio.timeout(self._stall_s - waited):
                    part = await response.content.readany()
            except TimeoutError:
                raise Unavailable(
                    f"no block came for {self._stall_s * 1000:.0f} ms; a healthy ledger takes less"
                ) from None
            waited += loop.time() - started
            if not part:
                return
            for event in parser.feed(part):
                if event.kind == "block":
                    waited = 0.0
                yield event

    async def _checked(self, replica: Replica, raw: RawEvent, height: int) -> LedgerEvent:
        """An event of block `height`, which is the next.

        Raises:
            RemoteError: It is not.
            Declined: What another replica gave out for the block before was filler; nobody could tell then.
        """
        if _height(raw) != height:
            raise RemoteError(f"event {raw.name!r} comes before block {height}, which is next, has come")
        data = _data(raw)
        if raw.kind != "block":
            return LedgerEvent(raw.kind, height, data)
        header = await self._verify(replica, _head(data))
        if self._last is not None and self._trust.is_filler(self._last):
            raise Declined(f"block {self._last.height} was filler of epoch {self._last.epoch}; going back before it")
        if header.height != height:
            raise RemoteError(f"event {raw.name!r} shows block {header.height}, not {height}")
        return LedgerEvent(raw.kind, height, data, header)


def _height(raw: RawEvent) -> int:
    text = raw.name.partition("-")[0]
    if not (text.isascii() and text.isdigit() and len(text) <= 16 and len(raw.name) <= 32):
        raise RemoteError(f"an event is named height-number, not {raw.name[:80]!r}")
    return int(text)


def _data(raw: RawEvent) -> dict[str, Any]:
    try:
        data: dict[str, Any] = msgspec.json.decode(raw.data, type=dict[str, Any])
    except (msgspec.MsgspecError, RecursionError) as error:
        raise RemoteError(f"the data of event {raw.name!r} are no JSON object: {error}") from error
    if not isinstance(data.get("group"), str | None) or not _is_hex(data.get("group")):
        raise RemoteError(f"event {raw.name!r} names a group that is no id")
    if not all(isinstance(data.get(name), str | None) for name in ("sender", "recipient")):
        raise RemoteError(f"event {raw.name!r} names an account that is no text")
    return data


def _is_hex(text: str | None) -> bool:
    try:
        return text is None or len(bytes.fromhex(text)) == 32
    except ValueError:
        return False


def _head(data: Mapping[str, Any]) -> HeadProof:
    try:
        return decode(bytes.fromhex(str(data.get("proof"))), HeadProof)
    except ValueError as error:
        raise RemoteError("a block event comes without a proof in hex") from error
