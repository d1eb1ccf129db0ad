"""The core of a watchtower: what it takes in, when it signs, what it tells layer 1 (rule 17).

*Safety:* a version that the tower gave a receipt for is durable before the receipt is signed, is never replaced by a
lower one, and is reported whenever layer 1 shows a lower one in a dispute.

A tower holds, for a member of a group, one certificate and one body that only the member can read. It takes in what
layer 1 would take in a report, and nothing else: the members' keys come from layer 1 with proof, and every signature
is checked, or a customer could have a receipt for what the tower cannot report and hold that against it. Who may
entrust is who funds a member of the group, which its link proves.

It holds no key of anybody and signs nothing but receipts. It learns when a group makes new versions, and, in a
dispute, what layer 1 shows to all.

Source: docs/design/groups.md, rules 9, 12, 14 and 17; decision 032.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from msgspec import structs

from layer1.codec import Struct, decode
from layer1.crypto import Hash, PublicKey, Signature, SigningKey
from layer1.errors import LocalError, Refused, RemoteError, check
from layer1.ledger.agreements import (
    Certificate,
    Delegation,
    GroupHeader,
    Member,
    verify_delegation,
    verify_state,
)
from layer1.ledger.genesis import MAX_MONEY
from layer1.ledger.records import Group, Status
from layer1.ledger.transactions import Report
from layer2.promises import TowerReceipt, sign_receipt

MAX_SEALED_BYTES = 8 * 1_024
"""Of one sealed body: the default limit of a machine's state, and as much again."""
MAX_MESSAGE_BYTES = 32 * 1_024
"""Of a customer's message: a sealed body, and the certificate of a hundred members."""


class Terms(Struct, tag=1):
    """Tower to customer, first on each link: what it asks and offers."""

    payout: PublicKey
    """Account that a DELEGATE has to name."""
    least_bounty: int
    """Minor units; a DELEGATE that promises less is declined. 0: it guards for nothing."""
    keep_ms: int
    """How long a receipt is good, on the ledger clock."""


class Entrust(Struct, tag=2):
    """Customer to tower: guard this version. Answered by a receipt, `Held` if it holds a higher one, or `Declined`."""

    certificate: Certificate
    sealed: bytes
    """The body behind it, as `layer2.sealing` makes it."""
    delegation: Delegation

    @property
    def header(self) -> GroupHeader:
        """Of the certified state."""
        return self.certificate.header


class Declined(Struct, tag=4):
    """Tower to customer: this version is not guarded."""

    group_id: Hash
    version: int
    code: str
    message: str


class Ask(Struct, tag=5):
    """Customer to tower: what do you hold of mine?"""

    group_id: Hash


class Held(Struct, tag=6):
    """Tower to customer: the highest version that it was entrusted with."""

    group_id: Hash
    certificate: Certificate | None
    """None: it holds nothing of this customer."""
    sealed: bytes


ToTower = Entrust | Ask
FromTower = Terms | TowerReceipt | Declined | Held


def decode_to_tower(data: bytes) -> ToTower:
    """What a customer says.

    Raises:
        RemoteError: It is nothing that a customer says.
    """
    if len(data) > MAX_MESSAGE_BYTES:
        raise RemoteError(f"a message of {len(data)} bytes; the most is {MAX_MESSAGE_BYTES}")
    return decode(data, ToTower)  # type: ignore[arg-type]  # a union of structs


def decode_from_tower(data: bytes) -> FromTower:
    """What a tower says.

    Raises:
        RemoteError: It is nothing that a tower says.
    """
    return decode(data, FromTower)  # type: ignore[arg-type]  # a union of structs


class Guarded(Struct):
    """What a tower holds for one member of one group; replaced by each update, so its size is bounded."""

    group_id: Hash
    member: int
    customer: PublicKey
    """Identity of the member's links: the account that funded it."""
    epoch: int
    keys: tuple[PublicKey, ...]
    """Of the members, in this epoch: who certifies its states."""
    period_ms: int
    """The challenge period: how often to look."""
    certificate: Certificate
    sealed: bytes
    delegation: Delegation
    until_ms: int
    """Ledger clock until which a receipt was given; kept so long, unless layer 1 closes the group."""

    @property
    def version(self) -> int:
        """Of the certificate."""
        return self.certificate.header.version


