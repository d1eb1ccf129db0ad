"""The driver that lessons run the real cores with: it is honest about time, costs and contradictions."""

from __future__ import annotations

import pytest

from examples.replication.ledger import DELAY_MS, FUNDS, Ledger, contradiction, key_of

ALICE, BOB, CAROL = (key_of(name) for name in ("alice", "bob", "carol"))


def test_a_transfer_is_final_on_all_replicas_after_three_delays() -> None:
    ledger = Ledger((ALICE,))
    ledger.run(100)
    start_ms = ledger.now_ms
    assert ledger.order(ledger.transfer(ALICE, BOB.public, 5)).code == "ok"
    assert ledger.now_ms - start_ms == 3 * DELAY_MS
    ledger.run(2 * DELAY_MS)
    assert [replica.state.balance(BOB.public) for replica in ledger.replicas] == [5] * 4
    assert len({replica.state.root for replica in ledger.replicas}) == 1


def test_what_was_cut_off_catches_up() -> None:
    ledger = Ledger((ALICE,))
    ledger.cut("012", "3")
    for _ in range(3):
        ledger.order(ledger.transfer(ALICE, BOB.public, 5))
    assert not ledger["3"].final
    ledger.cut()
    assert ledger.run(5_000, lambda: ledger["3"].state.balance(BOB.public) == 15)
    assert contradiction(ledger.replicas) is None


def test_a_ledger_without_quorum_says_so_and_a_refusal_is_an_answer() -> None:
    ledger = Ledger((ALICE,))
    assert ledger.order(ledger.transfer(ALICE, BOB.public, FUNDS + 1)).code == "insufficient_balance"
    ledger.muted = {"0", "1"}
    with pytest.raises(TimeoutError, match="3 replicas hear each other"):
        ledger.order(ledger.transfer(ALICE, BOB.public, 5), for_ms=10_000)


def test_an_output_of_f_replicas_alone_is_not_believed() -> None:
    ledger = Ledger((ALICE,))
    transaction = ledger.transfer(ALICE, BOB.public, 5)
    ledger.submit(transaction)
    assert ledger.run(1_000, lambda: sum(bool(replica.final) for replica in ledger.replicas) == 1)
    assert ledger.output(transaction) is None
    assert ledger.blocks() == []
    assert ledger.run(1_000, lambda: sum(bool(replica.final) for replica in ledger.replicas) >= 2)
    assert ledger.output(transaction) is not None
    assert [block.transactions for block in ledger.blocks()] == [(transaction,)]


def test_the_two_cores_of_a_traitor_have_one_voice() -> None:
    ledger = Ledger((ALICE,), twins=0)
    transaction = ledger.transfer(ALICE, BOB.public, 5)
    ledger.submit(transaction)
    assert ledger.run(1_000, lambda: bool(ledger["0a"].final))
    for replica in ledger.replicas:
        replica.final = ledger["0a"].final if replica.index == 0 else []
    assert ledger.output(transaction) is None
    assert ledger.blocks() == []


def test_two_final_blocks_at_one_height_are_found() -> None:
    one, other = Ledger((ALICE,)), Ledger((ALICE,))
    one.order(one.transfer(ALICE, BOB.public, 5))
    other.order(other.transfer(ALICE, CAROL.public, 5))
    found = contradiction([one["0"], other["0"]])
    assert found is not None
    assert found[2] == 1
