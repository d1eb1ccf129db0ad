"""Proof of an attack: what contradicts itself, what does not, and what a light client does about it."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from layer1.attack import AttackProof, contradiction, verify_attack
from layer1.client import LedgerUnreachable
from layer1.codec import decode, encode
from layer1.consensus.certificates import finalization
from layer1.consensus.evidence import verify as verify_evidence
from layer1.errors import RemoteError
from layer1.header import Header
from layer1.light import LedgerAttacked, LightClient
from layer1.proof import HeadProof
from tests.layer1.api.stand_in import ALICE, Chain, make_genesis
from tests.layer1.test_client import Net, net

__all__ = ["net"]

WALL = 1_700_000_000_000


def grown(blocks: int = 0, step: int = 1, *, at: int = WALL) -> Chain:
    """A chain of its own on the one genesis of this file; `at` makes its blocks differ."""
    chain = Chain(make_genesis(WALL))
    chain.step = step
    for i in range(blocks):
        chain.commit([chain.transfer()], at + i)
    return chain


def ended(after: int, *, at: int = WALL) -> Chain:
    """So many blocks, then a change of the set: replica 0 leaves, another one comes."""
    chain = grown(after, at=at)
    chain.commit([chain.change(add=1, remove=[0])], at + after)
    return chain


def at(chain: Chain, height: int) -> HeadProof:
    return HeadProof(chain.headers[height], (), chain.blocks[height - 1].finalization)


def signed(chain: Chain, header: Header) -> HeadProof:
    """Any header, final: the newest set signs whatever it is given."""
    votes = [signer.finalize(header.view, header.id) for signer in chain.signers]
    return HeadProof(header, (), finalization(votes, chain.state.replica_set.quorum))


def _twins() -> tuple[Chain, HeadProof, HeadProof]:
    one, other = grown(3), grown(3, at=WALL + 1)
    return one, at(one, 2), at(other, 2)


def _not_on_it() -> tuple[Chain, HeadProof, HeadProof]:
    one, other = grown(3), grown(3, at=WALL + 1)
    return one, at(one, 1), at(other, 2)


def _under_it() -> tuple[Chain, HeadProof, HeadProof]:
    one, first, second = _not_on_it()
    return one, second, first


def _on_its_path() -> tuple[Chain, HeadProof, HeadProof]:
    """The contradiction is between what leads to the certificates."""
    one, other = grown(5), grown(5, at=WALL + 1)
    first, second = at(one, 5), at(other, 5)
    return (
        one,
        replace(first, header=one.headers[1], path=tuple(one.headers[2:])),
        replace(second, header=other.headers[4], path=(other.headers[5],)),
    )


def _back_in_time() -> tuple[Chain, HeadProof, HeadProof]:
    one, other = grown(4, step=10), grown(6)
    return one, at(one, 4), at(other, 6)


def _earlier() -> tuple[Chain, HeadProof, HeadProof]:
    one, other = grown(4, at=WALL + 500), grown(6, step=2)
    return one, at(one, 4), at(other, 6)


def _goes_on() -> tuple[Chain, HeadProof, HeadProof]:
    one, other = ended(1), grown(6)
    return one, at(one, 2), at(other, 6)


def _full_filler() -> tuple[Chain, HeadProof, HeadProof]:
    """Behind the last block of an epoch, on it, and not empty."""
    one = ended(1)
    full = replace(one.filler().header, height=5, transactions_root=one.tip.transactions_root, view=9)
    old = Chain(make_genesis(WALL))
    return one, at(one, 2), signed(old, full)


def _below_the_boundary() -> tuple[Chain, HeadProof, HeadProof]:
    one = ended(3)
    one.commit()
    return one, at(one, 4), signed(one, replace(one.tip, height=3, view=30))


def _beside_the_boundary() -> tuple[Chain, HeadProof, HeadProof]:
    """The new set built on filler."""
    one = ended(3)
    filler = one.filler().header
    one.commit()
    return one, at(one, 4), signed(one, replace(one.tip, parent=filler.id))


def _before_the_boundary() -> tuple[Chain, HeadProof, HeadProof]:
    one = ended(3)
    one.commit()
    return one, at(one, 4), signed(one, replace(one.tip, height=9, view=2))


ATTACKS: list[tuple[Callable[[], tuple[Chain, HeadProof, HeadProof]], str]] = [
    (_twins, "two blocks of height 2 are final in epoch 0"),
    (_not_on_it, "block 2 of epoch 0 stands on"),
    (_under_it, "block 2 of epoch 0 stands on"),
    (_on_its_path, "two blocks of height 4 are final in epoch 0"),
    (_back_in_time, "block 6 of epoch 0, in view 6,.* does not come after block 4, in view 40"),
    (_earlier, "does not come after block 4"),
    (_goes_on, r"epoch 0 ended with block 2, and its block 6 .* is no filler"),
    (_full_filler, r"epoch 0 ended with block 2, and its block 5 .* is no filler"),
    (_below_the_boundary, "epoch 0 ended with block 4 of view 4; block 3 of view 30 is of epoch 1"),
    (_beside_the_boundary, "block 5 of epoch 1 stands on"),
    (_before_the_boundary, "epoch 0 ended with block 4 of view 4; block 9 of view 2 is of epoch 1"),
]


@pytest.mark.parametrize(("make", "reason"), ATTACKS, ids=[make.__name__ for make, _ in ATTACKS])
def test_what_contradicts_itself_is_proven_and_stops_belief(make: Any, reason: str, tmp_path: Path) -> None:
    chain, first, second = make()
    path = tmp_path / "light"
    light = LightClient(chain.genesis, path=path, wall_ms=lambda: WALL)
    light.follow(chain.trust.handovers)
    light.final(first)
    with pytest.raises(LedgerAttacked, match=reason) as attacked:
        light.final(second)
    attack = attacked.value.attack
    shown = decode(encode(attack.proof), AttackProof)
    assert verify_attack(chain.genesis, shown) == attack
    with pytest.raises(LedgerAttacked):
        light.final(first)
    with pytest.raises(LedgerAttacked):
        light.follow(())
    again = LightClient.load(chain.genesis, path)
    assert again.attack == attack
    with pytest.raises(LedgerAttacked, match=f"move {path} away"):
        again.newest(first)


def test_an_attack_is_noticed_whichever_side_comes_first() -> None:
    """Also when what was seen is contradicted by how its epoch turns out to have ended."""
    for make in (_goes_on, _full_filler):
        chain, _, second = make()
        light = LightClient(chain.genesis)
        light.final(second)
        with pytest.raises(LedgerAttacked, match="is no filler"):
            light.follow(chain.trust.handovers)


def test_filler_beside_a_block_does_not_hide_it() -> None:
    """Blocks are known by epoch and height: filler of the same height is another one."""
    one, other = ended(1), ended(1)
    filler = one.filler()
    for chain, wall in ((one, WALL + 3), (other, WALL + 4)):
        for i in range(3):
            chain.commit(wall_time=wall + i)
    light = LightClient(one.genesis)
    light.follow(one.trust.handovers)
    for height in (3, 5):
        light.final(at(one, height))
    light.final(HeadProof(one.headers[2], (filler.header,), filler.finalization))
    with pytest.raises(LedgerAttacked, match="two blocks of height 3 are final in epoch 1"):
        light.final(at(other, 3))


def test_two_sets_of_one_epoch_are_an_attack() -> None:
    for early, late in ((1, 1), (1, 4), (4, 1)):
        one, other = ended(early), ended(late, at=WALL + 1)
        light = LightClient(one.genesis)
        light.follow(one.trust.handovers)
        with pytest.raises(LedgerAttacked) as attacked:
            light.follow(other.trust.handovers)
        attack = attacked.value.attack
        assert verify_attack(one.genesis, attack.proof) == attack
        assert {attack.proof.first.header, attack.proof.second.header} == {one.tip, other.tip}


def test_more_than_f_are_named_and_in_one_view_each_is_convicted() -> None:
    """By number, which is a replica's own for ever; and with what the ledger takes as evidence."""
    one, other = ended(1), ended(1)
    one.commit(wall_time=WALL + 3), other.commit(wall_time=WALL + 4)
    other.signers = other.signers[1:]
    second = signed(other, other.tip)
    handovers = tuple(one.trust.handovers)
    assert handovers == tuple(other.trust.handovers)
    attack = verify_attack(one.genesis, AttackProof(one.genesis.chain_id, handovers, one.head, second))
    assert attack.signers == (2, 3)
    assert len(attack.signers) > attack.faults == 1
    voters = one.trust.voters(1)
    assert [one.trust.set_of(1).numbers[evidence.replica] for evidence in attack.evidence] == [2, 3]
    for evidence in attack.evidence:
        verify_evidence(evidence, voters)
    _, first, later = _not_on_it()
    found = verify_attack(one.genesis, AttackProof(one.genesis.chain_id, (), first, later))
    assert (found.signers, found.evidence) == ((0, 1, 2), ()), "in two views some may have been deceived"


