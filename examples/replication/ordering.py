"""Ordering by identifiers that the replicas themselves generate: candidate, maximum, stability.

Property: all honest replicas execute the same requests in the same order, whatever one liar in four proposes.

Each replica that sees a request proposes a *candidate*, above all that it has seen or accepted. All agree on
everybody's candidate and *accept* the maximum as the request's identifier. So no identifier is below one's own
candidate, and what one sees after accepting r gets a higher one than r. An accepted request is *stable*, and is
executed, once every request that is seen and not yet accepted has an own candidate above it: nothing that comes can go
before it.

A low proposer changes no maximum. A high one makes the numbers jump, and everybody follows. A silent one would be
waited for, so candidates are awaited for a bounded time, and one that comes later counts for nobody. One that tells
each a different candidate would split the maximum, so each replica relays what it heard in time, and of three words on
one candidate the majority counts: that takes n > 3f and bounded delays (Lamport, Shostak and Pease, The Byzantine
Generals Problem, 1982, section 3). Layer 1 needs no such bound for safety: that is what its certificates are for.

Run it: ``python -m examples.replication.ordering``

Source: Schneider, Implementing Fault-Tolerant Services Using the State Machine Approach: A Tutorial (1990),
"Replica-Generated Identifiers".
Deviation: time is a count of ticks, and links are reliable: each message takes one tick.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product

from examples.replication import telling

Candidate = tuple[int, int]
"""A number, and who proposed it, so that no two are equal."""
SKEW = 2
"""Ticks: a request reaches the last honest replica at most so much later than the first."""
IN_TIME = SKEW + 1
"""Ticks after seeing a request by which the candidate of every honest replica has arrived."""
AWAITED = IN_TIME + SKEW + 1
"""Ticks from seeing a request to accepting it: what was in time even for the last to see it is relayed by then."""
HIGH = 1_000_000

Behaviour = Callable[[str, int], tuple[int, int] | None]
"""For a request, what a liar gives the replica of this index as its candidate's number, and how many ticks later than
it should; None for nothing."""
LIARS: dict[str, Behaviour] = {
    "silent": lambda request, listener: None,
    "low": lambda request, listener: (0, 0),
    "high": lambda request, listener: (HIGH, 0),
    "wavering": lambda request, listener: (HIGH if request == "a" else 0, 0),
    "two-faced": lambda request, listener: (HIGH if listener % 2 else 0, 0),
    "late": lambda request, listener: (HIGH, 5 if listener else 0),
}


@dataclass(frozen=True, slots=True)
class Rules:
    """The protocol, and where one may break it."""

    replicas: int = 4
    """n, the liar among them: it is the last one."""
    select: Callable[[Sequence[Candidate]], Candidate] = max
    """From candidates to identifier."""
    relays: bool = True
    """Whether one relays what one heard; otherwise everybody believes its own ears."""
    punctual: bool = True
    """Whether a candidate that comes too late is left out; otherwise it counts for those who still wait."""
    bounded: bool = True
    """Whether one stops waiting for candidates."""


@dataclass
class Replica:
    """An honest replica: what it has seen, accepted and executed."""

    index: int
    rules: Rules
    own: dict[str, Candidate] = field(default_factory=dict)
    """Candidates of what it has seen."""
    seen_at: dict[str, int] = field(default_factory=dict)
    words: dict[str, dict[int, dict[int, Candidate | None]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(dict))
    )
    """By request and proposer: who says that the candidate is what."""
    accepted: dict[str, Candidate] = field(default_factory=dict)
    """The identifiers."""
    executed: list[str] = field(default_factory=list)

    def see(self, request: str, tick: int) -> Candidate:
        """Propose a candidate above everything seen and accepted."""
        highest = max([number for number, _ in (*self.own.values(), *self.accepted.values())], default=0)
        candidate = (highest + 1, self.index)
        self.own[request], self.seen_at[request] = candidate, tick
        self.words[request][self.index][self.index] = candidate
        return candidate

    def hear(self, request: str, proposer: int, speaker: int, candidate: Candidate, tick: int) -> bool:
        """Note what `speaker` says is a proposer's candidate, and whether to relay it: its first own word, in time."""
        late = tick > self.seen_at.get(request, tick) + IN_TIME
        known = speaker in self.words[request][proposer]
        if known or (speaker == proposer and late and self.rules.punctual):
            return False
        self.words[request][proposer][speaker] = candidate
        return speaker == proposer and self.rules.relays

    def accept_what_is_due(self, tick: int) -> None:
        """Fix the identifiers of what was seen long enough ago."""
        for request, seen_at in self.seen_at.items():
            if request in self.accepted or tick < seen_at + AWAITED:
                continue
            agreed = [self.agree(request, proposer) for proposer in range(self.rules.replicas)]
            if None not in agreed or self.rules.bounded:
                self.accepted[request] = self.rules.select([candidate for candidate in agreed if candidate is not None])

    def agree(self, request: str, proposer: int) -> Candidate | None:
        """What all honest replicas take for this proposer's candidate; None if it made none."""
        words = self.words[request][proposer]
        if proposer == self.index or not self.rules.relays:
            return words.get(proposer)
        votes = Counter(words.get(speaker) for speaker in range(self.rules.replicas) if speaker != self.index)
        candidate, count = votes.most_common(1)[0]
        return candidate if 2 * count > self.rules.replicas - 1 else None

    def execute_what_is_stable(self) -> None:
        """The stability test."""
        for request in sorted(self.accepted, key=lambda name: (self.accepted[name], name)):
            if request not in self.executed and self.is_stable(request):
                self.executed.append(request)

    def is_stable(self, request: str) -> bool:
        """Nothing seen and not accepted can still get a lower identifier."""
        open_candidates = [own for name, own in self.own.items() if name not in self.accepted]
        return all(candidate > self.accepted[request] for candidate in open_candidates)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one run gave."""

    replicas: tuple[Replica, ...]
    """The honest ones."""
    ticks: int | None
    """When the last honest replica had executed everything; None if that never came."""
    messages: int
    """Candidates and relays, of honest replicas."""

    @property
    def orders(self) -> list[list[str]]:
        """By honest replica, what it executed."""
        return [replica.executed for replica in self.replicas]

    @property
    def idle(self) -> bool:
        """Whether nobody executed anything."""
        return not any(self.orders)

    @property
    def agrees(self) -> bool:
        """Whether of any two orders one begins with the other."""
        longest = max(self.orders, key=len)
        return all(order == longest[: len(order)] for order in self.orders)


Arrivals = Mapping[str, Sequence[int]]
"""By request, the tick at which each honest replica sees it."""


def run(arrivals: Arrivals, liar: Behaviour, rules: Rules | None = None) -> Outcome:
    """Everybody sees, proposes, relays, accepts and executes, until nothing more can happen."""
    rules = rules or Rules()
    honest = tuple(Replica(index, rules) for index in range(rules.replicas - 1))
    wire = _Wire(honest, liar)
    ticks = None
    for tick in range(max(map(max, arrivals.values())) + 2 * AWAITED):
        wire.deliver(tick)
        for request, ticks_seen in arrivals.items():
            for replica in honest:
                if ticks_seen[replica.index] == tick:
                    wire.propose(request, replica.see(request, tick), tick)
        for replica in honest:
            replica.accept_what_is_due(tick)
            replica.execute_what_is_stable()
        if ticks is None and all(len(replica.executed) == len(arrivals) for replica in honest):
            ticks = tick
    return Outcome(honest, ticks, wire.messages)


class _Wire:
    """Candidates and relays under way. The liar is the last replica; it lies about others' candidates, too."""

    def __init__(self, honest: tuple[Replica, ...], liar: Behaviour) -> None:
        self.honest, self.liar, self.traitor = honest, liar, len(honest)
        self.messages = 0
        self._coming: dict[int, list[tuple[str, int, int, int, Candidate]]] = defaultdict(list)
        """By tick: request, proposer, speaker, listener, candidate."""
        self._lied: set[str] = set()

    def propose(self, request: str, candidate: Candidate, tick: int) -> None:
        """An honest replica tells everybody its candidate; the liar joins in with the first."""
        self._tell(request, candidate, candidate[1], tick)
        self._lie(request, candidate[1], tick + 1)
        if request not in self._lied:
            self._lied.add(request)
            self._lie(request, self.traitor, tick)

    def deliver(self, tick: int) -> None:
        """What arrives now, and its relays."""
        for request, proposer, speaker, listener, candidate in self._coming.pop(tick, ()):
            if self.honest[listener].hear(request, proposer, speaker, candidate, tick):
                self._tell(request, candidate, listener, tick)

    def _tell(self, request: str, candidate: Candidate, speaker: int, tick: int) -> None:
        """To all but the speaker and the proposer, who knows."""
        listeners = {replica.index for replica in self.honest} - {speaker, candidate[1]}
        self.messages += len({*range(self.traitor + 1)} - {speaker, candidate[1]})
        for listener in sorted(listeners):
            self._coming[tick + 1].append((request, candidate[1], speaker, listener, candidate))

    def _lie(self, request: str, proposer: int, tick: int) -> None:
        for replica in self.honest:
            lie = self.liar(request, replica.index)
            if lie is not None and replica.index != proposer:
                number, late = lie
                word = (request, proposer, self.traitor, replica.index, (number, proposer))
                self._coming[tick + 1 + late].append(word)


