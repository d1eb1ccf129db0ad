"""Building, validating and committing blocks; divergence stops."""

from __future__ import annotations

import msgspec
import pytest

from layer1.block import Batch, batch_digest
from layer1.codec import encode
from layer1.consensus.messages import Finalization
from layer1.errors import LocalError, RemoteError
from layer1.header import Header
from layer1.replica.application import Application, Executed, Part
from layer1.replica.weight import BUILD_WEIGHT
from tests.layer1.replica.network import BOB, EPOCH_MS, GENESIS, transfer


def part(*amounts: int) -> Part:
    transactions = tuple(transfer(amount) for amount in amounts)
    encoded = encode(Batch(0, transactions))
    return Part(batch_digest(encoded), encoded, transactions)


def build(application: Application, parent: Header, *parts: Part, view: int | None = None) -> Executed:
    return application.build(view or parent.view + 1, 0, parent, EPOCH_MS + 100 * (parent.height + 1), parts)


def final(executed: Executed) -> Finalization:
    return Finalization(0, executed.header.view, executed.id, ())


def test_what_one_builds_another_validates() -> None:
    one, two = Application(GENESIS), Application(GENESIS)
    built = build(one, one.floor.header, part(1, 2), part(3))
    checked = two.validate(built.header, two.floor.header, built.parts)
    assert checked.id == built.id
    assert two.state_after(built.id).balance(BOB.public) == 6
    assert two.validate(built.header, two.floor.header, built.parts) is checked


def test_a_batch_of_an_ancestor_is_not_built_in_again() -> None:
    application, shared = Application(GENESIS), part(1)
    first = build(application, application.floor.header, shared)
    second = build(application, first.header, shared, part(2))
    assert [len(p.transactions) for p in second.parts] == [1]
    assert application.included(second.id) == {shared.digest, second.parts[0].digest}
    sibling = build(application, application.floor.header, shared, view=7)
    assert sibling.digests == (shared.digest,)


def test_a_block_has_bounded_room_but_always_takes_one_batch() -> None:
    application = Application(GENESIS)
    full = part(*([1] * 900))
    built = build(application, application.floor.header, full, part(*([2] * 900)), part(3))
    assert [len(p.transactions) for p in built.parts] == [900, 1]  # what does not fit keeps out nothing behind it
    assert sum(len(p.transactions) for p in built.parts) <= BUILD_WEIGHT


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"height": 2}, "height"),
        ({"parent": b"x" * 32}, "parent"),
        ({"epoch": 1}, "epoch"),
        ({"clock": 7}, "clock"),
        ({"batches_root": bytes(32)}, "batches root"),
        ({"transactions_root": bytes(32)}, "transactions root"),
        ({"outputs_root": bytes(32)}, "outputs root"),
        ({"state_root": bytes(32)}, "state root"),
        ({"replica_set": bytes(32)}, "replica set"),
        ({"wall_time": EPOCH_MS - 1}, "wall time"),
    ],
)
def test_every_field_of_a_header_is_checked(changes: dict[str, object], why: str) -> None:
    """Rule 3: "executing it gives the header's roots"."""
    one, two = Application(GENESIS), Application(GENESIS)
    built = build(one, one.floor.header, part(1))
    header = msgspec.structs.replace(built.header, **changes)
    with pytest.raises(RemoteError, match=why):
        two.validate(header, two.floor.header, built.parts)
    assert two.get(header.id) is None
    with pytest.raises(LocalError, match=f"divergence.*{why}"):
        two.check_not_refused(header.id)
    assert why in two.describe_refusals()


def test_a_block_with_too_many_transactions_is_invalid() -> None:
    small = msgspec.structs.replace(
        GENESIS, parameters=msgspec.structs.replace(GENESIS.parameters, max_block_transactions=2)
    )
    large, bounded = Application(GENESIS), Application(small)
    built = build(large, large.floor.header, part(1, 1, 1))
    header = msgspec.structs.replace(built.header, parent=bounded.floor.id)
    with pytest.raises(RemoteError, match="at most 2"):
        bounded.validate(header, bounded.floor.header, built.parts)
    assert build(bounded, bounded.floor.header, part(1, 1, 1)).parts == ()


def test_commit_moves_the_floor_and_forgets_siblings() -> None:
    application = Application(GENESIS)
    first = build(application, application.floor.header, part(1))
    second = build(application, first.header, part(2))
    sibling = build(application, application.floor.header, part(5), view=9)
    blocks = application.commit([first.header, second.header], final(second))
    assert [block.header for block in blocks] == [first.header, second.header]
    assert [block.path for block in blocks] == [(second.header,), ()]
    assert application.floor.id == second.id
    assert application.floor.state.balance(BOB.public) == 3
    assert not application.has_state(sibling.id)
    assert application.has_state(second.id)
    with pytest.raises(LocalError, match="no state"):
        application.state_after(sibling.id)
    assert application.commit([first.header, second.header], final(second)) == []


def test_a_final_block_tells_what_executing_it_did() -> None:
    """Event streams live on this: a settlement at its deadline has no transaction that would show it."""
    application = Application(GENESIS)
    built = build(application, application.floor.header, part(1))
    (block,) = application.commit([built.header], final(built))
    assert block.events == built.execution.events != ()


def test_descendants_of_the_floor_stay() -> None:
    application = Application(GENESIS)
    first = build(application, application.floor.header, part(1))
    second = build(application, first.header, part(2))
    application.commit([first.header], final(first))
    assert application.has_state(second.id)
    application.commit([second.header], final(second))
    assert application.floor.state.balance(BOB.public) == 3


def test_a_final_block_that_does_not_follow_stops() -> None:
    application = Application(GENESIS)
    first = build(application, application.floor.header, part(1))
    other = build(application, application.floor.header, part(2), view=5)
    application.commit([first.header], final(first))
    wrong = msgspec.structs.replace(other.header, height=2)
    with pytest.raises(LocalError, match="no executed child"):
        application.commit([wrong], final(other))
