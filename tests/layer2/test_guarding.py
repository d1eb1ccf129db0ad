"""When one may agree to the end of a lock (rules 20 to 23), and that no epoch ends with one; broken guards fail."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from layer1.errors import Refused, RemoteError
from layer1.ledger import records as ledger
from layer1.ledger.agreements import locked_units, sign_state
from layer1.ledger.locks import pay_locks, preimage_hash
from layer1.ledger.records import Registration
from layer2 import closing, guarding, updating
from layer2.events import (
    Advice,
    Blamed,
    ChangeWanted,
    ClockSeen,
    CloseRequested,
    LedgerSeen,
    Looked,
    LookNow,
    PreimageSeen,
    Received,
    Submission,
    WedgeRequested,
)
from layer2.messages import Command, Propose
from layer2.payments import Claim, Expire, claim, expire, lock_news, offer, pay, release
from layer2.state import advance, build_batch, encode_batch
from layer2.terms import change_amounts
from tests.layer2.harness import Court, Party, Wire, pair, trio_of

SECRET = b"p" * 32
HASH = preimage_hash(SECRET)
EXPIRY = 1_000_000
M = 60_000


def see(clock_ms: int, *parties: Party, looked_ms: int | None = None, registered_ms: int | None = None) -> None:
    """Tell members the clock; with `looked_ms`, also what layer 1 showed of the hash then."""
    looked = () if looked_ms is None else (Looked(HASH, looked_ms, registered_ms),)
    for party in parties:
        party.step(ClockSeen(clock_ms, looked))


def locked(payer: int = 0, amount: int = 300) -> tuple[Party, Party, Wire]:
    """A pair with a lock of this member, both at clock 1,000."""
    one, two, wire = pair()
    see(1_000, one, two)
    (one, two)[payer].request(offer(1 - payer, amount, HASH, EXPIRY, b"packet"))
    wire.run()
    assert one.group.committed.body.locks == two.group.committed.body.locks != ()
    see(1_000, one, two)
    return one, two, wire


def ends(wire: Wire, party: Party, command: bytes) -> bool:
    """Whether this member's command ends the lock, for both."""
    refused = len(party.rejected)
    try:
        party.request(command)
    except Refused:
        return False
    wire.run()
    done = all(isinstance(each, Party) and not each.group.locks for each in wire.parties)
    member = wire.parties[1]
    kept = isinstance(member, Party) and member.group.doubted is not None
    assert done or kept or wire.errors or len(party.rejected) > refused, "nobody says why not"
    return done


def balances(*parties: Party) -> set[tuple[int, ...]]:
    return {party.group.committed.body.balances for party in parties}


# ------------------------------------------------------------------------------------------------------------ stories


def a_claim_in_time_is_paid(payer: int) -> None:
    one, two, wire = locked(payer)
    assert balances(one, two) == {(700, 1_000) if payer == 0 else (1_000, 700)}
    assert ends(wire, (one, two)[1 - payer], claim(1, SECRET))
    assert balances(one, two) == {(700, 1_300) if payer == 0 else (1_300, 700)}
    newest = (one, two)[payer].committed[(one, two)[payer].group.version]
    news = lock_news(newest.before, newest.batch.commands)
    assert [(lock.id, member) for lock, member, _ in news] == [(1, 1 - payer)]


def a_preimage_is_known_before_anything_is_committed(payer: int) -> None:
    """Decision 036: "from the moment it sees the `Claim`, committed or not"."""
    one, two, wire = locked(payer)
    (one, two)[1 - payer].request(claim(1, SECRET))
    wire.collect()
    wire.deliver(1 - payer, payer)
    seen = [effect for effect in (one, two)[payer].others if isinstance(effect, PreimageSeen)]
    assert [(each.lock.id, each.preimage) for each in seen] == [(1, SECRET)]


