"""What can go wrong where one epoch ends and the next begins: crashes there, lost journals, and peers that lie."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from layer1.block import Batch
from layer1.codec import encode
from layer1.consensus.certificates import view_of
from layer1.consensus.core import NEVER
from layer1.consensus.messages import Fetch, Finalization, Finalize, Notarize, Nullify
from layer1.consensus.records import decode_record
from layer1.errors import RemoteError
from layer1.ledger.replicas import ChangeReplicas, SetChange, sign_change
from layer1.ledger.transactions import Transaction
from layer1.proof import Trust
from layer1.replica import checkpoints, events
from layer1.replica.catchup import CatchUpState
from layer1.replica.checkpoints import CheckpointPolicy
from layer1.replica.messages import BatchData, Blocks, ConsensusMessage, FinalBlock
from tests.layer1.replica.network import GENESIS, KEYS, Network, transfer
from tests.layer1.replica.test_epochs import carry_out, change, consensus_of, newest, pay
from tests.layer1.replica.test_rejoin import come_back, lose_everything, votes_of


def test_a_block_holds_one_change_of_the_set() -> None:
    """Its handover leads to the next epoch and no further: the second change, signed in advance, is for later."""
    network = Network()
    network.add()
    first = change(network, add=[4])
    agreed = SetChange(1, (), (0,), network.now_ms + 400_000)
    approvals = tuple((number, sign_change(agreed, GENESIS.chain_id, KEYS[number])) for number in range(5))
    second = Transaction(ChangeReplicas(agreed, approvals, ()), network.now_ms + 400_000, bytes(16))
    batch = encode(BatchData(encode(Batch(3, (first, second)))))  # no honest replica packs the second
    for receiver in (0, 1, 2):
        network.step(receiver, events.FromPeer(3, batch))
    network.run_until(lambda: all(node.core.config.epoch == 1 for node in network.nodes))
    pay(network, 1, 1)
    assert newest(network).numbers == (0, 1, 2, 3, 4)
    codes = [output.code for block in network.nodes[0].delivered for output in block.outputs]
    assert codes == ["ok", "wrong_epoch", "ok"]


def make_filler(network: Network, changing: Transaction | None = None, views: int = 3) -> None:
    """Change the set, while no finalize vote of the boundary and of so many views in all arrives."""
    first = [0]

    def lost(_sender: int, _receiver: int, data: bytes) -> bool:
        message = consensus_of(data)
        if not isinstance(message, Finalize) or message.epoch:
            return False
        first[0] = first[0] or message.view
        return 0 < message.view - first[0] <= views

    network.lost = lost
    network.delay_ms = lambda: 20  # so that the boundary is proposed while the block before it is not final
    network.submit(0, [transfer(genesis=network.genesis)])
    network.run_for(5)
    network.submit(0, [changing or change(network, remove=[3])])
    network.run_until(lambda: all(node.core.config.epoch == 1 for node in network.nodes))
    assert network.nodes[1].core.application.trust.handovers[0].head.path


def test_a_kill_between_a_checkpoint_at_the_boundary_and_the_shorter_journal() -> None:
    """What the old journal calls final lies in views behind the boundary's: it was filler, and is passed over."""
    genesis = replace(GENESIS, parameters=replace(GENESIS.parameters, term_views=64))
    network = Network(genesis=genesis, policy=CheckpointPolicy(blocks=1))
    network.checkpoint_ms = lambda: 10**9
    make_filler(network)
    node = network.nodes[1]
    floor = node.core.application.floor
    assert floor.is_boundary
    node.checkpoint = list(checkpoints.pieces(node.core.application.trust, floor))
    node.durable += node.buffer
    network.crash(1)
    network.start(1)
    assert node.core.config.epoch == 1
    assert node.core.application.floor.path == floor.path
    pay(network, 1, 2)


@pytest.mark.parametrize("epochs", [1, 2])
def test_who_lost_its_journal_votes_late_in_a_later_epoch_too(epochs: int) -> None:
    """It starts at genesis and passes through all epochs: from where it votes is not forgotten on the way."""
    network = Network(genesis=replace(GENESIS, parameters=replace(GENESIS.parameters, term_views=2)))
    network.add()
    carry_out(network, 0, add=[4])
    if epochs == 2:
        carry_out(network, 0, remove=[4])
    for expected in range(1, 4):
        pay(network, 0, expected)
    former = votes_of(2, network.nodes[2].history)
    lose_everything(network, 2)
    found = come_back(network, 2)
    assert found.epoch == epochs
    node = network.nodes[2]
    network.run_until(lambda: node.core.config.epoch == epochs)
    assert node.core.consensus.vote_from == found.vote_from
    for expected in range(4, 20):
        pay(network, 0, expected)
    since = votes_of(2, node.history) - former
    assert since
    assert all(vote.epoch == epochs and view_of(vote) >= found.vote_from for vote in since)


@pytest.mark.slow
def test_who_lost_its_journal_before_an_early_end_of_the_epoch_only_listens_until_it_asks_again() -> None:
    """The boundary lies below its first vote: it may have voted behind it, too, and then lost that."""
    network = Network(genesis=replace(GENESIS, parameters=replace(GENESIS.parameters, term_views=8)))
    network.add()
    pay(network, 0, 1)
    lose_everything(network, 2)
    found = come_back(network, 2)
    assert found.epoch == 0
    former = votes_of(2, network.nodes[2].history)
    carry_out(network, 0, add=[4])
    node = network.nodes[2]
    assert node.core.consensus.is_member
    assert node.core.is_fenced_off
    for expected in range(2, 20):
        pay(network, 0, expected)
    assert node.core.consensus.view > found.vote_from
    network.crash(2)
    network.start(2)
    network.run_until(lambda: node.core.config.epoch == 1)
    assert node.core.is_fenced_off
    assert votes_of(2, node.history) == former
    network.crash(2)
    found = come_back(network, 2)
    assert found.epoch == 1
    for expected in range(20, 40):
        pay(network, 0, expected)
    since = votes_of(2, node.history) - former
    assert since
    assert all(vote.epoch == 1 and view_of(vote) >= found.vote_from for vote in since)


