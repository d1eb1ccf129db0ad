"""Changing an open group: another allocation, other keys, another member or witness, in a new epoch of the same group.

Safety: an open group goes on as what all its members signed, at most once per epoch and never after a wedge; and it
locks then what it locked before, plus what was paid in, less what was paid out.

All members of the ending epoch sign one successor, which names the epoch. Taking it changes the epoch, so no second
one of that epoch fits, nor any certificate, claim, FINAL, plea or wedge that was signed in it [F8]; and a wedge that
came first leaves no open group to change. Whoever joins signs with its new key, so nobody is made a member unasked;
whoever pays in signs the transaction. Whether the base is the newest state is for the members alone: all have signed.

Source: docs/design/groups.md, rules 24 and 25; decision 030.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from layer1.crypto import PUBLIC_KEY_BYTES, Hash, PublicKey
from layer1.errors import Refused, check
from layer1.ledger.agreements import (
    GroupAgreement,
    Member,
    Payment,
    Successor,
    change_kind,
    initial_body,
    initial_certificate,
    verify_successor,
)
from layer1.ledger.genesis import MAX_MONEY, Parameters
from layer1.ledger.opening import check_agreement, fresh
from layer1.ledger.records import Group, Status
from layer1.ledger.settlement import check_live, short
from layer1.ledger.transactions import ChangeGroup

MAX_CHANGE_MS = 600_000
"""How far ahead a change may expire: so long may one member keep the others from signing states (rule 24)."""


def change(group: Group, request: ChangeGroup, chain_id: Hash, parameters: Parameters, clock_ms: int) -> Group:
    """The record of the group's next epoch, at version 0. What it takes and pays is the caller's business.

    Raises:
        Refused: ``group_closed``, ``group_wedged``, ``wrong_epoch``, ``bad_base``, ``expires_too_late``, what an
            opening with this agreement would be refused for, ``bad_state``, ``bad_payment``, ``bad_allocation``,
            ``bad_signature``.
    """
    successor = request.successor
    check_live(group, clock_ms)
    check(group.status is Status.OPEN, "group_wedged", "the group is wedged: a dispute ends it; open another")
    check(
        successor.epoch == group.epoch,
        "wrong_epoch",
        f"the change ends epoch {successor.epoch}, the group is in {group.epoch}; an epoch has one successor at most",
    )
    _check_terms(successor, chain_id, parameters, clock_ms)
    _check_sums(group, successor)
    _check_signatures(group.agreement, request)
    agreement, state = successor.agreement, successor.machine_state
    first = initial_certificate(agreement, group.group_id, group.epoch + 1, successor.base, state)
    return fresh(agreement, group.opened_clock_ms, first, initial_body(agreement, state))


def joining(before: GroupAgreement, after: GroupAgreement) -> tuple[Member, ...]:
    """Members whose keys are new, in the new order: they sign the change too."""
    known = {member.key for member in before.members}
    return tuple(member for member in after.members if member.key not in known)


def added(payments: Sequence[Payment]) -> Mapping[PublicKey, int]:
    """Units by account."""
    units: dict[PublicKey, int] = {}
    for payment in payments:
        units[payment.account] = units.get(payment.account, 0) + payment.units
    return units


def _check_terms(successor: Successor, chain_id: Hash, parameters: Parameters, clock_ms: int) -> None:
    agreement = successor.agreement
    if successor.chain_id != chain_id:
        raise Refused("wrong_chain", f"the change is of chain {short(successor.chain_id)}, this is {chain_id.hex()}")
    check(len(successor.base) == 32, "bad_base", f"the base's hash has {len(successor.base)} bytes; it has 32")
    version = successor.base_version
    check(0 <= version <= MAX_MONEY, "bad_base", f"the base is of version {version}; versions are 0 to {MAX_MONEY}")
    check_agreement(agreement, chain_id, parameters, clock_ms)  # also that it has not expired
    ahead = agreement.open_before_ms - clock_ms
    check(
        ahead <= MAX_CHANGE_MS,
        "expires_too_late",
        f"the change expires in {ahead} ms; at most {MAX_CHANGE_MS} ms ahead may be",
    )
    size, most = len(successor.machine_state), agreement.limits.max_state_bytes
    check(size <= most, "bad_state", f"the machine state has {size} bytes; the members agreed on {most} at most")


def _check_sums(group: Group, successor: Successor) -> None:
    """No unit appears or vanishes: what was locked and is paid in, is locked then or paid out.

    Each account that is paid costs a block more than a signature does, and none signs: so there are as many as members.
    """
    for payment in (*successor.deposits, *successor.withdrawals):
        size, units = len(payment.account), payment.units
        check(size == PUBLIC_KEY_BYTES, "bad_payment", f"an account of {size} bytes; it has {PUBLIC_KEY_BYTES}")
        check(1 <= units <= MAX_MONEY, "bad_payment", f"a payment is of 1 to {MAX_MONEY} units, not {units}")
    most, payees = len(group.agreement.members) + len(successor.agreement.members), len(successor.withdrawals)
    check(payees <= most, "bad_payment", f"{payees} withdrawals; at most {most}, one for each member of both epochs")
    payers = len({payment.account for payment in successor.deposits})
    count = len(successor.deposits)
    check(payers == count, "bad_payment", f"{count} deposits of {payers} accounts; add up what one account pays")
    before, after = _units(group.agreement), _units(successor.agreement)
    paid_in, paid_out = sum(p.units for p in successor.deposits), sum(p.units for p in successor.withdrawals)
    check(
        before + paid_in == after + paid_out,
        "bad_allocation",
        f"{before} units are locked and {paid_in} paid in, {after} would be locked and {paid_out} paid out; "
        "make both sums equal",
    )


def _check_signatures(before: GroupAgreement, request: ChangeGroup) -> None:
    """All members of the ending epoch, then whoever joins; one kind tells a change of amounts from one of people."""
    successor = request.successor
    kind = change_kind(before, successor.agreement)
    for what, members, signatures in (
        ("member", before.members, request.signatures),
        ("joining member", joining(before, successor.agreement), request.joining),
    ):
        needed, count = len(members), len(signatures)
        check(count == needed, "bad_signature", f"{count} signatures for {needed} of each {what}; all must sign")
        for i, (member, signature) in enumerate(zip(members, signatures, strict=True)):
            good = verify_successor(member, kind, successor, signature)
            check(good, "bad_signature", f"signature {i} is not the {kind.name} of {what} {i}, key {member.key.hex()}")


def _units(agreement: GroupAgreement) -> int:
    return agreement.funding_units + agreement.bond_units
