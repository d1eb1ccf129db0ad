"""Checkpoints, in replicas without disks: what a restart needs is kept, and what is wrong stops it with a reason."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from layer1.codec import decode, encode
from layer1.consensus.certificates import Vote
from layer1.consensus.messages import Finalize, Notarize, Nullify, Proposal
from layer1.consensus.records import VoteFrom
from layer1.consensus.records import decode_record as decode_consensus
from layer1.consensus.votes import Pool
from layer1.errors import LocalError
from layer1.ledger.image import Balances, collect
from layer1.replica import events
from layer1.replica.checkpoints import CheckpointPolicy, Checkpoints, Head, read_head
from layer1.replica.core import ReplicaCore
from layer1.replica.records import CheckpointRecord, ConsensusRecord, PeerRecord, decode_record
from tests.layer1.replica.network import GENESIS, KEYS, Network, Node, transfer

POLICY = CheckpointPolicy(blocks=3)


def ran(blocks: int = 10, seed: int = 0) -> Network:
    """A network whose replicas have taken checkpoints."""
    network = Network(seed, policy=POLICY)
    network.checkpoint_ms = lambda: 2
    for _ in range(blocks):
        height = network.heights()[0]
        network.submit(network.random.randrange(4), [transfer()])
        network.run_until(lambda above=height: min(network.heights()) > above)  # type: ignore[misc]
    network.run_until(lambda: all(node.checkpoint for node in network.nodes))
    return network


def votes(core: ReplicaCore) -> set[bytes]:
    """Everything that consensus must remember, above the last final block."""
    return set(core.consensus.checkpoint())


def test_a_restart_from_a_checkpoint_gives_the_same_replica() -> None:
    """Same floor, same state root, same votes, as from the whole journal."""
    network = ran()
    node = network.nodes[0]
    node.durable, node.buffer = node.durable + node.buffer, []
    before = node.core
    assert before.checkpoint_height >= 6
    node.restart()
    floor, was = node.core.application.floor, before.application.floor
    assert (floor.id, floor.state.root) == (was.id, was.state.root)
    assert floor.finalization == was.finalization
    assert floor.state.snapshot() == was.state.snapshot()
    assert votes(node.core) == votes(before)
    assert node.core.consensus.view == before.consensus.view
    assert node.core.generations.peers == before.generations.peers
    assert {held.digest for held in node.core.batches.pending()} == {held.digest for held in before.batches.durable()}


def test_a_crash_before_the_journal_is_shortened_passes_over_what_the_checkpoint_holds() -> None:
    """ "A crash before that step finds the old journal"."""
    network = ran()
    node = network.nodes[0]
    assert node.core.checkpoint_height > 3
    before, node.durable, node.buffer = node.core, node.history, []
    node.restart()
    assert node.core.application.floor.state.snapshot() == before.application.floor.state.snapshot()
    assert votes(node.core) == votes(before)
    network.check()


def test_a_shortened_journal_restores_the_very_replica_that_shortened_it() -> None:
    """Base and tail hold all that a restart needs, whatever was going on when the checkpoint was taken."""
    network = Network(policy=POLICY)
    network.checkpoint_ms = lambda: network.random.randrange(3)
    network.delay_ms = lambda: network.random.randrange(1, 20)
    in_hand = []

    def compare(node: Node) -> None:
        core = ReplicaCore(GENESIS, KEYS[node.index], node.index)
        list(core.restore(node.durable, iter(node.checkpoint or ())))
        assert votes(core) == votes(node.core)
        assert core.consensus.view == node.core.consensus.view
        ours, theirs = core.application.above_floor(), node.core.application.above_floor()
        assert [executed.id for executed in ours] == [executed.id for executed in theirs]
        needed = {digest for executed in theirs for digest in executed.digests}
        kept = {held.digest for held in core.batches.pending()}
        assert {held.digest for held in node.core.batches.durable()} - kept <= needed
        in_hand.append((len(votes(core)), len(ours)))

    network.shortened = compare
    for _ in range(100):
        network.submit(network.random.randrange(4), [transfer()])
        network.run_for(network.random.randrange(40))
    assert len(in_hand) > 20
    assert max(count for count, _ in in_hand) > 2
    assert max(count for _, count in in_hand) > 0


def test_the_journal_stays_bounded_under_load() -> None:
    """After each checkpoint the journal holds what came since, and not more."""
    network = Network(policy=POLICY)
    sizes, taken = [], 0
    for _ in range(60):
        network.submit(0, [transfer()])
        network.run_for(60)
        node = network.nodes[0]
        taken = node.core.checkpoint_height
        sizes.append(sum(map(len, node.durable)))
    assert taken > 50
    assert max(sizes[30:]) <= max(sizes[:30]) * 1.2
    network.check()


def test_a_shortened_journal_begins_with_its_checkpoint_and_keeps_what_peers_said() -> None:
    network = ran()
    first = decode_record(network.nodes[0].durable[0])
    assert isinstance(first, CheckpointRecord)
    assert first.height == network.nodes[0].core.checkpoint_height
    records = [decode_record(record) for record in network.nodes[0].durable]
    assert sorted(record.replica for record in records if isinstance(record, PeerRecord)) == [1, 2, 3]


@given(seed=st.integers(0, 2**32))
@settings(max_examples=15, deadline=None)
def test_crashes_at_any_moment_lose_nothing_and_contradict_nothing(seed: int) -> None:
    """Replicas crash while checkpoints are taken, come back from them, and stay on one chain."""
    network = Network(seed, policy=POLICY)
    network.delay_ms = lambda: network.random.randrange(1, 30)
    network.checkpoint_ms = lambda: network.random.randrange(1, 200)
    cast: dict[tuple[int, str, int], bytes] = {}
    for _ in range(12):
        for sender in range(4):
            network.submit(sender, [transfer()])
        network.run_for(network.random.randrange(5, 300))
        index = network.random.randrange(4)
        _remember_votes(network, cast)
        network.crash(index)
        network.run_for(network.random.randrange(5, 300))
        network.start(index)
        _remember_votes(network, cast)
        network.check()
    height = max(network.heights())
    network.run_until(lambda: min(network.heights()) > height)
    network.check()


def _remember_votes(network: Network, cast: dict[tuple[int, str, int], bytes]) -> None:
    """No replica ever journals two notarize votes, or two finalize votes, for one view."""
    for node in network.nodes:
        for data in node.durable:
            record = decode_record(data)
            if isinstance(record, ConsensusRecord):
                vote = decode_consensus(record.record)
                kind = type(vote).__name__
                if kind in {"Notarize", "Finalize"}:
                    place = (node.index, kind, vote.view)  # type: ignore[union-attr]
                    assert cast.setdefault(place, vote.block) == vote.block  # type: ignore[union-attr]


# -------------------------------------------------------------------------------------------- what is missing or wrong


def altered(network: Network, change: object) -> LocalError:
    """What a replica says to a checkpoint with one piece changed."""
    node = network.nodes[0]
    assert node.checkpoint is not None
    pieces = [change(piece) for piece in node.checkpoint]  # type: ignore[operator]
    assert pieces != node.checkpoint
    core = ReplicaCore(GENESIS, KEYS[0], 0)
    with pytest.raises(LocalError) as caught:
        list(core.restore(node.durable, iter(pieces)))
    return caught.value


def test_a_checkpoint_with_another_state_is_not_believed() -> None:
    """ "Verified at load against the certified state root"."""

    def richer(piece: bytes) -> bytes:
        if piece[1] != 1 or len(piece) > 300:
            return piece
        found = decode(piece, Balances)
        return encode(Balances({address: units + 1 for address, units in found.balances.items()}))

    assert "is certified" in str(altered(ran(), richer))


def test_a_checkpoint_that_nobody_certified_is_not_believed() -> None:
    def forged(piece: bytes) -> bytes:
        try:
            head = decode(piece, Head)
        except Exception:  # noqa: BLE001 - not the head
            return piece
        few = msgspec.structs.replace(head.finalization, signatures=head.finalization.signatures[:2])
        return encode(msgspec.structs.replace(head, finalization=few))

    assert "cannot be used" in str(altered(ran(), forged))


def test_a_checkpoint_of_another_ledger_or_format_is_refused() -> None:
    def other(piece: bytes) -> bytes:
        try:
            return encode(msgspec.structs.replace(decode(piece, Head), chain_id=b"x" * 32))
        except Exception:  # noqa: BLE001 - not the head
            return piece

    assert "it is of chain 7878" in str(altered(ran(), other))


def test_a_checkpoint_keeps_the_remembered_ids() -> None:
    network = ran()
    node = network.nodes[0]
    assert node.checkpoint is not None
    kept = {name for lot in collect(node.checkpoint[1:]).lots.values() for name in lot}
    stored = [t.id for block in node.delivered[: node.core.checkpoint_height] for t in block.transactions]
    assert kept == set(stored)


def test_a_shortened_journal_without_its_checkpoint_stops_with_an_explanation() -> None:
    """ "Never a guess: an explanation"."""
    network = ran()
    node = network.nodes[0]
    node.checkpoint = None
    with pytest.raises(LocalError, match=r"goes on from block \d+, whose state was in a checkpoint.*--rebuild"):
        node.restart()


def test_rebuilding_executes_the_blocks_in_storage_and_forgets_no_vote() -> None:
    """The way back: the state comes from blocks, the votes from the journal."""
    network = ran()
    node = network.nodes[0]
    node.durable, node.buffer = node.durable + node.buffer, []
    before, height = node.core, node.core.application.floor.header.height
    node.checkpoint = None
    node.restart(rebuild=True)
    assert node.core.application.floor.header.height == height
    assert node.core.application.floor.state.snapshot() == before.application.floor.state.snapshot()
    assert votes(node.core) == votes(before)


def test_rebuilding_without_storage_fetches_every_block_from_peers() -> None:
    network = ran()
    network.crash(0)
    node = network.nodes[0]
    node.durable, node.buffer = node.durable + node.buffer, []
    before = {record for record in votes(node.core) if not isinstance(decode_consensus(record), VoteFrom)}
    node.checkpoint, node.delivered = None, []
    network.start(0, rebuild=True)
    assert node.core.application.floor.header.height == 0
    assert before <= votes(node.core)
    network.run_until(lambda: len(set(network.heights())) == 1 and node.checkpoint is not None)
    network.check()
    network.crash(0)
    network.start(0)  # the new checkpoint serves
    network.submit(0, [transfer()])
    network.crash(1)  # and its votes are needed
    height = max(network.heights())
    network.run_until(lambda: node.core.application.floor.header.height > height)
    network.check()


def test_storage_that_lies_is_not_believed() -> None:
    network = ran()
    node = network.nodes[0]
    block = node.delivered[1]
    node.delivered[1] = msgspec.structs.replace(block, finalization=node.delivered[0].finalization)
    node.checkpoint = None
    with pytest.raises(LocalError, match="move the database away"):
        node.restart(rebuild=True)


# ------------------------------------------------------------------------------------------------------ small things


def test_a_checkpoint_is_due_after_blocks_or_bytes() -> None:
    checkpoints = Checkpoints(CheckpointPolicy(blocks=5, journal_bytes=100))
    assert not checkpoints.is_due(4)
    assert checkpoints.is_due(5)
    checkpoints.note(bytes(99))
    assert not checkpoints.is_due(1)
    checkpoints.note(bytes(1))
    assert checkpoints.is_due(1)
    assert not checkpoints.is_due(0)  # genesis needs none
    found = ran().nodes[0].checkpoint
    assert found is not None
    head = read_head(iter(found))
    checkpoints.begin(msgspec.structs.replace(head, header=msgspec.structs.replace(head.header, height=1)), [b"base"])
    assert not checkpoints.is_due(50)  # one at a time
    checkpoints.note(b"tail")
    assert checkpoints.finish(7, 1, 1) is None
    assert checkpoints.finish(1, 1, 1) == [b"base", b"tail"]
    assert (checkpoints.height, checkpoints.is_due(5), checkpoints.is_due(6)) == (1, False, True)


def test_an_image_does_not_change() -> None:
    """Blocks go on while a checkpoint is being encoded."""
    network = Network()
    network.submit(0, [transfer()])
    network.run_until(network.everybody_has(1))
    state = network.nodes[0].core.application.floor.state
    image, copy = state.image(), list(state.image().pieces())
    network.submit(0, [transfer(), transfer(5)])
    network.run_until(network.everybody_has(7))
    assert list(image.pieces()) == copy


def test_no_checkpoint_while_consensus_is_ahead_of_the_state() -> None:
    """Consensus forgot its votes below its own floor: a journal that begins lower would lack them."""
    network = ran(3)
    core = network.nodes[0].core
    core.consensus.chain.floor = msgspec.structs.replace(core.consensus.chain.floor, view=999)
    core._checkpoints.restored(0, 10**9)
    core._effects = []
    core._consider_checkpoint()
    assert not any(isinstance(effect, events.TakeCheckpoint) for effect in core._effects)


def test_rebuilding_from_nothing_contradicts_no_vote_that_the_journal_lost() -> None:
    """The votes below a checkpoint are gone from the journal: who starts below it again must not vote there.

    It did, and nullified views that it had finalized, as soon as its peers did not answer within a view timeout.
    """
    network = ran()
    node, bare = network.nodes[0], []
    network.shortened = lambda other: bare.append(other is node and not consensus_votes(other.durable))
    network.run_until(lambda: any(bare))
    cast = consensus_votes(node.history)
    network.crash(0)
    network.lost = lambda sender, receiver, _data: 0 in {sender, receiver}
    node.checkpoint, node.delivered = None, []
    network.start(0, rebuild=True)
    network.run_for(20_000)
    witness, contradictions = Pool(node.core.config), []
    for vote in cast + consensus_votes(node.history):
        contradictions += [(found, vote) for found in [witness.contradiction(vote)] if found is not None]
        witness.add(vote)
    assert not contradictions


def consensus_votes(records: list[bytes]) -> list[Vote]:
    """All own votes among journal records, alone or in a proposal."""
    found = [decode_record(data) for data in records]
    said = [decode_consensus(record.record) for record in found if isinstance(record, ConsensusRecord)]
    own = [record.vote for record in said if isinstance(record, Proposal) and record.vote.replica == 0]
    return own + [record for record in said if isinstance(record, Notarize | Finalize | Nullify)]
