"""The pool's limits, its order, and what it passes over."""

from __future__ import annotations

import msgspec
import pytest

from layer1.codec import encode
from layer1.crypto import SigningKey
from layer1.errors import Refused
from layer1.ledger.agreements import Final
from layer1.ledger.state import State
from layer1.ledger.transactions import CloseGroup, OpenGroup, RegisterPreimages, Transaction
from layer1.replica.mempool import Entry, Mempool, is_dispute
from layer1.replica.shares import PoolLimits
from tests.layer1.ledger.world import ALICE, BOB, CAROL, World, make_party
from tests.layer1.replica.network import GENESIS, named, signed, transfer

STATE = State.genesis(GENESIS)


def fill(pool: Mempool, transactions: list[Transaction], now_ms: int = 0, source: str = "") -> list[Entry]:
    """Take in and verify."""
    entries = pool.take(named(transactions), STATE, source, now_ms)
    for entry in entries:
        pool.verified(entry)
    return entries


def close(salt: int) -> Transaction:
    """A dispute: nobody's account signs it."""
    return Transaction(CloseGroup(Final(bytes(32), 0, bytes(32), 0, (1,)), ()), 1_000, salt.to_bytes(16, "big"))


def test_nothing_is_packed_before_it_is_verified() -> None:
    pool = Mempool(PoolLimits())
    entries = pool.take(named([transfer()]), STATE, "", 0)
    assert pool.pack(0) == ()
    pool.verified(entries[0])
    assert pool.pack(0) == tuple(entries)
    assert pool.pack(1_000) == ()


def test_a_transaction_appears_once() -> None:
    pool, item = Mempool(PoolLimits()), transfer()
    assert len(pool.take(named([item, item]), STATE, "", 0)) == 1
    assert pool.take(named([item]), STATE, "", 0) == []
    assert len(pool) == 1
    assert pool.size_bytes == len(encode(item))


def test_a_list_is_taken_whole_or_not_at_all() -> None:
    pool = Mempool(PoolLimits())
    poor = transfer(key=SigningKey(b"p" * 32))
    with pytest.raises(Refused, match="has 0 units"):
        pool.take(named([transfer(), poor]), STATE, "", 0)
    assert len(pool) == 0
    assert pool.size_bytes == 0


@pytest.mark.parametrize(
    ("transaction", "code"),
    [
        (transfer(valid_until_ms=-1), "expired"),
        (transfer(valid_until_ms=600_001), "not_yet_valid"),
        (transfer(1_000_001), "insufficient_balance"),
        (transfer(key=SigningKey(b"p" * 32)), "insufficient_balance"),
    ],
    ids=["expired", "not yet valid", "too much", "poor"],
)
def test_cheap_checks_come_first(transaction: Transaction, code: str) -> None:
    with pytest.raises(Refused) as caught:
        Mempool(PoolLimits()).take(named([transaction]), STATE, "", 0)
    assert caught.value.code == code


@pytest.mark.parametrize(
    "limits",
    [
        PoolLimits(transactions=4, reserved=1),
        PoolLimits(bytes=3 * len(encode(transfer())) + 1, reserved_bytes=1),
        PoolLimits(per_sender=3),
        PoolLimits(per_source=3),
    ],
    ids=["count", "bytes", "sender", "source"],
)
def test_each_limit_holds_and_leaving_makes_room(limits: PoolLimits) -> None:
    """ "Limits: count, bytes, per sender and per address; 503 `pool_full`, 429 `share_full`, with both numbers"."""
    pool = Mempool(limits)
    entries = fill(pool, [transfer() for _ in range(3)], source="one")
    of_all = limits.per_sender > 3 and limits.per_source > 3
    with pytest.raises(Refused, match=r"\d+ .*, at most \d+.*; retry in a second") as caught:
        fill(pool, [transfer()], source="one")
    assert caught.value.code == ("pool_full" if of_all else "share_full")
    pool.pack(0)
    pool.remove([entries[0].id])
    fill(pool, [transfer()], source="one")


def test_a_rejected_transaction_leaves_no_trace() -> None:
    pool = Mempool(PoolLimits(per_sender=1, per_source=1))
    (entry,) = pool.take(named([transfer()]), STATE, "one", 0)
    pool.reject(entry)
    assert len(pool) == pool.size_bytes == 0
    fill(pool, [transfer()], source="one")


def test_the_first_batch_leaves_at_once_and_the_next_after_the_delay() -> None:
    """A lone transfer never waits; under load batches are filled."""
    pool = Mempool(PoolLimits(batch_delay_ms=8))
    fill(pool, [transfer()])
    assert len(pool.pack(100)) == 1
    fill(pool, [transfer()])
    assert pool.pack_at_ms() == 108
    assert pool.pack(107) == ()
    assert len(pool.pack(108)) == 1
    assert pool.pack_at_ms() is None