@dataclass(frozen=True, slots=True)
class Policy:
    """What a tower asks for, and how much it takes on."""

    payout: PublicKey
    """Where bounties go."""
    least_bounty: int = 0
    """Minor units."""
    keep_ms: int = 90 * 86_400_000
    """How long a receipt is good: how long a customer may sleep."""
    least_period_ms: int = 60_000
    """Groups with a shorter challenge period are declined: it could not look often enough."""
    max_groups: int = 100_000
    """In all."""
    max_groups_each: int = 10_000
    """Of one customer."""

    def __post_init__(self) -> None:
        if min(self.keep_ms, self.least_period_ms, self.max_groups, self.max_groups_each) < 1 or self.least_bounty < 0:
            raise LocalError(f"a tower's numbers start at 1, its least bounty at 0: {self}")

    @property
    def terms(self) -> Terms:
        """For customers."""
        return Terms(self.payout, self.least_bounty, self.keep_ms)


@dataclass(frozen=True, slots=True)
class Load:
    """How much a tower holds: of all, and of the customer who asks."""

    groups: int
    of_customer: int


@dataclass(frozen=True, slots=True)
class Keep:
    """Make this durable, in place of what is held for this member. A barrier: what follows waits for it."""

    guarded: Guarded


@dataclass(frozen=True, slots=True)
class Promise:
    """Sign this receipt and send it to the customer."""

    receipt: TowerReceipt


@dataclass(frozen=True, slots=True)
class Show:
    """Send this to the customer: it holds a higher version than the customer has."""

    held: Held


@dataclass(frozen=True, slots=True)
class Submit:
    """Bring this to layer 1."""

    report: Report


@dataclass(frozen=True, slots=True)
class Drop:
    """Forget what is held for this member: layer 1 can ask for it no more."""

    group_id: Hash
    customer: PublicKey


Effect = Keep | Promise | Show | Submit | Drop


@dataclass(frozen=True, slots=True)
class Visit:
    """A customer brings a version."""

    customer: PublicKey
    """Who is at the other end of the link."""
    message: Entrust
    held: Guarded | None
    """What we hold of this group for this customer."""
    shown: Group | None
    """The group as layer 1 shows it, with proof; needed only if :func:`needs_look`."""
    load: Load
    """What we hold of all; needed only with `shown`."""
    clock_ms: int
    """Newest proven ledger clock, fresh: disputes that begin before it are not promised."""


def needs_look(held: Guarded | None, header: GroupHeader) -> bool:
    """Whether layer 1 has to be asked for the group before this may be taken in."""
    return held is None or header.epoch > held.epoch


def entrust(policy: Policy, tower: PublicKey, visit: Visit) -> list[Effect]:
    """Take in a version.

    Args:
        policy: Ours.
        tower: Our key, which signs receipts.
        visit: Who brings what, and what is known.

    Raises:
        Refused: ``unknown_group``, ``group_closed``, ``not_a_member``, ``wrong_epoch``, ``nothing_certified``,
            ``bad_certificate``, ``bad_signature``, ``bad_delegation``, ``bounty_too_low``, ``too_large``,
            ``period_too_short``, ``tower_full``. Nothing changed.
    """
    message, held, clock_ms = visit.message, visit.held, visit.clock_ms
    header = message.header
    held_now = _enrolled(policy, visit) if held is None or needs_look(held, header) else held
    check(
        header.epoch == held_now.epoch,
        "wrong_epoch",
        f"the version is of epoch {header.epoch}, the group is in epoch {held_now.epoch}",
    )
    if held is not None and held.epoch == header.epoch and header.version < held.version:
        return [Show(Held(held.group_id, held.certificate, held.sealed))]  # rule 14: a lower one replaces nothing
    if held is not None and _is_unchanged(policy, held, message, clock_ms):
        return [Promise(_receipt(tower, held, clock_ms))]
    _check_entrusted(policy, held_now, message)
    guarded = structs.replace(
        held_now,
        certificate=message.certificate,
        sealed=message.sealed,
        delegation=message.delegation,
        until_ms=max(clock_ms + policy.keep_ms, held_now.until_ms),
    )
    return [Keep(guarded), Promise(_receipt(tower, guarded, clock_ms))]


