"""Locks at the end of a group, and the registry of preimages (groups.md, rule 21), told as stories; broken ledgers
must fail them."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from msgspec import structs

from layer1.codec import encode
from layer1.crypto import SigningKey
from layer1.errors import LocalError
from layer1.ledger import draft, locks, settlement, words
from layer1.ledger.agreements import Body, Certificate, Limits, Lock
from layer1.ledger.events import GroupClosed, LocksPaid, PreimageRegistered
from layer1.ledger.execute import execute
from layer1.ledger.genesis import Parameters
from layer1.ledger.image import Registrations, collect
from layer1.ledger.locks import MAX_PREIMAGES, preimage_hash
from layer1.ledger.outlook import what_comes_next
from layer1.ledger.records import ClosedLock, Group, Registration, Status, leaf_hash, preimage_key
from layer1.ledger.state import State
from layer1.ledger.store import Store
from layer1.ledger.transactions import OpenGroup, RegisterPreimages, Reveal, Transaction
from layer1.merkle import verify
from tests.layer1.ledger.world import ALICE, BOB, CAROL, PERIOD, Party, World, key, make_genesis, make_party, payout

SECRET = b"s" * 32
HASH = preimage_hash(SECRET)


def lock(number: int, amount: int, until_ms: int, payer: int = 0, secret: bytes = SECRET) -> Lock:
    return Lock(number, payer, 1 - payer, amount, preimage_hash(secret), until_ms)


def locked(party: Party, version: int, *held: Lock) -> tuple[Certificate, Body]:
    """A version in which member 0 has 1,000 units less what is locked, and member 1 has 1,000 too."""
    taken = [sum(each.amount for each in held if each.payer == i) for i in (0, 1)]
    body = structs.replace(party.body(version, (1_000 - taken[0], 1_000 - taken[1])), locks=held)
    return party.certify(party.header(version, body)), body


def register(world: World, *secrets: bytes, by: SigningKey = CAROL, after_ms: int = 1) -> str:
    return world.do(RegisterPreimages(by.public, secrets or (SECRET,)), by, after_ms=after_ms).code


def settled(world: World, party: Party, *held: Lock) -> None:
    """Both claim a state with these locks: it is closed at once."""
    state = locked(party, 3, *held)
    world.do(party.wedge(0, state))
    assert world.do(party.report(None, party.claim(1, 3, state[0].header))).code == "ok"


def paid(world: World, name: str = "g") -> tuple[int, int]:
    """What the payout accounts of both members got, without their bonds."""
    return world.balance(payout(name, 0)) - 101, world.balance(payout(name, 1)) - 101


def until(world: World, clock_ms: int) -> None:
    while world.state.clock < clock_ms:
        world.block(after_ms=min(clock_ms - world.state.clock, 60_000))


# ----------------------------------------------------------------------------------------------------------- stories


def a_lock_goes_to_the_payee_if_the_preimage_is_known() -> None:
    """ "A closed group's lock goes to the payee if the preimage was registered by `expiry`"."""
    world = World()
    party = world.opened()
    assert register(world) == "ok"
    settled(world, party, lock(1, 300, world.state.clock + 1_000))
    assert paid(world) == (700, 1_300) and not world.group(party).pending
    closed = next(event for event in world.last.events if isinstance(event, GroupClosed))
    assert closed.payouts == (801, 1_101) and closed.locks[0].paid_to == 1


def a_lock_pends_until_its_preimage_is_registered() -> None:
    """ "... and stays pending until then": the others are paid, and it is paid by itself the moment it is known."""
    world = World()
    party = world.opened()
    settled(world, party, lock(1, 300, world.state.clock + 1_000))
    group = world.group(party)
    assert paid(world) == (700, 1_000) and group.locked_units == 300 and len(group.pending) == 1
    assert "1 lock pends" in what_comes_next(group)
    assert register(world) == "ok" and any(isinstance(event, PreimageRegistered) for event in world.last.events)
    assert world.state.next_deadline() == world.state.clock, "nobody has to ask for it"
    world.block()
    assert paid(world) == (700, 1_300) and world.group(party).locked_units == 0
    told = next(event for event in world.last.events if isinstance(event, LocksPaid))
    assert [each.paid_to for each in told.locks] == [1] and "everybody is paid" in what_comes_next(world.group(party))
    world.block()
    assert paid(world) == (700, 1_300) and world.state.next_deadline() is None


def a_lock_goes_back_when_its_time_is_over() -> None:
    """ "... to the payer once `expiry` has passed": not at it, and by itself."""
    world = World()
    party = world.opened()
    expiry = world.state.clock + 1_000
    settled(world, party, lock(1, 300, expiry))
    assert world.state.next_deadline() == expiry + 1
    until(world, expiry)
    assert paid(world) == (700, 1_000)
    world.block(after_ms=1)
    assert paid(world) == (1_000, 1_000) and world.state.next_deadline() is None
    late = world.opened(name="h")
    settled(world, late, lock(1, 300, world.state.clock + 2))
    assert world.state.clock == expiry + 4 and world.group(late).pending, "settled at its last clock, it pends"


def the_last_clock_is_in_time() -> None:
    """ "A registration is timely if its clock is at or below the lock's expiry"."""
    world = World()
    party = world.opened()
    expiry = world.state.clock + 1_000
    settled(world, party, lock(1, 300, expiry))
    until(world, expiry - 1)
    assert register(world) == "ok" and world.state.clock == expiry
    world.block(after_ms=50)
    assert paid(world) == (700, 1_300)


def a_millisecond_late_is_late() -> None:
    world = World()
    party = world.opened()
    expiry = world.state.clock + 1_000
    settled(world, party, lock(1, 300, expiry))
    until(world, expiry)
    assert register(world) == "ok" and world.state.clock == expiry + 1
    world.block()
    assert paid(world) == (1_000, 1_000)


def late_for_one_is_in_time_for_another() -> None:
    """One hash in two locks: each has its own time, whoever is wedged when."""
    world = World()
    party, other = world.opened(), world.opened(name="h")
    clock = world.state.clock
    assert register(world, after_ms=500) == "ok"
    settled(world, party, lock(1, 300, clock + 499), lock(2, 40, clock + 501))
    settled(world, other, lock(1, 7, clock + 500, payer=1))
    assert paid(world) == (960, 1_040) and paid(world, "h") == (1_007, 993)


def a_wedge_changes_nothing() -> None:
    """ "A wedge therefore never changes who gets a lock": registered in time, settled long after the expiry."""
    world = World()
    party = world.opened()
    expiry = world.state.clock + 1_000
    assert register(world) == "ok"
    world.do(party.wedge(1, locked(party, 3, lock(1, 300, expiry))), after_ms=5_000)
    until(world, world.state.clock + PERIOD)
    assert world.group(party).status is Status.CLOSED and paid(world) == (700, 1_300)


def the_first_clock_stands() -> None:
    """ "Registered twice soon after is no error and changes nothing"."""
    world = World()
    assert register(world) == "ok"
    first = world.state.registration(HASH)
    root = world.state.prove(preimage_key(HASH))
    assert register(world, SECRET, b"t" * 32, after_ms=50) == "ok"
    assert world.state.registration(HASH) == first and first is not None and first.preimage == SECRET
    assert len([event for event in world.last.events if isinstance(event, PreimageRegistered)]) == 1
    proof = world.state.prove(preimage_key(HASH))
    assert proof != root and verify(world.state.root, preimage_key(HASH), leaf_hash(first), proof)


def who_registers_has_something() -> None:
    """An account with money, or of a group: all money of a hub may be in its groups."""
    world = World()
    nobody = key("nobody")
    assert register(world, by=nobody) == "empty_account"
    world.opened()
    assert register(world, by=payout("g", 0)) == "ok"
    for wrong in ((), (SECRET,) * (MAX_PREIMAGES + 1), (SECRET[1:],), (SECRET, SECRET + b"\0")):
        assert world.do(RegisterPreimages(CAROL.public, wrong), CAROL).code == "bad_preimages"
    assert world.do(RegisterPreimages(CAROL.public, tuple(bytes([i] * 32) for i in range(64))), CAROL).code == "ok"


def a_body_with_locks_comes_later() -> None:
    """A header alone wins; whoever reveals its body shows the locks too (rule 12)."""
    world = World()
    party = world.opened()
    certificate, body = locked(party, 3, lock(1, 300, world.state.clock + 10**6))
    world.do(party.wedge(0, (certificate, None)))
    world.do(party.report(None, party.claim(1, 3, certificate.header)))
    assert world.do(Reveal(party.id, structs.replace(body, locks=()))).code == "bad_body"
    assert world.do(Reveal(party.id, body)).code == "ok"
    assert world.group(party).locked_units == 300 and paid(world) == (700, 1_000)


def a_body_that_no_member_should_sign_is_not_paid() -> None:
    world = World()
    clock = world.state.clock
    good = lock(1, 300, clock + 1_000)
    for i, wrong in enumerate((
        (structs.replace(good, payee=0),), (structs.replace(good, payee=2),), (structs.replace(good, payer=-1),),
        (structs.replace(good, amount=0),), (structs.replace(good, hash=b"x"),), (structs.replace(good, id=0),),
        (structs.replace(good, expiry_ms=-1),), (structs.replace(good, expiry_ms=2**53),), (good, good),
        tuple(lock(n + 1, 1, clock) for n in range(31)),
    )):  # fmt: skip
        party = world.opened(name=f"w{i}")
        total = sum(each.amount for each in wrong)
        body = structs.replace(party.body(3, (1_000 - total, 1_000)), locks=wrong)
        assert world.do(party.wedge(0, (party.certify(party.header(3, body)), body))).code == "bad_body"
    party = world.opened(name="sums")
    for units in (299, 301):
        body = structs.replace(party.body(3, (700, 1_000)), locks=(structs.replace(good, amount=units),))
        assert world.do(party.wedge(0, (party.certify(party.header(3, body)), body))).code == "bad_body"


def no_lock_pends_for_longer_than_locks_may() -> None:
    """Layer 1 "takes no expiry for later than the settlement's clock plus that"."""
    world = World(make_genesis(max_lock_ms=5_000, preimage_kept_ms=10**6))
    party = world.opened()
    settled(world, party, lock(1, 300, 2**53 - 1))
    assert world.group(party).pending[0].until_ms == world.state.clock + 5_000
    until(world, world.state.clock + 5_001)
    assert paid(world) == (1_000, 1_000)


def what_falls_due_is_capped_and_carried_over() -> None:
    """ "Due work per block is capped and carried over in order": of deadlines, of preimages and of expiries alike."""
    world = World(make_genesis(due_per_block=1))
    parties = [world.opened(name=f"p{i}") for i in range(3)]
    clock = world.state.clock
    for party in parties:
        settled(world, party, lock(1, 300, clock + 50, secret=b"a" * 32), lock(2, 40, clock + 10**6))
    assert register(world) == "ok"
    names = sorted(party.id for party in parties)
    for done in range(1, 4):
        world.block()
        pending = [world.group(party).pending for party in sorted(parties, key=lambda each: each.id)]
        assert [len(each) for each in pending] == [1] * done + [2] * (3 - done), names
    until(world, clock + 51)
    for left in (2, 1, 0):
        assert sum(len(world.group(party).pending) for party in parties) == left
        world.block()


def a_preimage_is_forgotten_when_no_lock_needs_it() -> None:
    """ "Preimages are kept until the last lock that could need them is gone"."""
    world = World(make_genesis(max_lock_ms=1_000, preimage_kept_ms=200_000))
    party = world.opened()
    assert register(world) == "ok"
    kept_until = world.state.clock + 200_000
    until(world, kept_until)
    assert world.state.registration(HASH) is not None
    world.block()
    assert world.state.registration(HASH) is None and not list(world.state.forgettable(10**9))
    absent = world.state.prove(preimage_key(HASH))
    assert verify(world.state.root, preimage_key(HASH), None, absent)
    assert register(world) == "ok", "it may come again, with another clock"
    settled(world, party, lock(1, 300, world.state.clock + 900))
    assert paid(world) == (700, 1_300)


def a_preimage_is_kept_from_when_it_was_renewed() -> None:
    """ "Shown again [later], it is kept from then on; the first clock stands": by that alone it is judged."""
    world = World(make_genesis(max_lock_ms=20_000, preimage_kept_ms=200_000))
    party = world.opened()
    assert register(world) == "ok"
    first = world.state.clock
    until(world, first + 9_998)
    assert register(world) == "ok" and world.state.clock == first + 9_999
    assert world.state.registration(HASH) == Registration(HASH, SECRET, first, first), "too soon to be worth a write"
    assert register(world, SECRET, SECRET) == "ok"
    assert world.state.registration(HASH) == Registration(HASH, SECRET, first, first + 10_000)
    assert not any(isinstance(event, PreimageRegistered) for event in world.last.events)
    until(world, first + 209_000)
    settled(world, party, lock(1, 300, first))
    assert paid(world) == (700, 1_300), "shown by its expiry, and renewed after it"
    until(world, first + 210_000)
    assert world.state.registration(HASH) is not None
    world.block()
    assert world.state.registration(HASH) is None and not list(world.state.forgettable(10**9))


def an_old_registration_outlasts_the_dispute() -> None:
    """Decision 036: who holds both ends of a route registered its preimage `preimage_kept_ms` before the route.

    The forwarder, which paid its outgoing lock for the preimage, renews it, three margins before the expiry as it
    does: upstream stays silent until the last moment, its body is revealed in the third period, and the lock is paid.
    """
    margin = 1_000
    world = World(make_genesis(max_lock_ms=20_000, preimage_kept_ms=20_000 + 3 * PERIOD))
    party = world.opened()
    assert register(world) == "ok"
    until(world, world.state.clock + 20_000 + 3 * PERIOD - 2 * margin)
    expiry = world.state.clock + 3 * margin
    assert register(world, by=ALICE) == "ok"
    until(world, expiry + 2 * margin)
    certificate, body = locked(party, 3, lock(1, 300, expiry))
    world.do(party.plea(0))
    world.do(party.report((certificate, None), party.claim(1, 3, certificate.header)))
    deadline = world.group(party).deadline_ms
    assert deadline is not None
    until(world, deadline + PERIOD - 1)
    assert world.do(Reveal(party.id, body)).code == "ok" and world.state.clock >= expiry + 2 * margin + 3 * PERIOD
    assert paid(world) == (700, 1_300)


def a_group_with_locks_ends_before_its_preimages_are_forgotten() -> None:
    world = World(make_genesis(max_lock_ms=1_000, preimage_kept_ms=1_000 + 3 * PERIOD - 1))
    longer = make_party(world.chain_id, (ALICE, BOB))
    assert world.do(OpenGroup(longer.agreement), ALICE, BOB).code == "bad_challenge_period"
    world.opened(limits=Limits(max_locks=0))
    world.opened(name="short", challenge_period_ms=PERIOD - 1)


STORIES: list[Callable[[], None]] = [
    a_lock_goes_to_the_payee_if_the_preimage_is_known,
    a_lock_pends_until_its_preimage_is_registered,
    a_lock_goes_back_when_its_time_is_over,
    the_last_clock_is_in_time,
    a_millisecond_late_is_late,
    late_for_one_is_in_time_for_another,
    a_wedge_changes_nothing,
    the_first_clock_stands,
    who_registers_has_something,
    a_body_with_locks_comes_later,
    a_body_that_no_member_should_sign_is_not_paid,
    no_lock_pends_for_longer_than_locks_may,
    what_falls_due_is_capped_and_carried_over,
    a_preimage_is_forgotten_when_no_lock_needs_it,
    a_preimage_is_kept_from_when_it_was_renewed,
    an_old_registration_outlasts_the_dispute,
    a_group_with_locks_ends_before_its_preimages_are_forgotten,
]


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
def test_locks(story: Callable[[], None]) -> None:
    story()


# ------------------------------------------------------------------------------------------------- against a dumb twin


def random_run(seed: int) -> None:
    """Random locks, settlements and registrations; views that are committed late, and a state put together anew.

    Each lock must end where one line says: at the payee if the first registration was at or before the expiry. In every
    other run it is forgotten soon: then only the executions are compared, which commit at other times.
    """
    dice = random.Random(seed)
    forgets = seed % 2 == 1
    kept = {"max_lock_ms": 20, "preimage_kept_ms": 50, "min_challenge_ms": 10} if forgets else {"max_lock_ms": 10_000}
    world = World(make_genesis(due_per_block=dice.choice((1, 2, 1_000)), **kept))
    secrets = [bytes([i] * 32) for i in range(3)]
    parties = [world.opened(name=f"r{i}", challenge_period_ms=10 if forgets else PERIOD) for i in range(4)]
    first: dict[bytes, int] = {}
    again = [State.restore(world.genesis, world.state.snapshot()) for _ in range(2)]
    tip, views, final = again[0], [again[1]], 0
    for _ in range(25):
        chosen: list[Transaction] = []
        if parties and dice.random() < 0.4:
            party, clock = parties.pop(), world.state.clock
            held = [
                lock(n + 1, 50, clock + dice.randrange(40), dice.randrange(2), dice.choice(secrets)) for n in range(3)
            ]
            state = locked(party, 3, *held)
            chosen.append(world.sign(party.wedge(0, state)))
            chosen.append(world.sign(party.report(None, party.claim(1, 3, state[0].header))))
        if dice.random() < 0.3:
            secret = dice.choice(secrets)
            chosen.append(world.sign(RegisterPreimages(CAROL.public, (secret,)), CAROL))
        step = dice.randrange(1, 8)
        before = dict(first)
        world.block(*chosen, after_ms=step)
        for each in chosen:
            if isinstance(each.payload, RegisterPreimages):
                first.setdefault(preimage_hash(each.payload.preimages[0]), world.state.clock)
        assert set(before) <= set(first)
        views.append(execute(views[-1], views[-1].wall_time + step, chosen).state)  # committed some blocks later
        if dice.random() < 0.3:
            final = dice.randrange(final, len(views))
            views[final].commit()
        tip = execute(tip, tip.wall_time + step, chosen).state
        tip.commit()
        assert views[-1].root == world.state.root == tip.root
    for _ in range(30):
        world.block(after_ms=5)
    for group in world.state.groups():
        for ended in group.locks:
            timely = first.get(ended.lock.hash, 2**60) <= ended.until_ms
            assert forgets or ended.paid_to == (ended.lock.payee if timely else ended.lock.payer), (ended, first)


@pytest.mark.parametrize("seed", range(12))
def test_whoever_executes_gets_the_same_and_the_dumb_twin_agrees(seed: int) -> None:
    random_run(seed)


def test_a_renewal_takes_nobodys_turn() -> None:
    """What was renewed while groups still waited for their turn has one turn, as at who restored a snapshot since."""
    world = World(make_genesis(max_lock_ms=200, preimage_kept_ms=230, min_challenge_ms=10, due_per_block=2))
    first, second = sorted((SECRET, b"t" * 32), key=preimage_hash)
    for name, secret in (("a", first), ("b", first), ("c", first), ("d", second)):
        party = world.opened(name=name, challenge_period_ms=10)
        settled(world, party, lock(1, 300, world.state.clock + 200, secret=secret))
    assert register(world, first, second) == "ok"
    assert register(world, first, after_ms=100) == "ok"  # two are paid, two are left
    restored = State.restore(world.genesis, world.state.snapshot())
    assert world.state.registration(preimage_hash(first)) != world.state.registration(preimage_hash(second))
    after = [execute(each, each.wall_time + 1, ()).state for each in (world.state, restored)]
    assert after[0].root == after[1].root
    assert not any(group.pending for state in after for group in state.groups())


def test_a_state_put_together_from_pieces_goes_on_alike() -> None:
    """Snapshots, checkpoints and exports carry registrations and pending locks: "it is state"."""
    world = World()
    party = world.opened()
    settled(world, party, lock(1, 300, world.state.clock + 1_000))
    register(world)
    records = collect(world.state.image().pieces())
    again = State.assemble(world.genesis, records, (world.state.height, world.state.clock, world.state.wall_time))
    by_snapshot = State.restore(world.genesis, world.state.snapshot())
    assert again.root == by_snapshot.root == world.state.root
    after = [execute(each, each.wall_time + 1, ()).state for each in (again, by_snapshot, world.state)]
    assert len({state.root for state in after}) == 1 and after[0].group(party.id) != world.state.group(party.id)
    with pytest.raises(Exception, match="named by 2 bytes"):
        collect([encode(Registrations((Registration(b"xx", SECRET, 1, 1),)))])


# ----------------------------------------------------------------------------------------------------------- mutants


def takes_late_registrations(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(locks, "is_timely", lambda registration, until_ms: registration is not None)


def the_last_clock_is_late(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(locks, "is_timely", lambda each, until_ms: each is not None and each.clock_ms < until_ms)


def expires_at_the_expiry(patch: pytest.MonkeyPatch) -> None:
    original = locks._paid
    patch.setattr(locks, "_paid", lambda each, registration, clock_ms: original(each, registration, clock_ms + 1))


def pays_the_payer(patch: pytest.MonkeyPatch) -> None:
    def mutant(each: ClosedLock, registration: Any, clock_ms: int) -> ClosedLock:
        return structs.replace(each, paid_to=each.lock.payer, clock_ms=clock_ms)

    patch.setattr(locks, "_paid", mutant)


def settles_by_the_registration_of_today(patch: pytest.MonkeyPatch) -> None:
    """What counts is whether the expiry has passed at settlement, not when the preimage came."""
    original = locks._paid

    def mutant(each: ClosedLock, registration: Any, clock_ms: int) -> ClosedLock:
        return original(each, None if clock_ms > each.until_ms else registration, clock_ms)

    patch.setattr(locks, "_paid", mutant)


def the_last_clock_stands(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(draft.Draft, "_registration", lambda self, hashed: None)


def anybody_registers(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(State, "is_named", lambda *_: True)


def takes_any_preimage(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(draft, "check_preimages", lambda *_: None)


def takes_any_locks(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(words, "check_locks", lambda *_: None)


def adds_no_locks_up(patch: pytest.MonkeyPatch) -> None:
    original = settlement.check_amounts
    patch.setattr(
        words, "check_amounts", lambda a, amounts, code, locked=0: original(a, amounts, code, 2_000 - sum(amounts))
    )


def pends_for_ever(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(draft, "bounded", lambda each, latest_ms: each)


def waits_for_somebody_to_ask(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(State, "claimable", lambda self: iter(()))


def forgets_what_waits(patch: pytest.MonkeyPatch) -> None:
    """The index by hash is not kept: nobody is paid by a registration in an earlier block."""
    patch.setattr(Store, "_wait", lambda *_: None)


def does_all_at_once(patch: pytest.MonkeyPatch) -> None:
    original = draft.Draft.settle_due

    def mutant(self: draft.Draft) -> None:
        original(self)
        for name in list(self.parent.claimable()):
            self._pay_locks(self.group(name))

    patch.setattr(draft.Draft, "settle_due", mutant)


def forgets_nothing(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(State, "forgettable", lambda self, clock_ms: iter(()))


def forgets_early(patch: pytest.MonkeyPatch) -> None:
    original = State.forgettable
    patch.setattr(State, "forgettable", lambda self, clock_ms: original(self, clock_ms + 1))


def renews_nothing(patch: pytest.MonkeyPatch) -> None:
    """As before decision 036 was mended: an old registration is forgotten in the middle of a dispute."""
    patch.setattr(locks, "is_renewable", lambda *_: False)


def renews_each_time(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(locks, "is_renewable", lambda *_: True)


def a_renewal_counts_as_the_first_time(patch: pytest.MonkeyPatch) -> None:
    original = locks.after_showing

    def mutant(found: Any, preimage: bytes, clock_ms: int, renew_after_ms: int) -> Registration:
        after = original(found, preimage, clock_ms, renew_after_ms)
        return structs.replace(after, clock_ms=after.kept_from_ms)

    patch.setattr(draft, "after_showing", mutant)


def forgets_by_the_first_time(patch: pytest.MonkeyPatch) -> None:
    original = Store._absorb_registration

    def mutant(self: Store, hashed: bytes, each: Registration | None) -> None:
        original(self, hashed, each if each is None else structs.replace(each, kept_from_ms=each.clock_ms))

    patch.setattr(Store, "_absorb_registration", mutant)


def pays_locks_twice(patch: pytest.MonkeyPatch) -> None:
    original = draft.Draft._credit_locks

    def mutant(self: draft.Draft, group: Any, paid: Any) -> None:
        original(self, group, [*paid, *paid])

    patch.setattr(draft.Draft, "_credit_locks", mutant)


def holds_nothing_for_locks(patch: pytest.MonkeyPatch) -> None:
    """A closed group holds nothing: what pends vanishes, and the ledger's own audit sees it."""
    patch.setattr(Group, "pending", property(lambda self: ()))