def every_arrival(replicas: int = 3, requests: Sequence[str] = ("a", "b")) -> list[Arrivals]:
    """Each honest replica sees each request at once or as late as may be: all ways to do that.

    The second request crosses the first, or comes when some have accepted that and some have not.
    """
    ways = product((0, SKEW), repeat=replicas * len(requests))
    return [
        {name: [tick + i * later for tick in way[i * replicas : (i + 1) * replicas]] for i, name in enumerate(requests)}
        for way in ways
        for later in (0, AWAITED)
    ]


def first_split(liar: Behaviour, rules: Rules) -> tuple[int, Outcome] | None:
    """Which arrivals make honest replicas execute in contradicting orders; None if none do."""
    for number, arrivals in enumerate(every_arrival(rules.replicas - 1), 1):
        outcome = run(arrivals, liar, rules)
        if not outcome.agrees:
            return number, outcome
    return None


def main() -> None:
    """One story with each liar; then each rule taken away."""
    telling.lesson(
        "Ordering by replica-generated identifiers",
        shows="all honest replicas execute the same requests in one order, whatever one liar in four proposes.",
        assumes="n > 3f, here 4 and 1; a message takes one tick, a request reaches all within two (synchrony!).",
        source="Schneider, State Machine Approach tutorial (1990); agreement: Lamport, Shostak and Pease (1982).",
    )
    for name, liar in LIARS.items():
        tell(name, liar)
    telling.part(
        f"What holds it up: each rule taken away, over {len(every_arrival())} ways in which two requests can arrive"
    )
    for words, liar_name, rules in BROKEN:
        show_broken(words, liar_name, rules)
    telling.conclusion(
        "identifiers by maximum give order without a leader, but the replicas must still agree on each candidate: "
        "36 messages a request here, and a clock. A ledger with a leader and certificates takes 48, waits for nobody "
        "in particular, and is safe without any clock; a group of two takes 2. See lesson quorums."
    )


