"""Verification in turns, and allowances: no peer can make the others wait."""

from __future__ import annotations

from layer1.ledger.state import State
from layer1.ledger.transactions import Transaction
from layer1.replica.events import Verify
from layer1.replica.jobs import Job, Jobs
from layer1.replica.mempool import check_entry
from layer1.replica.serving import BURST_BYTES, BYTES_PER_S, LEAST_BYTES, Allowances
from tests.layer1.replica.network import BOB, GENESIS, signed, transfer

STATE = State.genesis(GENESIS)


def job(number: int, *transactions: Transaction, source: int = 3, rehearse: bool = False) -> Job:
    return Job(Verify(number, transactions or (transfer(),), source, rehearse))


def check(transaction: Transaction, rehearse: bool) -> None:
    check_entry(STATE, transaction, GENESIS.chain_id, rehearsed=rehearse)


def order(jobs: Jobs) -> list[int]:
    found = []
    while jobs:
        found.append(jobs.first().effect.job)
        jobs.done()
    return found


def test_sources_take_turns() -> None:
    """A peer may leave thousands of batches here; those of the others came behind all of them."""
    jobs = Jobs()
    for number in range(5):
        jobs.put(job(number, source=3))
    jobs.put(job(10, source=1))
    jobs.put(job(20, source=0))
    jobs.put(job(21, source=0))
    assert len(jobs) == 8
    assert order(jobs) == [0, 10, 20, 1, 21, 2, 3, 4]
    assert len(jobs) == 0


def test_a_long_job_gives_way_after_its_slice() -> None:
    jobs = Jobs()
    jobs.put(job(1, source=3))
    jobs.put(job(2, source=1))
    jobs.pass_turn()
    assert jobs.first().effect.job == 2
    jobs.pass_turn()
    assert jobs.first().effect.job == 1


def test_what_a_proposal_waits_for_is_next() -> None:
    jobs = Jobs()
    for number in range(4):
        jobs.put(job(number, source=number % 2))
    jobs.hurry(3)
    jobs.hurry(99)
    jobs.pass_turn()
    assert order(jobs) == [3, 0, 1, 2]


def forged() -> Transaction:
    return signed(transfer(), BOB)


def test_a_bad_batch_is_not_verified_to_its_end() -> None:
    """It is bad as a whole; our own clients' transactions are judged one by one."""
    batch, own = job(1, forged(), transfer(), forged()), job(2, forged(), transfer(), forged(), rehearse=True)
    for each in (batch, own):
        while each.left:
            each.verify_next(check)
    assert [position for position, _ in batch.failures] == [0]
    assert [position for position, _ in own.failures] == [0, 2]


def test_an_allowance_is_used_up_and_refills() -> None:
    allowances = Allowances()
    assert allowances.has(1, 0)
    allowances.use(1, BURST_BYTES + BYTES_PER_S, 0)
    assert not allowances.has(1, 1_000)
    assert allowances.has(1, 1_001)
    assert allowances.has(2, 0)


def test_questions_without_an_answer_count_too() -> None:
    allowances, asked = Allowances(), 0
    while allowances.has(1, 0):
        allowances.use(1, 0, 0)
        asked += 1
    assert asked == BURST_BYTES / LEAST_BYTES
