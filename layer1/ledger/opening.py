"""Opening a group: whether an agreement may become a record.

Safety: a group exists only if every member's funding account signed this very agreement, in time, and its deposits
and bonds are locked in the same step.

The mempool's check covers the signatures, this one the terms, the executor the balances; each refuses before anything
is changed. The group's id names the transaction, so an agreement opened twice makes two groups.

Source: docs/design/groups.md, "Objects".
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec.structs import replace

from layer1.codec import encode
from layer1.crypto import PUBLIC_KEY_BYTES, SIGNATURE_BYTES, Hash, PublicKey
from layer1.errors import check
from layer1.ledger.agreements import (
    Body,
    Certificate,
    GroupAgreement,
    Member,
    Payment,
    Successor,
    group_id,
    initial_body,
    initial_certificate,
)
from layer1.ledger.genesis import MAX_MONEY, REPORT_ROOM_BYTES, SALT_BYTES, Parameters
from layer1.ledger.locks import LOCK_BYTES
from layer1.ledger.records import Group, Status
from layer1.ledger.settlement import short
from layer1.ledger.transactions import ChangeGroup, Transaction

MAX_CONTACT_CHARS = 128
"""In a contact: 31 places with such ones fit into an opening."""

STATE_LENGTH_BYTES = 3
"""By which the length of a long machine state takes more bytes than that of an empty one."""


def open_group(
    agreement: GroupAgreement, transaction_id: Hash, chain_id: Hash, parameters: Parameters, clock_ms: int
) -> Group:
    """The record of a new group at version 0. Funds are the caller's business, see :func:`funding`.

    Raises:
        Refused: ``wrong_chain``, ``bad_agreement``, ``bad_members``, ``bad_witnesses``, ``bad_amount``,
            ``bad_challenge_period`` or ``agreement_expired``.
    """
    check_agreement(agreement, chain_id, parameters, clock_ms)
    name = group_id(agreement, transaction_id)
    return fresh(agreement, clock_ms, initial_certificate(agreement, name), initial_body(agreement))


def check_agreement(agreement: GroupAgreement, chain_id: Hash, parameters: Parameters, clock_ms: int) -> None:
    """Whether a group may run on these terms, in its first or a later epoch. Raises as :func:`open_group`."""
    _check_members(agreement.members, parameters.max_members)
    _check_terms(agreement, chain_id, parameters, clock_ms)


def fresh(agreement: GroupAgreement, opened_clock_ms: int, first: Certificate, body: Body) -> Group:
    """The record of an open group at version 0 of an epoch, in which nobody said anything yet.

    Args:
        agreement: Of the epoch.
        opened_clock_ms: Ledger clock of the group's opening.
        first: Certificate of version 0; names group and epoch.
        body: The state behind it.
    """
    count = len(agreement.members)
    return Group(
        group_id=first.header.group_id,
        agreement=agreement,
        epoch=first.header.epoch,
        status=Status.OPEN,
        opened_clock_ms=opened_clock_ms,
        origin=first.header,
        certificate=first,
        body=body,
        claims=(None,) * agreement.places,
        forfeits=(None,) * count,
        pleas=(False,) * count,
        concurs=(False,) * count,
        delegates=(None,) * count,
    )


def funding(agreement: GroupAgreement) -> Mapping[PublicKey, int]:
    """Units that each funding account pays: deposit and bond of every member that it stands behind."""
    needed: dict[PublicKey, int] = {}
    for member in agreement.members:
        needed[member.funding] = needed.get(member.funding, 0) + member.deposit + member.bond
    return needed


def change_bytes(agreement: GroupAgreement) -> int:
    """What the largest transaction takes that changes such a group, beside the machine's state (rules 24 and 25).

    In it all members sign, all keys are new, all pay in, and everybody is paid out; amounts are as long as they get.
    """
    count, key, signature = len(agreement.members), bytes(PUBLIC_KEY_BYTES), bytes(SIGNATURE_BYTES)
    payments = (Payment(key, MAX_MONEY),) * count
    rich = tuple(replace(member, deposit=MAX_MONEY, bond=MAX_MONEY) for member in agreement.members)
    later = replace(agreement, members=rich, open_before_ms=MAX_MONEY)
    wanted = Successor(
        agreement.chain_id, bytes(32), MAX_MONEY, bytes(32), MAX_MONEY, later, b"", payments, payments + payments
    )
    change = ChangeGroup(wanted, (signature,) * count, (signature,) * count)
    transaction = Transaction(change, MAX_MONEY, bytes(SALT_BYTES), (signature,) * count)
    return len(encode(transaction)) + STATE_LENGTH_BYTES


def _check_members(members: tuple[Member, ...], most: int) -> None:
    check(2 <= len(members) <= most, "bad_members", f"the agreement has {len(members)} members; 2 to {most} may be")
    for i, member in enumerate(members):
        for key in (member.key, member.funding, member.payout):
            right = len(key) == PUBLIC_KEY_BYTES
            check(right, "bad_members", f"member {i} has a key of {len(key)} bytes; a key has {PUBLIC_KEY_BYTES}")
        low = min(member.deposit, member.bond)
        check(low >= 0, "bad_amount", f"member {i} puts in {low} units; deposit and bond are 0 or more")
    keys = {member.key for member in members}
    check(len(keys) == len(members), "bad_members", f"{len(members)} members share {len(keys)} keys; give each its own")


def _check_terms(agreement: GroupAgreement, chain_id: Hash, parameters: Parameters, clock_ms: int) -> None:
    if agreement.chain_id != chain_id:
        check(False, "wrong_chain", f"the agreement is of chain {short(agreement.chain_id)}, this is {chain_id.hex()}")
    total = agreement.funding_units + agreement.bond_units
    check(total <= MAX_MONEY, "bad_amount", f"deposits and bonds add up to {total}; at most {MAX_MONEY} may be")
    period, least, most = agreement.challenge_period_ms, parameters.min_challenge_ms, parameters.max_challenge_ms
    check(
        least <= period <= most,
        "bad_challenge_period",
        f"the challenge period is {period} ms; it must be from {least} to {most} ms",
    )
    before = agreement.open_before_ms
    check(clock_ms < before, "agreement_expired", f"open before {before}, clock is {clock_ms}; sign a new agreement")
    check(before <= MAX_MONEY, "bad_agreement", f"open_before_ms is {before}; at most {MAX_MONEY} may be")
    _check_form(agreement, parameters)
    _check_witnesses(agreement, parameters)


def _check_witnesses(agreement: GroupAgreement, parameters: Parameters) -> None:
    members, witnesses, timeout = agreement.members, agreement.witnesses, agreement.witness_timeout_ms
    count, faults = len(witnesses), len(members) - 1
    check(count in {0, faults}, "bad_witnesses", f"{count} witnesses beside {faults + 1} members; 0 or {faults} may be")
    for i, witness in enumerate(witnesses):
        size = len(witness.key)
        right = size == PUBLIC_KEY_BYTES
        check(right, "bad_witnesses", f"witness {i} has a key of {size} bytes; a key has {PUBLIC_KEY_BYTES}")
    keys = {witness.key for witness in witnesses}
    check(len(keys) == count, "bad_witnesses", f"{count} witnesses share {len(keys)} keys; each has its own")
    both = keys & {key for member in members for key in (member.key, member.funding)}
    check(not both, "bad_witnesses", f"{len(both)} of {count} witnesses are members too; who witnesses is no member")
    least, most = (agreement.challenge_period_ms, parameters.max_challenge_ms) if witnesses else (0, 0)
    check(
        timeout == 0 or least <= timeout <= most,
        "bad_witnesses",
        f"the witnesses' timeout is {timeout} ms; it must be 0, or from the challenge period, {least}, to {most} ms",
    )


def _check_form(agreement: GroupAgreement, parameters: Parameters) -> None:
    machine, salt, limits = agreement.machine, agreement.salt, agreement.limits
    check(1 <= len(machine) <= 64, "bad_agreement", f"the machine's name has {len(machine)} characters; 1 to 64 may be")
    check(len(salt) == SALT_BYTES, "bad_agreement", f"the salt has {len(salt)} bytes; it needs {SALT_BYTES}")
    for contact in (*(m.contact for m in agreement.members), *(w.contact for w in agreement.witnesses)):
        chars = len(contact)
        fits = chars <= MAX_CONTACT_CHARS and all("!" <= character <= "~" for character in contact)
        check(fits, "bad_agreement", f"a contact of {chars} characters; host:port, {MAX_CONTACT_CHARS} at most")
    batch, size = limits.max_batch, limits.max_state_bytes
    check(1 <= batch <= MAX_MONEY, "bad_agreement", f"max_batch is {batch}; it must be from 1 to {MAX_MONEY}")
    most_bytes, change = parameters.max_transaction_bytes, change_bytes(agreement)
    check(
        size + change <= most_bytes,
        "bad_agreement",
        f"a change of this group takes up to {change} bytes beside max_state_bytes {size}; a transaction has "
        f"{most_bytes} at most: agree on smaller states, or shorter contacts",
    )
    room = most_bytes - REPORT_ROOM_BYTES
    check(
        0 <= size <= room,
        "bad_agreement",
        f"max_state_bytes is {size}; from 0 to {room} fit into a report, so that every state can be settled",
    )
    locks, most = limits.max_locks, (room - size) // LOCK_BYTES
    check(
        0 <= locks <= most,
        "bad_agreement",
        f"max_locks is {locks}; beside a state of {size} bytes from 0 to {most} fit into a report",
    )
    longest = max(agreement.challenge_period_ms, agreement.witness_timeout_ms)
    check(
        not locks or longest <= parameters.max_locking_ms,
        "bad_challenge_period",
        f"a dispute may take {longest} ms or more; with locks at most {parameters.max_locking_ms} may be, or their "
        "preimages are forgotten before; agree on a shorter one, or on max_locks 0",
    )
    low, high = sorted((limits.max_locked_units, limits.min_lock_units))
    good = low >= 0 and high <= MAX_MONEY
    check(good, "bad_agreement", f"bounds of locks are {low} and {high} units; from 0 to {MAX_MONEY} may be")
