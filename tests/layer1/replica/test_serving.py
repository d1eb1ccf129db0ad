"""What a peer may make a replica load for it."""

from __future__ import annotations

import pytest

from layer1.codec import decode, encode
from layer1.replica import events
from layer1.replica.messages import Blocks, BlocksRequest
from tests.layer1.replica.network import Network, transfer

PEER = 3


@pytest.fixture
def old() -> Network:
    """A replica 0 of some blocks that it must load to serve them."""
    network = Network()
    for count in range(1, 4):
        network.submit(0, [transfer()])
        network.run_until(lambda count=count: min(network.heights()) >= count)  # type: ignore[misc]
    network.nodes[0].core._recent._blocks.clear()
    return network


def tell(network: Network, *told: events.Event) -> list[events.Effect]:
    return [effect for event in told for effect in network.nodes[0].core.step(event, network.now())]


def asked(first: int) -> events.FromPeer:
    return events.FromPeer(PEER, encode(BlocksRequest(first)))


def loads(effects: list[events.Effect]) -> list[int]:
    return [effect.first for effect in effects if isinstance(effect, events.LoadBlocks)]


def served(effects: list[events.Effect]) -> list[int]:
    """First heights of the answers."""
    sent = [effect.data for effect in effects if isinstance(effect, events.Transmit) and effect.peer == PEER]
    answers = [decode(data, Blocks) for data in sent if data[1] == Blocks.__struct_config__.tag]
    return [answer.blocks[0].header.height for answer in answers]


def loaded(network: Network, first: int) -> events.Loaded:
    blocks = [block for block in network.nodes[0].delivered if block.header.height >= first]
    return events.Loaded(PEER, first, blocks)


def test_who_reconnects_and_asks_again_has_one_load_running(old: Network) -> None:
    """Each new link forgot the load of the last one: a peer that came and went had any number of them at a time."""
    up = events.PeerUp(PEER, 1)
    effects = tell(old, asked(1))
    for _ in range(20):
        effects += tell(old, up, asked(2))
    assert loads(effects) == [1]
    effects = tell(old, loaded(old, 1))
    assert (served(effects), loads(effects)) == ([], [2]), "it may not know that it asked for the first"
    assert served(tell(old, loaded(old, 2))) == [2], "what it asked for over its last link it gets"
    assert loads(tell(old, asked(3))) == [3]


def test_who_reconnects_and_asks_nothing_gets_nothing(old: Network) -> None:
    """What was asked over a link that is gone would be an answer that nobody asked for."""
    assert loads(tell(old, asked(1), events.PeerUp(PEER, 1))) == [1]
    effects = tell(old, loaded(old, 1))
    assert (served(effects), loads(effects)) == ([], [])
    assert loads(tell(old, asked(1))) == [1]


def test_the_same_question_over_a_new_link_is_answered_by_the_load_that_runs(old: Network) -> None:
    """Nothing is read twice."""
    assert loads(tell(old, asked(1), asked(1), events.PeerUp(PEER, 1), asked(1))) == [1]
    assert served(tell(old, loaded(old, 1))) == [1]
