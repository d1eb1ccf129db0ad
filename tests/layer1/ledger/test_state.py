"""Views, the base below them, its indexes, proofs and snapshots."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layer1 import merkle
from layer1.codec import decode, encode
from layer1.errors import LocalError, RemoteError
from layer1.ledger.events import AccountChanged, Event, GroupClosed, GroupOpened, GroupReported, GroupWedged
from layer1.ledger.execute import execute
from layer1.ledger.records import Reason
from layer1.ledger.state import (
    REPLICA_SET_KEY,
    Account,
    Group,
    Snapshot,
    State,
    account_key,
    group_key,
    leaf_hash,
)
from layer1.ledger.store import SortedIds, Store
from layer1.ledger.transactions import OpenGroup
from tests.layer1.ledger.world import (
    ALICE,
    BOB,
    CAROL,
    PERIOD,
    RICH,
    START,
    World,
    accusation,
    key,
    make_party,
    payout,
    records_root,
)


def test_execution_leaves_the_parent_as_it_is() -> None:
    world = World()
    parent, root = world.state, world.state.root
    child = execute(parent, START + 1, [world.transfer(ALICE, BOB, 5)]).state
    assert (parent.balance(BOB.public), parent.root, parent.height) == (RICH, root, 0)
    assert (child.balance(BOB.public), child.height, child.clock, child.wall_time) == (RICH + 5, 1, 1, START + 1)
    assert child.root != root


def test_a_chain_of_views_is_committed_from_its_end() -> None:
    """Views, each above the other, read through to the base; committing the last commits its ancestors."""
    world = World()
    payments = [world.transfer(ALICE, BOB, 1 << i) for i in range(6)]
    views = [world.state]
    for payment in payments:
        views.append(execute(views[-1], views[-1].wall_time + 1, [payment]).state)
    assert [view.balance(BOB.public) - RICH for view in views] == [(1 << i) - 1 for i in range(7)]
    assert views[-1].remembered(payments[0].id) and not views[0].remembered(payments[0].id)
    views[3].commit()
    assert [view.balance(BOB.public) - RICH for view in views[3:]] == [(1 << i) - 1 for i in range(3, 7)]
    views[6].commit()
    views[6].commit()
    assert views[6].balance(BOB.public) == RICH + 63
    assert execute(views[6], START + 9, payments).outputs == ()


def test_roots_and_proofs_outlive_a_view() -> None:
    """The tree is immutable, so a proof can still be made for the last height while the next one is committed."""
    world = World()
    before = world.state
    world.block(world.transfer(ALICE, BOB, 5))
    key_ = account_key(BOB.public)
    assert merkle.verify(before.root, key_, leaf_hash(Account(RICH)), before.prove(key_))
    with pytest.raises(LocalError, match="height 0 does not descend"):
        before.account(BOB.public)


def test_a_record_is_proven_against_the_root() -> None:
    world = World()
    party = world.opened()
    world.block(world.transfer(CAROL, BOB, RICH))
    state, group = world.state, world.group(party)
    for name, record in (
        (account_key(BOB.public), state.account(BOB.public)),
        (account_key(CAROL.public), Account(0)),
        (group_key(party.id), group),
        (group_key(bytes(32)), None),
    ):
        assert merkle.verify(state.root, name, leaf_hash(record), state.prove(name))
    forged = leaf_hash(Account(1))
    assert not merkle.verify(state.root, account_key(CAROL.public), forged, state.prove(account_key(CAROL.public)))
    proof = state.prove(REPLICA_SET_KEY)
    assert merkle.verify(state.root, REPLICA_SET_KEY, world.genesis.replica_set.hash, proof)
    assert decode(encode(group), Group) == group


def test_accounts_and_groups_have_distinct_keys() -> None:
    assert account_key(bytes(32)) != group_key(bytes(32)) != REPLICA_SET_KEY


def test_an_emptied_account_leaves_no_leaf() -> None:
    """The root after emptying an account is the root of a ledger that never heard of it."""
    world = World()
    root = records_root(world.state)
    stranger = key("stranger")
    world.block(world.transfer(ALICE, stranger, 5))
    world.block(world.transfer(stranger, ALICE, 5))
    assert records_root(world.state) == root
    assert world.state.account(stranger.public) == Account(0)


def test_groups_are_found_by_keys_and_accounts_in_pages() -> None:
    world = World()
    parties = [world.opened(name=f"g{i}") for i in range(5)]
    pending = make_party(world.chain_id, (BOB, CAROL), name="new")
    view = execute(world.state, START + 99, [world.sign(OpenGroup(pending.agreement), BOB, CAROL)]).state
    names = sorted(party.id for party in parties)
    assert [g.group_id for g in world.state.groups_of(ALICE.public)] == names
    assert [g.group_id for g in world.state.groups_of(ALICE.public, after=names[1], limit=2)] == names[2:4]
    assert [g.group_id for g in world.state.groups()] == names
    assert len(view.groups_of(BOB.public)) == len(view.groups()) == 6
    assert [g.group_id for g in view.groups(after=view.groups(limit=2)[-1].group_id)] == [
        g.group_id for g in view.groups()[2:]
    ]
    assert len(world.state.groups_of(parties[0].keys[0].public)) == 1
    assert [g.group_id for g in world.state.groups_of(payout("g0", 0).public)] == [parties[0].id]
    assert world.state.groups_of(key("stranger").public) == []
    assert world.state.group(bytes(32)) is None


def test_a_snapshot_restores_the_same_ledger() -> None:
    """Root, remembered ids and due work come back; so the next block gives the same roots."""
    world = World()
    parties = [world.opened(name=f"g{i}") for i in range(3)]
    for party in parties[:2]:
        world.do(party.wedge(0, party.state(3, 500, 1_500)))
    assert world.do(accusation(world.genesis, 1)).code == "ok"
    payment = world.transfer(ALICE, BOB, 5)
    world.block(payment)
    snapshot = decode(encode(world.state.snapshot()), Snapshot)
    restored = State.restore(world.genesis, snapshot)
    assert (restored.root, restored.height, restored.clock) == (world.state.root, world.state.height, world.state.clock)
    assert restored.next_deadline() == world.state.next_deadline() is not None
    assert restored.total_units() == world.genesis.supply_units
    assert restored.snapshot() == snapshot
    assert restored.groups_of(ALICE.public) == world.state.groups_of(ALICE.public)
    assert restored.mark(world.genesis.replicas[1]) == world.state.mark(world.genesis.replicas[1]) is not None
    block = [payment, world.transfer(BOB, ALICE, 7), world.sign(accusation(world.genesis, 1))]
    ours, theirs = (execute(s, s.wall_time + PERIOD, block) for s in (world.state, restored))
    assert replace(ours, state=theirs.state) == theirs
    assert ours.state.root == theirs.state.root
    with pytest.raises(LocalError, match="committed head"):
        ours.state.snapshot()


def test_ids_are_forgotten_when_their_life_span_is_over() -> None:
    world = World()
    payment = world.transfer(ALICE, BOB, 5)
    world.block(payment)
    while world.state.clock < payment.valid_until_ms:
        world.block(after_ms=min(60_000, payment.valid_until_ms - world.state.clock))
    assert world.state.remembered(payment.id)
    world.block(after_ms=1_000)
    assert not world.state.remembered(payment.id)
    assert world.state.snapshot().lots == ()


def test_wall_time_never_goes_back() -> None:
    world = World()
    with pytest.raises(RemoteError, match=f"{START - 1} is before the parent's {START}"):
        execute(world.state, START - 1, [])


def test_a_heartbeat_changes_only_the_clock() -> None:
    world = World()
    block = world.block(after_ms=10_000)
    assert (block.events, block.outputs, block.clock) == ((), (), 10_000)
    assert block.outputs_root == block.transactions_root == merkle.list_root([])
    assert block.state.root == State.genesis(world.genesis).root


def test_outputs_and_ids_stand_under_their_roots() -> None:
    world = World()
    payments = [world.transfer(ALICE, BOB, units) for units in (1, RICH, 2)]
    block = world.block(*payments)
    assert block.transactions == tuple(payments)
    assert block.transaction_ids == tuple(p.id for p in payments)
    assert [o.code for o in block.outputs] == ["ok", "insufficient_balance", "ok"]
    proof = merkle.prove_index([o.hash for o in block.outputs], 1)
    assert merkle.verify_index(block.outputs_root, block.outputs[1].hash, proof)
    assert block.transactions_root == merkle.list_root(block.transaction_ids)


def events_of(world: World) -> tuple[Event, ...]:
    return world.last.events


def test_events_tell_a_groups_whole_life() -> None:
    world = World()
    party = world.opened()
    assert [type(e) for e in events_of(world)] == [GroupOpened, AccountChanged, AccountChanged]
    world.do(party.wedge(0, party.state(3, 1_700, 300)))
    name = world.last.transaction_ids[0]
    deadline = world.state.clock + PERIOD
    assert events_of(world) == (GroupWedged(party.id, name, 0, 3, deadline),)
    world.do(party.report(party.state(5, 300, 1_700)))
    assert events_of(world) == (GroupReported(party.id, world.last.transaction_ids[0], 5, (), (0,), deadline, None),)
    world.block(after_ms=PERIOD)
    assert events_of(world) == (
        GroupClosed(party.id, None, Reason.DEADLINE, 5, (300, 1_902)),
        AccountChanged(payout("g", 0).public, 300),
        AccountChanged(payout("g", 1).public, 1_902),
    )


def test_an_account_whose_money_came_back_has_not_changed() -> None:
    world = World()
    block = world.block(world.transfer(ALICE, BOB, 5), world.transfer(BOB, ALICE, 5))
    assert block.events == ()


def test_a_group_lives_and_dies_in_one_block() -> None:
    world = World()
    party = make_party(world.chain_id, (ALICE, BOB))
    opening = world.sign(OpenGroup(party.agreement), ALICE, BOB)
    party.id = execute(world.state, START + 1, [opening]).outputs[0].group_id or b""
    final = world.sign(party.final(2_000, 0))
    block = world.block(final, opening, world.sign(party.final(2_000, 0)))
    assert [o.code for o in block.outputs] == ["unknown_group", "ok", "ok"]
    assert world.balance(payout("g", 0)) == 2_101


@given(st.lists(st.tuples(st.integers(0, 50), st.binary(min_size=1, max_size=1)), unique=True), st.integers(0, 60))
def test_due_walks_the_heap_in_order(entries: list[tuple[int, bytes]], clock: int) -> None:
    store = Store(0)
    for entry in entries:
        store._deadlines.append(entry)
    store._deadlines.sort()
    assert list(store.due(clock)) == [entry for entry in sorted(entries) if entry[0] <= clock]


@given(st.sets(st.binary(min_size=2, max_size=2)), st.binary(max_size=2))
def test_sorted_ids_page_like_a_sorted_list(names: set[bytes], after: bytes) -> None:
    ids = SortedIds()
    for name in names:
        ids.add(name)
    assert list(ids.after(after)) == [name for name in sorted(names) if name > after]
