"""The groups of a flood, and what their members bring: keys, openings, a stale state and the newest one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count, cycle

from msgspec import structs

from layer1.crypto import Hash, SigningKey
from layer1.ledger.genesis import SALT_BYTES, Genesis
from layer1.ledger.transactions import OpenGroup, Payload, Report, Transaction, Transfer, Wedge, sign_transaction
from tests.layer1.ledger.world import Party, key, make_party

STALE, NEWEST = 1, 9
"""Versions: the liar wedges with the one, the honest member holds the other."""
DEPOSIT, BOND = 10, 2
VALID_MS = 500_000
"""Life span of every transaction, longer than a run."""
LIAR, HONEST = 0, 1
"""Members."""

FUNDERS = tuple(key(f"funder {i}") for i in range(2))
PAYERS = tuple(key(f"payer {i}") for i in range(16))
RECIPIENT = key("recipient")
"""Accounts."""


@dataclass
class Group:
    """One channel, and how its dispute goes. Times are of the ledger clock, ms."""

    number: int
    party: Party
    opening: Transaction
    wedge: Wedge | None = None
    report: Report | None = None
    deadline_ms: int | None = None
    """Once it is wedged."""
    wedged_us: int = 0
    """When the wedge was final, on the simulator's clock."""
    reported_ms: int | None = None
    """Clock of the block with the report."""
    reported_us: int = 0
    closed_version: int | None = None

    def opened(self, group_id: Hash) -> None:
        """Layer 1 has named it: the members sign two states, and each of them what it will bring."""
        self.party.id = group_id
        stale, newest = (self.party.state(version, 2 * DEPOSIT - version, version) for version in (STALE, NEWEST))
        self.wedge = self.party.wedge(LIAR, stale)
        header = newest[0].header
        self.report = self.party.report(newest, self.party.claim(HONEST, header.version, header))


@dataclass
class Wallets:
    """Signs transactions, each with a salt of its own."""

    genesis: Genesis
    _salts: Iterator[int] = field(default_factory=lambda: count(1))
    _payers: Iterator[SigningKey] = field(default_factory=lambda: cycle(PAYERS))

    def groups(self, number: int, period_ms: int) -> list[Group]:
        """So many, not open yet."""
        return [self.group(each, period_ms) for each in range(number)]

    def dispute(self, payload: Wedge | Report) -> Transaction:
        """A wedge or a report in a new transaction."""
        return self._blank(payload)

    def transfer(self) -> Transaction:
        """One unit from one of the payers."""
        payer = next(self._payers)
        return self._signed(self._blank(Transfer(payer.public, RECIPIENT.public, 1)), [payer])

    def group(self, number: int, period_ms: int) -> Group:
        """One, of this number, not open yet."""
        party = make_party(
            self.genesis.chain_id, FUNDERS, DEPOSIT, BOND, name=f"group {number}", challenge_period_ms=period_ms
        )
        return Group(number, party, self._signed(self._blank(OpenGroup(party.agreement)), FUNDERS))

    def _blank(self, payload: Payload) -> Transaction:
        return Transaction(payload, VALID_MS, next(self._salts).to_bytes(SALT_BYTES, "big"))

    def _signed(self, blank: Transaction, keys: Sequence[SigningKey]) -> Transaction:
        signatures = tuple(sign_transaction(blank, self.genesis.chain_id, each) for each in keys)
        return structs.replace(blank, signatures=signatures)
