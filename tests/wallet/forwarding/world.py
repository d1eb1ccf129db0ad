"""A forwarder between payers and payees who lie, a ledger, and crashes between any two effects.

Groups are small models of real ones: a certified state, and at most one version that the forwarder has signed beyond
it, which its other member may or may not hold. What the forwarder's host would do is done here as
`wallet.forwarding.events` asks for it. All money of all accounts is counted; all randomness is the seed's.

Time: layer 1 takes what it is sent within :data:`REST`, the forwarder sees the clock within :data:`POLL`; M is both.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from random import Random

from layer1.crypto import Domain, Hash, digest
from layer1.ledger import agreements
from layer1.ledger.locks import preimage_hash
from wallet.forwarding.core import Forwarder
from wallet.forwarding.events import (
    AskRegistry,
    Came,
    ClockSeen,
    Effect,
    Event,
    Gone,
    GroupWedged,
    IncomingEnded,
    LockRef,
    MakeClaim,
    MakeExpire,
    MakeOffer,
    MakeRelease,
    MakeWedge,
    OfferFailed,
    Orphaned,
    OutgoingEnded,
    Persist,
    PreimageSeen,
    Record,
    Register,
    Restored,
    Stands,
    Unregistered,
    Way,
)
from wallet.forwarding.policy import Terms, Timing

REST, POLL = 30, 10
MARGIN = REST + POLL
TIMING = Timing(margin_ms=MARGIN, least_life_ms=2 * MARGIN, most_ahead_ms=1_000, patience_ms=60)
FEE = 3
FUNDS = 300
PAYERS, PAYEES = (0, 1), (2, 3)


class Crash(Exception):
    """The forwarder's process is gone; what was durable is not."""


@dataclass(frozen=True)
class Lock:
    ours: bool
    """Whether the forwarder is its payer."""
    amount: int
    hash: Hash
    expiry: int

    def known_as(self, number: int) -> agreements.Lock:
        return agreements.Lock(number, 0, 1, self.amount, self.hash, self.expiry)


@dataclass(frozen=True)
class State:
    """Of a group: what the other member has, what the forwarder has, locks by id."""

    theirs: int
    ours: int
    count: int = 0
    locks: tuple[tuple[int, Lock], ...] = ()

    def get(self, number: int) -> Lock | None:
        return dict(self.locks).get(number)

    def offered(self, lock: Lock) -> State | None:
        theirs, ours = self.theirs - (not lock.ours) * lock.amount, self.ours - lock.ours * lock.amount
        if min(theirs, ours) < 0:
            return None
        return State(theirs, ours, self.count + 1, (*self.locks, (self.count + 1, lock)))

    def ended(self, number: int, *, paid: bool) -> State | None:
        lock = self.get(number)
        if lock is None:
            return None
        to_us = lock.ours != paid
        left = tuple(item for item in self.locks if item[0] != number)
        return State(self.theirs + (not to_us) * lock.amount, self.ours + to_us * lock.amount, self.count, left)


@dataclass(frozen=True)
class Command:
    kind: str
    """offer, claim, release or expire."""
    by_us: bool
    lock: int = 0
    offer: Lock | None = None
    preimage: bytes = b""


@dataclass
class Group:
    name: Hash
    peer: int
    state: State
    pending: State | None = None
    """Signed by the forwarder; whether the other member has it is the other member's secret."""
    queue: list[Command] = field(default_factory=list)
    """Commands of the forwarder, on their way to the other member."""
    stale: list[Command] = field(default_factory=list)
    """Those of before a crash: one of them may still enter until both are in step again."""
    in_step: bool = True
    wedged: bool = False