def a_late_claim_needs_the_registry(payer: int) -> None:
    """Rule 22 [F9]: "settles an outgoing lock off-chain only while `now + M <= incoming expiry`; later the payee must
    register on layer 1"."""
    one, two, wire = locked(payer)
    claimer, other = (one, two)[1 - payer], (one, two)[payer]
    see(EXPIRY - 2 * M + 1, claimer)
    see(EXPIRY - M + 1, other)
    with pytest.raises(Refused, match="register it on layer 1"):
        claimer.request(claim(1, SECRET))
    see(EXPIRY + 5, claimer, looked_ms=EXPIRY + 5, registered_ms=EXPIRY)
    assert not ends(wire, claimer, claim(1, SECRET)), "the payer has not seen the registration"
    assert LookNow() in other.others
    see(EXPIRY + 5, other, looked_ms=EXPIRY + 5, registered_ms=EXPIRY)
    wire.run()
    if claimer.group.locks:
        assert ends(wire, claimer, claim(1, SECRET)), "an off-chain claim after expiry must honour it (rule 21)"
    assert balances(one, two) == {(700, 1_300) if payer == 0 else (1_300, 700)}


def a_millisecond_late_is_late(payer: int) -> None:
    one, two, wire = locked(payer)
    claimer, other = (one, two)[1 - payer], (one, two)[payer]
    see(EXPIRY + 5, claimer, looked_ms=EXPIRY + 5, registered_ms=EXPIRY + 1)
    with pytest.raises(Refused):
        claimer.request(claim(1, SECRET))
    see(EXPIRY + 5, other, looked_ms=EXPIRY + 5, registered_ms=EXPIRY + 1)
    see(EXPIRY + 5, claimer, looked_ms=EXPIRY + 5, registered_ms=EXPIRY + 1)
    assert ends(wire, other, expire(1)) and balances(one, two) == {(1_000, 1_000)}


def a_claim_just_within_the_margin_is_signed(payer: int) -> None:
    """The issuer keeps twice the margin, so that a clock that is behind keeps nobody waiting."""
    one, two, wire = locked(payer)
    see(EXPIRY - 2 * M, (one, two)[1 - payer])
    see(EXPIRY - M, (one, two)[payer])
    assert ends(wire, (one, two)[1 - payer], claim(1, SECRET))


def it_expires_when_the_ledger_was_seen_without_it(payer: int) -> None:
    """Only a look behind the expiry proves that no registration came in time."""
    one, two, wire = locked(payer)
    payer_side, other = (one, two)[payer], (one, two)[1 - payer]
    see(EXPIRY + 1, payer_side, looked_ms=EXPIRY)
    with pytest.raises(Refused) as early:
        payer_side.request(expire(1))
    assert early.value.code == "not_expired"
    see(EXPIRY + 1, payer_side, looked_ms=EXPIRY + 1)
    assert not ends(wire, payer_side, expire(1)), "the payee has not looked"
    assert LookNow() in other.others
    see(EXPIRY + 1, other, looked_ms=EXPIRY + 1)
    wire.run()
    if payer_side.group.locks:
        assert ends(wire, payer_side, expire(1))
    assert balances(one, two) == {(1_000, 1_000)}


def nobody_expires_what_was_registered(payer: int) -> None:
    """Registration racing expiry: what the ledger has decides, and a payer that says otherwise is stopped for good."""
    one, two, wire = locked(payer)
    payer_side, other = (one, two)[payer], (one, two)[1 - payer]
    see(EXPIRY + 1, payer_side, looked_ms=EXPIRY + 1)  # as a liar's driver would tell its core
    see(EXPIRY + 1, other, looked_ms=EXPIRY + 1, registered_ms=EXPIRY)
    assert not ends(wire, payer_side, expire(1))
    assert (other.group.state.body.locks and other.group.pending is None) or payer == 1
    if payer == 0:
        assert "as nobody may" in str(wire.errors[0]) and two.group.doubted is None
    else:
        assert {each.code for each in two.rejected.values()} == {"preimage_registered"}


