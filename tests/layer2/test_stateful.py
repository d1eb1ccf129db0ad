"""Groups of 2, 3, 5 and 8, links that lose everything at any moment, crashes between any two effects, one liar in any
seat: the safety arguments of `layer2.group`, `layer2.updating` and `layer2.reconnecting` as invariants.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from msgspec import structs
from msgspec.structs import replace

from layer1.codec import decode, encode
from layer1.errors import LocalError, Refused, RemoteError
from layer1.ledger.agreements import GroupHeader, sign_claim, verify_state
from layer1.ledger.records import Reason, Status
from layer1.ledger.transactions import Payload, Wedge
from layer2 import group as core
from layer2.events import ChangeWanted, CloseRequested, Effect, Inquired, LedgerSeen, Submission, WedgeRequested
from layer2.machine import Balances
from layer2.messages import (
    Accept,
    ChangeAccept,
    ChangeProposal,
    ChangeReady,
    Command,
    Propose,
    Standing,
)
from layer2.payments import pay
from layer2.records import ChangeDropped, ChangeSigned, EpochBegun, HostRecord, Signed
from layer2.standing import waiting
from layer2.state import Pending, follow
from layer2.terms import change_amounts
from tests.layer2.harness import Court, Party, Wire, agreement
from tests.layer2.test_updating import forge
from tests.simulation.signatures import shared_signature_checks

SEATS = st.integers(0, 839)
"""Any member: a number that all sizes divide."""


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


class Members(RuleBasedStateMachine):
    """Everything that may happen to a group; after each step the invariants of the honest, in the end convergence."""

    size = 2
    has_liar = False
    changes = False
    """Whether members pay in and take out while the group is open."""

    def __init__(self) -> None:
        super().__init__()
        self.terms = agreement(deposits=(100,) * self.size)
        self.court = Court(self.terms)
        self.parties = tuple(Fragile(self.terms, i) for i in range(self.size))
        self.liar: int | None = None
        self.wire = Wire(*self.parties)
        self.signed: dict[tuple[int, int, int], GroupHeader] = {}
        self.outstanding: dict[int, ChangeSigned] = {}
        """By member, the change that it signed, and that layer 1 has not decided for it."""
        self.ever_changed: set[int] = set()
        self.told: list[dict[int, Any]] = [{} for _ in self.parties]
        self.spent = [0] * self.size
        self.issued: set[tuple[int, bytes]] = set()
        self.read = [0] * self.size
        """Records of each disk that :meth:`watch` has seen."""
        self.serial = 0
        self.ending = False

    @property
    def honest(self) -> list[Fragile]:
        return [party for party in self.parties if party.index != self.liar]

    @initialize(seat=SEATS, turns=st.integers(0, 31), first=st.integers(0, 7), calm=st.booleans())
    def start(self, seat: int, turns: int, first: int, calm: bool) -> None:
        self.liar = seat % self.size if self.has_liar else None
        self.last_act = turns, first, calm
        self.wire.connect()

    def reconnect(self, *members: int) -> None:
        """Both sides notice the end of the old link before the new one; their Resumes arrive, or not."""
        self.wire.cut(*members)
        self.wire.connect(*members)

    def attempt(self, index: int, action: Callable[[], object]) -> None:
        """One member acts; if it dies on the way it comes back from its disk."""
        try:
            action()
        except Crash:
            self.wire.collect()
            for peer in self.parties[index].group.place.peers:
                while self.wire.deliver(index, peer):
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
        while True:
            try:
                party.restart()
            except LocalError:
                assert index == self.liar, "an honest member's disk contradicts itself"
                party.disk.records.pop()
            else:
                break
        self.reconnect(*([index] if index else []))

    @rule(seat=SEATS, step=st.integers(1, 7), amounts=st.lists(st.integers(1, 60), min_size=1, max_size=3))
    def request(self, seat: int, step: int, amounts: list[int]) -> None:
        index = seat % self.size
        payee = (index + 1 + step % (self.size - 1)) % self.size
        payloads = []
        for amount in amounts:
            self.serial += 1
            self.spent[index] += amount
            payloads.append(pay(payee, amount, b"%d" % self.serial))
        self.issued.update((index, payload) for payload in payloads)
        self.attempt(index, lambda: self.parties[index].request(*payloads))

    @rule(choices=st.lists(SEATS, min_size=1, max_size=8))
    def deliver(self, choices: list[int]) -> None:
        for choice in choices:
            busy = [line for line, content in self.wire.lines.items() if content]
            if busy:
                sender, receiver = busy[choice % len(busy)]
                self.attempt(receiver, partial(self.wire.deliver, sender, receiver))

    @rule()
    def deliver_all(self) -> None:
        """One message of every line, in turn; long enough to certify a version in a large group too."""
        for _ in range(6):
            for sender, receiver in list(self.wire.lines):
                self.attempt(receiver, partial(self.wire.deliver, sender, receiver))

    @rule(seat=SEATS, effects=SEATS, amount=st.integers(1, 60))
    def die_while_it_works(self, seat: int, effects: int, amount: int) -> None:
        """The heart of it: the process ends between any two effects, while payments flow both ways."""
        index = seat % self.size
        self.heal()
        self.deliver_all()
        self.parties[index].effects_left = effects % (self.size + 3)
        for who in (index, index + 1):
            self.request(who, 0, [amount])
        self.deliver_all()
        self.parties[index].effects_left = None

    @rule(seat=SEATS)
    def crash(self, seat: int) -> None:
        self.restart(seat % self.size)

    @rule(seat=SEATS)
    def lose_the_link(self, seat: int) -> None:
        self.reconnect(1 + seat % (self.size - 1))

    @rule(seat=SEATS)
    def cut_a_link(self, seat: int) -> None:
        """Until something reconnects it."""
        self.wire.cut(1 + seat % (self.size - 1))

    @rule()
    def heal(self) -> None:
        """All links are there again."""
        cut = [member for member in range(1, self.size) if (0, member) not in self.wire.lines]
        if cut:
            self.wire.connect(*cut)

    @rule(seat=SEATS)
    def compact(self, seat: int) -> None:
        self.watch()
        if seat % self.size != self.liar:  # whose old records are of use to it
            self.parties[seat % self.size].compact()
            self.read[seat % self.size] = 0

    @rule(seat=SEATS)
    def inquire(self, seat: int) -> None:
        self.attempt(seat % self.size, lambda: self.parties[seat % self.size].step(Inquired()))

    @precondition(lambda self: not self.ending)
    @rule(seat=SEATS, chance=st.integers(0, 9), event=st.sampled_from([WedgeRequested(), CloseRequested()]))
    def end(self, seat: int, chance: int, event: Any) -> None:
        if chance == 0:
            self.ending = isinstance(event, WedgeRequested)
            self.attempt(seat % self.size, lambda: self.parties[seat % self.size].step(event))

    @rule(seat=SEATS, lost=st.booleans())
    def look_at_layer_1(self, seat: int, lost: bool) -> None:
        """What a member wants to bring there arrives, or is lost."""
        party = self.parties[seat % self.size]
        seen = LedgerSeen(self.court.group, self.court.clock_ms, party.salt())
        self.attempt(party.index, lambda: party.step(seen))
        for payload in self.submissions(party):
            if not lost:
                self.court.bring(payload)

    @precondition(lambda self: self.changes)
    @rule(seat=SEATS, units=st.integers(-60, 60).filter(bool), life_ms=st.integers(1, 40), agreed=st.integers(0, 9))
    def resize(self, seat: int, units: int, life_ms: int, agreed: int) -> None:
        """A member pays in or takes out; the others agree, mostly; some step of it may be lost, or the last one."""
        index = seat % self.size
        party = self.parties[index]
        self.heal()
        self.serial += 1
        self.spent[index] += max(-units, 0)
        sums = [units if i == index else 0 for i in range(self.size)]
        salt = self.serial.to_bytes(16, "big")
        wanted = change_amounts(
            party.group.place.agreement, party.group.epoch, sums, self.court.clock_ms + life_ms, salt
        )
        event = ChangeWanted(wanted, self.court.clock_ms)
        self.deliver_all()
        for member in range(self.size):
            if agreed % (self.size + 7) != member:
                self.attempt(member, partial(self.parties[member].step, event))
        self.deliver_all()

    @precondition(lambda self: self.changes)
    @rule(
        seat=SEATS,
        units=st.integers(-30, 60),
        steps=st.integers(0, 16),
        effects=st.integers(0, 30),
        taken=st.booleans(),
        first=SEATS,
        amount=st.integers(1, 60),
    )
    def change_while_it_works(
        self, seat: int, units: int, steps: int, effects: int, taken: bool, first: int, amount: int
    ) -> None:
        """The heart of it: versions in flight, a process that ends, layer 1 that takes it or not, seen one by one."""
        index, ranked = seat % self.size, [(first + i) % self.size for i in range(self.size)]
        self.heal()
        for member in ranked:
            self.look_at_layer_1(member, False)
        self.deliver_all()
        self.request(0, 0, [amount])
        self.parties[index].effects_left = effects
        self.resize(index, units or 1, 50, self.size + 6)
        self.parties[index].effects_left = effects
        for turn in range(steps):
            busy = [line for line, content in self.wire.lines.items() if content]
            if busy:
                sender, receiver = busy[turn % len(busy)]
                self.attempt(receiver, partial(self.wire.deliver, sender, receiver))
            self.request(turn % self.size, 0, [1])
        self.parties[index].effects_left = None
        self.court.clock_ms += 0 if taken else 100
        for member in ranked:
            self.look_at_layer_1(member, not taken)
            self.request(member, 0, [1])
            self.deliver_all()
        self.compact(index)
        self.restart(index)
        for member in ranked:
            self.look_at_layer_1(member, False)
        self.deliver_all()
        self.request(1, 0, [1])

    @precondition(lambda self: self.changes)
    @rule(ms=st.integers(1, 60))
    def wait(self, ms: int) -> None:
        """Changes expire."""
        self.court.clock_ms += ms

    def submissions(self, party: Party) -> list[Payload]:
        found = [effect.payload for effect in party.others if isinstance(effect, Submission)]
        party.others.clear()
        return list(found)

    # ---------------------------------------------------------------------------------------------------- the liar

    @precondition(lambda self: self.liar == 0)
    @rule(amount=st.integers(1, 50), victim=SEATS, spare=SEATS, steal=st.booleans(), keep=st.booleans())
    def propose_what_it_likes(self, amount: int, victim: int, spare: int, steal: bool, keep: bool) -> None:
        """Other bodies at the version that it has the certificate for, to all but one or to all; others' payments."""
        self.heal()
        party, member = self.parties[0], 1 + victim % (self.size - 1)
        payer, payee = (member, 0) if steal else (0, member)
        number = party.group.state.body.applied[payer] + 1
        forged = forge(party, party.group, (Command(payer, number, pay(payee, amount), bytes(16) if payer else b""),))
        self.deliver_all()
        for other in range(1, self.size):
            if other != spare % (2 * self.size) and (0, other) in self.wire.lines:
                self.wire.lines[0, other].append(encode(forged))
                self.attempt(other, partial(self.wire.deliver, 0, other))
        if keep:
            with suppress(RemoteError):
                state, batch = follow(party.group.place, party.group.state, forged)
                signatures = (forged.signature, *(None for _ in party.group.others))
                party.disk.records.append(encode(Signed(forged, b"")))
                party.group = replace(party.group, pending=Pending(state, forged, batch, signatures))

    @precondition(lambda self: self.liar is not None)
    @rule(records=st.integers(0, 20), back=st.booleans())
    def come_back_from_an_old_disk(self, records: int, back: bool) -> None:
        """Data loss, feigned or not, also of what ended the group for it."""
        party = self.parties[self.liar or 0]
        kept = party.disk.records[: len(party.disk.records) - records if back else records]
        party.disk.records, party.committed = list(kept), {}
        self.told[party.index].clear()
        self.restart(party.index)

    @precondition(lambda self: self.liar is not None)
    @rule(seat=SEATS, what=st.sampled_from(["again", "drop", "swap", "sign", "absent"]))
    def tamper(self, seat: int, what: str) -> None:
        """Withhold, repeat and change what it says, while there is a version in flight."""
        self.heal()
        self.request(0, 0, [1])
        for sender, receiver in [line for line in self.wire.lines if line[1] == self.liar]:
            while self.wire.deliver(sender, receiver):
                pass
        lines = [line for line in self.wire.lines if line[0] == self.liar and self.wire.lines[line]]
        if not lines:
            return
        line = self.wire.lines[lines[seat % len(lines)]]
        if what == "again":
            line.append(line[0])
        elif what == "drop":
            line.popleft()
        elif what == "swap":
            line.rotate()
        else:
            line[0] = encode(falsified(decode_any(line[0]), what))

    @precondition(lambda self: self.liar is not None)
    @rule()
    def forget_the_end(self) -> None:
        """It signs on after a CLAIM or a FINAL."""
        party = self.parties[self.liar or 0]
        party.group = replace(party.group, claim=None, final=None, ledger=None, lost=False, closing=False, change=None)

    @precondition(lambda self: self.liar is not None)
    @rule(chance=st.integers(0, 4))
    def wedge_with_what_it_has(self, chance: int) -> None:
        """With the certificate of its disk as of now, which may be an old one."""
        party = self.parties[self.liar or 0]
        if chance == 0 and not party.group.closed:
            claim = sign_claim(party.group.place.key, party.index, party.group.version, party.group.highest)
            self.court.bring(Wedge(party.group.certificate, party.group.state.body, claim))

    # ----------------------------------------------------------------------------------------------- the invariants

    def watch(self) -> None:
        """Note every signature that is on a disk, and everything that was said to be committed."""
        for party in self.honest:
            for data in party.disk.records[self.read[party.index] :]:
                record: Any = decode(data, HostRecord)  # type: ignore[arg-type]
                self.note_change(party.index, record)
                if isinstance(record, Signed):
                    self.note(party.index, record.propose.header)
            self.read[party.index] = len(party.disk.records)
            for version, event in party.committed.items():
                known = self.told[party.index].setdefault(version, event)
                assert known == event, "what was committed has changed"

    def note_change(self, index: int, record: Any) -> None:
        """Rule 24: between a change and what layer 1 made of it, no STATE is signed; one change is signed at a time."""
        known = self.outstanding.get(index)
        match record:
            case ChangeSigned():
                same = known is None or known.successor == record.successor
                assert same, f"member {index} signed two changes in epoch {record.successor.epoch}"
                self.outstanding[index] = record
                self.ever_changed.add(index)
            case ChangeDropped():
                assert known is not None
                dead = self.court.clock_ms >= known.terms.expires_ms or self.court.group.status is not Status.OPEN
                assert dead, f"member {index} gave up a change that may yet be taken"
                del self.outstanding[index]
            case EpochBegun():
                self.outstanding.pop(index, None)
            case Signed():
                assert known is None, f"member {index} signed version {record.propose.header.version} beside a change"
            case _:
                pass

    def note(self, index: int, header: GroupHeader) -> None:
        known = self.signed.setdefault((index, header.epoch, header.version), header)
        assert known == header, f"member {index} signed two bodies at version {header.version}"

    @invariant()
    def nothing_is_said_that_is_not_durable(self) -> None:
        for (sender, _), line in self.wire.lines.items():
            for data in line if sender != self.liar else ():
                message: Any = decode_any(data)
                if isinstance(message, Propose):
                    assert (sender, message.header.epoch, message.header.version) in self.signed
                if isinstance(message, ChangeProposal | ChangeAccept | ChangeReady):
                    assert sender in self.ever_changed, f"member {sender} sent a signature that is not durable"
                if isinstance(message, Accept):
                    assert any((sender, e, message.version) in self.signed for e in range(self.court.group.epoch + 1))

    @property
    def is_over(self) -> bool:
        """Layer 1 has closed the group: of what was signed nothing counts any more, nor need it be kept."""
        return self.court.group.status is Status.CLOSED

    @invariant()
    def nobody_loses_data(self) -> None:
        assert self.is_over or not any(party.group.lost for party in self.honest)

    @invariant()
    def money_is_conserved(self) -> None:
        for party in self.honest:
            assert sum(party.group.state.body.balances) == party.group.place.agreement.funding_units

    @invariant()
    def nobody_pays_what_it_did_not_issue(self) -> None:
        for party in self.honest:
            assert party.group.state.body.balances[party.index] + self.spent[party.index] >= 100

    @invariant()
    def what_is_committed_is_never_lost(self) -> None:
        for party in self.honest:
            newest = max(self.told[party.index], default=0)
            kept = self.is_over or ordinal(party.group.state.header) >= newest
            assert kept, f"member {party.index} forgot version {newest}"

    @invariant()
    def what_is_committed_has_everybodys_signature(self) -> None:
        for party in self.honest:
            header = party.group.state.header
            for member, signature in zip(self.terms.members, party.group.signatures, strict=header.version > 0):
                assert verify_state(member, header, signature), f"version {header.version} is certified without one"

    @invariant()
    def all_commit_the_same(self) -> None:
        found: dict[int, Any] = {}
        for party in self.honest:
            for version, event in self.told[party.index].items():
                assert found.setdefault(version, event) == event

    @invariant()
    def nothing_is_paid_twice_or_unasked(self) -> None:
        for party in self.honest:
            batches = [event.batch.commands for event in self.told[party.index].values()]
            paid = [(c.member, c.payload) for commands in batches for c in commands if c.member != self.liar]
            assert len(paid) == len(set(paid)) and self.issued.issuperset(paid)

    @invariant()
    def honest_members_find_no_fault_with_each_other(self) -> None:
        for pair, error in zip(self.wire.blamed, self.wire.errors, strict=True):
            assert self.liar in pair, (pair, error)

    def teardown(self) -> None:
        """The network calms down: all go on from one version, unless the group has ended or a member lies."""
        for party in self.parties:
            party.effects_left = None
        if self.last_act[2]:
            self.calm_down()
        for party in self.honest:
            replayed, _ = core.restore(party._blank(), party.disk.records)
            assert self.is_over or durable(replayed) == durable(party.group)
        self.settle()

    def calm_down(self) -> None:
        if self.changes:  # what is not decided yet, is
            self.court.clock_ms += 100
            for party in self.honest:
                party.step(LedgerSeen(self.court.group, self.court.clock_ms, party.salt()))
        self.wire.cut()
        self.wire.connect()
        self.wire.run()
        self.watch()
        self.honest_members_find_no_fault_with_each_other()
        if self.liar is None:
            self.check_convergence()

    def check_convergence(self) -> None:
        groups = [party.group for party in self.parties]
        if all(group.claim is None and group.ledger is None for group in groups):
            for group in groups:
                assert group.state == groups[0].state and group.signatures == groups[0].signatures
                assert group.change is None and group.epoch == groups[0].epoch
                assert group.pending is None and group.outbox == () == group.queue and waiting(group) is None
                assert group.final == groups[0].final

    def settle(self) -> None:
        """Who ends on layer 1 gets what it called committed, or newer, and keeps its bond."""
        turns, first, _ = self.last_act
        self.heal()
        self.request(1, 0, [1])
        for turn in range(turns):  # in the middle of a version, often
            sender, receiver = list(self.wire.lines)[turn % len(self.wire.lines)]
            self.attempt(receiver, partial(self.wire.deliver, sender, receiver))
        first %= len(self.honest)
        ranked = self.honest[first:] + self.honest[:first]
        for _ in range(3):  # a change may be faster than the wedge, and another one before it
            if self.court.group.status is Status.OPEN:
                with suppress(Refused):  # it is closed
                    ranked[0].step(WedgeRequested())
            for _ in range(4):
                for party in ranked:
                    party.step(LedgerSeen(self.court.group))
                    for payload in self.submissions(party):
                        self.court.bring(payload)
        closed = self.court.end()
        self.watch()
        for party in self.honest:
            party.step(LedgerSeen(closed))
            bond = self.terms.members[party.index].bond
            newest = max(self.told[party.index], default=0)
            assert ordinal(closed.certificate.header) >= newest or closed.reason is Reason.FINAL
            assert not closed.forfeited[party.index], f"member {party.index} is honest"
            assert closed.payouts[party.index] + self.spent[party.index] >= 100 + bond
            if closed.reason is Reason.FINAL:  # on its own newest state, for it signed nothing above
                assert closed.payouts[party.index] >= party.group.state.body.balances[party.index] + bond
        terms = closed.agreement
        assert sum(closed.payouts) == terms.funding_units + terms.bond_units


