"""Starting from a snapshot, in replicas without disks: what arrives is the ledger, whoever sends it."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from layer1.codec import decode, encode
from layer1.errors import Refused, RemoteError, Untimely
from layer1.ledger.image import Balances, Remembered
from layer1.replica import events, snapshots
from layer1.replica.checkpoints import CheckpointPolicy, Head, Published
from layer1.replica.messages import Chunk, ChunkRequest, LinkMessage, SnapshotOffer
from layer1.replica.serving import BYTES_PER_S
from layer1.replica.snapshots import ATTEMPTS, CHUNK_BYTES, PACE_MS, RETRY_MS, FromSnapshot, Snapshots, chunk, offer_of
from tests.layer1.replica.network import ALICE, BOB, FUNDS, GENESIS, Network, named, transfer

POLICY = CheckpointPolicy(blocks=3, offer_blocks=5)
LATE = 3


def ran(blocks: int = 12, *, policy: CheckpointPolicy = POLICY, kept: int = 0) -> Network:
    """A network of which one replica was away from the start."""
    network = Network(policy=policy)
    network.checkpoint_ms = lambda: 2
    for node in network.nodes:
        node.kept_blocks = kept
    network.crash(LATE)
    pay(network, blocks)
    network.run_until(lambda: all(node.checkpoint for node in network.nodes[:LATE]))
    return network


def pay(network: Network, blocks: int = 1) -> None:
    for _ in range(blocks):
        height = network.heights()[0]
        network.submit(0, [transfer()])
        network.run_until(lambda above=height: min(network.heights()[:LATE]) > above)  # type: ignore[misc]


def join(network: Network, *, forgets: bool = False) -> None:
    """The late one comes, and catches up."""
    for node in network.nodes[:LATE]:
        node.chunks = {}
        network.crash(node.index)
        network.start(node.index)  # so that recent blocks are not in memory
    network.start(LATE)
    network.run_until(lambda: network.heights()[LATE] >= network.heights()[0] > 0, limit_ms=60_000)


def altered(network: Network, change: Callable[[LinkMessage], LinkMessage | None], *liars: int) -> None:
    """What these say on links is changed; None is not said."""
    network.liars = True

    def lost(sender: int, receiver: int, data: bytes) -> bool:
        return sender in liars and change(decode(data, LinkMessage)) is None  # type: ignore[arg-type]

    def rewritten(sender: int, data: bytes) -> bytes:
        message: LinkMessage = decode(data, LinkMessage)  # type: ignore[arg-type]
        other = change(message) if sender in liars else message
        return data if other is None else encode(other)

    network.lost, network.rewritten = lost, rewritten


def test_who_is_far_behind_starts_from_a_snapshot() -> None:
    """ "a new or far-behind replica starts from one": it executes none of the blocks below, and all above."""
    network = ran()
    join(network)
    late, other = network.nodes[LATE], network.nodes[0]
    assert len(late.installed) == 1
    assert late.installed[0] >= 10
    pay(network, 2)
    network.run_until(lambda: network.heights()[LATE] == network.heights()[0])
    assert late.core.application.floor.state.root == other.core.application.floor.state.root
    assert late.delivered[0].header.height == late.installed[0] + 1
    assert late.core.application.floor.state.balance(BOB.public) == FUNDS - other.core.application.floor.state.balance(
        ALICE.public
    )


def test_it_refuses_what_everybody_refuses() -> None:
    """A payment from before the snapshot executes no second time."""
    network = Network(policy=POLICY)
    network.checkpoint_ms = lambda: 2
    network.crash(LATE)
    first = transfer()
    network.submit(0, [first])
    network.run_until(lambda: min(network.heights()[:LATE]) > 0)
    pay(network, 12)
    join(network)
    late = network.nodes[LATE]
    assert late.installed
    assert late.core.application.floor.state.remembered(first.id)


def test_who_is_a_little_behind_fetches_blocks() -> None:
    network = ran(4)
    join(network)
    assert network.nodes[LATE].installed == []
    assert network.nodes[LATE].delivered[0].header.height == 1


@pytest.mark.parametrize("wants", FromSnapshot)
def test_where_blocks_are_pruned_everybody_starts_from_a_snapshot(wants: FromSnapshot) -> None:
    """Whatever was configured: there is no other way."""
    network = ran(kept=2)
    network.nodes[LATE].from_snapshot = wants
    join(network)
    assert len(network.nodes[LATE].installed) == 1


def test_a_replica_that_keeps_its_history_fetches_blocks_as_long_as_one_peer_has_them() -> None:
    network = ran(kept=2)
    network.nodes[2].kept_blocks = 0
    network = ran()
    for node in network.nodes[:2]:
        node.kept_blocks = 2
        node.prune(node.core.checkpoint_height)
    network.nodes[LATE].from_snapshot = FromSnapshot.PRUNED
    join(network)
    assert network.nodes[LATE].installed == []
    assert network.nodes[LATE].delivered[0].header.height == 1


def test_a_new_replica_takes_one_and_one_with_blocks_does_not() -> None:
    """By default a replica that has a history keeps it whole."""
    network = ran(2)
    network.start(LATE)
    network.run_until(lambda: network.heights()[LATE] == network.heights()[0])
    network.crash(LATE)
    pay(network, 12)
    join(network)
    assert network.nodes[LATE].installed == []
    network.nodes[LATE].from_snapshot = FromSnapshot.FAR
    network.crash(LATE)
    pay(network, 12)
    join(network)
    assert len(network.nodes[LATE].installed) == 1
    assert network.nodes[LATE].installed[0] > 13


def poor(message: LinkMessage) -> LinkMessage:
    """Somebody's balance is another one."""
    if not isinstance(message, Chunk):
        return message
    pieces = list(message.pieces)
    for number, piece in enumerate(pieces):
        if piece[1] == Balances.__struct_config__.tag:
            balances = decode(piece, Balances).balances
            pieces[number] = encode(Balances({key: units + 1 for key, units in balances.items()}))
    return Chunk(message.height, message.first, tuple(pieces))