def a_doubt_is_no_signature(payer: int) -> None:
    """Looking takes time: meanwhile the member may wedge, and its claim says that it signed nothing above."""
    one, two, wire = locked(0)
    see(EXPIRY + 1, one, looked_ms=EXPIRY + 1)
    one.request(expire(1))
    wire.run()
    assert two.group.doubted is not None and two.group.pending is None
    two.step(WedgeRequested())
    assert two.group.claim is not None and two.group.claim.highest == two.group.state.header
    see(EXPIRY + 1, two, looked_ms=EXPIRY + 1)
    assert two.group.pending is None, "after a CLAIM nothing is signed"


def a_doubt_outlives_links_and_crashes(payer: int) -> None:
    one, two, wire = locked(0)
    see(EXPIRY + 1, one, looked_ms=EXPIRY + 1)
    one.request(expire(1))
    wire.run()
    one.restart()
    two.restart()
    wire.connect()
    wire.run()
    assert two.group.doubted is not None
    see(EXPIRY + 1, two, looked_ms=EXPIRY + 1)
    wire.run()
    assert balances(one, two) == {(1_000, 1_000)} and not one.group.locks


def no_epoch_ends_with_a_lock(payer: int) -> None:
    """Rule 7: "FINAL(base certificate, payout), no locks"; decision 036: nor a change."""
    one, two, wire = locked(payer)
    for party in (one, two):
        with pytest.raises(Refused) as refusal:
            party.step(CloseRequested())
        assert refusal.value.code == "locks_pending"
        terms = change_amounts(party.group.place.agreement, 0, (5, 0), 60_000, bytes(16))
        with pytest.raises(Refused) as refusal:
            party.step(ChangeWanted(terms, 1_000))
        assert refusal.value.code == "locks_pending"
    assert ends(wire, (one, two)[1 - payer], release(1))
    two.step(CloseRequested())
    wire.run()
    assert one.group.final is not None and two.group.final is not None


def a_close_that_crosses_an_offer_waits(payer: int) -> None:
    """One asks for the end while the other's offer is on its way: the lock comes first, and can still be claimed."""
    one, two, wire = pair()
    see(1_000, one, two)
    one.request(offer(1, 300, HASH, EXPIRY))
    two.step(CloseRequested())
    wire.run()
    assert one.group.final is None and two.group.final is None
    assert any(isinstance(effect, Advice) and effect.code == "locks_pending" for effect in two.others)
    see(1_000, one, two)
    assert ends(wire, two, claim(1, SECRET)) and balances(one, two) == {(700, 1_300)}


def an_unknown_clock_signs_nothing_late(payer: int) -> None:
    """After a start, before the first look, nobody knows how late it is."""
    one, two, wire = locked(payer)
    (one, two)[payer].restart()
    wire.connect()
    wire.run()
    assert not ends(wire, (one, two)[1 - payer], claim(1, SECRET))
    see(2_000, (one, two)[payer])
    wire.run()
    assert not one.group.locks or ends(wire, (one, two)[1 - payer], claim(1, SECRET))
    assert balances(one, two) == {(700, 1_300) if payer == 0 else (1_300, 700)}


def nobody_keeps_an_offer_back(payer: int) -> None:
    """Rule 22 [F9]: a peer lets an offer wait until its time is over, and takes it in the version that makes it.

    Its issuer has no lock yet, so its host tells no clock: it would pay what it cannot be paid for upstream any more.
    """
    one, two, wire = pair()
    see(1_000, one, two)
    if payer == 0:
        two.request(pay(0, 1))
        wire.collect()
        wire.deliver(1, 0)
        one.request(offer(1, 300, HASH, EXPIRY))  # waits for the version in flight, and the claim behind it
        two.request(claim(1, SECRET))
        wire.run()
        assert not wire.errors and len(one.group.locks) == 1 and len(two.rejected) == 1
        return
    two.request(offer(0, 300, HASH, EXPIRY))
    kept, base = two.group.outbox, one.group.state
    built = build_batch(one.group.place, base, (*kept, Command(0, 1, claim(1, SECRET), b"")))
    encoded = encode_batch(built.batch)
    state = advance(one.group.place, base, built.batch, encoded=encoded, salt=bytes(16), outcome=built.outcome)
    signature = sign_state(one.group.place.key, state.header)
    with pytest.raises(RemoteError, match="made and ended by one version"):
        two.step(Received(0, Propose(state.header, encoded, bytes(16), signature, (), ()), bytes(16)))
    assert two.group.pending is None and two.group.version == 0


