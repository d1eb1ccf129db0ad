"""One channel of an open wallet: pay, close, look.

Source: docs/design/groups.md, rules 1 to 8.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from msgspec import structs

from layer1.crypto import Hash, format_address
from layer1.errors import Refused
from layer1.ledger.agreements import Witness
from layer1.ledger.transactions import CloseGroup
from layer2.driver import Outcome, Receipt
from layer2.events import Payload
from layer2.payments import MAX_MEMO_BYTES, pay
from wallet.amounts import format_money
from wallet.book import ChannelRecord, Stage
from wallet.changes import Engage, replace_key, replace_witness, resize
from wallet.follower import Follower
from wallet.lock_news import Ended
from wallet.locking import Locking
from wallet.parts import Parts
from wallet.peers import Peers
from wallet.period import format_duration
from wallet.requests import ChannelView, GuardView, Progress, Report, no_report
from wallet.views import channel_view

CONNECT_S = 10.0
"""How long a request waits for the peer to come into step."""
CLOSE_S = 30.0
"""How long a cooperative close waits for the peer's signature."""
WITNESS_S = 10.0
"""How long a forced close waits for the second claim of a witnessed channel: the witness's comes at once."""
COPIED = (
    "this wallet's files are a copy, perhaps an old one: it waits for what the peer holds before it pays or claims "
    "anything. `wallet restore` finds channels that were opened since"
)
"""What one reads of a channel before its others have shown what they hold."""
LEDGER_S = 60.0
"""How long a close waits for the ledger to take it."""
PART = 2_000
"""Payments of one request that are issued together; they share a version."""
PARTS = 2
"""Of them under way at a time: while one is being signed, the next waits for its turn."""


@dataclass(frozen=True, slots=True)
class Paid:
    """What became of a series of payments."""

    committed: int
    pending: int
    refused: int
    refusal: Refused | None
    seconds: float


