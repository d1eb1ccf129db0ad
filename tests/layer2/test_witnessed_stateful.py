"""Witnessed groups of 2 + 1 and 3 + 2: links that lose everything, crashes between any two effects, and up to f that
lie, members and witnesses. Layer 1 settles as soon as f + 1 have claimed, the liars first.

Safety, as `layer2.committing` argues it: what an honest member called committed is never undone.
"""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule
from msgspec.structs import replace

from layer1.codec import encode
from layer1.errors import Refused, RemoteError
from layer1.ledger.agreements import sign_claim
from layer1.ledger.records import Reason, Status
from layer1.ledger.transactions import Report, Wedge
from layer2 import witness as witness_core
from layer2.committing import sign_ack, verify_ack
from layer2.events import CloseRequested, Effect, LedgerSeen, Persist, Submission, WedgeRequested
from layer2.messages import Ack, Acks, Hold
from tests.layer2.harness import Court, Wire, WitnessParty, agreement, key
from tests.layer2.test_stateful import SEATS, Crash, Fragile, Members, decode_any, run_model


class FragileWitness(WitnessParty):
    """Dies after a given number of effects, with what is on its disk."""

    effects_left: int | None = None

    def perform(self, effects: list[Effect]) -> None:
        for effect in effects:
            if self.effects_left == 0:
                raise Crash
            if self.effects_left is not None:
                self.effects_left -= 1
            super().perform([effect])


class LyingWitness(FragileWitness):
    """ACKs what it does not keep, when it is told to forget."""

    forgetful = False

    def perform(self, effects: list[Effect]) -> None:
        super().perform([effect for effect in effects if not (self.forgetful and isinstance(effect, Persist))])


