"""Two homes of one wallet, a ledger and the link between them, for tests of `layer2.chain`: each may die at any moment.

A home's log stands for its journal: what it signed at version 1, 2, and so on. :class:`World` notices at once when two
things are shown at one version, when a head shows what is old, and when what was shown is not in the log of who leads.
"""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from itertools import count
from random import Random

from layer1.codec import Struct, decode, encode
from layer1.errors import Refused, RemoteError
from layer2.chain import (
    Asked,
    AskLayer1,
    ChainMessage,
    Cut,
    Effect,
    Event,
    Fenced,
    Following,
    HandOver,
    Heard,
    Keep,
    Lead,
    Leading,
    Linked,
    Part,
    Perform,
    Role,
    Shown,
    Swap,
    Tell,
    Turn,
    Unlinked,
    Whole,
    Write,
)
from layer2.chain_head import ChainHead
from layer2.chain_standby import ChainStandby, step_down


class Entry(Struct):
    """What a home signed at a version."""

    version: int
    value: int
    """Never the same twice."""


class Crash(Exception):
    """The process ended between two effects."""


class Home:
    """One home: what is on its disk, and the process in it, if one runs."""

    def __init__(self, world: World, name: bytes, role: Role) -> None:
        self.world = world
        self.name = name
        self.role: Role = role
        self.log: list[Entry] = []
        self.core: ChainHead | ChainStandby | None = None
        self.linked = False
        self.inbox: deque[ChainMessage] = deque()
        self.effects_left: int | None = None
        self.waiting: dict[int, tuple[tuple[Entry, ...], int]] = {}
        """By turn: what it shows, and how many versions anybody had been shown when it was made."""
        self.fenced_at = 0

    def start(self) -> None:
        """Begin with what the disk holds."""
        if isinstance(self.role, Following):
            self.core = ChainStandby(self.role)
            return
        self.core = ChainHead(self.role, b"%016d" % next(self.world.numbers))
        self.waiting = {}
        self.look()

    def crash(self) -> None:
        """All but the disk is gone."""
        self.core, self.waiting = None, {}
        self.world.break_link()

    def look(self) -> None:
        """At layer 1."""
        if self.world.term:
            self.step(Shown(self.world.term, self.world.head))

    def sign(self) -> None:
        """Sign the next version, journal it, and end the turn."""
        assert isinstance(self.core, ChainHead)
        entry = Entry(len(self.log) + 1, next(self.world.numbers))
        self.log.append(entry)
        self.end_turn((encode(entry),))

    def greet(self) -> None:
        """A turn without records: tell a peer what was signed last."""
        self.end_turn(())

    def end_turn(self, records: tuple[bytes, ...]) -> None:
        """Wait to show all that was signed."""
        assert isinstance(self.core, ChainHead)
        self.waiting[self.core.position + 1] = (tuple(self.log), len(self.world.shown))
        self.step(Turn((), records))

    def step(self, event: Event) -> None:
        """Step, and perform one effect after the other, as long as it lives."""
        if self.core is None:
            return
        try:
            with suppress(RemoteError, Refused):
                for effect in self.core.step(event):
                    self.live_on()
                    self.perform(effect)
        except Crash:
            self.effects_left = None
            self.crash()

    def live_on(self) -> None:
        """Die here, if that is due."""
        if self.effects_left == 0:
            raise Crash
        if self.effects_left is not None:
            self.effects_left -= 1

    def perform(self, effect: Effect) -> None:
        """Do it."""
        match effect:
            case Write(role):
                self.role = role
            case Tell(message):
                self.world.send(self, message)
            case HandOver(position):
                self.world.send(self, Part((), tuple(map(encode, self.log))))
                self.world.send(self, Whole(position))
            case Perform(position):
                for turn in [turn for turn in sorted(self.waiting) if turn <= position]:
                    self.world.show(self, *self.waiting.pop(turn))
            case Keep(_, records):
                self.log += [decode(record, Entry) for record in records]
            case Swap(_, records):
                self.log = [decode(record, Entry) for record in records]
            case Cut():
                self.world.break_link()
            case AskLayer1(term):
                self.world.asked.append((term, self.name))
            case Fenced(term):
                self.fenced_at = term
            case Lead():
                self.world.check_leads(self)
                self.crash()
                self.start()


