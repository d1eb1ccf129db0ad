"""Attacks on a replica that were tried, each kept as a test that failed before."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from layer1.block import Batch, batch_digest
from layer1.codec import decode, encode
from layer1.consensus.certificates import Signer
from layer1.consensus.events import Event as ConsensusEvent
from layer1.consensus.events import Now, Validate
from layer1.consensus.messages import Proposal
from layer1.errors import Refused, RemoteError
from layer1.ledger.agreements import Claim, Concur
from layer1.ledger.genesis import Parameters
from layer1.ledger.transactions import OpenGroup, Report, Transaction, sign_transaction
from layer1.link import Link
from layer1.replica import events
from layer1.replica.application import Application, Part
from layer1.replica.batches import BatchStore, batch_weight
from layer1.replica.mempool import Mempool, check_entry
from layer1.replica.messages import BatchData, ConsensusMessage, FetchBatch
from layer1.replica.shares import PoolLimits
from layer1.replica.weight import BUILD_WEIGHT, block_weight, heaviest, total_weight, weight
from tests.layer1.consensus.network import child
from tests.layer1.ledger.world import Party, World, key, make_party
from tests.layer1.replica.network import ALICE, EPOCH_MS, GENESIS, KEYS, Network, named, transfer
from tests.layer1.replica.test_driver import running

MEMBERS = 16


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def crowd(world: World) -> Party:
    """The largest group there is, wedged on version 0, opened by people who have no money."""
    people = [key(f"poor {i}") for i in range(MEMBERS)]
    party = world.opened(*people, deposit=0, bond=0)
    assert world.do(party.wedge(0, party.state(0))).code == "ok"
    return party


def part(*transactions: Transaction) -> Part:
    encoded = encode(Batch(0, transactions))
    return Part(batch_digest(encoded), encoded, transactions)


def rising_reports(world: World, party: Party, count: int) -> list[Transaction]:
    """Each is new when it executes, so that each makes every replica verify sixteen signatures."""
    return [world.sign(party.report(party.state(version, *[0] * MEMBERS))) for version in range(1, count + 1)]


def small(most: int) -> Parameters:
    return Parameters(max_block_transactions=most, view_timeout_ms=200, heartbeat_ms=1_000)


def test_rising_reports_of_a_group_without_money_do_not_fill_a_block(world: World, crowd: Party) -> None:
    """A block is measured by the signatures in it: this one took longer to execute than a view lasts."""
    reports = rising_reports(world, crowd, 3)
    assert [weight(report) for report in reports] == [MEMBERS] * 3
    application = Application(GENESIS)
    heavy = [renamed(part(*reports[:1] * 50), i) for i in range(10)]
    built = application.build(1, 0, application.floor.header, EPOCH_MS + 1, heavy)
    assert built.parts
    assert sum(each.weight for each in built.parts) <= BUILD_WEIGHT


def renamed(each: Part, number: int) -> Part:
    """The same under another name."""
    return Part(number.to_bytes(32, "big"), each.encoded, each.transactions)


def test_a_block_of_more_signatures_than_the_ledger_allows_is_invalid(world: World, crowd: Party) -> None:
    """Every replica counts alike, so a leader cannot make the voters work for longer than agreed."""
    bounded = Application(msgspec.structs.replace(GENESIS, parameters=small(200)))
    loose = Application(GENESIS)
    many = part(*rising_reports(world, crowd, 13))
    assert total_weight(many.transactions) > 200
    built = loose.build(1, 0, loose.floor.header, EPOCH_MS + 1, [many])
    header = msgspec.structs.replace(built.header, parent=bounded.floor.id)
    with pytest.raises(RemoteError, match="signatures in a block; at most 200"):
        bounded.validate(header, bounded.floor.header, built.parts)


def test_a_batch_that_does_not_fit_keeps_out_nothing_behind_it() -> None:
    """It blocked all batches behind it, for ever if it was larger than a block."""
    application = Application(msgspec.structs.replace(GENESIS, parameters=small(3)))
    too_large, fits = part(*(transfer() for _ in range(4))), part(transfer())
    built = application.build(1, 0, application.floor.header, EPOCH_MS + 1, [too_large, fits])
    assert built.digests == (fits.digest,)


def test_batches_fit_into_the_blocks_of_the_ledger() -> None:
    """With blocks smaller than a batch nothing was ever executed."""
    genesis = msgspec.structs.replace(GENESIS, parameters=small(3))
    network = Network(genesis=genesis)
    transactions = [transfer_on(genesis.chain_id) for _ in range(10)]
    network.submit(0, transactions)
    network.run_until(network.everybody_has(10))
    network.check()


def transfer_on(chain_id: bytes, valid_until_ms: int = 500_000) -> Transaction:
    blank = transfer(valid_until_ms=valid_until_ms)
    return msgspec.structs.replace(blank, signatures=(sign_transaction(blank, chain_id, ALICE),))


def test_a_peer_cannot_hand_over_a_batch_that_no_block_holds() -> None:
    """It would wait here for ever, and each leader would look at it for each block."""
    batches = BatchStore(small(3))
    with pytest.raises(RemoteError, match="a batch of 4 transactions; a block holds 3"):
        batches.add(encode(Batch(0, tuple(transfer() for _ in range(4)))), 1, 0, wanted=True)


def test_a_report_stuffed_with_claims_is_refused_at_once(world: World, crowd: Party) -> None:
    """No report needs more signatures than one certificate, one claim of each place, one concur of each member,
    a delegation and one proof have.
    """
    claim: Claim = crowd.claim(1, 0, crowd.state(0)[0].header)
    concurs = (Concur(crowd.id, 0, 0, 0, bytes(64)),) * 30
    stuffed = world.sign(Report(crowd.id, None, None, (claim,) * 40, None, concurs))
    assert weight(stuffed) > heaviest(world.genesis.parameters)
    with pytest.raises(Refused, match="carries 70 signatures; at most 66"):
        Mempool(PoolLimits()).take(named([stuffed]), world.state, "", 0)
    with pytest.raises(RemoteError, match="70 in one transaction"):
        BatchStore(world.genesis.parameters).add(encode(Batch(0, (stuffed,))), 1, 0, wanted=True)


def test_disputes_are_packed_by_weight(world: World, crowd: Party) -> None:
    """A batch of as many reports as transfers took half a second to execute."""
    pool = Mempool(PoolLimits(batch_transactions=100))
    for entry in pool.take(named(rising_reports(world, crowd, 20)), world.state, "", 0):
        pool.verified(entry)
    assert total_weight(entry.transaction for entry in pool.pack(0)) <= 100


def test_every_honest_dispute_fits_into_the_smallest_block(world: World, crowd: Party) -> None:
    """A ledger with tiny blocks must still take the largest report."""
    header = crowd.state(0)[0].header
    claims = [crowd.claim(i, 0, header) for i in range(MEMBERS)]
    largest = world.sign(crowd.report(crowd.state(1, *[0] * MEMBERS), *claims, double=crowd.double(3)))
    for most in (1, 5_000):
        assert weight(largest) <= heaviest(small(most)) <= batch_weight(small(most)) <= block_weight(small(most))


def test_bogus_disputes_stop_where_they_come_in(world: World, crowd: Party) -> None:
    """They need no account, and passed: each cost every replica its execution and a place in a block."""
    certificate, body = crowd.state(1, *[0] * MEMBERS)
    report = crowd.report((certificate, body))
    broken = msgspec.structs.replace(certificate, signatures=(*certificate.signatures[:-1], bytes(64)))
    good, forged = world.sign(report), world.sign(crowd.report((broken, body)))
    elsewhere = world.sign(msgspec.structs.replace(report, group_id=bytes(32)))
    stale = world.sign(crowd.report(crowd.state(0)))
    for bogus, code in ((forged, "bad_signature"), (elsewhere, "unknown_group"), (stale, "stale_report")):
        with pytest.raises(Refused) as caught:
            check_entry(world.state, bogus, world.chain_id, rehearsed=True)
        assert caught.value.code == code
        check_entry(world.state, bogus, world.chain_id, rehearsed=False)  # what a peer packed is judged by all alike
    root = world.state.root
    check_entry(world.state, good, world.chain_id, rehearsed=True)
    assert world.state.root == root
    assert world.block(good).outputs[0].code == "ok"
    check_entry(world.state, good, world.chain_id, rehearsed=True)  # executed meanwhile, by way of another replica


def test_a_bogus_dispute_is_refused_by_the_replica_that_it_is_brought_to() -> None:
    network = Network()
    bogus = Transaction(Report(bytes(32), None, None), 500_000, bytes(16))
    network.submit(0, [bogus])
    network.run_for(500)
    assert network.nodes[0].rejected[bogus.id].code == "unknown_group"
    assert len(network.nodes[0].core.pool) == 0
    assert all(not node.core.batches for node in network.nodes)


def test_an_opening_weighs_what_verifying_it_takes(world: World) -> None:
    people = [key(f"poor {i}") for i in range(MEMBERS)]
    opening = world.sign(OpenGroup(make_party(world.chain_id, people).agreement), *people)
    assert weight(opening) == MEMBERS


def test_who_brings_a_transaction_to_two_replicas_makes_none_refuse_to_start() -> None:
    """The second batch executes nothing, but a block names it: a replay had forgotten it, and found damage."""
    genesis = msgspec.structs.replace(GENESIS, parameters=small(50))
    network = Network(genesis=genesis, limits=PoolLimits(batch_transactions=1))
    transactions = [transfer_on(genesis.chain_id) for _ in range(300)]
    network.submit(1, transactions)
    network.submit(2, transactions[:1])
    network.run_until(network.everybody_has(300))
    network.run_for(3_000)
    assert sum(len(block.batches) for block in network.nodes[2].delivered) == 301
    network.crash(2)
    network.start(2)
    network.check()


def test_the_batches_of_a_block_that_is_not_final_are_served_when_nothing_of_them_can_execute_any_more() -> None:
    """Who voted for the block had dropped them: with one replica dead and one without them, all stood still [L2]."""
    parameters = msgspec.structs.replace(small(1), heartbeat_ms=5_000)
    network = Network(
        genesis=msgspec.structs.replace(GENESIS, parameters=parameters), limits=PoolLimits(batch_transactions=1)
    )
    network.run_for(3_000)
    chain_id = network.genesis.chain_id
    network.submit(0, [transfer_on(chain_id), transfer_on(chain_id, valid_until_ms=1_500)])
    voter = network.nodes[1].core
    network.run_until(lambda: network.heights()[1] == 1)
    [block] = voter.application.above_floor()
    [dead] = block.digests
    assert voter.batches.get(dead) is None
    question = events.FromPeer(3, encode(FetchBatch(dead)))
    effects = voter.step(question, Now(network.now_ms, EPOCH_MS + network.now_ms))
    [answer] = [effect for effect in effects if isinstance(effect, events.Transmit)]
    assert decode(answer.data, BatchData).batch == block.parts[0].encoded


@pytest.mark.slow
async def test_a_peer_whose_blocks_cannot_be_read_is_answered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The task ended with the database's error, nobody heard of it, and the peer was never served again."""
    async with running(tmp_path, 1) as (replica,):

        def fail(*_: object) -> None:
            raise OSError(5, "Input/output error")

        monkeypatch.setattr(replica.store, "blocks", fail)
        assert replica.core.answering.loads.ask(0, 1)
        replica._load(events.LoadBlocks(0, 1))
        await asyncio.gather(*replica._loads)
        assert 0 not in replica.core.answering.loads