def test_who_was_removed_and_lost_its_journal_votes_in_no_epoch_again() -> None:
    """It comes back as a listener, in the first epoch: there it is a member that does not know what it signed."""
    network = Network()
    network.add()
    pay(network, 0, 1)
    carry_out(network, 0, add=[4], remove=[2])
    former = votes_of(2, network.nodes[2].history)
    lose_everything(network, 2)
    network.run_for(100)
    assert come_back(network, 2).epoch == 1
    for peer in (0, 1, 3, 4):  # it stands alone in epoch 0 for a while
        network.lost = lambda sender, receiver, _data: 2 in {sender, receiver}
        network.run_for(3_000 * (peer == 0))
    assert network.nodes[2].core.config.epoch == 0
    network.lost = lambda _sender, _receiver, _data: False
    pay(network, 2, 2)
    assert votes_of(2, network.nodes[2].history) == former


def test_a_rebuilt_replica_remembers_its_votes_of_epochs_that_it_has_yet_to_reach() -> None:
    """The database lacks the boundary, and the journal, which was shortened, holds votes that were cast behind it."""
    network = Network(policy=CheckpointPolicy(blocks=1))
    network.add()
    make_filler(network, change(network, add=[4]))
    network.delay_ms = lambda: 1
    for expected in range(2, 5):
        pay(network, 0, expected)
    node = network.nodes[2]
    network.lost = lambda _sender, _receiver, data: isinstance(consensus_of(data), Finalize)
    network.submit(0, [transfer(genesis=network.genesis)])
    network.run_for(300)
    cast = votes_of(2, node.durable)
    behind = {vote for vote in cast if vote.epoch == 1 and view_of(vote) > node.core.consensus.last_final.view}
    assert behind
    network.crash(2)
    node.delivered, node.checkpoint = node.delivered[:1], None
    network.lost = lambda sender, receiver, _data: 2 in {sender, receiver}
    network.start(2, rebuild=True)
    assert node.core.config.epoch == 0
    assert node.core.consensus.vote_from == NEVER  # what it voted on filler is forgotten
    network.lost = lambda _sender, _receiver, _data: False
    network.run_until(lambda: node.core.config.epoch == 1)
    remembered = map(decode_record, node.core.consensus.checkpoint())
    assert behind <= {vote for vote in remembered if isinstance(vote, Notarize | Finalize | Nullify)}
    pay(network, 0, 6)


def test_filler_is_no_answer_to_who_is_behind() -> None:
    """It is certified, and leads nowhere: whoever sends it would be asked for more of it, for ever."""
    network = Network(genesis=replace(GENESIS, parameters=replace(GENESIS.parameters, term_views=64)))
    make_filler(network)
    trust = network.nodes[0].core.application.trust
    head = trust.handovers[0].head
    boundary, filler, finalization = head.header, head.path, head.finalization
    assert finalization is not None
    blocks = [FinalBlock(header, (), None) for header in filler]
    blocks[-1] = replace(blocks[-1], finalization=finalization)
    late = CatchUpState(trust, 9)
    late.aim(finalization.view + 9, 0, 0)
    assert late.request(boundary, 0)
    late.receive(0, Blocks(tuple(blocks)), boundary, 1)
    with pytest.raises(RemoteError, match="filler of epoch 0"):
        late.next_block(boundary)
    request = late.request(boundary, 1)
    assert request is not None
    assert request[0] != 0


def test_how_an_epoch_ended_is_not_told_to_and_fro() -> None:
    """Peers hold certificates of different signers: neither answers one with the other."""
    network = Network()
    carry_out(network, 0, remove=[3])
    network.run_for(1_000)
    core = network.nodes[0].core
    ended = core.application.trust.handovers[0].head.finalization
    assert ended is not None
    other = replace(ended, signatures=ended.signatures[::-1])

    def answers(message: Finalization | Fetch) -> int:
        event = events.FromPeer(1, encode(ConsensusMessage(0, message)))
        effects = core.step(event, network.now())
        return sum(isinstance(effect, events.Transmit) for effect in effects)

    assert answers(other) == 0
    assert answers(Fetch(None, 1, 1)) == 1
    assert answers(Fetch(None, 1, 1)) == 0  # not at once again
    network.run_for(1_000)
    assert answers(replace(ended, view=ended.view - 1)) == 1  # of a block below: its sender knows no more


def test_who_has_left_and_is_gone_is_asked_no_more() -> None:
    network = Network()
    network.add()
    trust = Trust(GENESIS)
    late = CatchUpState(trust, 0)
    late.meet(3)
    late.part(3)
    carry_out(network, 0, add=[4], remove=[3])
    trust.follow(network.nodes[0].core.application.trust.handovers[0])
    late.members_changed(0)
    late.aim(100, 0, 0)
    floor = network.nodes[0].core.application.floor.header
    asked = [late.request(floor, 10_000 * i) for i in range(6)]
    assert [peer for peer, _ in filter(None, asked)] == [1, 2, 4, 1, 2, 4]
