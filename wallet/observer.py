"""What the layers below tell the wallet, and what it keeps of that: history, advice, waiting callers.

Source: docs/design/architecture.md, "Two kinds of storage"; `layer2.driver.Observer`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from layer1.conduct import Budget, Conduct
from layer1.crypto import Hash, PublicKey, format_address
from layer1.errors import LocalError, RemoteError
from layer2.driver import Observer, Pending, Receipt
from layer2.events import (
    Advice,
    ChangeAsked,
    ChangeEnded,
    Committed,
    EpochBegan,
    Finished,
    Payload,
    PreimageSeen,
    Rejected,
)
from layer2.messages import OpeningMessage
from wallet.book import ChannelBook
from wallet.history import History
from wallet.lock_news import entries_of
from wallet.signals import Signals

RECEIPT_S = 10.0
"""How long who pays waits for the watchtowers that are relied on."""
FLUSH_S = 0.1
"""History is written this long after a payment, with all others of that time."""
LOGGED = Budget(faults=20, faults_per_s=0.1, first_pause_s=60, longest_pause_s=600)
"""Of all peers together: a stranger has as many names as it likes."""
_log = logging.getLogger(__name__)


class WalletObserver(Observer):
    """Writes the history, and passes on what asks for action.

    Attributes:
        advised: Per group, what its member should do.
    """

    def __init__(self, book: ChannelBook, history: History, signals: Signals) -> None:
        self._book = book
        self._history = history
        self._signals = signals
        self._written = history.versions()
        self._flushing: asyncio.TimerHandle | None = None
        self._told: Conduct[str] = Conduct(LOGGED)
        self.advised: dict[Hash, str] = {}
        self.on_submission: Callable[[Payload], object] = lambda payload: None
        self.untold_locks: list[tuple[Hash, Committed]] = []
        """Versions that changed locks, from the journal: until somebody takes them."""
        self.on_locks: Callable[[Hash, Committed], object] = lambda *news: self.untold_locks.append(news)
        self.on_preimage: Callable[[Hash, PreimageSeen], object] = lambda group_id, event: None
        self.on_up: list[Callable[[Hash], object]] = []
        """Told of a channel in which somebody came into step."""
        self.on_rejected: Callable[[Hash, Rejected], object] = lambda group_id, event: None
        self.on_flushed: Callable[[], object] = lambda: None
        self.on_committed: Callable[[Hash], object] = lambda group_id: None
        self.is_receipted: Callable[[Hash, int, int], bool] = lambda group_id, epoch, version: True
        """Whether the watchtowers that are relied on hold a version: before that it is not committed [F6]."""
        self.receipt_s = RECEIPT_S
        self._held_back: dict[Hash, list[Committed]] = {}
        self.on_change_asked: Callable[[Hash, ChangeAsked], None] = lambda group_id, event: None
        self.on_look: Callable[[Hash], None] = lambda group_id: None
        self.on_opening: Callable[[PublicKey, OpeningMessage], None] = lambda peer, message: None
        self.on_step: Callable[[Hash, int], None] = lambda group_id, member: None
        self.on_epoch: Callable[[Hash], None] = lambda group_id: None
        self.on_finished: Callable[[Hash], None] = lambda group_id: None
        self.on_unlinked: Callable[[PublicKey], None] = lambda peer: None
        self.on_aside: Callable[[PublicKey, bytes], None] = lambda peer, data: None

    def committed(self, group_id: Hash, event: Committed) -> None:
        """Enter the payments of a version, unless they are there from before a restart, and pass on what locks do.

        Before the watchtowers that are relied on have receipted it, nobody hears of it: who forwards a lock, or shows
        a preimage for it, must not lose it to a version that such a tower holds [F6].
        """
        self.on_committed(group_id)
        record, receipted = self._book.get(group_id), self.is_receipted(group_id, event.epoch, event.version)
        if group_id in self._held_back or not receipted:
            if record is None or record.live:  # of what is closed, the history has what layer 1 settled on
                self._held_back.setdefault(group_id, []).append(event)
        else:
            self._enter(group_id, event)
        self._signals.notify()

    @property
    def holds_back(self) -> bool:
        """Whether a certified version is not in the history: a watchtower that is relied on has not receipted it."""
        return bool(self._held_back)

    def pending(self, group_id: Hash, receipt: Receipt) -> Pending:
        """What is told of a command that the peer has, and a watchtower that is relied on has not."""
        text = (
            f"the peer has version {receipt.version}, but a watchtower that is relied on has not receipted it within "
            f"{self.receipt_s:.0f} s (`wallet watchtower list`): it counts when the watchtower has it."
        )
        return Pending(group_id, receipt.number, text)

    def unreceipted(self, group_id: Hash) -> tuple[Committed, ...]:
        """Versions of a channel that are certified, and not committed yet for whoever relies on a watchtower."""
        return tuple(self._held_back.get(group_id, ()))

    def receipted(self, group_id: Hash) -> None:
        """Enter what is receipted by now."""
        events = self._held_back.pop(group_id, [])
        while events and self.is_receipted(group_id, events[0].epoch, events[0].version):
            self._enter(group_id, events.pop(0))
        if events:
            self._held_back[group_id] = events

    def release(self, group_id: Hash, settled: int | None = None) -> None:
        """Layer 1 has decided: enter what was held back, up to what it settled on; all of it, if that is None."""
        for event in self._held_back.pop(group_id, []):
            if settled is None or event.ordinal <= settled:
                self._enter(group_id, event)

    def _enter(self, group_id: Hash, event: Committed) -> None:
        if event.before is not None or event.locks:
            self.on_locks(group_id, event)
        record = self._book.get(group_id)
        if record is not None and event.ordinal > self._written.get(group_id.hex(), 0):
            peer, commands = format_address(record.peer), event.batch.commands
            name = group_id.hex()
            self._history.add_payments(name, peer, event.ordinal, record.index, commands)
            for mark, kind, units, hashed in entries_of(event, record.index):
                self._history.add(f"{name}{mark}", kind, units, channel=name, peer=peer, memo=hashed)
            self._flush_soon()
        self._signals.notify()

    def preimage_seen(self, group_id: Hash, event: PreimageSeen) -> None:
        """Pass on what a claim shows."""
        self.on_preimage(group_id, event)

    def rejected(self, group_id: Hash, event: Rejected) -> None:
        """Nothing to keep: no money moved."""
        self.on_rejected(group_id, event)
        self._signals.notify()

    def submission(self, group_id: Hash, payload: Payload) -> None:
        """Bring it to layer 1."""
        self.on_submission(payload)

    def advice(self, group_id: Hash, event: Advice) -> None:
        """Keep what the user should do."""
        self.advise(group_id, event.message)

    def advise(self, group_id: Hash, text: str) -> None:
        """Keep it for `channel list`."""
        self.advised[group_id] = text
        self._signals.notify()

    def change_asked(self, group_id: Hash, event: ChangeAsked) -> None:
        """Pass on what a peer wants of an open channel."""
        self.on_change_asked(group_id, event)

    def change_ended(self, group_id: Hash, event: ChangeEnded) -> None:
        """The channel is as it was."""
        self._signals.notify()

    def epoch_began(self, group_id: Hash, event: EpochBegan) -> None:
        """Enter what we paid in, or took out, or that our key is another one."""
        self.release(group_id)
        self.on_epoch(group_id)
        record = self._book.get(group_id)
        if record is not None:
            me = event.agreement.members[record.index]
            before = event.before.members[record.index]
            sums = [("topped_up", -p.units) for p in event.deposits if p.account == me.funding]
            sums += [("withdrawn", p.units) for p in event.withdrawals if p.account == me.payout]
            sums += [("rekeyed", 0)] if me.key != before.key else []
            name, peer = group_id.hex(), format_address(record.peer)
            for kind, units in sums:
                self._history.add(f"{name}:{kind}:{event.epoch}", kind, units, channel=name, peer=peer)
            self._flush_soon()
        self._signals.notify()

    def look_now(self, group_id: Hash) -> None:
        """The peer knows something of layer 1 that we do not."""
        self.on_look(group_id)

    def frozen(self, group_id: Hash, reason: str) -> None:
        """The disk is not to be relied on."""
        self.advise(group_id, f"frozen: {reason}; look after the disk, then start again")
        self._signals.fail(LocalError(f"the disk did not confirm: {reason}; look after it, then start again"))

    def finished(self, group_id: Hash, event: Finished) -> None:
        """The follower enters the end, with what layer 1 shows."""
        self.release(group_id, event.settled)
        self.on_finished(group_id)
        self._signals.notify()

    def misbehaved(self, group_id: Hash | None, peer: PublicKey, error: RemoteError) -> None:
        """Tell, and go on: what it says is dropped already. Who does it without end does not fill the log."""
        now_s = time.monotonic()
        if not self._told.out_s("", now_s):
            _log.warning("%s broke the protocol: %s", format_address(peer), error)
            if pause_s := self._told.charge("", now_s):
                _log.warning("peers break the protocol so often that it is not told for %.0f s", pause_s)
        if group_id is not None:
            self.advise(group_id, f"the peer broke the protocol: {error}")

    def connected(self, group_id: Hash, member: int, up: bool) -> None:
        """Somebody may be waiting for it."""
        if up:
            self.on_step(group_id, member)
        for tell in self.on_up if up else ():
            tell(group_id)
        self._signals.notify()

    def linked(self, peer: PublicKey) -> None:
        """What was asked on an older link gets no answer any more."""
        self.on_unlinked(peer)

    def unlinked(self, peer: PublicKey) -> None:
        """It hears nothing now."""
        self.on_unlinked(peer)

    def aside(self, peer: PublicKey, data: bytes) -> None:
        """Pass on what a neighbour says of the network."""
        self.on_aside(peer, data)

    def opening(self, peer: PublicKey, message: OpeningMessage) -> None:
        """Pass on what is said about a channel to be."""
        self.on_opening(peer, message)

    def _flush_soon(self) -> None:
        if self._flushing is None:
            self._flushing = asyncio.get_running_loop().call_later(FLUSH_S, self._flush)

    def _flush(self) -> None:
        self._flushing = None
        try:
            self._history.flush()
            self.on_flushed()
        except LocalError as error:
            _log.error("%s; it is kept in memory and written later", error)
            self._flush_soon()
