"""How a group ends: what each member is paid, by all members' word, by enough claims, or at the deadline.

Safety: a closed group paid out exactly what it locked, once.

Balances and locks add up to the funding in every state that layer 1 accepts, a lock is paid once, when it is certain to
whom (`layer1.ledger.locks`), a bond is returned or split without remainder, a
bounty is taken from what its member gained, and a closed group refuses everything. Settling reads nothing but the
record, so it cannot fail (rule 11). A body that adds up to something else is never paid: if all members signed such a
one, all are at fault, and their FINAL is what is left.

Source: docs/design/groups.md, rules 7, 10 to 13 and 15 to 17; decision 030.
Deviation: after the deadline nothing but settlement closes a group, FINAL neither: when due work is carried over
(rule 11), the outcome must not depend on how long the queue is.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import structs

from layer1.errors import Refused, check
from layer1.ledger.agreements import Final, GroupAgreement, Lock, verify_final
from layer1.ledger.records import Bounty, ClosedLock, Forfeit, Group, Reason, Status
from layer1.ledger.transactions import CloseGroup


def shares(units: int, count: int) -> tuple[int, ...]:
    """Split `units` among `count`, as evenly as integers go; the first ones get one unit more of the remainder."""
    each, rest = divmod(units, count)
    return tuple(each + 1 if i < rest else each for i in range(count))


def gains(agreement: GroupAgreement, forfeits: Sequence[Forfeit | None], pleas: Sequence[bool]) -> tuple[int, ...]:
    """What each member gets of others' forfeited bonds, in the agreement's order.

    Rule 15: a liar's goes to the other members, whatever they did themselves. Rules 12 and 13: that of a member that
    owed a pleader an answer, or the body, goes to who pleaded; nobody forfeits one so unless another has pleaded.
    """
    gained = [0] * len(agreement.members)
    for i, why in enumerate(forfeits):
        if why is None:
            continue
        heirs = [j for j in range(len(gained)) if j != i and (why is Forfeit.LIE or pleas[j])]
        for j, share in zip(heirs, shares(agreement.members[i].bond, len(heirs)), strict=True):
            gained[j] += share
    return tuple(gained)


def entitlements(
    agreement: GroupAgreement, balances: Sequence[int], forfeits: Sequence[Forfeit | None], pleas: Sequence[bool]
) -> tuple[int, ...]:
    """What each member is due: its balance, its bond unless forfeited, and its shares of others' forfeited bonds.

    Rule 16: a balance is never touched.
    """
    gained = gains(agreement, forfeits, pleas)
    bonds = [member.bond if why is None else 0 for member, why in zip(agreement.members, forfeits, strict=True)]
    return tuple(map(sum, zip(balances, bonds, gained, strict=True)))


def settle(group: Group, reason: Reason, clock_ms: int) -> Group:
    """Close on the highest accepted state (rules 10 and 11), or wait until somebody reveals it (rule 12)."""
    if group.body is not None:
        return _closed(group, group.body.balances, reason, clock_ms, group.body.locks)
    return structs.replace(group, revealing=reason, deadline_ms=clock_ms + group.agreement.challenge_period_ms)


def fall_due(group: Group, clock_ms: int) -> Group:
    """What a deadline does: it settles the dispute (rule 11), or ends the wait for the body (rule 12)."""
    if group.revealing is None:
        return settle(with_silent(group), Reason.DEADLINE, clock_ms)
    return structs.replace(with_hidden(group), deadline_ms=None)


def with_silent(group: Group) -> Group:
    """Rule 13: who has not answered a plea forfeits its bond: by a claim that counted, a plea, or a delegate."""
    spoken = [
        pleaded or claim is not None or has_reported(group, i)
        for i, (pleaded, claim) in enumerate(zip(group.pleas, group.claims, strict=False))
    ]
    return _forfeiting(group, spoken, Forfeit.SILENT)


def with_hidden(group: Group) -> Group:
    """Rule 12: who signed the header, and neither revealed the body nor pleaded, forfeits its bond.

    That is all members but those who pleaded: whoever reveals ends the wait.
    """
    return _forfeiting(group, group.pleas, Forfeit.HIDDEN)


def has_reported(group: Group, member: int) -> bool:
    """Rule 17: whether a delegate reported in time for this member: what is settled on, or one version below.

    One below, for a member may sign a version beyond what its delegate has; not less, or a member could answer a plea
    by a delegate of its own with something old, and risk nothing.
    """
    delegate = group.delegates[member]
    return delegate is not None and delegate.version + 1 >= group.version


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


def check_amounts(agreement: GroupAgreement, amounts: Sequence[int], code: str, locked: int = 0) -> None:
    """Refuse amounts that are not one per member, each >= 0, adding up to the funding, less what is `locked`."""
    members, funding = len(agreement.members), agreement.funding_units
    check(len(amounts) == members, code, f"{len(amounts)} amounts for {members} members; give one each")
    check(min(amounts) >= 0, code, f"an amount is {min(amounts)}; all are 0 or more")
    total = sum(amounts) + locked
    check(total == funding, code, f"amounts add up to {total}, the funding is {funding}; make them equal")


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


def _forfeiting(group: Group, excused: Sequence[bool], why: Forfeit) -> Group:
    """Without anybody who pleaded nobody is owed anything: bonds would only change places among the guilty."""
    if not any(group.pleas):
        return group
    lost = tuple(
        before if before is not None or free else why for before, free in zip(group.forfeits, excused, strict=True)
    )
    return structs.replace(group, forfeits=lost)


def _bounties(group: Group) -> tuple[Bounty, ...]:
    """Rule 17: out of the member's own share of a forfeited bond, and never more than that."""
    found = []
    for i, gained in enumerate(gains(group.agreement, group.forfeits, group.pleas)):
        delegate = group.delegates[i]
        if delegate is not None and has_reported(group, i) and (units := min(delegate.bounty, gained)):
            found.append(Bounty(i, delegate.account, units))
    return tuple(found)


def _closed(group: Group, balances: Sequence[int], reason: Reason, clock_ms: int, locks: Sequence[Lock] = ()) -> Group:
    bounties = _bounties(group)
    due = list(entitlements(group.agreement, balances, group.forfeits, group.pleas))
    for bounty in bounties:
        due[bounty.member] -= bounty.units
    return structs.replace(
        group,
        status=Status.CLOSED,
        payouts=tuple(due),
        bounties=bounties,
        reason=reason,
        closed_clock_ms=clock_ms,
        locks=tuple(ClosedLock(lock, lock.expiry_ms) for lock in locks),
    )
