"""``wallet serve``: the wallet that stays, to receive, to watch, and to answer the other verbs.

*Safety:* it holds the hot keys only. It joins an opening only within what its owner accepts beforehand, and otherwise
signs nothing but states in which its own balance does not fall.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from dataclasses import dataclass

from layer1.collector import settle_memory
from layer1.descriptors import raise_limit
from layer2.opening import OpeningPolicy
from wallet.api.delivering import Deliverer
from wallet.api.office import Office
from wallet.api.server import Listening, WalletServer
from wallet.contacts import parse_contact
from wallet.headship import name_standby
from wallet.home import Home
from wallet.local import LocalCommands
from wallet.standby import StandbyCommands, StandbyHome
from wallet.wallet import Wallet

Ready = Callable[[str, str | None], None]


@dataclass(frozen=True, slots=True)
class Serving:
    """How a wallet is to be served."""

    listen: str | None
    policy: OpeningPolicy | None
    """Openings that may be joined unasked; None for none."""
    standby: str | None = None
    """Contact of the standby, to be taken from now on; None for the one that was named before, if any."""
    api: Listening | None = None
    """Where programs with tokens may ask; None for nowhere."""
    spontaneous: bool = True
    """Whether payments are taken that come without an invoice."""


async def serve(home: Home, passphrase: str, serving: Serving, ready: Ready) -> None:
    """Serve until SIGTERM or SIGINT. SIGHUP loads the API's certificate again, if it has one.

    Args:
        home: Which wallet.
        passphrase: Of its hot keys; the savings stay sealed.
        serving: See there.
        ready: Told the contact once peers and commands are answered, and the URL of the API, if it has one.

    Raises:
        Refused: ``home_busy``, ``cannot_listen``, ``wrong_passphrase``.
        LocalError: The wallet can no longer guard its channels; start it again once the cause is mended.
    """
    stop = _stop_by_signal()
    if serving.standby is not None:
        _name_standby(home, serving.standby)
    await _serve(home, passphrase, serving, ready, stop)


async def serve_standby(home: Home, passphrase: str, listen: str | None, ready: Callable[[str, str], None]) -> None:
    """Follow the head until promoted, then serve as the head; until SIGTERM or SIGINT.

    Args:
        home: Which home.
        passphrase: Of its hot keys.
        listen: ``host:port``; for the head's link, then for peers.
        ready: Told the role and the contact, each time that there is something to tell.

    Raises:
        Refused: ``home_busy``, ``cannot_listen``, ``head_home``, ``not_empty``.
        LocalError: It can no longer keep what it is sent.
    """
    stop = _stop_by_signal()
    async with StandbyHome(home, home.keystore().unlock(passphrase)) as standby:
        office = Office(home, StandbyCommands(standby))
        control = WalletServer(home, office, office)
        try:
            contact = await standby.listen(listen)
            await control.start()
            ready("standby", contact)
            asked, ended = asyncio.ensure_future(stop.wait()), asyncio.ensure_future(standby.ended())
            await asyncio.wait({asked, ended}, return_when=asyncio.FIRST_COMPLETED)
            asked.cancel()
            if ended.done():
                ended.result()
            ended.cancel()
        finally:
            await control.stop()
            office.close()
    if not stop.is_set():
        serving = Serving(contact.partition("@")[2], None)
        await _serve(home, passphrase, serving, lambda served, _: ready("head", served), stop)


def _stop_by_signal() -> asyncio.Event:
    raise_limit()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop


def _name_standby(home: Home, contact: str) -> None:
    lock = home.lock()
    try:
        name_standby(home, parse_contact(contact))
    finally:
        lock.release()


async def _serve(home: Home, passphrase: str, serving: Serving, ready: Ready, stop: asyncio.Event) -> None:
    async with Wallet.load(home.path, passphrase) as wallet:
        office = Office(home, LocalCommands(home, wallet), wallet)
        wallet.payments.payer.name_of = office.labels.name_of
        wallet.invoices.payee.takes_spontaneous = serving.spontaneous
        server = WalletServer(home, office, office, wallet)
        try:
            async with Deliverer(office.webhooks, wallet):
                contact = await wallet.serve(serving.listen, serving.policy)
                url = await server.listen(serving.api) if serving.api is not None else None
                if (
                    serving.api is not None and serving.api.certificate is not None
                ):  # else it says: the terminal is gone
                    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, server.reload)
                await server.start()
                settle_memory()
                ready(contact, url)
                await _until(stop, wallet)
        finally:
            await server.stop()
            office.close()


async def _until(stop: asyncio.Event, wallet: Wallet) -> None:
    """Wait for a signal; a wallet that only seems to watch is worse than one that is seen to have ended."""
    asked, failed = asyncio.ensure_future(stop.wait()), asyncio.ensure_future(wallet.failed())
    try:
        await asyncio.wait({asked, failed}, return_when=asyncio.FIRST_COMPLETED)
        if failed.done():
            raise failed.result()
    finally:
        for task in (asked, failed):
            task.cancel()
