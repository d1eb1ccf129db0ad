"""Catching up: whom to ask, what to believe, what to answer."""

from __future__ import annotations

import msgspec
import pytest

from layer1.block import CommittedBlock, batch_digest
from layer1.errors import RemoteError
from layer1.ledger.genesis import genesis_header
from layer1.proof import Trust
from layer1.replica import catchup
from layer1.replica.catchup import RETRY_MS, CatchUpState, RecentBlocks, answer, parts_of
from layer1.replica.messages import Blocks
from tests.layer1.replica.network import GENESIS, Network, transfer

FLOOR = genesis_header(GENESIS)


@pytest.fixture(scope="module")
def blocks() -> list[CommittedBlock]:
    network = Network()
    for _ in range(5):
        network.submit(0, [transfer()])
        height = network.heights()[0]
        network.run_until(lambda height=height: min(network.heights()) > height)  # type: ignore[misc]
    return network.nodes[0].delivered


def state() -> CatchUpState:
    return CatchUpState(Trust(GENESIS), 3)


def test_the_sender_is_asked_first_then_the_others_in_turn(blocks: list[CommittedBlock]) -> None:
    late = state()
    late.aim(blocks[-1].header.view, 2, 0)
    assert late.active
    asked = [late.request(FLOOR, RETRY_MS * i) for i in range(4)]
    assert [None if a is None else (a[0], a[1].first) for a in asked] == [(2, 1), (0, 1), (1, 1), (2, 1)]
    assert late.request(FLOOR, 3 * RETRY_MS + 1) is None
    assert late.wake_ms() == 4 * RETRY_MS


def test_blocks_are_given_out_one_by_one(blocks: list[CommittedBlock]) -> None:
    late = state()
    late.aim(blocks[-1].header.view, 0, 0)
    late.request(FLOOR, 0)
    late.receive(0, answer(blocks, 1), FLOOR, 5)
    assert late.busy
    assert late.request(FLOOR, 9_999) is None  # first the work in hand
    heights = []
    while (found := late.next_block(FLOOR)) is not None:
        heights.append(found[0].header.height)
        assert len(parts_of(found[0])) == len(found[0].batches)
    assert heights == [block.header.height for block in blocks]
    assert late.request(blocks[-1].header, 10_000) is None
    assert not late.active


def test_when_nobody_has_more_it_ends() -> None:
    late = state()
    late.aim(99, 0, 0)
    for i in range(3):
        request = late.request(FLOOR, i)
        assert request is not None
        late.receive(request[0], Blocks(()), FLOOR, i)
    assert late.request(FLOOR, 3) is None
    assert not late.active


def _with(message: Blocks, position: int, **changes: object) -> Blocks:
    items = list(message.blocks)
    items[position] = msgspec.structs.replace(items[position], **changes)
    return Blocks(tuple(items))


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda m: Blocks(m.blocks[1:]), "does not follow"),
        (lambda m: Blocks(m.blocks[::-1]), "does not follow"),
        (lambda m: _with(m, 0, batches=(b"x",)), "not those that its header names"),
        (lambda m: _with(m, -1, finalization=None), "nothing makes"),
        (lambda m: _with(m, 1, finalization=m.blocks[0].finalization), "the path leads to"),
    ],
    ids=["gap", "order", "batches", "no finalization", "wrong finalization"],
)
def test_wrong_answers_are_refused_and_the_next_peer_is_asked(
    blocks: list[CommittedBlock], spoil: object, why: str
) -> None:
    late = state()
    late.aim(blocks[-1].header.view, 0, 0)
    late.request(FLOOR, 0)
    with pytest.raises(RemoteError, match=why):
        late.receive(0, spoil(answer(blocks, 1)), FLOOR, 1)  # type: ignore[operator]
    assert not late.busy
    request = late.request(FLOOR, 1)
    assert request is not None
    assert request[0] != 0


def test_a_forged_finalization_executes_nothing(blocks: list[CommittedBlock]) -> None:
    """ "A fetched block is executed only under a finalization that was checked"."""
    late = state()
    late.aim(blocks[-1].header.view, 0, 0)
    late.request(FLOOR, 0)
    real = blocks[0].finalization
    forged = msgspec.structs.replace(real, signatures=tuple((i, bytes(64)) for i, _ in real.signatures))
    late.receive(0, _with(answer(blocks, 1), 0, finalization=forged), FLOOR, 1)
    with pytest.raises(RemoteError, match="bad signature"):
        late.next_block(FLOOR)
    assert not late.busy


def test_only_who_was_asked_answers(blocks: list[CommittedBlock]) -> None:
    late = state()
    late.aim(blocks[-1].header.view, 0, 0)
    late.request(FLOOR, 0)
    with pytest.raises(RemoteError, match="1, which was not asked for blocks"):
        late.receive(1, answer(blocks, 1), FLOOR, 1)
    assert not late.busy
    late.receive(0, answer(blocks, 1), FLOOR, 1)
    assert late.busy


def test_a_late_answer_is_taken_and_a_useless_one_is_nobodys_fault(blocks: list[CommittedBlock]) -> None:
    """Over links slower than the retry every answer is late: dropping them, a replica never caught up."""
    late = state()
    late.aim(blocks[-1].header.view, 0, 0)
    late.request(FLOOR, 0)
    second = late.request(FLOOR, catchup.RETRY_MS)
    assert second is not None and second[0] != 0
    late.receive(0, answer(blocks, 1), FLOOR, catchup.RETRY_MS + 1)
    assert late.busy
    late.receive(second[0], answer(blocks, 1), FLOOR, catchup.RETRY_MS + 2)
    taken = 0
    while late.next_block(FLOOR) is not None:
        taken += 1
    assert taken == len(blocks)


def test_an_answer_after_the_end_changes_nothing(blocks: list[CommittedBlock]) -> None:
    late = state()
    late.aim(blocks[-1].header.view, 0, 0)
    late.request(FLOOR, 0)
    assert late.request(blocks[-1].header, 1) is None
    late.receive(0, answer(blocks, 1), FLOOR, 2)
    assert not late.busy and not late.active


def test_an_answer_ends_with_a_finalization_and_is_bounded(
    blocks: list[CommittedBlock], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catchup, "MAX_BLOCKS", 2)
    path = (blocks[2].header,)
    chain = [blocks[0], msgspec.structs.replace(blocks[1], path=path), *blocks[2:]]
    heights = [[block.header.height for block in answer(chain, first).blocks] for first in (1, 2, 99)]
    assert heights == [[1, 2, 3], [2, 3], []]
    assert answer(chain[:2], 2).blocks == ()  # what makes block 2 final is not here
    assert answer(chain, 2).blocks[0].finalization is None


def test_recent_blocks_are_bounded_and_know_their_batches(
    blocks: list[CommittedBlock], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catchup, "RECENT_BLOCKS", 2)
    recent = RecentBlocks()
    assert recent.from_height(1) is None
    full = [block for block in blocks if block.batches]
    for block in full:
        recent.add(block)
    assert recent.from_height(full[-3].header.height) is None
    assert recent.from_height(full[-2].header.height) is not None
    first, last = (batch_digest(block.batches[0]) for block in (full[0], full[-1]))
    assert recent.batch(last) == full[-1].batches[0]
    assert recent.batch(first) is None
