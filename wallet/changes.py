"""Changing open channels: what our owner wants, and what is signed without asking it.

*Safety:* nothing is paid in, taken out or replaced for us but by our owner's own request; what a peer wants is signed
unasked only if nothing of ours changes by it (`layer2.terms.check_unasked`).

A change that the peer does not answer in time is not wanted any more. Once it is signed only layer 1 ends it: it takes
it, or it expires, :data:`LIFE_MS` after it was asked for; until then the channel takes no payments.

Source: docs/design/groups.md, rules 24 and 25; decision 034.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Collection, Sequence

from msgspec import structs

from layer1.crypto import Hash, PublicKey
from layer1.errors import Refused, WedgeError, check
from layer1.ledger.agreements import GroupAgreement, Member, Witness
from layer2.changing import successor_under
from layer2.events import ChangeAsked
from layer2.terms import Terms, change_members, check_unasked
from layer2.value import Group
from wallet.book import ChannelRecord
from wallet.follower import Follower
from wallet.parts import Parts
from wallet.period import format_duration
from wallet.requests import Progress, Report

Engage = Callable[[GroupAgreement], Awaitable[None]]
"""Asks a witness for its promise; raises Refused without one."""
LIFE_MS = 60_000
"""On the ledger clock, from asking to expiry: for so long a change that nobody brings keeps the channel from paying."""
ANSWER_S = 20.0
"""How long a peer may take to sign: it looks at the ledger first."""
LOOK_S = 0.3
"""Between looks at layer 1 while somebody waits for a change."""
_log = logging.getLogger(__name__)


class Changes:
    """Answers peers who want to change a channel."""

    def __init__(self, parts: Parts, follower: Follower) -> None:
        self._parts = parts
        self._follower = follower
        self._tasks: dict[Hash, asyncio.Task[None]] = {}
        self.witnesses: Callable[[], Collection[PublicKey]] = tuple
        """Whom our owner accepts as witnesses, beforehand."""
        parts.observer.on_change_asked = self._asked
        parts.observer.on_look = lambda _: follower.nudge()

    async def close(self) -> None:
        """Give up answers that are being made."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _asked(self, group_id: Hash, event: ChangeAsked) -> None:
        """Only the newest question of each channel is answered."""
        before = self._tasks.pop(group_id, None)
        if before is not None:
            before.cancel()
        self._tasks[group_id] = asyncio.create_task(self._answer(group_id, event.terms))

    async def _answer(self, group_id: Hash, terms: Terms) -> None:
        host, record = self._parts.host, self._parts.book.get(group_id)
        if record is None or group_id not in host.groups:
            return
        try:
            clock_ms = await self._parts.ledger.clock()
            before = host.groups[group_id].place.agreement
            check_unasked(terms, before, record.index, clock_ms, witnesses=self.witnesses())
            host.agree(group_id, terms, clock_ms)
        except Refused as error:
            _log.info("channel %s is not changed: %s", group_id.hex()[:12], error)
            host.decline(group_id, error.code, error.message)
        except (WedgeError, OSError) as error:
            _log.warning("a change could not be answered: %s", error)
            host.decline(group_id, "unavailable", "it cannot answer now: try again later")
        self._follower.nudge()


async def resize(parts: Parts, follower: Follower, record: ChannelRecord, units: int, report: Report) -> None:
    """Pay `units` into our side of a channel, or take them out below 0; on return layer 1 has it.

    Raises:
        Refused: It is as it was: ``declined`` codes of the peer, ``insufficient_balance``, ``peer_silent``; or
            ``expired``, if layer 1 did not take it in time.
        LedgerUnreachable: Before anything was signed.
    """
    sums = [units if seat == record.index else 0 for seat in range(len(record.agreement.members))]
    await _change(parts, follower, record, {}, sums, report=report)


