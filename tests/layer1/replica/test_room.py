"""Rule 6: who leaves out what waits loses its term "while blocks had room", and not otherwise."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec
import pytest

from layer1.block import Batch, batch_digest
from layer1.codec import decode, encode
from layer1.consensus.certificates import Signer, notarization
from layer1.consensus.core import Consensus
from layer1.consensus.events import Now, Received
from layer1.consensus.messages import Nullify
from layer1.crypto import Hash
from layer1.errors import RemoteError
from layer1.header import BlockId
from layer1.ledger.transactions import Report, Transaction
from layer1.replica import events
from layer1.replica.application import Application, Part
from layer1.replica.batches import BatchStore
from layer1.replica.core import consensus_config
from layer1.replica.messages import BatchData, ConsensusMessage, LinkMessage
from layer1.replica.shares import PoolLimits
from layer1.replica.weight import BUILD_WEIGHT, Filling, block_weight
from layer1.replica.work import WorkWatch
from tests.layer1.replica.network import EPOCH_MS, GENESIS, KEYS, Network, Node, transfer

BLOCK = 5
"""Transactions of a block here."""
PARAMETERS = msgspec.structs.replace(
    GENESIS.parameters, term_views=64, view_timeout_ms=1_000, max_block_transactions=BLOCK
)
TIMEOUT_MS = PARAMETERS.inclusion_timeout_ms


def network(batch: int) -> tuple[Network, list[int]]:
    """Replicas that are 200 ms apart, with the views from which one of them nullified."""
    genesis = msgspec.structs.replace(GENESIS, parameters=PARAMETERS)
    net = Network(genesis=genesis, limits=PoolLimits(batch_transactions=batch))
    net.delay_ms = lambda: 200
    nullified: list[int] = []

    def hear(_sender: int, _receiver: int, data: bytes) -> bool:
        try:
            message: LinkMessage = decode(data, LinkMessage)  # type: ignore[arg-type]  # a union is not a type
        except RemoteError:
            return False
        if isinstance(message, ConsensusMessage) and isinstance(message.message, Nullify):
            nullified.append(message.message.start)
        return False

    net.lost = hear
    return net, nullified


@pytest.mark.slow
def test_a_backlog_costs_no_honest_leader_its_term() -> None:
    """Every block is full, and the youngest wait for longer than the inclusion timeout."""
    net, nullified = network(BLOCK)
    count = BLOCK * (TIMEOUT_MS // 200 + 20)
    net.submit(1, [transfer(genesis=net.genesis) for _ in range(count)])
    net.run_for(TIMEOUT_MS + 1_500)
    assert len(net.nodes[0].core.batches) > 0, "some still wait"
    assert not nullified
    net.run_until(lambda: not any(len(node.core.batches) for node in net.nodes))
    assert not nullified


def leaves_out(net: Network, takes: Callable[[Part], bool]) -> None:
    """The leader of the first term proposes only what it likes."""
    application = net.nodes[0].core.application
    choose = application._choose

    def picky(parent: BlockId, candidates: Iterable[Part]) -> tuple[Part, ...]:
        return choose(parent, [part for part in candidates if takes(part)])

    application._choose = picky  # type: ignore[method-assign]


@pytest.mark.slow
def test_whoever_leaves_something_out_although_there_is_room_loses_its_term() -> None:
    net, nullified = network(1)
    leader = net.nodes[0].core.consensus.leader
    assert leader == 0
    victim = transfer(genesis=net.genesis)
    leaves_out(net, lambda part: victim not in part.transactions)
    net.submit(1, [victim])
    for _ in range(TIMEOUT_MS // 500):
        net.submit(2, [transfer(genesis=net.genesis) for _ in range(BLOCK - 2)])
        net.run_for(500)
    assert net.heights()[0] > 5, "it proposes what others bring"
    assert not nullified
    net.run_until(lambda: bool(nullified), 2_000)
    net.run_until(lambda: all(victim.id in final(node) for node in net.nodes))


@pytest.mark.slow
def test_no_block_is_too_full_for_a_dispute() -> None:
    """It has room in every block, and a challenge period reckons with the inclusion timeout (groups.md, rule 18)."""
    net, nullified = network(BLOCK)
    report = Transaction(Report(bytes(32), None, None), 500_000, bytes(16))
    leaves_out(net, lambda part: report not in part.transactions)
    net.submit(1, [transfer(genesis=net.genesis) for _ in range(BLOCK * (TIMEOUT_MS // 200 + 20))])
    data = encode(BatchData(encode(Batch(1, (report,)))))
    for index in (0, 2, 3):
        net.step(index, events.FromPeer(1, data))
    net.run_for(TIMEOUT_MS // 2)
    assert net.heights()[0] > 5, "it fills its blocks with others"
    net.run_until(lambda: bool(nullified), TIMEOUT_MS // 2 + PARAMETERS.view_timeout_ms)
    net.run_until(lambda: all(report.id in final(node) for node in net.nodes), 4 * PARAMETERS.view_timeout_ms)
    assert any(len(node.core.batches) for node in net.nodes), "before what came earlier"


def test_nobody_slows_a_dispute_down_by_packing_it_with_something_else() -> None:
    """A batch with a transfer in it waits among transfers, so whoever is brought the dispute packs it again."""
    net, _ = network(BLOCK)
    net._failures = lambda _node, _effect: ()  # type: ignore[method-assign, assignment]  # of no group; but it looks good
    net.lost = lambda *_: True
    report = Transaction(Report(bytes(32), None, None), 500_000, bytes(16))
    slow = encode(Batch(1, (report, transfer(genesis=net.genesis))))
    node = net.nodes[2]
    net.step(2, events.FromPeer(1, encode(BatchData(slow))))
    net.run_for(10)
    for _ in range(2):
        net.submit(2, [report, *node.core.batches.get(batch_digest(slow)).transactions])  # type: ignore[union-attr]
        net.run_for(10)
        packed = [held.transactions for held in node.core.batches.pending() if held.packer == 2]
        assert packed == [(report,)], "once, and by itself"


def test_what_only_an_abandoned_block_holds_still_waits() -> None:
    """Of two blocks in one view, the one that was executed here lost: what is in it is work."""
    batches, application = BatchStore(PARAMETERS), Application(GENESIS)
    batch = Batch(1, (transfer(),))
    held = batches.add_own(encode(batch), batch, [batch.transactions[0].id], 0)
    watch, floor = WorkWatch(application, batches), application.floor
    part = Part(held.digest, held.encoded, held.transactions, held.weight)
    lost = application.build(1, 0, floor.header, EPOCH_MS + 1, [part])
    other = application.build(1, 0, floor.header, EPOCH_MS + 2, [])
    watch.executed(lost)
    watch.executed(other)
    consensus = Consensus(consensus_config(GENESIS, GENESIS.replica_set), KEYS[0], 0, floor.header)
    assert watch.news(consensus, Now(5, EPOCH_MS + 5)) == (), "as long as it may become the parent"
    votes = [Signer(consensus.config, KEYS[i], i).notarize(1, other.id) for i in range(consensus.config.quorum)]
    consensus.step(Received(1, notarization(votes, len(votes))), Now(6, EPOCH_MS + 6))
    assert consensus.view == 2
    assert [news.pending for news in watch.news(consensus, Now(6, EPOCH_MS + 6))] == [True]


def final(node: Node) -> set[Hash]:
    """What is final there."""
    return {transaction.id for block in node.delivered for transaction in block.transactions}


@pytest.mark.parametrize(
    ("transactions", "weight", "has_room"),
    [(1, 1, True), (BLOCK - 2, BLOCK - 2, True), (BLOCK - 1, BLOCK - 1, False)],
)
def test_what_has_room(transactions: int, weight: int, has_room: bool) -> None:
    filling = Filling(PARAMETERS)
    filling.add(2, 2)
    assert filling.takes(transactions, weight) == has_room


def test_the_first_batch_may_be_as_heavy_as_a_block_and_no_other() -> None:
    parameters = msgspec.structs.replace(PARAMETERS, max_block_transactions=2 * BUILD_WEIGHT)
    heavy = block_weight(parameters)
    assert heavy > BUILD_WEIGHT
    filling = Filling(parameters)
    assert filling.takes(1, heavy)
    assert not filling.takes(1, heavy + 1)
    filling.add(1, 1)
    assert not filling.takes(1, heavy)
    assert filling.takes(1, BUILD_WEIGHT - 1)
