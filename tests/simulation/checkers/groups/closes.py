"""Every close ends: after the network heals and users end what they have, no channel of an honest wallet stays open.

Source: docs/design/groups.md, rules 7 and 11, "Safe Termination"; architecture.md, "Time".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from typing import Protocol

from layer1.consensus.config import Config
from layer1.crypto import Hash
from layer1.ledger.genesis import Parameters
from layer1.ledger.records import Status
from tests.simulation.checkers.groups.base import GroupChecker
from tests.simulation.checkers.groups.facts import Facts
from tests.simulation.checkers.liveness import worst_bound_ms as ledger_bound_ms
from wallet.book import ChannelRecord
from wallet.channel import CLOSE_S, CONNECT_S
from wallet.follower import CALM_S
from wallet.openings import LIFE_MS


class HasBook(Protocol):
    """The home of a wallet."""

    @property
    def book(self) -> Mapping[Hash, ChannelRecord]:
        """Its channels."""


def bound_ms(config: Config, parameters: Parameters, period_ms: int) -> int:
    """Ledger clock within which, after the network healed, every channel of an honest wallet has ended.

    Its user waits for the peer, agrees with it on the end or not, wedges, and the challenge period passes; or an
    opening that layer 1 never got outlives its transaction. Each step is brought to layer 1 within that one's own
    bound, a due group settles with the next heartbeat, and the watcher looks a little later.
    """
    patience_ms = round(1_000 * (CONNECT_S + CLOSE_S))
    slack_ms = 2 * parameters.heartbeat_ms + 2 * parameters.drift_bound_ms + round(1_000 * CALM_S)
    return max(patience_ms + period_ms, LIFE_MS) + 2 * ledger_bound_ms(config) + slack_ms


class Closes(GroupChecker):
    """What is still open."""

    def __init__(self, facts: Facts, limit_ms: int, *, hostages: bool = False) -> None:
        """Begin.

        Args:
            facts: About all groups.
            limit_ms: See :func:`bound_ms`.
            hostages: More lie than the group bears: it is enough that layer 1 has decided, for those who chose the
                header may keep its body to themselves.
        """
        super().__init__(facts)
        self.limit_ms = limit_ms
        self._hostages = hostages
        self.books: Mapping[int, HasBook] = {}
        """The homes of all honest wallets, whose books are looked at."""
        self._healed_ms: int | None = None

    def healed(self, clock_ms: int) -> None:
        self._healed_ms = clock_ms

    @property
    def overdue(self) -> bool:
        """Whether the bound is past."""
        return self._healed_ms is not None and self.facts.clock_ms > self._healed_ms + self.limit_ms

    def unended(self) -> Iterator[str]:
        """What has not ended yet."""
        yield from self._unended(frozenset())

    def _unended(self, forgiven: AbstractSet[Hash]) -> Iterator[str]:
        for group_id, facts in self.facts.groups.items():
            if facts.ledger.status is not Status.CLOSED and group_id not in forgiven:
                yield f"group {group_id.hex()[:8]} is {facts.ledger.status}"
        for wallet, home in self.books.items():
            yield from self._live(wallet, (record for name, record in home.book.items() if name not in forgiven))

    def finish(self) -> None:
        decided = {name for name, facts in self.facts.groups.items() if facts.ledger.revealing is not None}
        left = list(self._unended(decided if self._hostages else frozenset()))
        if self._healed_ms is None:
            self.fail("the network never healed")
        elif left:
            waited = self.facts.clock_ms - self._healed_ms
            self.fail(
                f"{waited} ms of the ledger clock after the network healed {len(left)} have not ended: {left[:5]}"
            )

    @staticmethod
    def _live(wallet: int, records: Iterable[ChannelRecord]) -> Iterator[str]:
        for record in records:
            if record.live:
                yield f"channel {record.group_id.hex()[:8]} is {record.stage} in the book of wallet {wallet}"
