"""Batches by digest: form, shares, verification, fetching."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import count, islice

import msgspec
import pytest

from layer1.block import MAX_BATCH_TRANSACTIONS, Batch, batch_digest
from layer1.codec import encode
from layer1.errors import RemoteError, Untimely
from layer1.ledger.locks import MAX_PREIMAGES
from layer1.ledger.transactions import RegisterPreimages, Report, Transaction
from layer1.replica import lanes
from layer1.replica.batches import PREIMAGES_PART, BatchStore
from layer1.replica.lanes import MAX_HELD, Share
from tests.layer1.replica.network import GENESIS, transfer


def store() -> BatchStore:
    return BatchStore(GENESIS.parameters)


def batch(*transactions: object, replica: int = 1) -> bytes:
    return encode(Batch(replica, tuple(transactions) or (transfer(),)))  # type: ignore[arg-type]


def test_a_batch_is_pending_when_it_is_verified_until_it_is_final() -> None:
    batches, encoded = store(), batch()
    held = batches.add(encoded, 1, 0, wanted=False)
    assert held is not None
    assert list(batches.pending()) == []
    batches.accept(held)
    assert list(batches.pending()) == [held]
    assert batches.add(encoded, 2, 0, wanted=False) is None
    batches.remove([held.digest])
    assert list(batches.pending()) == []
    assert batches.get(held.digest) is None


@pytest.mark.parametrize(
    ("encoded", "why"),
    [
        (b"\xc1", "decode"),
        (encode(Batch(-1, (transfer(),))), "replica -1"),
        (encode(Batch(0, ())), "0 transactions"),
        (encode(Batch(0, (transfer(),) * (MAX_BATCH_TRANSACTIONS + 1))), "transactions; 1 to"),
        (bytes(10**6), "1000000 bytes"),
        (encode(Batch(0, (msgspec.structs.replace(transfer(), salt=bytes(20_000)),))), "a transaction of 20"),
    ],
    ids=["garbage", "packer", "empty", "many", "large", "large transaction"],
)
def test_a_malformed_batch_is_bad_for_everybody(encoded: bytes, why: str) -> None:
    """The bounds are constants of the protocol: no two replicas may disagree on a proposal because of them."""
    batches = store()
    for _ in range(2):
        with pytest.raises(RemoteError, match=why):
            batches.add(encoded, 1, 0, wanted=True)
    assert batches.why_bad(batch_digest(encoded)) is not None
    assert len(batches) == 0


def test_a_peer_has_its_share_unless_a_proposal_wants_more() -> None:
    batches, item = store(), transfer()
    for i in range(MAX_HELD.batches):
        batches.add(batch(msgspec.structs.replace(item, valid_until_ms=i)), 1, 0, wanted=False)
    with pytest.raises(RemoteError, match="at most"):
        batches.add(batch(transfer()), 1, 0, wanted=False)
    assert batches.add(batch(transfer(), replica=2), 2, 0, wanted=False) is not None
    assert batches.add(batch(transfer()), 1, 0, wanted=True) is not None


def report(number: int) -> Transaction:
    return Transaction(Report(bytes(32), None, None), 500_000, number.to_bytes(16, "big"))


def test_nobody_uses_up_the_share_of_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who packed a batch is its own word; what a peer relays, its disputes and its preimages take nothing of its own
    share."""
    monkeypatch.setattr(lanes, "MAX_HELD", Share(1, 10**6))
    monkeypatch.setattr(lanes, "MAX_HELD_BESIDES", Share(1, 10**6))
    batches = store()
    of_preimages = [batch(preimages(number)) for number in (1, 2)]
    for each in (batch(replica=3), batch(), batch(report(1)), batch(report(2), replica=0), of_preimages[0]):
        assert batches.add(each, 1, 0, wanted=False) is not None
    for each in (batch(replica=0), batch(), batch(report(3)), batch(report(4), replica=3), of_preimages[1]):
        with pytest.raises(Untimely, match="replica 1 would have 2 batches"):
            batches.add(each, 1, 0, wanted=False)
    assert batches.add(batch(replica=3), 3, 0, wanted=False) is not None, "replica 1 relayed another of it"


def test_what_a_proposal_wants_takes_nobodys_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "MAX_HELD", Share(1, 10**6))
    batches = store()
    for _ in range(3):
        assert batches.add(batch(), 1, 0, wanted=True) is not None
    held = batches.add(batch(), 1, 0, wanted=False)
    assert held is not None
    batches.remove([held.digest])
    assert batches.add(batch(), 1, 0, wanted=False) is not None


