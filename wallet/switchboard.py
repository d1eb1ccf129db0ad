"""The one place where locks arrive: opens each packet once, and gives the lock to whom it is for (decision 042).

*Safety:* a packet is opened once while its lock can live, over whatever channel it comes; what cannot be opened goes
back without a reason, for nobody here shares a secret with its maker.

It alone sets the hooks of `wallet.locking`. What a packet says decides: `Final` and `Spontaneous` are the payee's,
`Forward` is the forwarder's. That a preimage was shown, or that a lock has ended, the forwarder hears first: what is of
a payment that it forwards concerns neither payer nor payee, whose records are on disk; all else they hear.

After a start every lock that stands is opened again, so its packet is known again (decision 037).

Source: decisions 037 and 042.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from layer1.crypto import Hash
from layer1.errors import RemoteError
from layer1.ledger.agreements import Lock
from layer1.ledger.records import Group as LedgerGroup
from layer1.ledger.records import Status
from wallet.invoices.dealing import Dealer
from wallet.invoices.desk import InvoiceDesk
from wallet.lock_news import Ended
from wallet.locking import Locking
from wallet.onion.errors import BadPayload, OnionError
from wallet.onion.failure import Code, Failure, wrap
from wallet.onion.packet import Binding, Peeled, peel
from wallet.onion.payload import Forward
from wallet.onion.replay import SeenPackets
from wallet.parts import Parts


class Forwards(Protocol):
    """What the switchboard needs of a forwarder."""

    def holds(self, group_id: Hash, number: int) -> bool:
        """Whether it knows of an incoming lock already, from before a restart: then it is not given to it again."""
        ...

    def take(self, group_id: Hash, lock: Lock, peeled: Peeled) -> None:
        """A committed lock is to be offered onward: its packet says so."""
        ...

    def shown(self, group_id: Hash, lock: Lock, preimage: bytes) -> bool:
        """Of a lock that we pay; told before its end, and perhaps again. Whether it is of a forwarded payment."""
        ...

    def lose(self, group_id: Hash, ended: Ended) -> bool:
        """A lock is gone for certain. Whether it is of a forwarded payment."""
        ...

    def stopped(self, group_id: Hash, shown: LedgerGroup) -> None:
        """Layer 1 shows a group wedged, or closed: then a lock that is not in `shown` never was, or has ended."""
        ...


class Switchboard(Dealer):
    """Of one open wallet."""

    def __init__(
        self,
        parts: Parts,
        locking: Locking,
        clock_ms: Callable[[], int | None],
        invoices: InvoiceDesk,
        forwarder: Forwards | None = None,
    ) -> None:
        """Nothing is told before :meth:`start`.

        Args:
            parts: Of the wallet.
            locking: Whose news come here from then on.
            clock_ms: Newest proven ledger clock; None before the first.
            invoices: Its payer offered the locks that are ours; its payee gets what is for this wallet.
            forwarder: Gets what is for others; None to forward nothing.
        """
        super().__init__(parts, locking, clock_ms)
        self._payer, self._payee, self._forwarder = invoices.payer, invoices.payee, forwarder
        self._seen = SeenPackets()

    def start(self) -> None:
        """Take news of locks, and all locks that stand."""
        self._locking.on_offer = self._offered
        self._locking.on_preimage = self._shown
        self._locking.on_end = self._lost
        self._locking.on_stopped = self._stopped
        for group_id, lock, packet in list(self._locking.incoming()):
            self._offered(group_id, lock, packet)

    def _offered(self, group_id: Hash, lock: Lock, packet: bytes) -> None:
        """A lock for us is committed."""
        if self._clock_ms() is None:
            self._begin(self._offered_early(group_id, lock, packet))
        else:
            self._deliver(group_id, lock, packet)

    async def _offered_early(self, group_id: Hash, lock: Lock, packet: bytes) -> None:
        """Before the first look at layer 1 nobody knows how long a lock is good for."""
        await self._clock()
        if self._lock(group_id, lock.id) is not None:
            self._deliver(group_id, lock, packet)

    def _deliver(self, group_id: Hash, lock: Lock, packet: bytes) -> None:
        try:
            peeled = self._open(group_id, lock, packet)
        except RemoteError as error:  # also of a lock that no packet can belong to
            reason = wrap(error.secret, Failure(Code.BAD_PAYLOAD)) if isinstance(error, BadPayload) else b""
            return self._turn_away(group_id, lock, reason, str(error))
        try:
            self._seen.note(peeled.seen, group_id, lock.expiry_ms)
        except OnionError as error:
            if not self._payee.holds(group_id, lock.id):  # after a start a replay may be opened before what it repeats
                return self._turn_away(group_id, lock, b"", str(error))
        if not isinstance(peeled.payload, Forward):
            self._payee.take(group_id, lock, peeled)
        elif self._forwarder is None:
            reason = wrap(peeled.secret, Failure(Code.UNKNOWN_NEXT))
            self._turn_away(group_id, lock, reason, "this wallet does not forward")
        elif not self._forwarder.holds(group_id, lock.id):
            self._forwarder.take(group_id, lock, peeled)
        return None

    def _open(self, group_id: Hash, lock: Lock, packet: bytes) -> Peeled:
        """Raises RemoteError: it cannot be opened."""
        self._seen.forget(self._clock_ms() or 0)
        binding = Binding(self._parts.genesis.chain_id, lock.hash, lock.expiry_ms)
        return peel(self._parts.keys.spending, packet, binding)

    def _turn_away(self, group_id: Hash, lock: Lock, reason: bytes, why: str) -> None:
        """Give it back, unless it is taken already: after a restart its packet may not be known any more."""
        held = self._forwarder is not None and self._forwarder.holds(group_id, lock.id)
        if not held and not self._locking.is_claimed(group_id, lock.id):
            self._tell_released(group_id, lock.id, why)
            self._begin(self._refuse(group_id, lock.id, reason))

    def _shown(self, group_id: Hash, lock: Lock, preimage: bytes) -> None:
        if self._forwarder is None or not self._forwarder.shown(group_id, lock, preimage):
            self._payer.shown(group_id, lock, preimage)

    def _lost(self, group_id: Hash, ended: Ended) -> None:
        if self._forwarder is None or not self._forwarder.lose(group_id, ended):
            self._payee.lose(group_id, ended)
            self._payer.lose(group_id, ended)

    def _stopped(self, group_id: Hash, shown: LedgerGroup) -> None:
        if shown.status is Status.CLOSED:
            self._payee.settled(group_id, shown)
            self._payer.settled(group_id, shown)
        if self._forwarder is not None:
            self._forwarder.stopped(group_id, shown)
