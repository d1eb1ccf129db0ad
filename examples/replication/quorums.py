"""One protocol under omission and under Byzantine quorums: only n changes, and with it what may go wrong.

Property: with at most f silent replicas every transfer becomes final; with more none does, and nothing false is final.

A certificate takes q = n - f votes, so f silent ones are not missed. Two quorums share at least 2q - n replicas. Where
replicas only fall silent, one in common is enough: it does not vote twice. Where f of them lie, more than f must be in
common, so that one of those is honest: n > 2f becomes n > 3f. Waiting for everybody (a group of f+1, layer 2) needs
fewest of all, masks nothing, and costs two messages.

Run it: ``python -m examples.replication.quorums``

Source: docs/design/consensus.md, "Model"; layer1/consensus/quorum.py, of which this runs the real thing.
"""

from __future__ import annotations

from dataclasses import dataclass

from examples.replication import telling
from examples.replication.channel import Channel
from examples.replication.ledger import DELAY_MS, Ledger, contradiction, key_of
from layer1.consensus.quorum import FaultModel
from layer1.ledger.transactions import Transaction

ALICE, BOB = key_of("alice"), key_of("bob")
SIZES: tuple[tuple[FaultModel, int], ...] = (("omission", 3), ("byzantine", 4), ("omission", 5), ("byzantine", 7))
"""The smallest that mask one fault and two."""
PATIENCE_MS = 20_000
"""How long one waits before saying that nothing becomes final."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What one transfer takes when nothing fails."""

    messages: int
    delays: int
    """Message delays from submission to final."""


def measure(model: FaultModel, replicas: int) -> Cost:
    """One transfer on a ledger that has nothing else to do."""
    ledger = Ledger((ALICE,), replicas=replicas, fault_model=model)
    ledger.run(10 * DELAY_MS)
    ledger.sent.clear()
    start_ms = ledger.now_ms
    ledger.order(ledger.transfer(ALICE, BOB.public, 5))
    taken_ms = ledger.now_ms - start_ms
    ledger.run(2 * DELAY_MS)  # what is still on its way belongs to it, a repetition does not
    return Cost(sum(ledger.sent.values()), taken_ms // DELAY_MS)


def measure_group() -> Cost:
    """One payment in a group of two, from the primary, until both hold its certificate."""
    channel = Channel(Ledger((ALICE, BOB)), (ALICE, BOB))
    channel.sent.clear()
    channel.pay(0, 5)
    assert [member.version for member in channel.members] == [1, 1]
    messages = sum(channel.sent.values())
    return Cost(messages, messages)  # one after the other


def silence(ledger: Ledger, replicas: int) -> None:
    """The first ones fall silent, and with them the leader."""
    ledger.muted = {str(index) for index in range(replicas)}


def is_final(ledger: Ledger, transaction: Transaction) -> bool:
    """Whether it becomes final if one waits."""
    ledger.submit(transaction)
    return ledger.run(PATIENCE_MS, lambda: ledger.output(transaction) is not None)


def main() -> None:
    """Measure, silence f, silence one more, and let them speak again."""
    telling.lesson(
        "The same protocol under omission and Byzantine quorums",
        shows="with at most f silent replicas every transfer becomes final; with more none does, and nothing false is.",
        assumes="omission: n > 2f and nobody lies. Byzantine: n > 3f, and f may do anything. Time only for liveness.",
        source="Chan and Pass, Simplex Consensus (2023); the real consensus core and ledger of this project run here.",
    )
    for model, replicas in SIZES:
        show(model, replicas)
    telling.part("What one command costs when nothing fails")
    compare()
    telling.conclusion(
        "a fault that lies costs one replica more than a fault that is silent, and masking either costs votes of a "
        "quorum to everybody. A group that needs all its members masks nothing: two replicas and two messages keep it "
        "safe, and when one fails it stops and asks a ledger that masks. Safety is cheaper than tolerance."
    )


def show(model: FaultModel, replicas: int) -> None:
    """One size: f silent, then f+1, then none."""
    ledger = Ledger((ALICE,), replicas=replicas, fault_model=model)
    f, q = ledger.genesis.replica_set.faults, ledger.quorum
    telling.part(f"{model}, n = {replicas}: f = {f}, q = {q}, two quorums share at least {2 * q - replicas}")
    silence(ledger, f)
    final = is_final(ledger, ledger.transfer(ALICE, BOB.public, 5))
    telling.step(f"{f} silent, the leader among them: the transfer is {_final(final)} after {ledger.now_ms} ms.")
    silence(ledger, f + 1)
    stuck = ledger.transfer(ALICE, BOB.public, 7)
    telling.step(f"{f + 1} silent: another one is {_final(is_final(ledger, stuck))} after {PATIENCE_MS} ms more.")
    silence(ledger, 0)
    start_ms = ledger.now_ms
    healed = ledger.run(PATIENCE_MS, lambda: ledger.output(stuck) is not None)
    telling.step(f"All speak again: it is {_final(healed)} {ledger.now_ms - start_ms} ms later.")
    split = contradiction(ledger.replicas)
    telling.step(f"Contradictions among final blocks: {'none' if split is None else f'at height {split[2]}'}.")


def compare() -> None:
    """Masking beside mere safety."""
    group = measure_group()
    rows: list[tuple[object, ...]] = [("group, all sign", 2, 0, 2, "-", group.messages, group.delays)]
    for model, replicas in SIZES:
        ledger = Ledger((ALICE,), replicas=replicas, fault_model=model)
        f, q, cost = ledger.genesis.replica_set.faults, ledger.quorum, measure(model, replicas)
        rows.append((f"ledger, {model}", replicas, f, q, 2 * q - replicas, cost.messages, cost.delays))
    telling.table(("what", "n", "masks", "quorum", "overlap", "messages", "delays"), rows)


def _final(final: bool) -> str:
    return "final" if final else "NOT final"


if __name__ == "__main__":
    main()
