"""Real processes and the command line: an invoice, a gift and a circle over others' channels, and what each said."""

from __future__ import annotations

from pathlib import Path

import pytest

from layer1.devnet import Devnet
from tests.e2e.cluster import until
from tests.e2e.town import ACCEPT, Town, town

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(120), pytest.mark.asyncio(loop_scope="module")]


async def way(place: Town, to: str) -> None:
    """Until Alice has heard enough of the network to find a route."""

    async def found() -> bool:
        return (await place.outcome("alice", "route", place.serving[to].contact, "1"))[0] == 0

    await until(found, f"a route to {to}")


async def test_an_invoice_a_gift_and_a_circle_go_over_others_channels(tmp_path: Path, net: Devnet) -> None:
    """Alice pays the first by a command of its own, and is served from then on."""
    async with town(tmp_path, net, ("alice", "hub", "carol")) as place:
        for name in ("hub", "carol"):
            await place.serve(name, *ACCEPT)
        first = await place.open("--deposit", "100", "--peer-deposit", "100", payee="hub")
        await place.open("--deposit", "100", "--peer-deposit", "100", payer="hub", payee="carol")
        made = await place.wallet("carol", "invoice", "create", "20", "--description", "wood")
        hub, carol = (place.serving[name].contact.partition("@")[0] for name in ("hub", "carol"))
        await way(place, "carol")
        paid = await place.wallet("alice", "invoice", "pay", made["invoice"], "--max-fee", "0.05")
        assert (paid["state"], paid["amount"], paid["max_fee"], paid["repeated"]) == ("paid", 2_000, 5, False)
        assert [hop["node"] for hop in paid["tries"][-1]["path"]] == [hub, carol] and 0 < paid["fee"] <= 5

        await place.serve("alice", *ACCEPT)
        again = await place.wallet("alice", "invoice", "pay", made["invoice"])
        assert (again["repeated"], again["preimage"]) == (True, paid["preimage"])
        await way(place, "carol")
        given = await place.wallet("alice", "pay", carol, "5")
        assert (given["committed"], given["payment"]["kind"]) == (1, "spontaneous")
        second = await place.open("--deposit", "100", "--peer-deposit", "100", payee="carol")
        moved = await place.wallet("alice", "channel", "rebalance", first[:12], "--to", second[:12], "30")
        assert (moved["state"], moved["kind"]) == ("paid", "circle") and moved["fee"] <= moved["max_fee"] == 30
        spent = 2_000 + paid["fee"] + 500 + given["payment"]["fee"] + 3_000 + moved["fee"]

        async def settled() -> bool:
            return bool((await place.channel("alice", first))["balance"] == 10_000 - spent)

        await until(settled, "the last claim is committed")
        assert (await place.channel("alice", second))["balance"] == 13_000
        listed = await place.wallet("alice", "payment", "list")
        assert [each["kind"] for each in listed["payments"]] == ["circle", "spontaneous", "invoice"]
