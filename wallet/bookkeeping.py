"""The books of a wallet: what it has and where, and whether that adds up. Pure arithmetic, in minor units.

What: each channel is counted three times, from the state that both members signed, from what layer 1 holds for the
group, and from the history. A unit that stands in one of them only is named.

- The state: both balances and the locks add up to the funding that the members agreed on.
- Layer 1: it holds that funding and the bonds.
- The history: what we put in, plus what we received, less what we paid and took out, is our balance.

Price-free: there is one currency, and no other is asked what it is worth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from msgspec import structs

from layer1.header import Header
from layer1.ledger.agreements import Lock
from layer1.ledger.records import Group as LedgerGroup
from layer1.ledger.records import Status
from layer2.value import Group
from wallet.book import ChannelRecord, Stage
from wallet.history import EPOCH_BITS, NOTES, Sums
from wallet.requests import BooksView, ChannelBooksView, CurrencyView

BESIDE_PAYMENTS = {"opened", "closed", "topped_up", "withdrawn", "forfeited", "lock_settled"} | NOTES
"""Kinds of entries whose amounts move between a channel and accounts, or repeat what others say; all others move
between its members."""


@dataclass(frozen=True, slots=True)
class Sources:
    """Where the three counts of one channel come from."""

    record: ChannelRecord
    group: Group | None
    """This member's side; None while it is opening and after the end."""
    shown: LedgerGroup | None
    """Proven by layer 1; None if it has no such group."""
    sums: Sums = field(default_factory=Sums)
    held_back: bool = False
    """Whether the history waits for a watchtower that is relied on."""


def ordinal_of(group: Group) -> int:
    """Up to which version the history may be compared with this state; what comes meanwhile is in neither."""
    return group.epoch << EPOCH_BITS | group.committed.version


def channel_books(sources: Sources) -> ChannelBooksView:
    """One channel, counted three times."""
    record, group, sums = sources.record, sources.group, sources.sums
    live = record.live and group is not None and not _is_settled(sources)
    ours, theirs = _state_units(sources)
    pending = _locks(sources)
    bonds = (record.me.bond, record.other.bond) if live else (0, 0)
    on_ledger = sources.shown.locked_units if sources.shown is not None else 0
    expected = _expected_units(sources)
    view = ChannelBooksView(
        id=record.group_id.hex(),
        open=live,
        balance=ours,
        peer_balance=theirs,
        locked=sum(lock.amount for lock in pending),
        locked_by_us=sum(lock.amount for lock in pending if lock.payer == record.index),
        bond=bonds[0],
        peer_bond=bonds[1],
        on_ledger=on_ledger,
        put_in=-(sums.units["opened"] + sums.units["topped_up"]),
        taken_out=sums.units["withdrawn"] + sums.units["closed"],
        received=sums.units["received"] + sums.units["received_lock"],
        paid=-(sums.units["paid"] + sums.units["locked"] + sums.units["unlocked"]),
        forfeits=sums.units["forfeited"],
        earned_in=sums.units["forwarded"],
        earned_out=sums.earned_out,
        fees_paid=sums.fees,
        rebalancing=sums.rebalancing,
        by_history=expected,
        differences=(),
    )
    return structs.replace(view, differences=tuple(_differences(view, sources)))


def _is_settled(sources: Sources) -> bool:
    """Whether layer 1 has paid the balances out, though locks may pend: they are in the accounts then."""
    return sources.shown is not None and sources.shown.status is Status.CLOSED


def _state_units(sources: Sources) -> tuple[int, int]:
    """Our balance and the peer's, by the newest committed state; of a closed channel nothing."""
    record, group = sources.record, sources.group
    if group is None or not record.live or _is_settled(sources):
        return 0, 0
    balances = group.committed.body.balances
    return balances[record.index], balances[1 - record.index]


