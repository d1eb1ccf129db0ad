"""Announcements: believed from their signer alone, newest only, spread to everybody, and nobody made to work for a
flood."""

from __future__ import annotations

import itertools
from collections import deque

import pytest
from msgspec import structs

from layer1.codec import decode, encode
from layer1.crypto import ZERO_HASH, SigningKey
from layer1.errors import RemoteError, Untimely
from layer1.ledger.agreements import GroupAgreement, Member
from tests.wallet.routing.town import KEYS, NODES, Edge, Town, announcement, channel_id
from wallet.routing import graph as graph_module
from wallet.routing.announcements import (
    ChannelAnnouncement,
    check_form,
    check_signature,
    sign_announcement,
)
from wallet.routing.gossip import (
    ALLOWANCE,
    BURST,
    GATHER_MS,
    MOST_AT_ONCE,
    PAGE_MS,
    REFILL_PER_S,
    SPREAD_MS,
    Announce,
    AskGraph,
    Gossip,
    GraphPage,
    Spreading,
    Tell,
)
from wallet.routing.graph import channel_of


def signed(number: int, node: int, sequence: int = 1, base: int = 0) -> ChannelAnnouncement:
    return sign_announcement(KEYS[node], ZERO_HASH, announcement(number, node, Edge(base=base), sequence))


def line(nodes: int) -> Town:
    town = Town()
    for number in range(nodes - 1):
        town.add(number, number + 1, 1_000)
    return town


# ------------------------------------------------------------------------------------------------------- announcements


def test_an_announcement_speaks_for_its_signer_on_one_chain() -> None:
    made = signed(0, 0)
    check_signature(ZERO_HASH, made)
    for forged in (structs.replace(made, fee_base=1), structs.replace(made, node=NODES[1])):
        with pytest.raises(RemoteError, match="not signed"):
            check_signature(ZERO_HASH, forged)
    with pytest.raises(RemoteError, match="not signed"):
        check_signature(bytes([1]) * 32, made)


def other_than(value: object) -> object:
    """Another value of the same type."""
    match value:
        case bool():
            return not value
        case int():
            return value + 1
        case bytes():
            return bytes([value[0] ^ 1]) + value[1:]
        case str():
            return value + "1"
        case _:
            return 3


def test_each_field_is_under_the_signature() -> None:
    """Whatever is changed on the way is noticed."""
    made = signed(0, 0)
    for name in made.__struct_fields__:
        with pytest.raises(RemoteError, match="not signed"):
            check_signature(ZERO_HASH, structs.replace(made, **{name: other_than(getattr(made, name))}))


@pytest.mark.parametrize(
    "change",
    [
        {"sequence": 0}, {"sequence": 2**53}, {"node": b"short"}, {"channel": b""}, {"fee_base": -1},
        {"fee_base": 2**53}, {"fee_ppm": 1_000_001}, {"fee_ppm": -1}, {"min_amount": 0}, {"max_amount": -1},
        {"margin_ms": -1}, {"margin_ms": 7 * 24 * 3_600_000 + 1}, {"hint": 17}, {"hint": -1},
    ],
)  # fmt: skip
def test_what_breaks_a_limit_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(RemoteError):
        check_form(structs.replace(signed(0, 0), **change))


# --------------------------------------------------------------------------------------------------------------- graph


def test_only_what_layer_1_shows_is_kept() -> None:
    """ "only for groups that layer 1 shows open"; what others say is bounded by that."""
    graph = line(3).graph()
    assert graph.accept(signed(0, 0)) and graph.accept(signed(0, 1))
    with pytest.raises(Untimely):
        graph.accept(signed(7, 0))
    with pytest.raises(RemoteError, match="no member"):
        graph.accept(signed(1, 0))
    graph.close(channel_id(0))
    graph.close(channel_id(0))
    assert graph.terms(channel_id(0), NODES[1]) is None and not graph.topics()


def test_the_newest_counts_and_is_checked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    graph, checked = line(2).graph(), []

    def counted(chain_id: bytes, made: ChannelAnnouncement) -> None:
        checked.append(1)
        check_signature(chain_id, made)

    monkeypatch.setattr(graph_module, "check_signature", counted)
    newest = signed(0, 0, sequence=5, base=9)
    assert graph.accept(newest)
    assert not graph.accept(newest) and not graph.accept(signed(0, 0, sequence=4))
    assert graph.terms(channel_id(0), NODES[0]) == newest and len(checked) == 1
    with pytest.raises(RemoteError, match="not signed"):
        graph.accept(structs.replace(newest, sequence=6))
    assert graph.terms(channel_id(0), NODES[0]) == newest