BROKEN: tuple[tuple[str, str, Rules], ...] = (
    ("minimum instead of maximum, and a low proposer", "low", Rules(select=min)),
    ("nobody relays, and a two-faced proposer", "two-faced", Rules(relays=False)),
    ("late candidates count, and a late proposer", "late", Rules(punctual=False)),
    ("n = 3, and a two-faced proposer", "two-faced", Rules(replicas=3)),
    ("waiting without a bound, and a silent proposer", "silent", Rules(bounded=False)),
)
"""What is broken, who makes use of it, and how."""

STORY: Arrivals = {"a": (0, 2, 1), "b": (1, 0, 2), "c": (12, 12, 13)}
"""Two requests that cross, and one much later."""


def tell(name: str, liar: Behaviour) -> None:
    """One run, with what each request was given."""
    outcome = run(STORY, liar)
    telling.part(f"a {name} proposer among four")
    first = outcome.replicas[0]
    for request in STORY:
        candidates = [first.agree(request, proposer) for proposer in range(4)]
        texts = ["none" if candidate is None else str(candidate[0]) for candidate in candidates]
        number, proposer = first.accepted[request]
        telling.step(f"{request}: candidates {', '.join(texts)}; accepted {number} of replica {proposer}")
    orders = {" ".join(order) for order in outcome.orders}
    telling.step(f"executed by the three honest ones: {' | '.join(sorted(orders))}; all done at tick {outcome.ticks}")


def show_broken(words: str, liar_name: str, rules: Rules) -> None:
    """A contradiction, or nothing done at all."""
    liar = LIARS[liar_name]
    split = first_split(liar, rules)
    if split is not None:
        number, outcome = split
        orders = " but ".join(dict.fromkeys(" ".join(order) for order in outcome.orders))
        telling.step(f"{words}: at the {number}. way, one executes {orders}: they contradict each other for ever.")
    elif all(run(arrivals, liar, rules).idle for arrivals in every_arrival(rules.replicas - 1)):
        telling.step(f"{words}: nothing is ever accepted, so nothing is ever stable: no order at all.")
    else:
        telling.step(f"{words}: nothing went wrong.")


if __name__ == "__main__":
    main()