def a_primary_proposes_only_what_all_will_sign(payer: int) -> None:
    """No third member has the primary sign what another one refuses: the group would stand, and it be blamed."""
    members = trio_of(3)
    one, two, three, wire = members
    see(1_000, one, two, three)
    asker, other = (three, two) if payer == 0 else (two, three)
    asker.request(offer(other.index, 300, HASH, 0), expire(1))
    wire.run()
    assert len(one.group.committed.body.locks) == 1 and asker.rejected[2].code == "lock_too_new"
    see(1_000, one, two, three)
    asker.request(offer(other.index, 200, HASH, EXPIRY))
    wire.run()
    see(EXPIRY - 2 * M, other)  # as a liar's host would tell its core
    see(EXPIRY - M, one, asker)
    other.request(claim(2, SECRET))
    wire.run()
    assert list(other.rejected.values())[-1].code == "claim_too_late"
    assert not wire.errors and {party.group.version for party in (one, two, three)} == {3}
    see(EXPIRY + 1, one, two, three, looked_ms=EXPIRY + 1)
    asker.request(expire(1), expire(2))
    wire.run()
    assert balances(one, two, three) == {(1_000, 1_000, 1_000)} and not wire.errors


def proposed(party: Party, number: int, command: bytes) -> Propose:
    """What a primary may sign as well, if it does not mind to sign twice at one version."""
    place, base = party.group.place, party.group.state
    built = build_batch(place, base, (Command(0, number, command, b""),))
    encoded, salt = encode_batch(built.batch), bytes([number] * 16)
    state = advance(place, base, built.batch, encoded=encoded, salt=salt, outcome=built.outcome)
    return Propose(state.header, encoded, salt, sign_state(place.key, state.header), party.group.signatures, ())


def nobody_stops_the_clock_of_another(payer: int) -> None:
    """Rule 22 [F9]: a proposal that is in doubt, and wrong, keeps no member from learning how late it is.

    The primary has one kept, signs another, and claims a lock when its time is over.
    """
    one, two, wire = locked(0)
    two.request(offer(0, 500, preimage_hash(b"q" * 32), EXPIRY + 10 * M))
    wire.run()
    number = one.group.state.body.applied[0] + 1
    see(EXPIRY + 1, one, two)
    two.step(Received(0, proposed(one, number, expire(1)), bytes(16)))
    assert two.group.doubted is not None
    if payer == 0:
        one.request(pay(1, 1))
        wire.run()
        assert two.group.version == one.group.version and two.group.doubted is None
    late_ms = EXPIRY + 20 * M
    see(late_ms, two, looked_ms=late_ms, registered_ms=EXPIRY)
    blamed = [effect for effect in two.others if isinstance(effect, Blamed)]
    assert two.group.clock_ms == late_ms and two.group.looked and len(blamed) == payer
    two.step(Received(0, proposed(one, number + 1, claim(2, b"q" * 32)), bytes(16)))
    assert len(two.group.locks) == 2 and two.group.pending is None, "signed, when nobody pays for it any more"


STORIES: list[Callable[[int], None]] = [
    a_claim_in_time_is_paid,
    a_preimage_is_known_before_anything_is_committed,
    a_late_claim_needs_the_registry,
    a_millisecond_late_is_late,
    a_claim_just_within_the_margin_is_signed,
    it_expires_when_the_ledger_was_seen_without_it,
    nobody_expires_what_was_registered,
    a_doubt_is_no_signature,
    a_doubt_outlives_links_and_crashes,
    no_epoch_ends_with_a_lock,
    a_close_that_crosses_an_offer_waits,
    an_unknown_clock_signs_nothing_late,
    nobody_keeps_an_offer_back,
    a_primary_proposes_only_what_all_will_sign,
    nobody_stops_the_clock_of_another,
]


