"""Four replica cores on a fake network: the whole replica but sockets, threads and disks."""

from __future__ import annotations

import msgspec
import pytest

from layer1.block import Batch
from layer1.codec import decode, encode
from layer1.consensus.events import Now
from layer1.consensus.messages import (
    Finalization,
    Finalize,
    Notarization,
    Notarize,
    Nullification,
    Nullify,
    Proposal,
)
from layer1.consensus.records import VoteFrom, encode_record
from layer1.crypto import SigningKey
from layer1.errors import LocalError, Refused
from layer1.ledger.genesis import genesis_header
from layer1.ledger.transactions import sign_transaction
from layer1.replica import events
from layer1.replica.core import _can_be_had_again
from layer1.replica.messages import BatchData, Blocks, BlocksRequest, LinkMessage
from layer1.replica.records import BatchRecord, Record
from layer1.replica.shares import PoolLimits
from tests.layer1.replica.network import ALICE, FUNDS, GENESIS, Network, named, signed, transfer


def message(data: bytes) -> LinkMessage:
    found: LinkMessage = decode(data, LinkMessage)  # type: ignore[arg-type]
    return found


def test_transfers_become_final_on_all_with_equal_roots() -> None:
    """ "q finalize votes: that block and all its ancestors are final; commit, deliver outputs."."""
    network = Network()
    for index in range(4):
        network.submit(index, [transfer() for _ in range(5)])
    network.run_until(network.everybody_has(20))
    network.check()
    roots = {node.core.application.floor.state.root for node in network.nodes}
    assert len(roots) == 1
    assert network.balances(ALICE) == {FUNDS - 20}


def test_a_lone_transfer_takes_four_message_delays() -> None:
    """ "Proposal to final 3 delta", and one for the batch to reach the leader."""
    network = Network()
    network.delay_ms = lambda: 10
    network.run_for(50)
    network.submit(0, [transfer()])
    start = network.now_ms
    network.run_until(lambda: network.nodes[0].core.application.floor.header.height == 1)
    assert network.now_ms - start <= 40


def test_every_replica_verifies_every_signature_once() -> None:
    """ "Each replica verifies every signature itself exactly once"."""
    network = Network()
    transactions = [transfer() for _ in range(10)]
    network.submit(0, transactions)
    network.run_for(3)
    network.submit(1, transactions)  # it has them from the batch of the first one
    network.run_until(network.everybody_has(10))
    assert [node.verified for node in network.nodes] == [10, 10, 10, 10]


def test_a_transaction_brought_to_all_executes_once() -> None:
    """ "A transaction appearing twice executes once."."""
    network = Network()
    again = transfer(7)
    for index in range(4):
        network.submit(index, [again])
    network.run_until(network.everybody_has(7))
    network.run_for(3_000)
    for index in range(4):
        network.submit(index, [again])  # final already: taken as known, not refused
    network.run_for(3_000)
    assert network.balances() == {7}
    network.check()


def test_a_bad_signature_is_refused_alone() -> None:
    """ "A bad signature in a submission: that transaction is refused, its waiter told."."""
    network = Network()
    good, bad = transfer(1), msgspec.structs.replace(transfer(5), signatures=(bytes(64),))
    network.submit(0, [good, bad])
    network.run_until(network.everybody_has(1))
    assert network.nodes[0].rejected[bad.id].code == "bad_signature"
    assert good.id not in network.nodes[0].rejected
    assert len(network.nodes[0].core.pool) == 0


def test_a_false_copy_does_not_shut_out_the_true_transaction() -> None:
    """The id does not cover the signatures: a false copy that comes first spoils nothing."""
    network = Network()
    true = transfer(3)
    false = msgspec.structs.replace(true, signatures=(bytes(64),))
    network.submit(0, [false])
    network.submit(0, [true])
    network.run_until(network.everybody_has(3))


@pytest.mark.parametrize("failures", [(), ((0, Refused("bad_signature", "false")),)])
def test_what_became_final_while_it_was_verified_is_neither_packed_nor_called_dead(
    failures: tuple[tuple[int, Refused], ...],
) -> None:
    """It was packed again, and its waiter was told at the end of its life span that it had expired."""
    network, paid = Network(), transfer(3, valid_until_ms=2_000)
    core = network.nodes[0].core
    (verify,) = [
        effect
        for effect in core.step(events.Submit(named([paid])), Now(0, network.genesis.wall_time))
        if isinstance(effect, events.Verify)
    ]
    network.submit(1, [paid])
    network.run_until(network.everybody_has(3))
    network.run_until(lambda: core.application.floor.header.clock > paid.valid_until_ms)
    network.step(0, events.Verified(verify.job, failures))
    assert len(core.pool) == 0 and not network.nodes[0].rejected


