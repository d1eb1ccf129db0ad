"""What happens to a channel next, and when: one sentence for people, from this wallet's side.

`layer1.ledger.outlook` says the same of any group, for programs and by the ledger clock.

Source: docs/design/groups.md, rules 7 to 13 and "Witnessed groups"; decision 030.
"""

from __future__ import annotations

from layer1.ledger.records import Group as LedgerGroup
from layer1.ledger.records import Status
from layer2.value import Group
from wallet.book import ChannelRecord, Stage
from wallet.period import format_duration


def what_comes_next(
    record: ChannelRecord, group: Group | None, shown: LedgerGroup | None, clock_ms: int | None
) -> str | None:
    """One or two sentences; None while there is nothing to say but that the channel is open, or was closed.

    Args:
        record: From the book.
        group: This member's side; None while it is opening and after the end.
        shown: What layer 1 last showed.
        clock_ms: Newest proven ledger clock.
    """
    if record.stage is not Stage.OPEN:
        return None
    if shown is not None and shown.status is Status.WEDGED:
        if shown.revealing is not None:
            return _awaits_body(record, group, shown, clock_ms)
        return _in_dispute(record, group, shown, clock_ms)
    if shown is not None and shown.status is Status.CLOSED and shown.pending:
        return _pending(record, shown, clock_ms)
    if group is not None and group.has_spoken:
        return "signed, and not on the ledger yet: this wallet brings it there as soon as the ledger answers"
    if group is not None and group.final is not None:
        missing = any(signature is None for signature in group.final.signatures)
        return "we signed the end; it waits for the peer" if missing else "both signed the end; it waits for the ledger"
    return None


def _in_dispute(record: ChannelRecord, group: Group | None, shown: LedgerGroup, clock_ms: int | None) -> str:
    version = f"version {shown.version}, or a newer one that anybody reports until then"
    end = _end_of_dispute(record, shown, clock_ms)
    parts = [f"the ledger settles it {end}, on {version}"]
    if any(shown.pleas):
        ours = shown.pleas[record.index]
        who, whom = ("we", "the peer") if ours else ("the peer", "we")
        bond = "its bond" if ours else "our bond (this wallet answers by itself)"
        if shown.claims[1 - record.index if ours else record.index] is not None:
            parts.append(
                f"{who} may have lost data, and {whom} {'has' if ours else 'have'} reported: no bond is at stake"
            )
        elif all(shown.pleas):
            parts.append("both may have lost data, so nobody's bond is at stake")
        else:
            parts.append(
                f"{who} may have lost data: unless {whom} report{'s' if ours else ''} by then, {bond} is forfeited"
            )
    elif group is not None and group.lost and not shown.concurs[record.index]:
        parts.append("this wallet may not claim, for it lost data; `wallet channel agree` settles it at once")
    elif shown.claims[record.index] is not None or shown.concurs[record.index]:
        parts.append("nothing more is to be done")
    if group is not None and (count := len(group.locks)):
        parts.append(f"{_payments(count)} under way: paid by preimage and expiry, whenever the channel ends")
    return "; ".join(parts)


def _pending(record: ChannelRecord, shown: LedgerGroup, clock_ms: int | None) -> str:
    """Balances are paid, and not all locks (rule 21)."""
    ours = sum(each.lock.payer == record.index for each in shown.pending)
    parts = []
    if ours:
        parts.append(f"{_payments(ours)} of ours: paid if the peer shows the preimage in time, else it comes back")
    if theirs := len(shown.pending) - ours:
        parts.append(f"{_payments(theirs)} of the peer's: ours if we show the preimage in time, else it goes back")
    last_ms = max(each.until_ms for each in shown.pending)
    done = "the ledger has settled the channel, and pays what is under way by itself"
    return f"{done}, all of it {_in(last_ms + 1, clock_ms)} at the latest; {'; '.join(parts)}"


def _end_of_dispute(record: ChannelRecord, shown: LedgerGroup, clock_ms: int | None) -> str:
    if shown.agreement.witnesses:
        enough = f"as soon as two of the three have claimed ({_count(_claims(shown))})"
        return enough if shown.deadline_ms is None else f"{enough}, at the latest {_in(shown.deadline_ms, clock_ms)}"
    return f"{_in(shown.deadline_ms, clock_ms)}, or as soon as both have claimed ({_count(_spoken(shown))})"


def _payments(count: int) -> str:
    return f"{count} conditional payment{'' if count == 1 else 's'}"


def _awaits_body(record: ChannelRecord, group: Group | None, shown: LedgerGroup, clock_ms: int | None) -> str:
    held = group is not None and any(
        state.header == shown.certificate.header for state in (group.best[0], group.state, group.committed)
    )
    text = f"the dispute is over, on version {shown.version}; the ledger knows its header alone, and pays as soon as "
    text += (
        "this wallet's copy of the state is there, which is on its way"
        if held
        else "the peer shows the state behind it"
    )
    if not any(shown.pleas) or shown.deadline_ms is None:
        return f"{text}; nobody can take the money meanwhile, however long that takes"
    whose = "the peer's" if shown.pleas[record.index] else "our"
    return f"{text}; if nobody does so {_in(shown.deadline_ms, clock_ms)}, {whose} bond is forfeited"


def _in(deadline_ms: int | None, clock_ms: int | None) -> str:
    if deadline_ms is None:
        return "without a clock"
    if clock_ms is None:
        return "at its deadline"
    left_ms = deadline_ms - clock_ms
    return f"in {format_duration(left_ms)}" if left_ms > 0 else "with its next blocks"


def _claims(shown: LedgerGroup) -> int:
    return sum(claim is not None for claim in shown.claims)


def _spoken(shown: LedgerGroup) -> int:
    return sum(claim is not None or agreed for claim, agreed in zip(shown.claims, shown.concurs, strict=True))


def _count(claims: int) -> str:
    return f"{claims} of them {'has' if claims == 1 else 'have'}"
