"""Links to other wallets: kept to the peers of our channels, made to a new peer, taken from those who may.

*Safety:* a link is used only with who proved the key that we expected, or decided to admit.

A wallet that only looks, or wedges, makes no link at all: links begin with the first request that needs one.

Source: docs/design/architecture.md, "HTTP and links"; `layer1.link`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from layer1.crypto import Hash, PublicKey, SigningKey
from layer1.errors import Refused
from layer1.link import Link, LinkClosed, connect
from layer1.link_server import LinkServer
from layer2.driver import GroupHost
from layer2.messages import OpeningMessage
from wallet.contacts import Contact, format_endpoint

_log = logging.getLogger(__name__)


class Peers:
    """All links of one wallet."""

    def __init__(self, key: SigningKey, chain_id: Hash, host: GroupHost) -> None:
        self._key = key
        self._chain_id = chain_id
        self._host = host
        self._server: LinkServer | None = None
        self._keeping: asyncio.Task[None] | None = None
        self._attached: set[asyncio.Task[None]] = set()

    def keep(self) -> None:
        """Begin to keep links to the peers of our channels; goes on until :meth:`close`."""
        if self._keeping is None or self._keeping.done():
            self._keeping = asyncio.create_task(self._host.run())
            self._keeping.add_done_callback(_tell)

    async def say(self, contact: Contact, message: OpeningMessage) -> None:
        """Send to a wallet with which there may be no channel yet, over a link that proves its address.

        Raises:
            Refused: ``peer_unreachable``.
        """
        await self.reach(contact)
        if not self._host.send_opening(contact.address, message):
            where = format_endpoint(contact.host, contact.port)
            raise Refused("peer_unreachable", f"{where} hung up at once: it may not take channels from strangers")

    async def reach(self, contact: Contact) -> None:
        """Have a link that proves its address.

        Raises:
            Refused: ``peer_unreachable``.
        """
        if self._host.is_linked(contact.address):
            return
        where = format_endpoint(contact.host, contact.port)
        try:
            link = await connect(contact.host, contact.port, self._key, self._chain_id, expect=contact.address)
        except LinkClosed as error:
            raise Refused(
                "peer_unreachable",
                f"the peer cannot be reached: {error}. Is its wallet being served at {where}, on the same ledger?",
            ) from None
        self._attach(link)
        await asyncio.sleep(0)

    async def listen(
        self, host: str, port: int, admit: Callable[[PublicKey], bool], keeps: Callable[[PublicKey], bool]
    ) -> int:
        """Accept links from whom `admit` lets in; the port. When there are too many, those that it `keeps` stay.

        Raises:
            Refused: ``cannot_listen``.
        """
        self._server = LinkServer(
            self._key,
            self._chain_id,
            lambda key, _: admit(key) and not self._host.shuts_out(key),
            self._host.attach,
            keeps=keeps,
        )
        try:
            return await self._server.start(host, port)
        except OSError as error:
            self._server = None
            raise Refused(
                "cannot_listen",
                f"{format_endpoint(host, port)} cannot be listened on ({error.strerror or error}): choose another "
                "--listen, or stop what is there",
            ) from None

    async def close(self) -> None:
        """End all links."""
        if self._server is not None:
            await self._server.stop()
        tasks = [*self._attached, *([self._keeping] if self._keeping is not None else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _attach(self, link: Link) -> None:
        task = asyncio.create_task(self._serve(link))
        self._attached.add(task)
        task.add_done_callback(self._attached.discard)

    async def _serve(self, link: Link) -> None:
        try:
            await self._host.attach(link)
        except LinkClosed:
            pass
        finally:
            await link.close()


def _tell(task: asyncio.Task[None]) -> None:
    """Links are kept again by the next request that needs one; until then somebody should know."""
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.error("keeping links ended", exc_info=error)
