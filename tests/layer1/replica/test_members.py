"""Replicas over links while their set changes: known by their keys, numbered by the set, linked whoever knows whom."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from shutil import rmtree

import pytest

from layer1.config import CONFIG_NAME, Peer, load_config, read_key
from layer1.config_format import format_config
from layer1.crypto import PublicKey, SigningKey
from layer1.devnet import Place, configure, home_of, make_home
from layer1.errors import LocalError
from layer1.ledger.replicas import ChangeReplicas, ReplicaSet, Seat, SetChange, first_set, sign_change
from layer1.ledger.transactions import Transaction
from layer1.replica.driver import Replica
from layer1.replica.numbers import FIRST_LOCAL, UNNUMBERED, Numbers, number_in
from tests.layer1.replica.test_driver import free_address, make, transfer

A, B, C, D = (bytes([i]) * 32 for i in range(4))


def test_a_key_has_the_number_of_the_newest_set_that_has_it() -> None:
    """One that was removed keeps its number; one that comes back has its new one; who was in no set has a local one."""
    sets = [first_set([A, B], "byzantine")]
    configured = [C, B]
    numbers = Numbers(lambda: sets, lambda: configured)
    assert [numbers.of(key) for key in (A, B, C, D)] == [0, 1, FIRST_LOCAL, None]
    assert numbers.key_of(FIRST_LOCAL) == C
    sets.append(ReplicaSet(1, "byzantine", (Seat(1, B), Seat(2, C)), 3))
    assert [numbers.of(key) for key in (A, B, C, D)] == [0, 1, 2, None]
    assert numbers.key_of(FIRST_LOCAL) is None
    sets.append(ReplicaSet(2, "byzantine", (Seat(2, C), Seat(3, A)), 4))
    assert [numbers.of(key) for key in (A, B, C, D)] == [3, 1, 2, None]
    assert [number_in(sets, key) for key in (A, B, C, D)] == [3, 1, 2, None]
    configured[:] = [D]
    numbers.forget()
    assert [numbers.of(key) for key in (A, B, C, D)] == [3, 1, 2, FIRST_LOCAL]
    assert UNNUMBERED < FIRST_LOCAL


@asynccontextmanager
async def five(directory: Path, *, higher: bool) -> AsyncIterator[list[Replica]]:
    """Four replicas, and a fifth, whose key is higher, or lower, than all of theirs; one of the four is told of it."""
    held = make(directory, 4)
    configs = [load_config(home_of(directory, i), reuse_port=True) for i in range(4)]
    keys = [read_key(config.key).public for config in configs]
    places = [Place(key, config.link, config.api) for key, config in zip(keys, configs, strict=True)]
    key = _key(lambda public: public > max(keys) if higher else public < min(keys))
    home = home_of(directory, 4)
    own = Place(key.public, free_address(held), free_address(held))
    async with AsyncExitStack() as stack:
        stack.callback(held.release)
        found = [Replica(config) for config in configs]
        make_home(home, found[0].genesis, key, configure(home, own, places))
        found.append(Replica(load_config(home, reuse_port=True)))
        for replica in found:
            stack.push_async_callback(replica.stop)
            await replica.start()
        two = found[2].config
        path = two.home / CONFIG_NAME
        path.write_text(format_config(replace(two, peers=(*two.peers, Peer(key.public, own.link)))))
        found[2].reload()
        yield found


def _key(wanted: Callable[[PublicKey], bool]) -> SigningKey:
    while not wanted((key := SigningKey.generate()).public):
        pass
    return key


def change(replicas: Sequence[Replica], add: Sequence[Replica] = (), remove: Sequence[int] = ()) -> Transaction:
    """Approved by all members."""
    first = replicas[0]
    members, chain_id = first.core.application.replica_set, first.genesis.chain_id
    agreed = SetChange(members.epoch, tuple(replica._key.public for replica in add), tuple(remove), 300_000)
    of = {replica._key.public: replica._key for replica in replicas}
    approvals = tuple((seat.number, sign_change(agreed, chain_id, of[seat.key])) for seat in members.seats)
    acceptances = tuple(sign_change(agreed, chain_id, replica._key) for replica in add)
    return Transaction(ChangeReplicas(agreed, approvals, acceptances), 300_000, bytes(15) + bytes([members.epoch]))


async def when(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(15):
        while not condition():  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0.02)


async def pay(at: Replica, everybody: Sequence[Replica], salt: int) -> None:
    (name,) = at.submit([transfer(at, salt)])
    assert (await at.wait_final([name], 15_000))[name].output.code == "ok"
    height = at.head().header.height
    await when(lambda: all(replica.head().header.height >= height for replica in everybody))


@pytest.mark.slow
@pytest.mark.parametrize("higher", [True, False])
async def test_one_is_added_whose_address_hardly_anybody_knows_and_one_leaves(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, higher: bool
) -> None:
    """Whoever dials whom: the newcomer listens, becomes replica 4, and its vote counts. Who left listens."""
    async with five(tmp_path, higher=higher) as replicas:
        first, last = replicas[0], replicas[4]
        assert (last.index, last.is_member, last.status()["member"]) == (None, False, False)
        await pay(last, replicas, 1)  # it listens, and takes in what others order
        assert [row["index"] for row in last.endpoints()] == [0, 1, 2, 3, None]
        first.submit([change(replicas, add=[last])])
        await when(lambda: all(replica.core.config.epoch == 1 for replica in replicas))
        assert (last.index, last.is_member) == (4, True)
        await when(lambda: all(len(replica._peers.links) == 4 for replica in replicas))
        assert all(sorted(replica._peers.links) == [i for i in range(5) if i != replica.index] for replica in replicas)
        row = first.endpoints()[4]
        assert (row["index"], row["position"], row["member"], row["link"], row["connected"]) == (4, 4, True, None, True)
        last.submit([change(replicas, remove=[0])])
        await when(lambda: all(replica.core.config.epoch == 2 for replica in replicas))
        await when(lambda: "replica 0 listens: it is not in the replica set" in caplog.text)
        assert (first.index, first.is_member, first.status()["member"]) == (0, False, False)
        assert last.status()["leader"] == last.core.consensus.leader + 1, "a number: the set is 1, 2, 3, 4"
        assert [(row["index"], row["member"]) for row in first.endpoints()] == [
            (1, True), (2, True), (3, True), (4, True), (0, False),
        ]  # fmt: skip
        await pay(first, replicas, 2)
        await first.stop()
        await replicas[1].stop()  # n = 4, q = 3: the vote of the newcomer is needed
        await pay(last, replicas[2:], 3)


@pytest.mark.slow
async def test_who_left_knows_its_number_after_a_restart(tmp_path: Path) -> None:
    async with five(tmp_path, higher=True) as replicas:
        last = replicas[4]
        replicas[0].submit([change(replicas, add=[last])])
        await when(lambda: last.core.config.epoch == 1)
        last.submit([change(replicas, remove=[4])])
        await when(lambda: all(replica.core.config.epoch == 2 for replica in replicas))
        await last.stop()
        again = Replica(replace(last.config))
        try:
            await again.start()
            assert (again.index, again.is_member) == (4, False)
            await when(lambda: len(again._peers.links) == 4)
            await when(lambda: all(4 in replica._peers.links for replica in replicas[:4]))
            await pay(again, [*replicas[:4], again], 1)
        finally:
            await again.stop()


@pytest.mark.slow
async def test_what_a_listener_says_of_its_journal_is_not_kept(tmp_path: Path) -> None:
    """Its number is local: after a change of the configuration it would be that of somebody else."""
    async with five(tmp_path, higher=False) as replicas:
        await when(lambda: FIRST_LOCAL in {number - number % FIRST_LOCAL for number in replicas[2]._peers.links})
        await when(lambda: set(replicas[4]._peers.links) == {2})
        assert replicas[4].core.generations.peers == {2: 1}
        assert all(number < FIRST_LOCAL for replica in replicas for number in replica.core.generations.peers)


@pytest.mark.slow
async def test_who_lost_its_journal_hears_those_whom_a_later_set_numbers(tmp_path: Path) -> None:
    """It knows the genesis alone when it asks. n = 5, q = 4: all others must report, the newcomer, too."""
    async with five(tmp_path, higher=True) as replicas:
        last, lost = replicas[4], replicas[2]
        replicas[0].submit([change(replicas, add=[last])])
        await when(lambda: all(replica.core.config.epoch == 1 for replica in replicas))
        await lost.stop()
        rmtree(lost.config.journal)
        again = Replica(load_config(lost.config.home, reuse_port=True), rejoin=True)
        try:
            async with asyncio.timeout(20):
                await again.start()
            await when(lambda: again.core.config.epoch == 1)
            assert again.index == 2
        finally:
            await again.stop()


@pytest.mark.slow
async def test_who_left_and_lost_its_disk_is_refused_until_it_rejoins_and_then_listens(tmp_path: Path) -> None:
    """With its old key and an empty journal it would vote again in the epochs in which it was (decision 021)."""
    async with five(tmp_path, higher=True) as replicas:
        left, others = replicas[0], replicas[1:]
        others[0].submit([change(replicas, add=[replicas[4]], remove=[0])])
        await when(lambda: all(replica.core.config.epoch == 1 for replica in replicas))
        await left.stop()
        for path in left.config.journal.glob("segment-*"):
            path.unlink()
        for lost in (left.config.journal / "lock", left.config.journal, left.config.data):
            refused = Replica(load_config(left.config.home, reuse_port=True))
            with pytest.raises(LocalError, match=r"journal .* is missing.*start with --rejoin"):
                await refused.start()
            await refused.stop()
            rmtree(lost) if lost.is_dir() else lost.unlink()
        again = Replica(load_config(left.config.home, reuse_port=True), rejoin=True)
        try:
            async with asyncio.timeout(20):
                await again.start()
            await when(lambda: again.core.config.epoch == 1)
            assert (again.index, again.is_member, again.status()["generation"]) == (0, False, 2)
            await pay(again, [again, *others], 1)
            assert again.core.consensus.vote_from > again.core.consensus.view
        finally:
            await again.stop()
