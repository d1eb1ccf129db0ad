"""Every checker takes a real run, and fails on what it is there to find."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from msgspec import structs

from layer1.block import CommittedBlock
from layer1.codec import encode
from layer1.consensus.certificates import Signer, Vote
from layer1.consensus.messages import Finalization
from layer1.errors import LocalError, Refused
from layer1.header import Header
from layer1.ledger.genesis import genesis_header
from layer1.ledger.replicas import ReplicaSet
from layer1.replica.core import consensus_config
from layer1.replica.messages import ConsensusMessage
from layer1.replica.records import ConsensusRecord
from tests.simulation.checkers import CHECKERS
from tests.simulation.checkers.agreement import Agreement
from tests.simulation.checkers.base import Checker, Read, Violation, Write
from tests.simulation.checkers.conservation import Conservation
from tests.simulation.checkers.exactly_once import ExactlyOnce
from tests.simulation.checkers.honest_votes import HonestVotes
from tests.simulation.checkers.innocence import Innocence
from tests.simulation.checkers.linearizable import Linearizable
from tests.simulation.checkers.liveness import RECONNECT_MS, Liveness, bound_ms
from tests.simulation.checkers.ranges import Standing
from tests.simulation.checkers.reference import Reference
from tests.simulation.checkers.roots import CertifiedRoots
from tests.simulation.checkers.steadfast import Steadfast
from tests.simulation.checkers.validity import Validity
from tests.simulation.ledger import PEOPLE, genesis, replica_key
from tests.simulation.scenario import Options, Scenario

GENESIS = genesis(4, 1)
HONEST = (0, 1, 2)


@pytest.fixture(scope="module")
def chain() -> list[CommittedBlock]:
    """The final blocks of an undisturbed run."""
    scenario = Scenario(Options(seed=1, duration_ms=1_500))
    blocks: list[CommittedBlock] = []
    scenario.replicas[0].on_final.append(lambda _replica, block: blocks.append(block))
    assert not scenario.run().error
    assert sum(len(block.transactions) for block in blocks) > 10
    return blocks


def child(before: Header, **changes: object) -> Header:
    header = structs.replace(before, height=before.height + 1, view=before.view + 1, parent=before.id)
    return structs.replace(header, **changes)


def block(header: Header) -> CommittedBlock:
    return CommittedBlock(header, Finalization(0, header.view, header.id, ()), (), (), (), ())


def expect(checker: Checker, message: str) -> pytest.RaisesExc[Violation]:
    return pytest.raises(Violation, match=f"{checker.name}: .*{message}")


def deliver(checker: Checker, blocks: list[CommittedBlock]) -> None:
    for one in blocks:
        checker.delivered("a", 0, one)


def changed(blocks: list[CommittedBlock], place: int, **changes: object) -> list[CommittedBlock]:
    """The same with another block at this place."""
    return [*blocks[:place], structs.replace(blocks[place], **changes), *blocks[place + 1 :]]


def busy(blocks: list[CommittedBlock]) -> int:
    """Where a block with a transaction is."""
    return next(place for place, one in enumerate(blocks) if one.transactions)


def submit_all(checker: Checker, blocks: list[CommittedBlock]) -> None:
    for one in blocks:
        for transaction in one.transactions:
            checker.submitted(transaction)


FIRST = child(genesis_header(GENESIS))
SECOND = child(FIRST)

# --------------------------------------------------------------------------------------------------------- agreement


def test_agreement_takes_one_chain() -> None:
    checker = Agreement(GENESIS, HONEST)
    for name in ("a", "b"):
        for header in (FIRST, SECOND):
            checker.delivered(name, 0, block(header))
    checker.restored("a", 0, [block(FIRST)], 1)
    checker.delivered("a", 0, block(SECOND))


@pytest.mark.parametrize(
    ("headers", "why"),
    [
        ([child(genesis_header(GENESIS), view=9)], "others"),
        ([SECOND], "block 1 is next"),
        ([FIRST, FIRST], "block 2 is next"),
        ([FIRST, SECOND, child(SECOND, parent=FIRST.id)], "another parent"),
    ],
)
def test_agreement_finds_forks_and_gaps(headers: list[Header], why: str) -> None:
    checker = Agreement(GENESIS, HONEST)
    checker.delivered("a", 0, block(FIRST))
    with expect(checker, why):
        for header in headers:
            checker.delivered("b", 1, block(header))


def test_agreement_finds_two_sets_of_one_epoch() -> None:
    checker = Agreement(GENESIS, HONEST)
    first, second = GENESIS.replica_set, following(GENESIS.replica_set)
    checker.entered("a", 0, [first, second])
    checker.entered("b", 1, [first])
    assert checker.reference.sets == [first, second]
    with expect(checker, "epoch 1 is of"):
        checker.entered("b", 1, [first, structs.replace(second, next_number=9)])


def following(before: ReplicaSet) -> ReplicaSet:
    """The same without replica 0."""
    return structs.replace(before, epoch=before.epoch + 1, seats=before.seats[1:])


# ------------------------------------------------------------------------------------------------ what blocks contain


@pytest.mark.parametrize("kind", CHECKERS)
def test_a_real_run_passes(kind: Callable[..., Checker], chain: list[CommittedBlock]) -> None:
    checker = kind(GENESIS, HONEST)
    submit_all(checker, chain)
    for replica in HONEST:
        for one in chain:
            checker.delivered(str(replica), replica, one)
    checker.healed(0, 500, 1)
    checker.finish(0)


@pytest.mark.parametrize("field", ["state_root", "outputs_root", "transactions_root", "clock"])
def test_certified_roots_are_those_of_a_replay(chain: list[CommittedBlock], field: str) -> None:
    checker = CertifiedRoots(GENESIS, HONEST)
    header = chain[0].header
    value = getattr(header, field)
    wrong = structs.replace(header, **{field: value + 1 if isinstance(value, int) else bytes(32)})
    with expect(checker, field.replace("_", " ")):
        deliver(checker, changed(chain, 0, header=wrong))


def test_certified_roots_need_a_certificate(chain: list[CommittedBlock]) -> None:
    checker = CertifiedRoots(GENESIS, HONEST)
    forged = structs.replace(chain[0].finalization, signatures=tuple((i, bytes(64)) for i in range(3)))
    with expect(checker, "certificate"):
        deliver(checker, changed(chain, 0, finalization=forged, path=()))


def test_conservation_finds_money_that_appeared(chain: list[CommittedBlock]) -> None:
    reference = Reference(GENESIS)
    for one in chain:
        reference.take(one)
    point = reference.points[1]
    reference.points[1] = replace(point, total_units=point.total_units + 1)
    checker = Conservation(GENESIS, HONEST, reference)
    with expect(checker, "units"):
        deliver(checker, chain)


def test_validity_finds_what_nobody_submitted(chain: list[CommittedBlock]) -> None:
    checker = Validity(GENESIS, HONEST)
    with expect(checker, "nobody submitted"):
        deliver(checker, chain)


def test_validity_finds_what_nobody_signed(chain: list[CommittedBlock]) -> None:
    place = busy(chain)
    first, *others = chain[place].transactions
    forged = structs.replace(first, signatures=(bytes(64),) * len(first.signatures))
    spoiled = changed(chain, place, transactions=(forged, *others))
    checker = Validity(GENESIS, HONEST)
    submit_all(checker, spoiled)
    with expect(checker, "not by account"):
        deliver(checker, spoiled)


def test_exactly_once_finds_what_executes_again(chain: list[CommittedBlock]) -> None:
    place = busy(chain)
    later = structs.replace(chain[-1], header=child(chain[-1].header), outputs=chain[place].outputs)
    checker = ExactlyOnce(GENESIS, HONEST)
    with expect(checker, "executes in blocks"):
        deliver(checker, [*chain, later])


def test_exactly_once_finds_a_dead_transaction_alive(chain: list[CommittedBlock]) -> None:
    name = chain[busy(chain)].outputs[0].transaction_id
    before, after = ExactlyOnce(GENESIS, HONEST), ExactlyOnce(GENESIS, HONEST)
    before.rejected(0, [name], Refused("expired", ""))
    with expect(before, "called it dead"):
        deliver(before, chain)
    deliver(after, chain)
    after.rejected(0, [name], Refused("pool_full", ""))  # says nothing of its fate
    with expect(after, "dead"):
        after.rejected(0, [name], Refused("expired", ""))


def test_exactly_once_finds_a_false_answer(chain: list[CommittedBlock]) -> None:
    place = busy(chain)
    name, wrong = chain[place].outputs[0].transaction_id, child(chain[-1].header)
    checker = ExactlyOnce(GENESIS, HONEST)
    deliver(checker, chain)
    checker.answered(Write("c", name, 0, 1, "ok", chain[place].header))
    checker.finish(0)
    checker.answered(Write("c", name, 0, 1, "ok", wrong))
    with expect(checker, "was told"):
        checker.finish(0)


# -------------------------------------------------------------------------------------------------------------- reads


def read(at: CommittedBlock, invoked_us: int, answered_us: int, balance: int) -> Read:
    return Read("c", PEOPLE[0].public, invoked_us, answered_us, balance, at.header)


def test_reads_are_linearizable(chain: list[CommittedBlock]) -> None:
    reference = Reference(GENESIS)
    for one in chain:
        reference.take(one)
    balance = [point.balances[PEOPLE[0].public] for point in reference.points]
    checker = Linearizable(GENESIS, HONEST, reference)
    checker.answered(read(chain[0], 0, 10, balance[1]))
    checker.answered(read(chain[2], 5, 20, balance[3]))
    checker.answered(read(chain[1], 15, 30, balance[2]))  # overlaps the one before: may be older
    checker.finish(0)
    with expect(checker, "takes effect at height 1"):
        checker.answered(read(chain[0], 21, 40, balance[1]))
    wrong = Linearizable(GENESIS, HONEST, reference)
    wrong.answered(read(chain[0], 0, 10, balance[1] + 1))
    with expect(wrong, "a replay gives"):
        wrong.finish(0)
    fork = Linearizable(GENESIS, HONEST, reference)
    fork.answered(read(block(child(genesis_header(GENESIS), view=77)), 0, 10, balance[1]))
    with expect(fork, "not of the chain"):
        fork.finish(0)


# -------------------------------------------------------------------------------------------------------------- votes

BASE = consensus_config(genesis(4, 8), genesis(4, 8).replica_set)
SIGNER = Signer(BASE, replica_key(0), 0)
ONE, OTHER = bytes(32), b"x" * 32


@pytest.mark.parametrize(
    ("votes", "why"),
    [
        ([SIGNER.notarize(3, ONE), SIGNER.notarize(3, OTHER)], "notarized two"),
        ([SIGNER.finalize(3, ONE), SIGNER.finalize(3, OTHER)], "finalized two"),
        ([SIGNER.nullify(2), SIGNER.finalize(3, ONE)], "finalized view 3 after nullifying from 2"),
        ([SIGNER.finalize(3, ONE), SIGNER.nullify(2)], "nullified from 2 on after finalizing view 3"),
        ([SIGNER.nullify(2), SIGNER.nullify(3)], "nullified twice"),
    ],
)
def test_honest_votes_finds_contradictions(votes: list[Vote], why: str) -> None:
    checker = HonestVotes(genesis(4, 8), HONEST)
    checker.synced("a", 0, [encode(ConsensusRecord(encode(vote))) for vote in votes])
    with expect(checker, why):
        for vote in votes:
            checker.sent("a", 0, encode(ConsensusMessage(0, vote)))


def test_honest_votes_takes_what_rule_5_allows() -> None:
    checker = HonestVotes(genesis(4, 8), HONEST)
    votes: list[Vote] = [SIGNER.nullify(4), SIGNER.finalize(3, ONE), SIGNER.notarize(4, ONE), SIGNER.finalize(8, ONE)]
    checker.synced("a", 0, [encode(ConsensusRecord(encode(vote))) for vote in votes])
    for vote in (*votes, *votes):
        checker.sent("a", 0, encode(ConsensusMessage(0, vote)))
    checker.sent("a", 1, encode(ConsensusMessage(0, votes[0])))  # relays another's


def test_honest_votes_finds_what_left_before_it_was_durable() -> None:
    checker = HonestVotes(genesis(4, 8), HONEST)
    with expect(checker, "not durable"):
        checker.sent("a", 0, encode(ConsensusMessage(0, SIGNER.notarize(3, ONE))))


def test_honest_votes_are_cast_by_position_in_their_epoch() -> None:
    """Replica 1 is the first of epoch 1: what it said in epoch 0 binds it there."""
    second = following(genesis(4, 8).replica_set)
    checker = HonestVotes(genesis(4, 8), HONEST)
    checker.reference.sets.append(second)
    config = consensus_config(genesis(4, 8), second)
    votes = [Signer(BASE, replica_key(1), 1).notarize(4, ONE), Signer(config, replica_key(1), 0).notarize(4, OTHER)]
    checker.synced("b", 1, [encode(ConsensusRecord(encode(vote))) for vote in votes])
    for vote in votes:
        checker.sent("b", 1, encode(ConsensusMessage(vote.epoch, vote)))
    with expect(checker, "not durable"):
        checker.sent("b", 1, encode(ConsensusMessage(1, Signer(config, replica_key(1), 0).notarize(5, OTHER))))


def test_honest_votes_finds_a_listener_that_votes() -> None:
    checker = HonestVotes(GENESIS, HONEST)
    vote = Signer(BASE, replica_key(4), 4).nullify(1)
    with expect(checker, "a vote of nobody in epoch 0"):
        checker.sent("e", 4, encode(ConsensusMessage(0, vote)))


def test_ranges_begin_anew_with_an_epoch_and_never_in_one_that_is_over() -> None:
    standing = Standing(BASE)
    later = consensus_config(GENESIS, following(GENESIS.replica_set))
    assert not standing.read(encode(Finalization(0, 9, ONE, ())))
    assert standing.view == 10
    assert "stands in view 10" in standing.read(encode(SIGNER.nullify(9)))
    assert not standing.read(encode(Signer(later, replica_key(1), 0).nullify(8)))  # views of filler come again
    assert not standing.read(encode(Finalization(0, 12, ONE, ())))
    assert "epoch 0 is over" in standing.read(encode(SIGNER.nullify(20)))


# ---------------------------------------------------------------------------------------- liveness, innocence, stops


def test_liveness_waits_for_every_honest_replica(chain: list[CommittedBlock]) -> None:
    place = busy(chain)
    promised = chain[place].transactions[0]
    checker = Liveness(GENESIS, HONEST)
    checker.healed(0, 500, 1)
    checker.promised(promised)
    assert checker.bound_us > 0
    for replica in HONEST[:-1]:
        checker.delivered(str(replica), replica, chain[place])
    with expect(checker, "not final at replica 2"):
        checker.finish(checker.bound_us)
    checker.away = {2}
    checker.finish(checker.bound_us)
    checker.away = set()
    checker.delivered("2", 2, chain[place])
    checker.finish(checker.bound_us)


def test_liveness_takes_what_is_dead_or_was_refused(chain: list[CommittedBlock]) -> None:
    dead = structs.replace(chain[busy(chain)].transactions[0], valid_until_ms=1)
    refused = structs.replace(dead, valid_until_ms=10**9)
    checker = Liveness(GENESIS, HONEST)
    checker.healed(0, 500, 1)
    checker.promised(dead)
    checker.promised(refused)
    for replica in HONEST:
        checker.delivered(str(replica), replica, chain[-1])
    assert len(list(checker.unsettled())) == len(HONEST)
    checker.excused(refused.id)
    checker.finish(1)


def test_liveness_needs_a_healed_network() -> None:
    checker = Liveness(GENESIS, HONEST)
    with expect(checker, "never healed"):
        checker.finish(1)


def test_the_bound_of_liveness_grows_with_the_timeout_and_the_traitors() -> None:
    config = consensus_config(GENESIS, GENESIS.replica_set)
    assert bound_ms(config, 500, 0) == RECONNECT_MS + 500 + 1_000 + 8_000
    assert bound_ms(config, 500, 1) == bound_ms(config, 500, 0) + 2_000 + config.inclusion_timeout_ms
    assert bound_ms(config, 30_000, 0) == RECONNECT_MS + 2 * config.max_view_timeout_ms + 8_000


def test_innocence_finds_accusations_among_the_honest() -> None:
    checker = Innocence(GENESIS, HONEST)
    checker.misbehaved(0, 3, "it is Byzantine")
    with expect(checker, "replica 0 accuses 1"):
        checker.misbehaved(0, 1, "late")


def test_steadfast_finds_replicas_that_stop() -> None:
    checker = Steadfast(GENESIS, HONEST)
    with expect(checker, "replica 1 .* diverged"):
        checker.failed(1, LocalError("diverged"))


@pytest.mark.slow
def test_a_network_that_refuses_everything_is_not_live(monkeypatch: pytest.MonkeyPatch) -> None:
    """A refusal ends a transaction only if it says what is wrong with that one."""

    class Refusing(Scenario):
        def liveness_phase(self) -> int:
            for replica in self.honest:
                monkeypatch.setattr(replica.core.pool, "take", refuse)
            return super().liveness_phase()

    def refuse(*_: object) -> None:
        raise Refused("pool_full", "as ever")

    assert "Violation: Liveness" in Refusing(Options(seed=1, duration_ms=1_500)).run().error
