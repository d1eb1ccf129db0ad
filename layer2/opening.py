"""Opening a group: what two wallets agree on before layer 1 knows of it.

Safety: nothing is signed that the policy does not allow, and no signature locks money after `open_before_ms`.

The offer fixes everything but the other member's keys, which the answer adds; both then compute the same opening
transaction, so what one signs is what the other checks. The initiator signs last: its signature completes the
transaction, so it alone is never bound while the other is free.

Source: docs/design/groups.md, "Objects". The initiator is m0, the primary.
"""

from __future__ import annotations

from dataclasses import dataclass

from msgspec import structs

from layer1.crypto import PUBLIC_KEY_BYTES, Hash, PublicKey, SigningKey, format_address, verify
from layer1.errors import LocalError, check
from layer1.ledger.agreements import GroupAgreement, Limits, Member, Witness, group_id
from layer1.ledger.genesis import MAX_MONEY
from layer1.ledger.transactions import OpenGroup, Transaction, kind_of, sign_transaction
from layer2.messages import Answer, Offer, require

SALT_BYTES = 16


@dataclass(frozen=True, slots=True)
class OpeningPolicy:
    """What a wallet signs without asking its user again. All units are minor units, all times milliseconds."""

    accept_deposit_up_to_units: int = 0
    """Of our own; 0 accepts only groups that cost us nothing."""
    accept_bond_up_to_units: int = 0
    """Of our own."""
    min_peer_bond_units: int = 0
    """What a lie must cost the other member."""
    min_challenge_ms: int = 60_000
    """Our watcher must be able to answer within it (rule 18)."""
    max_challenge_ms: int = 7 * 24 * 3_600_000
    """For how long a silent peer may keep our balance from us."""
    max_open_window_ms: int = 600_000
    """How far ahead `open_before_ms` may lie: so long may the initiator keep our deposit promised."""
    machines: frozenset[str] = frozenset({"payments/2"})
    max_batch: int = 100_000
    max_state_bytes: int = 4_096
    witnesses: frozenset[PublicKey] = frozenset()
    """Who may witness a group: with the other member it could take all, so none that we do not trust ourselves."""

    def __post_init__(self) -> None:
        low = min(self.accept_deposit_up_to_units, self.accept_bond_up_to_units, self.min_peer_bond_units)
        if low < 0 or not 0 < self.min_challenge_ms <= self.max_challenge_ms or self.max_open_window_ms <= 0:
            raise LocalError(f"amounts are 0 or more, times above 0, min_challenge_ms at most max_challenge_ms: {self}")


@dataclass(frozen=True, slots=True)
class Opening:
    """An opening that both members describe alike."""

    transaction: Transaction
    """With the signatures that are here."""

    @property
    def agreement(self) -> GroupAgreement:
        """What it opens."""
        payload = self.transaction.payload
        assert isinstance(payload, OpenGroup)
        return payload.agreement

    @property
    def group_id(self) -> Hash:
        """How layer 1 will name the group."""
        return group_id(self.agreement, self.transaction.id)


def make_offer(
    chain_id: Hash,
    proposer: Member,
    *,
    ask_deposit: int,
    ask_bond: int,
    challenge_period_ms: int,
    machine: str,
    open_before_ms: int,
    valid_until_ms: int,
    salt: bytes,
    limits: Limits | None = None,
    witnesses: tuple[Witness, ...] = (),
) -> Offer:
    """The initiator's proposal.

    Args:
        chain_id: The ledger's.
        proposer: Our part, complete.
        ask_deposit: Minor units that the other member is to deposit.
        ask_bond: Minor units that the other member is to post.
        challenge_period_ms: See :class:`~layer1.ledger.agreements.GroupAgreement`.
        machine: Name of the machine.
        open_before_ms: Ledger clock from which it is void.
        valid_until_ms: Of the transaction, ledger clock, below `open_before_ms`, at most ten minutes ahead.
        salt: 16 fresh random bytes.
        limits: The default ones, if None.
        witnesses: None or one.

    Raises:
        Refused: ``bad_offer``.
    """
    offer = Offer(
        chain_id,
        proposer,
        ask_deposit,
        ask_bond,
        challenge_period_ms,
        machine,
        open_before_ms,
        valid_until_ms,
        salt,
        limits or Limits(),
        witnesses,
    )
    _check_form(offer)
    return offer


def answer_offer(
    offer: Offer,
    policy: OpeningPolicy,
    *,
    chain_id: Hash,
    clock_ms: int,
    key: PublicKey,
    funding: SigningKey,
    payout: PublicKey,
    contact: str = "",
) -> tuple[Answer, Opening]:
    """Judge an offer and sign the opening.

    Args:
        offer: As received.
        policy: What may be signed.
        chain_id: Of our ledger.
        clock_ms: The ledger clock, from a fresh header.
        key: A group key made for this group alone.
        funding: Pays our deposit and bond.
        payout: Gets what settlement pays.
        contact: ``host:port`` of our wallet, for others who have only a phrase; empty for none.

    Raises:
        Refused: ``wrong_chain``, ``bad_offer`` or ``policy``: nothing was signed; decline with its code and text.
    """
    check(offer.chain_id == chain_id, "wrong_chain", "the offer is for another ledger")
    _check_form(offer)
    check_policy(offer, policy, clock_ms)
    member = Member(key, funding.public, payout, offer.deposit, offer.bond, contact)
    opening = opening_of(offer, member)
    check(key != offer.proposer.key, "bad_offer", "both members would have the same group key")
    own = funding.public != offer.proposer.funding
    check(own, "bad_offer", "our account would pay the initiator's deposit and bond too")
    signature = sign_transaction(opening.transaction, chain_id, funding)
    return Answer(opening.agreement.hash, member, signature), opening


