"""How announcements spread between connected wallets; a core without I/O.

Each wallet tells its neighbours on which terms it forwards over the channels with them, and those who follow it what is
new to it. A wallet that joins follows all its neighbours, and asks a few for everything, page by page.

*Safety:* nobody is made to keep more than layer 1 shows (`wallet.routing.graph`), to check more than the sender's
allowance, or to send more than the newest of each topic in each :data:`SPREAD_MS`.

- An announcement is passed on once, when it is new, to all that follow but who brought it; what came within
  :data:`GATHER_MS` goes in one message.
- Whoever does not follow hears of its own channels alone: a wallet that looks for no routes needs no more, and a hub
  with a thousand of them says nothing to them.
- A topic is passed on :data:`BURST` times at once, then once in :data:`SPREAD_MS`, its newest: who announces without
  end is heard at that pace, and who changes its mind twice is heard at once.
- Each peer has an allowance of announcements, which fills up at a fixed rate; what it says beyond it is dropped,
  unread. An answer to our own question is read whatever the allowance, a page at a time.
- What comes in a page is passed on to nobody: a wallet that joins does not tell its neighbours all that they know.
- Whoever asks for everything gets it once a connection, at a fixed rate: pages beyond it wait.
- Who begins to follow is told the newest of our own: what was said while nobody listened reaches the others so.

Source: docs/decisions/039.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from layer1.codec import Struct
from layer1.crypto import PublicKey
from layer1.errors import RemoteError, Untimely
from wallet.routing.announcements import ChannelAnnouncement, Topic, topic_of
from wallet.routing.graph import ChannelGraph

MOST_AT_ONCE = 64
"""Announcements in one message: below 20,000 bytes, a few milliseconds of verification."""
ALLOWANCE = 1_024
"""Announcements that a peer may bring in a burst."""
REFILL_PER_S = 32
TOTAL = 16 * ALLOWANCE
"""That all neighbours together may bring in a burst: a hub with a thousand that collude has other things to do, too."""
TOTAL_PER_S = 16 * REFILL_PER_S
"""512: a twentieth of a processor's time in verifications."""
PAGE_MS = 32
"""Between two pages for one asker: 2,000 announcements a second, 100,000 channels in less than two minutes."""
GATHER_MS = 500
"""News waits so long for other news: a hub whose peers all come at once says it in few messages."""
MANY = 10_000
"""Topics of which no list is made for each who asks."""
SPREAD_MS = 30_000
"""Between two announcements of one topic that are passed on, in the long run."""
BURST = 3
"""So many are at once."""


class Announce(Struct, tag="announce"):
    """News."""

    announcements: tuple[ChannelAnnouncement, ...]


class Follow(Struct, tag="follow"):
    """Asks for news, as long as the link lasts."""


class AskGraph(Struct, tag="ask-graph"):
    """Asks for what comes after a topic; from the beginning with None."""

    after: Topic | None


class GraphPage(Struct, tag="graph-page"):
    """Answers :class:`AskGraph`: the next announcements, in the order of their topics."""

    announcements: tuple[ChannelAnnouncement, ...]
    after: Topic | None
    """What to ask for next; None at the end."""


Gossip = Announce | Follow | AskGraph | GraphPage


@dataclass(frozen=True, slots=True)
class Tell:
    """Effect: send a message to some peers."""

    peers: tuple[PublicKey, ...]
    message: Gossip


@dataclass(slots=True)
class _Allowance:
    """Of announcements that may be brought: a bucket that fills up."""

    most: int = ALLOWANCE
    refill_per_s: int = REFILL_PER_S
    allowance: float = ALLOWANCE
    at_ms: int = 0


@dataclass(slots=True)
class _Peer(_Allowance):
    """What is kept of a neighbour."""

    asked: Topic | None = None
    """After which topic we asked it."""
    asking: bool = False
    has_asked: bool = False
    """Whether we asked it for everything, at any time since it is there."""
    taught: int = 0
    """What was new to us in its pages, and not of its own channels."""
    follows: bool = False
    """Whether it wants news."""
    topics: list[Topic] | None = None
    """What it is being shown, as of when it began to ask: pages of one list leave nothing out."""
    wants: Topic | None = None
    """What it asked to be shown after."""
    waits: bool = False
    """Whether it has asked, and is not answered."""
    shown_ms: int | None = None
    """When it got the last page."""


