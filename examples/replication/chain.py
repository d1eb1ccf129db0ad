"""Chain replication: f+1 replicas survive f crashes, because somebody else decides who is left.

Property: no acknowledged update is ever lost or reordered, through the failure of head, middle and tail.

The head orders updates, each replica passes them on, the tail acknowledges. So whoever stands nearer to the head knows
at least what those behind it know (the Update Propagation Invariant), and what the tail has is everywhere. The head
fails: what only it knew was acknowledged to nobody. The tail fails: its predecessor knows all that it knew. One in the
middle fails: its predecessor sends its successor what that one lacks. In each case the master names the new chain, with
a fresh tail that its predecessor fills.

f+1 replicas alone could not tell a crash from a cut, and each half would go on. The master can, being one ledger: see
`examples.replication.master`. It works when somebody fails, the chain always: f+1 messages an update.

Run it: ``python -m examples.replication.chain``

Source: van Renesse and Schneider, Chain Replication for Supporting High Throughput and Availability (2004), section 3.
Deviation: a falsely suspected replica costs only its place, for nothing is acknowledged without all members of one
configuration; but queries to a tail that was replaced without knowing it could be stale. Histories are kept whole, so
nothing is acknowledged back up the chain to shorten what a replica would send again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

from examples.replication import quorums, telling
from examples.replication.ledger import DELAY_MS, Ledger
from examples.replication.master import Configuration, Hearsay, LedgerMaster, Master

Position = Literal["head", "middle", "tail"]
FIRST, SPARES = ("A", "B", "C"), ("D", "E", "F")
"""f = 2: any two of three may crash, one after the other or at once."""


@dataclass
class Replica:
    """A history of updates: what a chain replica is."""

    name: str
    history: list[str] = field(default_factory=list)
    crashed: bool = False


@dataclass(frozen=True, slots=True)
class Forward:
    """From a replica to its successor: the update at a place of the history."""

    configuration: int
    sender: str
    receiver: str
    slot: int
    update: str


class Chain:
    """One service: its replicas, the wire between them, and a client that repeats what is not acknowledged."""

    def __init__(self, master: Master, configuration: Configuration, spares: Sequence[str] = ()) -> None:
        self.master, self.configuration = master, configuration
        self.replicas = {name: Replica(name) for name in (*configuration.members, *spares)}
        self.spares = list(spares)
        self.wire: deque[Forward] = deque()
        self.submitted: list[str] = []
        self.acknowledged: list[str] = []
        """In the order in which the client heard it."""
        self.messages = 0
        """Between replicas, and acknowledgements to the client."""

    @property
    def members(self) -> list[Replica]:
        """From head to tail."""
        return [self.replicas[name] for name in self.configuration.members]

    def submit(self, update: str) -> None:
        """The client asks the head."""
        self.submitted.append(update)
        self._ask(update)

    def deliver(self) -> bool:
        """One message arrives; whether there was one."""
        if not self.wire:
            return False
        message = self.wire.popleft()
        replica = self.replicas[message.receiver]
        if not replica.crashed and message.configuration == self.configuration.number:
            if message.slot == len(replica.history):
                self._append(replica, message.update)
            assert message.slot < len(replica.history), "the wire keeps the order, and a new neighbour fills gaps"
        return True

    def run(self) -> None:
        """Deliver everything."""
        while self.deliver():
            pass

    def crash(self, name: str) -> None:
        """It stops for ever, and what it sent last is lost with it."""
        self.replicas[name].crashed = True
        self.wire = deque(message for message in self.wire if message.sender != name)

    def reconfigure(self) -> None:
        """Survivors, and a spare for each that failed, become the chain that the master says they are.

        Raises:
            RuntimeError: All f+1 crashed, and with them the history.
        """
        alive = [replica.name for replica in self.members if not replica.crashed]
        if not alive:
            raise RuntimeError(f"all {len(self.members)} replicas crashed; the chain survives one less")
        missing = len(self.configuration.members) - len(alive)
        wanted = [*alive, *self.spares[:missing]]
        del self.spares[:missing]
        self.install(self.master.succeed(self.configuration, alive[0], wanted))

    def install(self, configuration: Configuration) -> None:
        """Each sends its new successor what that one lacks; the client repeats what nobody acknowledged."""
        self.configuration = configuration
        for replica, successor in pairwise(self.members):
            for slot in range(len(successor.history), len(replica.history)):
                self._send(replica, successor, slot, replica.history[slot])
        for update in self.members[-1].history:
            self._acknowledge(update)
        for update in self.submitted:
            if update not in self.acknowledged:
                self._ask(update)

    def _ask(self, update: str) -> None:
        head = self.members[0]
        if not head.crashed and update not in head.history:
            self._append(head, update)

    def _append(self, replica: Replica, update: str) -> None:
        replica.history.append(update)
        place = self.configuration.members.index(replica.name)
        if place == self._acknowledging_place:
            self._acknowledge(update)
        if place + 1 < len(self.members):
            self._send(replica, self.members[place + 1], len(replica.history) - 1, update)

    @property
    def _acknowledging_place(self) -> int:
        """The tail's: what it has, all have."""
        return len(self.members) - 1

    def _send(self, sender: Replica, receiver: Replica, slot: int, update: str) -> None:
        self.messages += 1
        self.wire.append(Forward(self.configuration.number, sender.name, receiver.name, slot, update))

    def _acknowledge(self, update: str) -> None:
        if update not in self.acknowledged:
            self.messages += 1
            self.acknowledged.append(update)


