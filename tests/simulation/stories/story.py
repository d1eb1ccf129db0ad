"""One seed, one story: groups, all who look after them, an adversary, a phase in which anything fails, and the end.

In the first phase anything may happen to anybody that the plot and the faults of the seed say. Then everything heals,
all honest processes run, and owners end their groups: all must be over within :attr:`Story.limit_ms`. The challenge
period outlasts the first phase, so that whoever is honest, or its watchtower, reaches layer 1 in time.

Source: docs/design/groups.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, ClassVar

from msgspec import structs

from layer1.crypto import Hash
from layer1.ledger.agreements import GroupAgreement, Limits, Witness
from layer1.ledger.agreements import Member as Seat
from layer1.ledger.execute import Execution
from layer1.ledger.genesis import Allocation, Currency, Genesis, Parameters
from layer1.ledger.records import Group as LedgerGroup
from layer1.ledger.records import Status
from layer1.ledger.transactions import OpenGroup, Transaction, sign_transaction
from layer2.chain import Following, Leading
from layer2.driver import Contact
from layer2.payments import MACHINE
from layer2.records import HostRecord
from tests.layer1.ledger.world import key
from tests.simulation.checkers.groups.base import GroupChecker, GroupCheckers
from tests.simulation.checkers.groups.bonds import Bonds
from tests.simulation.checkers.groups.books import Books
from tests.simulation.checkers.groups.bounties import Bounties
from tests.simulation.checkers.groups.closes import Closes
from tests.simulation.checkers.groups.facts import Facts, ordinal
from tests.simulation.checkers.groups.final_state import FinalState
from tests.simulation.checkers.groups.one_head import OneHead
from tests.simulation.checkers.groups.one_word import OneWord
from tests.simulation.checkers.groups.payments import Payments
from tests.simulation.checkers.groups.trust import Trust
from tests.simulation.clocks import START_WALL_MS
from tests.simulation.groups.roles.role import Role
from tests.simulation.groups.wallet import savings, wallet_keys
from tests.simulation.kernel import MS, World, breakdown
from tests.simulation.ledger import replica_key
from tests.simulation.result import Result
from tests.simulation.signatures import shared_signature_checks
from tests.simulation.stories.faults import Faults
from tests.simulation.stories.ledger import Ledger
from tests.simulation.stories.links import Exchange
from tests.simulation.stories.member import Life, MemberProcess
from tests.simulation.stories.options import StoryOptions, drawn
from tests.simulation.stories.owner import PATIENCE_S, Owner
from tests.simulation.stories.plot import Plot
from tests.simulation.stories.plots import PLOTS
from tests.simulation.stories.process import StoryProcess
from tests.simulation.stories.standins import simulated_surroundings
from tests.simulation.stories.tower import BOUNTY, TowerProcess
from tests.simulation.stories.witness import WitnessProcess
from wallet.book import ChannelRecord
from wallet.contacts import Contact as Address
from wallet.headship import Standing
from wallet.towers import KnownTower

FUNDS = 10_000
"""What each member has at first, units."""
DEPOSIT, BOND = 300, 50
"""Of each member in each group."""
MOST_MEMBERS = 8
SLACK_MS = 40_000
"""Besides periods: looks, blocks, links that are dialed again, and the owner's patience."""
MARGIN_MS = 15_000
"""So much longer than the first phase is the challenge period."""
LOOK_MS = 200
"""Between two looks at whether all is over."""


@cache
def stories_genesis() -> Genesis:
    """One ledger for all stories: its replicas are not there."""
    return Genesis(
        name="stories",
        salt=bytes(16),
        currency=Currency("WDG", 2),
        allocations=tuple(Allocation(wallet_keys(i).spending.public, FUNDS) for i in range(MOST_MEMBERS)),
        replicas=(replica_key(0).public,),
        fault_model="omission",
        wall_time=START_WALL_MS,
        parameters=Parameters(
            drift_bound_ms=500, max_step_ms=1_500, heartbeat_ms=500, view_timeout_ms=500, min_challenge_ms=1_000
        ),
    )


@dataclass
class _Book:
    """The books of a member: of the home that leads."""

    homes: list[MemberProcess]

    @property
    def book(self) -> dict[Hash, ChannelRecord]:
        """Of channels."""
        leading = [home for home in self.homes if home.life is not None]
        return (leading or self.homes)[-1].home.book