def test_a_seat_that_changes_hands_makes_its_terms_void() -> None:
    graph = line(2).graph()
    graph.accept(signed(0, 0))
    graph.show(graph_module.Channel(channel_id(0), (NODES[2], NODES[1]), 500))
    assert graph.terms(channel_id(0), NODES[0]) is None
    graph.accept(signed(0, 1))
    graph.show(graph_module.Channel(channel_id(0), (NODES[2], NODES[1]), 700))
    assert graph.terms(channel_id(0), NODES[1]) is not None, "a resized channel keeps them"


def test_which_groups_are_edges() -> None:
    """Groups of two different nodes, whose machine has locks."""

    def member(node: int) -> Member:
        return Member(KEYS[node].public, NODES[node], NODES[node], 10, 1)

    def made(machine: str, *nodes: int) -> GroupAgreement:
        return GroupAgreement(ZERO_HASH, tuple(map(member, nodes)), 1, machine, 1, bytes(16))

    found = channel_of(channel_id(0), made("payments/2", 0, 1))
    assert found is not None and found.nodes == (NODES[0], NODES[1]) and found.capacity == 20
    for other in (made("payments/1", 0, 1), made("payments/2", 0, 1, 2), made("payments/2", 0, 0)):
        assert channel_of(channel_id(0), other) is None


# -------------------------------------------------------------------------------------------------------------- gossip


class Net:
    """Wallets in a line, or as `links` say; what they tell each other crosses the wire encoded."""

    def __init__(self, town: Town, size: int) -> None:
        self.now_ms = 0
        self.cores = [Spreading(town.graph()) for _ in range(size)]
        self.queue: deque[tuple[int, int, Gossip]] = deque()
        self.sent: list[tuple[int, Gossip]] = []
        self.delivered = 0

    def link(self, one: int, other: int, *, ask: bool = False, follow: bool = True) -> None:
        self.tell(one, self.cores[one].connect(NODES[other], self.now_ms))
        self.tell(other, self.cores[other].connect(NODES[one], self.now_ms))
        if follow:
            self.tell(one, self.cores[one].follow(NODES[other]))
            self.tell(other, self.cores[other].follow(NODES[one]))
        if ask:
            self.tell(one, self.cores[one].ask(NODES[other]))

    def tell(self, sender: int, tells: list[Tell]) -> None:
        for tell in tells:
            self.sent.append((sender, tell.message))
            for peer in tell.peers:
                self.queue.append((sender, NODES.index(peer), tell.message))

    def drain(self) -> None:
        while self.queue:
            sender, receiver, message = self.queue.popleft()
            self.delivered += isinstance(message, Announce)
            again = decode(encode(message), type(message))
            self.tell(receiver, self.cores[receiver].receive(NODES[sender], again, self.now_ms))

    def run(self, until_ms: int) -> None:
        self.drain()
        while (times := [at for core in self.cores if (at := core.next_ms) is not None]) and min(times) <= until_ms:
            self.now_ms = max(self.now_ms, min(times))
            for number, core in enumerate(self.cores):
                self.tell(number, core.tick(self.now_ms))
            self.drain()
        self.now_ms = until_ms


def known_by(core: Spreading, town: Town) -> int:
    graph = core._graph
    edges = itertools.product(range(len(town.channels)), NODES)
    return sum(graph.terms(channel_id(number), node) is not None for number, node in edges)


def test_what_is_announced_reaches_everybody_once() -> None:
    """In a ring each passes it on at most once, and not to whom it has it from."""
    town, net = line(6), Net(line(6), 6)
    for one in range(6):
        net.link(one, (one + 1) % 6)
    net.drain()
    net.tell(2, net.cores[2].announce(signed(2, 2), net.now_ms))
    net.run(6 * GATHER_MS)
    assert [known_by(core, town) for core in net.cores] == [1] * 6
    assert net.delivered == 7, "two from its signer, then one each"


def test_who_does_not_follow_hears_of_its_own_channels_alone() -> None:
    """A hub says nothing to a thousand wallets that look for no routes; what it hears comes in few messages."""
    town = Town()
    for leaf in range(1, 5):
        town.add(0, leaf, 1_000)
    net = Net(town, 5)
    for leaf in range(1, 5):
        net.link(0, leaf, follow=False)
    for leaf in range(1, 5):
        net.tell(leaf, net.cores[leaf].announce(signed(leaf - 1, leaf), net.now_ms))
        net.tell(0, net.cores[0].announce(signed(leaf - 1, 0), net.now_ms))
    net.run(4 * GATHER_MS)
    assert [known_by(core, town) for core in net.cores] == [8, 2, 2, 2, 2]
    before = net.delivered
    net.tell(1, net.cores[1].follow(NODES[0]))
    net.run(8 * GATHER_MS)
    assert net.delivered == before + 1 and known_by(net.cores[1], town) == 5, "all that the hub says of itself, at once"
    for leaf in range(2, 5):
        net.tell(leaf, net.cores[leaf].announce(signed(leaf - 1, leaf, sequence=2), net.now_ms))
    net.run(12 * GATHER_MS)
    assert known_by(net.cores[1], town) == 8
    assert net.delivered == before + 1 + 3 + 3, "from each to the hub, and to who follows it; each came by another"