def test_a_batch_with_a_bad_signature_is_refused_whole_and_its_sender_counted() -> None:
    """ "A batch with a bad signature from a peer is refused whole and the peer counted."."""
    network = Network()
    batch = Batch(3, (transfer(), msgspec.structs.replace(transfer(), signatures=(bytes(64),))))
    data = encode(BatchData(encode(batch)))
    network.step(0, events.FromPeer(3, data))
    network.run_for(100)
    assert [fault.peer for fault in network.nodes[0].misbehaved] == [3]
    assert len(network.nodes[0].core.batches) == 0
    network.step(0, events.FromPeer(3, data))  # a second look costs no signature
    assert [fault.peer for fault in network.nodes[0].misbehaved] == [3, 3]
    assert network.nodes[0].verified == 2


def test_a_voter_that_lacks_a_batch_fetches_it() -> None:
    """ "A voter that lacks a batch fetches it by digest."."""
    network = Network()
    first = [2]

    def lose_two(_sender: int, receiver: int, data: bytes) -> bool:
        if receiver in (2, 3) and first[0] and isinstance(message(data), BatchData):
            first[0] -= 1
            return True
        return False

    network.lost = lose_two
    network.submit(0, [transfer()])
    network.run_until(network.everybody_has(1))
    assert first == [0]
    network.check()


def test_a_batch_that_one_replica_holds_alone_spreads_under_a_steady_leader() -> None:
    """Its packer lost it in a crash, links were down: nobody but its last holder knew of it until it expired."""
    steady = msgspec.structs.replace(GENESIS.parameters, term_views=64)
    network = Network(genesis=msgspec.structs.replace(GENESIS, parameters=steady))
    network.lost = lambda _sender, receiver, data: receiver != 3 and isinstance(message(data), BatchData)
    blank = transfer(7)
    signature = sign_transaction(blank, network.genesis.chain_id, ALICE)
    network.submit(1, [msgspec.structs.replace(blank, signatures=(signature,))])
    network.run_for(5)
    network.crash(1)
    network.start(1)
    network.lost = lambda _sender, _receiver, _data: False
    assert [len(node.core.batches) for node in network.nodes] == [0, 0, 0, 1]
    network.run_until(network.everybody_has(7), limit_ms=4_000)


def test_garbage_is_counted_and_changes_nothing() -> None:
    """ "`RemoteError` is dropped and counted."."""
    network = Network()
    before = network.nodes[0].core.application.floor
    for garbage in (b"", b"\xc1", bytes(300), encode((99, 1)), b"\x93"):
        network.step(0, events.FromPeer(1, garbage))
    assert len(network.nodes[0].misbehaved) == 5
    assert network.nodes[0].core.application.floor is before
    network.submit(0, [transfer()])
    network.run_until(network.everybody_has(1))


def test_blocks_from_who_was_never_asked_are_a_fault() -> None:
    """Late answers are none (test_catchup.py); but nobody else may make us decode as much as a link carries."""
    network = Network()
    network.step(0, events.FromPeer(1, encode(Blocks(()))))
    assert [(fault.peer, fault.blamed) for fault in network.nodes[0].misbehaved] == [(1, True)]


def test_the_others_go_on_without_one_and_it_catches_up() -> None:
    """ "A late replica jumps, fetches finalized blocks with certificates, checks, executes", and votes again."""
    network = Network()
    network.submit(0, [transfer()])
    network.run_until(network.everybody_has(1))
    network.crash(3)
    for _ in range(5):
        network.submit(1, [transfer() for _ in range(4)])
        network.run_for(700)
    network.run_until(network.everybody_has(21))
    network.start(3)
    network.run_until(network.everybody_has(21))
    network.crash(2)
    network.submit(0, [transfer(4)])
    network.run_until(network.everybody_has(25))
    network.check()


def test_far_behind_blocks_come_from_storage_in_pieces() -> None:
    """Older blocks than those in memory are loaded; an answer has a bounded number of them."""
    network = Network()
    network.crash(3)
    for _ in range(200):
        network.submit(0, [transfer()])
        height = network.heights()[0]
        network.run_until(lambda height=height: network.heights()[0] > height)  # type: ignore[misc]
    assert network.heights()[0] >= 200
    network.start(3)
    network.run_until(network.everybody_has(200))
    network.check()


