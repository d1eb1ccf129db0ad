"""The operators of a run: they add, remove and rotate replicas while everything else goes wrong.

They agree on one change at a time, and on the next when that one is in a final block, or can be in none any more. They
keep to what limits.md asks of them: of each set at most f are faulty, those that lost a disk or are away among them;
and whoever was removed runs on until the new set has the boundary on its disks. Newcomers have fresh keys and empty
disks; they start some time before the change or after it.

Source: docs/design/consensus.md, "Catching up, joining, leaving"; decision 021.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import partial
from random import Random

from layer1.consensus import quorum
from layer1.crypto import SigningKey
from layer1.ledger.genesis import Genesis
from layer1.ledger.replicas import ChangeReplicas, ReplicaSet, Seat, SetChange, sign_change
from layer1.replica import events
from tests.simulation.kernel import MS, World
from tests.simulation.ledger import PEOPLE
from tests.simulation.replica import Replica
from tests.simulation.workload import Workload

LOOK_US = 100 * MS
"""How often they look what has become of their change, and whether who was removed may go."""
SAFE_US = 400 * MS
"""So long all members must have run in the new epoch before they rely on it that the boundary is on their disks."""
FEWEST = 2
"""Replicas in a set."""


class Operators:
    """All of them, agreed."""

    def __init__(
        self,
        world: World,
        genesis: Genesis,
        replicas: Sequence[Replica],
        workload: Workload,
        faulty: Collection[int],
    ) -> None:
        """Take charge.

        Args:
            world: Of the run.
            genesis: Of the ledger.
            replicas: By number, those to come included.
            workload: Which brings their transactions.
            faulty: Numbers of those that are Byzantine, lose their disk or are away.
        """
        self.world, self.genesis, self.replicas, self.workload = world, genesis, list(replicas), workload
        self.faulty = frozenset(faulty)
        self.agreed: tuple[ReplicaSet, int] | None = None
        """The set that they wait for, and the ledger clock up to which it may come."""
        self._random = world.random("operators")
        self._set = genesis.replica_set
        self._left = 0
        self._end_us = 0
        self._is_healed = False
        self._leaving: dict[int, tuple[int, object, int]] = {}
        """By number of who was removed: the epoch, in which lives its members run there, and since when."""

    def start(self, changes: int, end_us: int) -> None:
        """Make so many changes until then, as far as they come to pass."""
        self._left, self._end_us = changes, end_us
        self.world.after(self._random.randint(0, end_us // (changes + 1)), self._look)

    @property
    def members(self) -> ReplicaSet:
        """The newest set that an honest replica is in the epoch of."""
        running = [replica for replica in self.replicas if replica.is_honest and replica.is_running]
        sets = [replica.core.application.replica_set for replica in running]
        newest = max(sets, key=lambda found: found.epoch, default=self._set)
        if newest.epoch > self._set.epoch:
            self._set = newest
        return self._set

    @property
    def wanted(self) -> frozenset[int]:
        """Numbers of those that must run: members of the newest set, and of the one that they wait for."""
        coming = self.agreed[0].numbers if self.agreed is not None else ()
        return frozenset((*self.members.numbers, *coming))

    def heal(self) -> None:
        """Start who is needed; nobody leaves any more, and nothing new is agreed on."""
        for number in sorted(self.wanted):
            self._bring_up(number)
        self._left = 0
        self._leaving.clear()
        self._is_healed = True

    # -------------------------------------------------------------------------------------------------------- changes

    def _look(self) -> None:
        before = self._set
        current = self.members
        if current.epoch > before.epoch:
            self._on_changed(before, current)
        if self.agreed is not None and self.workload.clock_ms > self.agreed[1]:
            self.world.stats["set changes too late"] += 1
            self.agreed = None
        if self.agreed is None and self._left and self.world.now_us < self._end_us and self._random.random() < 0.4:
            self._propose(current)
        for number in sorted(self._leaving):
            self._let_go(number)
        if self._left and self._random.random() < 0.1:
            self._usurp(current)
        self.world.after(LOOK_US, self._look)

    def _on_changed(self, before: ReplicaSet, current: ReplicaSet) -> None:
        stats = self.world.stats
        stats["set changes"] += current.epoch - before.epoch
        stats["listeners"] += sum(
            replica.is_running and number not in current.numbers for number, replica in enumerate(self.replicas)
        )
        for replica in self.replicas:
            if replica.is_honest and replica.is_running and len(replica.core.application.trust.sets) > current.epoch:
                handovers = replica.core.application.trust.handovers[before.epoch : current.epoch]
                stats["boundaries by filler"] += sum(bool(handover.head.path) for handover in handovers)
                break
        self.world.note("operators", f"see epoch {current.epoch} of {list(current.numbers)}")
        for number in before.numbers:
            if number not in current.numbers and not self._is_healed:
                self._leaving[number] = current.epoch, None, 0
        self.agreed, self._left = None, self._left - 1

    def _propose(self, current: ReplicaSet) -> None:
        """Agree on a change that keeps the faulty few, and bring it."""
        random = self._random
        spare = len(self.replicas) - current.next_number
        added = min(random.choice((0, 1, 1, 2)), spare)
        removed = random.sample(current.numbers, min(random.choice((0, 1, 1, 2)), len(current.numbers)))
        numbers = [number for number in current.numbers if number not in removed]
        numbers += range(current.next_number, current.next_number + added)
        if not (added or removed) or len(numbers) < FEWEST or not self._is_sound(numbers):
            return
        keys = [self.replicas[current.next_number + i].key for i in range(added)]
        expires_ms = self.workload.clock_ms + random.choice((3_000, 20_000, 100_000))
        change = SetChange(current.epoch, tuple(key.public for key in keys), tuple(sorted(removed)), expires_ms)
        request = self._signed(change, current, keys, random)
        seats = tuple(Seat(number, self.replicas[number].key.public) for number in numbers)
        self.agreed = ReplicaSet(current.epoch + 1, current.fault_model, seats, current.next_number + added), expires_ms
        self.world.note("operators", f"agree to end epoch {current.epoch}: {numbers} are the next set")
        for i in range(added):
            self.world.after(random.randint(0, 1_000) * MS, partial(self._bring_up, current.next_number + i))
        self.world.after(random.randint(0, 800) * MS, partial(self._submit, request, expires_ms))

    def _is_sound(self, numbers: Sequence[int]) -> bool:
        """Whether no more of them are faulty than may be."""
        faults = quorum.faulty(len(numbers), self.genesis.fault_model)
        return len(self.faulty & set(numbers)) <= faults

    def _signed(
        self, change: SetChange, current: ReplicaSet, newcomers: Sequence[SigningKey], random: Random
    ) -> ChangeReplicas:
        """By a quorum of operators, or more, and by the newcomers'."""
        signers = sorted(random.sample(current.numbers, random.randint(current.quorum, len(current.seats))))
        chain_id = self.genesis.chain_id
        approvals = tuple((number, sign_change(change, chain_id, self.replicas[number].key)) for number in signers)
        return ChangeReplicas(change, approvals, tuple(sign_change(change, chain_id, key) for key in newcomers))

    def _submit(self, request: ChangeReplicas, expires_ms: int) -> None:
        valid_ms = max(1, expires_ms - self.workload.clock_ms)
        self.workload.submit("operators", self.workload.sign(request, valid_ms=valid_ms))

    def _usurp(self, current: ReplicaSet) -> None:
        """Somebody brings a change that too few operators signed, maybe one of them twice."""
        key = self._random.choice(PEOPLE)
        change = SetChange(current.epoch, (key.public,), current.numbers[:1], self.workload.clock_ms + 60_000)
        request = self._signed(change, current, [key], self._random)
        approvals = request.approvals[: current.quorum - 1]
        if self._random.random() < 0.5:
            approvals = (*approvals, *approvals[-1:])
        forged = self.workload.sign(ChangeReplicas(change, approvals, request.acceptances))
        self._random.choice(self.replicas).submit(
            events.Submit([(forged.id, forged)], "usurper"), lambda _refusal: None
        )

    # ------------------------------------------------------------------------------------------- who comes, who goes

    def _bring_up(self, number: int) -> None:
        replica = self.replicas[number]
        if replica.away and number >= len(self.genesis.replicas):
            replica.away = False
            replica.start()
            if replica.role is not None:
                replica.role.begin()

    def _let_go(self, number: int) -> None:
        """Stop one that was removed, if all members have been in that epoch for a while."""
        epoch, lives, since_us = self._leaving[number]
        members = [self.replicas[member] for member in self.members.numbers if self.replicas[member].is_honest]
        if not all(member.is_running and not member.paused for member in members) or any(
            member.core.config.epoch < epoch for member in members
        ):
            self._leaving[number] = epoch, None, 0
            return
        now = [id(member.life) for member in members]
        if lives != now:
            self._leaving[number] = epoch, now, self.world.now_us
        elif self.world.now_us >= since_us + SAFE_US and self._random.random() < 0.3:
            del self._leaving[number]
            self.replicas[number].away = True
            self.replicas[number].kill()
            self.world.stats["retired"] += 1
            self.world.note("operators", f"stop replica {number}, which is not needed any more")
