"""Byzantine chain replication: 2f+1 replicas that stop as soon as anything is wrong, and wedge.

Property: no committed update is ever lost or changed while at most f of 2f+1 replicas lie; with all of them the chain
goes on, with any one failing it stops, and layer 1 names its successor.

Each update passes down the chain and collects the signature of every replica: only all 2f+1 together commit it, and the
certificate passes back up. So whoever is honest has every committed update. If anything is wrong, a member wedges: the
ledger then shows the configuration as stopped, and every honest member signs one statement of its history and nothing
more. Any f+1 statements that do not contradict each other hold one of an honest member; the longest history among them
begins with all that was ever committed, and the successor begins with it.

That is fault-safety: 2f+1 and not 3f+1 replicas, no votes among them, and no clock; for liveness somebody must decide
who is next. The groups of layer 2 are the same without witnesses: f+1 sign, and a challenge period stands in for the
missing f.

Run it: ``python -m examples.replication.byzantine_chain``

Source: van Renesse, Ho and Schiper, Byzantine Chain Replication (2012): order proofs, wedging, and Olympus, which is
layer 1 here; docs/design/groups.md, "Witnessed groups".
Deviation: updates have no results, and clients do not sign them, so a head may commit what nobody asked for. Members of
the successor check the statements before they sign its opening; the ledger only says which opening was first.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from examples.replication import quorums, telling
from examples.replication.ledger import Ledger
from examples.replication.master import Configuration, Hearsay, LedgerMaster, Master
from examples.replication.wedging import FAULTS, Entry, Statement, decide, is_signed, is_valid, words_of, words_of_all
from layer1.codec import encode
from layer1.crypto import ZERO_HASH, Domain, Kind, digest

MEMBERS, SPARES = ("A", "B", "C"), ("D", "E", "F", "G", "H")


class Replica:
    """An honest member. What it returns, it sends."""

    def __init__(self, name: str, configuration: Configuration) -> None:
        self.name, self.configuration = name, configuration
        self.key = configuration.key(name)
        self.place = configuration.members.index(name)
        self.history: list[Entry] = []
        self.wedged = False

    def order(self, entry: Entry) -> Entry | None:
        """Sign an update that all before us signed, at the next place: one at each place, and none once wedged."""
        before = self.configuration.members[: self.place]
        if self.wedged or entry.slot != len(self.history) or not is_signed(self.configuration, entry, before):
            return None
        signed = self.sign(entry)
        self.history.append(signed)
        return signed

    def sign(self, entry: Entry) -> Entry:
        """Add our signature."""
        signature = self.key.sign(Kind.STATE, ZERO_HASH, words_of(self.configuration, entry))
        return replace(entry, proof=(*entry.proof, (self.name, signature)))

    def certify(self, entry: Entry) -> Entry | None:
        """Take the certificate of an update that we signed; it goes on to whoever stands before us."""
        known = entry.slot < len(self.history) and self.history[entry.slot].update == entry.update
        if not known or not is_signed(self.configuration, entry, self.configuration.members):
            return None
        self.history[entry.slot] = entry
        return entry

    def wedge(self) -> Statement | None:
        """Layer 1 shows that the configuration is stopped: say what we have, and sign nothing any more."""
        self.wedged = True
        return self.state(self.history)

    def state(self, history: Sequence[Entry]) -> Statement:
        """Sign a history."""
        signature = self.key.sign(Kind.CLAIM, ZERO_HASH, words_of_all(self.configuration, history))
        return Statement(self.name, tuple(history), signature)


class Silent(Replica):
    """Passes nothing on, says nothing."""

    def order(self, entry: Entry) -> Entry | None:
        """Nothing."""
        return None

    def wedge(self) -> Statement | None:
        """Nothing."""
        return None


class Forgetful(Replica):
    """Works until the wedge, and then has forgotten the newest update."""

    def wedge(self) -> Statement | None:
        """A history that was true once."""
        return self.state(self.history[:-1])


class Forging(Replica):
    """Works until the wedge, and then says that the newest update was another one, with what signatures it has."""

    def wedge(self) -> Statement | None:
        """Its own signature is all that it can make."""
        if not self.history:
            return self.state([])
        newest = self.history[-1]
        before = newest.proof[: self.place]
        return self.state([*self.history[:-1], self.sign(Entry(newest.slot, "forged", before))])


class Altering(Replica):
    """Passes another update on than it was given."""

    def order(self, entry: Entry) -> Entry | None:
        """Signed by it as if nothing were."""
        signed = super().order(entry)
        return None if signed is None else self.sign(Entry(entry.slot, "altered", entry.proof))


LIES: dict[str, type[Replica]] = {
    "silent": Silent,
    "forgetful": Forgetful,
    "forging": Forging,
    "altering": Altering,
}


@dataclass
class Chain:
    """One configuration at work, and what its client takes for committed."""

    configuration: Configuration
    lies: dict[str, type[Replica]] = field(default_factory=dict)
    """Who is not honest, and how."""
    signatures_that_commit: int = 2 * FAULTS + 1
    """All; fewer is what a lesson breaks."""
    committed: list[str] = field(default_factory=list)
    messages: int = 0

    def __post_init__(self) -> None:
        self.replicas = {name: self.lies.get(name, Replica)(name, self.configuration) for name in self.members}
        self.wire: deque[tuple[str, str, Entry]] = deque()
        """What (order or certify), to whom, and the entry."""
        self.slots = 0

    @property
    def members(self) -> tuple[str, ...]:
        """From head to tail."""
        return self.configuration.members

    def submit(self, update: str) -> None:
        """The client asks the head."""
        self._send("order", self.members[0], Entry(self.slots, update))
        self.slots += 1

    def deliver(self) -> bool:
        """One message arrives; whether there was one."""
        if not self.wire:
            return False
        verb, name, entry = self.wire.popleft()
        replica, place = self.replicas[name], self.members.index(name)
        if verb == "order":
            self._ordered(place, replica.order(entry))
        elif (certified := replica.certify(entry)) is not None and place > 0:
            self._send("certify", self.members[place - 1], certified)
        return True

    def run(self) -> None:
        """Deliver everything."""
        while self.deliver():
            pass

    def statements(self) -> list[Statement]:
        """What the members say once layer 1 shows the wedge, by place; some say nothing."""
        said = [self.replicas[name].wedge() for name in self.members]
        return [statement for statement in said if statement is not None]

    def _ordered(self, place: int, signed: Entry | None) -> None:
        if signed is None:
            return
        committing = is_signed(self.configuration, signed, self.members[: self.signatures_that_commit])
        if committing and len(signed.proof) == self.signatures_that_commit:
            self.messages += 1  # to the client
            self.committed.append(signed.update)
        if place + 1 < len(self.members):
            self._send("order", self.members[place + 1], signed)
        elif place > 0:
            self._send("certify", self.members[place - 1], signed)

    def _send(self, verb: str, name: str, entry: Entry) -> None:
        self.messages += 1
        self.wire.append((verb, name, entry))


def succeed(
    master: Master, stopped: Configuration, decided: tuple[tuple[str, ...], tuple[str, ...]], spares: Sequence[str]
) -> Configuration:
    """Those whose statements count, and spares, become the next chain; the note says what it begins with."""
    names, history = decided
    members = (*names, *spares[: len(stopped.members) - len(names)])
    return master.succeed(stopped, names[0], members, digest(Domain.LOG, encode(history)).hex()[:32])


@dataclass(frozen=True, slots=True)
class Ending:
    """What a client took for committed, and what the successor begins with."""

    committed: tuple[str, ...]
    history: tuple[str, ...]

    @property
    def kept(self) -> bool:
        """Whether the history begins with all that was committed."""
        return self.history[: len(self.committed)] == self.committed


def end(chain: Chain, first_to_speak: Sequence[str] = (), needed: int = FAULTS + 1) -> Ending:
    """Wedge, and decide from the statements, those of `first_to_speak` arriving before the others.

    Raises:
        RuntimeError: Too few agree; with at most f liars that cannot be.
    """
    said = sorted(chain.statements(), key=lambda statement: statement.name not in first_to_speak)
    decided = decide(chain.configuration, said, needed)
    if decided is None:
        raise RuntimeError(f"no {needed} valid statements of {len(said)} agree: more than {FAULTS} lie")
    return Ending(tuple(chain.committed), decided[1])


def loaded(lies: dict[str, type[Replica]], deliveries: int | None = None, signatures: int = 2 * FAULTS + 1) -> Chain:
    """A chain in the middle of two updates: after so many messages, or all."""
    chain = Chain(Hearsay().begin(MEMBERS), lies, signatures)
    for update in ("x = 1", "x = 2"):
        chain.submit(update)
    while (deliveries is None or deliveries > 0) and chain.deliver():
        deliveries = None if deliveries is None else deliveries - 1
    return chain


def one_liar() -> Ending:
    """The intact protocol: its liar and the one that knows least of the honest speak first."""
    return end(loaded({"B": Forgetful}), ("B", "C"))


def too_few_signatures() -> Ending:
    """Broken: two of three signatures commit. The tail, honest, has not heard of it, and speaks with the liar."""
    return end(loaded({"B": Forgetful}, deliveries=3, signatures=2), ("B", "C"))


def too_few_statements() -> Ending:
    """Broken: one statement is enough. It may be the liar's."""
    return end(loaded({"B": Forgetful}), ("B",), needed=1)


