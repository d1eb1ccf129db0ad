"""One honest member among liars that say anything in any order: no bond of its own is lost, nor what it holds.

Members 1 and on sign whatever they like; they hold every certificate, the newest of which they may have kept from
member 0. That one signed one state per version, and does what the design says of it in each period: it reports and
claims, or it sleeps and its watchtower reports the header, or it has lost its data and pleads; awake, it reveals.

Invariants: money is neither made nor burnt; versions do not fall; what is forfeited stays so; the honest member's bond
is not forfeited; and it is paid at least what it had by its newest certificate or the one state that it signed beyond.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import pytest

from layer1.ledger import disputes, settlement
from layer1.ledger.agreements import Body, Certificate, Claim
from layer1.ledger.records import Forfeit, Group, Status
from layer1.ledger.state import State
from layer1.ledger.transactions import Payload, Reveal
from tests.layer1.ledger.world import ALICE, BOB, CAROL, PERIOD, World, key, make_genesis

TOWER, OTHER_TOWER = key("tower"), key("other tower")
SEEDS = 40
"""Of each game; about 20 ms each."""


class Game:
    """One group in dispute."""

    def __init__(self, seed: int, role: str) -> None:
        self.rng = random.Random(f"{role} {seed}")
        self.role = role
        self.world = World(make_genesis(due_per_block=1))
        people = (ALICE, BOB, CAROL)[: self.rng.choice((2, 2, 3))]
        witnessed = role == "witnessed"
        self.party = self.world.opened(*people, witnessed=witnessed)
        self.newest = self.rng.randrange(1, 7)
        """n: the highest certified version."""
        self.held = self.newest - self.rng.randrange(2)
        """s: that of member 0, which signed n."""
        total = self.party.agreement.funding_units
        first = [1_000, *(self.rng.randrange(total) for _ in range(self.newest))]
        self.states: list[tuple[Certificate, Body]] = [
            self.party.state(version, units, total - units, *[0] * (len(people) - 2))
            for version, units in enumerate(first)
        ]
        self.before = self.group

    @property
    def group(self) -> Group:
        return self.world.group(self.party)

    # ------------------------------------------------------------------------------------------ what anybody else does

    def liar(self) -> Payload:
        """Anything that keys of the others and old certificates make."""
        rng, party = self.rng, self.party
        member, version = rng.randrange(1, len(party.keys)), rng.randrange(self.newest + 1)
        certificate, body = self.states[version]
        state = (certificate, body if rng.random() < 0.5 else None)
        match rng.randrange(7):
            case 0:
                return party.wedge(member, state)
            case 1:
                return party.plea(member)
            case 2:
                return party.report(state, *self._claims())
            case 3:
                return party.concur(member, version)
            case 4:
                return party.guarded(state, member, OTHER_TOWER, rng.randrange(200))
            case 5:
                return party.report(double=party.double(member))
            case _:
                return Reveal(party.id, body)

    def _claims(self) -> list[Claim]:
        rng, found = self.rng, []
        for member in range(1, len(self.party.keys)):
            if rng.random() < 0.4:
                version = rng.randrange(self.newest + 1)
                found.append(self.party.claim(member, version, self.states[version][0].header))
        return found

    # -------------------------------------------------------------------------------------------- what member 0 does

    def honest(self) -> Iterator[Payload]:
        """What it, or whoever stands for it, brings when it looks at layer 1."""
        group, party = self.group, self.party
        if group.status is not Status.WEDGED:
            return
        signed = self.states[self.newest][0].header
        certificate, body = self.states[self.held]
        match self.role:
            case "awake" | "witnessed" if group.revealing is None and group.claims[0] is None:
                yield party.report((certificate, body), party.claim(0, self.held, signed))
            case "asleep" if group.revealing is None and group.delegates[0] is None:
                yield party.guarded((certificate, None), 0, TOWER, 10)
            case "lost" if not group.pleas[0]:
                yield party.plea(0)
        if self.role in {"awake", "witnessed"} and group.body is None and group.version in {self.held, self.newest}:
            yield Reveal(party.id, self.states[group.version][1])

    # -------------------------------------------------------------------------------------------------------- blocks

    def play(self) -> None:
        """Until the group is closed, or nothing happens by itself any more. The honest member looks in every block."""
        self.block(self.liar_wedges())
        for _ in range(60):
            if self.group.status is Status.CLOSED:
                break
            words = [self.liar() for _ in range(self.rng.randrange(3))]
            answers = list(self.honest())
            both = [*words, *answers] if self.rng.random() < 0.5 else [*answers, *words]
            self.block(*both, after_ms=self.rng.choice((1, PERIOD // 3, PERIOD - 1)))
        self.judge()

    def liar_wedges(self) -> Payload:
        version = self.rng.randrange(self.newest + 1)
        return self.party.plea(1) if self.rng.random() < 0.4 else self.party.wedge(1, self.states[version])

    def block(self, *payloads: Payload, after_ms: int = 1) -> None:
        before = self.group
        self.world.block(*(self.world.sign(payload) for payload in payloads), after_ms=after_ms)  # adds up all money
        after = self.group
        assert after.version >= before.version
        assert all(old is None or old is new for old, new in zip(before.forfeits, after.forfeits, strict=True))
        assert after.deadline_ms is None or after.status is Status.CLOSED or after.deadline_ms > before.opened_clock_ms
        assert State.restore(self.world.genesis, self.world.state.snapshot()).root == self.world.state.root

    def judge(self) -> None:
        group = self.group
        assert group.forfeits[0] is None or self.role == "asleep", f"the honest member lost its bond: {group.forfeits}"
        if self.role == "lost":
            return  # what it had, others knew
        assert group.version in {self.held, self.newest}
        if self.role == "asleep":
            assert group.forfeits[0] in {None, "hidden"}  # decision 030: it must be back to reveal
        if group.status is Status.CLOSED:
            bond = self.party.agreement.members[0].bond if group.forfeits[0] is None else 0
            assert group.payouts[0] >= self.states[group.version][1].balances[0] + bond - 10 * (TOWER in self.paid())

    def paid(self) -> list[object]:
        return [TOWER for bounty in self.group.bounties if bounty.account == TOWER.public]


ROLES = ("awake", "asleep", "lost", "witnessed")


@pytest.mark.slow
@pytest.mark.parametrize("role", ROLES)
def test_an_honest_member_loses_neither_money_nor_bond(role: str) -> None:
    assert play_all(role) > SEEDS // 3, "games that do not end show little"


def play_all(role: str) -> int:
    """How many end with everybody paid."""
    games = [Game(seed, role) for seed in range(SEEDS)]
    for game in games:
        game.play()
    return sum(game.group.status is Status.CLOSED for game in games)


def _no_reports(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(disputes, "with_certificate", lambda group, *_: group)


def _framed_by_its_signature(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(disputes, "is_false", lambda claim, cert: cert.header.version > claim.version)


def _sleepers_pay(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(settlement, "has_reported", lambda *_: False)


def _only_the_newest(patch: pytest.MonkeyPatch) -> None:
    def has_reported(group: Group, member: int) -> bool:
        delegate = group.delegates[member]
        return delegate is not None and delegate.version == group.version

    patch.setattr(settlement, "has_reported", has_reported)


def _pleaders_pay(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(settlement, "with_silent", lambda group: settlement._forfeiting(group, (False,) * 9, Forfeit.SILENT))


BROKEN = (
    ("awake", _no_reports),
    ("awake", _framed_by_its_signature),
    ("witnessed", _framed_by_its_signature),
    ("asleep", _sleepers_pay),
    ("asleep", _only_the_newest),
    ("lost", _pleaders_pay),
)


@pytest.mark.slow
@pytest.mark.parametrize(("role", "mutate"), BROKEN, ids=lambda each: each if isinstance(each, str) else each.__name__)
def test_a_ledger_that_harms_it_is_noticed(
    role: str, mutate: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    mutate(monkeypatch)
    with pytest.raises((AssertionError, ValueError)):
        play_all(role)


def test_what_is_played_reaches_every_end() -> None:
    """Else the games would show nothing: bodies that wait, pleas that are not answered, bounties, all claims."""
    seen: set[str] = set()
    for role in ROLES:
        for seed in range(12):
            game = Game(seed, role)
            game.play()
            group = game.group
            seen |= {str(why) for why in group.forfeits if why} | {str(group.reason)}
            seen |= {"bounty" for _ in group.bounties} | ({"revealing"} if group.revealing else set())
    assert {"lie", "silent", "claims", "deadline", "bounty", "revealing"} <= seen, seen