def _locks(sources: Sources) -> tuple[Lock, ...]:
    """Those under way, by the newest committed state; of a settled channel those that layer 1 has yet to pay."""
    record, group, shown = sources.record, sources.group, sources.shown
    if shown is not None and shown.status is Status.CLOSED:
        return tuple(each.lock for each in shown.pending)
    return group.committed.body.locks if record.live and group is not None else ()


def _expected_units(sources: Sources) -> int | None:
    """Our balance by the history, or what settlement should have paid; None if it does not tell.

    Pruned payments, a channel that was restored, and one that is opening leave it without an answer.
    """
    record, group, sums = sources.record, sources.group, sources.sums
    if sources.held_back or record.name or record.stage not in (Stage.OPEN, Stage.CLOSED):
        return None
    epoch = group.epoch if group is not None else record.epoch
    version = group.committed.version if group is not None else record.version
    if not sums.is_whole(epoch, version):
        return None
    if group is not None and epoch != record.epoch:
        return None
    moved = sum(units for kind, units in sums.units.items() if kind not in BESIDE_PAYMENTS)
    changed = sums.units["topped_up"] + sums.units["withdrawn"]
    return record.opening.members[record.index].deposit + moved - changed


def _differences(view: ChannelBooksView, sources: Sources) -> list[str]:
    """What does not add up, with both numbers."""
    record, shown = sources.record, sources.shown
    name, found = view.id[:12], []
    if view.open and (shown is None or shown.epoch == record.epoch):
        state, agreed = view.balance + view.peer_balance + view.locked, record.agreement.funding_units
        if state != agreed:
            found.append(f"channel {name}: the state has {state} units, the members agreed on {agreed}")
        held = state + view.bond + view.peer_bond
        if shown is not None and shown.status is not Status.CLOSED and held != view.on_ledger:
            found.append(f"channel {name}: state and bonds have {held} units, the ledger holds {view.on_ledger}")
        if view.by_history is not None and view.by_history != view.balance:
            found.append(f"channel {name}: the history makes {view.by_history} units ours, the state {view.balance}")
    if record.stage is Stage.CLOSED:
        found += _end_differences(view, sources)
    return found


def _end_differences(view: ChannelBooksView, sources: Sources) -> list[str]:
    record, shown, name = sources.record, sources.shown, view.id[:12]
    ours = record.payouts[record.index] if record.payouts else 0
    found = []
    if shown is not None and shown.payouts and shown.payouts[record.index] != ours:
        found.append(f"channel {name}: the ledger paid {shown.payouts[record.index]} units, the book has {ours}")
    if sources.sums.units["closed"] != ours:
        entered = sources.sums.units["closed"]
        found.append(f"channel {name}: the history says that {entered} units were paid out, the book {ours}")
    disputed = any(record.forfeited) or (shown is not None and (bool(shown.locks) or bool(shown.bounties)))
    if view.by_history is not None and not disputed and view.by_history + record.me.bond != ours:
        expected = view.by_history + record.me.bond
        found.append(f"channel {name}: the history makes {expected} units ours at the end, {ours} were paid out")
    return found


def books_of(accounts: Sequence[int], sources: Sequence[Sources], header: Header, currency: CurrencyView) -> BooksView:
    """The whole, from what spending and savings have, and the channels."""
    channels = tuple(map(channel_books, sources))
    in_channels, bonds = (sum(getattr(channel, name) for channel in channels) for name in ("balance", "bond"))
    differences = tuple(text for channel in channels for text in channel.differences)
    return BooksView(
        height=header.height,
        clock_ms=header.clock,
        spending=accounts[0],
        savings=accounts[1],
        in_channels=in_channels,
        bonds=bonds,
        in_locks=sum(channel.locked for channel in channels),
        locked_by_us=sum(channel.locked_by_us for channel in channels),
        fees_earned=sum(channel.earned_in for channel in channels),
        fees_paid=sum(channel.fees_paid for channel in channels),
        rebalancing=sum(channel.rebalancing for channel in channels),
        total=sum(accounts) + in_channels + bonds,
        channels=channels,
        adds_up=not differences,
        differences=differences,
        currency=currency,
    )