class HeadAcknowledges(Chain):
    """Broken: the client hears from the head, before anybody else knows."""

    @property
    def _acknowledging_place(self) -> int:
        return 0


def check_propagation(chain: Chain) -> None:
    """The Update Propagation Invariant, among those who have not crashed.

    Raises:
        AssertionError: Somebody nearer to the tail knows what somebody nearer to the head does not.
    """
    alive = [replica.history for replica in chain.members if not replica.crashed]
    for near, far in pairwise(alive):
        assert near[: len(far)] == far, f"{far} is not the beginning of {near}"


def lost(chain: Chain) -> list[str]:
    """Acknowledged updates that the chain does not know in that order any more."""
    history = chain.members[-1].history
    kept = [update for update in history if update in chain.acknowledged]
    return [update for at, update in enumerate(chain.acknowledged) if kept[at : at + 1] != [update]]


def split_brain(master: Master) -> list[list[str]]:
    """A cut between A and the others, each suspecting the other side; what each side acknowledged afterwards."""
    first = master.begin(FIRST)
    sides = ((("A", "D", "E"), "x=1"), (("B", "C", "F"), "x=2"))
    acknowledged = []
    for members, update in sides:
        chain = Chain(master, first, SPARES)
        decided = master.succeed(first, members[0], members)
        if members[0] in decided.members:
            chain.install(decided)
            chain.submit(update)
            chain.run()
        acknowledged.append(chain.acknowledged)
    return acknowledged