def ordinal(header: GroupHeader) -> int:
    """Counts versions over all epochs, as `Committed.ordinal` does."""
    return header.epoch << 40 | header.version


def durable(group: core.Group) -> tuple[Any, ...]:
    """What a restart must bring back; others' signatures of what is pending are shown again."""
    pending = None if group.pending is None else group.pending.propose
    final = None if group.final is None else group.final.final
    return group.state, group.signatures, pending, group.claim, final, group.lost, group.change


def falsified(message: Any, what: str) -> Any:
    """The same message with a wrong signature, or with other people in it."""
    if what == "absent" and isinstance(message, Standing):
        return structs.replace(message, absent=(1, 2), closing=True)
    for field in ("signature", "parent_signatures", "signatures", "version"):
        found = getattr(message, field, None)
        if isinstance(found, bytes):
            return structs.replace(message, **{field: bytes(64)})
        if isinstance(found, tuple) and found:
            return structs.replace(message, **{field: (bytes(64), *found[1:])})
        if isinstance(found, int) and not isinstance(message, Accept):
            return structs.replace(message, **{field: found + 1})
    return message


def decode_any(data: bytes) -> Any:
    from layer2.messages import decode_message

    return decode_message(data)


class LosesData(Members):
    """Honest members lose their disks, or get old ones back, at any moment; nobody lies, and nobody loses its bond.

    Who has an old disk meets the others before it acts: what it does before, it does on its own word (decision 035).
    """

    @rule(seat=SEATS, records=st.integers(0, 20), phrase=st.booleans())
    def lose_data(self, seat: int, records: int, phrase: bool) -> None:
        self.heal()
        party = self.parties[seat % self.size]
        if any(each.group.lost for each in self.parties if each is not party) or party.group.has_spoken:
            return  # of two that lose data at once, what neither holds is gone
        party.effects_left = None
        self.watch()
        self.told[party.index].clear()
        self.read[party.index] = 0
        self.lost.add(party.index)
        if phrase:
            party.forget()
        else:
            party.roll_back(records)
        self.reconnect(*([party.index] if party.index else []))
        self.deliver_all()

    def __init__(self) -> None:
        super().__init__()
        self.lost: set[int] = set()

    @invariant()
    def nobody_loses_data(self) -> None:
        """Nor believes that it did, if it did not."""
        for party in self.parties:
            assert not party.group.lost or party.index in self.lost or party.group.plea is not None

    @invariant()
    def who_lost_data_signs_nothing_new(self) -> None:
        for party in self.parties:
            if party.group.lost:
                assert party.group.claim is None
                assert party.group.highest.version <= max(
                    (v for i, e, v in self.signed if (i, e) == (party.index, party.group.epoch)), default=0
                )

    def check_convergence(self) -> None:
        """All know the newest that anybody knows, or have wedged."""
        groups = [party.group for party in self.parties]
        if self.lost and all(not group.has_spoken and group.ledger is None for group in groups):
            bereft = [group for group in groups if group.lost]
            primary = groups[0].version
            assert all(group.version >= primary or group.final is not None for group in bereft)
        if not self.lost:
            super().check_convergence()

    def settle(self) -> None:
        """What is on layer 1 in the end is at least what all who lost nothing hold; no bond is forfeited."""
        self.heal()
        for _ in range(6):
            for party in self.parties:
                with suppress(Refused):
                    if party.group.lost or not any(each.group.lost for each in self.parties):
                        party.step(WedgeRequested())
                party.step(LedgerSeen(self.court.group))
                for payload in self.submissions(party):
                    self.court.bring(payload)
        closed = self.court.end()
        whole = [party for party in self.parties if not party.group.lost]
        assert not any(closed.forfeits)
        together = closed.reason is Reason.FINAL  # on the newest state of all who signed it, and shows no version
        assert together or all(closed.version >= party.group.committed.version for party in whole)


