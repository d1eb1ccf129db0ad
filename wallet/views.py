"""What one sees of a channel: the book, the group and layer 1 put together."""

from __future__ import annotations

from collections.abc import Mapping

from layer1.crypto import format_address
from layer1.errors import RemoteError
from layer1.ledger.agreements import Lock, locked_units
from layer1.ledger.genesis import Currency
from layer1.ledger.records import Group as LedgerGroup
from layer1.ledger.records import Status
from layer2.messages import Command
from layer2.payments import Offer, Pay, read_command
from layer2.standing import waiting
from layer2.value import Group
from wallet.book import ChannelRecord, Stage
from wallet.contacts import format_endpoint
from wallet.outlook import what_comes_next
from wallet.requests import ChangeView, ChannelState, ChannelView, CurrencyView, TollView, WaitingView
from wallet.routing.announcements import Toll


def currency_view(currency: Currency) -> CurrencyView:
    """How to read amounts."""
    return CurrencyView(symbol=currency.symbol, decimals=currency.decimals)


def pending_units(group: Group) -> int:
    """What we sent and whose fate is not known: it may not be spent again."""
    return sum(_amount(command) for command in open_commands(group))


def open_commands(group: Group) -> list[Command]:
    """Ours whose fate is not known."""
    commands: list[Command] = [*group.outbox]
    if group.place.is_primary:
        commands += group.queue
        open_here = (*group.tail, *([group.pending] if group.pending is not None else []))
        commands += [command for version in open_here for command in version.batch.commands]
    return [command for command in commands if command.member == group.place.index]


def channel_view(
    record: ChannelRecord,
    group: Group | None,
    shown: LedgerGroup | None,
    clock_ms: int | None,
    notes: Mapping[str, str | None],
) -> ChannelView:
    """One channel, from this wallet's side.

    Args:
        record: From the book.
        group: This member's side; None while it is opening and after the end.
        shown: What layer 1 last showed.
        clock_ms: Newest proven ledger clock.
        notes: ``advice`` and ``watching``.
    """
    state = _state(record, group, shown)
    balances = group.committed.body.balances if group is not None else (0, 0)
    ours, theirs = balances[record.index], balances[1 - record.index]
    pending = pending_units(group) if group is not None else 0
    usable = state == "open"
    locks = _locks(group, shown)
    deadline_ms = shown.deadline_ms if shown is not None and state == "disputed" else None
    forfeited = record.forfeited or (shown.forfeited if shown is not None else (False, False))
    known = group is not None and (group.informed or bool(group.doubts))
    paid_out = record.payouts or (shown.payouts if shown is not None else ())
    return ChannelView(
        id=record.group_id.hex(),
        state=state,
        peer=format_address(record.peer),
        endpoint=format_endpoint(record.host, record.port) if record.host else None,
        connected=group.connected if group is not None else False,
        can_send=max(ours - pending, 0) if usable else 0,
        can_receive=theirs if usable else 0,
        balance=ours if group is not None and known else None,
        peer_balance=theirs if group is not None and known else None,
        recovered=group.informed if group is not None and group.lost else None,
        reserved=record.me.bond if state in ("open", "stopped", "changing", "closing") else 0,
        in_dispute=_disputed_units(record, shown, ours) if state == "disputed" else 0,
        pending=pending,
        in_locks=locked_units(locks),
        locked_by_us=locked_units(lock for lock in locks if lock.payer == record.index),
        deposit=record.me.deposit,
        peer_deposit=record.other.deposit,
        bond=record.me.bond,
        peer_bond=record.other.bond,
        version=group.version if group is not None else record.version,
        challenge_period_ms=record.agreement.challenge_period_ms,
        deadline_ms=deadline_ms,
        remaining_ms=max(deadline_ms - clock_ms, 0) if deadline_ms is not None and clock_ms is not None else None,
        paid_out=paid_out[record.index] if paid_out else None,
        peer_paid_out=paid_out[1 - record.index] if paid_out else None,
        forfeited=forfeited[record.index],
        peer_forfeited=forfeited[1 - record.index],
        reason=record.reason or None,
        advice=notes.get("advice") if record.live else None,
        watching=notes.get("watching"),
        waiting=_waiting(record, group) if record.live else None,
        witness=_witness(record),
        committed_version=group.committed.version if group is not None and group.place.witnessed else None,
        claimed=_claimed(record, shown) if state == "disputed" else (),
        epoch=group.epoch if group is not None else record.epoch,
        change=_change(record, group, clock_ms) if record.live else None,
        next=what_comes_next(record, group, shown, clock_ms),
        copied=bool(group is not None and group.doubts),
        toll=_toll(record.toll) if record.live else None,
    )


