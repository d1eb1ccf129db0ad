"""The replica set changes while the ledger runs: one chain, nothing lost, and whoever leaves is not needed."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from msgspec.structs import replace

from layer1.codec import decode
from layer1.consensus.messages import Finalize, Message
from layer1.errors import RemoteError
from layer1.ledger.replicas import ChangeReplicas, ReplicaSet, SetChange, sign_change
from layer1.ledger.transactions import Transaction
from layer1.merkle import list_root
from layer1.proof import HeadProof, Trust, verify_head
from layer1.replica.application import Part
from layer1.replica.checkpoints import CheckpointPolicy
from layer1.replica.messages import ConsensusMessage, LinkMessage
from tests.layer1.replica.network import GENESIS, KEYS, Network, transfer


def change(
    network: Network, add: Sequence[int] = (), remove: Sequence[int] = (), by: Sequence[int] | None = None
) -> Transaction:
    """Approved by all members, or by these."""
    current = newest(network)
    agreed = SetChange(current.epoch, tuple(KEYS[i].public for i in add), tuple(remove), network.now_ms + 400_000)
    members = current.numbers if by is None else by
    chain_id = network.genesis.chain_id
    approvals = tuple((number, sign_change(agreed, chain_id, KEYS[number])) for number in members)
    acceptances = tuple(sign_change(agreed, chain_id, KEYS[i]) for i in add)
    salt = network.random.randbytes(16)
    return Transaction(ChangeReplicas(agreed, approvals, acceptances), network.now_ms + 400_000, salt)


def newest(network: Network) -> ReplicaSet:
    return max((node.core.application.replica_set for node in network.alive()), key=lambda found: found.epoch)


def carry_out(network: Network, at: int, add: Sequence[int] = (), remove: Sequence[int] = ()) -> None:
    """Change the set, and wait until all that run are in the new epoch."""
    epoch = newest(network).epoch + 1
    network.submit(at, [change(network, add, remove)])
    network.run_until(lambda: all(node.core.config.epoch == epoch for node in network.alive()))


def pay(network: Network, at: int, expected: int) -> None:
    """One more payment, which all that run must execute."""
    network.submit(at, [transfer(valid_until_ms=network.now_ms + 400_000, genesis=network.genesis)])
    network.run_until(network.everybody_has(expected))
    network.check()


def test_a_replica_is_added_and_its_vote_counts() -> None:
    network = Network()
    pay(network, 0, 1)
    assert network.add() == 4
    carry_out(network, 0, add=[4])
    assert newest(network).numbers == (0, 1, 2, 3, 4)
    pay(network, 2, 2)
    network.crash(1)  # n = 5, q = 4: without the new one there is no quorum
    pay(network, 4, 3)
    assert network.nodes[4].core.consensus.is_member


def test_a_replica_is_removed_and_is_not_needed() -> None:
    network = Network()
    pay(network, 0, 1)
    carry_out(network, 1, remove=[0])
    assert newest(network).numbers == (1, 2, 3)
    pay(network, 2, 2)  # the one that left goes on listening, and takes part in this
    assert not network.nodes[0].core.consensus.is_member
    network.crash(0)
    pay(network, 2, 3)  # n = 3, q = 3: all that remain, and nobody else


def test_who_listens_never_votes() -> None:
    network = Network()
    network.add()
    carry_out(network, 0, remove=[3])
    heard: list[int] = []

    def listen(sender: int, _receiver: int, data: bytes) -> bool:
        message = consensus_of(data)
        if sender in {3, 4} and hasattr(message, "signature"):
            heard.append(sender)
        return False

    network.lost = listen
    for expected in range(1, 6):
        pay(network, expected % 5, expected)
    assert heard == []


def test_a_key_is_rotated() -> None:
    """Adding one and removing one; both may be the same machine."""
    network = Network()
    network.add()
    carry_out(network, 0, add=[4], remove=[0])
    assert newest(network).numbers == (1, 2, 3, 4)
    network.crash(0)
    pay(network, 4, 1)


def test_all_leave_one_after_the_other_and_a_newcomer_follows_from_genesis() -> None:
    """However many sets there were: it is told how each epoch ended, by whoever it reaches."""
    network = Network()
    for number in range(4):
        assert network.add() == 4 + number
        carry_out(network, 1 + number, add=[4 + number], remove=[number])
        pay(network, 4 + number, number + 1)
    assert newest(network).numbers == (4, 5, 6, 7)
    for number in range(4):
        network.crash(number)
    assert network.add() == 8
    network.run_until(network.everybody_has(4))
    carry_out(network, 5, add=[8])
    pay(network, 8, 5)
    network.check()


def test_who_was_cut_off_meanwhile_follows() -> None:
    network = Network()
    network.add()
    network.lost = lambda sender, receiver, _data: 3 in {sender, receiver}
    network.submit(0, [change(network, add=[4])])
    network.run_until(lambda: all(network.nodes[i].core.config.epoch == 1 for i in (0, 1, 2, 4)))
    for _ in range(3):
        network.submit(0, [transfer()])
        network.run_for(500)
    assert network.nodes[3].core.config.epoch == 0
    network.lost = lambda _sender, _receiver, _data: False
    network.run_until(network.everybody_has(3))
    network.crash(2)
    pay(network, 1, 4)  # its vote is needed again


@pytest.mark.parametrize("checkpoints", [False, True])
def test_everybody_restarts_on_either_side_of_the_boundary(checkpoints: bool) -> None:
    network = Network(policy=CheckpointPolicy(blocks=1) if checkpoints else None)
    network.add()
    pay(network, 0, 1)
    carry_out(network, 0, add=[4], remove=[1])
    for expected in (2, 3):
        for node in network.nodes:
            network.crash(node.index)
        for node in network.nodes:
            network.start(node.index)
        pay(network, 4, expected)
    network.nodes[2].checkpoint = None if checkpoints else network.nodes[2].checkpoint
    network.crash(2)
    network.start(2, rebuild=True)
    pay(network, 3, 4)


def consensus_of(data: bytes) -> Message | None:
    message: LinkMessage = decode(data, LinkMessage)  # type: ignore[arg-type]  # a union is not a type
    return message.message if isinstance(message, ConsensusMessage) else None


def _boundary_height(network: Network) -> int:
    return network.nodes[0].core.application.trust.handovers[0].head.header.height


def test_filler_makes_a_boundary_final_and_is_no_part_of_the_ledger() -> None:
    """consensus.md: "The old set goes on with empty filler blocks until the boundary is final"; filler is discarded."""
    network = Network()
    pay(network, 0, 1)
    boundary_view = [0]

    def no_finality_at_once(_sender: int, _receiver: int, data: bytes) -> bool:
        message = consensus_of(data)
        if not isinstance(message, Finalize) or message.epoch:
            return False
        boundary_view[0] = boundary_view[0] or message.view
        return message.view < boundary_view[0] + 3

    network.lost = no_finality_at_once
    network.submit(0, [change(network, remove=[3])])
    network.run_for(30)
    network.submit(1, [transfer()])  # pending while filler is made
    network.run_until(lambda: all(node.core.config.epoch == 1 for node in network.nodes))
    network.run_until(network.everybody_has(2))
    network.check()
    for node in network.nodes:
        (handover,) = node.core.application.trust.handovers
        assert handover.head.path, "made final by filler"
        following = node.delivered[handover.head.header.height]
        assert following.header.epoch == 1
        assert following.header.parent == handover.head.header.id
    network.crash(2)
    network.start(2)
    pay(network, 1, 3)
    assert network.add() == 4  # it fetches the boundary with its filler
    network.run_until(network.everybody_has(3))
    network.check()
    network.run_for(100)  # what it asked for is answered: a new life would know nothing of it
    network.crash(4)
    network.start(4)
    pay(network, 4, 4)


def test_filler_with_contents_is_invalid() -> None:
    network = Network()
    network.submit(0, [change(network, remove=[3])])
    network.run_until(lambda: network.nodes[0].core.config.epoch == 1)
    application = network.nodes[0].core.application
    parent = application.floor.header
    filler = application.build(parent.view + 1, 0, parent, parent.wall_time + 10, iter(()))
    assert filler.header.state_root == parent.state_root
    assert filler.header.replica_set == parent.replica_set
    assert not filler.parts
    assert filler.header.clock == parent.clock
    with pytest.raises(RemoteError, match="clock"):
        application.validate(replace(filler.header, clock=parent.clock + 10), parent, ())
    part = Part(bytes(32), b"", (transfer(),))
    full = replace(filler.header, batches_root=list_root([part.digest]))
    with pytest.raises(RemoteError, match="1 batches behind the last block of epoch 0"):
        application.validate(full, parent, (part,))
    with pytest.raises(RemoteError, match="epoch is 2 in the header, 1 here"):
        application.validate(replace(filler.header, epoch=2), parent, ())
    assert network.nodes[0].delivered[-1].is_boundary


def test_no_block_of_the_new_epoch_stands_on_filler() -> None:
    """ "The new epoch's first parent is exactly the boundary block"."""
    network = Network()
    network.submit(0, [change(network, remove=[3])])
    network.run_until(lambda: network.nodes[0].core.config.epoch == 1)
    application = network.nodes[0].core.application
    parent = application.floor.header
    filler = application.build(parent.view + 1, 0, parent, parent.wall_time + 10, iter(()))
    after = application.build(parent.view + 2, 1, filler.header, parent.wall_time + 20, iter(()))
    application._blocks.pop(after.id)
    with pytest.raises(RemoteError, match="boundary"):
        application.validate(after.header, filler.header, ())


def test_only_the_clock_of_filler_stands_still() -> None:
    """Consensus, which cannot tell filler, lets both clocks pass; execution, which can, takes one of them."""
    application = Network().nodes[0].core.application
    parent = application.floor.header
    block = application.build(parent.view + 1, 0, parent, parent.wall_time + 10, iter(()))
    assert block.header.clock == parent.clock + 10
    with pytest.raises(RemoteError, match="clock"):
        application.validate(replace(block.header, clock=parent.clock), parent, ())


def test_whoever_knows_the_genesis_follows_the_handovers() -> None:
    network = Network()
    network.add()
    carry_out(network, 0, add=[4], remove=[0])
    carry_out(network, 1, remove=[1])
    pay(network, 2, 1)
    block = network.nodes[2].delivered[-1]
    head = HeadProof(block.header, block.path, block.finalization)
    handovers = network.nodes[2].core.application.trust.handovers
    trust = Trust(GENESIS, handovers)
    assert verify_head(trust, head).epoch == 2
    assert trust.replica_set.numbers == (2, 3, 4)
    with pytest.raises(RemoteError, match="epoch 2; the replica sets of epochs 0 to 1"):
        verify_head(Trust(GENESIS, handovers[:1]), head)
    with pytest.raises(RemoteError, match="epoch 1"):
        Trust(GENESIS, handovers[1:])
    forged = replace(handovers[0], replica_set=handovers[1].replica_set)
    with pytest.raises(RemoteError, match="hands over to epoch 2"):
        Trust(GENESIS, [forged])