@pytest.mark.parametrize("payer", [0, 1])
@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
def test_guarding(story: Callable[[int], None], payer: int) -> None:
    """Each with the primary as payer, and as payee."""
    story(payer)


# -------------------------------------------------------------------------------------------- both, faulty in turn


MARGIN = 700
"""Of the town, whose locks live for seconds."""


class Town:
    """A pair, the registry, and a clock: members pay, lock, claim, release and expire, crash and lose their links."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.one, self.two, self.wire = pair()
        self.parties = (self.one, self.two)
        for party in self.parties:
            party.margin_ms = MARGIN
            party.restart()
        self.wire.connect()
        self.wire.run()
        self.court = Court(self.one.terms)
        self.secrets = [bytes([i] * 32) for i in range(1, 5)]
        self.registry: dict[bytes, int] = {}
        self.clock = 1_000
        self.liar = self.dice.choice((None, 0, 1))
        self.signed = [0, 0]

    def look(self, index: int) -> None:
        """An honest wallet shows its core the truth; a liar's shows whatever suits it."""
        party, looked = self.parties[index], []
        for hashed in guarding.hashes(party.group):
            registered = self.registry.get(hashed)
            if index == self.liar:
                lock = next(each for each in guarding._all_locks(party.group) if each.hash == hashed)
                registered = None if lock.payer == index else lock.expiry_ms
                looked.append(Looked(hashed, self.clock + 10**6, registered))
            else:
                looked.append(Looked(hashed, self.clock, registered))
        effects = party.step(ClockSeen(self.clock, tuple(looked)))
        honest = self.liar is None and any(isinstance(effect, Blamed) for effect in effects)
        assert not honest, "an honest member is blamed"

    def act(self) -> None:
        dice, index = self.dice, self.dice.randrange(2)
        party = self.parties[index]
        locks = party.group.locks
        kind = dice.choice(("offer", "offer", "claim", "claim", "release", "expire", "pay", "register", "tick", "look",
                            "crash", "cut", "some", "run", "run"))  # fmt: skip
        command = b""
        match kind:
            case "offer":
                secret = dice.choice(self.secrets)
                command = offer(
                    1 - index, dice.randrange(1, 90), preimage_hash(secret), self.clock + dice.randrange(9_000)
                )
            case "claim" | "release" | "expire" if locks:
                lock = dice.choice(locks)
                secret = next(each for each in self.secrets if preimage_hash(each) == lock.hash)
                command = {"claim": claim(lock.id, secret), "release": release(lock.id), "expire": expire(lock.id)}[
                    kind
                ]
            case "pay":
                command = pay(1 - index, dice.randrange(1, 50))
            case "register":
                self.registry.setdefault(preimage_hash(dice.choice(self.secrets)), self.clock)
            case "tick":
                self.clock += dice.choice((1, 100, 4_000))
            case "look":
                self.look(index)
            case "crash":
                self.wire.cut()
                party.restart()
                self.wire.connect()
            case "cut":
                self.wire.cut()
                self.wire.connect()
            case "some":
                for _ in range(dice.randrange(1, 4)):
                    self.wire.deliver(*dice.choice(((0, 1), (1, 0))))
            case _:
                self.wire.run()
        if command:
            try:
                party.request(command)
            except Refused:
                pass

    def check_signed(self, index: int, party: Party) -> None:
        """What this member has just signed ends its locks as its rules allow, whatever the other one is."""
        pending, version = party.group.pending, party.group.highest.version
        if version <= self.signed[index]:
            return
        self.signed[index] = version
        state, batch = party.group.state.machine_state, pending.batch if pending is not None else None
        if batch is None:
            event = party.committed[version]
            state, batch = event.before, event.batch
        assert sum(party.group.state.body.balances) + locked_units(party.group.state.body.locks) == 2_000
        for lock, _, command in lock_news(state, batch.commands) if index != self.liar else ():
            registered = self.registry.get(lock.hash, 10**12)
            if isinstance(command, Expire) and lock.payee == index:
                assert registered > lock.expiry_ms and self.clock > lock.expiry_ms, lock
            if isinstance(command, Claim) and lock.payer == index:
                in_time = 0 < party.group.clock_ms <= lock.expiry_ms - MARGIN
                assert in_time or registered <= lock.expiry_ms, lock

    def settle(self) -> tuple[int, int]:
        """Wedge, let layer 1 settle, and pay all locks when their time is over: what each member has in the end."""
        wedger = self.dice.randrange(2)
        for index in (wedger, 1 - wedger):
            effects = self.parties[index].step(
                WedgeRequested() if index == wedger else LedgerSeen(self.court.group, self.clock, bytes(16))
            )
            for effect in effects:
                if isinstance(effect, Submission):
                    self.court.bring(effect.payload)
        group = self.court.end()
        assert group.status is ledger.Status.CLOSED
        found = [group.payouts[i] - group.agreement.members[i].bond for i in (0, 1)]
        clocks = {hashed: Registration(hashed, b"", clock, clock) for hashed, clock in self.registry.items()}
        for each in pay_locks(group.locks, clocks.get, 10**9):
            assert each.paid_to is not None
            found[each.paid_to] += each.lock.amount
        return found[0], found[1]


