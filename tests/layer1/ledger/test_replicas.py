"""A replica set gives over to another only by its own quorum, for its own epoch, to keys that somebody holds."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from layer1.crypto import SigningKey
from layer1.errors import Refused, RemoteError
from layer1.ledger.execute import OK, execute, execute_filler
from layer1.ledger.image import collect
from layer1.ledger.records import REPLICA_SET_KEY
from layer1.ledger.replicas import MAX_REPLICAS, ChangeReplicas, ReplicaSet, SetChange, apply_change, first_set
from layer1.ledger.replicas import sign_change as sign
from layer1.ledger.state import State
from layer1.ledger.transactions import Transfer
from layer1.merkle import verify
from tests.layer1.ledger.world import ALICE, BOB, World, accusation, key, make_genesis

CHAIN = b"c" * 32
KEYS = tuple(SigningKey(bytes([i + 1]) * 32) for i in range(8))
PUBLIC = tuple(key.public for key in KEYS)
SET = first_set(PUBLIC[:4], "byzantine")
CHANGE = SetChange(0, (PUBLIC[4],), (1,), 1_000)

Spoil = Callable[[ChangeReplicas], ChangeReplicas]


@pytest.fixture
def world() -> World:
    return World()


def request(change: SetChange = CHANGE, by: tuple[int, ...] = (0, 1, 2), chain: bytes = CHAIN) -> ChangeReplicas:
    """Signed as it must be."""
    approvals = tuple((number, sign(change, chain, KEYS[number])) for number in by)
    joining = tuple(KEYS[PUBLIC.index(key)] for key in change.add if key in PUBLIC)
    return ChangeReplicas(change, approvals, tuple(sign(change, chain, key) for key in joining))


def apply(wanted: ChangeReplicas, current: ReplicaSet = SET, clock_ms: int = 0) -> ReplicaSet:
    return apply_change(current, wanted, CHAIN, clock_ms)


def test_numbers_are_for_ever() -> None:
    second = apply(request())
    assert (second.epoch, second.numbers) == (1, (0, 2, 3, 4))
    assert second.keys == (PUBLIC[0], PUBLIC[2], PUBLIC[3], PUBLIC[4])
    again = SetChange(1, (PUBLIC[1],), (4,), 1_000)
    third = apply(request(again, (0, 2, 3)), second)
    assert third.numbers == (0, 2, 3, 5), "neither 1 nor 4 comes again"
    assert third.number_of(PUBLIC[1]) == 5
    assert third.hash != second.hash != SET.hash


def test_who_leaves_may_approve() -> None:
    assert apply(request(by=(1, 2, 3))).epoch == 1


def test_it_is_executed_at_most_once() -> None:
    """It names the epoch that it ends: no nonce, no memory."""
    wanted = request(SetChange(0, (PUBLIC[4],), (), 1_000))
    with pytest.raises(Refused, match="the change ends epoch 0, this is 1"):
        apply(wanted, apply(wanted))


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (replace(CHANGE, epoch=1), "wrong_epoch"),
        (replace(CHANGE, expires_ms=-1), "change_expired"),
        (replace(CHANGE, add=(), remove=()), "no_change"),
        (replace(CHANGE, add=(b"short",)), "bad_key"),
        (replace(CHANGE, add=(PUBLIC[2],)), "replica_twice"),
        (replace(CHANGE, add=(PUBLIC[4], PUBLIC[4])), "replica_twice"),
        (replace(CHANGE, remove=(4,)), "unknown_replica"),
        (replace(CHANGE, remove=(-1,)), "unknown_replica"),
        (replace(CHANGE, remove=(2, 1)), "bad_order"),
        (replace(CHANGE, remove=(1, 1)), "bad_order"),
        (replace(CHANGE, add=(), remove=(0, 1, 2, 3)), "bad_size"),
        (replace(CHANGE, add=tuple(bytes([i]) * 32 for i in range(100, 100 + MAX_REPLICAS))), "bad_size"),
    ],
)
def test_what_nobody_can_agree_on_is_refused(change: SetChange, code: str) -> None:
    with pytest.raises(Refused) as refusal:
        apply(request(change))
    assert refusal.value.code == code


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (lambda _: request(by=(0, 1)), "too_few_approvals"),
        (lambda it: replace(it, approvals=(it.approvals[0], *it.approvals[:2])), "bad_order"),
        (lambda it: replace(it, approvals=it.approvals[::-1]), "bad_order"),
        (lambda it: replace(it, approvals=(*it.approvals, (9, it.approvals[0][1]))), "unknown_replica"),
        (lambda it: replace(it, approvals=tuple((n + 1, s) for n, s in it.approvals)), "bad_signature"),
        (lambda it: replace(it, acceptances=()), "bad_signature"),
        (lambda it: replace(it, acceptances=(it.approvals[0][1],)), "bad_signature"),
        (lambda _: request(chain=b"d" * 32), "bad_signature"),
        (lambda it: replace(it, change=replace(it.change, remove=(2,))), "bad_signature"),
        (lambda it: replace(it, change=replace(it.change, add=(PUBLIC[5],))), "bad_signature"),
        (lambda it: replace(it, change=replace(it.change, expires_ms=2_000)), "bad_signature"),
    ],
)
def test_every_signature_is_over_this_very_change(spoil: Spoil, code: str) -> None:
    assert apply(request()).epoch == 1
    with pytest.raises(Refused) as refusal:
        apply(spoil(request()))
    assert refusal.value.code == code


def test_an_omission_set_needs_a_smaller_quorum() -> None:
    """n > 2f: of four replicas one may fail; of five two, and three agree."""
    five = first_set(PUBLIC[:5], "omission")
    assert (five.faults, five.quorum) == (2, 3)
    assert apply(request(SetChange(0, (), (4,), 0), (0, 1, 2)), five).fault_model == "omission"


def seal(world: World, change: SetChange, by: tuple[int, ...], joining: tuple[SigningKey, ...] = ()) -> ChangeReplicas:
    """A change in a world, whose replicas have keys of their own."""
    approvals = tuple((number, sign(change, world.chain_id, key(f"replica {number}"))) for number in by)
    return ChangeReplicas(change, approvals, tuple(sign(change, world.chain_id, new) for new in joining))


def test_the_boundary_names_the_next_set_in_its_state(world: World) -> None:
    before = world.state.root
    assert world.do(seal(world, SetChange(0, (PUBLIC[4],), (0,), 10_000), (0, 1, 2), (KEYS[4],))).code == OK
    replicas = world.state.replica_set
    assert (replicas.epoch, replicas.numbers) == (1, (1, 2, 3, 4))
    assert verify(world.state.root, REPLICA_SET_KEY, replicas.hash, world.state.prove(REPLICA_SET_KEY))
    assert world.state.root != before
    assert State.restore(world.genesis, world.state.snapshot()).root == world.state.root
    assert collect(world.state.image().pieces()).replica_set == replicas


def test_of_two_changes_in_a_block_one_is_executed(world: World) -> None:
    first = world.sign(seal(world, SetChange(0, (), (3,), 10_000), (0, 1, 2)))
    second = world.sign(seal(world, SetChange(0, (), (2,), 10_000), (0, 1, 2)))
    outputs = world.block(first, second).outputs
    assert [output.code for output in outputs] == [OK, "wrong_epoch"]
    assert world.state.replica_set.numbers == (0, 1, 2)


def test_a_marked_key_is_never_added_again(world: World) -> None:
    assert world.do(accusation(world.genesis, 3)).code == OK
    assert world.do(seal(world, SetChange(0, (), (3,), 10_000), (0, 1, 2))).code == OK
    back = SetChange(1, (world.genesis.replicas[3],), (), 10_000)
    assert world.do(seal(world, back, (0, 1, 2), (key("replica 3"),))).code == "replica_marked"


def test_the_clock_of_the_genesis_bounds_the_size() -> None:
    """Time: max_step_ms >= heartbeat + (f+1) view timeouts, also of the next set."""
    world = World(make_genesis(max_step_ms=12_000))  # heartbeat 10 s, a view timeout of 1 s, f = 1
    new = tuple(KEYS[4:7])
    larger = SetChange(0, tuple(one.public for one in new), (), 10_000)
    output = world.do(seal(world, larger, (0, 1, 2), new))
    assert (output.code, world.state.replica_set.epoch) == ("max_step_too_small", 0)


def test_filler_is_past_no_clock_at_which_the_next_epoch_begins(world: World) -> None:
    """Decision 021: who is shown filler for the head must call nothing dead that a later block executes.

    The steps of filler add up, the next epoch's first block makes one of its own from the boundary.
    """
    boundary, step = world.state, world.genesis.parameters.max_step_ms
    lasting = world.sign(Transfer(BOB.public, ALICE.public, 5), BOB, valid_ms=step + 1)
    filler = execute_filler(boundary, boundary.wall_time + step)
    filler = execute_filler(filler.state, boundary.wall_time + 2 * step)
    block = execute(boundary, boundary.wall_time + 2 * step, [lasting])
    assert block.outputs[0].code == OK
    assert filler.clock == boundary.clock < block.clock, "no reader of filler may call the transfer expired"


def test_filler_settles_nothing(world: World) -> None:
    """It is no part of the ledger: nothing may come of it, not even at a deadline."""
    party = world.opened()
    assert world.do(party.wedge(0, party.state(0))).code == OK
    assert world.state.next_deadline() is not None
    world.block(after_ms=30_000)
    late = world.state.wall_time + 60_000
    filler, block = execute_filler(world.state, late), execute(world.state, late, ())
    assert filler.state.root == world.state.root
    assert not filler.events
    assert block.events, "a block of the ledger settles it"
    with pytest.raises(RemoteError, match="wall time"):
        execute_filler(world.state, world.state.wall_time - 1)
