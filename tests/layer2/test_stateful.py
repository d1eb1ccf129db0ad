"""Two members, a link that loses everything at any moment, crashes between any two effects: the safety arguments of
`layer2.group`, `layer2.updating` and `layer2.reconnecting` as invariants.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from layer1.codec import decode
from layer1.errors import Refused
from layer1.ledger.agreements import GroupHeader
from layer2 import group as core
from layer2.events import CloseRequested, Effect, WedgeRequested
from layer2.machine import Balances
from layer2.messages import Accept, Propose
from layer2.payments import pay
from layer2.records import HostRecord, Signed
from tests.layer2.harness import Party, Wire, agreement


class Crash(Exception):
    """The process ended between two effects."""


class Fragile(Party):
    """Dies after a given number of effects, with what is on its disk."""

    effects_left: int | None = None

    def perform(self, effects: list[Effect]) -> None:
        for effect in effects:
            if self.effects_left == 0:
                raise Crash
            if self.effects_left is not None:
                self.effects_left -= 1
            super().perform([effect])


class Tally:
    """A user's machine: everybody counts up, and the state is the history of counts."""

    name = "tally/1"

    def initial(self, member_count: int) -> tuple[int, ...]:
        return (0,) * member_count

    def encode(self, state: tuple[int, ...]) -> bytes:
        return b",".join(b"%d" % each for each in state)

    def decode(self, data: bytes, member_count: int) -> tuple[int, ...]:
        return tuple(int(each) for each in data.split(b","))

    def apply(self, state: tuple[int, ...], balances: Balances, member: int, command: bytes) -> tuple[Balances, Any]:
        if not command.startswith(b"+"):
            raise Refused("bad_command", "a command is a plus")
        return balances, tuple(each + (i == member) for i, each in enumerate(state))


class TwoMembers(RuleBasedStateMachine):
    """Everything that may happen to two honest members; after each step the invariants, in the end convergence."""

    def __init__(self) -> None:
        super().__init__()
        terms = agreement(deposits=(100, 100))
        self.parties = (Fragile(terms, 0), Fragile(terms, 1))
        self.wire = Wire(*self.parties)
        self.signed: dict[tuple[int, int], GroupHeader] = {}
        self.told: list[dict[int, Any]] = [{}, {}]
        self.issued: list[dict[bytes, int]] = [{}, {}]
        self.serial = 0
        self.wedged = False

    @initialize()
    def start(self) -> None:
        self.reconnect()

    def reconnect(self) -> None:
        """Both notice the end of the old link before the new one; their Resumes arrive, or not."""
        self.wire.cut()
        self.wire.connect()

    def attempt(self, index: int, action: Callable[[], object]) -> None:
        """One member acts; if it dies on the way it comes back from its disk."""
        try:
            action()
        except Crash:
            self.wire.collect()
            while self.wire.deliver(index, 1 - index):
                pass  # what left before the end arrives
            self.restart(index)
        except Refused:
            pass
        self.wire.collect()
        self.watch()

    def restart(self, index: int) -> None:
        party = self.parties[index]
        party.effects_left = None
        self.watch()
        party.restart()
        self.reconnect()

    @rule(index=st.integers(0, 1), amounts=st.lists(st.integers(1, 60), min_size=1, max_size=3))
    def request(self, index: int, amounts: list[int]) -> None:
        payloads = []
        for amount in amounts:
            self.serial += 1
            payloads.append(pay(1 - index, amount, b"%d" % self.serial))
        self.attempt(index, lambda: self.parties[index].request(*payloads))

    @rule(senders=st.lists(st.integers(0, 1), min_size=1, max_size=8))
    def deliver(self, senders: list[int]) -> None:
        for sender in senders:
            self.attempt(1 - sender, partial(self.wire.deliver, sender, 1 - sender))

    @rule(index=st.integers(0, 1), effects=st.integers(0, 3), amount=st.integers(1, 60))
    def die_while_it_works(self, index: int, effects: int, amount: int) -> None:
        """The heart of it: the process ends between any two effects, while payments flow both ways."""
        self.deliver([0, 1, 0, 1, 0, 1])
        self.parties[index].effects_left = effects
        for who in (index, 1 - index):
            self.request(who, [amount])
        self.deliver([1 - index, index, 1 - index])
        self.parties[index].effects_left = None

    @rule(index=st.integers(0, 1))
    def crash(self, index: int) -> None:
        self.restart(index)

    @rule()
    def lose_the_link(self) -> None:
        self.reconnect()

    @rule(index=st.integers(0, 1))
    def compact(self, index: int) -> None:
        self.watch()
        self.parties[index].compact()

    @precondition(lambda self: not self.wedged)
    @rule(index=st.integers(0, 1), chance=st.integers(0, 9))
    def wedge(self, index: int, chance: int) -> None:
        if chance == 0:
            self.wedged = True
            self.attempt(index, lambda: self.parties[index].step(WedgeRequested()))

    @precondition(lambda self: not self.wedged)
    @rule(index=st.integers(0, 1), chance=st.integers(0, 9))
    def close(self, index: int, chance: int) -> None:
        if chance == 0:
            self.attempt(index, lambda: self.parties[index].step(CloseRequested()))

    def watch(self) -> None:
        """Note every signature that is on a disk, and everything that was said to be committed."""
        for party in self.parties:
            for data in party.disk.records:
                record: Any = decode(data, HostRecord)  # type: ignore[arg-type]
                if isinstance(record, Signed):
                    self.note(party.index, record.propose.header)
            for version, event in party.committed.items():
                known = self.told[party.index].setdefault(version, event)
                assert known == event, "what was committed has changed"

    def note(self, index: int, header: GroupHeader) -> None:
        known = self.signed.setdefault((index, header.version), header)
        assert known == header, f"member {index} signed two bodies at version {header.version}"

    @invariant()
    def nothing_is_said_that_is_not_durable(self) -> None:
        for (sender, _), line in self.wire.lines.items():
            for data in line:
                message: Any = decode_any(data)
                if isinstance(message, Propose):
                    assert (sender, message.header.version) in self.signed
                if isinstance(message, Accept):
                    assert (sender, message.version) in self.signed

    @invariant()
    def nobody_loses_data(self) -> None:
        assert not any(party.group.lost for party in self.parties)

    @invariant()
    def money_is_conserved(self) -> None:
        for party in self.parties:
            assert sum(party.group.state.body.balances) == 200

    @invariant()
    def what_is_committed_is_never_lost(self) -> None:
        for party in self.parties:
            newest = max(self.told[party.index], default=0)
            assert party.group.version >= newest, f"member {party.index} forgot version {newest}"

    @invariant()
    def both_commit_the_same(self) -> None:
        for version in set(self.told[0]) & set(self.told[1]):
            assert self.told[0][version] == self.told[1][version]

    @invariant()
    def nothing_is_paid_twice(self) -> None:
        for told in self.told:
            seen = [command.payload for event in told.values() for command in event.batch.commands]
            assert len(seen) == len(set(seen))

    @invariant()
    def honest_members_find_no_fault_with_each_other(self) -> None:
        assert not self.wire.errors, self.wire.errors

    def teardown(self) -> None:
        """The network calms down: both go on from one version, unless the group has ended."""
        for party in self.parties:
            party.effects_left = None
        self.wire.cut()
        self.wire.connect()
        self.wire.run()
        self.watch()
        self.honest_members_find_no_fault_with_each_other()
        a, b = self.parties
        if a.group.claim is None and b.group.claim is None:
            assert a.group.state == b.group.state and a.group.pending is None
            assert b.group.outbox == () and a.group.queue == ()
        if a.group.final is not None and b.group.claim is None:
            assert b.group.final is not None and b.group.final.final == a.group.final.final
        for party in self.parties:
            replayed, _ = core.restore(party._blank(), party.disk.records)
            live = party.group
            assert (replayed.state, replayed.pending, replayed.claim, replayed.final) == (
                live.state,
                live.pending,
                live.claim,
                live.final,
            )


