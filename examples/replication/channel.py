"""Two members of a group in one process: the real group cores of layer 2, above a `Ledger`.

channel = Channel(ledger, (ALICE, BOB))
channel.pay(0, 100)

Left out: links, journals, batching. A member is an immutable value, so an old copy of one is just an older value.

Source: docs/design/groups.md, rules 1 to 3, 8, 9 and 11.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from itertools import count

from examples.replication.ledger import Ledger, key_of
from layer1.codec import encode
from layer1.crypto import SigningKey
from layer1.ledger import records
from layer1.ledger.agreements import GroupAgreement, Member
from layer1.ledger.transactions import OpenGroup
from layer2 import group as core
from layer2.events import Connected, Effect, Event, LedgerSeen, Received, Requested, Send, Submission, WedgeRequested
from layer2.messages import GroupMessage
from layer2.payments import Pay, Payments
from layer2.value import Group

DEPOSIT = 500
"""Minor units that each member puts in. Nobody posts a bond here: lessons are about states, not about penalties."""
WINDOW_MS = 60_000
"""The challenge period."""


class Channel:
    """A group of two and the wire between its members."""

    def __init__(self, ledger: Ledger, people: Sequence[SigningKey]) -> None:
        """Open the group on the ledger."""
        keys = [key_of(f"member {i}") for i in range(len(people))]
        members = tuple(
            Member(key.public, person.public, person.public, DEPOSIT, 0)
            for key, person in zip(keys, people, strict=True)
        )
        agreement = GroupAgreement(ledger.genesis.chain_id, members, WINDOW_MS, Payments.name, 10**9, bytes(16))
        output = ledger.order(ledger.sign(OpenGroup(agreement), *people))
        assert output.group_id is not None, output.message
        self.ledger, self.id = ledger, output.group_id
        self.sent: Counter[str] = Counter()
        """Messages between the members, by kind."""
        self._salts, self._wire = count(1), deque[tuple[int, int, GroupMessage]]()
        self.members: list[Group] = [core.create(agreement, self.id, i, key, Payments()) for i, key in enumerate(keys)]
        for index in range(len(people)):
            for other in self.members[index].others:
                self.step(index, Connected(other))
        self._deliver()

    def step(self, index: int, event: Event) -> list[Effect]:
        """One event of one member; what it sends waits on the wire."""
        self.members[index], effects = core.step(self.members[index], event)
        for effect in effects:
            if isinstance(effect, Send):
                self.sent[type(effect.message).__name__] += 1
                self._wire.append((index, effect.member, effect.message))
        return effects

    def pay(self, payer: int, amount: int) -> None:
        """One payment to the other member, until both hold its certificate."""
        self.step(payer, Requested((encode(Pay(1 - payer, amount)),), self._salt()))
        self._deliver()

    def wedge(self, member: Group) -> None:
        """`member`, which may be an old copy, brings its newest certificate to the ledger, which stops the group."""
        _, effects = core.step(member, WedgeRequested())
        self._submit(effects)

    def watch(self, index: int) -> bool:
        """A member looks at the ledger and reports if that knows less than it does; whether it had anything to say."""
        return self._submit(self.step(index, LedgerSeen(self.record)))

    @property
    def record(self) -> records.Group:
        """The group as the ledger has it."""
        newest = max(self.ledger.replicas, key=lambda replica: replica.state.height)
        found = newest.state.group(self.id)
        assert found is not None, "it was opened"
        return found

    def _submit(self, effects: list[Effect]) -> bool:
        payloads = [effect.payload for effect in effects if isinstance(effect, Submission)]
        for payload in payloads:
            self.ledger.order(self.ledger.sign(payload))
        return bool(payloads)

    def _deliver(self) -> None:
        while self._wire:
            sender, receiver, message = self._wire.popleft()
            self.step(receiver, Received(sender, message, self._salt()))

    def _salt(self) -> bytes:
        return next(self._salts).to_bytes(16, "big")