def run_town(seed: int, most: int = 60) -> None:
    """Wedged at whatever step: no unit is lost, and no honest member's lock ends as its rules forbid.

    As payer: it pays for a lock only if it was shown the preimage by the payee with the margin to spare, or the ledger
    has a timely registration. As payee: a lock comes back to the payer by `Expire` only if none was in time.
    """
    town = Town(seed)
    for _ in range(town.dice.randrange(most)):
        for index in (0, 1):
            if index != town.liar and town.dice.random() < 0.5:
                town.parties[index].step(ClockSeen(town.clock))
        town.act()
        for index, party in enumerate(town.parties):
            town.check_signed(index, party)
    assert sum(town.settle()) == 2_000
    if town.liar is None:
        assert not town.wire.errors, town.wire.errors


@pytest.mark.parametrize("seed", range(60))
def test_wedged_at_whatever_step_the_money_is_where_the_rules_say(seed: int) -> None:
    run_town(seed)


# ------------------------------------------------------------------------------------------------------------ mutants


def signs_claims_until_the_expiry(patch: pytest.MonkeyPatch) -> None:
    original = guarding._check_claim
    patch.setattr(guarding, "_check_claim", lambda group, lock, margin_ms: original(group, lock, 0))


def knows_no_registry(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(guarding, "was_timely", lambda group, lock: None)


def takes_any_registration(patch: pytest.MonkeyPatch) -> None:
    def mutant(group: Any, lock: Any) -> bool | None:
        found = next((each for each in group.looked if each.hash == lock.hash), None)
        if found is not None and found.registered_ms is not None:
            return True
        return False if found is not None and found.clock_ms > lock.expiry_ms else None

    patch.setattr(guarding, "was_timely", mutant)


def expires_by_its_own_clock(patch: pytest.MonkeyPatch) -> None:
    """The clock is past the expiry, and nobody looks whether something was registered."""

    def mutant(group: Any, lock: Any) -> None:
        if group.clock_ms <= lock.expiry_ms:
            raise Refused("not_expired", "not yet")

    patch.setattr(guarding, "_check_expire", mutant)


def a_look_at_the_expiry_is_enough(patch: pytest.MonkeyPatch) -> None:
    original = guarding.was_timely

    def mutant(group: Any, lock: Any) -> bool | None:
        found = next((each for each in group.looked if each.hash == lock.hash), None)
        at_it = found is not None and found.registered_ms is None and found.clock_ms >= lock.expiry_ms
        return False if at_it else original(group, lock)

    patch.setattr(guarding, "was_timely", mutant)


def the_primary_asks_nobody(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(updating, "check_others", lambda *_: None)


def the_member_asks_nobody(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(updating, "is_in_doubt", lambda *_: False)


def issues_what_it_likes(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(updating, "check_own", lambda *_: None)


def doubts_for_ever(patch: pytest.MonkeyPatch) -> None:
    original = guarding.is_in_doubt

    def mutant(group: Any, base: Any, batch: Any) -> bool:
        try:
            return original(group, base, batch)
        except RemoteError:
            return True

    patch.setattr(updating, "is_in_doubt", mutant)


def trusts_an_unknown_clock(patch: pytest.MonkeyPatch) -> None:
    original = guarding._check_claim

    def mutant(group: Any, lock: Any, margin_ms: int) -> None:
        if group.clock_ms:
            original(group, lock, margin_ms)

    patch.setattr(guarding, "_check_claim", mutant)


def hides_the_preimage(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(updating, "shown_preimages", lambda *_: [])


def ends_with_locks(patch: pytest.MonkeyPatch) -> None:
    """It asks for the end, and takes no command any more, while a lock is pending."""

    def mutant(group: Any) -> Any:
        return replace(group, closing=True), []

    patch.setattr(closing, "send_close", mutant)


def ends_what_it_makes(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(guarding, "_stands", lambda *_: True)


def asks_for_itself_alone(patch: pytest.MonkeyPatch) -> None:
    original = guarding.check_others

    def mutant(group: Any, state: Any, member: int, payload: bytes) -> None:
        found = guarding._named(state, payload)
        if found is None or group.place.index in (found[0].payer, found[0].payee):
            original(group, state, member, payload)

    patch.setattr(updating, "check_others", mutant)


def fails_at_each_look(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(updating, "answer_late", lambda group, message: updating.receive_propose(group, 0, message))


MUTANTS: list[tuple[Callable[[pytest.MonkeyPatch], None], Callable[[int], None]]] = [
    (signs_claims_until_the_expiry, a_late_claim_needs_the_registry),
    (knows_no_registry, a_late_claim_needs_the_registry),
    (takes_any_registration, a_millisecond_late_is_late),
    (expires_by_its_own_clock, nobody_expires_what_was_registered),
    (a_look_at_the_expiry_is_enough, it_expires_when_the_ledger_was_seen_without_it),
    (the_primary_asks_nobody, nobody_expires_what_was_registered),
    (the_member_asks_nobody, nobody_expires_what_was_registered),
    (issues_what_it_likes, a_late_claim_needs_the_registry),
    (doubts_for_ever, nobody_expires_what_was_registered),
    (trusts_an_unknown_clock, an_unknown_clock_signs_nothing_late),
    (hides_the_preimage, a_preimage_is_known_before_anything_is_committed),
    (ends_with_locks, no_epoch_ends_with_a_lock),
    (ends_what_it_makes, nobody_keeps_an_offer_back),
    (fails_at_each_look, nobody_stops_the_clock_of_another),
    (asks_for_itself_alone, a_primary_proposes_only_what_all_will_sign),
]


@pytest.mark.parametrize(("mutate", "story"), MUTANTS, ids=lambda each: each.__name__)
def test_a_broken_guard_is_noticed(mutate: Callable[[pytest.MonkeyPatch], None], story: Callable[[int], None]) -> None:
    noticed = 0
    for payer in (0, 1):
        with pytest.MonkeyPatch.context() as patch:
            mutate(patch)
            try:
                story(payer)
            except (AssertionError, IndexError, RemoteError, Refused, pytest.fail.Exception):
                noticed += 1
    assert noticed


@pytest.mark.parametrize(
    "mutate",
    [signs_claims_until_the_expiry, takes_any_registration, expires_by_its_own_clock, the_member_asks_nobody],
    ids=lambda each: each.__name__,
)
def test_the_town_finds_a_broken_guard(mutate: Callable[[pytest.MonkeyPatch], None]) -> None:
    """The random stories see what the told ones do: each mutant is found among the same seeds, or a few more."""
    with pytest.MonkeyPatch.context() as patch:
        mutate(patch)
        for seed in range(400):
            try:
                run_town(seed)
            except (AssertionError, RemoteError):
                return
    pytest.fail("not found")