def receipt_signed(effect: Promise, key: SigningKey, chain_id: Hash) -> TowerReceipt:
    """The receipt of a promise whose version is durable."""
    return sign_receipt(key, chain_id, effect.receipt)


def shown_to(held: Guarded | None, group_id: Hash) -> Held:
    """What a customer that asks is told: what it entrusted itself."""
    if held is None:
        return Held(group_id, None, b"")
    return Held(group_id, held.certificate, held.sealed)


def answer(guarded: Iterable[Guarded], shown: Group) -> list[Effect]:
    """What to do about a group of which layer 1 shows this, with proof.

    Rule 9: a higher certificate is reported, with the header alone (rule 12), and for the member that promised most
    among those who did not wedge. What layer 1 has already is brought once more for a customer that owes an answer to
    a plea (rule 13), or if a bounty is to be had for it: who copied the report may have been quicker (rule 17).
    """
    entries = list(guarded)
    if shown.status is Status.CLOSED:
        return [Drop(each.group_id, each.customer) for each in entries]
    over = [Drop(each.group_id, each.customer) for each in entries if each.epoch < shown.epoch]
    now = [each for each in entries if each.epoch == shown.epoch]
    if not now or shown.status is not Status.WEDGED or shown.revealing is not None:
        return [*over]
    best = max(now, key=lambda each: each.version)
    if best.version > shown.version:
        others = [each for each in now if each.member != shown.wedged_by] or now
        chosen = max(others, key=lambda each: each.delegation.bounty)
        return [*over, Submit(_report(best, chosen))]
    if best.certificate.header == shown.certificate.header:
        return [*over, *(Submit(_report(best, each)) for each in now if _is_owed(shown, each))]
    return [*over]


def is_answered(guarded: Iterable[Guarded], shown: Group) -> bool:
    """Whether layer 1 needs nothing more of what the tower holds, as things are."""
    return not any(isinstance(effect, Submit) for effect in answer(guarded, shown))


def is_over(guarded: Guarded, clock_ms: int) -> bool:
    """Whether the customer did not come back for so long that nothing is promised any more."""
    return clock_ms > guarded.until_ms


def _enrolled(policy: Policy, visit: Visit) -> Guarded:
    """What layer 1 says of a group that is new here, or new in this epoch."""
    customer, held, shown, load = visit.customer, visit.held, visit.shown, visit.load
    header = visit.message.header
    if shown is None:
        raise Refused("unknown_group", f"layer 1 has no group {header.group_id.hex()}: entrust it when it is open")
    agreement = shown.agreement
    member = next((i for i, each in enumerate(agreement.members) if each.funding == customer), None)
    if member is None:
        raise Refused("not_a_member", "the key of this link funds no member of the group: its members entrust it")
    check(shown.status is not Status.CLOSED, "group_closed", "layer 1 has paid out the group: nothing is to be guarded")
    check(
        header.epoch == shown.epoch,
        "wrong_epoch",
        f"the version is of epoch {header.epoch}, the group is in epoch {shown.epoch}",
    )
    period_ms = agreement.window_ms or agreement.challenge_period_ms
    check(
        period_ms >= policy.least_period_ms,
        "period_too_short",
        f"the challenge period is {period_ms} ms; this tower guards groups from {policy.least_period_ms} ms",
    )
    if held is None:
        check(
            load.groups < policy.max_groups,
            "tower_full",
            f"{load.groups} groups are guarded here, the most there can be",
        )
        check(
            load.of_customer < policy.max_groups_each,
            "tower_full",
            f"{load.of_customer} groups are guarded for you, the most of one customer",
        )
    keys = tuple(each.key for each in agreement.members)
    return Guarded(
        header.group_id,
        member,
        customer,
        shown.epoch,
        keys,
        period_ms,
        Certificate(shown.origin, ()),
        b"",
        visit.message.delegation,
        0 if held is None else held.until_ms,
    )


