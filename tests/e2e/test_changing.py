"""Open channels are changed by real wallets on a real ledger."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from layer1.crypto import format_address
from layer1.devnet import Devnet
from tests.e2e.cluster import until
from tests.e2e.town import ACCEPT, FUNDS, town

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(240), pytest.mark.asyncio(loop_scope="module")]


async def test_a_channel_is_topped_up_withdrawn_from_rekeyed_settled_and_reopened(tmp_path: Path, net: Devnet) -> None:
    """Rules 24 and 25: more is paid than was deposited at first; layer 1 settles the newest epoch's newest state."""
    async with town(tmp_path, net) as place:
        bob = await place.serve("bob", *ACCEPT)
        channel = await place.open("--deposit", "10", "--bond", "5")
        await place.serve("alice")
        refused = await place.wallet("alice", "pay", channel, "15.00", code=1)
        assert refused["error"]["code"] == "insufficient_balance"
        view = await place.wallet("alice", "channel", "top-up", channel, "20.00")
        assert (view["state"], view["epoch"], view["can_send"], view["change"]) == ("open", 1, 3_000, None)
        assert (await place.wallet("alice", "pay", channel, "15.00"))["committed"] == 1
        view = await place.wallet("bob", "channel", "withdraw", channel, "4.00")
        assert (view["epoch"], view["can_send"], view["can_receive"]) == (2, 1_100, 1_500)
        assert await place.balances("bob") == (FUNDS - 500, 400)
        too_much = await place.wallet("alice", "channel", "withdraw", channel, "15.01", code=1)
        assert too_much["error"]["code"] == "insufficient_balance"
        view = await place.wallet("alice", "channel", "replace-key", channel)
        assert (view["epoch"], view["can_send"]) == (3, 1_500)
        await bob.kill()  # both come back in the third epoch, from their journals
        bob = await place.serve("bob", *ACCEPT)
        assert (await place.wallet("alice", "pay", channel, "2.50"))["committed"] == 1
        kinds = {entry["kind"]: entry["amount"] for entry in await place.entries("alice", "topped_up")}
        assert kinds == {"topped_up": -2_000}
        assert [entry["amount"] for entry in await place.entries("bob", "withdrawn")] == [400]
        assert len(await place.entries("alice", "rekeyed")) == 1
        assert sorted(entry["amount"] for entry in await place.entries("bob", "received")) == [250, 1_500]
        closed = await place.wallet("alice", "channel", "close", channel, "--force", "--wait")
        assert (closed["paid_out"], closed["peer_paid_out"]) == (1_250 + 500, 1_350 + 500)
        spending, savings = await place.balances("alice")
        assert savings == 1_250 + 500
        own, bobs = (format_address(place.made[name].spending) for name in ("alice", "bob"))
        await place.wallet("alice", "send", bobs, f"{(spending - 100) / 100:.2f}")
        poor = await place.wallet("alice", "channel", "reopen", channel, code=1)
        assert poor["error"]["code"] == "savings_needed" and f"{own} 16.50" in poor["error"]["message"]
        await place.wallet("alice", "send", own, "16.50", "--from", "savings")
        again = await place.wallet("alice", "channel", "reopen", channel)
        assert again["state"] == "open" and again["id"] != channel
        assert (again["deposit"], again["peer_deposit"], again["bond"]) == (1_250, 1_350, 500)
        await bob.stop()


async def test_a_wedge_during_an_outstanding_change_settles_what_was_committed(tmp_path: Path, net: Devnet) -> None:
    """Rule 24: the first of RESIZE and WEDGE on layer 1 wins, and nothing of what was committed is lost either way."""
    async with town(tmp_path, net) as place:
        bob = await place.serve("bob", *ACCEPT)
        await place.serve("alice")
        channel = await place.open("--deposit", "100", "--bond", "10")
        await place.wallet("alice", "pay", channel, "30.00")
        changing = asyncio.create_task(place.outcome("alice", "channel", "top-up", channel, "50.00"))
        wedging = asyncio.create_task(place.outcome("bob", "channel", "close", channel, "--force"))
        code, _ = await changing
        await wedging
        if (await place.channel("bob", channel))["state"] == "open":  # the change was first: again, in its epoch
            await place.wallet("bob", "channel", "close", channel, "--force")

        async def is_closed() -> bool:
            return bool((await place.channel("alice", channel))["state"] == "closed")

        await until(is_closed, "the ledger settles the channel")
        view = await place.channel("alice", channel)
        assert view["epoch"] == (1 if code == 0 else 0)
        assert view["paid_out"] == 7_000 + 1_000 + (5_000 if code == 0 else 0)
        assert view["peer_paid_out"] == 3_000 + 1_000
        assert (view["forfeited"], view["peer_forfeited"]) == (False, False)
        await bob.stop()
