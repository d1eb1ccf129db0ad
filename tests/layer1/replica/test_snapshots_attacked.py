"""Snapshots made to harm: heads that are certified and lead astray, records that break who puts them together."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from layer1.codec import encode
from layer1.consensus.certificates import Checker
from layer1.errors import RemoteError
from layer1.ledger.image import Balances, Remembered, Values
from layer1.replica import checkpoints
from layer1.replica.checkpoints import FORMAT_VERSION, CheckpointPolicy, Head, check_head, fault_of
from layer1.replica.events import InstallSnapshot, SnapshotChecked
from layer1.replica.messages import Blocks, Chunk, LinkMessage, SnapshotOffer
from layer1.replica.snapshots import ATTEMPTS, CHUNK_BYTES, PACE_MS, RETRY_MS, FromSnapshot, Snapshots
from tests.layer1.replica.network import GENESIS, Network
from tests.layer1.replica.test_epochs import carry_out, change, pay
from tests.layer1.replica.test_epochs_attacked import make_filler
from tests.layer1.replica.test_snapshots import LATE, altered, join, ran

# ---------------------------------------------------------------------------- heads: no state root covers what they say


def head_now(network: Network, node: int = 0) -> Head:
    application = network.nodes[node].core.application
    return checkpoints.head_of(application.trust, application.floor)


@pytest.fixture(scope="module")
def heads() -> list[Head]:
    """Of blocks of the epochs 0, 1 and 2."""
    network = Network()
    network.add()
    found = []
    pay(network, 0, 1)
    found.append(head_now(network))
    carry_out(network, 0, add=[4])
    pay(network, 0, 2)
    found.append(head_now(network))
    carry_out(network, 0, remove=[4])
    pay(network, 0, 3)
    found.append(head_now(network))
    assert [head.header.epoch for head in found] == [0, 1, 2]
    for head in found:
        check_head(head, GENESIS)
    return found


@pytest.mark.parametrize(("epoch", "handovers"), [(0, 1), (0, 2), (1, 2)])
def test_handovers_beyond_the_block_are_refused(heads: list[Head], epoch: int, handovers: int) -> None:
    """True as they are: who went on from there would call the blocks of its own epoch filler."""
    head = replace(heads[epoch], handovers=heads[2].handovers[:handovers])
    with pytest.raises(RemoteError, match=f"{handovers} handovers lead beyond block"):
        check_head(head, GENESIS)


def test_a_handover_counts_once_and_costs_no_signature_where_it_does_not(
    heads: list[Head], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Thousands fit into a message, and each is true."""
    verified: list[object] = []
    monkeypatch.setattr(Checker, "certificate", lambda _self, certificate: verified.append(certificate))
    first, second = heads[2].handovers
    for handovers in ((first,) * 1_000, (first, second) + (second,) * 1_000, (second, first)):
        with pytest.raises(RemoteError, match=r"handover \d stands where that of epoch \d belongs"):
            check_head(replace(heads[2], handovers=handovers), GENESIS)
    assert verified == []


def test_a_path_behind_a_block_that_ends_no_epoch_is_refused() -> None:
    """Its certificate would be taken for that of the block itself."""
    network = Network()
    network.checkpoint_ms = lambda: 2
    pay(network, 0, 1)
    early = network.nodes[0].core.application.floor.header
    pay(network, 0, 2)
    blocks = [block for block in network.nodes[0].delivered if block.header.height > early.height]
    late = next(block for block in blocks if not block.path)
    path = tuple(block.header for block in blocks if block.header.height <= late.header.height)
    head = Head(FORMAT_VERSION, GENESIS.chain_id, (), early, path, late.finalization)
    with pytest.raises(RemoteError, match=r"headers behind block \d+, which ends no epoch"):
        check_head(head, GENESIS)


@pytest.mark.parametrize("tells", [True, False])
def test_filler_is_no_snapshot(tells: bool) -> None:
    """It is certified, and has the root of the boundary's state: an epoch that begins on it is another ledger."""
    network = Network(policy=CheckpointPolicy(blocks=10**6))
    network.add()
    make_filler(network, change(network, add=[4]))
    application = network.nodes[1].core.application
    handovers = tuple(application.trust.handovers)
    boundary = handovers[0].head
    filler = boundary.path[-1]
    assert filler.state_root == boundary.header.state_root
    assert boundary.finalization is not None
    head = Head(FORMAT_VERSION, GENESIS.chain_id, handovers if tells else (), filler, (), boundary.finalization)
    assert application.floor.is_boundary, "its state is that of the boundary"
    records = application.floor.state.image()
    fault = fault_of(GENESIS, iter([encode(head), *records.pieces()]))
    assert fault is not None
    assert "lead" in fault
    honest = checkpoints.head_of(application.trust, application.floor)
    assert honest.path == boundary.path
    assert fault_of(GENESIS, iter([encode(honest), *records.pieces()])) is None