class ThreeLoseData(LosesData):
    size = 3


class ThreeMembers(Members):
    size = 3


class FiveMembers(Members):
    size = 5


class EightMembers(Members):
    size = 8


class OneOfTwoLies(Members):
    has_liar = True


class OneOfThreeLies(ThreeMembers):
    has_liar = True


class OneOfFiveLies(FiveMembers):
    has_liar = True


class OneOfEightLies(EightMembers):
    has_liar = True


class TwoThatChange(Members):
    changes = True


class ThreeThatChange(ThreeMembers):
    changes = True


class OneOfTwoThatChangeLies(OneOfTwoLies):
    changes = True


class OneOfThreeThatChangeLies(OneOfThreeLies):
    changes = True


RUNS: list[tuple[type[Members], int]] = [
    (Members, 80),
    (ThreeMembers, 50),
    (FiveMembers, 20),
    (EightMembers, 12),
    (LosesData, 60),
    (ThreeLoseData, 40),
    (OneOfTwoLies, 60),
    (OneOfThreeLies, 50),
    (OneOfFiveLies, 20),
    (OneOfEightLies, 12),
    (TwoThatChange, 60),
    (ThreeThatChange, 40),
    (OneOfTwoThatChangeLies, 50),
    (OneOfThreeThatChangeLies, 40),
]
"""With how many examples each."""


def run_model(model: type[Members], examples: int, **how: Any) -> None:
    """Play a model; signatures are checked once."""
    common = settings(
        max_examples=examples, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck), **how
    )
    with shared_signature_checks():
        run_state_machine_as_test(model, settings=common)


@pytest.mark.slow
@pytest.mark.parametrize(("model", "examples"), RUNS, ids=[model.__name__ for model, _ in RUNS])
def test_groups_of_any_size(model: type[Members], examples: int) -> None:
    """No honest member signs two bodies at a version, loses what is committed, its money or its bond."""
    run_model(model, examples)


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