def decode_any(data: bytes) -> Any:
    from layer2.messages import decode_message

    return decode_message(data)


TestTwoMembers = pytest.mark.slow(TwoMembers.TestCase)
TestTwoMembers.settings = settings(
    max_examples=150, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)


def test_a_users_own_machine_is_replicated_instead_of_payments() -> None:
    """Any deterministic machine serves: here a shared tally, through restarts and a snapshot."""
    terms = agreement(machine="tally/1")
    a, b = Party(terms, 0, Tally()), Party(terms, 1, Tally())
    wire = Wire(a, b)
    wire.connect()
    wire.run()
    a.request(b"+", b"+")
    b.request(b"+", b"no")
    wire.run()
    assert a.group.state.machine_state == b.group.state.machine_state == (2, 1)
    assert b.rejected[2].code == "bad_command"
    a.compact()
    for party in (a, b):
        party.restart()
    wire.connect()
    wire.run()
    b.request(b"+")
    wire.run()
    assert a.group.state.machine_state == (2, 2) and a.group.state.body.machine_state == b"2,2"


def test_a_state_that_outgrows_its_limit_is_refused() -> None:
    """The command that would make the state too large is refused; those before it apply."""

    class Growing(Tally):
        def apply(self, state: Any, balances: Balances, member: int, command: bytes) -> tuple[Balances, Any]:
            return balances, state + (0,) * len(command)

    from layer1.ledger.agreements import Limits

    terms = agreement(machine="tally/1", limits=Limits(max_state_bytes=9))
    a, b = Party(terms, 0, Growing()), Party(terms, 1, Growing())
    wire = Wire(a, b)
    wire.connect()
    wire.run()
    b.request(b"1", b"22", b"333", b"")
    wire.run()
    assert b.rejected[3].code == "state_too_large" and set(b.rejected) == {3}
    assert a.group.state == b.group.state and a.group.state.body.machine_state == b"0,0,0,0,0"
