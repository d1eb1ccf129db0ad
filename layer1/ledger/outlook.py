"""What happens to a group next, and when: in words, from its record alone.

Source: docs/design/groups.md, rules 7 to 13, 24, 25 and "Witnessed groups".
"""

from __future__ import annotations

from layer1.ledger.records import Group, Status


def what_comes_next(group: Group) -> str:
    """One sentence. Times are of the ledger clock, ms."""
    match group.status:
        case Status.OPEN:
            return "open: its members close it together, or any of them wedges it"
        case Status.CLOSED:
            return f"closed at clock {group.closed_clock_ms}, everybody is paid"
        case Status.WEDGED:
            return _dispute(group)


def _dispute(group: Group) -> str:
    return f"in dispute: version {group.version} is paid at clock {group.deadline_ms}, unless a higher one is reported"
