"""Asks the peers what this replica must know to take part again, and makes the new journal.

Safety: the new journal has its name only when it holds the view from which on this replica votes.

Nothing else runs meanwhile: links greet with generation 0, every peer answers with its report, and each link ends with
it. Peers whose report does not count yet are asked again, for as long as it takes.

Source: `layer1.replica.rejoin`; decision 015.
"""

from __future__ import annotations

import asyncio
import logging

from layer1.codec import decode
from layer1.config import ReplicaConfig
from layer1.crypto import SigningKey
from layer1.errors import LocalError, RemoteError
from layer1.journal import Journal, generation_of, set_aside
from layer1.ledger.genesis import Genesis
from layer1.replica.messages import LinkMessage, Standing
from layer1.replica.numbers import FIRST_LOCAL
from layer1.replica.peers import PeerLinks
from layer1.replica.rejoin import REJOINING, Rejoined, Rejoining

_log = logging.getLogger(__name__)


async def rejoin(config: ReplicaConfig, genesis: Genesis, key: SigningKey) -> None:
    """Put a new journal in place of the one that was lost, or must not be used.

    Raises:
        LocalError: The ledger is too small for it, another process runs this replica, or the disk failed.
        OSError: The address for links is taken.
    """
    asking = _Asking(Rejoining(genesis, key.public, generation_of(config.journal)))
    links = PeerLinks(config, genesis, key, lambda: REJOINING, asking, sets=lambda: asking.rejoining.sets)
    asking.links = links
    try:
        await links.listen()
        links.dial()
        _log.info("this replica asks its peers: %d must answer", asking.rejoining.missing)
        outcome = await asking.outcome
    finally:
        await links.stop()
        await asking.end()
    if config.journal.exists():
        _log.warning("the old journal was set aside: %s", set_aside(config.journal))
    Journal.create(config.journal, outcome.records(), outcome.generation)
    _log.info("the new journal has generation %d; votes from view %d on", outcome.generation, outcome.vote_from)


class _Asking:
    """Hears every peer once a link. Implements `layer1.replica.peers.Host`."""

    links: PeerLinks

    def __init__(self, rejoining: Rejoining) -> None:
        self.rejoining = rejoining
        self.outcome: asyncio.Future[Rejoined] = asyncio.get_running_loop().create_future()
        self._closing: set[asyncio.Task[None]] = set()

    def refuse(self, peer: int, generation: int) -> bytes | None:
        """Who asks is glad of anybody."""
        return None

    def link_up(self, peer: int, generation: int) -> None:
        """The peer speaks first."""

    def link_down(self, peer: int) -> None:
        """It is made again."""

    def received(self, peer: int, data: bytes) -> None:
        """The first message is the report."""
        if self.outcome.done():
            return
        try:
            message: LinkMessage = decode(data, LinkMessage)  # type: ignore[arg-type]  # a union is not a type
            outcome = self.rejoining.hear(peer, message) if isinstance(message, Standing) else None
        except RemoteError as error:
            level = logging.WARNING if peer < FIRST_LOCAL else logging.DEBUG  # numbered by its own report: asked again
            _log.log(level, "the report of replica %d does not count: %s", peer, error)
            outcome = None
        except LocalError as error:
            self.outcome.set_exception(error)
            return
        if outcome is not None:
            self.outcome.set_result(outcome)
        elif (link := self.links.links.get(peer)) is not None:
            task = asyncio.create_task(link.close("thank you"))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    async def end(self) -> None:
        """Wait for links that are closing."""
        self.outcome.cancel()
        await asyncio.gather(*self._closing, return_exceptions=True)