def test_one_chain_with_all_its_filler_contradicts_itself_nowhere() -> None:
    """Of an honest ledger no two final blocks are an attack, in whatever order, with whatever is known."""
    chain, shown = grown(2), list[HeadProof]()
    for _ in range(3):
        chain.commit([chain.change(add=1, remove=[chain.state.replica_set.numbers[0]])], chain.tip.wall_time)
        filler = chain.filler()
        shown += [filler, HeadProof(chain.tip, (filler.header,), filler.finalization)]
        chain.commit([chain.transfer()], chain.tip.wall_time)
        chain.commit(wall_time=chain.tip.wall_time + 5)
    shown += [at(chain, height) for height in range(1, chain.tip.height + 1)]
    for first, second in product(shown, shown):
        assert contradiction(chain.trust, first, second) is None
    for order in (shown, shown[::-1]):
        light = LightClient(chain.genesis)
        light.follow(chain.trust.handovers)
        for proof in order:
            if not chain.trust.is_filler(proof.header):
                light.final(proof)
        assert light.attack is None
        assert light.head == chain.tip


def test_what_proves_nothing_is_refused() -> None:
    chain, first, second = _twins()
    proof = AttackProof(chain.genesis.chain_id, (), first, second)
    verify_attack(chain.genesis, proof)
    for wrong, told in (
        (replace(proof, second=first), "can be of one chain"),
        (replace(proof, second=at(chain, 3)), "can be of one chain"),
        (replace(proof, chain_id=bytes(32)), "the proof is about chain"),
        (replace(proof, second=replace(second, finalization=first.finalization)), "the finalization names"),
        (replace(proof, second=replace(second, header=replace(second.header, epoch=1))), "epoch 1"),
    ):
        with pytest.raises(RemoteError, match=told):
            verify_attack(chain.genesis, wrong)
    with pytest.raises(RemoteError, match="the proof is about chain"):
        verify_attack(make_genesis(WALL, name="other"), proof)
    encoded = encode(proof)
    for place in range(0, len(encoded), 53):
        changed = encoded[:place] + bytes([encoded[place] ^ 1]) + encoded[place + 1 :]
        with pytest.raises(RemoteError):
            verify_attack(chain.genesis, decode(changed, AttackProof))