def forgetful(message: LinkMessage) -> LinkMessage:
    """A payment could be executed again."""
    if not isinstance(message, Chunk):
        return message
    pieces = list(message.pieces)
    for number, piece in enumerate(pieces):
        if piece[1] == Remembered.__struct_config__.tag:
            some = decode(piece, Remembered)
            pieces[number] = encode(Remembered(some.lot, bytes(32) + some.ids[32:]))
    return Chunk(message.height, message.first, tuple(pieces))


def garbage(message: LinkMessage) -> LinkMessage:
    if not isinstance(message, Chunk):
        return message
    return Chunk(message.height, message.first, tuple(b"x" * len(piece) for piece in message.pieces))


def endless(message: LinkMessage) -> LinkMessage:
    """It is said to be a terabyte."""
    return SnapshotOffer(message.head, 10**9, 10**12) if isinstance(message, SnapshotOffer) else message


def tiny(message: LinkMessage) -> LinkMessage:
    """It is said to be one byte, so that honest ones look too large."""
    return SnapshotOffer(message.head, 1, 1) if isinstance(message, SnapshotOffer) else message


def higher(message: LinkMessage) -> LinkMessage:
    """Of a block that nobody certified."""
    if not isinstance(message, SnapshotOffer):
        return message
    head = message.head
    return SnapshotOffer(
        msgspec.structs.replace(head, header=msgspec.structs.replace(head.header, height=10**6)), 5, 500
    )


def silent(message: LinkMessage) -> LinkMessage | None:
    """Offers, and never delivers."""
    return None if isinstance(message, Chunk) else message


def empty(message: LinkMessage) -> LinkMessage:
    """Offers, and says then that it has it no more."""
    return Chunk(message.height, message.first, ()) if isinstance(message, Chunk) else message


LIES = (poor, forgetful, garbage, endless, tiny, higher, silent, empty)


