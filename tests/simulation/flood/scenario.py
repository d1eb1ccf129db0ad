"""One flood: open the groups, fill the pools with transfers, wedge everything at once, and see who is in time.

The wallets speak to replicas as real ones do: a liar brings its wedge, a watcher hears of it from the replica that it
follows and brings its report, each to any replica; who is refused tries again after the pauses of
`wallet.submitter`. The senders of transfers bring more whenever there is room, so every pool is full all the time.

Source: docs/flood.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

from layer1.block import CommittedBlock
from layer1.crypto import Hash
from layer1.errors import Refused
from layer1.ledger.events import GroupClosed, GroupReported, GroupWedged
from layer1.ledger.genesis import Allocation, Currency, Genesis, Parameters
from layer1.ledger.transactions import Transaction, Transfer
from layer1.replica import events
from layer1.replica.core import ReplicaCore
from layer1.replica.shares import PoolLimits
from layer1.replica.weight import BUILD_WEIGHT
from tests.simulation.checkers.agreement import Agreement
from tests.simulation.checkers.base import Checkers
from tests.simulation.checkers.deadlines import Deadlines
from tests.simulation.checkers.steadfast import Steadfast
from tests.simulation.clocks import START_WALL_MS
from tests.simulation.flood.groups import FUNDERS, NEWEST, PAYERS, Group, Wallets
from tests.simulation.flood.liars import censor, flood
from tests.simulation.flood.machine import BusyReplica, Meter
from tests.simulation.kernel import MS, World
from tests.simulation.ledger import replica_key
from tests.simulation.network import CALM, PROFILES, Network
from tests.simulation.signatures import shared_signature_checks
from wallet.submitter import RETRY_S

WIDE = next(profile for profile in PROFILES if profile.name == "wide")
SECOND = 1_000 * MS
REPLICAS = 4
SMALL_BLOCK = 400
"""Signatures in a block where blocks are scarce."""
SENDERS = 64
"""Of transfers, at each replica, from an address each."""
PAUSE_US = 1 * SECOND
"""Until a sender that was refused tries again, as the answer tells it (Retry-After)."""
LIST = 100
"""Transfers in one request, at scale 1."""
NOTICE_US = 500 * MS
"""Within this a watcher has seen a final block, and answers."""
MEMBERS = 4
"""Most in a group: were it more, the heaviest report would be more than a whole block of a small scale."""
WARM_UP_US = 5 * SECOND
"""The pools are full for at least so long before the flood."""
LONG_TERM = 1_000
"""Views: the first leader of such a term stays until others send it away."""


@dataclass(frozen=True)
class Options:
    """What kind of flood. Numbers are those of the whole one, whatever the scale."""

    scale: int = 1
    """Groups, signatures per block, room in the pools and speed are divided by this: the pressure stays the same."""
    groups: int = 10_000
    """How many are wedged."""
    period_ms: int = 15_000
    """Challenge period of every group."""
    scarce: Literal["processors", "blocks"] = "processors"
    """What keeps more transfers from being final: on a fast network verifying them, on a slow one with small blocks the
    room in those, and what is verified piles up.
    """
    byzantine: Literal["", "flooder", "censor"] = ""
    """What one of four replicas does: fill the lane of disputes with batches about nothing, or lead, for as long as it
    is let, with blocks full of transfers and without reports.
    """
    seed: int = 0

    def __str__(self) -> str:
        scale = f", at a scale of 1 to {self.scale}" if self.scale > 1 else ""
        liar = f", one replica a {self.byzantine}" if self.byzantine else ""
        return f"{self.groups:,} groups, {self.period_ms // 1000} s to answer, scarce are {self.scarce}{liar}{scale}"

    @property
    def count(self) -> int:
        """Groups in the run."""
        return self.groups // self.scale

    @property
    def block_weight(self) -> int:
        """Signatures in one block of the run."""
        return (BUILD_WEIGHT if self.scarce == "processors" else SMALL_BLOCK) // self.scale


@dataclass
class Outcome:
    """What came of it."""

    options: Options
    groups: list[Group]
    error: str = ""
    """What was violated; empty if nothing was."""
    transfers_before: float = 0.0
    """Final per second, before the flood and in it."""
    transfers_in: float = 0.0
    refused: int = 0
    """Disputes that found no room, and came again."""
    lane_us: int = 0
    """From the first dispute that was final to the last."""
    fullness: float = 1.0
    """Least part of the room for transfers that was taken in any pool, once a second."""
    busy: float = 0.0
    """Of the replicas' processors, in all."""
    stats: dict[str, int] = field(default_factory=dict)

    @property
    def late(self) -> list[Group]:
        """Groups whose report was not final before the deadline."""
        return [
            group for group in self.groups if group.reported_ms is None or group.closed_version not in {None, NEWEST}
        ]

    @property
    def verdict(self) -> str:
        """What was violated; empty if nothing was."""
        late = f"{len(self.late)} of {len(self.groups)} honest reports are not final before the deadline"
        return self.error or (late if self.late else "")

    @property
    def left_ms(self) -> int:
        """Least time between a report and its deadline; -1 if one came late."""
        times = [
            group.deadline_ms - group.reported_ms
            for group in self.groups
            if group.deadline_ms is not None and group.reported_ms is not None
        ]
        return -1 if self.late else min(times, default=-1)


