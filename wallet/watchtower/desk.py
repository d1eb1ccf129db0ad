"""Where a watchtower's customers come: takes in versions, makes them durable, hands out receipts.

*Safety:* no receipt is signed before the version that it names is durable.

What comes in one turn of the loop, from whichever customers, is stored by one transaction (group commit). While layer 1
cannot be seen nothing is promised. A customer is served one message at a time, and who breaks the protocol or names
groups that are not its own again and again loses its link for a while.

Source: docs/design/groups.md, rule 17; decision 032.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol, assert_never

from layer1.client import LedgerUnreachable
from layer1.codec import encode
from layer1.conduct import Conduct
from layer1.crypto import Hash, PublicKey, SigningKey
from layer1.errors import LocalError, Refused, RemoteError
from layer1.ledger.records import Group
from layer1.link import LinkClosed
from layer2 import tower as core
from layer2.hosting import Channel
from layer2.tower import Ask, Declined, Entrust, FromTower, Guarded, Keep, Policy, Promise, Show
from wallet.watchtower.store import Name, TowerStore

FAULTS = {"unknown_group", "not_a_member", "bad_certificate", "bad_signature", "bad_delegation", "too_large"}
"""Refusals that cost us a look or a signature, and that a right customer hardly ever gets."""
_log = logging.getLogger(__name__)


class Sight(Protocol):
    """What a desk asks of layer 1."""

    async def look(self, group_id: Hash) -> Group | None:
        """A group, proven and fresh, or LedgerUnreachable."""
        ...

    def clock_ms(self) -> int | None:
        """The newest proven ledger clock, if it is fresh."""
        ...


class Desk:
    """Serves the links of all customers.

    Attributes:
        on_kept: Told the group of which a new version is durable.
        failure: Why nothing is taken in any more; None while all is well.
    """

    def __init__(self, store: TowerStore, key: SigningKey, chain_id: Hash, policy: Policy, sight: Sight) -> None:
        self._store = store
        self._key = key
        self._chain_id = chain_id
        self._policy = policy
        self._sight = sight
        self._conduct: Conduct[PublicKey] = Conduct()
        self._pending: dict[Name, Guarded] = {}
        """Of this turn: not durable yet."""
        self._due: list[tuple[Channel, Promise | Show]] = []
        """What may be said when it is."""
        self._turn: asyncio.Handle | None = None
        self.on_kept: Callable[[Hash], None] = lambda group_id: None
        self.on_failure: Callable[[LocalError], None] = lambda error: None
        self.failure: LocalError | None = None

    def admits(self, peer: PublicKey) -> bool:
        """Whether this customer may have a link now."""
        return self.failure is None and self._conduct.out_s(peer, asyncio.get_running_loop().time()) <= 0

    async def attach(self, link: Channel) -> None:
        """Serve a customer until its link ends."""
        link.send_nowait(encode(self._policy.terms))
        try:
            while True:
                await self._hear(link, await link.receive())
                await asyncio.sleep(0)  # the others have their turn
        except LinkClosed:
            pass

    async def _hear(self, link: Channel, data: bytes) -> None:
        try:
            message = core.decode_to_tower(data)
        except RemoteError as error:
            self._charge(link, str(error))
            return
        match message:
            case Ask(group_id):
                self._say(link, core.shown_to(self._held(group_id, link.peer), group_id))
            case Entrust():
                await self._take(link, message)
            case _ as never:
                assert_never(never)

    async def _take(self, link: Channel, message: Entrust) -> None:
        try:
            effects = await self._decide(link.peer, message)
        except (Refused, LedgerUnreachable) as error:
            code = error.code if isinstance(error, Refused) else "blind"
            header = message.header
            self._say(link, Declined(header.group_id, header.version, code, str(error)[:500]))
            if code in FAULTS:
                self._charge(link, str(error))
            return
        for effect in effects:
            match effect:
                case Keep(guarded):
                    self._pending[guarded.group_id, guarded.customer] = guarded
                case Promise() | Show():
                    self._due.append((link, effect))
                case _:
                    raise AssertionError(f"a customer's word brings nothing to layer 1: {effect}")
        if self._turn is None:
            self._turn = asyncio.get_running_loop().call_soon(self._end_turn)

    async def _decide(self, customer: PublicKey, message: Entrust) -> list[core.Effect]:
        header, shown = message.header, None
        held = self._held(header.group_id, customer)
        if core.needs_look(held, header):
            shown = await self._sight.look(header.group_id)
            held = self._held(header.group_id, customer)  # meanwhile something may have come
        clock_ms = self._sight.clock_ms()
        if clock_ms is None:
            raise LedgerUnreachable("this tower cannot see layer 1 just now: come again")
        load = self._load(customer) if shown is not None else core.Load(0, 0)
        visit = core.Visit(customer, message, held, shown, load, clock_ms)
        return core.entrust(self._policy, self._key.public, visit)

    def _load(self, customer: PublicKey) -> core.Load:
        """With what this turn adds."""
        stored = self._store.load(customer)
        new = [each for each in self._pending.values() if self._store.get(each.group_id, each.customer) is None]
        return core.Load(stored.groups + len(new), stored.of_customer + sum(e.customer == customer for e in new))

    def _held(self, group_id: Hash, customer: PublicKey) -> Guarded | None:
        return self._pending.get((group_id, customer)) or self._store.get(group_id, customer)

    def _end_turn(self) -> None:
        """Store, then speak. If it cannot be stored nothing is said, now or later."""
        self._turn = None
        pending, self._pending = self._pending, {}
        due, self._due = self._due, []
        if self.failure is not None:
            return
        try:
            self._store.write(list(pending.values()))
        except LocalError as error:
            self.failure = error
            self.on_failure(error)
            return
        for link, effect in due:
            self._say(link, self._signed(effect))
        for group_id, _ in pending:
            self.on_kept(group_id)

    def _signed(self, effect: Promise | Show) -> FromTower:
        if isinstance(effect, Show):
            return effect.held
        return core.receipt_signed(effect, self._key, self._chain_id)

    def _say(self, link: Channel, message: FromTower) -> None:
        link.send_nowait(encode(message))

    def _charge(self, link: Channel, why: str) -> None:
        pause_s = self._conduct.charge(link.peer, asyncio.get_running_loop().time())
        if pause_s:
            _log.warning("a customer is cut off for %.0f s: %s", pause_s, why)
            link.cut("broke the protocol")