@pytest.mark.slow
async def test_a_link_that_fails_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception while a link was served ended the task that dials this replica, for good."""
    async with running(tmp_path, 4) as replicas:
        first = replicas[0]
        broken = 0
        real = first._peers._serve

        async def once(link: Link) -> None:
            nonlocal broken
            broken += 1
            if broken <= 3:
                raise ZeroDivisionError
            await real(link)

        monkeypatch.setattr(first._peers, "_serve", once)
        for link in list(first._peers.links.values()):
            await link.close()
        async with asyncio.timeout(10):
            while len(first._peers.links) < 3 or broken < 6:  # noqa: ASYNC110 - nothing tells
                await asyncio.sleep(0.01)


def test_a_proposal_of_thousands_of_batches_is_looked_at_once_they_are_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each batch that came made a voter look at all of them: 4,000 kept it from everything else for twelve seconds."""
    network = Network()
    network.liars = True
    network.crash(0)
    core, now, many = network.nodes[1].core, Now(0, EPOCH_MS), 50
    encoded = [encode(Batch(0, (transfer(),))) for _ in range(many)]
    names = tuple(map(batch_digest, encoded))
    floor = core.application.floor
    blank = child(floor.header, 1, floor.header.wall_time, names)
    header = msgspec.structs.replace(blank, replica_set=core.config.replica_set)
    vote = Signer(core.config, KEYS[0], 0).notarize(1, header.id)
    core.step(events.Begin(1), now)
    core.step(events.FromPeer(0, encode(ConsensusMessage(0, Proposal(header, names, vote, ())))), now)
    looked, real = [], core._try_validate

    def look(effect: Validate) -> Sequence[ConsensusEvent]:
        looked.append(effect)
        return real(effect)

    monkeypatch.setattr(core, "_try_validate", look)
    effects = [effect for each in encoded for effect in core.step(events.FromPeer(0, encode(BatchData(each))), now)]
    jobs = [effect.job for effect in effects if isinstance(effect, events.Verify)]
    assert len(jobs) == many
    for job in jobs[:-1]:
        core.step(events.Verified(job, ()), now)
    assert not looked
    core.step(events.Verified(jobs[-1], ()), now)
    assert len(looked) == 1
