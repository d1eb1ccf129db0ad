"""How a group ends: what each member is paid, by all members' word, by all members' claims, or at the deadline.

Safety: a closed group paid out exactly what it locked, once.

Balances add up to the funding in every state that layer 1 accepts, a bond is returned or split without remainder, and
a closed group refuses everything. Settling reads nothing but the record, so it cannot fail (rule 11).

Source: docs/design/groups.md, rules 7, 10, 11, 15 and 16.
Deviation: after the deadline nothing but settlement closes a group, FINAL neither: when due work is carried over
(rule 11), the outcome must not depend on how long the queue is.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import structs

from layer1.errors import Refused, check
from layer1.ledger.agreements import Final, GroupAgreement, verify_final
from layer1.ledger.records import Group, Reason, Status
from layer1.ledger.transactions import CloseGroup


def shares(units: int, count: int) -> tuple[int, ...]:
    """Split `units` among `count`, as evenly as integers go; the first ones get one unit more of the remainder."""
    each, rest = divmod(units, count)
    return tuple(each + 1 if i < rest else each for i in range(count))


def entitlements(agreement: GroupAgreement, balances: Sequence[int], forfeited: Sequence[bool]) -> tuple[int, ...]:
    """What each member is paid: its balance, its bond unless forfeited, and its shares of others' forfeited bonds.

    Rule 15: a forfeited bond goes to the other members, in the agreement's order, whatever they did themselves.
    Rule 16: a balance is never touched.
    """
    due = list(balances)
    for i, member in enumerate(agreement.members):
        if not forfeited[i]:
            due[i] += member.bond
            continue
        others = [j for j in range(len(due)) if j != i]
        for j, share in zip(others, shares(member.bond, len(others)), strict=True):
            due[j] += share
    return tuple(due)


def settle(group: Group, reason: Reason, clock_ms: int) -> Group:
    """Close on the highest accepted state (rules 10 and 11)."""
    assert group.body is not None, "no certificate comes without its body yet"
    return _closed(group, group.body.balances, reason, clock_ms)


def close(group: Group, request: CloseGroup, clock_ms: int) -> Group:
    """Close on a payout that all members signed, open or wedged (rule 7). A forfeit that has happened stands.

    Raises:
        Refused: ``group_closed``, ``past_deadline``, ``wrong_epoch``, ``bad_payout`` or ``bad_signature``.
    """
    final = request.final
    check_live(group, clock_ms)
    check(final.epoch == group.epoch, "wrong_epoch", f"FINAL is of epoch {final.epoch}, the group in {group.epoch}")
    check_amounts(group.agreement, final.payout, "bad_payout")
    _check_final_signatures(group.agreement, final, request.signatures)
    return _closed(group, final.payout, Reason.FINAL, clock_ms)


def short(name: bytes) -> str:
    """Some bytes of a stranger for an error text: the first 32, in hex."""
    return name[:32].hex()


def check_live(group: Group, clock_ms: int) -> None:
    """Refuse what comes after the end, which the deadline is even before the group's turn to settle (rule 9)."""
    if group.status is Status.CLOSED:
        raise Refused("group_closed", f"the group was closed at clock {group.closed_clock_ms} and is paid out")
    if group.deadline_ms is not None and clock_ms >= group.deadline_ms:
        raise Refused("past_deadline", f"clock {clock_ms} is at or past the deadline {group.deadline_ms}")


def check_amounts(agreement: GroupAgreement, amounts: Sequence[int], code: str) -> None:
    """Refuse amounts that are not one per member, each >= 0, adding up to the funding."""
    members, funding = len(agreement.members), agreement.funding_units
    check(len(amounts) == members, code, f"{len(amounts)} amounts for {members} members; give one each")
    check(min(amounts) >= 0, code, f"an amount is {min(amounts)}; all are 0 or more")
    check(sum(amounts) == funding, code, f"amounts add up to {sum(amounts)}, the funding is {funding}; make them equal")


def _check_final_signatures(agreement: GroupAgreement, final: Final, signatures: Sequence[bytes]) -> None:
    members = agreement.members
    check(
        len(signatures) == len(members),
        "bad_signature",
        f"FINAL carries {len(signatures)} signatures for {len(members)} members; all must sign",
    )
    for i, (member, signature) in enumerate(zip(members, signatures, strict=True)):
        good = verify_final(member, agreement.chain_id, final, signature)
        check(good, "bad_signature", f"signature {i} on FINAL is not by member {i}'s key {member.key.hex()}")


def _closed(group: Group, balances: Sequence[int], reason: Reason, clock_ms: int) -> Group:
    return structs.replace(
        group,
        status=Status.CLOSED,
        payouts=entitlements(group.agreement, balances, group.forfeited),
        reason=reason,
        closed_clock_ms=clock_ms,
    )