def _is_unchanged(policy: Policy, held: Guarded, message: Entrust, clock_ms: int) -> bool:
    """Whether all of it is durable already, and the receipt that was given last is good for nearly as long."""
    same = (held.certificate, held.sealed, held.delegation) == (message.certificate, message.sealed, message.delegation)
    return same and held.until_ms - clock_ms > policy.keep_ms - policy.keep_ms // 8


def _check_entrusted(policy: Policy, held: Guarded, message: Entrust) -> None:
    """Refuse what layer 1 would refuse in a report."""
    header, size = message.header, len(message.sealed)
    check(size <= MAX_SEALED_BYTES, "too_large", f"a sealed body of {size} bytes; the most is {MAX_SEALED_BYTES}")
    names = (header.chain_id, header.group_id)
    known = held.certificate.header
    check(names == (known.chain_id, known.group_id), "bad_certificate", "the header is of another chain or group")
    in_range = 1 <= header.version <= MAX_MONEY
    check(in_range, "nothing_certified", f"version {header.version}: entrust versions from 1 to {MAX_MONEY}")
    twice = header.version == held.version and header != known
    check(not twice, "bad_certificate", f"another state of version {header.version} is held: the members signed two")
    if message.certificate != held.certificate:
        _check_signatures(held.keys, message.certificate)
    if message.delegation != held.delegation or not held.certificate.signatures:
        _check_delegation(policy, held, message.delegation, header.chain_id)


def _check_signatures(keys: tuple[PublicKey, ...], certificate: Certificate) -> None:
    signatures: tuple[Signature, ...] = certificate.signatures
    count, needed = len(signatures), len(keys)
    check(count == needed, "bad_certificate", f"{count} signatures for {needed} members; all must sign")
    for i, (key, signature) in enumerate(zip(keys, signatures, strict=True)):
        good = verify_state(_named(key), certificate.header, signature)
        check(good, "bad_signature", f"signature {i} of the certificate is not by member {i}")


def _check_delegation(policy: Policy, held: Guarded, delegation: Delegation, chain_id: Hash) -> None:
    names = (delegation.group_id, delegation.epoch, delegation.member)
    right = names == (held.group_id, held.epoch, held.member)
    check(right, "bad_delegation", f"the DELEGATE is not of member {held.member} in epoch {held.epoch} of this group")
    check(delegation.payout == policy.payout, "bad_delegation", "the DELEGATE pays another account than this tower's")
    bounty, least = delegation.bounty, policy.least_bounty
    check(least <= bounty <= MAX_MONEY, "bounty_too_low", f"a bounty of {bounty} units; this tower asks for {least}")
    good = verify_delegation(_named(held.keys[held.member]), chain_id, delegation)
    check(good, "bad_delegation", f"the DELEGATE is not signed by member {held.member}")


def _named(key: PublicKey) -> Member:
    return Member(key, key, key, 0, 0)


def _receipt(tower: PublicKey, guarded: Guarded, clock_ms: int) -> TowerReceipt:
    header = guarded.certificate.header
    return TowerReceipt(
        tower, guarded.group_id, guarded.epoch, header.version, header.hash, clock_ms, guarded.until_ms, b""
    )


def _report(best: Guarded, chosen: Guarded) -> Report:
    return Report(best.group_id, best.certificate, None, delegation=chosen.delegation)


def _is_owed(shown: Group, guarded: Guarded) -> bool:
    """Whether it matters to a customer, or to us, that the accepted version was brought for this customer."""
    member, delegate = guarded.member, shown.delegates[guarded.member]
    if delegate is not None and delegate.version == shown.version:
        return False
    silent = not shown.pleas[member] and shown.claims[member] is None
    liars = [other for other, why in enumerate(shown.forfeits) if why is not None and other != member]
    return (any(shown.pleas) and silent) or bool(guarded.delegation.bounty and liars)
