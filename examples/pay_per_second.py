"""Radio that is paid for by the second, while one listens: no subscription, no bill, no account.

The listener pays for each second before it is played, over a channel; the station plays what its own wallet holds,
signed by both. So the station gives nothing on credit, and the listener risks one second's price, never more: who is
paid and does not play is not paid for the next second. (A lock would not help: nobody can prove that a second of music
was heard.) Either may stop at any second, and owes nothing.

Run it: ``python -m examples.pay_per_second``
"""

from __future__ import annotations

import asyncio
import secrets

import aiohttp
from aiohttp import web

from examples.stage import PASSPHRASE, stage
from layer2.opening import OpeningPolicy
from wallet.channel import Channel
from wallet.wallet import Wallet

PRICE = 2
"""Minor units per second: 0.02."""
SECOND_S = 1.0
PATIENCE_S = 5.0
"""So long the station waits for the next payment, and the listener for the second that it has paid."""
LISTENED, PREPAID = 5, 20
"""Seconds that the listener wants of the honest station, and that it might want of the other one."""
SONG = (
    "The ",
    "ledger ",
    "sleeps, ",
    "the ",
    "channel ",
    "hums, ",
    "a ",
    "penny ",
    "goes, ",
    "a ",
    "second ",
    "comes.",
)


class Station:
    """Plays to each listener the seconds that it has paid for, and stops when no more are paid."""

    def __init__(self, wallet: Wallet, plays_at_most: int = 1_000_000) -> None:
        self._wallet = wallet
        self._plays_at_most = plays_at_most
        """A crook's is small: it takes the money for one more second, and hangs up."""

    async def listen(self, request: web.Request) -> web.StreamResponse:
        """One connection: a word of the song for each second; the name of the session is the memo of its payments."""
        session, response, played = request.match_info["session"], web.StreamResponse(), 0
        await response.prepare(request)
        while await self._is_paid(session, played + 1) and played < self._plays_at_most:
            await response.write(SONG[played % len(SONG)].encode() + b"\n")
            played += 1
            await asyncio.sleep(SECOND_S)
        await response.write_eof()
        return response

    async def _is_paid(self, session: str, seconds: int) -> bool:
        """Wait until so many seconds are paid; False if that takes too long: the listener has gone."""
        loop = asyncio.get_running_loop()
        until = loop.time() + PATIENCE_S
        while (left := until - loop.time()) > 0:
            news = self._wallet.news
            if self.earned(session) >= seconds * PRICE:
                return True
            await self._wallet.changed(news, left)
        return False

    def earned(self, session: str) -> int:
        """Minor units that the wallet holds for a session."""
        entries = self._wallet.history(limit=1_000)
        return sum(entry.amount for entry in entries if entry.kind == "received" and entry.memo == session)


class Listener:
    """Pays for a second, hears it, pays for the next one."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self.paid = self.heard = 0
        """Seconds."""

    async def listen(self, url: str, seconds: int) -> str:
        """Listen until so many seconds were heard, or until one that was paid is not played; the song."""
        session, song = secrets.token_hex(8), ""
        await self._pay(session)
        async with aiohttp.ClientSession() as http, http.get(f"{url}/listen/{session}") as stream:
            while word := await self._next(stream):
                self.heard += 1
                song += f" {word}"
                if self.heard == seconds:
                    break  # what is not wanted is not paid
                await self._pay(session)
        return song

    async def _pay(self, session: str) -> None:
        await self._channel.pay(PRICE, memo=session)
        self.paid += 1

    async def _next(self, stream: aiohttp.ClientResponse) -> str:
        """The next word; empty if the station has stopped, or plays nothing for too long."""
        try:
            async with asyncio.timeout(SECOND_S + PATIENCE_S):
                return (await stream.content.readline()).decode().strip()
        except (TimeoutError, aiohttp.ClientError):
            return ""


async def main() -> None:
    """Listen to an honest station, then to a crook; close, and see what the ledger proves."""
    async with (
        stage("listener", "station", "crook") as play,
        Wallet.load(play.homes["station"], PASSPHRASE) as station,
        Wallet.load(play.homes["crook"], PASSPHRASE) as crook,
        Wallet.load(play.homes["listener"], PASSPHRASE) as listener,
    ):
        print(f"A second costs {PRICE / 100:.2f}, paid before it is played.\n")
        ear, end = await tune_in(listener, station, Station(station), LISTENED)
        print(f"The listener has had enough: {ear.heard} seconds heard, {ear.paid} paid.")
        print(f"The ledger proves {end / 100:.2f} in the station's savings.\n")
        assert (ear.heard, ear.paid, end) == (LISTENED, LISTENED, LISTENED * PRICE), "the station has its due"

        ear, end = await tune_in(listener, crook, Station(crook, plays_at_most=3), PREPAID)
        print(f"This one took the money for second {ear.paid} and hung up: {ear.heard} heard, {ear.paid} paid.")
        print(f"The listener pays no more. It lost {(ear.paid - ear.heard) * PRICE / 100:.2f}, of {end / 100:.2f}.")
        assert (ear.paid - ear.heard, end) == (1, ear.paid * PRICE), "one second is all that is ever at risk"


async def tune_in(listener: Wallet, keeper: Wallet, station: Station, seconds: int) -> tuple[Listener, int]:
    """Open a channel, listen, close; the listener's count, and what the ledger proves in the keeper's savings."""
    channel = await listener.open_channel(await keeper.serve(None, OpeningPolicy()), deposit=1_000)
    app = web.Application()
    app.router.add_get("/listen/{session}", station.listen)
    runner = web.AppRunner(app, handler_cancellation=True)  # who hangs up is played nothing more
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        ear = Listener(channel)
        print("  ♪" + await ear.listen(f"http://127.0.0.1:{runner.addresses[0][1]}", seconds))
    finally:
        await runner.cleanup()
    await channel.close()
    return ear, (await keeper.balance(keeper.savings_address)).value


if __name__ == "__main__":
    asyncio.run(main())