class Channel:
    """A handle; make one with `Wallet.channel` or `Wallet.open_channel`."""

    def __init__(self, parts: Parts, peers: Peers, follower: Follower, group_id: Hash) -> None:
        self._parts = parts
        self._peers = peers
        self._follower = follower
        self.id = group_id

    @property
    def record(self) -> ChannelRecord:
        """Its entry in the book."""
        record = self._parts.book.get(self.id)
        if record is None:
            raise Refused("unknown_channel", f"channel {self.id.hex()[:12]} was not opened in time: nothing is locked")
        return record

    def view(self) -> ChannelView:
        """The channel as of now, by what is known here; `refresh` asks layer 1 first."""
        notes = {"advice": self._parts.observer.advised.get(self.id), "watching": self._follower.did.get(self.id)}
        group = self._parts.host.groups.get(self.id)
        if group is not None and group.doubts:
            notes["advice"] = notes["advice"] or COPIED
        view = channel_view(self.record, group, self._follower.seen.get(self.id), self._follower.clock_ms, notes)
        return structs.replace(view, watchtowers=self._guards())

    def _guards(self) -> tuple[GuardView, ...]:
        """Up to which version each watchtower holds this channel."""
        towers, entruster = self._parts.towers, self._parts.entruster
        found = [(tower, towers.receipt(tower.address, self.id)) for tower in towers]
        return tuple(
            GuardView(
                watchtower=format_address(tower.address),
                version=receipt.version if receipt is not None else None,
                until_ms=receipt.until_ms if receipt is not None else None,
                rely=tower.rely,
                trouble=entruster.trouble(tower, self.id),
                remaining_ms=self._follower.left_ms(receipt.until_ms if receipt is not None else None),
            )
            for tower, receipt in found
        )

    async def refresh(self) -> ChannelView:
        """The channel, after a look at layer 1.

        Raises:
            LedgerUnreachable: Nothing could be proven.
        """
        if self.record.stage is not Stage.FAILED:
            await self._follower.look(self.record)
        return self.view()

    async def pay(self, amount: int, memo: str = "") -> Receipt:
        """Pay the peer; on return the payment is committed and durable on this side.

        Args:
            amount: Minor units, at least 1.
            memo: For the peer, up to 64 bytes of UTF-8.

        Raises:
            Refused: It was not paid and never will be.
            Pending: The link broke; the payment may yet be committed. Do not repeat it: `history` tells.
        """
        command = self._command(amount, memo)
        await self._connect()
        try:
            receipt = await self._parts.host.submit(self.id, command)
        except Refused as error:
            raise self._in_money(error) from None
        if not await self._is_receipted(receipt.version):
            raise self._parts.observer.pending(self.id, receipt)
        return receipt

    async def pay_many(self, amount: int, count: int, memo: str = "", report: Report = no_report) -> Paid:
        """Pay the same amount `count` times, many under way at once.

        Raises:
            Refused: Nothing was paid.
        """
        command = self._command(amount, memo)
        report(Progress("reaching the peer"))
        await self._connect()
        started = time.perf_counter()
        series = _Series(count, report)
        await asyncio.gather(*(self._work(series, command) for _ in range(PARTS)))
        paid = Paid(series.committed, series.pending, series.refused, series.refusal, time.perf_counter() - started)
        if paid.refusal is not None and paid.refused == count:
            raise paid.refusal
        return paid

    async def offer(self, amount: int, hashed: Hash, expiry_ms: int, packet: bytes = b"") -> Ended:
        """Pay the peer if it shows the preimage of `hashed`: lock the money, and wait until the lock has ended.

        See :mod:`wallet.locking`, also for what happens by itself, and how to go on after a restart.

        Args:
            amount: Minor units, at least 1.
            hashed: SHA-256 of 32 bytes.
            expiry_ms: Ledger clock until which the peer may show it; a few margins ahead at least.
            packet: For the peer, at most 1,366 bytes.

        Returns:
            With the preimage if the peer has the money, else why not: nothing is locked any more.

        Raises:
            Refused: Nothing was locked and never will be.
            Pending: The link broke; the lock may yet be committed. Do not repeat it.
        """
        await self._connect()
        return await self._locking.offer(self.id, amount, hashed, expiry_ms, packet)

    async def claim(self, lock: int, preimage: bytes) -> None:
        """Take a lock of the peer. On return that is durable, and insisted on: on layer 1, if need be."""
        await self._locking.claim(self.id, lock, preimage)

    async def release(self, lock: int, reason: bytes = b"") -> None:
        """Give a lock of the peer back; `reason` is for the peer alone, at most 292 bytes."""
        await self._connect()
        await self._locking.release(self.id, lock, reason)

    @property
    def _locking(self) -> Locking:
        locking = self._follower.locking
        assert locking is not None, "a wallet that is open has it"
        return locking

    async def top_up(self, amount: int, report: Report = no_report) -> ChannelView:
        """Pay into the open channel from the spending account; on return we can send that much more.

        Args:
            amount: Minor units, at least 1.
            report: Told what is being waited for.

        Raises:
            Refused: The channel is as it was: ``insufficient_balance``, ``peer_unreachable``, ``peer_silent``,
                ``expired``, ``group_wedged``, or as the peer says.
            LedgerUnreachable: Before anything was signed.
        """
        self._check_amount(amount)
        balance = (await self._parts.ledger.account(self._parts.keys.spending.public)).value.balance
        currency = self._parts.genesis.currency
        if balance < amount:
            have, wanted = format_money(balance, currency), format_money(amount, currency)
            raise Refused("insufficient_balance", f"the spending account has {have}, {wanted} would be paid in")
        await self._connect(changing=True)
        await resize(self._parts, self._follower, self.record, amount, report)
        return await self.refresh()

    async def withdraw(self, amount: int, report: Report = no_report) -> ChannelView:
        """Take out of the open channel, to the savings account. Raises as :meth:`top_up`."""
        self._check_amount(amount)
        await self._connect(changing=True)
        await resize(self._parts, self._follower, self.record, -amount, report)
        return await self.refresh()

    async def replace_key(self, report: Report = no_report) -> ChannelView:
        """Sign the channel's states with a fresh key from now on. Raises as :meth:`top_up`."""
        await self._connect(changing=True)
        await replace_key(self._parts, self._follower, self.record, report)
        return await self.refresh()

    async def resume(self, report: Report = no_report) -> ChannelView:
        """Go on in a new epoch, after one of us lost data; the money stays as it is. Raises as :meth:`top_up`."""
        await self._connect(changing=True)
        await resize(self._parts, self._follower, self.record, 0, report)
        return await self.refresh()

    def _check_amount(self, amount: int) -> None:
        if amount < 1:
            raise Refused("bad_amount", f"{amount} units; the least is 1")

    async def replace_witness(self, witness: Witness, engage: Engage, report: Report = no_report) -> ChannelView:
        """Give the open channel another witness, together with the peer; the old one is not needed for it.

        Args:
            witness: Who is to ACK and claim from the next epoch on.
            engage: Has the witness's promise to serve an agreement; raises Refused without.
            report: Told what is being waited for.

        Raises:
            Refused: As :meth:`top_up`; ``no_witness`` if the channel has none to replace.
        """
        await self._connect(changing=True)
        await replace_witness(self._parts, self._follower, self.record, (witness, engage), report)
        return await self.refresh()

    async def agree(self, report: Report = no_report) -> ChannelView:
        """After a loss of data: settle the dispute at once on what the ledger shows, instead of at the deadline.

        Raises:
            Refused: ``channel_not_open``, ``not_wedged``, ``too_early``, ``witnessed``, or ``claims``: nothing is lost.
            LedgerUnreachable: Nothing is known, nothing is changed.
        """
        self._check_open()
        await self._follower.look(self.record)
        self._check_open()
        payload = self._parts.host.concur(self.id)
        report(Progress("waiting for the ledger"))
        await self._bring(payload)
        return await self.refresh()

    async def close(
        self, *, force: bool = False, wait: bool = False, plead: bool = False, report: Report = no_report
    ) -> ChannelView:
        """Close it: together with the peer, or by `force` through layer 1, without the peer.

        Args:
            force: Wedge: sign nothing more and let layer 1 settle after the challenge period.
            wait: With `force`, return only when it is settled.
            plead: With `force`: data may be lost, so claim nothing, and have the peer show what it holds (rule 13).
            report: Told what is being waited for.

        Returns:
            The channel, closed, or with `force` in dispute until its deadline.

        Raises:
            Refused: ``peer_unreachable``, ``channel_not_open``, or as the ledger says.
            LedgerUnreachable: What was signed is brought to layer 1 as soon as it answers.
        """
        self._check_open()
        if force:
            return await self._force(wait, report, plead=plead)
        report(Progress("agreeing with the peer on the end"))
        payload = await self._agree()
        report(Progress("waiting for the ledger"))
        await self._bring(payload)
        return await self._settled(report)

    async def _agree(self) -> CloseGroup:
        away = (
            "Try again later, or close without the peer by --force, which takes the challenge period of "
            f"{format_duration(self.record.agreement.challenge_period_ms)}"
        )
        try:
            await self._connect(closing=True)
            async with asyncio.timeout(CLOSE_S):
                return await self._parts.host.close_cooperatively(self.id)
        except TimeoutError:
            raise Refused("peer_silent", f"the peer did not sign within {CLOSE_S:.0f} s. {away}") from None
        except Refused as error:
            if error.code in ("peer_unreachable", "not_connected"):
                said = error.message if error.message.endswith("?") else f"{error.message.rstrip('.')}."
                raise Refused("peer_unreachable", f"{said} {away}") from None
            if error.code == "locks_pending":
                raise Refused("locks_pending", self._under_way()) from None
            raise

    def _under_way(self) -> str:
        """Why it cannot be closed together now."""
        group = self._parts.host.groups[self.id]
        locks = group.locks or group.committed.body.locks
        last_ms = max((lock.expiry_ms for lock in locks), default=0)
        left = self._follower.left_ms(last_ms)
        end = "" if left is None else f", the last for {format_duration(left)} at most"
        payments = f"{len(locks)} conditional payment{' is' if len(locks) == 1 else 's are'} under way{end}"
        return f"{payments}: close when they have ended, or by --force, and the ledger pays each by its preimage"

    async def _force(self, wait: bool, report: Report, *, plead: bool) -> ChannelView:
        shown = await self._follower.look(self.record)
        if shown.live and (plead or self.view().deadline_ms is None):
            await self._learn(report)
        if self.view().state == "closed":  # the peer may have ended it meanwhile; and locks may pend
            return await self._settled(report) if wait else self.view()
        if self.record.live and (plead or self.view().deadline_ms is None):
            payload = self._parts.host.plead(self.id) if plead else self._parts.host.wedge(self.id)
            report(Progress("bringing the newest state to the ledger"))
            await self._bring(payload)
        if self.record.agreement.witnesses and not wait:
            report(Progress("waiting for the witness's claim"))
            await self._parts.signals.until(self._claimed_by_two, WITNESS_S)
        return await self._settled(report) if wait else self.view()

    async def _learn(self, report: Report) -> None:
        """Before a first claim: what our watchtowers hold, and, if these files are a copy, what the peer does."""
        group = self._parts.host.groups.get(self.id)
        if group is None or group.has_spoken:
            return
        if len(self._parts.towers):
            report(Progress("asking the watchtowers what they hold"))
            await self._parts.entruster.ask(self.id)
        if group.doubts:
            report(Progress("asking the peer what it holds: the files of this wallet are a copy"))
            self._peers.keep()
            await self._parts.signals.until(self._doubts_nothing, CONNECT_S)

    def _doubts_nothing(self) -> bool | None:
        group = self._parts.host.groups.get(self.id)
        return True if group is None or not group.doubts else None  # it may be closed, and forgotten, meanwhile

    def _claimed_by_two(self) -> bool | None:
        self._follower.nudge()
        return True if not self.record.live or len(self.view().claimed) > 1 else None

    async def _settled(self, report: Report) -> ChannelView:
        while self.record.live:
            self._follower.nudge()
            view = self.view()
            if view.remaining_ms is not None:
                period = view.challenge_period_ms
                left = format_duration(view.remaining_ms)
                report(Progress(f"settles in {left}", max(period - view.remaining_ms, 0) // 1000, period // 1000))
            elif view.witness is not None:
                report(Progress(f"{len(view.claimed)} of the 2 claims that settle it are there"))
            await self._parts.signals.until(lambda: None if self.record.live else True, timeout_s=0.5)
        return self.view()

    async def reach(self) -> None:
        """Wait until the peer is in step.

        Raises:
            Refused: ``peer_unreachable``, ``witness_unreachable``, ``standby_away``, or why the channel is stopped.
        """
        await self._connect()

    async def _connect(self, *, closing: bool = False, changing: bool = False) -> None:
        """Wait until the peer is in step; a channel whose end is signed already may still be closed with it."""
        self._check_open()
        self._peers.keep()
        up = await self._parts.signals.until(lambda: self._in_step(closing, changing), CONNECT_S)
        headship = self._parts.headship
        if headship is not None and not headship.driver.in_force:
            raise Refused(
                "standby_away",
                f"the standby does not answer ({headship.driver.trouble or 'not yet'}), and nothing leaves without it: "
                "mend it, or go on alone with `wallet standby dismiss`",
            )
        if up is None:
            where = self.view().endpoint
            hint = (
                f"is its wallet being served at {where}?"
                if where
                else "it has no known address: keep `wallet serve` running here until its wallet reaches us"
            )
            peer = format_address(self.record.peer)
            group = self._parts.host.groups.get(self.id)
            if group is not None and group.absent and group.together:
                raise Refused("witness_unreachable", self._witness_away())
            raise Refused("peer_unreachable", f"{peer} did not answer within {CONNECT_S:.0f} s; {hint}")

    def _witness_away(self) -> str:
        witness = self.view().witness
        return (
            f"the witness {witness} did not answer within {CONNECT_S:.0f} s; without it the channel takes no payments: "
            "wait for it, or close the channel together with the peer, which needs no witness"
        )

    def _in_step(self, closing: bool, changing: bool) -> bool | None:
        headship = self._parts.headship
        if headship is not None and not headship.driver.in_force:
            headship.driver.check_leads()
            return None
        group = self._parts.host.groups.get(self.id)
        if group is None:
            return None
        stopped = group.ended if changing else group.stopped
        if stopped is not None and not closing:
            raise stopped
        if closing and group.final is not None:
            return True
        if (closing or changing) and not group.informed:
            return None  # the peer shows what it holds first
        return True if group.connected or ((closing or changing) and group.together) else None

    def _check_open(self) -> None:
        stage = self.record.stage
        if stage is Stage.OPENING:
            raise Refused(
                "channel_not_open", f"channel {self.id.hex()[:12]} is still being opened: wait for the ledger"
            )
        if not self.record.live:
            raise Refused("channel_not_open", f"channel {self.id.hex()[:12]} is {stage.value}: open another")

    def _command(self, amount: int, memo: str) -> bytes:
        data = memo.encode()
        if len(data) > MAX_MEMO_BYTES:
            raise Refused("memo_too_long", f"the memo has {len(data)} bytes; the most is {MAX_MEMO_BYTES}")
        if amount < 1:
            raise Refused("bad_amount", f"a payment of {amount} units; the least is 1")
        return pay(1 - self.record.index, amount, data)

    async def _work(self, series: _Series, command: bytes) -> None:
        while part := series.take():
            outcome = await self._parts.host.submit_many(self.id, [command] * part)
            if outcome.last is not None and not await self._is_receipted(outcome.last.version):
                open_ones = (self._parts.observer.pending(self.id, outcome.last),) * outcome.committed
                outcome = replace(outcome, committed=0, last=None, pending=(*outcome.pending, *open_ones))
            series.end(outcome, [self._in_money(refusal) for refusal in outcome.refused[:1]])

    async def _is_receipted(self, version: int) -> bool:
        """Rule 3 [F6]: "whoever relies on a watchtower calls committed what the tower has receipted"."""
        group = self._parts.host.groups.get(self.id)
        epoch = group.state.header.epoch if group is not None else 0
        receipted = lambda: True if self._parts.observer.is_receipted(self.id, epoch, version) else None  # noqa: E731
        return await self._parts.signals.until(receipted, self._parts.observer.receipt_s) is not None

    def _in_money(self, error: Refused) -> Refused:
        """A refusal that counts minor units, as people count."""
        if error.code != "insufficient_balance":
            return error
        money = format_money(self.view().can_send, self._parts.genesis.currency)
        return Refused(error.code, f"the channel can send {money}: pay less, or be paid first")

    async def _bring(self, payload: Payload) -> None:
        """Bring to layer 1 what ends the channel. The peer may have been faster: what layer 1 shows then counts."""
        try:
            async with asyncio.timeout(LEDGER_S):
                output = await asyncio.shield(self._parts.submitter.bring(payload))
        except TimeoutError:
            raise Refused(
                "ledger_unreachable",
                f"no replica took it within {LEDGER_S:.0f} s. It is signed and kept: repeat this, or "
                "run `wallet serve`, when the ledger answers; the channel takes no more payments",
            ) from None
        except Refused as error:
            refusal = error
        else:
            refusal = Refused(output.code, output.message)
        record = await self._follower.look(self.record)
        if refusal.code != "ok" and record.live and self.view().state != "disputed":
            raise Refused(refusal.code, f"the ledger refused: {refusal.message}")


@dataclass(slots=True)
class _Series:
    """Counts a series of payments; takes no more after the first that did not commit."""

    count: int
    report: Report
    taken: int = 0
    committed: int = 0
    pending: int = 0
    refused: int = 0
    refusal: Refused | None = None

    def take(self) -> int:
        """How many to issue next."""
        if self.pending or self.refused:
            return 0
        part = min(PART, self.count - self.taken)
        self.taken += part
        return part

    def end(self, outcome: Outcome, why: Sequence[Refused]) -> None:
        self.committed += outcome.committed
        self.pending += len(outcome.pending)
        self.refused += len(outcome.refused)
        self.refusal = next(filter(None, (self.refusal, *why)), None)
        self.report(Progress("paying", self.committed, self.count))
