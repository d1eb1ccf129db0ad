"""Sends what waits for webhooks, for as long as the wallet is served."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Awaitable, Callable, Collection

import aiohttp

from layer1.errors import Refused, WedgeError
from wallet.api.destinations import GuardedResolver, check_url
from wallet.api.events import AT_ONCE, PAUSE_S, Chronicle
from wallet.api.webhooks import Delivery, Webhook, WebhookBook, signed
from wallet.history import now_ms

TIMEOUT_S = 10.0
"""For a receiver to acknowledge. It should take note and answer, and work later."""
PER_WEBHOOK = 8
"""Messages under way to one of them at once."""
IDLE_S = 30.0
"""Between two looks at what is due, when nothing happens."""
_log = logging.getLogger(__name__)


async def send(webhook: Webhook, event: str, body: bytes) -> None:
    """Send one message; it was acknowledged on return. No redirect is followed: that would be another receiver.

    Raises:
        Refused: ``webhook_failed``, with the reason.
    """
    try:
        url = check_url(webhook.url, private=webhook.private)
        resolver = GuardedResolver(private=webhook.private, encrypted=url.scheme == "https")
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
        async with (
            aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(resolver=resolver, use_dns_cache=False, force_close=True),
                timeout=timeout,
                cookie_jar=aiohttp.DummyCookieJar(),
            ) as session,
            session.post(
                url, data=body, headers=signed(webhook, event, body, int(time.time())), allow_redirects=False
            ) as response,
        ):
            if not 200 <= response.status < 300:
                raise Refused("webhook_failed", f"it answered {response.status}; 200 to 299 acknowledges")
    except TimeoutError:
        raise Refused("webhook_failed", f"it did not answer within {TIMEOUT_S:.0f} s") from None
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise Refused("webhook_failed", f"it cannot be reached: {error}") from None


class Deliverer:
    """Reads the history for webhooks, and sends. Use as ``async with``, before peers are served."""

    def __init__(self, book: WebhookBook, chronicle: Chronicle, jitter: Callable[[], float] = random.random) -> None:
        self._book = book
        self._chronicle = chronicle
        self._jitter = jitter
        self._wake = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._sending: dict[str, asyncio.Task[None]] = {}
        """By webhook: each at its own pace, so that one that answers slowly keeps nothing from another."""

    async def __aenter__(self) -> Deliverer:
        """Begin where the history was left, or behind what stands in it now."""
        if [*self._book]:
            self._book.begin(await asyncio.to_thread(self._chronicle.last_place))
        self._tasks = [asyncio.create_task(self._for_ever(step)) for step in (self._collect_all, self._send_all)]
        return self

    async def __aexit__(self, *_: object) -> None:
        await _cancel(self._tasks)
        await _cancel([*self._sending.values()])

    async def collect(self) -> bool:
        """Take over what is new in the history; whether there may be more."""
        more = False
        for place, webhooks in self._book.places().items():
            found = await asyncio.to_thread(self._chronicle.entries_after, place, AT_ONCE)
            if found and self._book.take(found, webhooks):
                self._wake.set()
            more |= len(found) >= AT_ONCE
        return more

    async def deliver(self, time_ms: int) -> int:
        """Send what is due, to all webhooks at once; how many messages were due."""
        return sum(await asyncio.gather(*(self._deliver_to(webhook, time_ms) for webhook in self._book)))

    async def _deliver_to(self, webhook: Webhook, time_ms: int) -> int:
        due = self._book.due(webhook, time_ms, PER_WEBHOOK)
        await asyncio.gather(*(self._deliver_one(webhook, delivery, time_ms) for delivery in due))
        return len(due)

    async def _deliver_one(self, webhook: Webhook, delivery: Delivery, time_ms: int) -> None:
        try:
            await send(webhook, delivery.event, delivery.body)
        except Refused as refusal:
            _log.info("webhook %s, attempt %d: %s", webhook.id, delivery.attempts + 1, refusal)
            self._book.failed(webhook, delivery, refusal.message, time_ms, self._jitter())
        else:
            self._book.acknowledged(delivery)

    async def _for_ever(self, step: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await step()
            except WedgeError as error:
                _log.warning("webhooks: %s", error)
            except Exception:  # noqa: BLE001 - payments go on whatever becomes of who is told of them
                _log.exception("webhooks: a fault of this program")
            await asyncio.sleep(PAUSE_S)

    async def _collect_all(self) -> None:
        news = self._chronicle.news
        while await self.collect():
            pass
        await self._chronicle.changed(news, IDLE_S)

    async def _send_all(self) -> None:
        self._wake.clear()
        pause_s = IDLE_S
        for webhook in self._book:
            next_ms = None if webhook.id in self._sending else self._book.next_due_ms(webhook)
            if next_ms is None:
                continue
            if next_ms <= now_ms():
                self._start(webhook)
            else:
                pause_s = min(pause_s, (next_ms - now_ms()) / 1000)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause_s):
                await self._wake.wait()

    def _start(self, webhook: Webhook) -> None:
        """Send what is due to one of them, in the background."""

        def ended(_: object) -> None:
            self._sending.pop(webhook.id, None)
            self._wake.set()

        task = self._sending[webhook.id] = asyncio.create_task(self._drain(webhook))
        task.add_done_callback(ended)

    async def _drain(self, webhook: Webhook) -> None:
        try:
            while await self._deliver_to(webhook, now_ms()):
                pass
        except Exception:  # noqa: BLE001 - what was not sent is still due
            _log.exception("webhook %s: a fault of this program", webhook.id)


async def _cancel(tasks: Collection[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
