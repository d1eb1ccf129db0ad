"""An HTTP service that charges per request over a channel.

The client pays for an order number first; the service answers once its own wallet holds the payment, signed by both.
No account, no card, no invoice at the end of the month: a request costs 0.05 and a payment takes about a millisecond.

Run it: ``python -m examples.paid_service``
"""

from __future__ import annotations

import asyncio
import secrets

import aiohttp
from aiohttp import web

from examples.stage import PASSPHRASE, stage
from layer2.opening import OpeningPolicy
from wallet.wallet import Wallet

PRICE = 5
"""Minor units per request: 0.05."""
REQUESTS = 50


class PaidService:
    """Squares numbers for money."""

    def __init__(self, wallet: Wallet) -> None:
        self._wallet = wallet
        self._used: set[str] = set()
        """Orders that were answered: each is paid once and answered once."""

    async def square(self, request: web.Request) -> web.Response:
        """Answer if the order in the header was paid."""
        order = request.headers.get("Order", "")
        if not self._is_paid(order):
            body = {"code": "payment_required", "price": PRICE, "how": "pay with the order number as the memo"}
            return web.json_response(body, status=402)
        self._used.add(order)
        return web.json_response({"square": int(request.match_info["number"]) ** 2})

    def _is_paid(self, order: str) -> bool:
        if not order or order in self._used:
            return False
        newest = self._wallet.history(limit=20)
        return any(e.kind == "received" and e.memo == order and e.amount >= PRICE for e in newest)


async def main() -> None:
    """Run the service and a client that pays for each of its requests."""
    async with (
        stage("client", "service") as play,
        Wallet.load(play.homes["service"], PASSPHRASE) as seller,
        Wallet.load(play.homes["client"], PASSPHRASE) as buyer,
    ):
        contact = await seller.serve(None, OpeningPolicy())
        url, runner = await start(PaidService(seller))
        channel = await buyer.open_channel(contact, deposit=10_000)
        async with aiohttp.ClientSession() as http:
            async with http.get(f"{url}/square/7") as answer:
                print(f"Unpaid: {answer.status} {await answer.text()}")
            loop = asyncio.get_running_loop()
            began = loop.time()
            for number in range(REQUESTS):
                order = secrets.token_hex(8)
                await channel.pay(PRICE, memo=order)
                async with http.get(f"{url}/square/{number}", headers={"Order": order}) as answer:
                    told = await answer.json()
                    assert told == {"square": number**2}, told
            each_ms = (loop.time() - began) / REQUESTS * 1e3
        print(f"{REQUESTS} requests paid and answered, {each_ms:.1f} ms each. The service earned:")
        print(f"  {sum(e.amount for e in seller.history(limit=REQUESTS) if e.kind == 'received') / 100:.2f}")
        await runner.cleanup()


async def start(service: PaidService) -> tuple[str, web.AppRunner]:
    """Serve on a free port of this machine."""
    app = web.Application()
    app.router.add_get(r"/square/{number:\d{1,9}}", service.square)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    return f"http://127.0.0.1:{runner.addresses[0][1]}", runner


if __name__ == "__main__":
    asyncio.run(main())