@pytest.mark.parametrize("lie", LIES, ids=lambda lie: lie.__name__)
@pytest.mark.parametrize("liar", range(LATE))
def test_a_liar_costs_time_and_nothing_else(lie: Callable[[LinkMessage], LinkMessage | None], liar: int) -> None:
    """The state that is gone on from is the one that was certified, and comes from somebody else."""
    network = ran()
    altered(network, lie, liar)
    join(network)
    late, other = network.nodes[LATE], network.nodes[(liar + 1) % LATE]
    assert len(late.installed) == 1
    assert {wrong.peer for wrong in late.misbehaved if wrong.blamed} <= {liar}
    altered(network, lambda message: message)
    pay(network)
    network.run_until(lambda: network.heights()[LATE] == network.heights()[other.index], limit_ms=60_000)
    assert late.core.application.floor.state.root == other.core.application.floor.state.root
    assert late.failed is None


def test_nothing_is_taken_in_that_the_restart_would_lose() -> None:
    """Simulation seeds 213, 658 and 694: what it had said yes to was in no batch yet when it started again."""
    network = ran()
    late = network.nodes[LATE]
    early, later = transfer(), transfer()
    for node in network.nodes[:LATE]:
        node.chunks = {}
        network.crash(node.index)
        network.start(node.index)
    network.start(LATE)
    network.run_until(lambda: late.core.snapshots.active)
    with pytest.raises(Refused, match="far behind") as refusal:
        network.submit(LATE, [later])
    assert refusal.value.code == "catching_up"
    state = late.core.application.floor.state
    late.core.pool.take(named([early]), state, "", network.now_ms)  # as if a moment before
    network.run_until(lambda: bool(late.installed))
    assert late.rejected[early.id].code == "stopping"


def test_a_crash_while_it_is_fetched_begins_anew() -> None:
    network = ran()
    for node in network.nodes[:LATE]:
        node.chunks = {}
        network.crash(node.index)
        network.start(node.index)
    network.start(LATE)
    late = network.nodes[LATE]
    network.run_until(lambda: bool(late.saving))
    network.crash(LATE)
    join(network)
    assert len(late.installed) == 1


# ---------------------------------------------------------------------------------------- the exchange, step by step


def head_of(network: Network) -> Head:
    checkpoint = network.nodes[0].checkpoint
    assert checkpoint is not None
    return decode(checkpoint[0], Head)


@pytest.fixture(scope="module")
def head() -> Head:
    return head_of(ran())


def offered(head: Head, *sizes: int, pieces: int = 2) -> Snapshots:
    found = Snapshots(GENESIS)
    for peer, size in enumerate(sizes):
        found.hear(peer, SnapshotOffer(head, pieces, size), 0)
    return found


def test_one_offer_is_not_enough_where_one_replica_may_lie(head: Head) -> None:
    found = offered(head, 100)
    found.choose(0, 1, 0)
    assert not found.active
    found.hear(1, SnapshotOffer(head, 2, 100), 0)
    found.choose(0, 1, 0)
    assert found.active


def test_where_nobody_lies_one_is_enough(head: Head) -> None:
    found = offered(head, 10**12)
    found.choose(0, 0, 0)
    assert found.active


@given(st.lists(st.integers(2, 2**50), min_size=2, max_size=7), st.data())
@settings(max_examples=50, deadline=None)
def test_what_is_fetched_is_at_most_twice_what_an_honest_peer_offers(sizes: list[int], data: st.DataObject) -> None:
    network_head = _head()
    liars = data.draw(st.integers(0, len(sizes) - 1))
    lying = data.draw(st.sets(st.integers(0, len(sizes) - 1), max_size=liars))
    found = offered(network_head, *sizes)
    found.choose(0, liars, 0)
    assert found.download is not None
    honest = max((size for peer, size in enumerate(sizes) if peer not in lying), default=0)
    assert found.download.offer.size_bytes <= 2 * honest + snapshots.SLACK_BYTES


_HEAD: list[Head] = []


def _head() -> Head:
    if not _HEAD:
        _HEAD.append(head_of(ran()))
    return _HEAD[0]