async def replace_key(parts: Parts, follower: Follower, record: ChannelRecord, report: Report) -> None:
    """Sign with a fresh key from the next epoch on. The book has it before anybody else. Raises as :func:`resize`."""
    number = parts.book.take_key_index()
    parts.book.put(structs.replace(record, later_keys=(*record.later_keys, number)))
    member = structs.replace(record.me, key=parts.keys.group_key(number).public)
    await _change(parts, follower, record, {record.index: member}, [0, 0], report=report)


async def replace_witness(
    parts: Parts, follower: Follower, record: ChannelRecord, witness: tuple[Witness, Engage], report: Report
) -> None:
    """Have another witness from the next epoch on; it promises first. Raises as :func:`resize`, and as `Engage`."""
    await _change(parts, follower, record, {}, [0, 0], report=report, witness=witness)


async def _change(
    parts: Parts,
    follower: Follower,
    record: ChannelRecord,
    changed: dict[int, Member],
    sums: Sequence[int],
    *,
    report: Report,
    witness: tuple[Witness, Engage] | None = None,
) -> None:
    group_id, clock_ms = record.group_id, await parts.ledger.clock()
    group = _group(parts, group_id)
    agreement, promised = group.place.agreement, b""
    if witness is not None:
        agreement = _with_witness(agreement, witness[0])
    terms = change_members(agreement, group.epoch, changed, sums, expires_ms=clock_ms + LIFE_MS, salt=os.urandom(16))
    if witness is not None:
        report(Progress("asking the witness"))
        promised = await _engage(group, terms, witness[1])
    report(Progress("asking the peer"))
    work = asyncio.create_task(parts.host.change(group_id, terms, clock_ms))
    try:
        signed = await parts.signals.until(lambda: _is_signed(parts, group_id, work), ANSWER_S)
        if signed is None:
            parts.host.decline(group_id, "peer_silent", _silent(parts, group_id))
        change = _group(parts, group_id).change if signed and not work.done() else None
        if witness is not None and change is not None and change.successor.agreement.hash != promised:
            await witness[1](change.successor.agreement)  # a payment came between: the amounts are others
        while not work.done():
            left_ms = max(terms.expires_ms - (follower.clock_ms or clock_ms), 0)
            text = f"waiting for the ledger; it takes it within {format_duration(left_ms)} or never"
            report(Progress(text, (LIFE_MS - left_ms) // 1000, LIFE_MS // 1000))
            follower.nudge()
            await asyncio.wait({work}, timeout=LOOK_S)
        await work
    finally:
        if not work.done():  # whoever asked is gone: what is not signed is not wanted any more
            work.cancel()
            parts.host.decline(group_id, "interrupted", "the peer's owner has interrupted it")


def _with_witness(agreement: GroupAgreement, witness: Witness) -> GroupAgreement:
    old = agreement.witnesses
    check(bool(old), "no_witness", "this channel has no witness to replace: open another with `--witness`")
    check(witness != old[0], "bad_contact", "that is the channel's witness already")
    return structs.replace(agreement, witnesses=(witness,))


async def _engage(group: Group, terms: Terms, engage: Engage) -> Hash:
    """The witness promises to serve the agreement that follows from the newest state; its hash."""
    agreement = successor_under(group, terms).agreement
    await engage(agreement)
    return agreement.hash


def _is_signed(parts: Parts, group_id: Hash, work: asyncio.Task[None]) -> bool | None:
    group = parts.host.groups.get(group_id)
    signed = group is not None and group.change is not None and None not in group.change.signatures
    return True if work.done() or signed else None


def _silent(parts: Parts, group_id: Hash) -> str:
    text = f"the peer did not sign within {ANSWER_S:.0f} s"
    group = parts.host.groups.get(group_id)
    if group is None or group.change is None:
        return f"{text}: nothing is changed, try again"
    return f"{text}, and we have: the channel takes no payments until the change expires, then all is as it was"


def _group(parts: Parts, group_id: Hash) -> Group:
    group = parts.host.groups.get(group_id)
    if group is None:
        raise Refused("channel_not_open", f"channel {group_id.hex()[:12]} is not open")
    return group