# ---------------------------------------------------------------- records: whatever they are, one is told what is wrong


@pytest.mark.parametrize(
    "piece",
    [
        Balances({b"": 5}),
        Balances({b"short": 5}),
        Balances({bytes(32): -1}),
        Balances({bytes(32): 0}),
        Values({b"x": b"y"}),
        Remembered(-1, bytes(32)),
        Remembered(2**63, bytes(32)),
        Remembered(5, b""),
        Remembered(5, bytes(33)),
    ],
    ids=str,
)
def test_records_that_no_ledger_has_are_a_fault_and_break_nothing(heads: list[Head], piece: object) -> None:
    assert fault_of(GENESIS, iter([encode(heads[0]), encode(piece)]))


# ------------------------------------------------------------------------------------------- who keeps one from them


def gives_nothing(message: LinkMessage) -> LinkMessage | None:
    """Links, and answers no question for blocks."""
    return None if isinstance(message, Blocks | SnapshotOffer) else message


def says_it_has_none(message: LinkMessage) -> LinkMessage:
    return Blocks(()) if isinstance(message, Blocks | SnapshotOffer) else message


@pytest.mark.parametrize("liar", [0, 1])
@pytest.mark.parametrize("lie", [gives_nothing, says_it_has_none], ids=lambda lie: lie.__name__)
def test_one_that_offers_nothing_keeps_nobody_from_a_snapshot(
    lie: Callable[[LinkMessage], LinkMessage | None], liar: int
) -> None:
    """Who keeps its history takes one as soon as no peer gives blocks: it does not wait for a liar's word."""
    network = ran(kept=2)
    network.nodes[LATE].from_snapshot = FromSnapshot.PRUNED
    altered(network, lie, liar)
    join(network)
    assert len(network.nodes[LATE].installed) == 1


def started(head: Head, size: int = 1_000_000, peers: int = 3) -> Snapshots:
    """A download from the peer with the lowest number; all offer the same."""
    found = Snapshots(GENESIS)
    for peer in range(peers):
        found.hear(peer, SnapshotOffer(head, size, size), 0)
    found.choose(0, 1, 0)
    assert found.download is not None
    assert found.download.peer == 0
    return found


def test_who_sends_a_byte_at_a_time_is_left(heads: list[Head]) -> None:
    """Each answer comes in time; all of them would take weeks."""
    found, now_ms, height = started(heads[0]), 0, heads[0].header.height
    while found.active:
        if (question := found.request(0, now_ms)) is not None:
            found.receive(0, Chunk(height, question[1].first, (b"x",)), now_ms)
        now_ms += RETRY_MS
        assert now_ms < 60_000
    found.hear(0, SnapshotOffer(heads[0], 1_000_000, 1_000_000), 0)
    found.choose(0, 1, now_ms)
    assert found.download is not None
    assert found.download.peer == 1, "it promises as much as before, and has its turn behind the others"


def test_who_is_as_slow_as_chunks_may_be_is_not_left(heads: list[Head]) -> None:
    height, chunks = heads[0].header.height, 20
    found, now_ms = Snapshots(GENESIS), 0
    for peer in range(2):
        found.hear(peer, SnapshotOffer(heads[0], chunks, chunks * CHUNK_BYTES), 0)
    found.choose(0, 1, 0)
    for number in range(chunks):
        assert found.request(0, now_ms) is not None
        now_ms += ATTEMPTS * RETRY_MS - PACE_MS
        found.receive(0, Chunk(height, number, (bytes(CHUNK_BYTES),)), now_ms)
        now_ms += PACE_MS
    assert found.download is not None
    assert found.download.complete


def test_an_answer_of_more_than_a_chunk_is_a_lie(heads: list[Head]) -> None:
    """Hundreds of thousands of tiny pieces in one message would hold up the loop."""
    found, height = started(heads[0], 2 * CHUNK_BYTES), heads[0].header.height
    assert found.receive(0, Chunk(height, 0, (bytes(CHUNK_BYTES + 5),)), 1), "a large one alone is none"
    found = started(heads[0], 2 * CHUNK_BYTES)
    with pytest.raises(RemoteError, match="in one answer; more than"):
        found.receive(0, Chunk(height, 0, (bytes(CHUNK_BYTES), b"x")), 1)
    assert not found.active


def test_a_snapshot_that_was_overtaken_while_it_was_checked_is_not_installed(heads: list[Head]) -> None:
    """A checkpoint of our own may have shortened the journal meanwhile, to what lies above it."""
    height = heads[0].header.height
    for own, expected in ((height - 1, [InstallSnapshot(height)]), (height, []), (height + 1, [])):
        found = started(heads[0], 1)
        found.receive(0, Chunk(height, 0, (b"x",)), 1)
        assert list(found.on_checked(SnapshotChecked(height, None), own)) == expected
        assert found.active == bool(expected)
