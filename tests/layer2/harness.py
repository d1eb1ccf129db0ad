"""Members, a wire between them, and a disk for each: what the tests of this folder share."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from layer1.codec import encode
from layer1.crypto import Domain, SigningKey, digest
from layer1.errors import LocalError, Refused, RemoteError
from layer1.ledger import changing, disputes, settlement
from layer1.ledger import records as ledger
from layer1.ledger.agreements import (
    GroupAgreement,
    Limits,
    Member,
    Witness,
    group_id,
    initial_body,
    initial_certificate,
)
from layer1.ledger.genesis import Parameters
from layer1.ledger.opening import fresh, open_group
from layer1.ledger.transactions import ChangeGroup, CloseGroup, Payload, Plea, Report, Reveal, Wedge
from layer2 import group as core
from layer2 import witness as witness_core
from layer2.events import (
    Committed,
    Connected,
    Disconnected,
    DiskFailed,
    Effect,
    Event,
    LedgerSeen,
    Persist,
    Received,
    Rejected,
    Requested,
    Send,
)
from layer2.group import Group
from layer2.machine import StateMachine
from layer2.messages import Message, decode_message
from layer2.payments import Payments
from layer2.records import Lost

CHAIN = digest(Domain.GENESIS, b"chain of the tests")
BOND = 50


def key(name: str) -> SigningKey:
    return SigningKey(digest(Domain.GENESIS, name.encode()))


def key_in(terms: GroupAgreement, seat: int) -> SigningKey:
    """A member's key for a later epoch: `group 1`, or `group 1'`, and so on."""
    for turn in range(9):
        found = key(f"group {seat}" + turn * "'")
        if found.public == terms.members[seat].key:
            return found
    raise LocalError(f"the key of seat {seat} is not ours")


def agreement(
    deposits: tuple[int, ...] = (1000, 1000),
    machine: str = "payments/2",
    limits: Limits | None = None,
    chain_id: bytes = CHAIN,
    *,
    witnessed: bool = False,
) -> GroupAgreement:
    members = tuple(
        Member(key(f"group {i}").public, key(f"funding {i}").public, key(f"payout {i}").public, deposit, BOND)
        for i, deposit in enumerate(deposits)
    )
    names = range(len(members), 2 * len(members) - 1) if witnessed else ()
    witnesses = tuple(Witness(key(f"witness {place}").public) for place in names)
    return GroupAgreement(chain_id, members, 60_000, machine, 1_000_000, bytes(16), limits or Limits(), witnesses)


@dataclass
class Disk:
    """A journal in memory: what was not synced does not survive."""

    records: list[bytes] = field(default_factory=list)


class Party:
    """One member with its disk; performs effects as the driver does, into an outgoing wire."""

    def __init__(self, terms: GroupAgreement, index: int, machine: StateMachine | None = None, *, name: bytes = b""):
        self.terms, self.index, self.machine = terms, index, machine or Payments()
        self.name = name or group_id(terms, bytes(32))
        self.disk = Disk()
        self.salts = 0
        self.out: list[tuple[int, bytes]] = []
        self.committed: dict[int, Committed] = {}
        self.rejected: dict[int, Rejected] = {}
        self.others: list[Effect] = []
        self.persist_budget: int | None = None
        self.margin_ms: int | None = None
        self.group = self._blank()

    def _blank(self) -> Group:
        own = key(f"group {self.index}")
        margin = self.margin_ms
        return core.create(self.terms, self.name, self.index, own, self.machine, keys=key_in, margin_ms=margin)

    def salt(self) -> bytes:
        self.salts += 1
        return digest(Domain.BODY, b"%d/%d" % (self.index, self.salts))[:16]

    def step(self, event: Event) -> list[Effect]:
        try:
            after, effects = core.step(self.group, event)
        except RemoteError as error:
            self.group = core.remember(self.group, error)
            raise
        self.group = after
        self.perform(effects)
        return effects

    def perform(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Persist(record):
                    if self.persist_budget == 0:
                        self.group, _ = core.step(self.group, DiskFailed("test"))
                        return
                    if self.persist_budget is not None:
                        self.persist_budget -= 1
                    self.disk.records.append(record)
                case Send(member, message):
                    self.out.append((member, encode(message)))
                case Committed():
                    self.committed[effect.ordinal] = effect
                case Rejected():
                    self.rejected[effect.number] = effect
                case _:
                    self.others.append(effect)

    def request(self, *payloads: bytes) -> list[Effect]:
        return self.step(Requested(payloads, self.salt()))

    def hear(self, member: int, data: bytes) -> list[Effect]:
        message: Any = decode_message(data)
        return self.step(Received(member, message, self.salt()))

    def restart(self) -> None:
        """Crash and come back with the disk alone."""
        self.group, history = core.restore(self._blank(), self.disk.records)
        self.out.clear()
        for event in history:
            known = self.committed.setdefault(event.ordinal, event)
            assert known == event, "the history changed"

    def compact(self) -> None:
        self.disk.records = [core.snapshot(self.group)]

    def forget(self) -> None:
        """Lose everything but the phrase, and come back as a restored wallet does."""
        self.disk.records = [encode(Lost(self.name))]
        self.committed.clear()
        self.restart()

    def roll_back(self, records: int) -> None:
        """The disk comes back from a copy, which does not know that it is one."""
        self.disk.records = self.disk.records[:records]
        self.committed.clear()
        self.restart()


class WitnessParty:
    """A witness of the group with its disk; it took the group in as layer 1 opened it."""

    def __init__(self, terms: GroupAgreement, index: int, name: bytes = b"") -> None:
        self.terms, self.index, self.name = terms, index, name or group_id(terms, bytes(32))
        self.disk = Disk()
        self.out: list[tuple[int, bytes]] = []
        self.others: list[Effect] = []
        shown = fresh(terms, 1_000, initial_certificate(terms, self.name), initial_body(terms))
        self.holding, effects = witness_core.take(key(f"witness {index}"), shown)
        self.perform(effects)

    def step(self, event: Event) -> list[Effect]:
        if isinstance(event, Connected | Disconnected):
            return []
        assert isinstance(event, Received | LedgerSeen)
        self.holding, effects = witness_core.step(self.holding, event)
        self.perform(effects)
        return effects

    def perform(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Persist(record):
                    self.disk.records.append(record)
                case Send(member, message):
                    self.out.append((member, encode(message)))
                case _:
                    self.others.append(effect)

    def hear(self, member: int, data: bytes) -> list[Effect]:
        message: Any = decode_message(data)
        return self.step(Received(member, message, b""))

    def restart(self) -> None:
        """Crash and come back with the disk alone."""
        self.holding = witness_core.restore(key(f"witness {self.index}"), self.disk.records)
        self.out.clear()

    def compact(self) -> None:
        self.disk.records = [witness_core.snapshot(self.holding)]


class Court:
    """Layer 1 as one group sees it: the ledger's own functions, and a clock."""

    def __init__(self, terms: GroupAgreement) -> None:
        self.clock_ms = 1_000
        self.group = open_group(terms, bytes(32), terms.chain_id, Parameters(), self.clock_ms)
        self.refused: list[Refused] = []

    def bring(self, payload: Payload) -> None:
        """One transaction, in a block of its own."""
        self.clock_ms += 1
        try:
            match payload:
                case Wedge():
                    self.group = disputes.wedge(self.group, payload, self.clock_ms)
                case Reveal():
                    self.group = disputes.reveal(self.group, payload.body, self.clock_ms)
                case Report():
                    self.group = disputes.report(self.group, payload, self.clock_ms)
                case Plea():
                    self.group = disputes.plead(self.group, payload.plea, self.clock_ms)
                case CloseGroup():
                    self.group = settlement.close(self.group, payload, self.clock_ms)
                case ChangeGroup(successor):
                    chain, rules = successor.chain_id, Parameters()
                    self.group = changing.change(self.group, payload, chain, rules, self.clock_ms)
                case _:
                    raise AssertionError(f"a member brings a {type(payload).__name__}")
        except Refused as refusal:
            self.refused.append(refusal)

    def end(self) -> ledger.Group:
        """The group after its deadline."""
        if self.group.status is not ledger.Status.CLOSED:
            assert self.group.deadline_ms is not None, "nobody wedged it"
            self.clock_ms = self.group.deadline_ms
            self.group = settlement.settle(self.group, ledger.Reason.DEADLINE, self.clock_ms)
        return self.group


class Wire:
    """Ordered, reliable links of the primary with each other member, and of all members with each witness; a link may
    be cut, with all that is on it.
    """

    def __init__(self, *parties: Party | WitnessParty) -> None:
        self.parties = parties
        members = sum(isinstance(party, Party) for party in parties)
        witnesses = range(members, len(parties))
        self.links = [(0, member) for member in range(1, members)]
        self.links += [(member, witness) for witness in witnesses for member in range(members)]
        self.lines: dict[tuple[int, int], deque[bytes]] = {}
        self.errors: list[RemoteError] = []
        self.blamed: list[tuple[int, int]] = []
        """For each error: who sent what, to whom."""
        self.heard: list[Message] = []

    def pairs(self, places: tuple[int, ...]) -> list[tuple[int, int]]:
        """The links of these places, or all links, in both directions."""
        found = [link for link in self.links if not places or link[0] in places or link[1] in places]
        return [pair for a, b in found for pair in ((a, b), (b, a))]

    def connect(self, *places: int) -> None:
        """New links of these, or of all; what was on the old ones is lost."""
        self.collect()
        pairs = self.pairs(places)
        for sender, receiver in pairs:
            self.lines[sender, receiver] = deque()
        for party in self.parties:
            for sender, receiver in pairs:
                if sender == party.index:
                    party.step(Connected(receiver))
        self.collect()

    def cut(self, *places: int) -> None:
        """The links of these, or of all, end; both sides notice."""
        self.collect()
        pairs = self.pairs(places)
        for pair in pairs:
            self.lines.pop(pair, None)
        for sender, receiver in sorted(pairs):
            self.parties[sender].step(Disconnected(receiver))
        self.collect()

    def collect(self) -> None:
        for party in self.parties:
            for member, data in party.out:
                line = self.lines.get((party.index, member))
                if line is not None:
                    line.append(data)
            party.out.clear()

    def deliver(self, sender: int, receiver: int) -> bool:
        line = self.lines.get((sender, receiver))
        if not line:
            return False
        data = line.popleft()
        self.heard.append(decode_message(data))
        try:
            self.parties[receiver].hear(sender, data)
        except RemoteError as error:
            self.errors.append(error)
            self.blamed.append((sender, receiver))
        self.collect()
        return True

    def run(self, until: Callable[[], bool] = lambda: False) -> None:
        """Deliver everything, in a fixed order."""
        self.collect()
        for _ in range(100_000):
            delivered = False
            for sender, receiver in list(self.lines):
                if until():
                    return
                delivered |= self.deliver(sender, receiver)
            if not delivered:
                return
        raise LocalError("the wire never falls silent")


def pair(machine: StateMachine | None = None, **terms: Any) -> tuple[Party, Party, Wire]:
    """Two members in step."""
    return trio_of(2, machine, **terms)


def trio_of(count: int, machine: StateMachine | None = None, **terms: Any) -> tuple[Any, ...]:
    """Members in step, then their wire."""
    name = {"machine": machine.name} if machine else {}
    contract = agreement(**{"deposits": (1000,) * count, **name, **terms})
    members = tuple(Party(contract, i, machine) for i in range(count))
    witnesses = tuple(WitnessParty(contract, place) for place in range(count, contract.places))
    parties: tuple[Party | WitnessParty, ...] = (*members, *witnesses)
    wire = Wire(*parties)
    wire.connect()
    wire.run()
    return (*parties, wire)
