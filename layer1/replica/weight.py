"""What a transaction costs a block: the signatures that it carries.

Safety: no block that an honest replica votes for takes longer to verify and execute than its weight allows.

A transfer carries one signature, a wedge of sixteen members seventeen, each of which execution verifies. Were blocks
measured in transactions, a client without money could fill them with disputes of a group of its own, and each block
would outlast its view. The weight is of what was sent, whether execution comes to look at it or not: every replica
counts alike, and there is no bound per group, for groups cost nothing.

Source: docs/design/consensus.md, "Mempool and batches"; limits.md (66 us for each signature).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from layer1.ledger.genesis import Parameters
from layer1.ledger.locks import MAX_PREIMAGES
from layer1.ledger.replicas import MAX_CHANGE_SIGNATURES, ChangeReplicas
from layer1.ledger.transactions import (
    Accusation,
    ChangeGroup,
    CloseGroup,
    Command,
    Plea,
    RegisterPreimages,
    Report,
    Transaction,
    Wedge,
)

BUILD_WEIGHT = 1_600
"""Most that a leader of ours puts into one block: about 80 ms of transfers, 150 of disputes, so that views stay short
under load.
"""
DOUBLE_SIGNATURES = 2
"""In a proof that a member, or a replica, signed twice."""
PREIMAGES_A_SIGNATURE = 2
"""So many preimages cost a block less than verifying a signature: a hash, and a key of the tree, 11 us."""
COMMAND_WEIGHT = 4
"""Beside the signature: eight keys of the tree, 11 us each among a million, and what the machine itself does."""


def weight(transaction: Transaction) -> int:
    """Signatures that a transaction carries, at least 1."""
    return max(1, len(transaction.signatures) + _inner(transaction))


def total_weight(transactions: Iterable[Transaction]) -> int:
    """Of all of them."""
    return sum(map(weight, transactions))


def heaviest(parameters: Parameters) -> int:
    """Most that a transaction may weigh: a report of the largest group, with all that it can be about, or preimages.

    A certificate, claims of members and witnesses, of whom there is one less, concurs, and a delegation.
    """
    return max(4 * parameters.max_members + DOUBLE_SIGNATURES, 1 + MAX_PREIMAGES // PREIMAGES_A_SIGNATURE)


def bound(transaction: Transaction, parameters: Parameters) -> int:
    """Most that this transaction may weigh. A change of the replica set takes a quorum of signatures."""
    return MAX_CHANGE_SIGNATURES if isinstance(transaction.payload, ChangeReplicas) else heaviest(parameters)


def block_weight(parameters: Parameters) -> int:
    """Most that one block may weigh: that of as many transfers as it may hold, and never less than one report."""
    return max(parameters.max_block_transactions, heaviest(parameters))


@dataclass(slots=True)
class Filling:
    """How far a block is filled, as leaders of ours fill it."""

    parameters: Parameters
    transactions: int = 0
    weight: int = 0
    _heaviest: int = field(init=False)
    """Of a first batch."""
    _most: int = field(init=False)
    """Of all together."""

    def __post_init__(self) -> None:
        self._heaviest = block_weight(self.parameters)
        self._most = min(BUILD_WEIGHT, self._heaviest)

    @property
    def is_full(self) -> bool:
        """Nothing more is put into it."""
        return self.weight >= self._most

    @property
    def is_half_full(self) -> bool:
        """It is worth proposing."""
        return self.weight >= self._most // 2

    def takes(self, transactions: int, weight: int) -> bool:
        """Whether it has room for a batch of so many transactions, of this weight together; the first may be heavy."""
        most = self._most if self.weight else self._heaviest
        return (
            self.transactions + transactions <= self.parameters.max_block_transactions and self.weight + weight <= most
        )

    def add(self, transactions: int, weight: int) -> None:
        """Put a batch into it."""
        self.transactions += transactions
        self.weight += weight


def _of_report(report: Report) -> int:
    proof = 0 if report.double is None else DOUBLE_SIGNATURES
    certified = 0 if report.certificate is None else len(report.certificate.signatures)
    return certified + len(report.claims) + proof + len(report.concurs) + (report.delegation is not None)


def _inner(transaction: Transaction) -> int:
    match transaction.payload:
        case CloseGroup(_, signatures):
            return len(signatures)
        case Wedge(certificate, double=double):
            return len(certificate.signatures) + 1 + (0 if double is None else DOUBLE_SIGNATURES)
        case Report() as report:
            return _of_report(report)
        case Plea():
            return 1
        case ChangeGroup(_, signatures, joining):
            return len(signatures) + len(joining)
        case Accusation():
            return DOUBLE_SIGNATURES
        case ChangeReplicas(_, approvals, acceptances):
            return len(approvals) + len(acceptances)
        case Command():
            return COMMAND_WEIGHT
        case RegisterPreimages(_, preimages):
            return -(-len(preimages) // PREIMAGES_A_SIGNATURE)
        case _:
            return 0
