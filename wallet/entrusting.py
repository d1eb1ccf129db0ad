"""Keeps the newest version of each channel with each of the wallet's watchtowers.

*Safety:* what a tower gets is certified, and its body is encrypted; a receipt counts only for what was sent, signed by
that tower.

A tower lags behind: one version of a channel is under way at a time, and then the newest, so a slow tower slows no
payment. Whoever relies on one waits for its receipts itself (`wallet.channel`, `wallet.observer`). Links are made when
there is something to say, and kept while there is; with a tower that is relied on, always. Once per start everything is
entrusted again: a tower that lost its disk has it back then.

A tower that lags behind reports a header whose body nobody else may show (rule 12): so the bodies of the last versions
that were brought are kept here, and after a start a tower is asked what it holds before it gets anything newer.

A tower is asked as well: what it holds of a channel whose data this wallet lost, or may have lost, and before a first
claim what it holds of that channel. What is newer there, the wallet had forgotten, and claims nothing.

Source: docs/design/groups.md, rules 3 [F6], 12 and 17; decision 032.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable

from layer1.codec import encode
from layer1.crypto import Hash, SigningKey
from layer1.errors import LocalError, RemoteError, WedgeError
from layer1.ledger.agreements import (
    Body,
    Certificate,
    Delegation,
    GroupAgreement,
    GroupHeader,
    sign_delegation,
    verify_state,
)
from layer1.link import Link, LinkClosed, LinkLimits, connect
from layer2.driver import GroupHost
from layer2.promises import TowerReceipt, verify_receipt
from layer2.sealing import open_body, seal_body
from layer2.tower import MAX_MESSAGE_BYTES, Ask, Declined, Entrust, FromTower, Held, Terms, decode_from_tower
from layer2.value import Group
from wallet.contacts import format_endpoint
from wallet.signals import Signals
from wallet.towers import KnownTower, TowerBook

WINDOW = 64
"""Channels whose versions are under way to a tower at a time."""
PACE_S = 0.1
"""Between two versions of one channel, with a tower that is not relied on."""
IDLE_S = 30.0
"""A link over which nothing is to be said is given back after this."""
PATIENCE_S = 15.0
"""For an answer of a tower; then the link is made anew."""
KEPT_BODIES = 4
"""Of each channel: a tower that lags behind reports one of these, which it cannot read itself."""
ASK_S = 3.0
"""How long a first claim waits for the towers to say what they hold."""
FIRST_PAUSE_S = 0.2
"""Before a tower that cannot be reached is tried again; doubles."""
LAST_PAUSE_S = 30.0
"""The longest of these."""
SOON = {"blind": 1.0, "unknown_group": 3.0}
"""Refusals that are another answer soon, and after how long to ask again."""
LATER_S = 60.0
"""The same for all other refusals: an operator may change its mind."""
RENEWED_EVERY_S = 600.0
"""How often to see which receipts are half over."""
LIMITS = LinkLimits(max_message_bytes=MAX_MESSAGE_BYTES, outbox_bytes=2 * WINDOW * MAX_MESSAGE_BYTES)
"""What a tower says is short, and so is what it is told."""
_log = logging.getLogger(__name__)


async def _at_once() -> None:
    """Nobody has to have it before."""


class Entruster:
    """All towers of one wallet."""

    def __init__(
        self, key: SigningKey, host: GroupHost, book: TowerBook, signals: Signals, advise: Callable[[Hash, str], None]
    ) -> None:
        self._key = key
        self._chain_id = host.chain_id
        self._host = host
        self._book = book
        self._signals = signals
        self._advise = advise
        self._guards: dict[bytes, _Guard] = {}
        self._tasks: dict[bytes, asyncio.Task[None]] = {}
        self._afresh = False
        self._asked: set[Hash] = set()
        """Channels that no tower need be asked about any more by this process."""
        self._asking: dict[Hash, asyncio.Task[None]] = {}
        self._bodies: dict[Hash, dict[Hash, Body]] = {}
        """By channel and header, the bodies that a tower may have reported the header of."""
        self.clock_ms: Callable[[], int | None] = lambda: None
        """Newest proven ledger clock."""
        self.settled: Callable[[], Awaitable[None]] = _at_once
        """Awaited between taking a version and showing it to a tower."""
        self.on_receipt: Callable[[Hash], None] = lambda group_id: None
        """Told of which channel there is a new receipt."""

    def committed(self, group_id: Hash) -> None:
        """A channel has a new version."""
        for guard in self._guards.values():
            guard.want(group_id)

    def start(self, *, afresh: bool = False) -> None:
        """Begin to use the towers in the book that are not used yet; stop using those that are gone from it.

        Args:
            afresh: Entrust everything again, whatever was receipted before: a tower may have lost it.
        """
        self._afresh = self._afresh or afresh
        known = {tower.address: tower for tower in self._book}
        for address in [a for a, guard in self._guards.items() if known.get(a) != guard.tower]:
            self._tasks.pop(address).cancel()
            del self._guards[address]
        for address in [address for address in known if address not in self._guards]:
            guard = _Guard(self, known[address])
            self._guards[address] = guard
            self._tasks[address] = asyncio.create_task(guard.run())
        for guard in self._guards.values():
            if afresh:
                guard.forget()
            for group_id, group in self._host.groups.items():
                if afresh or group.lost or group.doubts:
                    guard.ask(group_id)
                guard.want(group_id)

    async def catch_up(self, patience_s: float) -> None:
        """Wait until all towers that answer have what they should have, or so long."""
        for guard in self._guards.values():
            guard.hurry()
        done = lambda: None if any(guard.is_under_way for guard in self._guards.values()) else True  # noqa: E731
        await self._signals.until(done, patience_s)

    def body_of(self, header: GroupHeader) -> Body | None:
        """The body behind a header that one of our towers had, if it is known here."""
        return self._bodies.get(header.group_id, {}).get(header.hash)

    def keep_body(self, header: GroupHeader, body: Body) -> None:
        """A tower has this header, or soon will have."""
        kept = self._bodies.setdefault(header.group_id, {})
        kept[header.hash] = body
        if len(kept) > KEPT_BODIES:
            del kept[next(iter(kept))]

    def drop_bodies(self, group_id: Hash) -> None:
        """Layer 1 has closed the channel."""
        self._bodies.pop(group_id, None)

    def has_asked(self, group_id: Hash) -> bool:
        """Whether a first claim need not wait for the towers: all have said what they hold, or did not when asked."""
        return group_id in self._asked or all(group_id in guard.answered for guard in self._guards.values())

    async def ask(self, group_id: Hash) -> None:
        """Hear from each tower what it holds of a channel, as far as it answers; what is newer counts on return."""
        for guard in self._guards.values():
            guard.ask(group_id)
        answered = lambda: True if all(guard.has_told(group_id) for guard in self._guards.values()) else None  # noqa: E731
        await self._signals.until(answered, ASK_S)
        self._asked.add(group_id)

    def ask_soon(self, group_id: Hash, then: Callable[[], None]) -> None:
        """The same in the background, once at a time; `then` is called after it."""
        if group_id not in self._asking:
            task = self._asking[group_id] = asyncio.create_task(self.ask(group_id))
            task.add_done_callback(lambda _: self._asking.pop(group_id, None))
            task.add_done_callback(lambda _: then())

    def heard(self, tower: KnownTower, message: Held) -> None:
        """A tower shows what it holds: if that is above all that we know, this wallet has lost data.

        Raises:
            RemoteError: Not all members signed it.
        """
        group, certificate = self._host.groups.get(message.group_id), message.certificate
        if group is None or certificate is None or group.closed:
            return
        body = None
        with contextlib.suppress(
            RemoteError
        ):  # sealed by an earlier key, or not at all: the header counts all the same
            body = open_body(group.place.key, certificate.header, message.sealed)
            self.keep_body(certificate.header, body)
        where = format_endpoint(tower.contact.host, tower.contact.port)
        self._host.remind(message.group_id, f"the watchtower at {where}", certificate, body)

    async def close(self) -> None:
        """Stop."""
        tasks = [*self._tasks.values(), *self._asking.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def trouble(self, tower: KnownTower, group_id: Hash | None = None) -> str | None:
        """Why a tower does not have what it should have, of a channel or of all; None if nothing is known."""
        guard = self._guards.get(tower.address)
        if guard is None:
            return None
        return guard.trouble.get(group_id) or guard.trouble.get(None)

    def is_behind(self, tower: KnownTower) -> bool:
        """Whether something is still to be said to a tower."""
        guard = self._guards.get(tower.address)
        return guard is not None and guard.has_work


class _Guard:
    """What is between this wallet and one tower."""

    def __init__(self, owner: Entruster, tower: KnownTower) -> None:
        self._owner = owner
        self._host = owner._host
        self._book = owner._book
        self.tower = tower
        self.wanted: dict[Hash, None] = {}
        """Channels to bring, in order."""
        self.sent: dict[Hash, GroupHeader] = {}
        """What is under way."""
        self._questions: dict[Hash, None] = {}
        """Channels to ask about, in order."""
        self._open: dict[Hash, None] = {}
        """Of which the answer is under way."""
        self.answered: set[Hash] = set()
        """Channels of which the tower has told this process what it holds."""
        self._shown: set[Hash] = set()
        """Channels that were entrusted since this process started."""
        self._resting: set[Hash] = set()
        """Channels of which a version was brought a moment ago."""
        self._renewed: set[Hash] = set()
        """Channels whose receipts are half over."""
        self.trouble: dict[Hash | None, str] = {}
        self._wake = asyncio.Event()
        self._heard = asyncio.Event()

    def want(self, group_id: Hash) -> None:
        """Bring the newest version of a channel, unless the tower has it."""
        group = self._host.groups.get(group_id)
        if group is None or group.closed:
            return
        header = group.best[1].header
        if header.version and group_id not in self._resting and not self._has(group_id, header):
            self.wanted[group_id] = None
            self._wake.set()

    def ask(self, group_id: Hash) -> None:
        """Ask what the tower holds of a channel, unless it has told this process."""
        if group_id not in self.answered and group_id not in self._open:
            self._questions[group_id] = None
            self._wake.set()

    def has_told(self, group_id: Hash) -> bool:
        """Whether it is of no use to wait for its answer."""
        return group_id in self.answered or None in self.trouble

    @property
    def has_work(self) -> bool:
        """Whether something is to be said, or was, and is not answered."""
        return bool(self.wanted or self.sent or self._questions or self._open)

    def rest(self, group_id: Hash) -> None:
        """Bring nothing more of a channel for a moment: then the newest."""
        self._resting.add(group_id)
        asyncio.get_running_loop().call_later(PACE_S, self._rested, group_id)

    def _rested(self, group_id: Hash) -> None:
        self._resting.discard(group_id)
        self.want(group_id)

    def hurry(self) -> None:
        """Bring at once what rests."""
        for group_id in list(self._resting):
            self._rested(group_id)

    def forget(self) -> None:
        """Take nothing for entrusted that was before now."""
        self._shown.clear()

    @property
    def is_under_way(self) -> bool:
        """Whether it is worth waiting for: something is to be said, and nothing is known to be wrong."""
        return self.has_work and None not in self.trouble

    async def run(self) -> None:
        """Until cancelled. Whatever goes wrong is told, and tried again."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._renew())
            pause_s = FIRST_PAUSE_S
            while True:
                if not self.tower.rely:
                    await self._something()
                try:
                    await self._meet()
                    pause_s = FIRST_PAUSE_S
                except (WedgeError, TimeoutError) as error:
                    where = format_endpoint(self.tower.contact.host, self.tower.contact.port)
                    self.trouble[None] = f"the watchtower at {where} does not answer: {str(error) or 'too slow'}"
                    self._owner._signals.notify()
                    if isinstance(error, LocalError):
                        _log.error("watchtower %s: %s", where, error)
                    await asyncio.sleep(pause_s)
                    pause_s = min(2 * pause_s, LAST_PAUSE_S)

    async def _something(self) -> None:
        while not (self.wanted or self._questions):
            self._wake.clear()
            await self._wake.wait()

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(RENEWED_EVERY_S)
            clock_ms = self._owner.clock_ms() or 0
            for group_id in self._host.groups:
                receipt = self._book.receipt(self.tower.address, group_id)
                if receipt is not None and clock_ms - receipt.clock_ms > receipt.until_ms - clock_ms:
                    self._renewed.add(group_id)
                    self.want(group_id)

    async def _meet(self) -> None:
        """One link, until nothing is to be said."""
        contact = self.tower.contact
        link = await connect(
            contact.host, contact.port, self._owner._key, self._owner._chain_id, expect=contact.address, limits=LIMITS
        )
        try:
            async with asyncio.timeout(PATIENCE_S):
                terms = self._checked(decode_from_tower(await link.receive()))
            self.trouble.pop(None, None)
            async with asyncio.TaskGroup() as tasks:
                listening = tasks.create_task(self._listen(link))
                await self._talk(link, terms)
                listening.cancel()
        except* WedgeError as group:  # a full disk too, or a standby that is away: the next link tries again
            raise group.exceptions[0] from None
        finally:
            self.wanted.update(dict.fromkeys(self.sent))  # whether it has them is not known
            self.sent.clear()
            self._questions.update(self._open)
            self._open.clear()
            await link.close()

    def _checked(self, terms: FromTower) -> Terms:
        """What a tower begins with."""
        if not isinstance(terms, Terms):
            raise RemoteError(f"a tower begins with its terms, not with {type(terms).__name__}")
        asked, promised = terms.least_bounty, self.tower.bounty
        if promised < asked:
            raise RemoteError(f"it asks for a bounty of {asked} units, {promised} are promised")
        return terms

    async def _talk(self, link: Link, terms: Terms) -> None:
        while True:
            while messages := self._gather(terms):
                await self._owner.settled()  # what the standby has not got, no tower may see
                for message in messages:
                    link.send_nowait(message)
            self._wake.clear()
            self._heard.clear()
            waits = bool(self.sent or self._open)
            wait_s = PATIENCE_S if waits else None if self.tower.rely else IDLE_S
            try:
                async with asyncio.timeout(wait_s):
                    await (self._heard.wait() if len(self.sent) >= WINDOW else self._wake.wait())
            except TimeoutError:
                if waits:
                    raise LinkClosed(f"no answer within {PATIENCE_S:.0f} s") from None
                return

    def _gather(self, terms: Terms) -> list[bytes]:
        """What to say now."""
        messages: list[bytes] = []
        while self._questions and len(self._open) < WINDOW:
            group_id, _ = self._questions.popitem()
            self._open[group_id] = None
            messages.append(encode(Ask(group_id)))
        while self.wanted and len(self.sent) < WINDOW:
            group_id = next(iter(self.wanted))
            del self.wanted[group_id]
            if group_id in self._questions:  # first, for what it holds is replaced
                del self._questions[group_id]
                self._open[group_id] = None
                messages.append(encode(Ask(group_id)))
            if group_id not in self.sent:  # else its receipt asks again
                messages += self._entrusted(terms, group_id)
        return messages

    def _entrusted(self, terms: Terms, group_id: Hash) -> list[bytes]:
        group = self._host.groups.get(group_id)
        if group is None or group.closed:
            return []
        state, certificate = group.best
        if not certificate.signatures or self._has(group_id, certificate.header):
            return []
        me, promised = group.place, self.tower.bounty
        blank = Delegation(group_id, certificate.header.epoch, me.index, terms.payout, promised, b"")
        delegation = sign_delegation(me.key, self._owner._chain_id, blank)
        sealed = seal_body(me.key, certificate.header, state.body)
        self._owner.keep_body(certificate.header, state.body)
        self.sent[group_id] = certificate.header
        self._shown.add(group_id)
        return [encode(Entrust(certificate, sealed, delegation))]

    def _has(self, group_id: Hash, header: GroupHeader) -> bool:
        """Whether the tower has said so; to this process, if everything is to be entrusted afresh."""
        receipt = self._book.receipt(self.tower.address, group_id)
        known = receipt is not None and receipt.header == header.hash and group_id not in self._renewed
        return known and (group_id in self._shown or not self._owner._afresh)

    async def _listen(self, link: Link) -> None:
        while True:
            self._hear(decode_from_tower(await link.receive()))
            self._heard.set()
            self._wake.set()

    def _hear(self, message: FromTower) -> None:
        match message:
            case TowerReceipt():
                self._receipted(message)
            case Declined(group_id, _, code, text):
                self._declined(group_id, code, text)
            case Held(group_id, certificate):
                if group_id in self._open:
                    del self._open[group_id]
                else:
                    self._behind(group_id, certificate)
                self._owner.heard(self.tower, message)
                self.answered.add(group_id)
                self._owner._signals.notify()
            case _:
                raise RemoteError(f"a tower says {type(message).__name__} once, at first")

    def _receipted(self, receipt: TowerReceipt) -> None:
        header = self.sent.get(receipt.group_id)
        named = (receipt.tower, receipt.epoch, receipt.version, receipt.header)
        if header is None or named != (self.tower.address, header.epoch, header.version, header.hash):
            raise RemoteError(f"a receipt of version {receipt.version} of a group, which was not asked for")
        if not verify_receipt(self._owner._chain_id, receipt):
            raise RemoteError("a receipt that the tower did not sign")
        self._book.keep(receipt)  # first: what the disk does not take is asked for again
        del self.sent[receipt.group_id]
        self.answered.add(receipt.group_id)
        self._renewed.discard(receipt.group_id)
        self.trouble.pop(receipt.group_id, None)
        if self.tower.rely:
            self.want(receipt.group_id)
        else:
            self.rest(receipt.group_id)
        self._owner.on_receipt(receipt.group_id)
        self._owner._signals.notify()

    def _declined(self, group_id: Hash, code: str, text: str) -> None:
        if self.sent.pop(group_id, None) is None:
            raise RemoteError(f"an answer about group {group_id.hex()[:12]}, of which nothing was said")
        if code != "group_closed":
            self.trouble[group_id] = f"the watchtower does not take it: {text[:300]}"
            self._later(group_id, SOON.get(code, LATER_S))
        self._owner._signals.notify()

    def _behind(self, group_id: Hash, certificate: Certificate | None) -> None:
        """The tower shows a higher version than we sent: ours meanwhile, or one that this wallet has forgotten."""
        if self.sent.pop(group_id, None) is None or certificate is None:
            raise RemoteError(f"an answer about group {group_id.hex()[:12]}, of which nothing was asked")
        group = self._host.groups.get(group_id)
        if group is None:
            return
        if not is_newer(group, certificate):
            raise RemoteError(f"version {certificate.header.version} is shown for a higher one, and is not")
        self.trouble[group_id] = (
            f"the watchtower holds version {certificate.header.version} of this channel, with our signature; here is "
            f"{group.version}: this is an old copy of the wallet. Pay nothing from it"
        )

    def _later(self, group_id: Hash, pause_s: float) -> None:
        asyncio.get_running_loop().call_later(pause_s, self.want, group_id)


def is_newer(group: Group, certificate: Certificate) -> bool:
    """Whether a certificate that somebody shows is genuine, of this epoch, and above all that this wallet knows."""
    header, agreement = certificate.header, group.place.agreement
    known = group.best[1].header
    names = (header.chain_id, header.group_id, header.epoch)
    if names != (known.chain_id, known.group_id, known.epoch) or header.version <= known.version:
        return False
    return _signed_by_all(agreement, certificate)


def _signed_by_all(agreement: GroupAgreement, certificate: Certificate) -> bool:
    if len(certificate.signatures) != len(agreement.members):
        return False
    pairs = zip(agreement.members, certificate.signatures, strict=True)
    return all(verify_state(member, certificate.header, signature) for member, signature in pairs)
