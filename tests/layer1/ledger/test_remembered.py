"""What may not execute again stands under the state root."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from layer1 import merkle
from layer1.codec import decode, encode
from layer1.ledger.execute import execute, execute_filler
from layer1.ledger.image import collect
from layer1.ledger.records import REMEMBERED_KEY
from layer1.ledger.remembered import NONE, SECOND_MS, Lots, lot_of
from layer1.ledger.state import Snapshot, State
from tests.layer1.ledger.world import ALICE, BOB, World

NAMES = st.integers(0, 40).map(lambda number: bytes([number]) * 32)
BLOCKS = st.lists(
    st.tuples(st.dictionaries(NAMES, st.integers(0, 20_000), max_size=6), st.integers(0, 3_000)), max_size=12
)


@given(BLOCKS)
def test_lots_hash_what_is_remembered_in_order_of_execution(blocks: list[tuple[dict[bytes, int], int]]) -> None:
    """However it was reached: block by block, or from the ids at once, as whoever starts from a snapshot does."""
    lots, kept, clock = NONE, dict[int, list[bytes]](), 0
    for ids, step in blocks:
        clock += step
        fresh = {name: clock + ahead for name, ahead in ids.items()}
        lots = lots.after(fresh, clock)
        kept = {number: names for number, names in kept.items() if number >= lot_of(clock)}
        for name, until in fresh.items():
            kept.setdefault(lot_of(until), []).append(name)
    assert lots.root == Lots.of(kept).root
    assert (lots.root is None) == (not kept)


def test_another_order_another_lot_and_another_id_have_other_roots() -> None:
    a, b = bytes(32), b"\1" * 32
    roots = [
        Lots.of(ids).root
        for ids in ({}, {1: [a]}, {2: [a]}, {1: [b]}, {1: [a, b]}, {1: [b, a]}, {1: [a], 2: [b]}, {2: [a], 1: [b]})
    ]
    assert len(set(roots)) == len(roots)
    assert Lots.of({1: [a], 2: [b]}).root == Lots.of({2: [b], 1: [a]}).root


def test_a_view_is_left_as_it_is_by_its_children() -> None:
    """Siblings take in other ids above the same lots."""
    base = Lots.of({5: [b"\2" * 32]})
    root = base.root
    left, right = (base.after({name * 32: 5 * SECOND_MS}, 0) for name in (b"a", b"b"))
    assert len({root, left.root, right.root}) == 3
    assert base.root == root == Lots.of({5: [b"\2" * 32]}).root


def test_nothing_changes_without_ids_and_before_a_lot_is_over() -> None:
    lots = Lots.of({5: [bytes(32)]})
    assert lots.after({}, 6 * SECOND_MS - 1) is lots
    assert lots.after({}, 6 * SECOND_MS).root is None


def test_the_leaf_is_proven_and_goes_with_the_last_lot() -> None:
    world = World()
    payment = world.transfer(ALICE, BOB, 5)
    world.block(payment)
    leaf = Lots.of({lot_of(payment.valid_until_ms): [payment.id]}).root
    assert merkle.verify(world.state.root, REMEMBERED_KEY, leaf, world.state.prove(REMEMBERED_KEY))
    while world.state.clock <= payment.valid_until_ms + SECOND_MS:
        world.block(after_ms=60_000)
    assert merkle.verify(world.state.root, REMEMBERED_KEY, None, world.state.prove(REMEMBERED_KEY))


def test_filler_forgets_nothing() -> None:
    """It changes nothing, however late it comes: no root of an epoch's last block may depend on it."""
    world = World()
    payment = world.transfer(ALICE, BOB, 5)
    world.block(payment)
    late = world.state.wall_time + payment.valid_until_ms + 2 * SECOND_MS
    assert execute_filler(world.state, late).state.root == world.state.root


def test_a_state_without_one_id_has_another_root() -> None:
    """So a snapshot that forgets a payment, to have it executed twice, is not the ledger's."""
    world = World()
    payments = [world.transfer(ALICE, BOB, units) for units in range(1, 6)]
    world.block(*payments)
    snapshot = decode(encode(world.state.snapshot()), Snapshot)
    ((number, ids),) = snapshot.lots
    assert ids == tuple(payment.id for payment in payments)
    for changed in (ids[1:], ids[:-1], ids[::-1], (*ids, bytes(32))):
        forged = Snapshot(
            snapshot.height, snapshot.clock, snapshot.wall_time, snapshot.accounts, snapshot.groups,
            ((number, changed),),
        )  # fmt: skip
        assert State.restore(world.genesis, forged).root != world.state.root


def test_an_image_keeps_its_ids_while_the_ledger_goes_on() -> None:
    world = World()
    payments = [world.transfer(ALICE, BOB, units) for units in range(1, 4)]
    world.block(payments[0])
    image, root = world.state.image(), world.state.root
    position = (world.state.height, world.state.clock, world.state.wall_time)
    world.block(*payments[1:])
    while world.state.clock <= payments[-1].valid_until_ms + SECOND_MS:
        world.block(after_ms=60_000)
    restored = State.assemble(world.genesis, collect(image.pieces()), position)
    assert restored.root == root
    assert [restored.remembered(payment.id) for payment in payments] == [True, False, False]
    assert execute(restored, restored.wall_time + 1, payments).outputs[0].transaction_id == payments[1].id
