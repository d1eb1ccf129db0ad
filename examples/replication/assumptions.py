"""What breaks when an assumption is broken: each beside the same run with the assumption kept.

Property: each promise holds up to its assumption and not one step further.

n = 3f: one liar among three, with quorums of n - f = 2, is in both of two quorums. It tells each half another story,
and money is spent twice. Quorums of 3 would be safe, but then one replica stops them all. With n = 4 the quorums of 3
share an honest replica, and the same liar only delays.
A delay beyond the window: who reports after the challenge period reports to a closed group, and the stale state stands.
Messages between replicas may take as long as they like: that costs time, never truth.
Two colluders of three: 2f+1 members promise that of any f+1 one is honest. Two that lie together are f+1 themselves.

Run it: ``python -m examples.replication.assumptions``

Source: README, "Assumptions, and what breaks without them"; the traitor is a pair of twins: Bano et al. (2021).
"""

from __future__ import annotations

from dataclasses import dataclass

from examples.replication import byzantine_chain, telling
from examples.replication.channel import DEPOSIT, WINDOW_MS, Channel
from examples.replication.ledger import FUNDS, Ledger, Replica, contradiction, key_of
from layer1.consensus.quorum import FaultModel

ALICE, BOB, CAROL = (key_of(name) for name in ("alice", "bob", "carol"))
LONG_MS = 30_000
"""Long enough for every timer to fire."""
MARGIN_MS = 1_000
"""Before or after the end of the window; what settles and what is decided at once takes far less."""


@dataclass(frozen=True, slots=True)
class Spent:
    """What honest replicas took for final after Alice paid everything she has to two people."""

    while_apart: list[tuple[str, int, int]]
    """Replica, and what Bob and Carol have there."""
    in_the_end: list[tuple[str, int, int]]
    forked_at: int | None
    """A height with two final blocks."""
    accusers: list[str]
    """Replicas that hold proof against the liar."""


def spend_twice(replicas: int, model: FaultModel) -> Spent:
    """Replica 0 leads and lies: it is one replica to 1, another one to the rest, until all are connected again."""
    ledger = Ledger((ALICE,), replicas=replicas, fault_model=model, twins=0)
    rest = tuple(str(index) for index in range(2, replicas))
    ledger.cut(("0a", "1"), ("0b", *rest))
    ledger.submit(ledger.transfer(ALICE, BOB.public, FUNDS), "0a", "1")
    ledger.submit(ledger.transfer(ALICE, CAROL.public, FUNDS), "0b", *rest)
    ledger.run(LONG_MS)
    honest = [replica for replica in ledger.replicas if replica.index != 0]
    while_apart = [_have(replica) for replica in honest]
    ledger["0a"].crashed = ledger["0b"].crashed = True
    ledger.cut()
    ledger.run(LONG_MS)
    split = contradiction(honest)
    return Spent(
        while_apart,
        [_have(replica) for replica in honest],
        None if split is None else split[2],
        [replica.name for replica in honest if replica.accused == {0}],
    )


@dataclass(frozen=True, slots=True)
class Settled:
    """How layer 1 closed a group that was wedged with an old state."""

    version: int
    newest: int
    """What both members had signed last."""
    payouts: tuple[int, ...]


def wedge_stale(report_after_ms: int) -> Settled:
    """Alice pays Bob, then wedges with the copy from before; Bob sees layer 1 only after this time."""
    ledger = Ledger((ALICE, BOB))
    channel = Channel(ledger, (ALICE, BOB))
    channel.pay(0, 10)
    old_alice = channel.members[0]
    channel.pay(0, 300)
    newest = channel.members[1].version
    channel.wedge(old_alice)
    ledger.run(report_after_ms)
    channel.watch(1)
    ledger.run(WINDOW_MS)
    return Settled(channel.record.version, newest, channel.record.payouts)