class Story:
    """A world and what happens in it."""

    plots: ClassVar[Mapping[str, type[Plot]]] = PLOTS
    deposit: ClassVar[int] = DEPOSIT
    audit_every: ClassVar[int] = 1
    """Blocks between two audits of all money; one takes as long as some blocks."""
    member_type: ClassVar[type[MemberProcess]] = MemberProcess

    def __init__(self, options: StoryOptions, *, keep_trace: bool = False) -> None:
        self.options = options
        self.world = World(options.seed, keep_trace=keep_trace)
        self.genesis = stories_genesis()
        self.exchange = Exchange(self.world)
        self.ledger = Ledger(self.world, self.genesis)
        self.is_healing = False
        self.over: list[bool] = [False]
        self._make_checkers()
        self.members = [self._member(f"member{i}", i) for i in range(options.size)]
        for seat in options.liars:
            self.members[seat].is_honest = False
        self.towers = [TowerProcess(self.world, f"tower{i}", self.ledger, self.exchange) for i in range(options.towers)]
        self.witnesses = [
            WitnessProcess(self.world, f"witness{i}", key(f"witness {i}"), self.ledger, self.exchange)
            for i in range(options.witnesses)
        ]
        self.standby = self._standby(options.standby) if options.standby is not None else None
        self.owners = [self._owner(i) for i in range(options.size)]
        self.agreements: dict[Hash, GroupAgreement] = {}
        for number, seats in enumerate(self._groups()):
            self._open(number, seats)
        self._entrust()
        self.plot = self.plots[options.plot](self, self.world.random("plot"))
        self.closes.books = {i: _Book(self.homes(i)) for i in self.honest_seats}

    @property
    def honest_seats(self) -> list[int]:
        """Of members that follow the protocol."""
        return [i for i in range(self.options.size) if i not in self.options.liars]

    @property
    def honest(self) -> list[MemberProcess]:
        """First homes of those."""
        return [self.members[i] for i in self.honest_seats]

    @property
    def processes(self) -> list[StoryProcess]:
        """All of them."""
        standby = [self.standby] if self.standby is not None else []
        return [*self.members, *standby, *self.witnesses, *self.towers]

    @property
    def period_ms(self) -> int:
        """Challenge period, ledger clock."""
        return self.options.duration_ms + MARGIN_MS

    @property
    def limit_ms(self) -> int:
        """From healing on, all must be over within so much of the ledger clock: a plea doubles the period (rule 13),
        and after it somebody may have to reveal the body (rule 12), or plead for it.
        """
        return 3 * self.period_ms + round(PATIENCE_S * 1_000) + SLACK_MS

    def homes(self, seat: int) -> list[MemberProcess]:
        """Of a member."""
        second = self.members[seat].other
        return [self.members[seat], *([second] if second is not None else [])]

    # ------------------------------------------------------------------------------------------------------- the cast

    def _make_checkers(self) -> None:
        options, everybody = self.options, range(self.options.size)
        good = self.honest_seats
        keys = {wallet_keys(i).spending.public: i for i in everybody}
        facts = self.facts = Facts(self.genesis, (), self.ledger, keys, good)  # type: ignore[arg-type]  # has a state
        self.closes = Closes(facts, self.limit_ms, hostages=self.plots[options.plot].limit)
        accounts = {i: (wallet_keys(i).spending.public, savings(i)) for i in good}
        chained = () if options.standby is None else (options.standby,)
        final = [] if self.plots[options.plot].limit else [FinalState(facts), Payments(facts)]
        self.checkers = GroupCheckers(
            [
                *final,
                Bonds(facts),
                self.closes,
                Books(facts, accounts, FUNDS),
                Bounties(facts, BOUNTY),
                OneWord(facts, chained),
                OneHead(facts),
                Trust(facts, {key: i for key, i in keys.items() if i in good}),
                *self._more_checkers(facts),
            ]
        )
        facts.on_ledger += [self.checkers.on_ledger, self._count]
        self.ledger.on_block.append(self._executed)

    def _more_checkers(self, facts: Facts) -> list[GroupChecker]:
        """What else this kind of story is judged by."""
        return []

    def _executed(self, execution: Execution) -> None:
        self.facts.executed(execution.clock, execution.transactions, execution.outputs)
        if self.ledger.header.height % self.audit_every:
            return
        total = self.ledger.state.total_units()
        assert total == self.genesis.supply_units, f"Conservation: there are {total} units, the genesis made others"

    def _count(self, before: LedgerGroup | None, after: LedgerGroup) -> None:
        name, stats = after.group_id.hex()[:6], self.world.stats
        self.world.note("ledger", f"group {name} is {after.status} at version {after.version}, {after.payouts}")
        if before is not None:
            stats["bonds forfeited"] += sum(after.forfeited) - sum(before.forfeited)
            stats["wedges"] += before.status is Status.OPEN and after.status is Status.WEDGED
            stats["bodies awaited"] += before.revealing is None and after.revealing is not None
            stats["pleas"] += sum(after.pleas) > sum(before.pleas)
        if after.reason is not None and (before is None or before.reason is None):
            stats[f"closed by {after.reason}"] += 1
            stats["bounties"] += len(after.bounties)

    def _owner(self, seat: int) -> Owner:
        options = self.options
        random, pause_s = self.world.random(f"owner {seat}"), options.pause_ms / 1_000
        return Owner(self.homes(seat), random, pause_s, resizes=options.resizes)

    def _groups(self) -> list[tuple[int, ...]]:
        """Seats of the members of each group."""
        return [tuple(range(self.options.size))] * self.options.groups

    def _member(self, name: str, index: int) -> MemberProcess:
        member = self.member_type(self.world, name, index, self.ledger, self.exchange, self.checkers)
        member.step, member.first_phase_ms = self.options.step, self.options.duration_ms
        return member

    def _standby(self, seat: int) -> MemberProcess:
        first, second = self.members[seat], self._member(f"standby{seat}", seat)
        first.other, second.other = second, first
        names = [key(f"home {seat} {name}").public for name in ("a", "b")]
        first.home.standing = Standing(Leading(names[0]), f"{second.name}:1")
        second.home.standing = Standing(Following(names[1]))
        second.on_start.append(self._led_anew)
        return second

    def _led_anew(self, process: MemberProcess, life: Life) -> None:
        """What the second home holds is what the wallet signed, in place of what the first one alone wrote down."""
        records: list[HostRecord] = list(process.home.records())
        self.facts.note_records(process.index, records)
        for group_id, group in life.parts.host.groups.items():
            member = self.facts.member(process.index, group_id)
            if member is not None:
                newest = ordinal(group.highest)
                member.signed = {version: header for version, header in member.signed.items() if version <= newest}

    def corrupt(self, member: MemberProcess, role: type[Role]) -> None:
        """It is dishonest, and acts now and then, in both phases."""
        member.corrupt(role)
        assert member.role is not None, "it has one now"
        self._act(member, member.role)

    def lose_data(self, seat: int, kept: float | None) -> None:
        """An honest member's disk is gone: a copy with a part of its records comes back, or nothing but the phrase."""
        member = self.members[seat]
        self.facts.lose_data(seat, knows=kept is None)
        member.is_bereft = True
        member.sleep()
        if kept is None:
            member.home = member.home.from_phrase()
        else:
            member.home = member.home.copy()
            records = member.home.disk.records
            del records[max(2 * self.options.groups, round(len(records) * kept)) :]
        self.world.stats["data lost"] += 1
        self.world.note(member.name, "has lost data")
        self.world.after(500 * MS, member.wake)

    def _act(self, member: MemberProcess, role: Role) -> None:
        if member.life is not None and not member.paused:
            role.remember()
            role.act()
        self.world.after(round(role.random.expovariate(1.0) * 400 * MS), partial(self._act, member, role))

    # --------------------------------------------------------------------------------------------------- the beginning

    def _open(self, number: int, who: tuple[int, ...]) -> None:
        """A group of some members: layer 1 has it before the story begins."""
        seats = tuple(
            Seat(
                wallet_keys(i).group_key(number).public, wallet_keys(i).spending.public, savings(i), self.deposit, BOND
            )
            for i in who
        )
        witnesses = tuple(Witness(each.key.public, f"{each.name}:1") for each in self.witnesses)
        agreement = GroupAgreement(
            self.genesis.chain_id, seats, self.period_ms, MACHINE, 60_000, number.to_bytes(16, "big"), self._limits(),
            witnesses,
        )  # fmt: skip
        bare = Transaction(OpenGroup(agreement), 50_000, bytes(16))
        signatures = tuple(sign_transaction(bare, self.genesis.chain_id, wallet_keys(i).spending) for i in who)
        transaction = structs.replace(bare, signatures=signatures)
        failed: list[Any] = []
        self.ledger.take(transaction, failed.append)
        while not failed:
            self.ledger.make_block()
        assert failed[0].code == "ok", failed
        for place in range(len(who)):
            self._enter(who, place, transaction, number)
        for witness in self.witnesses:
            witness.promise(agreement, self.members[who[0]].key.public)
        self.agreements[failed[0].group_id] = agreement

    def _limits(self) -> Limits:
        """What members agree on."""
        return Limits()

    def _enter(self, who: tuple[int, ...], place: int, transaction: Transaction, number: int) -> None:
        members = [self.members[i] for i in who]
        member, peer = members[place], members[0 if place else 1]
        record = ChannelRecord(transaction, place, number, peer.key.public, peer.name, 1)
        contacts = {
            at: Contact(other.key.public, other.name, 1) for at, other in enumerate(members) if other is not member
        }
        member.home.book[record.group_id] = record
        for home in self.homes(member.index):
            home.contacts[record.group_id] = contacts

    def _entrust(self) -> None:
        for tower in self.towers:
            known = KnownTower(Address(tower.key.public, tower.name, 1), BOUNTY, self.options.rely)
            for seat in self.honest_seats:
                for home in self.homes(seat):
                    home.towers.append(known)

    # ----------------------------------------------------------------------------------------------------- the phases

    def run(self) -> Result:
        """All of it; what was violated is in the result."""
        error, healed_ms = "", 0
        with shared_signature_checks(), simulated_surroundings():
            try:
                self._first_phase()
                self.plot.interlude()
                healed_ms = self._end()
                self.checkers.finish()
                self.plot.check()
            except AssertionError as violation:
                error = f"{type(violation).__name__}: {violation}"
            except Exception as bug:  # noqa: BLE001 - one run that breaks down must not end all others unnamed
                error = breakdown(bug)
            finally:
                self._bury()
        world = self.world
        return Result(
            self.options,
            trace_hash=world.trace_hash,
            error=error,
            height=self.ledger.header.height,
            steps=world.steps,
            healed_ms=healed_ms,
            stats=dict(world.stats) | {f"stories of {self.options.plot}": 1},
            trace=world.lines or [],
        )

    def _first_phase(self) -> None:
        random = self.world.random("starts")
        self.ledger.start()
        for process in self.processes:
            self.world.after(random.randint(0, 300) * MS, process.start)
        self.plot.begin()
        Faults(self).start()
        self.exchange.profile = self.options.profile
        self.world.run(self.options.duration_ms * MS)

    def _end(self) -> int:
        start_us = self.world.now_us
        self.calm()
        self.plot.end()
        self.checkers.healed(self.ledger.clock_ms)
        for process in self.processes:
            process.wake()
        for owner, member in zip(self.owners, self.members, strict=True):
            (owner.end if member.is_honest else owner.stop)()
        self._look()
        self.world.run(start_us + 2 * self.limit_ms * MS, lambda: self.over[0])
        return (self.world.now_us - start_us) // MS

    def calm(self) -> None:
        """No faults any more; who sleeps, sleeps on."""
        self.world.note("everything", "heals")
        self.is_healing = True
        Faults(self).heal()
        self.exchange.heal()
        self.ledger.out_until_us = 0

    def wait_until_settled(self, limit_ms: int) -> None:
        """Let time pass until layer 1 has closed all groups, or waits for bodies, or so long."""

        def settled() -> bool:
            groups = [facts.ledger for facts in self.facts.groups.values()]
            return all(g.status is Status.CLOSED or g.revealing is not None for g in groups)

        self.world.run(self.world.now_us + limit_ms * MS, settled)

    def _look(self) -> None:
        self.over[0] = self.closes.overdue or not any(True for _ in self.closes.unended())
        if not self.over[0]:
            self.world.after(LOOK_MS * MS, self._look)

    def _bury(self) -> None:
        """Leave no task of a simulated process to the garbage collector."""
        for process in self.processes:
            process.gone = True
            process.kill()
            process.bury()


def run_story(seed: int, *, keep_trace: bool = False) -> Result:
    """The run of a seed."""
    return Story(drawn(seed, PLOTS), keep_trace=keep_trace).run()