def test_no_lone_liar_makes_a_client_stop() -> None:
    """What is not signed by a quorum is a lie, and no attack: else anybody could stop everybody."""
    chain, first, second = _twins()
    light = LightClient(chain.genesis)
    light.final(first)
    assert second.finalization is not None
    alone = replace(second, finalization=replace(second.finalization, signatures=second.finalization.signatures[:2]))
    for lie in (alone, replace(first, header=second.header), replace(second, finalization=None)):
        with pytest.raises(RemoteError):
            light.final(lie)
    assert light.attack is None
    assert light.final(first) == first.header


@pytest.mark.slow
async def test_a_reader_that_meets_both_sides_believes_nobody(net: Net) -> None:
    """Whoever outlives an unreachable ledger outlives this: it acts on nothing, and goes on."""
    fork = Chain(net.chain.genesis)
    net.chain.commit([net.chain.transfer(5)])
    fork.commit()
    await net.replica()
    await net.replica(fork)
    client = await net.client()
    header = (await client.account(ALICE.public)).header
    with pytest.raises(LedgerAttacked, match="two blocks of height 1") as attacked:
        await client.witnesses(header)
    assert isinstance(attacked.value, LedgerUnreachable)
    for ask in (client.account(ALICE.public), client.head(), client.output(bytes(32)), client.marks()):
        with pytest.raises(LedgerAttacked):
            await ask
    with pytest.raises(LedgerAttacked):
        await client.submit(net.chain.transfer())
    with pytest.raises(LedgerAttacked):
        await anext(client.events(after=0))


@pytest.mark.slow
async def test_witnesses_are_those_that_show_the_block(net: Net) -> None:
    await net.replica()
    await net.replica()
    await net.replica(Chain(net.chain.genesis))
    await net.liar(lambda _request: {})
    net.order()
    client = await net.client([*net.urls, "http://127.0.0.1:9"])
    assert await client.witnesses(net.chain.tip) == net.urls[:2]


def test_what_is_seen_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("layer1.light.MAX_SEEN", 3)
    chain = grown(9)
    light = LightClient(chain.genesis)
    for height in range(1, 10):
        light.final(at(chain, height))
    assert sorted(light._seen) == [(0, 7), (0, 8), (0, 9)]