def test_a_full_batch_does_not_wait() -> None:
    pool = Mempool(PoolLimits(batch_transactions=3, batch_delay_ms=1_000))
    fill(pool, [transfer() for _ in range(8)])
    assert [len(pool.pack(0)) for _ in range(3)] == [3, 3, 0]
    assert len(pool.pack(1_000)) == 2


def test_a_batch_stays_below_its_bytes() -> None:
    size = len(encode(transfer()))
    pool = Mempool(PoolLimits(batch_bytes=2 * size, batch_delay_ms=1))
    fill(pool, [transfer() for _ in range(5)])
    assert [len(pool.pack(now)) for now in (1, 2, 3)] == [2, 2, 1]


def test_disputes_go_first_and_have_reserved_room() -> None:
    """ "Group disputes have a lane with reserved room"."""
    pool = Mempool(PoolLimits(transactions=4, reserved=2, batch_delay_ms=1_000))
    fill(pool, [transfer(), transfer()])
    with pytest.raises(Refused):
        fill(pool, [transfer()])
    disputes = [close(1), close(2)]
    fill(pool, disputes)
    assert [entry.transaction for entry in pool.pack(0)] == disputes
    assert len(pool.pack(1_000)) == 2


def test_neither_lane_takes_the_room_of_the_other() -> None:
    size = len(encode(close(1)))
    pool = Mempool(PoolLimits(reserved_bytes=2 * size, bytes=2 * size + len(encode(transfer()))))
    fill(pool, [close(1), close(2)])
    with pytest.raises(Refused, match=f"{3 * size} bytes of disputes would wait here, at most {2 * size}"):
        fill(pool, [close(3)])
    fill(pool, [transfer()])
    with pytest.raises(Refused, match="bytes of transactions"):
        fill(pool, [transfer()])


def test_disputes_have_a_share_per_address_of_their_own() -> None:
    """Who behind one address floods with transfers keeps out no report from there."""
    pool = Mempool(PoolLimits(per_source=1, disputes_per_source=1))
    fill(pool, [transfer()], source="one")
    fill(pool, [close(1)], source="one")
    for another in (transfer(), close(2)):
        with pytest.raises(Refused, match="address one would have 2") as caught:
            fill(pool, [another], source="one")
        assert caught.value.code == "share_full"
        fill(pool, [another], source="two")


def registration(number: int) -> Transaction:
    bare = RegisterPreimages(ALICE.public, (number.to_bytes(32, "big"),))
    return signed(Transaction(bare, 500_000, number.to_bytes(16, "big")), ALICE)


def test_preimages_have_a_room_of_their_own() -> None:
    """Rule 21: whoever floods with transfers makes no preimage late, nor does a burst of them keep out all else."""
    size = len(encode(registration(0)))
    limits = PoolLimits(
        transactions=2, reserved=1, per_source=1, preimages=2, preimages_bytes=3 * size - 1, preimages_per_source=1
    )
    pool = Mempool(limits)
    fill(pool, [transfer()], source="one")
    fill(pool, [registration(1)], source="one")
    with pytest.raises(Refused, match="address one would have 2") as caught:
        fill(pool, [registration(2)], source="one")
    assert caught.value.code == "share_full"
    fill(pool, [registration(2)], source="two")
    with pytest.raises(Refused, match="3 registrations would wait here, at most 2 may"):
        fill(pool, [registration(3)], source="three")
    with pytest.raises(Refused, match="2 transactions would wait here"):
        fill(pool, [transfer()], source="two")
    fill(pool, [close(1)], source="two")
    pool.remove([entry.id for entry in pool.pack(0) + pool.pack(0) + pool.pack(0)])
    assert not len(pool) and pool.size_bytes == 0
    small = Mempool(PoolLimits(preimages_bytes=size))
    fill(small, [registration(1)])
    with pytest.raises(Refused, match="bytes of registrations"):
        fill(small, [registration(2)])


def test_forgeries_take_nothing_of_a_victims_share() -> None:
    """Anybody may name any account as sender: it counts when it has signed."""
    pool = Mempool(PoolLimits(per_sender=2))
    forged = [msgspec.structs.replace(transfer(), signatures=(bytes(64),)) for _ in range(6)]
    waiting = [pool.take(named([item]), STATE, "mallory", 0) for item in forged]
    fill(pool, [transfer(), transfer()], source="alice")
    for (entry,) in waiting:
        pool.reject(entry)
    with pytest.raises(Refused, match="would have 3"):
        fill(pool, [transfer()], source="alice")


