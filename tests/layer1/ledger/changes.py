"""Changes of open groups, signed by whoever a test says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from msgspec import structs

from layer1.crypto import PublicKey, SigningKey
from layer1.ledger.agreements import (
    Certificate,
    GroupAgreement,
    Payment,
    Successor,
    change_kind,
    initial_body,
    initial_certificate,
    sign_successor,
)
from layer1.ledger.changing import joining
from layer1.ledger.transactions import ChangeGroup
from tests.layer1.ledger.world import Party, World, key

LIFE_MS = 300_000
"""Of a change, on the ledger clock."""


def terms(world: World, party: Party, deposits: Sequence[int], **changes: object) -> GroupAgreement:
    """The group's agreement with another allocation."""
    members = tuple(structs.replace(m, deposit=d) for m, d in zip(party.agreement.members, deposits, strict=True))
    after = structs.replace(
        party.agreement, members=members, open_before_ms=world.state.clock + LIFE_MS, salt=b"c" * 16
    )
    return structs.replace(after, **changes)


def pays(owner: SigningKey | PublicKey, units: int) -> Payment:
    return Payment(owner.public if isinstance(owner, SigningKey) else owner, units)


def successor(
    world: World,
    party: Party,
    after: GroupAgreement,
    deposits: Sequence[Payment] = (),
    withdrawals: Sequence[Payment] = (),
) -> Successor:
    """What the members would sign on version 7 of the present epoch."""
    group = world.group(party)
    base = party.header(7, party.body(7, [group.agreement.funding_units, *[0] * (len(party.keys) - 1)]))
    return Successor(
        world.chain_id, party.id, group.epoch, base.hash, 7, after, b"", tuple(deposits), tuple(withdrawals)
    )


def signed(party: Party, wanted: Successor, new_keys: Sequence[SigningKey] = ()) -> ChangeGroup:
    """By all members, and by whoever of `new_keys` joins."""
    kind = change_kind(party.agreement, wanted.agreement)
    known = {each.public: each for each in new_keys}
    signatures = tuple(sign_successor(each, kind, wanted) for each in party.keys)
    also = tuple(
        sign_successor(known[m.key], kind, wanted) for m in joining(party.agreement, wanted.agreement) if m.key in known
    )
    return ChangeGroup(wanted, signatures, also)


def top_up(world: World, party: Party, payer: SigningKey, units: int = 500) -> ChangeGroup:
    """The first member pays in."""
    first, *rest = (member.deposit for member in party.agreement.members)
    after = terms(world, party, (first + units, *rest))
    return signed(party, successor(world, party, after, (pays(payer, units),)))


def replaced(world: World, party: Party, newcomer: SigningKey, *, seat: int = 1) -> tuple[ChangeGroup, SigningKey]:
    """`newcomer` takes a member's seat and pays for it; the member is paid out. Also its new group key."""
    old, fresh = party.agreement.members[seat], key("fresh")
    member = structs.replace(old, key=fresh.public, funding=newcomer.public, payout=newcomer.public)
    members = party.agreement.members
    after = terms(world, party, [m.deposit for m in members], members=(*members[:seat], member, *members[seat + 1 :]))
    units = old.deposit + old.bond
    wanted = successor(world, party, after, (pays(newcomer, units),), (pays(old.payout, units),))
    return signed(party, wanted, (fresh,)), fresh


def moved_on(party: Party, change: ChangeGroup, *new_keys: SigningKey) -> Party:
    """The group as its members know it in the next epoch."""
    known = {each.public: each for each in (*party.keys, *new_keys)}
    agreement = change.successor.agreement
    return replace(
        party, agreement=agreement, keys=tuple(known[m.key] for m in agreement.members), epoch=party.epoch + 1
    )


def version_0(party: Party, change: ChangeGroup) -> tuple[Certificate, object]:
    """Version 0 of the epoch that the change begins."""
    agreement, ended = change.successor.agreement, change.successor
    state = ended.machine_state
    return (
        initial_certificate(agreement, party.id, ended.epoch + 1, ended.base, state),
        initial_body(agreement, state),
    )