def two_colluders() -> Ending:
    """Broken: two of three lie, and agree. The third is honest, but nobody knows that it is not the faulty one."""
    return end(loaded({"A": Forgetful, "B": Forgetful}), ("A", "B"))


BROKEN: dict[str, Callable[[], Ending]] = {
    "nothing broken, one liar": one_liar,
    "two signatures of three commit": too_few_signatures,
    "one statement decides": too_few_statements,
}
STORY = (("silent", 1), ("forgetful", 2), ("forging", 0), ("altering", 1))
"""Lies, and the liar's place in the chain."""


def main() -> None:
    """One liar after the other; then the numbers made smaller."""
    telling.lesson(
        "Byzantine chain replication of 2f+1, with wedging",
        shows="no committed update is lost or changed while f of 2f+1 replicas lie; any failure stops it, safely.",
        assumes="at most f of 2f+1 lie, signatures hold, and layer 1 decides the successor. No clock at all.",
        source="van Renesse, Ho and Schiper, Byzantine Chain Replication (2012); layer 1 plays its Olympus.",
    )
    master = LedgerMaster(Ledger(()), carried=FAULTS + 1)
    configuration, spares = master.begin(MEMBERS), list(SPARES)
    history: tuple[str, ...] = ()
    for lie, place in STORY:
        configuration, history = tell(master, configuration, history, lie=lie, place=place, spares=spares)
    telling.part("What holds it up")
    for words, story in BROKEN.items():
        show(words, story())
    telling.part("What it costs to be safe with f = 1 liar")
    chain = Chain(Hearsay().begin(MEMBERS))
    chain.submit("x = 1")
    chain.run()
    rows = (
        ("group of f+1, a challenge period for the rest (lesson quorums)", 2, 2, "stops"),
        ("chain of 2f+1", 3, chain.messages, "stops"),
        ("ledger of 3f+1 (lesson quorums)", 4, quorums.measure("byzantine", 4).messages, "goes on"),
    )
    telling.table(("what", "replicas", "messages", "when one fails it"), rows)
    telling.conclusion(
        "replicas that may stop need no majority to go on, only one honest member that remembers: f+1 signatures do "
        "where time helps, 2f+1 where it does not, and 3f+1 are left to the ledger, which must not stop."
    )