def limits_of(scale: int) -> PoolLimits:
    """The default ones, at this scale; delays stay."""
    whole = PoolLimits()
    names = [name for name in PoolLimits.__slots__ if name != "batch_delay_ms"]
    return PoolLimits(**{name: max(1, getattr(whole, name) // scale) for name in names})


def genesis_of(options: Options) -> Genesis:
    """A ledger whose parameters are the default ones, but for the size of its blocks."""
    whole = Parameters()
    most = whole.max_block_transactions if options.block_weight == BUILD_WEIGHT else options.block_weight
    term_views = LONG_TERM if options.byzantine == "censor" else whole.term_views
    return Genesis(
        name="flooded",
        salt=bytes(16),
        currency=Currency("WDG", 2),
        allocations=tuple(Allocation(each.public, 10**9) for each in (*FUNDERS, *PAYERS)),
        replicas=tuple(replica_key(index).public for index in range(REPLICAS)),
        fault_model="byzantine",
        wall_time=START_WALL_MS,
        parameters=Parameters(max_block_transactions=most, max_members=MEMBERS, term_views=term_views),
    )


class Flood:
    """A world with its replicas and its wallets."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.world = World(options.seed, max_steps=50_000_000)
        self.genesis = genesis_of(options)
        self.wallets = Wallets(self.genesis)
        self.outcome = Outcome(options, self.wallets.groups(options.count, options.period_ms))
        self._bait = self.wallets.group(options.count, options.period_ms)
        """Belongs to the Byzantine replica, and stays open."""
        self._by_opening = {group.opening.id: group for group in (*self.outcome.groups, self._bait)}
        self._by_id: dict[Hash, Group] = {}
        self._random = self.world.random("flood")
        self._height = self._moved = self._open = self._settled = self._stale = 0
        self._disputes_us: list[int] = []
        self._again: dict[Hash, Callable[[], None]] = {}
        """By transaction, what its wallet does when it is refused after all."""
        self._make_replicas()

    def _make_replicas(self) -> None:
        options = self.options
        kinds = (Agreement, Deadlines, Steadfast)
        self.checkers = Checkers([kind(self.genesis, range(REPLICAS)) for kind in kinds])
        limits, self.meter = limits_of(options.scale), Meter(options.scale)

        def make_core(*arguments: Any, **options: Any) -> ReplicaCore:
            genesis, key, index, _, policy = arguments
            return ReplicaCore(genesis, key, index, limits, policy, **options)

        self.replicas = [
            BusyReplica(self.world, self.genesis, replica_key(index), index, self.checkers, make_core=make_core)
            for index in range(REPLICAS)
        ]
        network = Network(self.world, self.replicas, CALM if options.scarce == "processors" else WIDE)
        for replica in self.replicas:
            replica.network = network
            replica.power_on(self.meter)
            replica.on_rejected.append(lambda name, _refusal: self._on_rejected(name))
            replica.on_final.append(lambda _replica, block: self._on_final(block))
        self._open_to_all = list(self.replicas)
        """Whom wallets and senders turn to."""

    def run(self) -> Outcome:
        """All of it; what was violated is in the outcome."""
        with shared_signature_checks(), self.meter.reads():
            try:
                self._run()
                self.checkers.finish(self.world.now_us)
            except AssertionError as violation:
                self.outcome.error = f"{type(violation).__name__}: {violation}"
        self.outcome.stats = dict(self.world.stats)
        return self.outcome

    def _run(self) -> None:
        world, outcome = self.world, self.outcome
        for replica in self.replicas:
            replica.start()
        world.run(SECOND)
        self._open_groups()
        assert world.run(world.now_us + 120 * SECOND, lambda: self._open == len(self._by_opening)), "all groups open"
        self._start_senders()
        world.run(world.now_us + WARM_UP_US)
        before, began_us, busy_us = self._moved, world.now_us, self._busy_us()
        outcome.transfers_before = before * SECOND / WARM_UP_US
        for group in outcome.groups:
            world.after(self._random.randrange(100 * MS), partial(self._wedge, group))
        self._corrupt()
        self._look_at_pools()
        period_us = self.options.period_ms * MS
        world.run(began_us + 2 * period_us, lambda: bool(self._stale) or self._settled == len(outcome.groups))
        passed_us = world.now_us - began_us
        outcome.transfers_in = (self._moved - before) * SECOND / passed_us
        outcome.busy = (self._busy_us() - busy_us) / passed_us / len(self.replicas)
        outcome.lane_us = max(self._disputes_us, default=0) - min(self._disputes_us, default=0)

    def _corrupt(self) -> None:
        """The leader of the moment turns into a censor, or another replica into a flooder; wallets turn to the others.

        Checkers go on to judge it: neither says anything that the protocol forbids.
        """
        leader = self.replicas[0].core.consensus.leader
        match self.options.byzantine:
            case "flooder":
                liar = self.replicas[(leader + 1) % REPLICAS]
                flood(liar, self.wallets, self._bait)
            case "censor":
                liar = self.replicas[leader]
                censor(liar)
            case _:
                return
        self._open_to_all.remove(liar)

    def _busy_us(self) -> int:
        return sum(replica.busy_us for replica in self.replicas)

    # ------------------------------------------------------------------------------------------------------ wallets

    def _open_groups(self) -> None:
        groups, size = list(self._by_opening.values()), max(1, LIST // self.options.scale)
        for start in range(0, len(groups), size):
            self._bring("", [group.opening for group in groups[start : start + size]], lambda: True)

    def _wedge(self, group: Group) -> None:
        assert group.wedge is not None
        self._bring(f"liar {group.number}", [self.wallets.dispute(group.wedge)], lambda: group.deadline_ms is None)

    def _report(self, group: Group) -> None:
        assert group.report is not None
        dispute = [self.wallets.dispute(group.report)]
        self._bring(f"watcher {group.number}", dispute, lambda: group.reported_ms is None)

    def _bring(
        self, source: str, transactions: list[Transaction], needed: Callable[[], bool], attempt: int = 0
    ) -> None:
        """To any replica; another time, to any, as long as it is refused and needed."""

        def refused() -> None:
            if needed():
                self.outcome.refused += 1
                pause_us = int(RETRY_S[min(attempt, len(RETRY_S) - 1)] * SECOND)
                self.world.after(pause_us, partial(self._bring, source, transactions, needed, attempt + 1))

        def answer(refusal: Refused | None) -> None:
            if refusal is not None:
                refused()
            else:
                self._again.update((item.id, refused) for item in transactions)

        named = tuple((item.id, item) for item in transactions)
        self._random.choice(self._open_to_all).submit(events.Submit(named, source), answer)

    def _on_rejected(self, name: Hash) -> None:
        """It was taken in, and then refused: by a replica, for one, that knows less than the one that was followed."""
        again = self._again.pop(name, None)
        if again is not None:
            again()

    def _start_senders(self) -> None:
        for replica in self._open_to_all:
            for number in range(SENDERS):
                self._send(replica, f"sender {number}", self._transfers())

    def _transfers(self) -> tuple[tuple[Hash, Transaction], ...]:
        new = (self.wallets.transfer() for _ in range(max(1, LIST // self.options.scale)))
        return tuple((item.id, item) for item in new)

    def _send(self, replica: BusyReplica, source: str, transfers: tuple[tuple[Hash, Transaction], ...]) -> None:
        """One list after the other; a refusal means that the pool is full, and the same list comes again."""

        def answer(refusal: Refused | None) -> None:
            if refusal is None:
                self.world.after(1 * MS, lambda: self._send(replica, source, self._transfers()))
            else:
                self.world.after(PAUSE_US, partial(self._send, replica, source, transfers))

        replica.submit(events.Submit(transfers, source), answer)

    def _look_at_pools(self) -> None:
        for replica in self._open_to_all:
            pool, limits = replica.core.pool, limits_of(self.options.scale)
            filled = (len(pool) - pool.disputes) / (limits.transactions - limits.reserved)
            self.outcome.fullness = min(self.outcome.fullness, filled)
        self.world.after(SECOND, self._look_at_pools)

    # -------------------------------------------------------------------------------------------------------- blocks

    def _on_final(self, block: CommittedBlock) -> None:
        """Whoever is first with a block tells the news."""
        if block.header.height != self._height + 1:
            return
        self._height += 1
        for transaction, output in zip(block.transactions, block.outputs, strict=True):
            self._moved += isinstance(transaction.payload, Transfer)
            opened = self._by_opening.get(output.transaction_id)
            if opened is not None and output.group_id is not None:
                opened.opened(output.group_id)
                self._by_id[output.group_id] = opened
                self._open += 1
        for event in block.events:
            match event:
                case GroupWedged():
                    self._on_wedged(self._by_id[event.group_id], event)
                case GroupReported() if event.version == NEWEST:
                    self._on_reported(self._by_id[event.group_id], block.header.clock)
                case GroupClosed():
                    self._by_id[event.group_id].closed_version = event.version
                    self._settled += 1
                    self._stale += event.version != NEWEST
                case _:
                    pass

    def _on_wedged(self, group: Group, event: GroupWedged) -> None:
        group.deadline_ms, group.wedged_us = event.deadline_ms, self.world.now_us
        self._disputes_us.append(self.world.now_us)
        self.world.after(self._random.randrange(NOTICE_US), partial(self._report, group))

    def _on_reported(self, group: Group, clock_ms: int) -> None:
        group.reported_ms, group.reported_us = clock_ms, self.world.now_us
        self._disputes_us.append(self.world.now_us)