class Witnessed(Members):
    """The same, with witnesses."""

    liars = 0
    """How many witnesses lie; a member lies if `has_liar`."""

    def __init__(self) -> None:
        super().__init__()
        self.terms = agreement(deposits=(100,) * self.size, witnessed=True)
        self.court = Court(self.terms)
        self.parties = tuple(Fragile(self.terms, i) for i in range(self.size))
        places = range(self.size, self.terms.places)
        self.witnesses = [
            (LyingWitness if place - self.size < self.liars else FragileWitness)(self.terms, place) for place in places
        ]
        self.wire = Wire(*self.parties, *self.witnesses)
        self.acked: dict[int, int] = {}
        """Per honest witness, the highest version that it ACKed."""

    @property
    def honest_witnesses(self) -> list[FragileWitness]:
        return [witness for witness in self.witnesses if not isinstance(witness, LyingWitness)]

    @initialize(seat=SEATS, turns=st.integers(0, 31), first=st.integers(0, 7), calm=st.booleans())
    def start(self, seat: int, turns: int, first: int, calm: bool) -> None:
        self.liar = seat % self.size if self.has_liar else None
        self.last_act = turns, first, calm
        self.wire.connect()

    @rule()
    def heal(self) -> None:
        missing = {max(link) for link in self.wire.links if link not in self.wire.lines}
        if missing:
            self.wire.connect(*missing)

    def attempt(self, index: int, action: Any) -> None:
        if index < self.size:
            super().attempt(index, action)
            return
        try:
            action()
        except Crash:
            self.restart_witness(self.witnesses[index - self.size])
        self.wire.collect()
        self.watch()

    def restart_witness(self, witness: FragileWitness) -> None:
        self.wire.collect()
        self.watch()
        witness.effects_left = None
        for member in range(self.size):
            while self.wire.deliver(witness.index, member):
                pass  # what left before the end arrives
        witness.restart()
        self.what_a_witness_acked_is_durable_and_what_it_claims()  # before anybody brings it once more
        self.reconnect(witness.index)

    @rule(seat=SEATS, effects=st.integers(0, 3))
    def a_witness_dies_while_it_works(self, seat: int, effects: int) -> None:
        witness = self.witnesses[seat % len(self.witnesses)]
        self.heal()
        self.deliver_all()
        witness.effects_left = effects
        self.request(0, 0, [1])
        self.deliver_all()
        witness.effects_left = None

    @rule(seat=SEATS, compact=st.booleans())
    def a_witness_restarts(self, seat: int, compact: bool) -> None:
        witness = self.witnesses[seat % len(self.witnesses)]
        if compact:
            witness.compact()
        self.restart_witness(witness)

    @rule(seat=SEATS)
    def cut_a_witness(self, seat: int) -> None:
        self.wire.cut(self.size + seat % len(self.witnesses))

    @rule(seat=SEATS, lost=st.booleans())
    def a_witness_looks_at_layer_1(self, seat: int, lost: bool) -> None:
        self.look(self.witnesses[seat % len(self.witnesses)], lost)

    def look(self, witness: FragileWitness, lost: bool = False) -> None:
        witness.step(LedgerSeen(self.court.group))
        found = [effect.payload for effect in witness.others if isinstance(effect, Submission)]
        witness.others.clear()
        for payload in found:
            if not lost:
                self.court.bring(payload)

    # ------------------------------------------------------------------------------------------------- those who lie

    @precondition(lambda self: self.liars)
    @rule(seat=SEATS, forgetful=st.booleans())
    def a_witness_forgets_what_it_acked(self, seat: int, forgetful: bool) -> None:
        """It says that it holds what it keeps nowhere; and it forgets its claim."""
        witness = self.witnesses[seat % self.liars]
        assert isinstance(witness, LyingWitness)
        witness.forgetful = forgetful
        if not forgetful:
            witness.restart()
            witness.holding = replace(witness.holding, claim=None)
            self.reconnect(witness.index)

    @precondition(lambda self: self.liars)
    @rule(seat=SEATS, member=SEATS, good=st.booleans())
    def a_witness_acks_what_it_never_saw(self, seat: int, member: int, good: bool) -> None:
        """The newest header that a member signed, or with a wrong signature."""
        witness, party = self.witnesses[seat % self.liars], self.parties[member % self.size]
        header = party.group.highest
        signature = sign_ack(key(f"witness {witness.index}"), header) if good else bytes(64)
        if (line := self.wire.lines.get((witness.index, party.index))) is not None:
            line.append(encode(Ack(header.group_id, header.epoch, header.version, signature)))

    @precondition(lambda self: self.liars)
    @rule(seat=SEATS, lie=st.booleans())
    def a_witness_claims_an_old_version(self, seat: int, lie: bool) -> None:
        """Before anybody wedged, too: layer 1 refuses that."""
        witness = self.witnesses[seat % self.liars]
        header = self.court.group.origin if lie else witness.holding.certificate.header
        claim = sign_claim(key(f"witness {witness.index}"), witness.index, header.version, header)
        self.court.bring(Report(header.group_id, None, None, (claim,), None))

    @precondition(lambda self: self.liar is not None or self.liars)
    @rule(seat=SEATS)
    def a_liar_passes_on_acks_that_nobody_gave(self, seat: int) -> None:
        party, other = self.parties[0], 1 + seat % (self.size - 1)
        if self.liar == 0 and (0, other) in self.wire.lines:
            acks = tuple(ack for ack in party.group.acks if ack is not None)
            bad = tuple(replace(ack, version=ack.version + 1) for ack in acks)
            self.wire.lines[0, other].append(encode(Acks(party.name, 0, bad)))

    # ------------------------------------------------------------------------------------------------ the invariants

    def watch(self) -> None:
        super().watch()
        for (sender, receiver), line in self.wire.lines.items():
            witness = next((each for each in self.honest_witnesses if each.index == sender), None)
            for data in line if witness is not None else ():
                message = decode_any(data)
                if isinstance(message, Ack):
                    assert receiver < self.size
                    self.acked[sender] = max(self.acked.get(sender, 0), message.version)

    @invariant()
    def what_a_witness_acked_is_durable_and_what_it_claims(self) -> None:
        for witness in self.honest_witnesses:
            acked = self.acked.get(witness.index, 0)
            restored = witness_core.restore(key(f"witness {witness.index}"), witness.disk.records)
            assert restored.version >= acked, f"witness {witness.index} forgot version {acked}"
            claim = witness.holding.claim
            assert claim is None or claim.version >= acked, "it ACKed after its claim [F3]"
            if claim is not None:
                assert self.court.group.status is not Status.OPEN, "it claimed, and nobody had wedged the group"

    @invariant()
    def what_is_committed_is_held_by_all_who_are_honest(self) -> None:
        """Rule 3: "an ACK means: I durably hold this certificate"."""
        committed = max((max(self.told[party.index], default=0) for party in self.honest), default=0)
        for witness in self.honest_witnesses:
            assert witness.holding.version >= committed
        for party in self.honest:
            assert party.group.best[0].version >= committed or party.group.lost

    @invariant()
    def honest_members_find_no_fault_with_each_other(self) -> None:
        """Nor with an honest witness, nor it with them."""
        lying = {witness.index for witness in self.witnesses} - {each.index for each in self.honest_witnesses}
        for pair, error in zip(self.wire.blamed, self.wire.errors, strict=True):
            assert lying.union([self.liar]).intersection(pair), (pair, error)

    def check_convergence(self) -> None:
        super().check_convergence()
        groups = [party.group for party in self.parties]
        if all(group.claim is None and group.ledger is None for group in groups) and not self.liars:
            assert not any(group.tail for group in groups)

    def settle(self) -> None:
        """The liars claim first, as low as they can; then honest ones, until layer 1 has enough, and no more."""
        turns, first, _ = self.last_act
        self.heal()
        self.request(1, 0, [1])
        for turn in range(turns):  # in the middle of a version, often
            sender, receiver = list(self.wire.lines)[turn % len(self.wire.lines)]
            self.attempt(receiver, partial(self.wire.deliver, sender, receiver))
        speakers: list[Any] = [*self.honest, *self.honest_witnesses]
        first %= len(speakers)
        speakers = speakers[first:] + speakers[:first]
        if self.liar is not None and self.court.group.status is Status.OPEN:
            claim = sign_claim(key(f"group {self.liar}"), self.liar, 0, self.court.group.origin)
            self.court.bring(Wedge(self.court.group.certificate, self.court.group.body, claim))
        if self.court.group.status is Status.OPEN:
            with suppress(Refused):
                self.honest[0].step(WedgeRequested())
            for payload in self.submissions(self.honest[0]):
                self.court.bring(payload)
        for place in range(self.liars):
            self.a_witness_claims_an_old_version(place, True)
        for speaker in speakers * 2:
            if self.court.group.status is not Status.WEDGED:
                break
            if isinstance(speaker, Fragile):
                speaker.step(LedgerSeen(self.court.group))
                for payload in self.submissions(speaker):
                    self.court.bring(payload)
            else:
                self.look(speaker)
        self.wire.run()  # what was on its way when they claimed
        self.watch()
        self.what_a_witness_acked_is_durable_and_what_it_claims()
        for party in self.honest:  # whose body it is, if a witness brought the header alone
            for _ in range(2):
                party.step(LedgerSeen(self.court.group))
                for payload in self.submissions(party):
                    self.court.bring(payload)
        self.check_end()

    def check_end(self) -> None:
        closed = self.court.group
        assert closed.status is Status.CLOSED, (closed.status, closed.revealing)
        self.watch()
        for party in self.honest:
            party.step(LedgerSeen(closed))
            bond = self.terms.members[party.index].bond
            assert closed.version >= max(self.told[party.index], default=0) or closed.reason is Reason.FINAL
            assert not closed.forfeited[party.index], f"member {party.index} is honest"
            assert closed.payouts[party.index] + self.spent[party.index] >= 100 + bond
        assert sum(closed.payouts) == self.terms.funding_units + self.terms.bond_units


