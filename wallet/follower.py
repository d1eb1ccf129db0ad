"""The wallet's watcher: follows layer 1 for its own channels, and answers without being asked.

*Safety:* while this runs and reaches layer 1 within a channel's challenge period, the channel settles on the newest
state that this wallet holds, or a newer one.

Every look is at a proven record, and is given to the group core, which says what layer 1 lacks. Events from a replica
are hints to look at once; without them the follower looks every so often, at least eight times per challenge period.
A look that fails changes nothing, and is repeated.

Source: docs/design/groups.md, rules 8 to 15; `layer2.watcher` decides, this carries.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence

from layer1.client import LedgerUnreachable
from layer1.crypto import ZERO_HASH, Hash, format_address
from layer1.errors import WedgeError
from layer1.header import Header
from layer1.ledger.records import Group, Status
from layer1.ledger.transactions import Output, Reveal
from layer1.proof import Verified
from layer1.reader import GROUPS_AT_ONCE
from layer2.driver import Contact
from wallet.amounts import format_money
from wallet.book import ChannelRecord, Stage
from wallet.locking import Locking
from wallet.parts import Parts
from wallet.period import LOCKS_POLL_MS

URGENT_S = 1.0
"""Between looks while a channel is being opened, or is wedged."""
CALM_S = 30.0
"""Between looks otherwise, at most."""
_log = logging.getLogger(__name__)


class Follower:
    """Looks at layer 1 for all live channels.

    Attributes:
        clock_ms: Newest proven ledger clock; None before the first look.
        seen: Per channel, what layer 1 last showed.
        did: Per channel, what this watcher last did, for people.
    """

    def __init__(self, parts: Parts) -> None:
        self._ledger = parts.ledger
        self._currency = parts.genesis.currency
        self._host = parts.host
        self._keys = parts.keys
        self._book = parts.book
        self._history = parts.history
        self._submitter = parts.submitter
        self._entruster = parts.entruster
        self._signals = parts.signals
        self._hint = asyncio.Event()
        self._unanswered: Hash | None = None
        self.clock_ms: int | None = None
        self.seen: dict[Hash, Group] = {}
        self.did: dict[Hash, str] = {}
        self.locking: Locking | None = None
        """Tends the locks of each channel that is looked at."""

    def left_ms(self, until_ms: int | None) -> int | None:
        """How long it is until a ledger clock; None if that, or the present one, is not known."""
        return None if until_ms is None or self.clock_ms is None else max(until_ms - self.clock_ms, 0)

    def nudge(self) -> None:
        """Look again now."""
        self._hint.set()

    async def run(self) -> None:
        """Follow until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._listen())
            while True:
                self._hint.clear()
                await self.look_at_all()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._pause_s()):
                        await self._hint.wait()

    async def look_at_all(self) -> None:
        """Look at every live channel; a failure is logged, and left to the next time.

        If the ledger does not answer the rest waits as well, and goes first next time: it may be the one channel that
        the ledger does not answer for.
        """
        records = self._in_turn()
        for start in range(0, len(records), GROUPS_AT_ONCE):
            if not await self._look_at(records[start : start + GROUPS_AT_ONCE]):
                return
        if self.locking is not None:
            self.locking.prune()

    async def _look_at(self, records: Sequence[ChannelRecord]) -> bool:
        """Look at some by one question, or, if that has no answer, by one for each; False if the ledger is silent."""
        found: Verified[tuple[Group | None, ...]] | None = None
        with contextlib.suppress(WedgeError, OSError):
            found = await self._ledger.groups([record.group_id for record in records]) if len(records) > 1 else None
        for place, record in enumerate(records):
            try:
                if found is None:
                    await self.look(record)
                else:
                    await self._show(record, found.value[place], found.header)
            except (WedgeError, OSError) as error:  # a full disk too: the other channels are watched all the same
                _log.warning("channel %s: %s", record.group_id.hex()[:12], error)
                if isinstance(error, LedgerUnreachable):
                    self._unanswered = record.group_id
                    return False
            except Exception as error:  # noqa: BLE001 - one channel's trouble must not leave the others unwatched
                _log.exception("channel %s: a fault of this program", record.group_id.hex()[:12])
                self._tell(record, f"cannot be looked at, for a fault of this program: {error!r}; see the log")
        return True

    def _in_turn(self) -> list[ChannelRecord]:
        """The live channels, the one that had no answer last."""
        live = self._book.live()
        behind = next((i + 1 for i, record in enumerate(live) if record.group_id == self._unanswered), 0)
        return live[behind:] + live[:behind]

    async def look(self, record: ChannelRecord) -> ChannelRecord:
        """Look at one channel, and answer what there is to answer.

        Raises:
            LedgerUnreachable: Nothing is known, nothing is changed.
        """
        answer = await self._ledger.group(record.group_id)
        return await self._show(record, answer.value, answer.header)

    async def _show(self, record: ChannelRecord, group: Group | None, header: Header) -> ChannelRecord:
        """What layer 1 has of a channel, proven at `header`."""
        self._note_clock(header)
        record = self._book.get(record.group_id) or record
        if group is None:
            return await self._unopened(record, header)
        if self.locking is not None:
            try:
                await self.locking.learn(record.group_id, group)
            except WedgeError as error:  # what layer 1 has of the channel is answered all the same
                _log.warning("channel %s: its locks cannot be looked up: %s", record.group_id.hex()[:12], error)
        record = self._opened(record, group, header.clock)
        if self.locking is not None:
            self.locking.tend(record.group_id)
        return record

    def _note_clock(self, header: Header) -> None:
        self.clock_ms = max(self.clock_ms or 0, header.clock)
        self._host.note_clock(self.clock_ms)

    async def _unopened(self, record: ChannelRecord, header: Header) -> ChannelRecord:
        """Not there at this height: dead for certain once the transaction can be in no later block."""
        if record.stage is not Stage.OPENING:
            return record
        last_ms = min(record.transaction.valid_until_ms, record.agreement.open_before_ms - 1)
        if header.clock > last_ms:
            return self._fail(record, "expired")
        output = await self._ledger.output(record.transaction.id)
        if output is not None and output.value.code != "ok":
            return self._fail(record, output.value.code)
        return record

    def _fail(self, record: ChannelRecord, reason: str) -> ChannelRecord:
        self._tell(record, f"will not open: {reason}")
        if record.index == 0:  # of what strangers let lapse, as often as they like, there is no history
            self._enter(record, "failed", 0)
        moved = self._book.move(record, Stage.FAILED, reason=reason)
        for dropped in self._book.drop_lapsed():
            self.did.pop(dropped.group_id, None)
        self._signals.notify()
        return moved

    def _opened(self, record: ChannelRecord, group: Group, clock_ms: int) -> ChannelRecord:
        if record.group_id not in self._host.groups and record.live:
            self._adopt(record)
        if record.stage is Stage.OPENING:
            self._enter(record, "opened", -(record.me.deposit + record.me.bond))
            record = self._book.move(record, Stage.OPEN)
            _log.info("channel %s is open", record.group_id.hex()[:12])
        self._compare(record, group)
        if record.group_id in self._host.groups:
            self._answer(record, group, clock_ms)
        if group.epoch > record.epoch:
            record = self._book.move(record, record.stage, epoch=group.epoch, changed=group.agreement)
        told = self.locking is None or self.locking.settle(record.group_id, group)
        if group.status is Status.CLOSED and record.live and not group.pending and told:
            self._host.end_turn()  # what was noted of the end is durable before this channel is looked at no more
            record = self._close(record, group)
        self._signals.notify()
        return record

    def _adopt(self, record: ChannelRecord) -> None:
        """Host a group that layer 1 has: only now can anything be signed in it."""
        contacts = {1 - record.index: Contact(record.peer, record.host, record.port)}
        key = self._keys.group_key(record.key_index)
        lost, doubted = bool(record.name), record.copied
        self._host.add(record.agreement, record.group_id, record.index, key, contacts, lost=lost, doubted=doubted)

    def _answer(self, record: ChannelRecord, group: Group, clock_ms: int) -> None:
        self._reveal(group)
        claiming = group.status is not Status.WEDGED or self._may_claim(record.group_id)
        report = self._host.observe(group, clock_ms, claiming=claiming)
        if report is None:
            return
        if report.certificate is not None:
            version = report.certificate.header.version
            self._tell(record, f"the ledger shows version {group.version}: reported version {version}")
            self._enter(record, "reported", 0, f":{version}")
        self._submitter.bring(report).add_done_callback(self._brought)

    def _reveal(self, group: Group) -> None:
        """Rule 12: what a watchtower of ours reported without its body, and the group core may have no more."""
        if group.status is Status.WEDGED and group.body is None:
            body = self._entruster.body_of(group.certificate.header)
            if body is not None:
                self._submitter.bring(Reveal(group.group_id, body))

    def _may_claim(self, group_id: Hash) -> bool:
        """Not before our watchtowers were asked what they hold: a claim below that would be provably false."""
        if self._host.groups[group_id].claim is not None or self._entruster.has_asked(group_id):
            return True
        self._entruster.ask_soon(group_id, self.nudge)
        return False

    def _brought(self, task: asyncio.Task[Output]) -> None:
        """Look at what the report did. After a refusal the next look is early enough, and no loop."""
        if not task.cancelled() and task.exception() is None and task.result().code == "ok":
            self.nudge()

    def _compare(self, record: ChannelRecord, group: Group) -> None:
        """Enter into the history what is new on layer 1."""
        if group.wedged_by is not None:
            who = "us" if group.wedged_by == record.index else "the peer"
            if record.group_id not in self.did:
                self._tell(record, f"wedged by {who}, with version {group.version}")
            self._enter(record, "wedged", 0)
        for member, forfeited in enumerate(group.forfeited):
            if forfeited:
                bond = group.agreement.members[member].bond
                if bond and not self._was_forfeited(record, member):
                    whose, whom = ("our", "the peer") if member == record.index else ("the peer's", "us")
                    self._tell(record, f"{whose} bond of {format_money(bond, self._currency)} goes to {whom}")
                self._enter(record, "forfeited", -bond if member == record.index else bond, f":{member}")
        self.seen[record.group_id] = group

    def _was_forfeited(self, record: ChannelRecord, member: int) -> bool:
        seen = self.seen.get(record.group_id)
        return seen is not None and seen.forfeited[member]

    def _close(self, record: ChannelRecord, group: Group) -> ChannelRecord:
        self._enter(record, "closed", group.payouts[record.index])
        for each in group.locks:
            units = each.lock.amount if each.paid_to == record.index else 0
            self._enter(record, "lock_settled", units, f":{each.lock.id}")
        self._history.keep()
        reason = str(group.reason) if group.reason is not None else ""
        version = max(group.version, self._version(record))
        end = {"reason": reason, "payouts": group.payouts, "version": version, "forfeited": group.forfeited}
        moved = self._book.move(record, Stage.CLOSED, **end)
        if record.group_id in self._host.groups:
            self._host.forget(record.group_id)
        self._entruster.drop_bodies(record.group_id)
        ours, theirs = (format_money(group.payouts[i], self._currency) for i in (record.index, 1 - record.index))
        self._tell(moved, f"closed ({reason}), paid out {ours} to us and {theirs} to the peer")
        return moved

    def _version(self, record: ChannelRecord) -> int:
        hosted = self._host.groups.get(record.group_id)
        return int(hosted.version) if hosted is not None else 0

    def _tell(self, record: ChannelRecord, text: str) -> None:
        if self.did.get(record.group_id) != text:
            self.did[record.group_id] = text
            _log.info("channel %s: %s", record.group_id.hex()[:12], text)

    def _enter(self, record: ChannelRecord, kind: str, amount: int, mark: str = "") -> None:
        name = record.group_id.hex()
        self._history.add(f"{name}:{kind}{mark}", kind, amount, channel=name, peer=format_address(record.peer))

    def _pause_s(self) -> float:
        live = self._book.live()
        urgent = any(
            record.stage is Stage.OPENING
            or getattr(self.seen.get(record.group_id), "wedged_by", None) is not None
            or getattr(self._host.groups.get(record.group_id), "change", None) is not None
            for record in live
        )
        if urgent:
            return URGENT_S
        if self.locking is not None and self.locking.is_urgent():
            return LOCKS_POLL_MS / 1_000
        shortest_ms = min((record.agreement.challenge_period_ms for record in live), default=0)
        return min(CALM_S, max(shortest_ms / 8_000, 0.2)) if live else CALM_S

    async def _listen(self) -> None:
        """Take what a replica tells as hints, for ever: whatever is wrong with them, the looks go on without."""
        pause_s = URGENT_S
        while True:
            try:
                await self._take_hints()
            except WedgeError as error:
                _log.debug("no events: %s", error)
            except Exception:  # noqa: BLE001 - it would end the watcher with it, for the sake of hints
                pause_s = min(2 * pause_s, CALM_S)
                _log.exception("events of the ledger cannot be taken; again in %.0f s", pause_s)
            else:
                pause_s = URGENT_S
            await asyncio.sleep(pause_s)

    async def _take_hints(self) -> None:
        """Until channels come and go, or the ledger's events end."""
        groups, head = self._watched(), await self._ledger.head()
        self.nudge()  # no hint tells what happened between two streams; from here on one does
        async with contextlib.aclosing(self._ledger.events(groups, after=head.height)) as events:
            async for event in events:
                if event.kind != "block" or self._pause_s() <= URGENT_S:
                    self.nudge()
                if self._watched() != groups:
                    return

    def _watched(self) -> list[Hash]:
        """Never empty: without a name, a stream tells of every group there is."""
        return [record.group_id for record in self._book.live()] or [ZERO_HASH]