def main() -> None:
    """Crash head, middle and tail, one after the other; then do without the master."""
    telling.lesson(
        "Chain replication of f+1, with layer 1 as the trusted master",
        shows="no acknowledged update is lost or reordered while f of f+1 replicas crash, wherever they stand.",
        assumes="replicas crash and do not lie; a master decides who is in the chain: here a ledger of n > 3f.",
        source="van Renesse and Schneider, Chain Replication (2004); the master is this project's own ledger.",
    )
    ledger = Ledger(())
    ledger.muted = {"3"}
    telling.step("The master is a ledger of four replicas, of which one is silent all the time: it masks that.")
    master = LedgerMaster(ledger)
    chain = Chain(master, master.begin(FIRST), SPARES)
    for number, position in enumerate(("head", "middle", "tail"), 1):
        tell_failure(chain, position, number)
    telling.part("Two halves that suspect each other")
    with_master, without = split_brain(LedgerMaster(Ledger(()))), split_brain(Hearsay())
    for words, sides in (("the master", with_master), ("hearsay", without)):
        verdict = "split brain" if all(sides) else "one side goes on"
        told = " | ".join(_list(side) for side in sides)
        telling.step(f"With {words}, A's side | B's side acknowledged {told}: {verdict}.")
    telling.part("The head acknowledges before anybody else knows")
    hasty, patient = hasty_head(HeadAcknowledges), hasty_head(Chain)
    telling.step(f"It crashes. Acknowledged: {_list(hasty.acknowledged)}; lost: {_list(lost(hasty))}.")
    telling.step(
        f"Where the tail acknowledges: {_list(patient.acknowledged)} is acknowledged; lost: {_list(lost(patient))}."
    )
    telling.part("What it costs to survive f = 2 crashes")
    telling.table(
        ("what", "replicas", "messages"),
        (
            ("an update on a chain of f+1, with a master", 3, messages_per_update()),
            ("the master decides on a new chain: a wedge and an opening", 4, messages_per_decision()),
            (
                "an update by quorums of n > 2f, without one (lesson quorums)",
                5,
                quorums.measure("omission", 5).messages,
            ),
        ),
    )
    telling.conclusion(
        "who stores and who decides need not be the same. f+1 replicas hold the data and every one of them must take "
        "part, which is cheap; who takes part is decided by the many, which is rare. Channels are built like that."
    )


def tell_failure(chain: Chain, position: str, number: int) -> None:
    """Two updates under way, a crash among them, and a new chain."""
    at = {"head": 0, "middle": 1, "tail": 2}[position]
    victim = chain.members[at].name
    telling.part(f"the {position} of {' '.join(chain.configuration.members)} fails")
    for letter in "ab":
        chain.submit(f"{letter}{number}")
    chain.deliver()
    chain.crash(victim)
    telling.step(f"{victim} crashes. {histories(chain)}; acknowledged: {_list(chain.acknowledged)}")
    chain.run()
    check_propagation(chain)
    chain.reconfigure()
    chain.run()
    check_propagation(chain)
    telling.step(
        f"The ledger decides: configuration {chain.configuration.number} is {' '.join(chain.configuration.members)}."
    )
    telling.step(f"{histories(chain)}; acknowledged: {_list(chain.acknowledged)}; lost: {_list(lost(chain))}")


def histories(chain: Chain) -> str:
    """What each member has that has not crashed."""
    parts = (f"{r.name} has {_list(r.history)}" for r in chain.members if not r.crashed)
    return ", ".join(parts)


def _list(updates: Sequence[str]) -> str:
    return " ".join(updates) or "nothing"


def hasty_head(kind: type[Chain]) -> Chain:
    """The head crashes with an update that nobody else has; then the client never asks again."""
    master = Hearsay()  # one suspicion only: nothing to decide
    chain = kind(master, master.begin(FIRST), SPARES)
    chain.submit("x=1")
    chain.crash("A")
    chain.submitted.clear()
    chain.reconfigure()
    chain.run()
    return chain


def messages_per_update() -> int:
    """When nothing fails."""
    chain = Chain(Hearsay(), Hearsay().begin(FIRST))
    chain.submit("x=1")
    chain.run()
    return chain.messages


def messages_per_decision() -> int:
    """On the ledger, when one member suspects another."""
    ledger = Ledger(())
    master = LedgerMaster(ledger)
    first = master.begin(FIRST)
    ledger.run(10 * DELAY_MS)
    ledger.sent.clear()
    master.succeed(first, "B", ("B", "C", "D"))
    ledger.run(2 * DELAY_MS)
    return sum(ledger.sent.values())


if __name__ == "__main__":
    main()
