"""A replica that lost its journal: what its peers report bounds where it can have voted, whoever of them lies."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from layer1.codec import decode
from layer1.consensus.certificates import Signer, Vote, notarization, nullification, view_of
from layer1.consensus.config import Config
from layer1.consensus.messages import Certificate, Finalize, Notarize, Nullify, Proposal, View
from layer1.consensus.quorum import FaultModel
from layer1.consensus.records import decode_record as decode_consensus
from layer1.crypto import SigningKey
from layer1.errors import LocalError, RemoteError
from layer1.ledger.genesis import Genesis
from layer1.replica import events
from layer1.replica.core import consensus_config
from layer1.replica.messages import LinkMessage, Standing
from layer1.replica.records import ConsensusRecord, decode_record
from layer1.replica.rejoin import MAX_RISE, Rejoined, Rejoining, believed_generation
from tests.layer1.replica.network import GENESIS, Network, transfer

BLOCK = bytes(32)
SIGNING_KEYS = tuple(SigningKey(bytes([i + 1]) * 32) for i in range(10))


@dataclass
class Peers:
    """n replicas that can certify anything: more than faulty ones can."""

    genesis: Genesis

    @property
    def config(self) -> Config:
        return consensus_config(self.genesis, self.genesis.replica_set)

    def __post_init__(self) -> None:
        self.signers = [Signer(self.config, key, index) for index, key in enumerate(SIGNING_KEYS[: self.n])]

    @property
    def n(self) -> int:
        return len(self.config.replicas)

    def entry(self, view: View) -> tuple[Certificate, ...]:
        """What proves that somebody could enter this view, through a notarization."""
        if view == 1:
            return ()
        votes = [signer.notarize(view - 1, BLOCK) for signer in self.signers]
        return (notarization(votes[: self.config.quorum], self.config.quorum),)

    def skipped(self, start: View) -> Certificate:
        """A nullification of the term of this view."""
        votes = [signer.nullify(start) for signer in self.signers]
        return nullification(votes[: self.config.quorum], self.config.quorum)

    def report(self, view: View, generation: int = 1) -> Standing:
        """An honest one."""
        return Standing(generation, view, self.entry(view))


def peers(n: int, term_views: int = 1, model: FaultModel = "byzantine") -> Peers:
    keys = tuple(key.public for key in SIGNING_KEYS[:n])
    parameters = replace(GENESIS.parameters, term_views=term_views)
    return Peers(replace(GENESIS, replicas=keys, parameters=parameters, fault_model=model))


def outcome(world: Peers, reports: dict[int, Standing], lost: int = 0) -> Rejoined | None:
    rejoining = Rejoining(world.genesis, world.genesis.replicas[lost])
    found = None
    for peer, report in reports.items():
        found = rejoining.hear(peer, report)
    return found


# ------------------------------------------------------------------------------------------------------- the argument


SIZES: list[tuple[int, FaultModel]] = [
    (4, "byzantine"), (7, "byzantine"), (10, "byzantine"), (3, "omission"), (5, "omission"), (7, "omission"),
]  # fmt: skip


@st.composite
def losses(draw: st.DrawFn) -> tuple[Peers, View, dict[int, View], set[int]]:
    """A replica 0 that was lost: the last view it can have voted in, where its peers are, and which of them lie."""
    n, model = draw(st.sampled_from(SIZES))
    term_views = draw(st.sampled_from([1, 3, 64]))
    world = peers(n, term_views, model)
    config = world.config
    others = list(range(1, n))
    liars = set(draw(st.permutations(others))[: max(0, config.liars - 1)])
    term = draw(st.integers(1, 5))
    first = config.first_view(term * term_views)
    nullified = draw(st.booleans())
    # Replica 0 entered `entered` on the votes of a quorum: itself, all liars, and as few honest ones as that takes.
    entered = config.last_view(first) + 1 if nullified else draw(st.integers(first + 1, config.last_view(first) + 1))
    honest = draw(st.permutations([peer for peer in others if peer not in liars]))
    voters = honest[: config.quorum - 1 - len(liars)]
    views = dict.fromkeys(others, 1)
    for voter in voters:
        early = entered - 1 > first  # a leader inside a term votes a view ahead
        cast_in = draw(st.integers(first, entered - 1)) if nullified else entered - 1 - (early and draw(st.booleans()))
        views[voter] = draw(st.integers(cast_in, cast_in + 2))
    last_voted = draw(st.integers(entered, config.last_view(entered)))
    return world, last_voted, views, liars


def reports_of(world: Peers, views: dict[int, View], liars: set[int], data: st.DataObject) -> dict[int, Standing]:
    """From any q peers, liars first; a liar says too little, since too much does not count."""
    honest = data.draw(st.permutations([peer for peer in views if peer not in liars]))
    chosen = [*sorted(liars), *honest][: world.config.quorum]
    return {peer: world.report(1 if peer in liars else views[peer]) for peer in chosen}


@given(data=st.data())
@settings(max_examples=300, deadline=None)
def test_it_votes_in_no_term_in_which_it_can_have_voted(data: st.DataObject) -> None:
    """ "It votes in no term in which it can have voted before", whoever votes, reports and (byzantine) lies."""
    world, last_voted, views, liars = data.draw(losses())
    reports = reports_of(world, views, liars, data)
    found = outcome(world, reports)
    assert found is not None
    assert world.config.term(found.vote_from) > world.config.term(last_voted)
    assert found.vote_from == world.config.first_view(found.vote_from)


@given(data=st.data())
@settings(max_examples=50, deadline=None)
def test_liars_cannot_keep_it_from_voting(data: st.DataObject) -> None:
    """What is proven was entered: the bound is at most two terms above where some replica is."""
    world, _, views, liars = data.draw(losses())
    reports = reports_of(world, views, liars, data)
    found = outcome(world, reports)
    assert found is not None
    highest = max(report.view for report in reports.values())
    assert world.config.term(found.vote_from) == world.config.term(highest) + 2


def test_the_specified_bound_fails_for_seven() -> None:
    """Why views are proven: the (f+1)-th highest of unproven ones may come from replicas that were far behind."""
    world = peers(7)
    # It entered view 100 on votes of 0, 1, 2, 3 and the liar 6. The replicas 4 and 5 have heard nothing for long.
    said = {6: 1, 4: 2, 5: 2, 1: 99, 2: 99}
    specified = sorted(said.values(), reverse=True)[world.config.faulty] + 2
    assert specified <= 100
    found = outcome(world, {peer: world.report(view) for peer, view in said.items()})
    assert found is not None
    assert found.vote_from == 101


# ------------------------------------------------------------------------------------------------------------- reports


def test_it_waits_for_a_quorum_of_peers() -> None:
    world = peers(4)
    rejoining = Rejoining(world.genesis, world.genesis.replicas[0])
    assert rejoining.missing == 3
    assert rejoining.hear(1, world.report(5)) is None
    assert rejoining.hear(1, world.report(9)) is None  # the same peer again
    assert rejoining.hear(2, world.report(7)) is None
    assert rejoining.hear(3, world.report(1)) == Rejoined(2, 0, 11)


def test_a_view_that_is_not_proven_does_not_count() -> None:
    world = peers(4)
    rejoining = Rejoining(world.genesis, world.genesis.replicas[0])
    with pytest.raises(RemoteError, match="reports view 1000000, and proves view 5"):
        rejoining.hear(1, Standing(1, 10**6, world.entry(5)))
    votes = [signer.notarize(10**6, BLOCK) for signer in world.signers[:2]]
    with pytest.raises(RemoteError):
        rejoining.hear(1, Standing(1, 10**6, (notarization(votes, 2),)))
    with pytest.raises(RemoteError, match="reports view -1"):
        rejoining.hear(1, Standing(1, -1, ()))
    for stranger in (0, 4, -1):
        with pytest.raises(RemoteError, match="a report of replica"):
            rejoining.hear(stranger, world.report(1))
    assert rejoining.missing == 3


def test_a_nullified_term_proves_the_next_one() -> None:
    world = peers(4, term_views=8)
    reports = {1: Standing(1, 24, (world.skipped(16),)), 2: world.report(16), 3: world.report(16)}
    found = outcome(world, reports)
    assert found is not None
    assert found.vote_from == 40


def test_who_rejoined_itself_reports_no_view() -> None:
    """What it has forgotten, its view does not show."""
    world = peers(4)
    rejoining = Rejoining(world.genesis, world.genesis.replicas[0])
    for peer in (1, 2):
        rejoining.hear(peer, world.report(5))
    assert rejoining.hear(3, Standing(1, 0, ())) is None
    assert rejoining.missing == 1


@pytest.mark.parametrize("n", [1, 3])
def test_a_ledger_without_spare_replicas_says_so(n: int) -> None:
    with pytest.raises(LocalError, match=rf"of {n} replicas none may fail"):
        Rejoining(peers(n).genesis, SIGNING_KEYS[0].public).hear(1, Standing(1, 5, ()))


# ---------------------------------------------------------------------------------------------------------- generations


@pytest.mark.parametrize(
    ("reported", "liars", "believed"),
    [
        ([1, 1, 1], 0, 1),
        ([0, 3, 2], 0, 3),  # n = 4: nobody else is faulty, all are believed
        ([2**63, 1, 1, 1, 2], 1, 2),  # n = 7: a liar cannot end our generations,
        ([0, 7, 7, 7, 7], 1, 7),  # nor bring an old one back
        ([MAX_RISE + 5, 5, 5, 5, 5], 1, MAX_RISE + 5),
        ([MAX_RISE + 6, 5, 5, 5, 5], 1, 5),
        ([2**63, 2**62, 9, 9, 9, 9, 8], 2, 9),
    ],
)
def test_a_generation_counts_up_to_what_an_honest_peer_may_have_seen(
    reported: list[int], liars: int, believed: int
) -> None:
    """ "A liar must not be able to exhaust the generation number"."""
    assert believed_generation(reported, liars) == believed


def test_an_old_copy_counts_too() -> None:
    world = peers(4)
    rejoining = Rejoining(world.genesis, world.genesis.replicas[0], generation=8)
    for peer in (1, 2):
        rejoining.hear(peer, world.report(5, generation=3))
    assert rejoining.hear(3, world.report(5)) == Rejoined(9, 0, 7)


# ---------------------------------------------------------------------------------------------------------- real cores


def said_first(effects: list[events.Effect], peer: int) -> Standing:
    """The first message to this peer."""
    first = next(effect for effect in effects if isinstance(effect, events.Transmit) and effect.peer == peer)
    message: LinkMessage = decode(first.data, LinkMessage)  # type: ignore[arg-type]  # a union is not a type
    assert isinstance(message, Standing)
    return message


def asked(network: Network, index: int) -> Rejoined:
    """What the running peers report to a replica that lost its journal."""
    rejoining = Rejoining(network.nodes[index].core.genesis, network.nodes[index].core.genesis.replicas[index])
    for node in network.alive():
        report = said_first(node.core.step(events.PeerUp(index, 0), network.now()), index)
        if (found := rejoining.hear(node.index, report)) is not None:
            return found
    raise AssertionError(f"{rejoining.missing} reports are missing")


def terms_of(views: int) -> Genesis:
    """A ledger with terms of so many views."""
    return replace(GENESIS, parameters=replace(GENESIS.parameters, term_views=views))


def lose_everything(network: Network, index: int) -> None:
    """The disk is gone, and what is on it: journal, checkpoint, database."""
    network.crash(index)
    node = network.nodes[index]
    node.durable, node.buffer, node.checkpoint, node.delivered = [], [], None, []


def come_back(network: Network, index: int) -> Rejoined:
    found = asked(network, index)
    node = network.nodes[index]
    node.durable, node.generation = found.records(), found.generation
    network.start(index)
    return found


def votes_of(index: int, history: list[bytes]) -> set[Vote]:
    """All votes of this replica among its records, those in its proposals too."""
    votes: set[Vote] = set()
    for data in history:
        record = decode_record(data)
        found = decode_consensus(record.record) if isinstance(record, ConsensusRecord) else None
        if isinstance(found, Notarize | Finalize | Nullify):
            votes.add(found)
        elif isinstance(found, Proposal) and found.vote.replica == index:
            votes.add(found.vote)
    return votes


@given(seed=st.integers(0, 2**32), term_views=st.sampled_from([1, 4]))
@settings(max_examples=15, deadline=None)
def test_a_replica_that_lost_its_disk_catches_up_and_never_votes_twice(seed: int, term_views: int) -> None:
    """ "A replica that lost its disk rejoins without ever voting twice"; its vote counts in the end."""
    network = Network(seed, genesis=terms_of(term_views))
    network.delay_ms = lambda: network.random.randrange(1, 40)
    for _ in range(network.random.randrange(1, 30)):
        network.submit(network.random.randrange(4), [transfer(genesis=network.genesis)])
        network.run_for(network.random.randrange(1, 60))
    lost = network.random.randrange(4)
    lose_everything(network, lost)
    former_life = list(network.nodes[lost].history)
    network.run_for(network.random.randrange(1, 400))
    found = come_back(network, lost)
    assert found.generation == 2
    core = network.nodes[lost].core
    for _ in range(200):
        if core.consensus.view >= found.vote_from and len(set(network.heights())) == 1:
            break
        network.submit((lost + 1) % 4, [transfer(genesis=network.genesis)])
        network.run_for(300)
    network.crash((lost + 2) % 4)  # from here on nothing more is final without it
    network.run_for(500)
    height = core.application.floor.header.height
    network.submit((lost + 1) % 4, [transfer(genesis=network.genesis)])
    network.run_until(lambda: core.application.floor.header.height > height)
    network.check()
    config, history = core.config, network.nodes[lost].history
    before = votes_of(lost, former_life)
    # Its own former proposals come back from its peers, and are journaled like anybody's.
    since = votes_of(lost, history[len(former_life) :]) - before
    last = max((config.term(view_of(vote)) for vote in before), default=-1)
    assert since
    assert min(config.term(view_of(vote)) for vote in since) > last


def test_an_old_copy_of_the_journal_is_told_and_stops() -> None:
    """More than f peers saw a later generation: the replica stops, and says what to do."""
    network = Network()
    network.submit(0, [transfer()])
    network.run_until(network.everybody_has(1))
    node = network.nodes[3]
    copy = list(node.durable)
    lose_everything(network, 3)
    come_back(network, 3)
    network.run_for(1_000)
    network.crash(3)
    node.durable, node.generation = copy, 1
    node.restart()
    words = [other.core.generations.refuse(3, 1) for other in network.nodes[:3]]
    assert all(words)
    network.step(3, events.Begin(1))
    network.step(3, events.FromPeer(0, words[0] or b""))
    assert node.alive  # one peer alone may lie
    network.step(3, events.FromPeer(0, words[0] or b""))
    assert node.alive
    network.step(3, events.FromPeer(1, words[1] or b""))
    assert "runs on an old copy of its journal" in str(node.failed)
    assert "--rejoin" in str(node.failed)
    assert network.nodes[0].core.generations.refuse(3, 2) is None
    assert network.nodes[0].core.generations.refuse(3, 0) is None


def test_a_replica_that_may_not_vote_yet_reports_no_view() -> None:
    """Of two that lose their journals one after the other, the second must not build on what the first forgot."""
    network = Network(genesis=terms_of(1))
    network.submit(0, [transfer(genesis=network.genesis)])
    network.run_until(network.everybody_has(1))
    lose_everything(network, 3)
    found = come_back(network, 3)
    core = network.nodes[3].core

    def reported() -> View:
        return said_first(core.step(events.PeerUp(1, 1), network.now()), 1).view

    assert core.consensus.view < found.vote_from
    assert reported() == 0
    network.run_until(lambda: core.consensus.view >= found.vote_from)
    assert reported() == core.consensus.view