class World:
    """Both homes, and what is between them."""

    def __init__(self) -> None:
        self.numbers = count(1)
        self.term = 0
        self.head = b""
        self.asked: list[tuple[int, bytes]] = []
        self.refused = 0
        self.arrives = False
        """Whether what is on the way when a link breaks arrives first."""
        self.shown: list[Entry] = []
        """By version, what anybody was shown."""
        self.homes = (Home(self, b"A" * 32, Leading(b"A" * 32)), Home(self, b"B" * 32, Following(b"B" * 32)))
        for home in self.homes:
            home.start()

    def show(self, home: Home, log: tuple[Entry, ...], known: int) -> None:
        """Something leaves a head for good."""
        assert len(log) >= known, f"{home.name[:1]!r} shows version {len(log)}, others had been shown {known}"
        for version, (entry, shown) in enumerate(zip(log, self.shown, strict=False), 1):
            assert entry == shown, f"two things are shown at version {version}"
        self.shown += log[len(self.shown) :]

    def check_leads(self, home: Home) -> None:
        """Whoever comes to lead holds all that was shown."""
        assert home.log[: len(self.shown)] == self.shown, "the new head lacks what the old one has shown"

    def send(self, sender: Home, message: ChainMessage) -> None:
        if sender.linked:
            self.other(sender).inbox.append(message)

    def other(self, home: Home) -> Home:
        return self.homes[1 - self.homes.index(home)]

    def link(self) -> None:
        """A new link, if there is a head on one side and a standby on the other."""
        first, second = self.homes
        if first.linked or {type(first.core), type(second.core)} != {ChainHead, ChainStandby}:
            return
        for home in self.homes:
            home.linked = True
        for home in sorted(self.homes, key=lambda home: isinstance(home.core, ChainHead)):  # the head speaks first
            home.step(Linked())

    def break_link(self) -> None:
        """Everything on the way is lost, or arrives before it is noticed."""
        if not self.homes[0].linked:
            return
        if self.arrives:
            for home in self.homes:
                while home.inbox and home.core is not None and home.linked:
                    self.deliver(home)
        for home in self.homes:
            home.linked = False
            home.inbox.clear()
        for home in self.homes:
            home.step(Unlinked())

    def deliver(self, home: Home) -> None:
        """One message."""
        if home.inbox and home.core is not None:
            home.step(Heard(home.inbox.popleft()))

    def execute(self, position: int) -> None:
        """Layer 1 takes one of the Appoints that were brought; those of another term it refuses."""
        term, head = self.asked.pop(position % len(self.asked))
        if term == self.term + 1:
            self.term, self.head = term, head
        else:
            self.refused += 1

    def calm(self, rounds: int = 8) -> None:
        """Everybody runs, everything arrives, everybody looks; an old head becomes the standby."""
        for home in self.homes:
            home.effects_left = None
        for _ in range(rounds):
            for home in self.homes:
                if home.core is None:
                    home.start()
                home.look()
                if isinstance(home.core, ChainHead) and home.core.fenced:
                    self.rejoin(home)
            self.link()
            while any(home.inbox for home in self.homes):
                for home in self.homes:
                    self.deliver(home)
            while self.asked:
                self.execute(0)

    def rejoin(self, home: Home) -> None:
        """Start a fenced head as the standby of who leads."""
        assert isinstance(home.role, Leading)
        home.crash()
        home.role = step_down(home.role, Shown(self.term, self.head))
        home.start()

    def ask(self, home: Home) -> None:
        """The user asks this home to lead."""
        home.step(Asked())

    def leader(self) -> Home | None:
        """Who may show something now."""
        return next((h for h in self.homes if isinstance(h.core, ChainHead) and h.core.in_force), None)


def wander(seed: int, steps: int = 60) -> None:
    """One random story, which `World` watches; at the end all is calm, and whoever leads can go on."""
    chance = Random(seed)
    world = World()
    if chance.random() < 0.9:
        world.ask(world.homes[0])
        world.calm(1 if chance.random() < 0.3 else 4)
    for _ in range(steps):
        act(world, world.homes[chance.randrange(2)], chance)
    check_calm(world)


def act(world: World, home: Home, chance: Random) -> None:
    """One step of a story."""
    leads, kind = isinstance(home.core, ChainHead), chance.choices(list(ACTS), list(ACTS.values()))[0]
    if kind == "sign" and leads:
        home.sign()
    elif kind == "greet" and leads:
        home.greet()
    elif kind == "link":
        world.link()
    elif kind == "deliver":
        for _ in range(chance.randrange(1, 5)):
            world.deliver(home)
    elif (kind == "ask" and not leads) or (kind == "alone" and leads):
        world.ask(home)
    elif kind == "execute" and world.asked:
        world.execute(chance.randrange(len(world.asked)))
    elif kind == "look":
        home.look()
    elif kind == "break":
        world.arrives = chance.random() < 0.5
        world.break_link()
    elif kind == "crash":
        world.arrives = chance.random() < 0.5
        home.crash()
    elif kind == "crash soon":
        home.effects_left = chance.randrange(4)
    elif kind == "start" and home.core is None:
        home.start()
    elif kind == "rejoin" and leads and home.core.fenced:  # type: ignore[union-attr]  # it leads
        world.rejoin(home)


ACTS = {
    "sign": 6,
    "greet": 2,
    "link": 4,
    "deliver": 14,
    "ask": 2,
    "alone": 1,
    "execute": 3,
    "look": 4,
    "break": 1,
    "crash": 1,
    "crash soon": 3,
    "start": 6,
    "rejoin": 2,
}
"""What may happen, and how often."""


def check_calm(world: World) -> None:
    """When all is calm somebody leads who holds all that was shown, and what it signs is shown."""
    world.calm()
    if world.term == 0:
        world.ask(world.homes[0])
        world.calm()
    leader = world.leader()
    assert leader is not None, "nobody leads, and everybody runs and hears everybody"
    world.check_leads(leader)
    leader.sign()
    world.calm()
    assert world.shown == leader.log, "what the head signed is not shown, and all is well"
