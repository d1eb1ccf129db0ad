"""What members of an open group want to become of it, and the one successor that follows from that: pure arithmetic.

Safety: whatever the terms are, nobody's share changes but by what it pays in or takes out itself.

Terms say what changes, never how much anybody has; all amounts follow from the newest certified state, by the same
computation at every member. A member that stays keeps its balance and its bond, plus what goes from its funding account
into the group, less what goes from the group to its payout account; one that is replaced gets all it has.

Source: docs/design/groups.md, rules 24 and 25; decision 034.
Deviation: the number of members, and of witnesses, stays: a machine's state is for so many.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from msgspec import structs

from layer1.codec import Struct
from layer1.crypto import PublicKey
from layer1.errors import Refused, check
from layer1.ledger.agreements import Body, GroupAgreement, GroupHeader, Member, Payment, Successor
from layer1.ledger.changing import MAX_CHANGE_MS
from layer1.ledger.genesis import MAX_MONEY

SALT_BYTES = 16


class Terms(Struct):
    """A change of an open group, seat by seat."""

    epoch: int
    """The one that it ends."""
    agreement: GroupAgreement
    """Of the next epoch, with deposits of 0: they follow from the newest state. `open_before_ms` is its expiry."""
    amounts: tuple[int, ...]
    """Minor units per seat, added to its balance: paid in above 0, taken out below. Who is new begins with it."""

    @property
    def expires_ms(self) -> int:
        """Ledger clock from which layer 1 takes it no more."""
        return self.agreement.open_before_ms


def change_amounts(
    agreement: GroupAgreement, epoch: int, amounts: Sequence[int], expires_ms: int, salt: bytes
) -> Terms:
    """Terms by which members pay in or take out, and all else stays: a RESIZE."""
    return change_members(agreement, epoch, {}, amounts, expires_ms=expires_ms, salt=salt)


def change_members(
    agreement: GroupAgreement,
    epoch: int,
    changed: dict[int, Member],
    amounts: Sequence[int],
    *,
    expires_ms: int,
    salt: bytes,
) -> Terms:
    """Terms by which seats get other members, or members other keys: a RECONFIGURE.

    Args:
        agreement: Of the present epoch.
        epoch: Its number.
        changed: By seat, its member from then on; the deposit in it is left aside.
        amounts: See :class:`Terms`.
        expires_ms: See :class:`Terms`.
        salt: 16 fresh random bytes.
    """
    members = tuple(
        structs.replace(changed.get(seat, member), deposit=0) for seat, member in enumerate(agreement.members)
    )
    after = structs.replace(agreement, members=members, open_before_ms=expires_ms, salt=salt)
    return Terms(epoch, after, tuple(amounts))


def successor_of(
    terms: Terms, before: GroupAgreement, header: GroupHeader, body: Body, machine_state: bytes
) -> Successor:
    """What all members sign.

    Args:
        terms: What all want.
        before: Agreement of the ending epoch.
        header: Of the newest certified state.
        body: Behind it.
        machine_state: The machine's encoding of its state, also where version 0 leaves it empty.

    Raises:
        Refused: ``wrong_epoch``, ``bad_terms``, or ``insufficient_balance``: more would be taken out than there is.
    """
    _check_form(terms, before, header.epoch)
    deposits: dict[PublicKey, int] = {}
    withdrawals: dict[PublicKey, int] = {}
    members = []
    for seat, (old, new) in enumerate(zip(before.members, terms.agreement.members, strict=True)):
        amount, balance = terms.amounts[seat], body.balances[seat]
        if stays(old, new):
            kept, flow = balance + amount, amount + new.bond - old.bond
        else:
            kept, flow = amount, amount + new.bond
            _add(withdrawals, old.payout, balance + old.bond)
        check(
            kept >= 0,
            "insufficient_balance",
            f"{-amount} units would be taken out of a balance of {balance}: take out less, or be paid first",
        )
        _add(deposits, new.funding, max(flow, 0))
        _add(withdrawals, new.payout, max(-flow, 0))
        members.append(structs.replace(new, deposit=kept))
    return Successor(
        header.chain_id,
        header.group_id,
        header.epoch,
        header.hash,
        header.version,
        structs.replace(terms.agreement, members=tuple(members)),
        machine_state,
        tuple(Payment(account, units) for account, units in deposits.items()),
        tuple(Payment(account, units) for account, units in withdrawals.items()),
    )


def stays(old: Member, new: Member) -> bool:
    """Whether a seat is the same person's before and after: who paid for it, and by whose identity links are known."""
    return old.funding == new.funding