def delay_everything(delay_ms: int) -> Spent:
    """The same ledger of four, its honest replicas cut off from each other for a while: no window ends there."""
    ledger = Ledger((ALICE,))
    ledger.cut("0", "1", "2", "3")
    ledger.submit(ledger.transfer(ALICE, BOB.public, FUNDS))
    ledger.run(delay_ms)
    apart = [_have(replica) for replica in ledger.replicas]
    ledger.cut()
    ledger.run(LONG_MS)
    split = contradiction(ledger.replicas)
    end = [_have(replica) for replica in ledger.replicas]
    return Spent(apart, end, None if split is None else split[2], [])


def _have(replica: Replica) -> tuple[str, int, int]:
    return replica.name, replica.state.balance(BOB.public), replica.state.balance(CAROL.public)


def main() -> None:
    """Three assumptions, each kept and broken."""
    telling.lesson(
        "What breaks when each assumption is broken",
        shows="each promise holds up to its assumption, and not one step further.",
        assumes="in turn: n > 3f; an honest member reaches layer 1 within the window; f of 2f+1 lie.",
        source="README, Assumptions; the real consensus core, ledger and group core of this project run here.",
    )
    telling.part(
        f"n > 3f: Alice has {FUNDS}, and pays {FUNDS} to Bob and {FUNDS} to Carol; replica 0 lies to both halves"
    )
    tell_spent("n = 3, q = n - f = 2 (broken)", spend_twice(3, "omission"))
    tell_spent("n = 3, q = n = 3 (safe, but any one replica stops it)", spend_twice(3, "byzantine"))
    tell_spent("n = 4, q = 3 (kept)", spend_twice(4, "byzantine"))
    telling.part(f"the window of {WINDOW_MS} ms: Alice wedges with a state from before she paid Bob 300")
    tell_settled("Bob reports just in time (kept)", wedge_stale(WINDOW_MS - MARGIN_MS))
    tell_settled("Bob reports just too late (broken)", wedge_stale(WINDOW_MS + MARGIN_MS))
    tell_spent("replicas cut off for as long, no group in sight", delay_everything(WINDOW_MS + MARGIN_MS))
    telling.part("f of 2f+1: a Byzantine chain of three, wedged")
    byzantine_chain.show("one forgets what it signed (kept)", byzantine_chain.one_liar())
    byzantine_chain.show("two forget it together (broken)", byzantine_chain.two_colluders())
    telling.conclusion(
        "count who may lie before you choose n, and how long you may be away before you choose a window. A proof "
        "against the liar remains in each broken ledger, but it comes after the money has been spent twice."
    )


def tell_spent(words: str, spent: Spent) -> None:
    """What each honest replica held for final, and whether that can be."""
    telling.step(f"{words}:")
    telling.step(f"  Bob and Carol have, while apart: {_balances(spent.while_apart)}")
    telling.step(f"  and in the end: {_balances(spent.in_the_end)}")
    if spent.forked_at is not None:
        telling.step(f"  FORK: two blocks are final at height {spent.forked_at}; Alice spent her money twice.")
    else:
        paid = any(bob + carol for _, bob, carol in spent.in_the_end)
        telling.step(f"  no two final blocks contradict each other{'' if paid else ': none is final at all'}.")
    if spent.accusers:
        telling.step(f"  proof that 0 contradicted itself is in the hands of {' and '.join(spent.accusers)}.")


def _balances(rows: list[tuple[str, int, int]]) -> str:
    if len({row[1:] for row in rows}) == 1:
        return f"{rows[0][1]} and {rows[0][2]}, says every replica"
    return ", ".join(f"replica {name}: {bob} and {carol}" for name, bob, carol in rows)


def tell_settled(words: str, settled: Settled) -> None:
    """Which state won."""
    alice, bob = settled.payouts
    verdict = "the newest" if settled.version == settled.newest else f"STALE: {settled.newest} was the newest"
    telling.step(f"{words}: settled on version {settled.version}, {verdict}.")
    telling.step(f"  Each put in {DEPOSIT}; Alice gets {alice}, Bob {bob}.")


if __name__ == "__main__":
    main()