def _locks(group: Group | None, shown: LedgerGroup | None) -> tuple[Lock, ...]:
    """Those under way: of the newest committed state, or what layer 1 has yet to pay."""
    if shown is not None and shown.status is Status.CLOSED:
        return tuple(each.lock for each in shown.pending)
    return () if group is None else group.committed.body.locks


def _toll(toll: Toll) -> TollView:
    return TollView(
        forwards=toll.enabled,
        base=toll.fee_base,
        per_million=toll.fee_ppm,
        least=toll.min_amount,
        most=toll.max_amount,
    )


def _change(record: ChannelRecord, group: Group | None, clock_ms: int | None) -> ChangeView | None:
    if group is None or group.change is None:
        return None
    terms, me = group.change.terms, record.index
    keys = [tuple(m.key for m in agreement.members) for agreement in (group.place.agreement, terms.agreement)]
    unsigned = group.change.signatures[1 - me] is None
    return ChangeView(
        amount=terms.amounts[me],
        peer_amount=terms.amounts[1 - me],
        keys=keys[0] != keys[1],
        expires_ms=terms.expires_ms,
        remaining_ms=max(terms.expires_ms - clock_ms, 0) if clock_ms is not None else None,
        unsigned=(format_address(record.peer),) if unsigned else (),
    )


def _state(record: ChannelRecord, group: Group | None, shown: LedgerGroup | None) -> ChannelState:
    match record.stage:
        case Stage.OPENING:
            return "opening"
        case Stage.FAILED:
            return "failed"
        case Stage.CLOSED:
            return "closed"
        case Stage.OPEN:
            pass
    if shown is not None and shown.status is not Status.OPEN:
        return "disputed" if shown.status is Status.WEDGED else "closed"
    if group is not None and group.has_spoken:
        return "disputed"
    if group is not None and (group.closing or group.final is not None):
        return "closing"
    if group is not None and group.change is not None:
        return "changing"
    return "stopped" if group is not None and (group.lost or group.bereft) else "open"


def _waiting(record: ChannelRecord, group: Group | None) -> WaitingView | None:
    found = None if group is None else waiting(group)
    if found is None:
        return None
    parts = (found.unsigned, found.absent, found.unacknowledged)
    unsigned, absent, silent = (tuple(_address(record, place) for place in part) for part in parts)
    return WaitingView(
        version=found.version, unsigned=unsigned, absent=absent, final=found.final, unacknowledged=silent
    )


def _address(record: ChannelRecord, place: int) -> str:
    """Who a member, or a witness, is to people."""
    if place == record.index:
        return format_address(record.me.funding)
    witnesses = record.agreement.witnesses
    return format_address(witnesses[place - 2].key if place >= 2 else record.peer)


def _witness(record: ChannelRecord) -> str | None:
    found = next(iter(record.agreement.witnesses), None)
    return None if found is None else f"{format_address(found.key)}@{found.contact}"


def _claimed(record: ChannelRecord, shown: LedgerGroup | None) -> tuple[str, ...]:
    claims = () if shown is None else shown.claims
    return tuple(_address(record, place) for place, claim in enumerate(claims) if claim is not None)


def _disputed_units(record: ChannelRecord, shown: LedgerGroup | None, ours: int) -> int:
    lost = shown is not None and shown.forfeited[record.index]
    return ours + (0 if lost else record.me.bond)


def _amount(command: Command) -> int:
    try:
        request = read_command(command.payload)
    except RemoteError:
        return 0
    return request.amount if isinstance(request, Pay | Offer) else 0