def forgets_before_the_dispute_ends(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Parameters, "max_locking_ms", property(lambda self: 10**12))


MUTANTS: list[tuple[Callable[[pytest.MonkeyPatch], None], Callable[[], None]]] = [
    (takes_late_registrations, late_for_one_is_in_time_for_another),
    (the_last_clock_is_late, the_last_clock_is_in_time),
    (expires_at_the_expiry, a_lock_goes_back_when_its_time_is_over),
    (pays_the_payer, a_lock_goes_to_the_payee_if_the_preimage_is_known),
    (settles_by_the_registration_of_today, a_wedge_changes_nothing),
    (the_last_clock_stands, the_first_clock_stands),
    (anybody_registers, who_registers_has_something),
    (takes_any_preimage, who_registers_has_something),
    (takes_any_locks, a_body_that_no_member_should_sign_is_not_paid),
    (adds_no_locks_up, a_body_that_no_member_should_sign_is_not_paid),
    (pends_for_ever, no_lock_pends_for_longer_than_locks_may),
    (waits_for_somebody_to_ask, a_lock_pends_until_its_preimage_is_registered),
    (forgets_what_waits, a_lock_pends_until_its_preimage_is_registered),
    (does_all_at_once, what_falls_due_is_capped_and_carried_over),
    (forgets_nothing, a_preimage_is_forgotten_when_no_lock_needs_it),
    (forgets_early, a_preimage_is_forgotten_when_no_lock_needs_it),
    (renews_nothing, an_old_registration_outlasts_the_dispute),
    (renews_each_time, a_preimage_is_kept_from_when_it_was_renewed),
    (a_renewal_counts_as_the_first_time, a_preimage_is_kept_from_when_it_was_renewed),
    (forgets_by_the_first_time, an_old_registration_outlasts_the_dispute),
    (pays_locks_twice, a_lock_goes_to_the_payee_if_the_preimage_is_known),
    (holds_nothing_for_locks, a_lock_pends_until_its_preimage_is_registered),
    (forgets_before_the_dispute_ends, a_group_with_locks_ends_before_its_preimages_are_forgotten),
]


@pytest.mark.parametrize(("mutate", "story"), MUTANTS, ids=lambda each: each.__name__)
def test_a_broken_ledger_is_noticed(mutate: Callable[[pytest.MonkeyPatch], None], story: Callable[[], None]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        mutate(patch)
        with pytest.raises((AssertionError, LocalError)):
            story()