def test_all_crash_and_nothing_final_is_lost() -> None:
    """ "A crash at any instruction loses nothing that was acknowledged."."""
    network = Network()
    for index in range(4):
        network.submit(index, [transfer() for _ in range(3)])
    network.run_until(lambda: any(block.transactions for block in network.nodes[0].delivered))
    acknowledged = {t.id for block in network.nodes[0].delivered for t in block.transactions}
    for index in range(4):
        network.crash(index)
    for index in range(4):
        network.start(index)
    network.run_until(lambda: all(acknowledged <= _executed(network, index) for index in range(4)))
    network.submit(2, [transfer(100)])
    network.run_until(lambda: min(network.balances()) >= 100)
    network.check()


def _executed(network: Network, index: int) -> set[bytes]:
    return {t.id for block in network.nodes[index].delivered for t in block.transactions}


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
def test_chaos_then_calm(seed: int) -> None:
    """A safety phase in which anything is lost and one replica at a time crashes, then a liveness phase."""
    network = Network(seed)
    chance = network.random
    network.delay_ms = lambda: chance.choice((1, 1, 2, 5, 40))
    network.lost = lambda *_: chance.random() < 0.15
    brought = 0
    for _ in range(25):
        index = chance.randrange(4)
        network.submit(index, [transfer() for _ in range(3)])
        brought += 3
        victim = chance.randrange(4)
        network.run_for(chance.randrange(100))
        network.crash(victim)
        network.run_for(chance.randrange(200))
        network.start(victim)
        network.check()
    network.lost = lambda *_: False
    network.run_for(15_000)
    network.submit(0, [transfer(1_000)])
    network.run_until(lambda: min(network.balances()) >= 1_000)
    network.run_until(lambda: len(network.balances()) == 1)
    network.check()
    assert max(network.balances()) <= brought + 1_000


@pytest.mark.parametrize("seed", [3])
def test_one_seed_gives_one_history(seed: int) -> None:
    """The whole replica is one deterministic machine."""

    def history() -> list[bytes]:
        network = Network(seed)
        network.delay_ms = lambda: network.random.choice((1, 3, 9))
        transactions = [signed(msgspec.structs.replace(transfer(), salt=bytes([i]) * 16), ALICE) for i in range(9)]
        for index, item in enumerate(transactions):
            network.submit(index % 4, [item])
            network.run_for(5)
        network.run_until(network.everybody_has(9))
        return [block.header.id for block in network.nodes[0].delivered]

    assert history() == history()


def test_a_replica_that_diverges_stops_with_a_report() -> None:
    """ "A replica whose root differs from a finalized header stops with a divergence report."."""
    network = Network()
    mallory = SigningKey(b"m" * 32)
    state = network.nodes[3].core.application.floor.state
    state._store.accounts[ALICE.public] -= 5  # a broken disk, a bug: what this replica believes is not the ledger
    state._store.accounts[mallory.public] = 5
    network.submit(0, [transfer()])
    network.run_until(lambda: network.nodes[3].failed is not None)
    report = str(network.nodes[3].failed)
    assert "diverge" in report and "root is" in report
    network.run_until(network.everybody_has(1))


def test_a_replica_that_diverges_while_catching_up_stops() -> None:
    network = Network()
    network.crash(3)
    network.submit(0, [transfer()])
    network.run_until(network.everybody_has(1))
    network.start(3)
    network.nodes[3].core.application.floor.state._store.accounts[ALICE.public] -= 5
    network.run_until(lambda: network.nodes[3].failed is not None)
    assert "diverge" in str(network.nodes[3].failed)


def test_a_full_pool_refuses_and_says_so() -> None:
    """ "A full pool answers 429"."""
    network = Network(limits=PoolLimits(transactions=10, reserved=2))
    for index in (1, 2, 3):
        network.crash(index)
    network.submit(0, [transfer() for _ in range(8)])
    with pytest.raises(Refused, match="at most 8") as caught:
        network.nodes[0].core.step(events.Submit(named([transfer()])), _now(network))
    assert caught.value.code == "pool_full"


def _now(network: Network) -> Now:
    return Now(network.now_ms, network.now_ms)


def test_an_expired_transaction_is_told_to_its_waiter() -> None:
    """After `valid_until` a client knows that an unseen transaction is dead."""
    network = Network()
    for index in (1, 2, 3):
        network.crash(index)  # nothing becomes final
    doomed = transfer(valid_until_ms=2_000)
    network.submit(0, [doomed])
    network.run_for(100)
    network.lost = lambda _sender, _receiver, data: isinstance(message(data), BatchData)
    node = network.nodes[0]
    node.core.batches.remove([held.digest for held in node.core.batches.pending()])
    for index in (1, 2, 3):
        network.start(index)
    network.run_until(lambda: doomed.id in node.rejected)
    assert node.rejected[doomed.id].code == "expired"