class Spreading:
    """The core. Times are this machine's, in ms, and never go back."""

    def __init__(self, graph: ChannelGraph) -> None:
        self._graph = graph
        self._peers: dict[PublicKey, _Peer] = {}
        self._gone: dict[PublicKey, tuple[float, int]] = {}
        """Of neighbours that went lately, what was left of their allowance, and as of when: a new link brings no new
        one."""
        self._everybody = _Allowance(TOTAL, TOTAL_PER_S, TOTAL)
        self._ours: dict[Topic, ChannelAnnouncement] = {}
        """What we announced ourselves, the newest last."""
        self._due: dict[Topic, tuple[int, PublicKey | None]] = {}
        """What is to be passed on: when, and not to whom."""
        self._full_ms: dict[Topic, int] = {}
        """Of what was passed on lately, when it may be :data:`BURST` times at once again (a bucket that leaks)."""
        self._soonest_ms: int | None = None
        """When something of `_due` is; None if nothing waits."""
        self._forgot_ms = 0
        self._listed: tuple[int, list[Topic]] = 0, []
        """What was last shown to somebody who asked for everything, and as of when."""
        self.dropped = 0
        """Announcements that came beyond an allowance."""

    def connect(self, peer: PublicKey, now_ms: int) -> list[Tell]:
        """A neighbour is there: it is told our terms on the channels with it."""
        allowance, at_ms = self._gone.pop(peer, (float(ALLOWANCE), now_ms))
        self._peers[peer] = _Peer(allowance=allowance, at_ms=at_ms)
        shared = [each for each in self._said() if self._is_with(each, peer)]
        return [Tell((peer,), Announce(part)) for part in _parts(shared)]

    def _said(self) -> list[ChannelAnnouncement]:
        """What we announced of channels that are still open, the newest last."""
        return [each for each in self._ours.values() if each.channel in self._graph.channels]

    def _is_with(self, announcement: ChannelAnnouncement, peer: PublicKey) -> bool:
        return peer in self._graph.channels[announcement.channel].nodes

    def follow(self, peer: PublicKey) -> list[Tell]:
        """Ask a neighbour for news."""
        return [Tell((peer,), Follow())] if peer in self._peers else []

    def ask(self, peer: PublicKey) -> list[Tell]:
        """Ask a neighbour for everything, unless it was asked since it is there."""
        known = self._peers.get(peer)
        if known is None or known.asking or known.has_asked:
            return []
        known.asking = known.has_asked = True
        return [Tell((peer,), AskGraph(None))]

    @property
    def peers(self) -> tuple[PublicKey, ...]:
        """Neighbours that are there."""
        return tuple(self._peers)

    def has_taught(self, peer: PublicKey) -> bool | None:
        """Whether a neighbour that we asked for everything had anything to tell; None before it has told all."""
        known = self._peers.get(peer)
        return None if known is None or known.asking else known.taught > 0

    @property
    def is_asking(self) -> bool:
        """Whether a neighbour still tells us what it knows."""
        return any(known.asking for known in self._peers.values())

    def disconnect(self, peer: PublicKey) -> None:
        """It is gone. Harmless when repeated."""
        if (known := self._peers.pop(peer, None)) is not None and known.allowance < ALLOWANCE:
            self._gone[peer] = known.allowance, known.at_ms

    def announce(self, announcement: ChannelAnnouncement, now_ms: int) -> list[Tell]:
        """Spread an announcement of our own. Raises as `ChannelGraph.accept` does."""
        if not self._graph.accept(announcement, ours=True):
            return []
        topic = topic_of(announcement)
        self._ours.pop(topic, None)
        self._ours[topic] = announcement
        self._enqueue(topic, None, now_ms)
        return self.tick(now_ms)

    def receive(self, peer: PublicKey, message: Gossip, now_ms: int) -> list[Tell]:
        """A neighbour says something.

        Raises:
            RemoteError: It broke a limit, or showed what nobody signed. What stood before that in its message counts.
            Untimely: It is not known, or answers what was not asked.
        """
        known = self._peers.get(peer)
        if known is None:
            raise Untimely("gossip of a wallet that is not connected")
        match message:
            case Announce(announcements):
                return self._read(peer, self._allowed(known, announcements, now_ms), now_ms)
            case Follow():
                return self._show_ours(peer, known)
            case AskGraph(after):
                return self._ask(known, after, now_ms)
            case GraphPage():
                return self._learn(peer, known, message, now_ms)

    def _show_ours(self, peer: PublicKey, known: _Peer) -> list[Tell]:
        if known.follows:
            return []
        known.follows = True
        return [Tell((peer,), Announce(part)) for part in _parts(self._said()[-MOST_AT_ONCE:])]

    def tick(self, now_ms: int) -> list[Tell]:
        """Pass on what is due."""
        tells = self._news(now_ms) if self._soonest_ms is not None and self._soonest_ms <= now_ms else []
        return [*tells, *self._pages(now_ms)]

    def _news(self, now_ms: int) -> list[Tell]:
        due = [topic for topic, (at_ms, _) in self._due.items() if at_ms <= now_ms]
        by_origin: dict[PublicKey | None, list[ChannelAnnouncement]] = {}
        for topic in due:
            _, origin = self._due.pop(topic)
            if (found := self._graph.newest(topic)) is not None:
                self._full_ms[topic] = max(self._full_ms.get(topic, now_ms), now_ms) + SPREAD_MS
                by_origin.setdefault(origin, []).append(found)
        self._soonest_ms = min((at_ms for at_ms, _ in self._due.values()), default=None)
        self._forget(now_ms)
        tells = self._to_members(by_origin.get(None, []))
        for origin, news in by_origin.items():
            if peers := tuple(peer for peer, known in self._peers.items() if known.follows and peer != origin):
                tells += [Tell(peers, Announce(part)) for part in _parts(news)]
        return tells

    def _to_members(self, ours: list[ChannelAnnouncement]) -> list[Tell]:
        """Whoever does not follow hears of its own channels all the same."""
        tells = []
        for announcement in ours:
            channel = self._graph.channels.get(announcement.channel)
            for peer in () if channel is None else channel.nodes:
                if peer in self._peers and not self._peers[peer].follows:
                    tells.append(Tell((peer,), Announce((announcement,))))
        return tells

    def _forget(self, now_ms: int) -> None:
        """Drop what no longer holds anything back; seldom, for it looks at everything."""
        if now_ms >= self._forgot_ms + SPREAD_MS:
            self._forgot_ms = now_ms
            self._full_ms = {topic: at_ms for topic, at_ms in self._full_ms.items() if now_ms < at_ms}
            full_ms = now_ms - ALLOWANCE * 1_000 // REFILL_PER_S
            self._gone = {peer: left for peer, left in self._gone.items() if left[1] > full_ms}

    def _pages(self, now_ms: int) -> list[Tell]:
        """Answer those who asked for a page and have waited for it."""
        ready = [(peer, known) for peer, known in self._peers.items() if known.waits and _page_ms(known) <= now_ms]
        return [self._show(peer, known, now_ms) for peer, known in ready]

    @property
    def next_ms(self) -> int | None:
        """When :meth:`tick` has something to do; None for never."""
        news = () if self._soonest_ms is None else (self._soonest_ms,)
        return min((*news, *(_page_ms(known) for known in self._peers.values() if known.waits)), default=None)

    def _allowed(
        self, known: _Peer, news: tuple[ChannelAnnouncement, ...], now_ms: int
    ) -> tuple[ChannelAnnouncement, ...]:
        _check_size(news)
        allowed = self._spend(self._everybody, self._spend(known, len(news), now_ms), now_ms)
        self.dropped += len(news) - allowed
        return news[:allowed]

    @staticmethod
    def _spend(known: _Allowance, wanted: int, now_ms: int) -> int:
        """How many of `wanted` announcements may be brought now; they are taken from the allowance."""
        refill = max(now_ms - known.at_ms, 0) * known.refill_per_s / 1_000
        known.allowance, known.at_ms = min(known.allowance + refill, known.most), max(now_ms, known.at_ms)
        granted = min(wanted, int(known.allowance))
        known.allowance -= granted
        return granted

    def _read(
        self,
        peer: PublicKey,
        news: Iterable[ChannelAnnouncement],
        now_ms: int,
        *,
        spread: bool = True,
    ) -> list[Tell]:
        for announcement in news:
            try:
                new = self._graph.accept(announcement)
            except Untimely:
                continue  # layer 1 has shown it closed here, or not yet open: nobody is at fault
            if new and spread:
                self._enqueue(topic_of(announcement), peer, now_ms)
            elif new and announcement.node != peer:
                self._peers[peer].taught += 1
        return self.tick(now_ms)

    def _enqueue(self, topic: Topic, origin: PublicKey | None, now_ms: int) -> None:
        waits = self._due.get(topic)
        due_ms = max(now_ms + GATHER_MS, self._full_ms.get(topic, now_ms) - (BURST - 1) * SPREAD_MS)
        at_ms = due_ms if waits is None else waits[0]
        self._due[topic] = (at_ms, origin)
        self._soonest_ms = at_ms if self._soonest_ms is None else min(self._soonest_ms, at_ms)

    def _ask(self, known: _Peer, after: Topic | None, now_ms: int) -> list[Tell]:
        if after is None:
            if known.topics is not None:
                raise RemoteError("a wallet asks for the whole graph twice in one connection")
            known.topics = self._topics(now_ms)
        elif known.wants is not None and after <= known.wants:
            raise RemoteError("a wallet asks for a page of the graph again")
        known.wants, known.waits = after, True
        return self.tick(now_ms)

    def _topics(self, now_ms: int) -> list[Topic]:
        """Of everything. Of much, one list serves all who ask within a while: each has a page, and not a copy."""
        as_of_ms, topics = self._listed
        if len(topics) < MANY or now_ms >= as_of_ms + SPREAD_MS:
            topics = self._graph.topics()
            self._listed = now_ms, topics
        return topics

    def _show(self, peer: PublicKey, known: _Peer, now_ms: int) -> Tell:
        page, further = self._graph.page(known.topics or [], known.wants, MOST_AT_ONCE)
        known.waits, known.shown_ms = False, now_ms
        if further is None:
            known.topics = []  # it has all; what is new it hears
        return Tell((peer,), GraphPage(page, further))

    def _learn(self, peer: PublicKey, known: _Peer, page: GraphPage, now_ms: int) -> list[Tell]:
        if not known.asking:
            raise Untimely("a page of the graph that was not asked for")
        _check_size(page.announcements)
        if page.after is not None and known.asked is not None and page.after <= known.asked:
            known.asking = False
            raise RemoteError("pages of the graph do not go forward")
        known.asked = page.after
        known.asking = page.after is not None and bool(page.announcements)  # else it may go on for ever about nothing
        tells = self._read(peer, page.announcements, now_ms, spread=False)  # who shows it has spread it
        return [*tells, Tell((peer,), AskGraph(page.after))] if known.asking else tells


def _page_ms(known: _Peer) -> int:
    """When it may have its next page."""
    return 0 if known.shown_ms is None else known.shown_ms + PAGE_MS


def _check_size(news: tuple[ChannelAnnouncement, ...]) -> None:
    if len(news) > MOST_AT_ONCE:
        raise RemoteError(f"{len(news)} announcements in one message; the most is {MOST_AT_ONCE}")


def _parts(
    news: list[ChannelAnnouncement],
) -> list[tuple[ChannelAnnouncement, ...]]:
    return [tuple(news[start : start + MOST_AT_ONCE]) for start in range(0, len(news), MOST_AT_ONCE)]
