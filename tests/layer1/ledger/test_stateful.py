"""Hypothesis against the dumb twin: any blocks, any siblings, any order of commits, and a second replica.

Invariants, each a sentence of the design: money is neither made nor burnt; the records are the twin's; two replicas
get the same roots and outputs, one committing at once, the other late and with siblings beside; and the root follows
from the records alone, however they came about.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from layer1.crypto import Hash, SigningKey
from layer1.ledger.agreements import Body, Certificate, GroupHeader
from layer1.ledger.execute import Execution, execute
from layer1.ledger.state import State
from layer1.ledger.transactions import OpenGroup, Payload, Reveal, Transaction, Transfer
from tests.layer1.ledger.twin import Twin
from tests.layer1.ledger.world import PEOPLE, RICH, Party, World, key, make_genesis, make_party, payout

PERIOD = 20_000
"""Challenge period, ms: the clock steps 60,000 at most, and a dispute may take three of these."""
NAMES = ("alice", "bob", "carol", "dave")
WHICH = st.sampled_from("ab")
VERSION = st.integers(0, 4)
MEMBER = st.integers(0, 2)

STEP = st.sampled_from((0, 0, 1, 1, 1_000, PERIOD // 2))
Certified = tuple[int, str] | None
CERTIFIED: st.SearchStrategy[Certified] = st.none() | st.tuples(VERSION, WHICH)
Claims = dict[int, tuple[int, bool, str]]
"""Member: s, whether k = s + 1, and which of two headers at k."""
CLAIMS: st.SearchStrategy[Claims] = st.dictionaries(
    MEMBER, st.tuples(st.integers(0, 3), st.booleans(), WHICH), max_size=3
)

Expect = Callable[[Twin], bool]


class Ledgers(RuleBasedStateMachine):
    """One replica commits late and executes siblings, another one commits at once; the twin has neither."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World(make_genesis(due_per_block=1))
        self.head = self.world.state
        """The newest view of the late replica; `world.state` is its newest committed one."""
        self.prompt = State.genesis(self.world.genesis)
        self.twin = Twin(dict.fromkeys(NAMES, RICH), due_per_block=1)
        self.parties: dict[str, Party] = {}
        self.queue: list[tuple[Transaction, Expect]] = []
        self.recent: list[Transaction] = []

    # Money

    @rule(sender=st.sampled_from(NAMES), to=st.sampled_from((*NAMES, "x")), amount=st.integers(0, RICH + RICH // 2))
    def pay(self, sender: str, to: str, amount: int) -> None:
        signed = self.world.sign(Transfer(key(sender).public, key(to).public, amount), key(sender))
        self.queue.append((signed, lambda twin: twin.transfer(sender, to, amount)))

    @initialize(bond=st.integers(1, 7), first=MEMBER, versions=st.tuples(VERSION, VERSION, VERSION))
    def start(self, bond: int, first: int, versions: tuple[int, int, int]) -> None:
        """Three groups, one of them wedged: most of what can go wrong does so in a dispute."""
        for people in (["alice", "bob", "carol"], ["bob", "alice"], ["dave", "dave", "alice"]):
            self.open_now(people, 9, bond)
        for i, version in enumerate(versions[:2]):
            self.wedge_later(f"g{i}", first, version, "a", ahead=False, claimed="a")
        self.flush(1)

    @rule(
        people=st.lists(st.sampled_from(NAMES), min_size=2, max_size=3),
        deposit=st.integers(0, 9) | st.just(RICH // 2),
        bond=st.integers(0, 7),
    )
    def open(self, people: list[str], deposit: int, bond: int) -> None:
        if len(self.parties) < 6:
            self.open_now(people, deposit, bond)

    def open_now(self, people: list[str], deposit: int, bond: int) -> None:
        name = f"g{len(self.parties)}"
        keys = [key(person) for person in people]
        party = make_party(self.world.chain_id, keys, deposit=deposit, bond=bond, name=name, challenge_period_ms=PERIOD)
        transaction = self.world.sign(OpenGroup(party.agreement), *keys)
        self.block(((transaction, lambda twin: twin.open(name, people, deposit, bond)),), 1)
        if name in self.twin.groups:
            party.id = self.last.outputs[-1].group_id or b""
            self.parties[name] = party

    # Disputes: what is said goes into the block at once, mostly

    @rule(data=st.data(), which=WHICH, after_ms=STEP)
    def finish(self, data: st.DataObject, which: str, after_ms: int) -> None:
        name, party = self.pick(data)
        if data.draw(st.integers(0, 3)):
            return  # seldom, or no dispute would last
        balances = allocation(party, 9, which)
        self.submit(party.final(*balances), lambda twin: twin.final(name, balances))
        self.flush(after_ms)

    @rule(data=st.data(), member=MEMBER, version=VERSION, which=WHICH, ahead=st.booleans(), after_ms=STEP)
    def wedge(self, data: st.DataObject, member: int, version: int, which: str, ahead: bool, after_ms: int) -> None:
        """In all groups at once, so that they fall due at once."""
        claimed, hidden = data.draw(WHICH), data.draw(st.booleans())
        for name in sorted(self.parties):
            self.wedge_later(name, member, version, which, ahead, claimed, hidden=hidden)
        self.flush(after_ms)

    def wedge_later(
        self, name: str, member: int, version: int, which: str, ahead: bool, claimed: str, *, hidden: bool = False
    ) -> None:
        party = self.parties[name]
        member %= len(party.keys)
        state, k = version_of(party, version, which), version + ahead
        brought = (state[0], None) if hidden else state
        request = party.wedge(member, brought, header_of(party, k, claimed))
        balances, claim, seen = state[1].balances, (k, claimed if k else ""), which if version else ""
        self.submit(
            request, lambda twin: twin.wedge(name, member, version, seen, balances, claim, PERIOD, known=not hidden)
        )

    @rule(data=st.data(), member=MEMBER, after_ms=STEP)
    def plead(self, data: st.DataObject, member: int, after_ms: int) -> None:
        """In some groups at once."""
        for name in sorted(self.parties)[data.draw(st.integers(0, 2)) :]:
            self.plead_later(name, member)
        self.flush(after_ms)

    def plead_later(self, name: str, member: int) -> None:
        party = self.parties[name]
        member %= len(party.keys)
        self.submit(party.plea(member), lambda twin: twin.plead(name, member, PERIOD))

    @rule(data=st.data(), member=MEMBER, ahead=st.sampled_from((0, 0, 0, 1)), after_ms=STEP)
    def concur(self, data: st.DataObject, member: int, ahead: int, after_ms: int) -> None:
        name, party = self.pick(data)
        member, version = member % len(party.keys), self.twin.groups[name].version + ahead
        self.submit(party.concur(member, version), lambda twin: twin.concur(name, member, version))
        self.flush(after_ms)

    @rule(data=st.data(), which=WHICH, after_ms=STEP)
    def reveal(self, data: st.DataObject, which: str, after_ms: int) -> None:
        """What all groups that wait lack, or another body of the same version."""
        for name in sorted(n for n, group in self.twin.groups.items() if not group.known):
            self.reveal_later(name, which)
        self.flush(after_ms)

    def reveal_later(self, name: str, which: str) -> None:
        party, version = self.parties[name], self.twin.groups[name].version
        body = version_of(party, version, which)[1]
        self.submit(Reveal(party.id, body), lambda twin: twin.reveal(name, version, body.balances))

    @rule(data=st.data(), certified=CERTIFIED, claims=CLAIMS, after_ms=STEP)
    def report(self, data: st.DataObject, certified: Certified, claims: Claims, after_ms: int) -> None:
        name, _ = self.pick(data)
        double, hidden = data.draw(st.none() | st.none() | MEMBER), data.draw(st.booleans())
        self.report_later(name, certified, claims, double, hidden=hidden)
        self.flush(after_ms)

    def report_later(
        self, name: str, certified: Certified, claims: Claims, double: int | None, *, hidden: bool
    ) -> None:
        party = self.parties[name]
        members = len(party.keys)
        double = None if double is None else double % members
        said = {m: (s, s + ahead, w if s + ahead else "") for m, (s, ahead, w) in claims.items() if m < members}
        if certified is None and not said and double is None:
            return
        state = version_of(party, *certified) if certified else None
        signed = [party.claim(m, s, header_of(party, k, w)) for m, (s, k, w) in said.items()]
        proof = None if double is None else party.double(double)
        told = None
        if certified and state:
            told = (certified[0], certified[1] if certified[0] else "", state[1].balances, not hidden)
        brought = (state[0], None) if state and hidden else state
        self.submit(party.report(brought, *signed, double=proof), lambda twin: twin.report(name, told, said, double))

    # Blocks

    @rule(after_ms=STEP, late=st.booleans())
    def make_block(self, after_ms: int, late: bool) -> None:
        """All that waits, or nothing; at the deadline, or a moment before it."""
        deadline = self.head.next_deadline()
        if late and deadline is not None:
            after_ms = max(0, deadline - self.head.clock + after_ms - 1)
        self.flush(after_ms)

    def flush(self, after_ms: int) -> None:
        """Everything comes twice, and some of it in the next block again: what appears twice executes once."""
        waiting, self.queue = self.queue, []
        transactions = [transaction for transaction, _ in waiting]
        self.block(waiting, after_ms, [*transactions, *self.recent])
        self.recent = (self.recent + transactions)[-5:]

    @rule(data=st.data(), amount=st.integers(1, 99))
    def drop_a_sibling(self, data: st.DataObject, amount: int) -> None:
        """A block that never becomes final leaves no trace."""
        sender, other = data.draw(st.permutations(PEOPLE))[:2]
        execute(
            self.head,
            self.head.wall_time + 5,
            [t for t, _ in self.queue] + [self.world.transfer(sender, other, amount)],
        )

    @rule()
    def commit(self) -> None:
        self.head.commit()
        self.world.state = self.head

    # Helpers

    def pick(self, data: st.DataObject) -> tuple[str, Party]:
        name = data.draw(st.sampled_from(sorted(self.parties)))
        return name, self.parties[name]

    def submit(self, payload: Payload, expect: Expect) -> None:
        self.queue.append((self.world.sign(payload), expect))

    def block(
        self, waiting: Sequence[tuple[Transaction, Expect]], after_ms: int, again: Sequence[Transaction] = ()
    ) -> None:
        transactions = [t for t, _ in waiting] + list(again)
        wall_time = self.head.wall_time + after_ms
        self.last = execute(self.head, wall_time, transactions)
        same = execute(self.prompt, wall_time, transactions)
        self.compare(self.last, same)
        self.twin.tick(self.last.clock, {name: party.id for name, party in self.parties.items()})
        alive = [(t, e) for t, e in waiting if t.valid_until_ms >= self.last.clock]
        assert [o.code == "ok" for o in self.last.outputs] == [expect(self.twin) for _, expect in alive]
        self.head, self.prompt = self.last.state, same.state
        self.prompt.commit()

    def compare(self, late: Execution, prompt: Execution) -> None:
        assert late.state.root == prompt.state.root
        assert replace(late, state=prompt.state) == prompt

    def account_keys(self) -> dict[str, SigningKey]:
        payouts = {f"{n} payout {i}": payout(n, i) for n, p in self.parties.items() for i in range(len(p.keys))}
        return {**{name: key(name) for name in (*NAMES, "x")}, **payouts}

    @invariant()
    def money_is_neither_made_nor_burnt(self) -> None:
        assert self.twin.total() == self.head.total_units() == self.world.genesis.supply_units

    @invariant()
    def the_records_are_the_twins(self) -> None:
        for name, owner in self.account_keys().items():
            assert self.head.balance(owner.public) == self.twin.accounts.get(name, 0), name
        for name, dumb in self.twin.groups.items():
            group = self.head.group(self.parties[name].id)
            assert group is not None
            assert (group.status, group.version) == (dumb.status, dumb.version), name
            assert {i: str(why) for i, why in enumerate(group.forfeits) if why} == dumb.why
            assert {i for i, pleaded in enumerate(group.pleas) if pleaded} == dumb.pleas
            assert {i for i, agreed in enumerate(group.concurs) if agreed} == dumb.concurs
            assert (group.body is not None, group.revealing is not None) == (dumb.known, dumb.ended)
            assert {i for i, claim in enumerate(group.claims) if claim} == set(dumb.claims)
            assert group.deadline_ms == (dumb.deadline or None)

    @invariant()
    def the_root_follows_from_the_records_alone(self) -> None:
        assert State.restore(self.world.genesis, self.prompt.snapshot()).root == self.head.root


def allocation(party: Party, version: int, which: str) -> tuple[int, ...]:
    """Some balances of the funding that depend on the version and on which of two states it is."""
    total, members = party.agreement.funding_units, len(party.keys)
    first = min(total, version * (3 if which == "a" else 5) % (total + 1))
    return (first, total - first, *[0] * (members - 2))


def header_of(party: Party, version: int, which: str) -> GroupHeader:
    if version == 0:
        return party.state(0)[0].header
    return party.header(version, party.body(version, allocation(party, version, which)), log_root=_log(which))


def version_of(party: Party, version: int, which: str) -> tuple[Certificate, Body]:
    if version == 0:
        return party.state(0)
    return party.certify(header_of(party, version, which)), party.body(version, allocation(party, version, which))


def _log(which: str) -> Hash:
    return which.encode() * 32


TestLedgers = Ledgers.TestCase
TestLedgers.settings = settings(deadline=None, max_examples=40, stateful_step_count=30)
BY_CHANCE = settings(
    deadline=None,
    max_examples=60,
    stateful_step_count=30,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
"""How broken ledgers are sought: the same examples each time."""
