"""What happens to a group next, and when: in words, from its record alone.

Source: docs/design/groups.md, rules 7 to 13 and "Witnessed groups"; decision 030.
"""

from __future__ import annotations

from layer1.ledger.records import Group, Status


def what_comes_next(group: Group) -> str:
    """One sentence. Times are of the ledger clock, ms."""
    match group.status:
        case Status.OPEN:
            return "open: its members close it together, or any of them wedges it"
        case Status.CLOSED:
            return _closed(group)
        case Status.WEDGED if group.revealing is not None:
            return _waiting_for_body(group)
        case Status.WEDGED:
            return _in_dispute(group)


def _closed(group: Group) -> str:
    text = f"closed at clock {group.closed_clock_ms}: "
    if not group.pending:
        return f"{text}everybody is paid"
    units, last_ms = sum(each.lock.amount for each in group.pending), max(each.until_ms for each in group.pending)
    count = len(group.pending)
    pend = "1 lock pends" if count == 1 else f"{count} locks pend, each"
    return (
        f"{text}all but {units} units are paid: {pend} until its preimage is registered or its time is over, "
        f"{'' if count == 1 else 'the last '}at clock {last_ms}"
    )


def _in_dispute(group: Group) -> str:
    members, claims = len(group.agreement.members), sum(claim is not None for claim in group.claims)
    if group.agreement.witnesses:
        enough = f"{claims} of {members} claims are in: the last one pays version {group.version} or a higher one"
    else:
        spoken = sum(claim is not None or agreed for claim, agreed in zip(group.claims, group.concurs, strict=True))
        enough = f"{spoken} of {members} members have claimed or agreed: the last one ends the dispute"
    if group.deadline_ms is None:
        return f"in dispute without a clock: {enough}"
    text = f"in dispute: at clock {group.deadline_ms} version {group.version} is paid, unless a higher one is reported"
    if any(group.pleas):
        asked = ", ".join(str(member) for member, pleaded in enumerate(group.pleas) if pleaded)
        text += f"; member {asked} may have lost data, and who does not answer by then loses its bond"
    return f"{text}; {enough}"


def _waiting_for_body(group: Group) -> str:
    text = f"the dispute is over, and version {group.version} is paid as soon as any member reveals its body"
    if group.deadline_ms is None:
        return f"{text}; no clock runs any more"
    return f"{text}; at clock {group.deadline_ms} all others lose their bonds to those that pleaded, if any did"