def check_unasked(
    terms: Terms, before: GroupAgreement, seat: int, clock_ms: int, *, witnesses: Collection[PublicKey] = ()
) -> None:
    """Raise Refused unless this member may sign without asking its user: nothing changes for it.

    Others may pay in and take out what is theirs, and make new keys for themselves. Whoever is new, whatever changes
    for us or for all, and lower bonds, at which a lie costs less, are for the user to decide.

    Args:
        terms: What is wanted.
        before: Agreement of the present epoch.
        seat: Ours.
        clock_ms: Newest proven ledger clock.
        witnesses: Whom our user accepts as witnesses, beforehand: these may take others' places.

    Raises:
        Refused: ``policy``.
    """
    after = terms.agreement
    check_window(terms, clock_ms)
    mine = structs.replace(before.members[seat], deposit=0)
    check(
        after.members[seat] == mine and terms.amounts[seat] == 0, "policy", "the change is of our own part: not unasked"
    )
    accepted = all(each in before.witnesses or each.key in witnesses for each in after.witnesses)
    known = before.witnesses if accepted else after.witnesses
    same = structs.replace(
        after, members=before.members, witnesses=known, open_before_ms=before.open_before_ms, salt=before.salt
    )
    check(same == before, "policy", "the change is of more than members' parts: period, limits, machine or witnesses")
    for index, (old, new) in enumerate(zip(before.members, after.members, strict=True)):
        check(stays(old, new), "policy", f"member {index} would be somebody else: its owner has to agree to that")
        check(new.bond >= old.bond, "policy", f"member {index}'s bond would fall from {old.bond} to {new.bond}")


def check_window(terms: Terms, clock_ms: int) -> None:
    """Raise Refused ``policy`` unless a change expires within ten minutes: so long nothing else may be signed."""
    left = terms.expires_ms - clock_ms
    check(0 < left <= MAX_CHANGE_MS, "policy", f"the change would expire in {left} ms; 1 to {MAX_CHANGE_MS} may be")


def _check_form(terms: Terms, before: GroupAgreement, epoch: int) -> None:
    after = terms.agreement
    check(terms.epoch == epoch, "wrong_epoch", f"the change ends epoch {terms.epoch}, the group is in {epoch}")
    sizes = (len(after.members), len(terms.amounts), len(after.witnesses))
    wanted = (len(before.members), len(before.members), len(before.witnesses))
    check(sizes == wanted, "bad_terms", f"{sizes} members, amounts and witnesses; the group has {wanted}")
    check(after.machine == before.machine, "bad_terms", f"the machine would be {after.machine[:64]!r}: it stays")
    check(after.chain_id == before.chain_id, "bad_terms", "the agreement is of another chain")
    check(len(after.salt) == SALT_BYTES, "bad_terms", f"a salt of {len(after.salt)} bytes; it has {SALT_BYTES}")
    low = min(member.bond for member in after.members)
    most = max(*map(abs, terms.amounts), *(member.bond for member in after.members))
    check(low >= 0 and most <= MAX_MONEY, "bad_terms", f"amounts {terms.amounts}: at most {MAX_MONEY}, bonds from 0 on")
    deposits = {member.deposit for member in after.members}
    check(deposits == {0}, "bad_terms", f"deposits {sorted(deposits)}: they follow from the newest state")
    keys = {member.key for member in after.members}
    if len(keys) != len(after.members):
        raise Refused("bad_terms", f"{len(after.members)} members share {len(keys)} keys; give each its own")


def _add(payments: dict[PublicKey, int], account: PublicKey, units: int) -> None:
    if units:
        payments[account] = payments.get(account, 0) + units