def given(batches: BatchStore, count: int) -> Counter[int]:
    """By who brought it, the weight of what a block takes first."""
    weights: Counter[int] = Counter()
    for held in islice(batches.shared_out(), count):
        weights[held.source] += held.weight
    return weights


@pytest.mark.parametrize("make", [lambda number: transfer(), report], ids=["transfers", "disputes"])
def test_a_replica_that_floods_leaves_the_others_their_part_of_a_block(make: Callable[[int], Transaction]) -> None:
    """It came first, with many; the others have their turns, by weight, however large its batches are."""
    batches, numbers = store(), count()
    for size, source, packer in [(9, 1, 1)] * 20 + [(9, 1, 0)] * 20 + [(1, 2, 2)] * 30 + [(3, 3, 3)] * 10:
        held = batches.add(batch(*(make(next(numbers)) for _ in range(size)), replica=packer), source, 0, wanted=False)
        assert held is not None
        batches.accept(held)
    weights = given(batches, 40)
    assert min(weights[2], weights[3]) >= 24
    assert weights[1] <= 2 * (weights[2] + 9), "its own, and what it relays"
    assert len({held.digest for held in batches.shared_out()}) == 80


def preimages(number: int) -> Transaction:
    secrets = tuple(bytes([i] * 32) for i in range(MAX_PREIMAGES))
    return Transaction(RegisterPreimages(bytes(32), secrets), 500_000, number.to_bytes(16, "big"), (bytes(64),))


def test_neither_preimages_nor_transfers_wait_for_a_burst_of_the_others() -> None:
    """Rule 21: "own lane". Disputes come first, then preimages up to their part, transfers, the rest of the former."""
    batches, numbers = store(), count()
    makers: list[Callable[[int], Transaction]] = [preimages] * 30 + [lambda _: transfer()] * 30 + [report]
    for make in makers:
        held = batches.add(batch(make(next(numbers))), 1, 0, wanted=False)
        assert held is not None
        batches.accept(held)
    order = [type(held.transactions[0].payload).__name__ for held in batches.shared_out()]
    first = -(-PREIMAGES_PART // (1 + MAX_PREIMAGES // 2))
    expected = ["Report"] + ["RegisterPreimages"] * first + ["Transfer"] * 30 + ["RegisterPreimages"] * (30 - first)
    assert order == expected and 0 < first < 10
    oldest = batches.oldest(())[1]
    assert oldest is not None and isinstance(oldest.transactions[0].payload, RegisterPreimages), "no leader may skip it"
    assert [type(held.transactions[0].payload).__name__ for held in batches.pending()][1] == "RegisterPreimages"
    batches.remove([held.digest for held in batches.pending()])
    assert not list(batches.shared_out())


def test_everybody_begins_in_turn() -> None:
    """Or of two batches that do not fit beside each other the same one would always wait."""
    batches = store()
    for source in (1, 2, 3):
        held = batches.add(batch(replica=source), source, 0, wanted=False)
        assert held is not None
        batches.accept(held)
    assert {next(batches.shared_out()).source for _ in range(3)} == {1, 2, 3}


def test_a_refused_batch_is_remembered() -> None:
    batches, encoded = store(), batch()
    held = batches.add(encoded, 1, 0, wanted=False)
    assert held is not None
    batches.refuse(held, "bad signature")
    with pytest.raises(RemoteError, match="bad signature"):
        batches.add(encoded, 2, 0, wanted=True)


def test_what_was_verified_is_known_with_its_signatures() -> None:
    batches, item = store(), transfer()
    held = batches.add(batch(item), 1, 0, wanted=False)
    assert held is not None
    assert not batches.is_verified(item.id, item)
    batches.accept(held)
    assert batches.is_verified(item.id, item)
    assert not batches.is_verified(item.id, msgspec.structs.replace(item, signatures=(bytes(64),)))
    batches.remove([held.digest])
    assert not batches.is_verified(item.id, item)


def test_batches_of_which_nothing_can_execute_leave() -> None:
    batches = store()
    held = batches.add(batch(transfer(valid_until_ms=5), transfer(valid_until_ms=9)), 1, 0, wanted=False)
    assert held is not None
    batches.accept(held)
    batches.expire(9)
    assert len(batches) == 1
    batches.expire(10)
    assert len(batches) == 0


def test_every_change_of_what_is_pending_is_a_new_version() -> None:
    batches = store()
    versions = [batches.version]
    held = batches.add_own(batch(), Batch(1, (transfer(),)), [bytes(32)], 0)
    versions.append(batches.version)
    batches.remove([held.digest])
    versions.append(batches.version)
    assert versions == sorted(set(versions))