def tell(
    master: Master, configuration: Configuration, history: tuple[str, ...], *, lie: str, place: int, spares: list[str]
) -> tuple[Configuration, tuple[str, ...]]:
    """Two updates, a liar, a wedge; the successor, and what it begins with."""
    liar = configuration.members[place]
    chain = Chain(configuration, {liar: LIES[lie]})
    telling.part(f"{' '.join(configuration.members)}, after {len(history)} updates: {liar} is {lie}")
    for update in (f"x = {len(history) + 1}", f"x = {len(history) + 2}"):
        chain.submit(update)
        chain.run()
    said = chain.statements()
    telling.step(f"committed: {' | '.join(chain.committed) or 'nothing'}. Somebody wedges, and the members state:")
    for statement in said:
        valid = is_valid(configuration, statement)
        words = " | ".join(entry.update for entry in statement.history) or "nothing"
        telling.step(f"  {statement.name}: {words}{'' if valid else ' (not signed by all before it: void)'}")
    decided = decide(configuration, said)
    assert decided is not None, "two honest ones spoke"
    names, news = decided
    successor = succeed(master, configuration, decided, spares)
    del spares[: len(configuration.members) - len(names)]
    telling.step(
        f"{' and '.join(names)} agree. Configuration {successor.number} of the ledger: {' '.join(successor.members)}"
    )
    ending = Ending(tuple(chain.committed), news)
    telling.step(f"It goes on from {' | '.join(news) or 'where this one began'}: committed is {_kept(ending)}.")
    return successor, (*history, *news)


def show(words: str, ending: Ending) -> None:
    """One line."""
    committed, history = " | ".join(ending.committed), " | ".join(ending.history) or "nothing"
    telling.step(f"{words}: committed {committed}; the successor goes on from {history}: {_kept(ending)}.")


def _kept(ending: Ending) -> str:
    return "kept" if ending.kept else "LOST"


if __name__ == "__main__":
    main()