class World:
    """One run."""

    def __init__(self, seed: int, *, crashes: bool = True, forwarder: type[Forwarder] = Forwarder) -> None:
        self.chance = Random(seed)
        self.kind = forwarder
        self.crashes = crashes
        self.faulty = {peer for peer in (*PAYERS, *PAYEES) if self.chance.random() < 0.4}
        self.mute = {peer for peer in PAYERS if peer in self.faulty and self.chance.random() < 0.6}
        """Payers that keep silent for good when nothing new begins."""
        self.ending = False
        self.clock = 1_000
        self.registry: dict[Hash, tuple[int, bytes]] = {}
        self.sent: list[tuple[int, str, bytes]] = []
        """To layer 1: when it is taken at the latest, what, of what."""
        peers = (*PAYERS, *PAYEES)
        self.groups = {name(peer): Group(name(peer), peer, State(FUNDS, FUNDS)) for peer in peers}
        self.asks: dict[LockRef, tuple[int, int]] = {}
        """What the packets of payers' locks say: to whom, how much."""
        self.preimages: dict[Hash, bytes] = {}
        self.payee_of: dict[Hash, int] = {}
        self.public: set[Hash] = set()
        """Preimages that payers may know: shown in a group or on layer 1."""
        self.declined: set[Hash] = set()
        """Payments that payees gave back; who is honest does not show the preimage afterwards."""
        self.records: list[Record] = []
        self.inbox: deque[Event] = deque()
        self.steps: list[str] = []
        self.ends: list[tuple[Lock, bool]] = []
        """Locks that ended for good, and whether their payees have the money."""
        self.paid = 0
        self.seen_ms = self.clock
        self.forwarder = self.kind(lambda _: Terms(fee_base=FEE), TIMING, (), self.clock)

    # --------------------------------------------------------------------------------------------- the forwarder's host

    def crash_perhaps(self) -> None:
        if self.crashes and self.chance.random() < 0.02:
            raise Crash

    def step(self, event: Event) -> None:
        """Step the core and perform what it wants, in order, with a crash anywhere between."""
        self.crash_perhaps()
        for effect in self.forwarder.step(event):
            self.perform(effect)
            self.crash_perhaps()

    def settle(self) -> None:
        while self.inbox:
            self.step(self.inbox.popleft())

    def perform(self, effect: Effect) -> None:
        match effect:
            case Persist(record):
                self.records.append(record)
            case MakeOffer(passage, _):
                offer = Lock(True, passage.amount, passage.hash, passage.expiry_ms)
                self.groups[passage.outgoing].queue.append(Command("offer", True, offer=offer))
            case MakeClaim(incoming, preimage):
                self.enqueue(incoming, Command("claim", True, incoming.lock, preimage=preimage))
            case MakeRelease(incoming, _):
                self.enqueue(incoming, Command("release", True, incoming.lock))
            case MakeExpire(outgoing):
                self.enqueue(outgoing, Command("expire", True, outgoing.lock))
            case Register(preimage):
                self.sent.append((self.clock + REST, "register", preimage))
            case MakeWedge(group):
                self.sent.append((self.clock + REST, "wedge", group))
            case AskRegistry(hashed):
                known = self.registry.get(hashed)
                self.inbox.append(PreimageSeen(known[1]) if known else Unregistered(hashed, self.clock))

    def enqueue(self, ref: LockRef, command: Command) -> None:
        group = self.groups[ref.group]
        if command not in group.queue and not group.wedged:
            group.queue.append(command)

    def restart(self) -> None:
        """The process ends, and begins again at once."""
        self.steps.append("crash")
        self.inbox.clear()
        for group in self.groups.values():
            group.stale, group.queue, group.in_step = [*group.stale, *group.queue], [], False
        self.forwarder = self.kind(lambda _: Terms(fee_base=FEE), TIMING, self.records, self.clock)
        for group in self.groups.values():
            if group.wedged:
                self.inbox.append(GroupWedged(group.name))
        for group in self.groups.values():
            states = filter(None, (group.state, group.pending))
            locks = {number: lock for state in states for number, lock in state.locks if lock.ours}
            told = tuple(lock.known_as(number) for number, lock in locks.items())
            assert not self.forwarder.step(Restored(group.name, told))
        for effect in self.forwarder.resume():
            self.perform(effect)
        for group in self.groups.values():
            if group.wedged:
                self.guarded(self.tell_all, group)
        self.guarded(self.look)

    def guarded(self, action: object, *arguments: object) -> None:
        assert callable(action)
        try:
            action(*arguments)
        except Crash:
            self.restart()

    def get_in_step(self, group: Group) -> None:
        """After a restart the two have met: what the other still had of ours has entered, or never will."""
        if group.in_step or group.wedged:
            return
        if group.pending is not None:
            self.commit(group)
            return
        if group.stale and self.chance.random() < 0.5:
            command = self.chance.choice(group.stale)
            group.stale.clear()
            self.propose(group, command)
            return
        group.stale.clear()
        group.in_step = True
        self.tell_all(group)

    def tell_all(self, group: Group) -> None:
        """After a restart, of a group in which nothing of ours is under way: what stands and what does not."""
        self.tell_standing(group)
        for number, lock in group.state.locks:
            if not lock.ours and not group.wedged:
                self.inbox.append(Orphaned(LockRef(group.name, number)))
        self.settle()

    def tell_standing(self, group: Group) -> None:
        """What layer 1 paid, it paid for a preimage that it shows: that comes first."""
        for passage, lock in self.forwarder.passages():
            if passage.outgoing == group.name and group.wedged and passage.hash in self.registry:
                self.inbox.append(PreimageSeen(self.registry[passage.hash][1]))
            if passage.outgoing == group.name and lock is None:
                self.inbox.append(OfferFailed(passage.number, away=False))
            if passage.incoming.group == group.name and group.state.get(passage.incoming.lock) is None:
                self.inbox.append(IncomingEnded(passage.incoming))

    # ------------------------------------------------------------------------------------------------------ one version

    def propose(self, group: Group, command: Command) -> None:
        """One command becomes a version that the forwarder signs, if it may."""
        if group.pending is not None or group.wedged:
            return
        following = self.applied(group, command)
        if following is None:
            if command.by_us and command.offer is not None:
                self.refused(group, command.offer)
            return
        if not command.by_us and not self.may_agree(group, command):
            return
        if command.offer is not None and command.by_us:
            offer = command.offer
            number = self.forwarder.find(group.name, offer.known_as(following.count))
            assert number is not None, "an offer of ours that we know nothing of"
            self.step(Stands(number, following.count))
        if command.kind == "claim" and not command.by_us:
            self.step(PreimageSeen(command.preimage))
        group.pending = following  # signed, and durable
        self.settle()

    def applied(self, group: Group, command: Command) -> State | None:
        if command.offer is not None:
            return group.state.offered(command.offer)
        lock = group.state.get(command.lock)
        if lock is None or lock.ours is not (command.by_us == (command.kind == "expire")):
            return None
        if command.kind == "claim" and preimage_hash(command.preimage) != lock.hash:
            return None
        return group.state.ended(command.lock, paid=command.kind == "claim")

    def may_agree(self, group: Group, command: Command) -> bool:
        """What a member asks besides, with layer 1 before it (decision 036)."""
        lock = group.state.get(command.lock)
        if command.kind == "expire":
            assert lock is not None
            return self.clock > lock.expiry and not self.timely(lock)
        if command.kind == "claim":
            assert lock is not None
            return self.may_settle(lock)
        return True

    def may_settle(self, lock: Lock) -> bool:
        """Rule 22 [F9], as `layer2.guarding` has it: in time, or with a timely registration."""
        known = self.registry.get(lock.hash)
        if known is not None:
            return known[0] <= lock.expiry
        return self.seen_ms + MARGIN <= lock.expiry

    def refused(self, group: Group, offer: Lock) -> None:
        number = self.forwarder.find(group.name, offer.known_as(0))
        if number is not None and group.in_step:
            self.step(OfferFailed(number, away=False))

    def commit(self, group: Group) -> None:
        """The forwarder gets the certificate of what it signed."""
        assert group.pending is not None
        before, group.state, group.pending = group.state, group.pending, None
        self.note(before, group.state)
        self.tell_change(group, before, group.state)

    def note(self, before: State, after: State) -> None:
        """How a lock ended, by who has its money."""
        for number, lock in before.locks:
            if after.get(number) is None:
                gained = after.theirs - before.theirs if lock.ours else after.ours - before.ours
                self.ends.append((lock, gained > 0))

    def tell_change(self, group: Group, before: State, after: State) -> None:
        for number, lock in before.locks:
            if after.get(number) is None:
                ref = LockRef(group.name, number)
                self.inbox.append(OutgoingEnded(ref, lock.hash) if lock.ours else IncomingEnded(ref))
        for number, lock in after.locks:
            if before.get(number) is None and not lock.ours:
                self.inbox.append(self.came(LockRef(group.name, number), group, lock))
        self.settle()

    def came(self, ref: LockRef, group: Group, lock: Lock) -> Came:
        payee, amount = self.asks[ref]
        outgoing = self.groups[name(payee)]
        issued = [command.offer.amount for command in outgoing.queue if command.offer is not None]
        taken = [other.amount for _, other in outgoing.state.locks] + issued
        ready = outgoing.in_step and not outgoing.wedged and outgoing.pending is None
        way = Way(outgoing.name, outgoing.state.ours - sum(issued), ready, 8, len(taken), FUNDS, sum(taken), 1)
        peer = digest(Domain.GROUP, b"peer %d" % group.peer)
        return Came(ref, peer, lock.amount, lock.hash, lock.expiry, amount, bytes(32), b"", (way,))

    # ---------------------------------------------------------------------------------------------------------- layer 1

    def timely(self, lock: Lock) -> bool:
        known = self.registry.get(lock.hash)
        return known is not None and known[0] <= lock.expiry

    def take(self) -> None:
        """Layer 1 executes what is due, and some of what is not yet."""
        for item in list(self.sent):
            due, what, data = item
            if due <= self.clock or self.chance.random() < 0.3:
                self.sent.remove(item)
                self.register(data) if what == "register" else self.wedge(self.groups[data])

    def register(self, preimage: bytes) -> None:
        hashed = preimage_hash(preimage)
        self.registry.setdefault(hashed, (self.clock, preimage))
        self.public.add(hashed)
        self.inbox.append(PreimageSeen(preimage))

    def wedge(self, group: Group) -> None:
        """Layer 1 settles on the highest state that anybody shows; who holds what both signed may keep it to itself."""
        if group.wedged:
            return
        group.wedged, group.in_step = True, True
        group.queue.clear()
        group.stale.clear()
        before = {number: lock for state in (group.state, group.pending) if state for number, lock in state.locks}
        if group.pending is not None and self.chance.random() < 0.5:
            self.note(group.state, group.pending)
            group.state = group.pending
        group.pending = None
        self.inbox.append(GroupWedged(group.name))
        for number, lock in before.items():
            if lock.ours and group.state.get(number) is None:
                self.inbox.append(OutgoingEnded(LockRef(group.name, number), lock.hash))
        self.tell_standing(group)

    def resolve(self, group: Group) -> None:
        """Locks of a wedged group go to one or the other as soon as that is certain (rule 21)."""
        for number, lock in group.state.locks:
            if self.timely(lock) or self.clock > lock.expiry:
                after = group.state.ended(number, paid=self.timely(lock))
                assert after is not None
                self.note(group.state, after)
                group.state = after
                ref = LockRef(group.name, number)
                if lock.ours and self.timely(lock):
                    self.inbox.append(PreimageSeen(self.registry[lock.hash][1]))
                self.inbox.append(OutgoingEnded(ref, lock.hash) if lock.ours else IncomingEnded(ref))

    # ------------------------------------------------------------------------------------------------------- the others

    def pay(self) -> None:
        """A payer begins a payment; a faulty one may offer too little, or use a hash again."""
        group = self.groups[name(self.chance.choice(PAYERS))]
        faulty = group.peer in self.faulty
        if self.preimages and (faulty or self.chance.random() < 0.3):
            hashed = self.chance.choice(list(self.preimages))
        else:
            preimage = digest(Domain.GROUP, b"preimage %d" % len(self.preimages))
            hashed = preimage_hash(preimage)
            self.preimages[hashed] = preimage
            self.payee_of[hashed] = self.chance.choice(PAYEES)
        amount = self.chance.choice([1, 10, 10, 40])
        came = amount + (self.chance.choice([0, FEE, FEE + 5]) if faulty else FEE)
        life = self.chance.choice([2 * MARGIN, 150, 400, 2_000 if faulty else 200])
        lock = Lock(False, came, hashed, self.clock + life)
        if group.pending is None and group.in_step:
            self.asks[LockRef(group.name, group.state.count + 1)] = self.payee_of[hashed], amount
            self.propose(group, Command("offer", False, offer=lock))

    def payee_acts(self) -> None:
        """A payee claims or gives back; a faulty one at the worst moment, or registers, or keeps silent."""
        group = self.groups[name(self.chance.choice(PAYEES))]
        ours = [(number, lock) for number, lock in group.state.locks if lock.ours]
        if not ours or not group.in_step:
            return
        number, lock = self.chance.choice(ours)
        preimage = self.preimages[lock.hash]
        faulty = group.peer in self.faulty
        draw = self.chance.random()
        if faulty and draw < 0.2:
            self.sent.append((self.clock + self.chance.choice([0, REST]), "register", preimage))
        elif faulty and draw < 0.25:
            self.sent.append((self.clock, "wedge", group.name))
        elif draw < 0.7 and (faulty or lock.hash not in self.declined):
            self.public.add(lock.hash)
            self.propose(group, Command("claim", False, number, preimage=preimage))
        elif 0.7 <= draw < 0.85 and (faulty or lock.hash not in self.public):
            self.declined.add(lock.hash)
            self.propose(group, Command("release", False, number))

    def payees_insist(self) -> None:
        """An honest payee that has shown a preimage registers it in time, like everybody."""
        for peer in PAYEES:
            for _, lock in self.groups[name(peer)].state.locks:
                known = lock.ours and lock.hash in self.public and lock.hash not in self.registry
                if peer not in self.faulty and known and self.clock + MARGIN == lock.expiry:
                    self.sent.append((self.clock + REST, "register", self.preimages[lock.hash]))

    def payer_acts(self) -> None:
        """A payer takes back what has expired; a faulty one tries before, and wedges."""
        group = self.groups[name(self.chance.choice(PAYERS))]
        if self.ending and group.peer in self.mute:
            return
        faulty = group.peer in self.faulty
        for number, lock in group.state.locks:
            if not lock.ours and group.in_step and (self.clock > lock.expiry or faulty):
                self.propose(group, Command("expire", False, number))
                break
        if faulty and self.chance.random() < 0.03:
            self.sent.append((self.clock, "wedge", group.name))

    def serve_queue(self) -> None:
        """Commands of the forwarder reach the other member, which lets them in, or does not."""
        group = self.groups[self.chance.choice(list(self.groups))]
        if self.ending and group.peer in self.mute:
            return
        if not group.in_step:
            self.get_in_step(group)
        elif group.pending is not None:
            if group.peer not in self.faulty or self.chance.random() < 0.3:
                self.commit(group)
        elif group.queue and not (group.peer in self.faulty and self.chance.random() < 0.7):
            command = group.queue.pop(0)
            self.propose(group, command)

    def pass_time(self) -> None:
        for _ in range(self.chance.choice([1, 2, 5, POLL])):
            self.clock += 1
            self.take()
            for group in self.groups.values():
                if group.wedged:
                    self.resolve(group)
            self.payees_insist()
            self.settle()
            if self.clock - self.seen_ms >= POLL or self.chance.random() < 0.1:
                self.look()

    def look(self) -> None:
        """The forwarder sees the clock."""
        self.seen_ms = self.clock
        self.step(ClockSeen(self.clock))
        self.settle()

    # ------------------------------------------------------------------------------------------------------------- runs

    def run(self, steps: int = 250) -> None:
        """Anything may happen; then nobody begins anything, and time goes on until all has ended."""
        for number in range(steps):
            action = self.chance.choices(
                [self.pay, self.payee_acts, self.payer_acts, self.serve_queue, self.pass_time], [2, 4, 2, 9, 4]
            )[0]
            self.steps.append(f"{number} {action.__name__} at {self.clock}")
            self.guarded(action)
            self.check_conserved()
        self.crashes, self.ending = False, True
        end = self.clock + 2_500
        while self.clock < end:
            self.guarded(self.pass_time)
            for _ in range(6):
                self.guarded(self.serve_queue)
                self.guarded(self.payer_acts)
        self.check_collected()
        for group in self.groups.values():
            self.wedge(group)
        self.guarded(self.pass_time)
        self.check_conserved()
        self.check_ended()

    def check_conserved(self) -> None:
        """Every unit, in each version that somebody could bring to layer 1."""
        for group in self.groups.values():
            for state in filter(None, (group.state, group.pending)):
                assert state.theirs + state.ours + sum(lock.amount for _, lock in state.locks) == 2 * FUNDS
                assert min(state.theirs, state.ours) >= 0

    def check_ended(self) -> None:
        """No lock is left, the forwarder has lost nothing, and knows of nothing that would still be to do."""
        assert not any(group.state.locks for group in self.groups.values())
        ours = sum(group.state.ours for group in self.groups.values())
        assert ours >= len(self.groups) * FUNDS, f"the forwarder lost {len(self.groups) * FUNDS - ours} units"
        assert not self.forwarder.passages(), f"passages without an end: {self.forwarder.passages()}"
        for hashed in self.preimages:
            self.check_payment(hashed)

    def check_collected(self) -> None:
        """What is ours we have, also from who keeps silent: without waiting for others to bring it to layer 1."""
        failed = {record.number for record in self.records if isinstance(record, Gone)}
        for passage, _ in self.forwarder.passages():
            group = self.groups[passage.incoming.group]
            lock = group.state.get(passage.incoming.lock) if passage.number not in failed else None
            assert lock is None or not self.timely(lock), f"passage {passage.number} is not collected"

    def check_payment(self, hashed: Hash) -> None:
        """What went out came in, with the fee; and where nobody lies both ends agree."""
        came = [lock.amount for lock, paid in self.ends if paid and not lock.ours and lock.hash == hashed]
        went = [lock.amount for lock, paid in self.ends if paid and lock.ours and lock.hash == hashed]
        assert len(went) <= len(came), "more locks were paid than came in"
        assert sum(went) + FEE * len(went) <= sum(came), "forwarded at a loss"
        if self.honest(hashed) and sum(lock.hash == hashed and not lock.ours for lock, _ in self.ends) == 1:
            assert len(came) == len(went), f"the payer paid {came}, the payee has {went}"
        self.paid += len(went)

    def honest(self, hashed: Hash) -> bool:
        return self.faulty.isdisjoint(PAYERS) and self.payee_of[hashed] not in self.faulty


def name(peer: int) -> Hash:
    return digest(Domain.GROUP, b"group %d" % peer)
