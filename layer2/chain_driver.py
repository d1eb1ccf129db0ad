"""Performs the effects of a chain's two cores: over a link of `layer1.link`, beside the host of the groups.

*Safety:* see `layer2.chain_head` and `layer2.chain_standby`; effects are performed in order, and what is kept is
durable before it is confirmed.

Both homes have the wallet's own key, so each knows by the link that the other is one of the same wallet. What arrives
at a standby in one turn of the loop is made durable by one sync, and confirmed by one message.

Source: docs/decisions/031; architecture.md, "HTTP and links".
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol

from layer1.codec import encode
from layer1.crypto import Hash, PublicKey, SigningKey
from layer1.errors import Refused, RemoteError, WedgeError
from layer1.link import Link, LinkClosed, connect
from layer2.chain import (
    Asked,
    AskLayer1,
    ChainMessage,
    Confirmed,
    Cut,
    Effect,
    Event,
    Fenced,
    Following,
    HandOver,
    Heard,
    Keep,
    Lead,
    Leading,
    Linked,
    Part,
    Perform,
    Role,
    Shown,
    Swap,
    Tell,
    Turn,
    Unlinked,
    Welcome,
    Whole,
    Write,
    decode_chain_message,
)
from layer2.chain_head import ChainHead
from layer2.chain_standby import ChainStandby

GREETING = b"standby/1"
"""What a head says as it connects: tells its link from those of peers, and names what is said on it."""
PART_BYTES = 2**20
"""Of a handover, in one message."""
FIRST_PAUSE_S = 0.1
"""Before the standby is dialed again; doubles with each failure."""
LAST_PAUSE_S = 5.0
MOST_WAITING = 32_768
"""Effects that wait for the standby before no peer is listened to: many times what a busy head has under way, 30 MB."""
MESSAGES_PER_TURN = 64
"""That a standby takes in before it confirms, and lets others have their turn."""
_log = logging.getLogger(__name__)

Wrote = Callable[[Role], None]
"""Writes a role down, durably."""


class Store(Protocol):
    """What a home keeps besides its role: files of the book, and records of the journal."""

    def end_turn(self) -> None:
        """Make everything durable that was stepped or taken in."""
        ...

    def everything(self) -> tuple[Sequence[bytes], Sequence[bytes]]:
        """Files and records that make another home as this one; asked between turns."""
        ...

    def keep(self, files: Sequence[bytes], records: Sequence[bytes]) -> None:
        """Take in; durable after :meth:`end_turn`."""
        ...

    def swap(self, files: Sequence[bytes], records: Sequence[bytes]) -> None:
        """Take in, in place of all records; durable on return."""
        ...


class HeadDriver:
    """The head's side: the `layer2.hosting.Successor` of its host.

    Attributes:
        core: What is decided by.
        trouble: Why the standby is not in touch; empty if it is, or was never tried.
    """

    def __init__(self, role: Leading, write: Wrote, fenced: Callable[[int], None]) -> None:
        """Begin a run.

        Args:
            role: As written down.
            write: Writes another one down.
            fenced: Told the term in which another home leads; nothing is let out from then on.
        """
        self.core = ChainHead(role, os.urandom(16))
        self.trouble = ""
        self.store: Store | None = None
        """Of this home; set before the first link."""
        self._write = write
        self._fenced = fenced
        self._files: list[bytes] = []
        self._flushing: asyncio.Handle | None = None
        self._waiting: deque[tuple[int, int, Callable[[], None]]] = deque()
        """Of each turn: its position, how many effects wait, and what performs them."""
        self._waiting_effects = 0
        self._drained = asyncio.Event()
        """Set whenever turns no longer wait."""
        self._futures: set[asyncio.Future[None]] = set()
        self._link: Link | None = None
        self._backlog: deque[bytes] = deque()
        """What waits for room on the link: a handover, many turns, and what comes behind them."""
        self._pump: asyncio.Task[None] | None = None

    @property
    def in_force(self) -> bool:
        """See :class:`~layer2.hosting.Successor`."""
        return self.core.in_force

    @property
    def waiting(self) -> int:
        """Turns whose effects wait for the standby."""
        return len(self._waiting)

    @property
    def is_full(self) -> bool:
        """See :class:`~layer2.hosting.Successor`: peers that repeat themselves must not fill the memory."""
        return self._waiting_effects >= MOST_WAITING

    async def room(self) -> None:
        """See :class:`~layer2.hosting.Successor`."""
        while self.is_full:
            self._drained.clear()
            await self._drained.wait()

    def follow(self, records: tuple[bytes, ...], perform: Callable[[], None], effects: int = 1) -> None:
        """See :class:`~layer2.hosting.Successor`. A turn too long for a message is several; the last one performs."""
        files, self._files = tuple(self._files), []
        *first, last = [*_parts(files, records)] or [Part((), ())]
        for part in first:
            self._follow(part, 1, lambda: None)
        self._follow(last, max(effects, 1), perform)

    def _follow(self, part: Part, effects: int, perform: Callable[[], None]) -> None:
        self._waiting.append((self.core.position + 1, effects, perform))
        self._waiting_effects += effects
        self._do(Turn(part.files, part.records))

    def enter(self, file: bytes) -> None:
        """A file of the book, durable here; goes with the next turn, and makes one if none comes."""
        self._files.append(file)
        if self._flushing is None:
            self._flushing = asyncio.get_running_loop().call_soon(self._flush)

    async def settled(self) -> None:
        """Wait until the standby has everything up to now, and this home still leads: then one may speak.

        Raises:
            Refused: ``fenced``: another home leads.
        """
        self.check_leads()
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._futures.add(future)
        try:
            if self.store is not None:
                self.store.end_turn()
            self.follow((), lambda: None if future.done() else future.set_result(None))
            await future
        finally:
            self._futures.discard(future)

    def shown(self, term: int, head: bytes) -> None:
        """Layer 1 shows, proven, this head."""
        self._do(Shown(term, head))

    def ask(self) -> int:
        """The term to ask layer 1 for, to go on alone.

        Raises:
            Refused: ``alone`` or ``fenced``.
        """
        return _asked(self.core.step(Asked()))

    async def keep_link(self, host: str, port: int, key: SigningKey, chain_id: Hash) -> None:
        """Keep a link to the standby, until cancelled, or until another home leads."""
        pause_s = FIRST_PAUSE_S
        while not self.core.fenced:
            try:
                link = await connect(host, port, key, chain_id, expect=key.public, greeting=GREETING)
            except LinkClosed as error:
                self.trouble = str(error)
                pause_s = min(2 * pause_s, LAST_PAUSE_S)
            else:
                pause_s = FIRST_PAUSE_S
                await self._serve(link)
            await asyncio.sleep(pause_s)

    async def _serve(self, link: Link) -> None:
        self._link = link
        try:
            self._do(Linked())
            while True:
                message = decode_chain_message(await link.receive())
                if isinstance(message, Welcome) and self.store is not None:
                    self.store.end_turn()  # what is handed over is the state between two turns
                    self._flush()
                self._do(Heard(message))
                if self.core.in_touch:
                    self.trouble = ""
        except LinkClosed as error:
            self.trouble = self.trouble or str(error)
        except RemoteError as error:
            self.trouble = f"the standby broke the protocol: {error}"
            _log.warning("%s", self.trouble)
        finally:
            self._link = None
            self._backlog.clear()
            if self._pump is not None:
                self._pump.cancel()
            self._pump = None
            self._do(Unlinked())
            await link.close()

    def _flush(self) -> None:
        if self._flushing is not None:
            self._flushing.cancel()
            self._flushing = None
        if self._files:
            self.follow((), lambda: None)

    def _do(self, event: Event) -> None:
        for effect in self.core.step(event):
            self._perform(effect)

    def _perform(self, effect: Effect) -> None:
        match effect:
            case Tell(message):
                self._send(encode(message))
            case Perform(position):
                while self._waiting and self._waiting[0][0] <= position:
                    _, effects, perform = self._waiting.popleft()
                    self._waiting_effects -= effects
                    perform()
                self._drained.set()
            case HandOver(position):
                assert self.store is not None, "a home has a store before it has a link"
                files, records = self.store.everything()
                self._hand_over([*map(encode, _parts(files, records)), encode(Whole(position))])
            case Write(role):
                self._write(role)
            case Cut(reason):
                self.trouble = reason
                if self._link is not None:
                    self._link.end(reason)
            case Fenced(term):
                self._be_fenced(term)
            case _:
                raise AssertionError(f"{effect} is no effect of a head")

    def _send(self, data: bytes) -> None:
        """At once if there is room: after a broken link more may be due than a link takes at a time."""
        if self._link is None:
            return
        if self._pump is None and self._link.has_room(data):
            self._link.send_nowait(data)
        else:
            self._hand_over([data])

    def _hand_over(self, messages: list[bytes]) -> None:
        self._backlog.extend(messages)
        if self._pump is None and self._link is not None:
            self._pump = asyncio.create_task(self._send_backlog(self._link))

    async def _send_backlog(self, link: Link) -> None:
        try:
            while self._backlog:
                await link.send(self._backlog.popleft())
        except LinkClosed:
            return  # whoever serves the link hears of it too
        self._pump = None

    def _be_fenced(self, term: int) -> None:
        self._waiting.clear()
        self._waiting_effects = 0
        self._drained.set()
        for future in self._futures:
            if not future.done():
                future.set_exception(fenced(term))
        self._fenced(term)

    def check_leads(self) -> None:
        """Raise Refused ``fenced`` if another home leads."""
        if self.core.fenced:
            raise fenced(self.core.role.term + 1)


class StandbyDriver:
    """The standby's side: takes the head's link.

    Attributes:
        core: What is decided by.
        trouble: What went wrong last, if it was the head's.
        failure: Raises what this home is to end for: its disk, or records that do not fit.
    """

    def __init__(self, role: Following, store: Store, write: Wrote, lead: Callable[[int], None]) -> None:
        """Begin after a start.

        Args:
            role: As written down.
            store: Of this home.
            write: Writes another one down.
            lead: Told the term in which this home leads from now on; `Leading` is written down.
        """
        self.core = ChainStandby(role)
        self.trouble = ""
        self.failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._store = store
        self._write = write
        self._lead = lead
        self._link: Link | None = None
        self._confirmed: Confirmed | None = None
        """To be said when this turn is durable."""
        self._turn: asyncio.Handle | None = None

    @property
    def in_touch(self) -> bool:
        """Whether the head speaks with us."""
        return self.core.linked

    @staticmethod
    def admits(own: PublicKey) -> Callable[[PublicKey, bytes], bool]:
        """Only homes of the same wallet, that say they are heads."""
        return lambda key, greeting: key == own and greeting == GREETING

    async def attach(self, link: Link) -> None:
        """Serve the head's link until it ends; a newer one ends an older."""
        self._end_turn_or_fail()  # nothing of an older link is confirmed on this one
        if self.failure.done():
            return
        old, self._link = self._link, link
        self._do(Linked())
        if old is not None:
            old.end("replaced by a newer link")
        heard = 0
        try:
            while self._link is link:
                data = await link.receive()
                if self._link is not link:
                    return
                self._do(Heard(decode_chain_message(data)))
                heard += 1
                if heard % MESSAGES_PER_TURN == 0:
                    self._end_turn()
                    await asyncio.sleep(0)
        except LinkClosed:
            pass
        except RemoteError as error:
            self.trouble = f"the head broke the protocol: {error}"
            _log.warning("%s", self.trouble)
        except WedgeError as error:
            self._fail(error)
        finally:
            if self._link is link:
                self._link = None
                self._do(Unlinked())

    def shown(self, term: int, head: bytes) -> None:
        """Layer 1 shows, proven, this head."""
        self._do(Shown(term, head))

    def ask(self) -> int:
        """The term to ask layer 1 for, to be promoted.

        Raises:
            Refused: ``not_paired``.
        """
        return _asked(self.core.step(Asked()))

    def _do(self, event: Event) -> None:
        effects = self.core.step(event)
        try:
            for effect in effects:
                self._perform(effect)
        except BaseException:
            self.core.lose_track()  # else it would be welcome for what it sent, and what is not here
            raise

    def _perform(self, effect: Effect) -> None:
        match effect:
            case Keep(files, records):
                self._store.keep(files, records)
            case Swap(files, records):
                self._end_turn()
                self._store.swap(files, records)
            case Tell(Confirmed() as confirmed):
                self._confirmed = confirmed
                if self._turn is None:
                    self._turn = asyncio.get_running_loop().call_soon(self._end_turn_or_fail)
            case Tell(message):
                self._end_turn()  # what it says it has, must be durable
                self._say(message)
            case Write(role):
                self._end_turn()
                self._write(role)
            case Cut(reason):
                if self._link is not None:
                    self._link.end(reason)
            case Lead(term):
                self._lead(term)
            case _:
                raise AssertionError(f"{effect} is no effect of a standby")

    def _end_turn(self) -> None:
        """One sync, one confirmation."""
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None
        self._store.end_turn()
        confirmed, self._confirmed = self._confirmed, None
        if confirmed is not None and self.core.linked:
            self._say(confirmed)

    def _end_turn_or_fail(self) -> None:
        try:
            self._end_turn()
        except WedgeError as error:
            self.core.lose_track()
            self._fail(error)

    def _fail(self, error: WedgeError) -> None:
        if not self.failure.done():
            self.failure.set_exception(error)
        if self._link is not None:
            self._link.end("the standby cannot keep what it is sent")

    def _say(self, message: ChainMessage) -> None:
        if self._link is not None:
            self._link.send_nowait(encode(message))


def _asked(effects: list[Effect]) -> int:
    return next(effect.term for effect in effects if isinstance(effect, AskLayer1))


def fenced(term: int) -> Refused:
    """What a home says that finds another one in its place."""
    return Refused(
        "fenced",
        f"another home of this wallet leads, in term {term}: this one signs and sends nothing more. "
        "`wallet standby serve` makes it the standby of the other; if that one is lost for good, "
        "`wallet standby promote --lost` lets a restored home lead",
    )


def _parts(files: Iterable[bytes], records: Iterable[bytes]) -> Iterator[Part]:
    """All of it, files first, in messages of bounded length."""
    batch: Any = ([], [])
    size = 0
    for kind, items in enumerate((files, records)):
        for item in items:
            batch[kind].append(item)
            size += len(item)
            if size >= PART_BYTES:
                yield Part(tuple(batch[0]), tuple(batch[1]))
                batch, size = ([], []), 0
    if size:
        yield Part(tuple(batch[0]), tuple(batch[1]))