class WitnessedTrio(Witnessed):
    size = 3


class AMemberLies(Witnessed):
    has_liar = True


class TheWitnessLies(Witnessed):
    liars = 1


class AMemberAndAWitnessLie(WitnessedTrio):
    """f = 2 of 5."""

    has_liar = True
    liars = 1


class BothWitnessesLie(WitnessedTrio):
    liars = 2


RUNS: list[tuple[type[Members], int]] = [
    (Witnessed, 60),
    (WitnessedTrio, 30),
    (AMemberLies, 60),
    (TheWitnessLies, 60),
    (AMemberAndAWitnessLie, 40),
    (BothWitnessesLie, 40),
]
"""With how many examples each."""


@pytest.mark.slow
@pytest.mark.parametrize(("model", "examples"), RUNS, ids=[model.__name__ for model, _ in RUNS])
def test_witnessed_groups(model: type[Members], examples: int) -> None:
    """What an honest member called committed is settled on, or more, with f of 2f + 1 dishonest."""
    run_model(model, examples)


def test_an_ack_that_two_forgot_is_said_again_after_final() -> None:
    """A story that the model told once: nobody repeated its ACK behind FINAL, so one waited until layer 1 had paid."""
    model = WitnessedTrio()
    model.start(seat=0, turns=0, first=0, calm=True)
    model.a_witness_dies_while_it_works(effects=0, seat=0)
    model.end(chance=0, event=CloseRequested(), seat=0)
    model.deliver_all()
    assert all(party.group.final and None not in party.group.final.signatures for party in model.parties)
    model.crash(seat=0)
    model.crash(seat=1)
    model.teardown()


def test_holds_of_all_members_arrive_at_each_witness() -> None:
    """The model's wire carries what a real one does."""
    model = WitnessedTrio()
    model.wire.connect()
    model.wire.run()
    held = [message for message in model.wire.heard if isinstance(message, Hold)]
    assert len(held) == 3 * 2
    header = model.court.group.origin
    assert not verify_ack(key("witness 3").public, header, bytes(64))
    with pytest.raises(RemoteError):
        model.witnesses[0].hear(0, b"nothing")