def test_an_idle_ledger_makes_heartbeats_only() -> None:
    """ "When idle, the leader proposes an empty heartbeat block every `heartbeat`"."""
    network = Network()
    network.run_for(10_500)
    assert 8 <= network.heights()[0] <= 11
    assert all(not block.transactions for block in network.nodes[0].delivered)
    network.check()


@pytest.mark.parametrize("term_views", [1, 3, 8, 64])
def test_nothing_is_said_between_two_heartbeats(term_views: int) -> None:
    """Rule 9: "an idle ledger is silent but for heartbeats", with all that a replica says beside consensus."""
    parameters = msgspec.structs.replace(GENESIS.parameters, term_views=term_views)
    network = Network(genesis=(ledger := msgspec.structs.replace(GENESIS, parameters=parameters)))
    said: list[int] = []

    def listen(_sender: int, _receiver: int, _data: bytes) -> bool:
        said.append(network.now_ms)
        return False

    network.submit(1, [transfer(genesis=ledger)])
    network.run_until(network.everybody_has(1))
    network.run_for(1_500)
    network.lost = listen
    begun = network.heights()[0]
    network.run_for(10_000)
    heartbeats = network.heights()[0] - begun
    assert 9 <= heartbeats <= 10
    assert len(set(said)) <= heartbeats * 10, "some delays of a millisecond for each, and silence"
    assert len(said) <= heartbeats * (3 + 9 + 12 + 12 + 12)


def test_a_replica_alone_does_not_fill_views_with_empty_blocks() -> None:
    """With n = 1 every vote is a quorum: the leader must hear that nothing is pending before it votes."""
    alone = msgspec.structs.replace(GENESIS, replicas=GENESIS.replicas[:1])
    network = Network(genesis=alone)
    unsigned = msgspec.structs.replace(transfer(), signatures=())
    signature = sign_transaction(unsigned, alone.chain_id, ALICE)
    network.submit(0, [msgspec.structs.replace(unsigned, signatures=(signature,))])
    network.run_until(network.everybody_has(1))
    network.run_for(500)
    assert network.heights() == [1]


def test_blocks_requests_are_answered_up_to_the_head() -> None:
    network = Network()
    network.submit(0, [transfer()])
    network.run_until(network.everybody_has(1))
    core = network.nodes[0].core
    effects = core.step(events.FromPeer(1, encode(BlocksRequest(1))), _now(network))
    sent = [effect for effect in effects if isinstance(effect, events.Transmit)]
    answer = message(sent[0].data)
    assert isinstance(answer, Blocks)
    assert answer.blocks[-1].header.height == network.heights()[0]


def test_a_journal_of_another_ledger_is_refused() -> None:
    network = Network()
    network.submit(0, [transfer()])
    network.run_until(network.everybody_has(1))
    node = network.nodes[0]
    node.durable += node.buffer
    node.genesis = msgspec.structs.replace(GENESIS, salt=b"x" * 16)
    with pytest.raises(LocalError, match="lacks the parent"):
        node.restart()


def test_a_journal_without_a_batch_is_refused() -> None:
    """ "Any other damage stops the replica with an explanation."."""
    network = Network()
    network.submit(0, [transfer()])
    network.run_until(network.everybody_has(1))
    node = network.nodes[0]
    records: list[Record] = [decode(data, Record) for data in node.durable + node.buffer]  # type: ignore[arg-type]
    node.durable = [encode(record) for record in records if not isinstance(record, BatchRecord)]
    with pytest.raises(LocalError, match="lacks a batch"):
        node.restart()


def test_votes_wait_for_a_sync_and_certificates_do_not() -> None:
    """Own votes and proposals bind; a certificate can be had again, and is durable with the next vote."""
    votes = (Notarize(0, 1, bytes(32), 0, bytes(64)), Finalize(0, 1, bytes(32), 0, bytes(64)), Nullify(0, 1, 0, b""))
    certificates = (Notarization(0, 1, bytes(32), ()), Finalization(0, 1, bytes(32), ()), Nullification(0, 1, ()))
    assert [_can_be_had_again(encode_record(record)) for record in votes] == [False] * 3
    assert [_can_be_had_again(encode_record(record)) for record in certificates] == [True] * 3
    vote = Notarize(0, 1, bytes(32), 0, bytes(64))
    assert not _can_be_had_again(encode_record(Proposal(genesis_header(GENESIS), (), vote, ())))
    assert not _can_be_had_again(encode_record(VoteFrom(1)))