def test_a_share_that_filled_up_meanwhile_is_seen_once_signatures_are_verified() -> None:
    pool = Mempool(PoolLimits(per_sender=1))
    first, second = (pool.take(named([transfer()]), STATE, "", 0)[0] for _ in range(2))
    assert pool.verified(first) is None
    refusal = pool.verified(second)
    assert refusal is not None
    assert refusal.code == "share_full"
    assert len(pool) == 1
    pool.remove([first.id])
    assert pool.size_bytes == 0
    fill(pool, [transfer()])


def test_everybody_who_signs_an_opening_is_its_sender() -> None:
    world = World()
    pool, open_ = Mempool(PoolLimits(per_sender=1)), OpenGroup(make_party(world.chain_id, (ALICE, BOB)).agreement)
    (entry,) = pool.take(named([world.sign(open_, ALICE, BOB)]), world.state, "", 0)
    pool.verified(entry)
    for sender in (ALICE, BOB):
        with pytest.raises(Refused, match=f"account {sender.public.hex()}"):
            pool.take(named([world.transfer(sender, ALICE, 1)]), world.state, "", 0)
    pool.take(named([world.transfer(CAROL, ALICE, 1)]), world.state, "", 0)


def test_batches_of_disputes_are_small() -> None:
    """Of two large batches that do not fit beside each other into a block, one would always wait."""
    pool = Mempool(PoolLimits(dispute_batch=3, batch_transactions=5))
    fill(pool, [close(salt) for salt in range(7)] + [transfer() for _ in range(6)])
    assert [len(pool.pack(0)) for _ in range(4)] == [3, 3, 5, 0]


def test_a_flood_of_disputes_is_packed_together_and_waits_for_no_batch_of_others() -> None:
    pool = Mempool(PoolLimits(batch_delay_ms=8))
    fill(pool, [transfer()])
    assert len(pool.pack(100)) == 1
    fill(pool, [transfer(), close(1)])
    assert [is_dispute(entry.transaction) for entry in pool.pack(101)] == [True]
    fill(pool, [close(2), close(3)])
    assert pool.pack(102) == ()
    assert pool.pack_at_ms() == 108
    assert [len(pool.pack(109)) for _ in range(2)] == [2, 1]


def test_what_is_a_dispute() -> None:
    assert is_dispute(close(1))
    assert not is_dispute(transfer())


def test_expired_ones_leave() -> None:
    pool = Mempool(PoolLimits())
    short, long = transfer(valid_until_ms=10), transfer(valid_until_ms=20)
    fill(pool, [short, long])
    assert pool.expire(10) == []
    assert pool.expire(11) == [short.id]
    assert len(pool) == 1


def test_a_false_copy_is_another_entry() -> None:
    pool, true = Mempool(PoolLimits()), transfer()
    false = msgspec.structs.replace(true, signatures=(bytes(64),))
    (first,) = pool.take(named([false]), STATE, "", 0)
    (second,) = pool.take(named([true]), STATE, "", 0)
    pool.verified(second)
    pool.reject(first)
    assert true.id in pool
    assert pool.is_verified(true.id, true)
    assert not pool.is_verified(true.id, false)
    assert len(pool) == 1


@pytest.mark.parametrize(
    "limits", [{"transactions": 0}, {"reserved": 50_000}, {"reserved_bytes": 32 * 2**20}, {"batch_delay_ms": 0}]
)
def test_limits_are_checked(limits: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(limits))):
        PoolLimits(**limits)


@pytest.mark.parametrize(("name", "most"), [("batch_transactions", 1_000), ("batch_bytes", 512 * 1024 - 64)])
def test_nobody_packs_batches_that_no_peer_takes(name: str, most: int) -> None:
    """A line in a configuration made a replica's own batches bad everywhere else, and its peers cut it off for them."""
    PoolLimits(**{name: most})
    with pytest.raises(ValueError, match=f"{name} is {most + 1}; no replica takes a batch of more than {most}"):
        PoolLimits(**{name: most + 1})


def test_preimages_are_packed_before_a_backlog_of_transfers_and_by_themselves() -> None:
    """Rule 21: a lane of their own, in the pool too."""
    pool = Mempool(PoolLimits(batch_transactions=10))
    fill(pool, [transfer() for _ in range(50)])
    bare = Transaction(RegisterPreimages(ALICE.public, (bytes(32),)), 500_000, bytes(16))
    fill(pool, [signed(bare, ALICE), close(1)])
    kinds = [{type(entry.transaction.payload).__name__ for entry in pool.pack(0)} for _ in range(3)]
    assert kinds == [{"CloseGroup"}, {"RegisterPreimages"}, {"Transfer"}]
    assert pool.pack(1), "a full batch of transfers leaves at once"
    pool.give_back()
    assert pool.pack_at_ms() is None