def test_a_chunk_is_asked_for_again_and_then_another_peer(head: Head) -> None:
    found = offered(head, 100, 100)
    found.choose(0, 1, 0)
    asked = []
    for now_ms in range(0, (ATTEMPTS + 2) * RETRY_MS, RETRY_MS // 4):
        if (question := found.request(0, now_ms)) is not None:
            asked.append((now_ms, *question))
    assert asked == [(n * RETRY_MS, 0, ChunkRequest(head.header.height, 0)) for n in range(ATTEMPTS)]
    assert not found.active
    found.hear(2, SnapshotOffer(head, 2, 100), 0)
    found.choose(0, 1, 0)
    assert found.download is not None and found.download.peer == 1


def test_questions_are_paced_below_what_a_peer_serves(head: Head) -> None:
    """Else the allowance ran out, and an honest peer would seem silent."""
    assert CHUNK_BYTES * 1000 // PACE_MS < BYTES_PER_S
    found = offered(head, 200, 200)
    found.choose(0, 1, 0)
    assert found.request(0, 0) is not None
    assert found.receive(0, Chunk(head.header.height, 0, (b"a" * 100,)), 1) == (encode(head), b"a" * 100)
    assert found.request(0, PACE_MS) is None
    assert found.request(0, PACE_MS + 1) == (0, ChunkRequest(head.header.height, 1))
    assert found.wake_ms() == PACE_MS + 1 + RETRY_MS


def test_what_comes_twice_late_or_from_others_is_passed_over(head: Head) -> None:
    found = offered(head, 200, 200)
    found.choose(0, 1, 0)
    height = head.header.height
    good = Chunk(height, 0, (b"a" * 100,))
    assert found.receive(1, good, 1) == ()
    assert found.receive(0, Chunk(height + 1, 0, (b"a",)), 1) == ()
    assert found.receive(0, Chunk(height, 1, (b"a",)), 1) == ()
    assert found.receive(0, good, 1)
    assert found.receive(0, good, 2) == ()


@pytest.mark.parametrize("sizes", [(100, 50), (100, 101), (100, 60, 40)])
def test_more_or_less_than_what_was_offered_is_a_lie(head: Head, sizes: tuple[int, ...]) -> None:
    found = offered(head, 200, 200)
    found.choose(0, 1, 0)
    with pytest.raises(RemoteError, match=r"a snapshot of 2 pieces and 200 bytes was offered, \d pieces have \d+"):
        found.receive(0, Chunk(head.header.height, 0, tuple(bytes(size) for size in sizes)), 1)
    assert not found.active
    with pytest.raises(Untimely, match="its last one was false"):
        found.hear(0, SnapshotOffer(head, 2, 200), 0)


@pytest.mark.parametrize(("pieces", "size"), [(0, 0), (0, 5), (-1, 5), (5, 4)])
def test_nonsense_is_no_offer(head: Head, pieces: int, size: int) -> None:
    with pytest.raises(RemoteError, match="each has some"):
        Snapshots(GENESIS).hear(0, SnapshotOffer(head, pieces, size), 0)


def test_a_download_that_was_overtaken_ends(head: Head) -> None:
    found = offered(head, 200, 200)
    found.choose(0, 1, 0)
    assert found.request(head.header.height, 0) is None
    assert not found.active


def test_what_was_checked_too_late_is_not_installed(head: Head) -> None:
    """Else the journal would begin above the checkpoint that takes the place of ours (simulation seed 1357)."""
    height = head.header.height
    found = offered(head, 2, 2, pieces=1)
    found.choose(0, 1, 0)
    assert found.on_chunk(0, Chunk(height, 0, (b"ab",)), 1)
    assert found.on_checked(events.SnapshotChecked(height, None), height) == ()
    assert not found.active
    found.choose(0, 0, 0)
    assert found.on_chunk(1, Chunk(height, 0, (b"ab",)), 1)
    assert found.on_checked(events.SnapshotChecked(height, None), height - 1) == (events.InstallSnapshot(height),)


def test_a_chunk_holds_what_fits_and_one_piece_at_least() -> None:
    half = bytes(CHUNK_BYTES // 2)
    assert len(chunk(1, 0, [half, half, half]).pieces) == 2
    assert len(chunk(1, 0, [half * 3, half]).pieces) == 1
    assert chunk(1, 7, []).pieces == ()


def test_an_offer_says_what_was_published(head: Head) -> None:
    assert offer_of(Published(head, 3, 30)) == SnapshotOffer(head, 3, 30)