def test_of_what_has_closed_nothing_more_is_said() -> None:
    net = Net(line(3), 2)
    net.tell(1, net.cores[1].announce(signed(0, 1), 0))
    net.tell(1, net.cores[1].announce(signed(1, 1), 0))
    net.run(GATHER_MS)
    net.cores[1]._graph.close(channel_id(0))
    net.link(0, 1)
    net.run(2 * GATHER_MS)
    assert [known_by(core, line(3)) for core in net.cores] == [1, 1]


def test_who_announces_without_end_is_passed_on_at_a_fixed_pace() -> None:
    """ "newest only": of a thousand in a minute a neighbour hears a few, the first at once, the last one among them."""
    town = line(3)
    net = Net(town, 3)
    net.link(0, 1)
    net.link(1, 2)
    for sequence in range(1, 1_000):
        net.tell(0, [Tell((NODES[1],), Announce((signed(0, 0, sequence),)))])
        net.run(sequence * 60)
    net.run(4 * SPREAD_MS)
    heard = [message for sender, message in net.sent if sender == 1 and isinstance(message, Announce)]
    assert len(heard) == BURST + 2
    last = net.cores[2]._graph.terms(channel_id(0), NODES[0])
    assert last is not None and last.sequence == 999


def test_beyond_its_allowance_a_peer_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """ "rate per peer": what comes beyond is dropped before anything is verified, and a second later there is more."""
    net, checked = Net(line(2), 2), []
    net.link(0, 1)
    monkeypatch.setattr(graph_module, "check_signature", lambda *_: checked.append(1))
    core = net.cores[1]
    for batch in range(2 * ALLOWANCE // MOST_AT_ONCE):
        news = tuple(announcement(0, 0, Edge(), batch * MOST_AT_ONCE + place + 1) for place in range(MOST_AT_ONCE))
        core.receive(NODES[0], Announce(news), 0)
    assert (len(checked), core.dropped) == (ALLOWANCE, ALLOWANCE)
    core.receive(NODES[0], Announce(tuple(announcement(0, 0, Edge(), 10_000 + n) for n in range(64))), 1_000)
    assert len(checked) == ALLOWANCE + REFILL_PER_S


def test_a_new_link_brings_no_new_allowance(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else who comes and goes is read without end, and takes what is there for all."""
    net, checked, sequence = Net(line(2), 2), list[int](), itertools.count(1)
    monkeypatch.setattr(graph_module, "check_signature", lambda *_: checked.append(1))
    core = net.cores[1]
    for _ in range(5):
        core.disconnect(NODES[0])
        core.connect(NODES[0], 0)
        for _ in range(ALLOWANCE // MOST_AT_ONCE):
            news = tuple(announcement(0, 0, Edge(), next(sequence)) for _ in range(MOST_AT_ONCE))
            core.receive(NODES[0], Announce(news), 0)
    assert len(checked) == ALLOWANCE
    core.disconnect(NODES[0])
    core.connect(NODES[0], 1_000)
    core.receive(NODES[0], Announce(tuple(announcement(0, 0, Edge(), next(sequence)) for _ in range(64))), 1_000)
    assert len(checked) == ALLOWANCE + REFILL_PER_S, "what filled up meanwhile is there"


def test_neighbours_that_collude_are_not_read_beyond_what_all_may_bring(monkeypatch: pytest.MonkeyPatch) -> None:
    net, checked = Net(line(2), 2), list[int]()
    monkeypatch.setattr(graph_module, "check_signature", lambda *_: checked.append(1))
    core, sequence = net.cores[1], itertools.count(1)
    for number in range(40):
        core.connect(bytes([number]) * 32, 0)
    for _ in range(ALLOWANCE // MOST_AT_ONCE):
        for number in range(40):
            news = tuple(announcement(0, 0, Edge(), next(sequence)) for _ in range(MOST_AT_ONCE))
            core.receive(bytes([number]) * 32, Announce(news), 0)
    assert len(checked) == 16 * ALLOWANCE and core.dropped == 24 * ALLOWANCE
    core.receive(bytes(32), Announce(tuple(announcement(0, 0, Edge(), 10**6 + n) for n in range(32))), 1_000)
    assert len(checked) == 16 * ALLOWANCE + 32, "a second later there is more"


def test_pages_are_asked_for_and_given_forwards_alone() -> None:
    """Whoever asks for one page again and again would be sent 20 kB for 60 bytes, as long as it likes."""
    net = Net(line(4), 1)
    core = net.cores[0]
    for number in range(3):
        core._graph.accept(signed(number, number))
    first, second, _ = core._graph.topics()
    core.connect(NODES[1], 0)
    core.receive(NODES[1], AskGraph(second), 0)
    for again in (first, second):
        with pytest.raises(RemoteError, match="again"):
            core.receive(NODES[1], AskGraph(again), 10_000)
    core.connect(NODES[2], 0)
    core.ask(NODES[2])
    assert core.receive(NODES[2], GraphPage((), first), 0) == [] and not core.is_asking, "it would go on about nothing"


def test_a_wallet_that_joins_gets_everything_in_pages() -> None:
    """All that its neighbour knows, in order, no faster than one page in :data:`PAGE_MS`."""
    town = Town()
    for number in range(3 * MOST_AT_ONCE):
        town.add(number % 5, number % 5 + 1, 1_000)
    net = Net(town, 2)
    for number, (first, second, _) in enumerate(town.channels):
        for node in (first, second):
            net.cores[0]._graph.accept(signed(number, node))
    net.link(1, 0, ask=True)
    net.run(6 * PAGE_MS)
    assert known_by(net.cores[1], town) == 6 * MOST_AT_ONCE
    pages = [message for _, message in net.sent if isinstance(message, GraphPage)]
    assert len(pages) == 6 and all(len(page.announcements) <= MOST_AT_ONCE for page in pages)


def test_what_comes_in_a_page_is_passed_on_to_nobody() -> None:
    town = line(4)
    net = Net(town, 3)
    net.cores[0]._graph.accept(signed(0, 0))
    net.link(1, 2)
    net.link(1, 0, ask=True)
    net.run(2 * SPREAD_MS)
    assert [known_by(core, town) for core in net.cores] == [1, 1, 0]


def test_no_replica_fills_the_memory_with_channels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph_module, "MOST_CHANNELS", 2)
    graph = line(3).graph()
    with pytest.raises(Untimely, match="2 channels"):
        graph.show(graph_module.Channel(channel_id(7), (NODES[4], NODES[5]), 10))
    graph.show(graph_module.Channel(channel_id(1), (NODES[1], NODES[2]), 5))
    assert len(graph.channels) == 2


def test_what_closes_meanwhile_is_left_out_and_ends_nothing() -> None:
    town = line(8)
    net = Net(town, 2)
    core = net.cores[0]
    for number in range(7):
        core._graph.accept(signed(number, number))
    topics = core._graph.topics()
    core._graph.close(topics[1][0])
    core._graph.close(topics[2][0])
    shown, further = core._graph.page(topics, topics[0], 2)
    assert shown == () and further == topics[2]
    assert len(core._graph.page(topics, further, 2)[0]) == 2


def test_hostile_gossip() -> None:
    """Each is refused, changes nothing, and costs nobody else anything."""
    town = line(3)
    net = Net(town, 3)
    net.link(0, 1)
    core = net.cores[1]
    with pytest.raises(Untimely):
        core.receive(NODES[9], Announce(()), 0)
    with pytest.raises(RemoteError, match="the most is 64"):
        core.receive(NODES[0], Announce((announcement(0, 0, Edge()),) * 65), 0)
    with pytest.raises(RemoteError, match="not signed"):
        core.receive(NODES[0], Announce((announcement(0, 0, Edge()),)), 0)
    with pytest.raises(Untimely, match="not asked"):
        core.receive(NODES[0], GraphPage((signed(0, 0),), None), 0)
    assert not core._graph.topics()
    core.receive(NODES[0], AskGraph(None), 0)
    with pytest.raises(RemoteError, match="twice"):
        core.receive(NODES[0], AskGraph(None), 0)
    unknown = sign_announcement(
        SigningKey(bytes(32)), ZERO_HASH, structs.replace(signed(9, 0), node=SigningKey(bytes(32)).public)
    )
    assert core.receive(NODES[0], Announce((unknown, signed(0, 0))), 0) == []
    assert core._graph.terms(channel_id(0), NODES[0]) is not None


def test_pages_that_go_round_in_circles_end() -> None:
    core = Net(line(3), 1).cores[0]
    core.connect(NODES[1], 0)
    core.ask(NODES[1])
    core.receive(NODES[1], GraphPage((signed(5, 5),), (channel_id(5), NODES[5])), 0)
    with pytest.raises(RemoteError, match="forward"):
        core.receive(NODES[1], GraphPage((signed(5, 5),), (channel_id(5), NODES[5])), 0)
    with pytest.raises(Untimely, match="not asked"):
        core.receive(NODES[1], GraphPage((), None), 0)
