"""A replica of the network votes twice: the others catch it, keep the proof, and the ledger marks it for good."""

from __future__ import annotations

from itertools import count

import pytest

from layer1 import merkle
from layer1.codec import decode, encode
from layer1.consensus.certificates import Signer
from layer1.consensus.evidence import Evidence, EvidenceKind, verify
from layer1.consensus.messages import Finalize, Notarize
from layer1.ledger.records import leaf_hash, mark_key
from layer1.ledger.transactions import Accusation, Transaction
from layer1.proof import Trust
from layer1.replica import events
from layer1.replica.evidence import EvidenceBook
from layer1.replica.mempool import Mempool, is_dispute
from layer1.replica.messages import ConsensusMessage, LinkMessage
from layer1.replica.shares import PoolLimits
from layer1.replica.weight import DOUBLE_SIGNATURES, weight
from tests.layer1.ledger.world import World, accusation
from tests.layer1.replica.network import GENESIS, KEYS, Network, named, transfer

LIAR = 3
OTHER = bytes([7] * 32)
_salts = count(10**6)


class DoubleVoter:
    """Replica 3 runs the honest core, and beside its votes casts others, for a block of its own.

    Notarize votes in even views, finalize votes in odd ones: a replica is accused once in a view.
    """

    def __init__(self, network: Network) -> None:
        self.network = network
        self.signer = Signer(network.nodes[LIAR].core.config, KEYS[LIAR], LIAR)
        network.lost = self.spoil
        network.liars = True

    def spoil(self, sender: int, receiver: int, data: bytes) -> bool:
        if sender == LIAR:
            message: LinkMessage = decode(data, LinkMessage)  # type: ignore[arg-type]  # a union is not a type
            match message:
                case ConsensusMessage(0, Notarize(_, view)) if view % 2 == 0:
                    self.say(receiver, self.signer.notarize(view, OTHER))
                case ConsensusMessage(0, Finalize(_, view)) if view % 2 == 1:
                    self.say(receiver, self.signer.finalize(view, OTHER))
                case _:
                    pass
        return False

    def say(self, receiver: int, vote: Notarize | Finalize) -> None:
        self.network._put(self.network.now_ms + 2, receiver, events.FromPeer(LIAR, encode(ConsensusMessage(0, vote))))


def bring(evidence: Evidence) -> Transaction:
    return Transaction(Accusation(evidence), 500_000, next(_salts).to_bytes(16, "big"))


def caught(network: Network, index: int) -> dict[EvidenceKind, Evidence]:
    return {found.kind: found for found in network.nodes[index].core.evidence}


def lie(network: Network, blocks: int = 3) -> None:
    """Let the liar vote in some blocks."""
    DoubleVoter(network)
    for amount in range(1, blocks + 1):
        network.submit(0, [transfer()])
        network.run_until(network.everybody_has(amount))
        network.run_for(20)


def test_the_others_catch_a_double_voter_and_the_ledger_marks_it() -> None:
    network = Network()
    lie(network)
    for index in range(LIAR):
        found = caught(network, index)
        assert set(found) == {EvidenceKind.NOTARIZED_TWICE, EvidenceKind.FINALIZED_TWICE}
        for evidence in found.values():
            assert evidence.replica == LIAR
            verify(evidence, Trust(GENESIS).voters(0))
        assert {item.peer for item in network.nodes[index].misbehaved} == {LIAR}
    assert caught(network, LIAR) == {}, "nobody else contradicted itself"

    accused = bring(caught(network, 0)[EvidenceKind.FINALIZED_TWICE])
    network.submit(1, [accused])
    key = GENESIS.replicas[LIAR]
    network.run_until(lambda: all(node.core.application.floor.state.mark(key) for node in network.nodes))
    roots = set()
    for node in network.nodes:
        state = node.core.application.floor.state
        mark = state.mark(key)
        assert mark is not None
        assert (mark.number, mark.transaction_id, mark.kind) == (LIAR, accused.id, EvidenceKind.FINALIZED_TWICE)
        assert merkle.verify(state.root, mark_key(key), leaf_hash(mark), state.prove(mark_key(key)))
        assert [state.mark(other) for other in GENESIS.replicas[:LIAR]] == [None] * LIAR
        roots.add(leaf_hash(mark))
    assert len(roots) == 1
    network.check()

    again = bring(caught(network, 1)[EvidenceKind.NOTARIZED_TWICE])
    network.submit(2, [again])
    network.run_until(lambda: again.id in network.nodes[2].rejected)
    assert network.nodes[2].rejected[again.id].code == "already_marked"
    assert not any(again.id in node.core.pool for node in network.nodes), "it cost no block anything"


def test_evidence_outlives_a_crash() -> None:
    network = Network()
    lie(network)
    before = caught(network, 0)
    assert before
    network.crash(0)
    network.start(0)
    assert caught(network, 0) == before


def test_a_replica_started_from_the_journal_knows_the_mark() -> None:
    network = Network()
    lie(network, 1)
    accused = bring(next(iter(caught(network, 0).values())))
    network.submit(0, [accused])
    key = GENESIS.replicas[LIAR]
    network.run_until(lambda: all(node.core.application.floor.state.mark(key) for node in network.nodes))
    network.submit(1, [transfer()])
    network.run_until(network.everybody_has(2))
    network.crash(1)
    network.start(1)
    mark = network.nodes[1].core.application.floor.state.mark(key)
    assert mark is not None and mark.transaction_id == accused.id


def test_honest_replicas_collect_nothing() -> None:
    network = Network()
    for amount in range(1, 6):
        network.submit(amount % 4, [transfer()])
        network.run_until(network.everybody_has(amount))
    assert [len(node.core.evidence) for node in network.nodes] == [0] * 4


def test_a_liar_fills_nobodys_journal() -> None:
    """Kept: one pair per replica and kind, however many it makes."""
    book = EvidenceBook()
    kept = [book.add(accusation(GENESIS, 1, kind, view).evidence) for view in range(1, 20) for kind in EvidenceKind]
    assert (sum(kept), len(book)) == (len(EvidenceKind), len(EvidenceKind))
    network = Network()
    lie(network, 6)
    records = [record for record in network.nodes[0].durable + network.nodes[0].buffer if record[1] == 6]
    assert len(records) == len(caught(network, 0)) == 2


@pytest.mark.parametrize("kind", EvidenceKind)
def test_evidence_weighs_its_two_signatures_and_waits_with_the_transfers(kind: EvidenceKind) -> None:
    """What has no deadline takes no room from what has one."""
    world = World()
    transaction = world.sign(accusation(world.genesis, 1, kind))
    assert weight(transaction) == DOUBLE_SIGNATURES == 2
    assert not is_dispute(transaction)
    pool = Mempool(PoolLimits(transactions=2, reserved=1))
    assert len(pool.take(named([transaction]), world.state, "", 0)) == 1