def complete(offer: Offer, answer: Answer, funding: SigningKey) -> Opening:
    """The initiator checks the answer to its offer and signs, last: what it returns is ready for layer 1.

    Raises:
        RemoteError: The answer does not fit the offer, or its signature is wrong; nothing was signed.
        LocalError: `funding` is not the account that the offer names.
    """
    member = answer.member
    asked, given = (offer.deposit, offer.bond), (member.deposit, member.bond)
    require(asked == given, f"the answer puts in {given} as deposit and bond, asked were {asked}")
    for each in (member.key, member.funding, member.payout):
        require(len(each) == PUBLIC_KEY_BYTES, f"the answer has a key of {len(each)} bytes")
    require(member.key != offer.proposer.key, "the answer repeats our own group key")
    taken = {member.key, member.funding} & {witness.key for witness in offer.witnesses}
    require(not taken, "the answer has the witness's key: it would be both")
    opening = opening_of(offer, member)
    require(opening.agreement.hash == answer.agreement_hash, "the answer is to another offer")
    transaction = opening.transaction
    good = verify(member.funding, answer.signature, kind_of(transaction.payload), offer.chain_id, transaction.id)
    require(good, "the answer's signature of the opening is wrong")
    if funding.public != offer.proposer.funding:
        raise LocalError("the funding key is not the one that the offer names: derive it again")
    ours = sign_transaction(transaction, offer.chain_id, funding)
    return Opening(structs.replace(transaction, signatures=(ours, answer.signature)))


def opening_of(offer: Offer, member: Member) -> Opening:
    """The one opening that offer and answer describe, unsigned."""
    agreement = GroupAgreement(
        offer.chain_id,
        (offer.proposer, member),
        offer.challenge_period_ms,
        offer.machine,
        offer.open_before_ms,
        offer.salt,
        offer.limits,
        offer.witnesses,
        offer.witness_timeout_ms,
    )
    return Opening(Transaction(OpenGroup(agreement), offer.valid_until_ms, offer.salt))


def check_policy(offer: Offer, policy: OpeningPolicy, clock_ms: int) -> None:
    """Raise Refused ``policy`` unless the wallet may sign this unasked."""
    _at_most("the deposit asked of us", offer.deposit, policy.accept_deposit_up_to_units)
    _at_most("the bond asked of us", offer.bond, policy.accept_bond_up_to_units)
    _at_least("the initiator's bond", offer.proposer.bond, policy.min_peer_bond_units)
    _at_least("challenge_period_ms", offer.challenge_period_ms, policy.min_challenge_ms)
    _at_most("challenge_period_ms", offer.challenge_period_ms, policy.max_challenge_ms)
    _at_least("open_before_ms", offer.open_before_ms, clock_ms + 1)
    _at_most("open_before_ms", offer.open_before_ms, clock_ms + policy.max_open_window_ms)
    _at_most("limits.max_batch", offer.limits.max_batch, policy.max_batch)
    _at_most("limits.max_state_bytes", offer.limits.max_state_bytes, policy.max_state_bytes)
    check(offer.machine in policy.machines, "policy", f"machine {offer.machine[:64]!r} is not among those accepted")
    for witness in offer.witnesses:
        name = format_address(witness.key)
        check(
            witness.key in policy.witnesses,
            "policy",
            f"the witness {name} is none that this wallet accepts: its owner says `--accept-witness {name}`",
        )


def _at_most(what: str, value: int, most: int) -> None:
    check(value <= most, "policy", f"{what} is {value}, this wallet accepts {most} at most")


def _at_least(what: str, value: int, least: int) -> None:
    check(value >= least, "policy", f"{what} is {value}, this wallet accepts {least} at least")


def _check_form(offer: Offer) -> None:
    proposer = offer.proposer
    for key in (proposer.key, proposer.funding, proposer.payout):
        check(len(key) == PUBLIC_KEY_BYTES, "bad_offer", f"a key of {len(key)} bytes; it has {PUBLIC_KEY_BYTES}")
    amounts = (proposer.deposit, proposer.bond, offer.deposit, offer.bond)
    low, total = min(amounts), sum(amounts)
    check(
        low >= 0 and total <= MAX_MONEY, "bad_offer", f"amounts {amounts}: each 0 or more, at most {MAX_MONEY} in all"
    )
    check(proposer.deposit + offer.deposit > 0, "bad_offer", "nobody deposits anything")
    _check_witnesses(offer)
    check(len(offer.salt) == SALT_BYTES, "bad_offer", f"a salt of {len(offer.salt)} bytes; it has {SALT_BYTES}")
    least = min(offer.limits.max_batch, offer.limits.max_state_bytes + 1)
    check(least >= 1, "bad_offer", f"limits {offer.limits}: max_batch is at least 1, max_state_bytes at least 0")
    check(
        0 <= offer.valid_until_ms < offer.open_before_ms <= MAX_MONEY,
        "bad_offer",
        f"valid_until_ms {offer.valid_until_ms} is not below open_before_ms {offer.open_before_ms}",
    )


def _check_witnesses(offer: Offer) -> None:
    """A pair has none or one, who is neither of the two."""
    count, proposer = len(offer.witnesses), offer.proposer
    check(count <= 1, "bad_offer", f"{count} witnesses of a pair; it has one or none")
    check(count > 0 or not offer.witness_timeout_ms, "bad_offer", "a timeout of witnesses, and there is none")
    for witness in offer.witnesses:
        size = len(witness.key)
        check(size == PUBLIC_KEY_BYTES, "bad_offer", f"a witness's key of {size} bytes; it has {PUBLIC_KEY_BYTES}")
        own = witness.key in (proposer.key, proposer.funding)
        check(not own, "bad_offer", "the initiator would be its own witness")
