"""A shop's program and its wallet, as processes: what it asks over HTTP, and what a kill in the middle leaves."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from layer1.devnet import Devnet
from tests.e2e.town import ACCEPT, Town, town

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(240), pytest.mark.asyncio(loop_scope="module")]


class Program:
    """Asks a wallet over HTTP."""

    def __init__(self, session: aiohttp.ClientSession, place: Town, home: str, token: str) -> None:
        self._session, self._place, self._home = session, place, home
        self._headers = {"Authorization": f"Bearer {token}"}

    async def pay(self, target: str, amount: int, key: str) -> tuple[int, Any]:
        async with self.begin(target, amount, key, accept="application/json") as response:
            return response.status, await response.json(content_type=None)

    def begin(self, target: str, amount: int, key: str, accept: str = "text/event-stream") -> Any:
        """Ask, and be told of the progress."""
        url, body = self._place.serving[self._home].api, {"target": target, "amount": amount}
        headers = {**self._headers, "Idempotency-Key": key, "Accept": accept}
        return self._session.post(f"{url}/payments", json=body, headers=headers)


async def test_a_wallet_that_is_killed_in_a_payment_pays_once_by_its_key(tmp_path: Path, net: Devnet) -> None:
    """Issue: "idempotency keys on everything that moves money"; a limit outlives the process as well."""
    async with town(tmp_path, net) as place, aiohttp.ClientSession() as session:
        bob = await place.serve("bob", *ACCEPT)
        channel = await place.open("--deposit", "500", "--bond", "5")
        made = await place.wallet("alice", "token", "create", "shop", "--scope", "spend", "--limit", "3.00")
        alice = await place.serve("alice", "--api", "0")
        program = Program(session, place, "alice", made["token"])
        paid = await program.pay(channel, 100, "one")
        assert (paid[0], paid[1]["committed"]) == (200, 1)
        bob.process.send_signal(signal.SIGSTOP)
        async with program.begin(channel, 100, "two") as response:
            assert await response.content.readline() == b"event: progress\n"  # so its key is on the disk
            await alice.kill()
        bob.process.send_signal(signal.SIGCONT)
        await place.serve("alice", "--api", "0")
        assert await program.pay(channel, 100, "one") == paid
        status, again = await program.pay(channel, 100, "two")
        assert (status, again["code"]) == (504, "pending")
        assert (await program.pay(channel, 101, "three"))[1]["code"] == "limit_exceeded"
        status, last = await program.pay(channel, 100, "four")
        assert (status, last["committed"]) == (200, 1)
        shown = (await place.channel("bob", channel))["can_send"]
        assert shown in (200, 300)  # whether it was paid before the kill, nobody can choose; and never twice
        assert (await program.pay(channel, 100, "two"))[1] == again
        assert (await place.channel("bob", channel))["can_send"] == shown
        await bob.stop()
